//! What a call of cargo has built: programs and libraries by name.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::toolchain::Environment;
use crate::{cargo, workspace};

/// What one call of cargo has built, or found to be built.
pub struct Built {
    artifacts: Vec<Artifact>,
    command: String,
}

/// A target's files.
#[derive(Deserialize)]
struct Artifact {
    manifest_path: PathBuf,
    target: Target,
    executable: Option<PathBuf>,
    filenames: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

impl Target {
    fn is(&self, kind: &str) -> bool {
        self.kind.iter().any(|it| it == kind)
    }
}

impl Built {
    /// Calls cargo with `args` and builds only.
    pub fn new(purpose: &str, args: &[&str], environment: &Environment) -> Result<Self> {
        let messages_too = [args, &["--message-format=json-render-diagnostics"]].concat();
        let messages = environment.apply(cargo::step(purpose, &messages_too)).capture()?;
        Ok(Self { artifacts: parse(&messages), command: format!("cargo {}", args.join(" ")) })
    }

    /// The program of moekit's test target `name`; other members may have one of the same name.
    pub fn test(&self, name: &str) -> Result<PathBuf> {
        self.test_of(&workspace::root().join("Cargo.toml"), name)
            .ok_or_else(|| self.lacks(&format!("the program of the test target `{name}`")))
    }

    fn test_of(&self, manifest: &Path, name: &str) -> Option<PathBuf> {
        let is_meant = |it: &&Artifact| {
            it.manifest_path == manifest && it.target.is("test") && it.target.name == name
        };
        self.artifacts.iter().filter(is_meant).find_map(|it| it.executable.clone())
    }

    /// The one library for programs in any language.
    pub fn cdylib(&self) -> Result<PathBuf> {
        self.artifacts
            .iter()
            .filter(|artifact| artifact.target.is("cdylib"))
            .flat_map(|artifact| &artifact.filenames)
            .find(|file| file.extension().is_some_and(|it| it == std::env::consts::DLL_EXTENSION))
            .cloned()
            .ok_or_else(|| self.lacks("a shared library"))
    }

    fn lacks(&self, what: &str) -> Error {
        Error::Unexpected {
            what: self.command.clone(),
            expected: what.to_owned(),
            got: "none".to_owned(),
        }
    }
}

/// Cargo's messages of other kinds are no artifacts.
fn parse(messages: &str) -> Vec<Artifact> {
    messages.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGES: &str = concat!(
        r#"{"reason":"compiler-artifact","manifest_path":"/w/Cargo.toml","target":{"name":"moekit","kind":["lib"]},"executable":null,"filenames":[]}"#,
        "\n",
        r#"{"reason":"compiler-artifact","manifest_path":"/w/v/Cargo.toml","target":{"name":"counts","kind":["test"]},"executable":"/t/counts-2","filenames":["/t/counts-2"]}"#,
        "\n",
        r#"{"reason":"compiler-artifact","manifest_path":"/w/Cargo.toml","target":{"name":"counts","kind":["test"]},"executable":"/t/counts-1","filenames":["/t/counts-1"]}"#,
        "\n",
        r#"{"reason":"compiler-artifact","manifest_path":"/w/v/Cargo.toml","target":{"name":"v","kind":["cdylib","rlib"]},"executable":null,"filenames":["/t/libv.rlib","/t/libv.so"]}"#,
        "\n",
        r#"{"reason":"build-finished","success":true}"#,
    );

    fn built(messages: &str) -> Built {
        Built { artifacts: parse(messages), command: "cargo test --no-run".to_owned() }
    }

    #[test]
    fn of_two_programs_of_a_name_the_packages_own_is_found() {
        let built = built(MESSAGES);
        let found = |manifest, name| built.test_of(Path::new(manifest), name);
        assert_eq!(found("/w/Cargo.toml", "counts"), Some("/t/counts-1".into()));
        assert_eq!(found("/w/v/Cargo.toml", "counts"), Some("/t/counts-2".into()));
        assert_eq!(found("/w/Cargo.toml", "moekit"), None, "a library is no test");
    }

    #[test]
    fn a_library_for_all_languages_is_found_and_none_is_an_error_that_names_the_command() {
        assert_eq!(built(MESSAGES).cdylib().expect("libv.so"), Path::new("/t/libv.so"));
        let text = built("").cdylib().expect_err("nothing was built").to_string();
        assert!(text.contains("cargo test --no-run") && text.contains("shared library"), "{text}");
    }
}
