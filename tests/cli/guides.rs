//! What docs/eplb.md, docs/grouped_gemm.md and docs/pipeline.md show is what the tool prints and draws today.

use std::path::{Path, PathBuf};

use crate::moekit_in;

/// Outputs of the guides' commands lie in these folders.
const FOLDERS: [&str; 2] = ["docs/img", "docs/data"];

#[test]
fn the_eplb_guides_output_and_pictures_are_the_tools() {
    assert_is_the_tools("docs/eplb.md", 9, 5);
}

#[test]
fn the_pipeline_guides_output_and_pictures_are_the_tools() {
    assert_is_the_tools("docs/pipeline.md", 8, 6);
}

#[test]
fn the_products_guides_output_is_the_tools() {
    assert_is_the_tools("docs/grouped_gemm.md", 2, 0);
}

/// Runs each block of a guide and compares what it prints and the files that it writes.
fn assert_is_the_tools(guide: &str, least_blocks: usize, least_files: usize) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join(guide)).expect("the guide");
    let written = tempfile::tempdir().expect("folder");
    for folder in FOLDERS {
        std::fs::create_dir_all(written.path().join(folder)).expect("folder");
    }
    let mut num_blocks = 0;
    for block in text.split("```console\n").skip(1) {
        let block = block.split("```").next().expect("a block ends");
        let (command, expected) = block.split_once('\n').expect("a command and its output");
        assert_eq!(run(command, root, written.path()), expected, "{guide}: {command}");
        num_blocks += 1;
    }
    assert!(num_blocks >= least_blocks, "{guide} has {num_blocks} blocks of output");

    let files: Vec<PathBuf> = FOLDERS.iter().flat_map(|f| list(written.path(), f)).collect();
    for file in &files {
        let read = |folder: &Path| std::fs::read_to_string(folder.join(file)).expect("a file");
        assert!(read(written.path()) == read(root), "{guide}: {} has changed", file.display());
        if let Ok(picture) = file.strip_prefix("docs") {
            let shown = file.ends_with(".json") || text.contains(&format!("{}", picture.display()));
            assert!(shown, "{guide}: {} is unused", file.display());
        }
    }
    assert!(files.len() >= least_files, "{guide} writes {} files", files.len());
}

/// Runs `$ moekit ARGS [> FILE]`, with what it writes put below `written`; returns what it prints.
fn run(command: &str, root: &Path, written: &Path) -> String {
    let command = command.strip_prefix("$ moekit ").expect("a block runs moekit");
    let (args, file) = command.split_once(" > ").map_or((command, None), |(a, f)| (a, Some(f)));
    let images = written.join("docs/img").display().to_string();
    let args: Vec<String> =
        args.split_whitespace().map(|arg| arg.replace("docs/img", &images)).collect();
    let output = moekit_in(root, &args.iter().map(String::as_str).collect::<Vec<_>>());
    let stdout = String::from_utf8(output.stdout).expect("UTF-8");
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    match file {
        Some(file) => {
            std::fs::write(written.join(file), stdout).expect("write");
            stderr
        }
        None => stdout + &stderr,
    }
}

fn list(root: &Path, folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root.join(folder)).expect("a folder");
    entries.map(|entry| Path::new(folder).join(entry.expect("a file").file_name())).collect()
}
