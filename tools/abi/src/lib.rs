//! The Rust mirror of `csrc/abi`: the structs that the host passes to kernels.
//!
//! bindgen reads the headers through libclang, which is opened at run time: `LIBCLANG_PATH` says
//! where it is (`cargo xtask abi` sets it).

use std::path::{Path, PathBuf};

use bindgen::callbacks::{EnumVariantValue, ItemInfo, ParseCallbacks};
use bindgen::{Builder, EnumVariation, Formatter};

/// Where the mirror is checked in, below the repository.
pub const MIRROR: &str = "src/backend/cuda/abi.rs";
const HEADERS: &str = "csrc/abi";
const FIRST_LINES: &str = "\
//! The structs of `csrc/abi`, as bindgen sees them. Made by `cargo xtask abi`; not to be edited.";

/// The repository's root.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// Opens libclang, or says why it cannot be.
pub fn load_libclang() -> Result<(), String> {
    clang_sys::load().map_err(|problem| format!("libclang: {problem}"))
}

/// The headers of `csrc/abi`, in order.
pub fn headers(root: &Path) -> Result<Vec<PathBuf>, String> {
    let dir = root.join(HEADERS);
    let entries = std::fs::read_dir(&dir);
    let entries = entries.map_err(|error| format!("list {}: {error}", dir.display()))?;
    let mut headers: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    headers.sort();
    Ok(headers)
}

/// The mirror's text, as rustfmt writes it; libclang must be loaded.
pub fn generate(root: &Path) -> Result<String, String> {
    let all = headers(root)?.into_iter().map(|it| format!("#include \"{}\"\n", it.display()));
    let all: String = all.collect();
    let include = format!("-I{}", root.join("csrc").display());
    let bindings = Builder::default()
        .header_contents("all.h", &all)
        .clang_args(["-x", "c++", "-std=c++17", "-fparse-all-comments", &include])
        .allowlist_file(format!("{}/.*", root.join(HEADERS).display()))
        .disable_name_namespacing()
        .default_enum_style(EnumVariation::Rust { non_exhaustive: false })
        .parse_callbacks(Box::new(RustNames))
        .use_core()
        .derive_default(false)
        .disable_header_comment()
        .raw_line(FIRST_LINES)
        .formatter(Formatter::Rustfmt)
        .rustfmt_configuration_file(Some(root.join("rustfmt.toml")))
        .generate();
    bindings.map(|it| it.to_string()).map_err(|error| format!("bindgen: {error}"))
}

/// `kPerRow` -> `PerRow`; a constant `kNumFaultKinds` -> `NUM_FAULT_KINDS`.
#[derive(Debug)]
struct RustNames;

impl ParseCallbacks for RustNames {
    fn item_name(&self, item: ItemInfo<'_>) -> Option<String> {
        let name = without_k(item.name)?;
        let mut shouty = String::new();
        for (idx, letter) in name.char_indices() {
            if letter.is_ascii_uppercase() && idx > 0 {
                shouty.push('_');
            }
            shouty.push(letter.to_ascii_uppercase());
        }
        Some(shouty)
    }

    fn enum_variant_name(
        &self,
        _: Option<&str>,
        variant: &str,
        _: EnumVariantValue,
    ) -> Option<String> {
        without_k(variant).map(str::to_owned)
    }
}

fn without_k(name: &str) -> Option<&str> {
    name.strip_prefix('k').filter(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))
}
