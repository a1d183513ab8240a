//! Runs nvcc: each file of instances to a cubin and to PTX, several at once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::cache::Cache;
use crate::nvcc::Nvcc;
use crate::sources::Source;

/// A compiled file of instances.
#[derive(Debug)]
pub struct Module {
    pub name: String,
    pub kernels: Vec<String>,
    pub cubin: PathBuf,
    pub ptx: PathBuf,
}

/// For every instance; a warning (a spill is one) is an error.
const COMMON_FLAGS: [&str; 8] = [
    "-std=c++20",
    "-O3",
    "-lineinfo",
    "-Icsrc",
    "-Werror=all-warnings",
    "-Xptxas=-warn-spills",
    "-Xptxas=-warn-lmem-usage",
    "-Xptxas=--warning-as-error",
];
/// For instances whose bits are a contract between backends.
const BITWISE_FLAGS: [&str; 4] = ["-fmad=false", "-prec-div=true", "-prec-sqrt=true", "-ftz=false"];

#[derive(Clone, Copy)]
enum Output {
    Cubin,
    Ptx,
}

/// Compiles every source, or takes it from the cache.
pub fn all(
    nvcc: &Nvcc,
    root: &Path,
    sources: &[Source],
    cache: &Cache,
) -> Result<Vec<Module>, String> {
    let jobs: Vec<_> = sources
        .iter()
        .flat_map(|source| [Output::Cubin, Output::Ptx].map(|output| (source, output)))
        .collect();
    let files = in_parallel(&jobs, |&(source, output)| one(nvcc, root, source, output, cache));
    let mut files = files.into_iter();
    let mut next = || files.next().unwrap_or(Err("a compilation is missing".to_owned()));
    sources
        .iter()
        .map(|source| {
            let (cubin, ptx) = (next()?, next()?);
            let (name, kernels) = (source.name.clone(), source.kernels.clone());
            Ok(Module { name, kernels, cubin, ptx })
        })
        .collect()
}

fn one(
    nvcc: &Nvcc,
    root: &Path,
    source: &Source,
    output: Output,
    cache: &Cache,
) -> Result<PathBuf, String> {
    let flags = flags(source, output);
    let extension = match output {
        Output::Cubin => "cubin",
        Output::Ptx => "ptx",
    };
    let origin = (&nvcc.version, &flags, &source.texts);
    cache.file(&source.name, extension, &origin, |file| {
        let mut command = Command::new(&nvcc.path);
        // From the root: paths in flags and sources, which name the cached file, start there.
        command.current_dir(root).args(&flags).arg("-o").arg(file).arg(&source.path);
        let result = command.output();
        let result =
            result.map_err(|error| format!("{} does not start: {error}", nvcc.path.display()))?;
        if result.status.success() {
            return Ok(());
        }
        let text = [result.stdout, result.stderr].concat();
        Err(format!("{command:?}\n{}", String::from_utf8_lossy(&text)))
    })
}

fn flags(source: &Source, output: Output) -> Vec<String> {
    let bitwise: &[&str] = if source.directive.is_bitwise { &BITWISE_FLAGS } else { &[] };
    let own = match output {
        Output::Cubin => {
            vec!["-gencode=arch=compute_90a,code=sm_90a".to_owned(), "-cubin".to_owned()]
        }
        Output::Ptx => vec![format!("-arch={}", source.directive.ptx_arch), "-ptx".to_owned()],
    };
    COMMON_FLAGS.iter().chain(bitwise).map(ToString::to_string).chain(own).collect()
}

/// `work` of every job, in order, on as many threads as the machine runs at once.
fn in_parallel<J: Sync, R: Send>(jobs: &[J], work: impl Fn(&J) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, R)>> = Mutex::new(Vec::new());
    let num_threads = thread::available_parallelism().map_or(1, usize::from).min(jobs.len());
    thread::scope(|scope| {
        for _ in 0..num_threads {
            scope.spawn(|| {
                while let idx = next.fetch_add(1, Ordering::Relaxed)
                    && let Some(job) = jobs.get(idx)
                {
                    let result = work(job);
                    results.lock().expect("no job panics").push((idx, result));
                }
            });
        }
    });
    let mut results = results.into_inner().expect("no job panics");
    results.sort_by_key(|(idx, _)| *idx);
    results.into_iter().map(|(_, result)| result).collect()
}
