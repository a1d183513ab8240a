//! Cargo: how it is called, and which targets the workspace has.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::shell::Step;
use crate::toolchain::Environment;
use crate::workspace;

/// The cargo that runs this program.
pub fn program() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// A cargo command in the repository's root.
pub fn step(purpose: &str, args: &[&str]) -> Step {
    Step::new(purpose, program()).args(args).current_dir(&workspace::root())
}

/// One target of a workspace member.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub struct Target {
    pub name: String,
    kind: Vec<String>,
    #[serde(default, rename = "required-features")]
    required_features: Vec<String>,
}

impl Target {
    fn is(&self, kind: &str) -> bool {
        self.kind.iter().any(|it| it == kind)
    }
}

/// A workspace member's name with one of its targets.
#[derive(Debug, PartialEq, Eq)]
pub struct MemberTarget {
    pub package: String,
    pub name: String,
    /// Whether it is built only with the package's feature `mpi`.
    pub needs_mpi: bool,
}

/// Targets of `kind` ("bench", "test") in all members.
pub fn targets(kind: &str) -> Result<Vec<MemberTarget>> {
    let text =
        step("list the workspace's targets", &["metadata", "--no-deps", "--format-version", "1"])
            .silent()
            .capture()?;
    parse_targets(&text, kind)
}

fn parse_targets(metadata: &str, kind: &str) -> Result<Vec<MemberTarget>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        targets: Vec<Target>,
    }
    let metadata: Metadata = serde_json::from_str(metadata).map_err(|error| Error::Unexpected {
        what: "cargo metadata".to_owned(),
        expected: "packages with targets".to_owned(),
        got: error.to_string(),
    })?;
    let of_package = |package: Package| {
        let wanted = package.targets.into_iter().filter(|target| target.is(kind));
        wanted
            .map(|target| MemberTarget {
                package: package.name.clone(),
                needs_mpi: target.required_features.iter().any(|feature| feature == "mpi"),
                name: target.name,
            })
            .collect::<Vec<_>>()
    };
    Ok(metadata.packages.into_iter().flat_map(of_package).collect())
}

/// Builds the test target `name` with more options, in an environment, and returns its program.
pub fn build_test(name: &str, options: &[&str], environment: &Environment) -> Result<PathBuf> {
    let target = ["test", "--test", name, "--no-run", "--message-format=json-render-diagnostics"];
    let args = [&target, options].concat();
    let build = step(&format!("build the test target `{name}`"), &args);
    let messages = environment.apply(build).capture()?;
    parse_executable(&messages, name).ok_or_else(|| Error::Unexpected {
        what: format!("cargo test --test {name} --no-run"),
        expected: "one program".to_owned(),
        got: "none".to_owned(),
    })
}

/// Builds the C library of the member `package` and returns its file.
pub fn build_cdylib(package: &str) -> Result<PathBuf> {
    let messages = step(
        &format!("build the library of `{package}`"),
        &["build", "--package", package, "--lib", "--message-format=json-render-diagnostics"],
    )
    .capture()?;
    parse_cdylib(&messages).ok_or_else(|| Error::Unexpected {
        what: format!("cargo build --package {package}"),
        expected: "one shared library".to_owned(),
        got: "none".to_owned(),
    })
}

/// What cargo has built.
#[derive(Deserialize)]
struct Artifact {
    target: Target,
    executable: Option<PathBuf>,
    filenames: Vec<PathBuf>,
}

fn artifacts(messages: &str) -> impl Iterator<Item = Artifact> {
    messages.lines().filter_map(|line| serde_json::from_str(line).ok())
}

fn parse_executable(messages: &str, target: &str) -> Option<PathBuf> {
    artifacts(messages)
        .filter(|artifact| artifact.target.is("test") && artifact.target.name == target)
        .find_map(|artifact| artifact.executable)
}

fn parse_cdylib(messages: &str) -> Option<PathBuf> {
    artifacts(messages)
        .filter(|artifact| artifact.target.is("cdylib"))
        .flat_map(|artifact| artifact.filenames)
        .find(|file| file.extension().is_some_and(|it| it == std::env::consts::DLL_EXTENSION))
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str = r#"{"packages": [
        {"name": "moekit", "targets": [
            {"name": "moekit", "kind": ["lib"]}, {"name": "gemm", "kind": ["bench"]}]},
        {"name": "vgpu", "targets": [
            {"name": "vgpu", "kind": ["cdylib", "rlib"]},
            {"name": "run", "kind": ["bench"], "required-features": ["mpi"]}]}]}"#;

    #[test]
    fn targets_of_a_kind_come_with_their_package() {
        let benches = parse_targets(METADATA, "bench").expect("valid metadata");
        let names: Vec<_> = benches
            .iter()
            .map(|it| (it.package.as_str(), it.name.as_str(), it.needs_mpi))
            .collect();
        assert_eq!(names, [("moekit", "gemm", false), ("vgpu", "run", true)]);
        assert_eq!(parse_targets(METADATA, "test").expect("valid metadata"), []);
    }

    #[test]
    fn programs_and_libraries_are_found_among_cargos_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"moekit","kind":["lib"]},"executable":null,"filenames":[]}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"world","kind":["test"]},"executable":"/t/world-1","filenames":["/t/world-1"]}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"v","kind":["cdylib","rlib"]},"executable":null,"filenames":["/t/libv.rlib","/t/libv.so"]}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(parse_executable(messages, "world"), Some(PathBuf::from("/t/world-1")));
        assert_eq!(parse_executable(messages, "conformance"), None);
        assert_eq!(parse_cdylib(messages), Some(PathBuf::from("/t/libv.so")));
        assert_eq!(parse_cdylib(""), None);
    }
}
