//! Writes the mirror of `csrc/abi`; `--check` compares instead.

use std::process::ExitCode;

fn main() -> ExitCode {
    let check = std::env::args().nth(1).is_some_and(|arg| arg == "--check");
    match run(check) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("abi: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(check: bool) -> Result<(), String> {
    moekit_abi::load_libclang()?;
    let root = moekit_abi::root();
    let mirror = moekit_abi::generate(&root)?;
    let file = root.join(moekit_abi::MIRROR);
    if !check {
        return std::fs::write(&file, mirror)
            .map_err(|error| format!("write {}: {error}", file.display()));
    }
    let found = std::fs::read_to_string(&file)
        .map_err(|error| format!("read {}: {error}", file.display()))?;
    if found != mirror {
        let file = file.display();
        return Err(format!("{file} is not what the headers give; run `cargo xtask abi`"));
    }
    Ok(())
}
