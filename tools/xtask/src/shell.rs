//! External commands: each says what it is for before it runs, and what to do when it fails.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::cargo;
use crate::error::{Error, Result};

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// One external command with its purpose ("build the tests") and the remedy for its failure.
pub struct Step {
    purpose: String,
    remedy: String,
    command: Command,
    limit: Option<Duration>,
    is_echoed: bool,
    stdin: Stdio,
}

impl Step {
    pub fn new(purpose: impl Into<String>, program: impl AsRef<OsStr>) -> Self {
        Self {
            purpose: purpose.into(),
            remedy: "the output above says why".to_owned(),
            command: Command::new(program),
            limit: None,
            is_echoed: true,
            stdin: Stdio::null(),
        }
    }

    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn env_remove(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    pub fn current_dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    pub fn purpose(&self) -> &str {
        &self.purpose
    }

    /// What the user can do when the command fails.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    /// Stops the command after `limit`; without a limit only its own bounds hold.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Gives the command something else than nothing as its standard input.
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.stdin = stdin.into();
        self
    }

    /// Does not announce the command: for look-ups that change nothing.
    pub fn silent(mut self) -> Self {
        self.is_echoed = false;
        self
    }

    /// Runs on this terminal.
    pub fn run(mut self) -> Result<()> {
        let child = self.spawn(Stdio::inherit(), Stdio::inherit())?;
        let status = self.wait(child)?;
        self.check(status)
    }

    /// Runs with everything shown on standard error, so that standard output stays a result.
    pub fn run_on_stderr(mut self) -> Result<()> {
        let child = self.spawn(Stdio::from(std::io::stderr()), Stdio::inherit())?;
        let status = self.wait(child)?;
        self.check(status)
    }

    /// Runs on this terminal and returns how the command ended; a failure is the caller's matter.
    pub fn status(mut self) -> Result<ExitStatus> {
        let child = self.spawn(Stdio::inherit(), Stdio::inherit())?;
        self.wait(child)
    }

    /// Returns how the command ended and what it wrote to standard output; standard error is shown.
    pub fn output(mut self) -> Result<(ExitStatus, String)> {
        self.pipe(Stdio::inherit(), |_| {})
    }

    /// Returns how the command ended and all that it wrote. Shows nothing.
    pub fn output_unseen(mut self) -> Result<(ExitStatus, String)> {
        self.pipe(Stdio::piped(), |_| {})
    }

    /// Returns what the command wrote to standard output; standard error is shown.
    pub fn capture(mut self) -> Result<String> {
        let (status, text) = self.pipe(Stdio::inherit(), |_| {})?;
        self.check(status)?;
        Ok(text)
    }

    /// Returns all that the command wrote, or why it failed. Shows nothing.
    pub fn probe(mut self) -> Result<String> {
        self.is_echoed = false;
        let (status, text) = self.pipe(Stdio::piped(), |_| {})?;
        if !status.success() {
            let last_line = text.lines().rev().find(|line| !line.trim().is_empty());
            self.remedy = format!("it wrote: {}", last_line.unwrap_or("nothing").trim());
        }
        self.check(status)?;
        Ok(text)
    }

    /// Shows and returns all that the command writes, both streams line by line.
    pub fn tee(mut self) -> Result<(ExitStatus, String)> {
        self.pipe(Stdio::piped(), |line| {
            // A closed terminal must not stop the tests.
            let _ = std::io::stdout().write_all(line);
        })
    }

    /// Shows and returns standard output; standard error is shown.
    pub fn tee_stdout(mut self) -> Result<String> {
        let (status, text) = self.pipe(Stdio::inherit(), |line| {
            let _ = std::io::stdout().write_all(line);
        })?;
        self.check(status)?;
        Ok(text)
    }

    fn pipe(&mut self, stderr: Stdio, show: fn(&[u8])) -> Result<(ExitStatus, String)> {
        let mut child = self.spawn(Stdio::piped(), stderr)?;
        let text = Arc::new(Mutex::new(String::new()));
        let mut readers = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            readers.push(read_lines(stdout, Arc::clone(&text), show));
        }
        if let Some(stderr) = child.stderr.take() {
            readers.push(read_lines(stderr, Arc::clone(&text), show));
        }
        let status = self.wait(child)?;
        for reader in readers {
            reader.join().expect("a reader should not panic");
        }
        let text = std::mem::take(&mut *text.lock().expect("a reader should not panic"));
        Ok((status, text))
    }

    fn spawn(&mut self, stdout: Stdio, stderr: Stdio) -> Result<Child> {
        if self.is_echoed {
            eprintln!("==> {}\n    $ {}", self.purpose, self.command_line());
        }
        let stdin = std::mem::replace(&mut self.stdin, Stdio::null());
        self.command.stdin(stdin).stdout(stdout).stderr(stderr);
        self.command.spawn().map_err(|source| Error::Start {
            purpose: self.purpose.clone(),
            program: self.command.get_program().to_string_lossy().into_owned(),
            source,
            remedy: self.remedy.clone(),
        })
    }

    fn wait(&self, mut child: Child) -> Result<ExitStatus> {
        let io_error =
            |source| Error::Io { op: "wait for", path: self.command.get_program().into(), source };
        let Some(limit) = self.limit else {
            return child.wait().map_err(io_error);
        };
        let start = Instant::now();
        loop {
            if let Some(status) = child.try_wait().map_err(io_error)? {
                return Ok(status);
            }
            if start.elapsed() >= limit {
                child.kill().map_err(io_error)?;
                child.wait().map_err(io_error)?;
                return Err(Error::TimedOut {
                    purpose: self.purpose.clone(),
                    command: self.command_line(),
                    limit,
                    remedy: self.remedy.clone(),
                });
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    fn check(&self, status: ExitStatus) -> Result<()> {
        if status.success() {
            return Ok(());
        }
        Err(self.failed(status))
    }

    fn failed(&self, status: ExitStatus) -> Error {
        Error::Failed {
            purpose: self.purpose.clone(),
            command: self.command_line(),
            status: status.to_string(),
            remedy: self.remedy.clone(),
        }
    }

    /// As a user would type it.
    pub fn command_line(&self) -> String {
        // The cargo that runs this program has a long path, and is found without it.
        let program = self.command.get_program();
        let program = if program == cargo::program() { OsStr::new("cargo") } else { program };
        let words = std::iter::once(program).chain(self.command.get_args());
        words.map(|word| quote(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
    }
}

fn read_lines(
    stream: impl Read + Send + 'static,
    text: Arc<Mutex<String>>,
    show: fn(&[u8]),
) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        while matches!(stream.read_until(b'\n', &mut line), Ok(num_bytes) if num_bytes > 0) {
            show(&line);
            let mut text = text.lock().expect("a reader should not panic");
            text.push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    })
}

/// Quotes `word` for a POSIX shell where it needs quoting.
pub fn quote(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@%^".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Step {
        Step::new("run a script", "sh").args(["-c", script]).silent()
    }

    #[test]
    fn quote_leaves_plain_words_and_guards_the_rest() {
        assert_eq!(quote("--features=moekit/mpi"), "--features=moekit/mpi");
        assert_eq!(quote("not binary(world)"), "'not binary(world)'");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote(""), "''");
    }

    #[test]
    fn cargo_is_shown_without_its_path() {
        let step = Step::new("test", cargo::program()).args(["run", "--release"]);
        assert_eq!(step.command_line(), "cargo run --release");
        assert_eq!(Step::new("test", "/bin/true").command_line(), "/bin/true");
    }

    #[test]
    fn capture_returns_standard_output_alone() {
        assert_eq!(sh("echo out; echo err >&2").capture().expect("sh"), "out\n");
    }

    #[test]
    fn a_probe_that_fails_says_what_the_program_wrote() {
        let error = sh("echo no such luck >&2; exit 3").probe().expect_err("exit 3");
        let text = error.to_string();
        assert!(text.contains("no such luck") && text.contains("exit status: 3"), "{text}");
    }

    #[test]
    fn a_command_past_its_limit_is_stopped_and_named() {
        let error = Step::new("sleep", "sleep")
            .args(["600"])
            .silent()
            .limit(Duration::from_millis(50))
            .run()
            .expect_err("600 s is past the limit");
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    }

    #[test]
    fn a_program_that_does_not_exist_is_named_with_its_remedy() {
        let error = Step::new("test", "/nonexistent/program").remedy("install it").silent().run();
        let text = error.expect_err("it does not exist").to_string();
        assert!(text.contains("/nonexistent/program") && text.contains("install it"), "{text}");
    }
}
