//! Accesses to several devices' memory at once.

mod support;

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::sync::Arc;

use support::{Gpu, launch};
use vgpu::{FaultKind, LaunchError, LoadError, Program, Replicas};

const BYTES: usize = 4096;

/// Memory of three devices.
struct Three([NonNull<u8>; 3]);

fn layout() -> Layout {
    Layout::from_size_align(BYTES, 256).unwrap()
}

impl Three {
    fn new() -> Arc<Self> {
        // SAFETY: the layout is not empty.
        Arc::new(Three([(); 3].map(|()| NonNull::new(unsafe { alloc_zeroed(layout()) }).unwrap())))
    }

    fn word(&self, device: usize, at: usize) -> *mut u32 {
        // SAFETY: within the memory.
        unsafe { self.0[device].cast::<u32>().add(at).as_ptr() }
    }
}

impl Drop for Three {
    fn drop(&mut self) {
        // SAFETY: allocated so.
        self.0.iter().for_each(|it| unsafe { dealloc(it.as_ptr(), layout()) });
    }
}

// SAFETY: the bytes are accessed atomically, or by one thread.
unsafe impl Send for Three {}
// SAFETY: as above.
unsafe impl Sync for Three {}

struct Shared(Arc<Three>);

// SAFETY: the pointers are those of the memory, which lives as long.
unsafe impl Replicas for Shared {
    fn bytes(&self) -> u64 {
        BYTES as u64
    }

    fn copies(&self, offset: u64, bytes: u64) -> Option<Vec<NonNull<u8>>> {
        let inside = offset + bytes <= BYTES as u64;
        // SAFETY: inside of the memory.
        inside.then(|| self.0.0.iter().map(|it| unsafe { it.add(offset as usize) }).collect())
    }
}

fn kernel(body: &str) -> String {
    format!(
        ".version 8.7\n.target sm_90a\n.address_size 64\n.entry k(.param .u64 pa, .param .u64 pb) {{\n\
         .reg .b64 %a, %b; .reg .b32 %r<8>; .reg .f32 %f<8>;\n\
         ld.param.u64 %a, [pa];\nld.param.u64 %b, [pb];\n{body}\nret; }}\n"
    )
}

/// Runs a body with a multicast address in `%a` and four words in `%b`, which it returns.
fn run(three: &Arc<Three>, body: &str) -> Result<Vec<u32>, FaultKind> {
    let gpu = Gpu::new(&kernel(body));
    let address = gpu.memory.reserve(BYTES as u64, 256).unwrap();
    gpu.memory.map_replicas(address, Box::new(Shared(three.clone()))).unwrap();
    let b = gpu.upload(&[0u32; 4]);
    match gpu.launch("k", &launch(1, 1, &[address, b])) {
        Ok(_) => Ok(gpu.download(b, 4)),
        Err(LaunchError::Fault(fault)) => Err(fault.kind),
        Err(other) => panic!("{other}"),
    }
}

fn set(three: &Three, at: usize, values: [u32; 3]) {
    for (device, value) in values.into_iter().enumerate() {
        // SAFETY: no kernel runs.
        unsafe { three.word(device, at).write(value) };
    }
}

fn get(three: &Three, at: usize) -> [u32; 3] {
    // SAFETY: no kernel runs.
    [0, 1, 2].map(|device| unsafe { three.word(device, at).read() })
}

#[test]
fn loads_reduce_over_the_devices() {
    let three = Three::new();
    set(&three, 0, [1, 20, 300]);
    set(&three, 1, [0xf0, 0xf1, 0x3f]);
    set(&three, 4, [1.5f32, 2.25, -1.0].map(f32::to_bits));
    set(&three, 5, [0.5f32, 0.5, 7.0].map(f32::to_bits));
    let body = "multimem.ld_reduce.relaxed.sys.global.add.u32 %r1, [%a];\nst.global.u32 [%b], %r1;\n\
                multimem.ld_reduce.weak.global.and.b32 %r2, [%a+4];\nst.global.u32 [%b+4], %r2;\n\
                multimem.ld_reduce.relaxed.gpu.global.add.v2.f32 {%f1, %f2}, [%a+16];\n\
                st.global.v2.f32 [%b+8], {%f1, %f2};";
    let words = run(&three, body).unwrap();
    assert_eq!(words, [321, 0x30, 2.75f32.to_bits(), 8.0f32.to_bits()]);
}

#[test]
fn halves_are_added_in_fp32_when_asked() {
    let three = Three::new();
    // 1 + 2^-8 + 2^-8 in BF16: each step rounds to even, or the sum does.
    set(&three, 0, [0x3f80_3f80, 0x3b80_3b80, 0x3b80_3b80]);
    let add = |acc: &str| {
        let opcode = format!("multimem.ld_reduce.relaxed.sys.global.add{acc}.v2.bf16x2");
        run(&three, &format!("{opcode} {{%r1, %r2}}, [%a];\nst.global.u32 [%b], %r1;")).unwrap()[0]
    };
    assert_eq!(add(""), 0x3f80_3f80);
    assert_eq!(add(".acc::f32"), 0x3f81_3f81);
}

#[test]
fn stores_and_reductions_reach_every_device() {
    let three = Three::new();
    set(&three, 1, [1, 2, 3]);
    let body = "mov.u32 %r1, 77;\nmultimem.st.relaxed.sys.global.u32 [%a], %r1;\n\
                mov.u32 %r2, 10;\nmultimem.red.release.sys.global.add.u32 [%a+4], %r2;";
    run(&three, body).unwrap();
    assert_eq!((get(&three, 0), get(&three, 1)), ([77; 3], [11, 12, 13]));
}

#[test]
fn wrong_addresses_fault() {
    let three = Three::new();
    let outside = run(&three, "multimem.ld_reduce.weak.global.add.u32 %r1, [%a+4096];");
    assert!(matches!(outside, Err(FaultKind::OutOfBounds { .. })), "{outside:?}");
    let ordinary = run(&three, "multimem.st.weak.global.u32 [%b], %r1;");
    assert!(matches!(ordinary, Err(FaultKind::OutOfBounds { .. })), "{ordinary:?}");
    let misaligned = run(&three, "multimem.st.weak.global.u32 [%a+2], %r1;");
    assert!(matches!(misaligned, Err(FaultKind::Misaligned { .. })), "{misaligned:?}");
    let plain = run(&three, "ld.global.u32 %r1, [%a];");
    let Err(FaultKind::OutOfBounds { hint, .. }) = plain else { panic!("{plain:?}") };
    assert!(hint.contains("multicast object"), "{hint}");
}

#[test]
fn what_no_hardware_has_is_refused() {
    for instruction in [
        "multimem.ld_reduce.weak.global.exch.b32 %r1, [%a];",
        "multimem.ld_reduce.weak.global.add.acc::f32.f32 %f1, [%a];",
        "multimem.st.weak.shared.u32 [%a], %r1;",
        "multimem.fetch.u32 %r1, [%a];",
    ] {
        let loaded = Program::load(&kernel(instruction)).map(drop);
        let Err(LoadError::Unsupported(all)) = loaded else { panic!("{instruction}: {loaded:?}") };
        assert_eq!(all.len(), 1);
    }
}
