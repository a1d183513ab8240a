//! The checked-in mirror is what the headers give, and the C++ compiler lays the structs out alike.

use std::fmt::Write;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    let no_libclang = moekit_abi::load_libclang().err();
    if let Some(problem) = &no_libclang {
        eprintln!("left out: comparing the mirror with the headers ({problem})");
    }
    let trials = vec![
        Trial::test("the_mirror_is_what_the_headers_give", compare)
            .with_ignored_flag(no_libclang.is_some()),
        Trial::test("the_cpp_compiler_has_the_mirrors_sizes_and_offsets", compile),
        Trial::test("a_wrong_offset_does_not_compile", compile_wrong),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn mirror() -> Result<String, Failed> {
    Ok(std::fs::read_to_string(moekit_abi::root().join(moekit_abi::MIRROR))?)
}

fn compare() -> Result<(), Failed> {
    let generated = moekit_abi::generate(&moekit_abi::root())?;
    if generated == mirror()? {
        return Ok(());
    }
    Err(format!("{} is stale: run `cargo xtask abi`", moekit_abi::MIRROR).into())
}

fn compile() -> Result<(), Failed> {
    compile_claims(&claims(&mirror()?)?)
}

fn compile_wrong() -> Result<(), Failed> {
    let mut claims = claims(&mirror()?)?;
    claims.push(Claim { what: "offsetof(GateParams, num_tokens)".to_owned(), value: 57 });
    match compile_claims(&claims) {
        Err(_) => Ok(()),
        Ok(()) => Err("the compiler took a wrong offset".into()),
    }
}

/// What the mirror says of one struct or field, as C++ asks for it.
struct Claim {
    what: String,
    value: usize,
}

/// Reads bindgen's own assertions: `["Size of T"][size_of::<T>() - 16usize]`.
fn claims(mirror: &str) -> Result<Vec<Claim>, Failed> {
    let mut claims = Vec::new();
    for assertion in mirror.split("[\"").skip(1) {
        let parts = assertion.split_once("\"]").and_then(|(name, rest)| {
            let (_, value) = rest.split_once(" - ")?;
            let (value, _) = value.split_once("usize]")?;
            Some((name, value.parse().ok()?))
        });
        let (name, value) = parts.ok_or(format!("not an assertion: {assertion}"))?;
        let what = if let Some(name) = name.strip_prefix("Size of ") {
            format!("sizeof({name})")
        } else if let Some(name) = name.strip_prefix("Alignment of ") {
            format!("alignof({name})")
        } else if let Some(field) = name.strip_prefix("Offset of field: ") {
            format!("offsetof({})", field.replace("::", ", "))
        } else {
            return Err(format!("unknown assertion: {name}").into());
        };
        claims.push(Claim { what, value });
    }
    if claims.len() < 40 {
        return Err(format!("the mirror has only {} assertions", claims.len()).into());
    }
    Ok(claims)
}

fn compile_claims(claims: &[Claim]) -> Result<(), Failed> {
    let root = moekit_abi::root();
    let dir = tempfile::tempdir()?;
    let mut text = String::new();
    for header in moekit_abi::headers(&root)? {
        writeln!(text, "#include \"{}\"", header.display())?;
    }
    text += "using namespace moekit::abi;\n";
    for Claim { what, value } in claims {
        writeln!(text, "static_assert({what} == {value});")?;
    }
    let source = dir.path().join("layout.cpp");
    std::fs::write(&source, text)?;
    let target = "x86_64-unknown-linux-gnu";
    let objects = cc::Build::new()
        .cpp(true)
        .std("c++17")
        .include(root.join("csrc"))
        .file(&source)
        .out_dir(dir.path())
        .cargo_metadata(false)
        .cargo_warnings(false)
        .opt_level(0)
        .target(target)
        .host(target)
        .try_compile_intermediates();
    objects.map(drop).map_err(|error| Failed::from(error.to_string()))
}
