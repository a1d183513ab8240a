//! Tensor copies, against an element-by-element walk in the test.

mod support;

use support::{Gpu, launch};
use vgpu::{Asynchrony, FaultKind, Launch, LaunchError, Swizzle, TensorMap, TensorType};

const HEADER: &str = ".version 8.7\n.target sm_90a\n.address_size 64\n";

const MODES: [Asynchrony; 4] =
    [Asynchrony::Earliest, Asynchrony::Latest, Asynchrony::Random(1), Asynchrony::Random(2)];

/// A kernel that runs `body` in thread 0 and then writes the first `bytes` of `tile` to `pb`.
fn kernel(directives: &str, bytes: u32, body: &str) -> String {
    format!(
        "{HEADER}.entry k(.param .align 64 .b8 map[128], .param .u64 pb) {directives} {{\n\
         .reg .b64 %b, %m, %rd<8>; .reg .b32 %me, %r<16>; .reg .pred %p<4>;\n\
         .shared .align 1024 .b8 tile[8192]; .shared .align 8 .b64 bar;\n\
         ld.param.u64 %b, [pb];\nmov.b64 %m, map;\ncvta.param.u64 %m, %m;\nmov.u32 %me, %tid.x;\n\
         setp.ne.u32 %p1, %me, 0;\nmov.u32 %r1, tile;\nmov.u32 %r2, bar;\n{body}\n\
         mov.u32 %r10, %me;\n$copy: setp.ge.u32 %p2, %r10, {bytes};\n@%p2 bra $end;\n\
         add.u32 %r11, %r1, %r10;\nld.shared.u8 %r12, [%r11];\nmov.u32 %r13, %cluster_ctarank;\n\
         mad.lo.u32 %r13, %r13, {bytes}, %r10;\ncvt.u64.u32 %rd1, %r13;\nadd.u64 %rd1, %b, %rd1;\n\
         st.global.u8 [%rd1], %r12;\nadd.u32 %r10, %r10, 32;\nbra $copy;\n$end: ret;\n}}\n"
    )
}

const WAIT: &str = "bar.warp.sync -1;\n$w: mbarrier.try_wait.parity.shared::cta.b64 %p3, [bar], 0;\n@!%p3 bra $w;\n";

fn load(rank: usize, bytes: u32, coordinates: &[i32]) -> String {
    let coordinates: Vec<String> = coordinates.iter().map(i32::to_string).collect();
    format!(
        "@%p1 bra $wait;\nmbarrier.init.shared::cta.b64 [bar], 1;\n\
         fence.mbarrier_init.release.cluster;\nmbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], {bytes};\n\
         cp.async.bulk.tensor.{rank}d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r1], [%m, {{{}}}], [%r2];\n\
         $wait: {WAIT}",
        coordinates.join(", ")
    )
}

fn params(map: &TensorMap, out: u64) -> Vec<u8> {
    map.check().unwrap();
    [&map.encode()[..], &out.to_le_bytes()].concat()
}

fn map(address: u64) -> TensorMap {
    TensorMap {
        element: TensorType::U16,
        rank: 2,
        address,
        dims: [100, 20, 1, 1, 1],
        strides: [208, 0, 0, 0],
        box_dims: [64, 8, 1, 1, 1],
        element_strides: [1; 5],
        swizzle: Swizzle::None,
        fill_nan: false,
    }
}

/// What shared memory holds after a load, from a tile at a multiple of 1024.
fn expected(map: &TensorMap, data: &[u8], at: &[i32; 5]) -> Vec<u8> {
    let width = map.element.bytes() as usize;
    let counts = map.box_counts().map(|n| n as usize);
    let mut out = vec![0u8; map.box_bytes() as usize];
    for index in 0..counts.iter().product::<usize>() {
        let mut rest = index;
        let (mut from, mut inside) = (0i64, true);
        for i in 0..5 {
            let x =
                i64::from(at[i]) + (rest % counts[i]) as i64 * i64::from(map.element_strides[i]);
            rest /= counts[i];
            inside &= x >= 0 && x < map.dims[i] as i64;
            from += x * if i == 0 { width as i64 } else { map.strides[i - 1] as i64 };
        }
        let to = index * width;
        // 16-byte chunk c of the 128-byte line l goes to chunk c ^ (l % 8 / group).
        let (line, chunk) = (to / 128, to / 16 % 8);
        let pattern = match map.swizzle {
            Swizzle::None => 0,
            Swizzle::Bytes32 => line & 1,
            Swizzle::Bytes64 => line & 3,
            Swizzle::Bytes128 => line & 7,
        };
        // Address bits 4 to 6 are exchanged with bits 7 to 9, as many as the span has.
        let to = line * 128 + (chunk ^ pattern) * 16 + to % 16;
        for byte in 0..width {
            out[to + byte] = match (inside, map.fill_nan) {
                (true, _) => data[from as usize + byte],
                (false, true) if byte + 1 == width => 0x7f,
                (false, true) => 0xff,
                (false, false) => 0,
            };
        }
    }
    out
}

fn check_load(change: impl Fn(TensorMap) -> TensorMap, at: [i32; 5]) {
    let data: Vec<u8> = (0..40_000u32).map(|i| (i * 7 + i / 256) as u8).collect();
    for mode in MODES {
        let shape = change(map(0));
        let (rank, bytes) = (shape.rank as usize, shape.box_bytes());
        let gpu = Gpu::new(&kernel("", bytes, &load(rank, bytes, &at[..rank])));
        let map = change(map(gpu.upload(&data)));
        let out = gpu.upload(&vec![0xeeu8; bytes as usize]);
        let shape =
            Launch { params: params(&map, out), asynchrony: Some(mode), ..launch(1, 32, &[]) };
        gpu.launch("k", &shape).unwrap_or_else(|e| panic!("{e}"));
        let got = gpu.download::<u8>(out, bytes as usize);
        assert_eq!(got, expected(&map, &data, &at), "{map:?} {mode:?}");
    }
}

#[test]
fn boxes_are_loaded_with_every_swizzle_and_clipped_on_every_side() {
    let inner = [
        (Swizzle::None, 64),
        (Swizzle::Bytes32, 16),
        (Swizzle::Bytes64, 32),
        (Swizzle::Bytes128, 64),
    ];
    for (swizzle, inner) in inner {
        for at in [[0, 0], [3, 5], [-5, -2], [80, 17], [200, 0]] {
            let at = [at[0], at[1], 0, 0, 0];
            let box_dims = [inner, 9, 1, 1, 1];
            check_load(|map| TensorMap { swizzle, box_dims, ..map }, at);
        }
    }
}

#[test]
fn boxes_have_one_to_five_dimensions() {
    check_load(
        |map| TensorMap {
            rank: 1,
            dims: [100, 1, 1, 1, 1],
            strides: [0; 4],
            box_dims: [64, 1, 1, 1, 1],
            ..map
        },
        [50, 0, 0, 0, 0],
    );
    for rank in 3..=5 {
        let dims = [20, 3, 4, if rank > 3 { 3 } else { 1 }, if rank > 4 { 2 } else { 1 }];
        let strides = [48, 160, if rank > 3 { 704 } else { 0 }, if rank > 4 { 2240 } else { 0 }];
        let box_dims = [16, 2, 3, if rank > 3 { 2 } else { 1 }, if rank > 4 { 2 } else { 1 }];
        let at = [7, 2, -1, if rank > 3 { 1 } else { 0 }, if rank > 4 { 1 } else { 0 }];
        check_load(|map| TensorMap { rank, dims, strides, box_dims, ..map }, at);
    }
}

#[test]
fn boxes_skip_elements_and_fill_with_nan() {
    check_load(|map| TensorMap { element_strides: [2, 3, 1, 1, 1], ..map }, [-4, 10, 0, 0, 0]);
    for element in [TensorType::F16, TensorType::F32, TensorType::F64] {
        let box_dims = [8, 4, 1, 1, 1];
        check_load(
            |map| TensorMap { element, dims: [20, 20, 1, 1, 1], box_dims, fill_nan: true, ..map },
            [16, 18, 0, 0, 0],
        );
    }
}

#[test]
fn a_box_goes_to_several_blocks() {
    // Block 1 loads for itself and block 0; both wait for all bytes.
    let body = format!(
        "mov.u32 %r3, %cluster_ctarank;\n@!%p1 mbarrier.init.shared::cta.b64 [bar], 1;\n\
         fence.mbarrier_init.release.cluster;\n@!%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 1024;\n\
         barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;\n\
         setp.ne.or.u32 %p2, %r3, 1, %p1;\nmov.u16 %h, 3;\n\
         @!%p2 cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%r1], [%m, {{0, 2}}], [%r2], %h;\n{WAIT}"
    );
    let body = format!(".reg .b16 %h;\n{body}");
    let data: Vec<u8> = (0..4160u32).map(|i| (i * 11) as u8).collect();
    for mode in MODES {
        let gpu = Gpu::new(&kernel(".reqnctapercluster 2, 1, 1", 1024, &body));
        let map = map(gpu.upload(&data));
        let out = gpu.upload(&[0u8; 2048]);
        let shape =
            Launch { params: params(&map, out), asynchrony: Some(mode), ..launch(2, 32, &[]) };
        gpu.launch("k", &shape).unwrap_or_else(|e| panic!("{e}"));
        let one = expected(&map, &data, &[0, 2, 0, 0, 0]);
        assert_eq!(gpu.download::<u8>(out, 2048), [one.clone(), one].concat(), "{mode:?}");
    }
}

/// Stores 0, 1, … as 16-bit numbers from swizzled shared memory.
fn store_body(opcode: &str, coordinates: &str) -> String {
    format!(
        "@%p1 bra $wait;\nmov.u32 %r4, 0;\n$fill: shr.u32 %r5, %r4, 3;\nand.b32 %r5, %r5, 0x70;\n\
         xor.b32 %r5, %r4, %r5;\nadd.u32 %r5, %r1, %r5;\nshr.u32 %r6, %r4, 1;\nst.shared.u16 [%r5], %r6;\n\
         add.u32 %r4, %r4, 2;\nsetp.lt.u32 %p2, %r4, 1024;\n@%p2 bra $fill;\n\
         fence.proxy.async.shared::cta;\n\
         {opcode}.bulk_group [%m, {{{coordinates}}}], [%r1];\n\
         cp.async.bulk.commit_group;\ncp.async.bulk.wait_group 0;\n$wait: bar.warp.sync -1;\n"
    )
}

#[test]
fn stores_are_clipped_and_reductions_combine() {
    for (opcode, reduce) in [
        ("cp.async.bulk.tensor.2d.global.shared::cta.tile", None),
        ("cp.reduce.async.bulk.tensor.2d.global.shared::cta.add", Some("add")),
        ("cp.reduce.async.bulk.tensor.2d.global.shared::cta.max.tile", Some("max")),
    ] {
        for mode in MODES {
            let gpu = Gpu::new(&kernel("", 0, &store_body(opcode, "40, -3")));
            let before: Vec<u32> = (0..52 * 20).map(|i| i % 13 * 20).collect();
            let start = gpu.upload(&before);
            let map = TensorMap {
                element: TensorType::U32,
                dims: [52, 20, 1, 1, 1],
                box_dims: [32, 8, 1, 1, 1],
                swizzle: Swizzle::Bytes128,
                ..map(start)
            };
            let shape =
                Launch { params: params(&map, 0), asynchrony: Some(mode), ..launch(1, 32, &[]) };
            gpu.launch("k", &shape).unwrap_or_else(|e| panic!("{e}"));
            let mut after = before.clone();
            // Columns 40 to 51 and rows 0 to 4 of the box at (40, -3) lie in the tensor.
            for row in 0..5u32 {
                for column in 40..52u32 {
                    let index = (row + 3) * 32 + column - 40;
                    let value = (2 * index) | ((2 * index + 1) << 16);
                    let cell = &mut after[(row * 52 + column) as usize];
                    *cell = match reduce {
                        None => value,
                        Some("add") => cell.wrapping_add(value),
                        _ => value.max(*cell),
                    };
                }
            }
            assert_eq!(gpu.download::<u32>(start, before.len()), after, "{opcode} {mode:?}");
        }
    }
}

#[test]
fn maps_are_changed_in_shared_memory_and_copied_out() {
    // The map gets a new address and fewer columns; the copy in global memory is used.
    let body = format!(
        "ld.param.u64 %rd3, [pb];\n.shared .align 128 .b8 copy[128];\n@%p1 bra $mapped;\nmov.u32 %r4, 0;\nmov.u32 %r5, copy;\n\
         $each: cvt.u64.u32 %rd4, %r4;\nadd.u64 %rd4, %m, %rd4;\nld.u64 %rd5, [%rd4];\nadd.u32 %r6, %r5, %r4;\n\
         st.shared.u64 [%r6], %rd5;\nadd.u32 %r4, %r4, 8;\nsetp.lt.u32 %p2, %r4, 128;\n@%p2 bra $each;\n\
         add.u64 %rd6, %rd3, 4096;\n\
         tensormap.replace.tile.global_address.shared::cta.b1024.b64 [%r5], %rd6;\n\
         tensormap.replace.tile.global_dim.shared::cta.b1024.b32 [copy], 0, 10;\n\
         tensormap.replace.tile.global_stride.shared::cta.b1024.b64 [copy], 0, 32;\n\
         $mapped: bar.warp.sync -1;\nadd.u64 %m, %rd3, 2048;\n\
         tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned [%m], [copy], 128;\n\
         fence.proxy.tensormap::generic.acquire.gpu [%m], 128;\n{}",
        load(2, 1024, &[0, 0])
    );
    let gpu = Gpu::new(&kernel("", 1024, &body));
    let data: Vec<u8> = (0..8192u32).map(|i| (i * 5 + 1) as u8).collect();
    let out = gpu.upload(&data);
    let map = map(out);
    let shape = Launch { params: params(&map, out), ..launch(1, 32, &[]) };
    gpu.launch("k", &shape).unwrap_or_else(|e| panic!("{e}"));
    let changed = TensorMap { dims: [10, 20, 1, 1, 1], strides: [32, 0, 0, 0], ..map };
    assert_eq!(gpu.download::<u8>(out, 1024), expected(&changed, &data[4096..], &[0; 5]));
}

#[test]
fn wrong_maps_and_targets_are_named() {
    let fault = |map: [u8; 128], body: &str| {
        let gpu = Gpu::new(&kernel("", 0, body));
        let params = [&map[..], &0u64.to_le_bytes()].concat();
        let shape = Launch { params, asynchrony: Some(Asynchrony::Latest), ..launch(1, 32, &[]) };
        match gpu.launch("k", &shape) {
            Err(LaunchError::Fault(fault)) => *fault,
            other => panic!("{other:?}"),
        }
    };
    let good = load(2, 1024, &[0, 0]);
    let none = fault([0; 128], &good);
    assert!(none.to_string().contains("are no tensor map"), "{none}");
    let rank = fault(map(1 << 41).encode(), &load(3, 1024, &[0, 0, 0]));
    assert!(rank.to_string().contains("3 dimensions with a tensor map of 2"), "{rank}");
    let odd = fault(map(1 << 41).encode(), &good.replace("[%r1], [%m", "[%r1+64], [%m"));
    assert!(matches!(odd.kind, FaultKind::Misaligned { bytes: 128, .. }), "{odd}");
    let gone = fault(map(1 << 41).encode(), &good);
    assert!(matches!(gone.kind, FaultKind::OutOfBounds { .. }), "{gone}");
}
