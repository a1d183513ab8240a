//! Cargo: how it is called, and which targets the workspace has.

use std::ffi::OsString;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::shell::Step;
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
#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
    #[serde(default, rename = "required-features")]
    required_features: Vec<String>,
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
        let wanted =
            package.targets.into_iter().filter(|target| target.kind.iter().any(|it| it == kind));
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
}
