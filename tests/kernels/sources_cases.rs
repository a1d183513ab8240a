//! What the build reads from the kernels' sources, and rules that they keep.

use std::path::Path;

use libtest_mimic::{Failed, Trial};

use crate::cache::Cache;
use crate::root;
use crate::sources::{Directive, includes, kernel_names, read_all};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("a_build_line_says_how_a_file_is_compiled", directives_are_read),
        Trial::test("a_wrong_build_line_is_refused", wrong_directives_are_refused),
        Trial::test("a_change_in_any_included_header_is_seen", includes_are_followed),
        Trial::test("a_kernel_is_compiled_once_for_each_origin", the_cache_keeps_files),
        Trial::test("inline_assembly_stands_in_csrc_ptx_alone", assembly_is_in_its_place),
    ]
}

fn directives_are_read() -> Result<(), Failed> {
    let bitwise = Directive::parse("// build: ptx=compute_90 bitwise\n#include \"a.cuh\"\n")?;
    assert_eq!(bitwise, Directive { ptx_arch: "compute_90".to_owned(), is_bitwise: true });
    let hopper = Directive::parse("// build: ptx=compute_90a")?;
    assert_eq!(hopper, Directive { ptx_arch: "compute_90a".to_owned(), is_bitwise: false });
    Ok(())
}

fn wrong_directives_are_refused() -> Result<(), Failed> {
    for text in ["", "// Quantise.", "// build: bitwise", "// build: ptx=compute_90 fast"] {
        assert!(Directive::parse(text).is_err(), "{text}");
    }
    Ok(())
}

fn includes_are_followed() -> Result<(), Failed> {
    assert_eq!(
        includes("#include \"a/b.cuh\"\n#include <cstdint>\n  #include \"c.h\""),
        ["a/b.cuh", "c.h"]
    );
    assert_eq!(kernel_names("MK_INSTANCE(plan, abi::PlanParams,\n    8)"), ["plan"]);
    let sources = read_all(&root())?;
    let quant = sources.iter().find(|source| source.name == "quant").ok_or("no quant.cu")?;
    let has = |path: &str| quant.texts.iter().any(|(it, _)| it == Path::new(path));
    for path in ["csrc/instances/quant.cu", "csrc/common/scale.cuh", "csrc/abi/tensor.h"] {
        assert!(has(path), "{path} is not among what quant.cu includes");
    }
    assert!(!has("csrc/common/exp.cuh"), "quant.cu has no exponential");
    assert!(quant.kernels.iter().any(|kernel| kernel == "quantize_bf16"));
    assert!(quant.directive.is_bitwise, "the bytes of quantisation are a contract");
    assert_eq!(quant.path, Path::new("csrc/instances/quant.cu"));
    Ok(())
}

fn the_cache_keeps_files() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let cache = Cache::new(dir.path());
    let make = |text: &'static str| {
        move |file: &Path| std::fs::write(file, text).map_err(|error| error.to_string())
    };
    let first = cache.file("gate", "ptx", &("13.2.86", "a"), make("one"))?;
    let again = cache.file("gate", "ptx", &("13.2.86", "a"), make("two"))?;
    assert_eq!((&first, std::fs::read_to_string(&again)?), (&again, "one".to_owned()));
    let changed = cache.file("gate", "ptx", &("13.2.86", "b"), make("two"))?;
    assert_eq!(std::fs::read_to_string(changed)?, "two");
    let failed = cache.file("gate", "ptx", &("13.2.86", "c"), |_| Err("no".to_owned()));
    assert_eq!(failed, Err("no".to_owned()));
    assert_eq!(std::fs::read_dir(dir.path())?.count(), 2, "a failure leaves nothing");
    Ok(())
}

fn assembly_is_in_its_place() -> Result<(), Failed> {
    let mut num_wrappers = 0;
    for source in read_all(&root())? {
        for (path, text) in &source.texts {
            let has_assembly = text.contains("asm(") || text.contains("asm volatile");
            let is_wrapper = path.starts_with("csrc/ptx");
            num_wrappers += usize::from(has_assembly && is_wrapper);
            assert!(is_wrapper || !has_assembly, "{} has inline assembly", path.display());
        }
    }
    assert!(num_wrappers > 0, "no wrapper was found");
    Ok(())
}
