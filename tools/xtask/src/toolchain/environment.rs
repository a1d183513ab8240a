//! The environment that a toolchain asks for, as changes to the one that is there.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use crate::shell::{Step, quote};

/// What becomes of one variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Set(OsString),
    /// Puts folders before those of a list that colons separate.
    Prepend(Vec<PathBuf>),
    /// Puts words after those that are there.
    Append(String),
    Remove,
}

/// Changes by variable, in the order in which they are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment(pub Vec<(&'static str, Change)>);

impl Environment {
    /// Puts a folder before all others of a list that colons separate.
    pub fn prepend(&mut self, name: &'static str, folder: PathBuf) {
        for (present, change) in &mut self.0 {
            if let (true, Change::Prepend(folders)) = (*present == name, change) {
                folders.insert(0, folder);
                return;
            }
        }
        self.0.push((name, Change::Prepend(vec![folder])));
    }

    /// Runs `step` under the changed environment.
    pub fn apply(&self, step: Step) -> Step {
        self.0.iter().fold(step, |step, (name, change)| {
            match change.resolve(std::env::var_os(name).as_deref()) {
                Some(value) => step.env(name, value),
                None => step.env_remove(name),
            }
        })
    }

    /// The changes as lines for a POSIX shell: `eval "$(cargo xtask toolchain --mpi --env)"`.
    pub fn shell_lines(&self) -> String {
        self.0.iter().map(|(name, change)| change.shell_line(name) + "\n").collect()
    }

    /// The changes by kind and variable.
    pub fn to_json(&self) -> serde_json::Value {
        let mut json = serde_json::json!({});
        for (name, change) in &self.0 {
            let (kind, value) = change.to_json();
            json[kind][name] = value;
        }
        json
    }
}

impl Change {
    /// The variable's value after the change, `None` if it is unset then.
    fn resolve(&self, current: Option<&OsStr>) -> Option<OsString> {
        let current = current.filter(|value| !value.is_empty());
        match self {
            Self::Set(value) => Some(value.clone()),
            Self::Prepend(dirs) => {
                let mut list = join(dirs);
                if let Some(current) = current {
                    list.push(":");
                    list.push(current);
                }
                Some(list)
            }
            Self::Append(words) => {
                let mut all = current.map(OsStr::to_owned).unwrap_or_default();
                if !all.is_empty() {
                    all.push(" ");
                }
                all.push(words);
                Some(all)
            }
            Self::Remove => None,
        }
    }

    fn shell_line(&self, name: &str) -> String {
        match self {
            Self::Set(value) => format!("export {name}={}", quote(&value.to_string_lossy())),
            Self::Prepend(dirs) => {
                format!(
                    "export {name}={}${{{name}:+:${name}}}",
                    quote(&join(dirs).to_string_lossy())
                )
            }
            Self::Append(words) => {
                format!("export {name}=\"${{{name}:+${name} }}\"{}", quote(words))
            }
            Self::Remove => format!("unset {name}"),
        }
    }

    fn to_json(&self) -> (&'static str, serde_json::Value) {
        match self {
            Self::Set(value) => ("set", value.to_string_lossy().into()),
            Self::Prepend(dirs) => {
                ("prepend", dirs.iter().map(|dir| dir.to_string_lossy()).collect())
            }
            Self::Append(words) => ("append", words.as_str().into()),
            Self::Remove => ("remove", true.into()),
        }
    }
}

fn join(dirs: &[PathBuf]) -> OsString {
    dirs.iter().map(|dir| dir.as_os_str()).collect::<Vec<_>>().join(OsStr::new(":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepend() -> Change {
        Change::Prepend(vec!["/a/lib".into(), "/b c/lib".into()])
    }

    #[test]
    fn prepend_goes_before_a_list_and_stands_alone_without_one() {
        assert_eq!(prepend().resolve(Some("/x".as_ref())), Some("/a/lib:/b c/lib:/x".into()));
        assert_eq!(prepend().resolve(None), Some("/a/lib:/b c/lib".into()));
        // An empty item in LD_LIBRARY_PATH or PATH would mean the current folder.
        assert_eq!(prepend().resolve(Some("".as_ref())), Some("/a/lib:/b c/lib".into()));
    }

    #[test]
    fn append_keeps_the_words_that_are_there() {
        let change = Change::Append("-isystem /inc".to_owned());
        assert_eq!(change.resolve(Some("-DX".as_ref())), Some("-DX -isystem /inc".into()));
        assert_eq!(change.resolve(None), Some("-isystem /inc".into()));
    }

    #[test]
    fn shell_lines_do_in_a_shell_what_resolve_does_here() {
        let environment = Environment(vec![
            ("MK_TEST_PATH", prepend()),
            ("MK_TEST_ARGS", Change::Append("-isystem /inc".to_owned())),
            ("MK_TEST_SET", Change::Set("it's".into())),
            ("MK_TEST_GONE", Change::Remove),
        ]);
        for current in [None, Some("old")] {
            for (name, change) in &environment.0 {
                let mut shell = std::process::Command::new("sh");
                match current {
                    Some(value) => shell.env(name, value),
                    None => shell.env_remove(name),
                };
                let expected = change.resolve(current.map(OsStr::new)).unwrap_or("unset".into());
                let script =
                    format!("{}printf %s \"${{{name}-unset}}\"", environment.shell_lines());
                let output = shell.args(["-c", &script]).output().expect("sh runs");
                assert_eq!(
                    String::from_utf8_lossy(&output.stdout),
                    expected.to_string_lossy(),
                    "{name} from {current:?}"
                );
            }
        }
    }

    #[test]
    fn json_sorts_the_changes_by_kind() {
        let environment = Environment(vec![("PATH", prepend()), ("A", Change::Set("b".into()))]);
        let expected =
            serde_json::json!({"prepend": {"PATH": ["/a/lib", "/b c/lib"]}, "set": {"A": "b"}});
        assert_eq!(environment.to_json(), expected);
    }
}
