//! A PTX module: it is read, printed, loaded, and each kernel runs for a moment.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use vgpu::ptx::parse;
use vgpu::{Asynchrony, Checks, Image, Launch, Memory, Program};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(module) = parse(text) else { return };
    let printed = module.to_string();
    let again = parse(&printed).expect("printed text is PTX");
    assert_eq!(again.to_string(), printed);
    let Ok(program) = Program::load(text) else { return };
    let program = Arc::new(program);
    // A module with more variables than there is memory has no image.
    let Ok(image) = Image::load(program.clone(), Arc::new(Memory::new()), 0) else { return };
    for kernel in program.kernels() {
        let launch = Launch {
            params: vec![0; kernel.param_bytes() as usize],
            block: [kernel.max_threads().min(64), 1, 1],
            fuel: 2000,
            asynchrony: Some(Asynchrony::Random(1)),
            checks: Some(Checks::ALL),
            ..Launch::default()
        };
        // Faults are what such kernels should have.
        let _ = image.launch(kernel.name(), &launch);
    }
});
