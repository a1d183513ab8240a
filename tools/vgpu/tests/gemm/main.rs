//! A product of matrices that nvcc compiled from `ptx/gemm.cu`: loads, products and stores overlap in a
//! ring of stages. It is right, and each of its broken copies is found.

#[path = "../support/mod.rs"]
mod support;

mod broken;

use half::bf16;
use support::{Gpu, launch};
use vgpu::{Asynchrony, Launch, LaunchError, Swizzle, TensorMap, TensorType};

const GEMM: &str = include_str!("../ptx/gemm.ptx");

/// Bytes of K of a stage, and stages.
const DEPTH: u64 = 128;
const STAGES: u64 = 3;

/// A product and how it is cut.
#[derive(Clone, Copy, Debug)]
struct Case {
    kernel: &'static str,
    /// Rows and columns of a tile.
    tile: [u64; 2],
    is_fp8: bool,
    /// Bytes of a row of a box; 16 is no swizzle.
    span: u32,
    /// Elements; tiles may reach over the edge.
    m: u64,
    n: u64,
    k: u64,
    blocks: u32,
}

const CASE: Case = Case {
    kernel: "gemm_bf16_64x64",
    tile: [64, 64],
    is_fp8: false,
    span: 128,
    m: 192,
    n: 128,
    k: 320,
    blocks: 2,
};

/// Element `i` of a factor: small, so that sums are exact.
fn value(i: u64, seed: u64) -> i32 {
    ((i * 7 + i / 11 * 3 + seed) % 5) as i32 - 2
}

impl Case {
    fn encode(&self, x: i32) -> Vec<u8> {
        if !self.is_fp8 {
            return bf16::from_f32(x as f32).to_le_bytes().to_vec();
        }
        let magnitude = [0, 0x38, 0x40][x.unsigned_abs() as usize];
        vec![magnitude | if x < 0 { 0x80 } else { 0 }]
    }

    fn factor(&self, gpu: &Gpu, rows: u64, tile: u64, seed: u64) -> TensorMap {
        let bytes: Vec<u8> = (0..rows * self.k).flat_map(|i| self.encode(value(i, seed))).collect();
        let width = if self.is_fp8 { 1 } else { 2 };
        TensorMap {
            element: if self.is_fp8 { TensorType::U8 } else { TensorType::Bf16 },
            rank: 2,
            address: gpu.upload(&bytes),
            dims: [self.k, rows, 1, 1, 1],
            strides: [self.k * width, 0, 0, 0],
            box_dims: [self.span / width as u32, tile as u32, 1, 1, 1],
            element_strides: [1; 5],
            swizzle: match self.span {
                16 => Swizzle::None,
                32 => Swizzle::Bytes32,
                64 => Swizzle::Bytes64,
                _ => Swizzle::Bytes128,
            },
            fill_nan: false,
        }
    }

    /// Runs a copy of the kernels and returns the product.
    fn run(&self, ptx: &str, mode: Asynchrony) -> Result<Vec<f32>, LaunchError> {
        let gpu = Gpu::new(ptx);
        let [tile_m, tile_n] = self.tile;
        let out = gpu.memory.alloc(0, self.m * self.n * 4).expect("room");
        let d = TensorMap {
            element: TensorType::F32,
            address: out,
            dims: [self.n, self.m, 1, 1, 1],
            strides: [self.n * 4, 0, 0, 0],
            box_dims: [tile_n as u32, tile_m as u32, 1, 1, 1],
            swizzle: Swizzle::None,
            ..self.factor(&gpu, 1, 1, 0)
        };
        let maps = [self.factor(&gpu, self.m, tile_m, 1), self.factor(&gpu, self.n, tile_n, 2), d];
        maps.iter().for_each(|map| map.check().expect("a map that the driver takes"));
        let width = if self.is_fp8 { 1 } else { 2 };
        let steps = (self.k * width).div_ceil(DEPTH);
        let counts = [self.m.div_ceil(tile_m), self.n.div_ceil(tile_n), steps, self.span.into()];
        let maps = maps.iter().flat_map(|map| map.encode());
        let counts = counts.iter().flat_map(|count| (*count as u32).to_le_bytes());
        let ring = STAGES * (tile_m + tile_n) * DEPTH;
        let mut params: Vec<u8> = maps.chain(counts).collect();
        // The structure is aligned to 64 bytes.
        params.resize(params.len().next_multiple_of(64), 0);
        let shape = Launch {
            params,
            asynchrony: Some(mode),
            dynamic_shared_bytes: (ring + tile_m * tile_n * 4) as u32,
            ..launch(self.blocks, 128 + 2 * tile_m as u32, &[])
        };
        gpu.launch(self.kernel, &shape)?;
        Ok(gpu.download(out, (self.m * self.n) as usize))
    }

    fn check(&self, mode: Asynchrony) {
        let got = self.run(GEMM, mode).unwrap_or_else(|error| panic!("{self:?} {mode:?}: {error}"));
        for (at, got) in got.iter().enumerate() {
            let (row, column) = (at as u64 / self.n, at as u64 % self.n);
            let term = |i| value(row * self.k + i, 1) * value(column * self.k + i, 2);
            let expected: i32 = (0..self.k).map(term).sum();
            assert_eq!(*got as i32, expected, "{self:?} {mode:?} at ({row}, {column})");
        }
    }
}

#[test]
fn products_are_right_with_every_swizzle() {
    for span in [16, 32, 64, 128] {
        for (kernel, is_fp8) in [("gemm_bf16_64x64", false), ("gemm_fp8_64x64", true)] {
            Case { kernel, is_fp8, span, ..CASE }.check(Asynchrony::Earliest);
        }
    }
}

#[test]
fn products_are_right_with_every_tile_and_at_edges() {
    // 136 rows and 200 columns are no whole tiles, and 272 no whole steps of K.
    let edges = Case { m: 136, n: 200, k: 272, blocks: 3, ..CASE };
    edges.check(Asynchrony::Earliest);
    let large = Case { kernel: "gemm_bf16_128x128", tile: [128, 128], ..edges };
    large.check(Asynchrony::Earliest);
    let fp8 = Case { kernel: "gemm_fp8_128x64", tile: [128, 64], is_fp8: true, ..edges };
    Case { span: 32, ..fp8 }.check(Asynchrony::Earliest);
    fp8.check(Asynchrony::Latest);
}

#[test]
fn products_are_right_in_every_order() {
    let small = Case { m: 64, blocks: 1, ..CASE };
    small.check(Asynchrony::Latest);
    for seed in 0..4 {
        small.check(Asynchrony::Random(seed));
    }
}
