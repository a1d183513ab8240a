//! The kernels' sources: which instances there are, what each includes, how each is compiled.

use std::fs;
use std::path::{Path, PathBuf};

/// Folder of the instances, and the one that their includes start from.
const INSTANCES: &str = "csrc/instances";
const INCLUDE_DIR: &str = "csrc";

/// One file of instances.
#[derive(Debug)]
pub struct Source {
    /// The file's stem, which names the module.
    pub name: String,
    /// Path below the repository.
    pub path: PathBuf,
    pub directive: Directive,
    /// Names of its kernels.
    pub kernels: Vec<String>,
    /// Text of the file and of all that it includes from the repository, each with its path.
    pub texts: Vec<(PathBuf, String)>,
}

/// How a file asks to be compiled: its first line, `// build: ptx=compute_90 bitwise`.
#[derive(Debug, PartialEq, Eq)]
pub struct Directive {
    /// compute_90 where a later GPU may compile the PTX, compute_90a where it needs Hopper's own.
    pub ptx_arch: String,
    /// Whether the results' bits are a contract: no contraction, IEEE division, no flushing.
    pub is_bitwise: bool,
}

/// Every file of instances, by name.
pub fn read_all(root: &Path) -> Result<Vec<Source>, String> {
    let dir = root.join(INSTANCES);
    let entries = fs::read_dir(&dir).map_err(|error| format!("list {}: {error}", dir.display()))?;
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.file_name()))
        .map(|name| Path::new(INSTANCES).join(name))
        .filter(|path| path.extension().is_some_and(|extension| extension == "cu"))
        .collect();
    paths.sort();
    paths.into_iter().map(|path| Source::read(root, path)).collect()
}

impl Source {
    fn read(root: &Path, path: PathBuf) -> Result<Self, String> {
        let mut texts = Vec::new();
        collect_texts(root, &path, &mut texts)?;
        let text = &texts[0].1;
        let problem = |what: &str| format!("{}: {what}", path.display());
        let kernels = kernel_names(text);
        if kernels.is_empty() {
            return Err(problem("no MK_INSTANCE"));
        }
        let directive = Directive::parse(text).map_err(|what| problem(&what))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, path, directive, kernels, texts })
    }
}

impl Directive {
    pub fn parse(text: &str) -> Result<Self, String> {
        let line = text.lines().next().and_then(|line| line.strip_prefix("// build:"));
        let words = line.ok_or("the first line is not `// build: ptx=compute_90[a] [bitwise]`")?;
        let mut directive = Self { ptx_arch: String::new(), is_bitwise: false };
        for word in words.split_whitespace() {
            match word {
                "ptx=compute_90" | "ptx=compute_90a" => {
                    directive.ptx_arch = word["ptx=".len()..].to_owned();
                }
                "bitwise" => directive.is_bitwise = true,
                other => return Err(format!("`{other}` in the build line is not known")),
            }
        }
        if directive.ptx_arch.is_empty() {
            return Err("the build line names no `ptx=`".to_owned());
        }
        Ok(directive)
    }
}

/// Reads `path` and, depth first, each file that it includes from the repository, once.
fn collect_texts(
    root: &Path,
    path: &Path,
    texts: &mut Vec<(PathBuf, String)>,
) -> Result<(), String> {
    if texts.iter().any(|(seen, _)| seen == path) {
        return Ok(());
    }
    let text = fs::read_to_string(root.join(path))
        .map_err(|error| format!("read {}: {error}", path.display()))?;
    let included = includes(&text);
    texts.push((path.to_owned(), text));
    included.iter().try_for_each(|it| collect_texts(root, &Path::new(INCLUDE_DIR).join(it), texts))
}

/// Files included with quotes: ours. CUDA's and the standard library's have angle brackets.
pub fn includes(text: &str) -> Vec<String> {
    let quoted = |line: &str| {
        let rest = line.trim_start().strip_prefix("#include \"")?;
        rest.split_once('"').map(|(name, _)| name.to_owned())
    };
    text.lines().filter_map(quoted).collect()
}

/// `MK_INSTANCE(quantize_bf16, ...)` -> `quantize_bf16`
pub fn kernel_names(text: &str) -> Vec<String> {
    let name = |line: &str| {
        let rest = line.strip_prefix("MK_INSTANCE(")?;
        rest.split_once(',').map(|(name, _)| name.trim().to_owned())
    };
    text.lines().filter_map(name).collect()
}
