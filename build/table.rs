//! Writes the kernel table that `src/backend/cuda/kernels.rs` includes.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::compile::Module;
use crate::embed::Embed;

/// Copies the modules to `out_dir` and writes `kernel_table.rs` beside them.
pub fn write(out_dir: &Path, modules: &[Module], embed: Embed) -> Result<(), String> {
    let mut text = "&[\n".to_owned();
    for Module { name, kernels, cubin, ptx } in modules {
        for (from, extension) in [(cubin, "cubin"), (ptx, "ptx")] {
            let to = out_dir.join(format!("{name}.{extension}"));
            fs::copy(from, &to).map_err(|error| format!("copy to {}: {error}", to.display()))?;
        }
        let ptx = match embed {
            Embed::All => format!("include_str!(concat!(env!(\"OUT_DIR\"), \"/{name}.ptx\"))"),
            Embed::Cubin => "\"\"".to_owned(),
        };
        writeln!(
            text,
            "    KernelModule {{\n        \
             name: {name:?},\n        \
             kernels: &{kernels:?},\n        \
             cubin: include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}.cubin\")),\n        \
             ptx: {ptx},\n    }},"
        )
        .expect("a String takes any text");
    }
    text += "]\n";
    let file = out_dir.join("kernel_table.rs");
    fs::write(&file, text).map_err(|error| format!("write {}: {error}", file.display()))
}
