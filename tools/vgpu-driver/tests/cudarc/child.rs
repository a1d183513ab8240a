//! Runs a test's body in a process that finds this library as the CUDA driver.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// Set in the process that runs the body.
const CHILD: &str = "VGPU_DRIVER_TEST_CHILD";

/// A folder with this library under the driver's names.
pub fn library_folder() -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    for name in ["libcuda.so", "libcuda.so.1"] {
        std::os::unix::fs::symlink(library(), folder.path().join(name)).expect("a link");
    }
    folder
}

/// The library, which cargo puts beside the tests.
pub fn library() -> PathBuf {
    let test = env::current_exe().expect("the test's path");
    let library = test.with_file_name("libvgpu_driver.so");
    assert!(library.exists(), "{} was not built", library.display());
    library
}

/// Runs `body` in a child process, with environment variables; returns what the child wrote.
///
/// In the child, the test of this path runs again, gets here again, and runs the body.
pub fn in_child(path: &str, variables: &[(&str, &str)], body: impl FnOnce()) -> Option<String> {
    if env::var_os(CHILD).is_some() {
        body();
        return None;
    }
    let folder = library_folder();
    // The path begins with the name of the test program.
    let test = path.split_once("::").map_or(path, |(_, test)| test);
    let mut command = Command::new(env::current_exe().expect("the test's path"));
    command.args([test, "--exact", "--nocapture"]).env(CHILD, "1");
    command.env("LD_LIBRARY_PATH", folder.path()).envs(variables.iter().copied());
    let output = command.output().expect("the test's own program starts");
    let [stdout, stderr] =
        [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it).into_owned());
    let text = stdout + &stderr;
    assert!(output.status.success(), "{text}");
    // A path that no test has would run nothing and succeed.
    assert!(text.contains("1 passed"), "{text}");
    Some(text)
}

/// Defines tests whose bodies run on the virtual GPU.
macro_rules! on_vgpu {
    ($(fn $name:ident() $body:block)*) => {$(
        #[test]
        fn $name() {
            let path = concat!(module_path!(), "::", stringify!($name));
            $crate::child::in_child(path, &[], || $body);
        }
    )*};
}
pub(crate) use on_vgpu;
