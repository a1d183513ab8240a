//! What docs/pipeline.md shows is what the tool prints and draws today.

use std::path::Path;
use std::process::Command;

#[test]
fn the_guides_output_and_pictures_are_the_tools() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guide = std::fs::read_to_string(root.join("docs/pipeline.md")).expect("the guide");
    let folder = tempfile::tempdir().expect("folder");
    let images = folder.path().display().to_string();
    let mut num_blocks = 0;
    for block in guide.split("```console\n").skip(1) {
        let block = block.split("```").next().expect("a block ends");
        let (command, expected) = block.split_once('\n').expect("a command and its output");
        let args = command.strip_prefix("$ moekit ").expect("a block runs moekit");
        let output = Command::new(env!("CARGO_BIN_EXE_moekit"))
            .args(args.split_whitespace().map(|arg| arg.replace("docs/img", &images)))
            .current_dir(root)
            .output()
            .expect("run moekit");
        let stdout = String::from_utf8(output.stdout).expect("UTF-8");
        let stderr = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(format!("{stdout}{stderr}"), expected, "{command}");
        num_blocks += 1;
    }
    assert!(num_blocks >= 8, "the guide has {num_blocks} blocks of output");

    let mut num_pictures = 0;
    for entry in std::fs::read_dir(folder.path()).expect("pictures") {
        let name = entry.expect("picture").file_name();
        let drawn = std::fs::read_to_string(folder.path().join(&name)).expect("picture");
        let shown = std::fs::read_to_string(root.join("docs/img").join(&name)).expect("picture");
        assert_eq!(drawn, shown, "docs/img/{}", name.display());
        assert!(guide.contains(&format!("(img/{})", name.display())), "{} unused", name.display());
        num_pictures += 1;
    }
    assert!(num_pictures >= 6, "the guide draws {num_pictures} pictures");
}
