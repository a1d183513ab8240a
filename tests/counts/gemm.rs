//! What a product moves: TMA bytes as its blocks ask for them, nothing else in bulk, and no bank conflicts.
//! All of it stands in `gemm.csv` too: bytes, multiplications and bank conflicts of each product, which
//! `MOEKIT_BLESS=1 cargo xtask test` writes anew.

use std::fmt::Write as _;

use moekit::backend::cuda::Cuda;
use moekit::backend::cuda::heuristics::{Cluster, GemmConfig, GemmTile};
use moekit::gemm::{
    GemmFormat, GemmKind, GemmOut, GemmShape, GroupRows, MaskedRows, bf16_gemm_nt, fp8_gemm_nt,
    m_grouped_fp8_gemm_nt_contiguous, m_grouped_fp8_gemm_nt_masked,
};
use moekit::num::{E4M3, bf16, ceil_div};
use moekit::tensor::{QuantTensor, Tensor};
use moekit::{Backend, Result};
use serde_json::Value;

use crate::gemm_configs;
use crate::{number, table, vgpu_counts};

const TABLE: &str = include_str!("gemm.csv");
const FILE: &str = "tests/counts/gemm.csv";

/// Rows of each group. The last block of each is short in most tiles.
const GROUP_ROWS: [usize; 2] = [200, 72];
/// Where groups start in one matrix, and its end.
const OFFSETS: [usize; 3] = [0, 208, 280];
/// Rows of each group's own matrix.
const MAX_M: usize = 256;
/// A short last block, and a short last step along K.
const N: usize = 272;
const K: usize = 288;

#[derive(Clone, Copy)]
enum Layout {
    Dense,
    Contiguous,
    Masked,
}

impl Layout {
    const ALL: [Self; 3] = [Self::Dense, Self::Contiguous, Self::Masked];

    const fn name(self) -> &'static str {
        match self {
            Self::Dense => "dense",
            Self::Contiguous => "contiguous",
            Self::Masked => "masked",
        }
    }

    /// Of each group: its first row in the matrix that it lies in, the number of rows, and the matrix's end.
    const fn groups(self) -> &'static [[usize; 3]] {
        const CONTIGUOUS: [[usize; 3]; 2] =
            [[OFFSETS[0], GROUP_ROWS[0], OFFSETS[2]], [OFFSETS[1], GROUP_ROWS[1], OFFSETS[2]]];
        match self {
            Self::Dense => &[[0, GROUP_ROWS[0], GROUP_ROWS[0]]],
            Self::Contiguous => &CONTIGUOUS,
            Self::Masked => &[[0, GROUP_ROWS[0], MAX_M], [0, GROUP_ROWS[1], MAX_M]],
        }
    }

    /// Rows of A.
    const fn num_rows(self) -> usize {
        match self {
            Self::Dense => GROUP_ROWS[0],
            Self::Contiguous => OFFSETS[2],
            Self::Masked => GROUP_ROWS.len() * MAX_M,
        }
    }
}

/// Counts of one launch, and what they are compared with.
struct Moved {
    name: String,
    launch: Value,
}

impl Moved {
    fn bulk(&self, field: &str) -> usize {
        number(&self.launch["bulk"][field])
    }

    fn global(&self, field: &str) -> usize {
        self.launch["bytes"]["global"][field].as_u64().unwrap_or(0) as usize
    }

    /// Into shared memory of a cluster's CTAs, one by one.
    fn exchanged(&self) -> usize {
        self.launch["bytes"]["cluster"]["written"].as_u64().unwrap_or(0) as usize
    }

    fn csv(&self) -> String {
        let Self { name, launch } = self;
        format!(
            "{name},{},{},{},{},{},{},{},{}",
            self.bulk("read"),
            self.bulk("written"),
            self.bulk("shared"),
            number(&launch["copied_bytes"]),
            self.global("read"),
            self.global("written"),
            number(&launch["macs"]),
            number(&launch["bank_conflicts"]),
        )
    }
}

/// Every tile in every layout, and two whose K is cut, in both formats where there are both.
pub fn products_move_what_their_blocks_need(cuda: &Cuda) -> Result<()> {
    let mut table = String::from(
        "# Written by: MOEKIT_BLESS=1 cargo xtask test; see gemm.rs.\n\
         product,tma_read,tma_written,tma_shared,copied,read,written,macs,bank_conflicts\n",
    );
    for format in [GemmFormat::Fp8, GemmFormat::Bf16] {
        for (name, config) in gemm_configs::all(format).into_iter().chain(split_configs(format)) {
            for layout in Layout::ALL {
                if matches!(format, GemmFormat::Bf16) && !matches!(layout, Layout::Dense) {
                    continue;
                }
                let cuda = cuda.with_gemm_config(config);
                let name = format!("{}-{name}", layout.name());
                let moved = Moved { launch: launch(&cuda, format, layout)?, name };
                check(&moved, &config, layout);
                writeln!(table, "{}", moved.csv()).expect("a String takes all");
            }
        }
    }
    table::compare(FILE, TABLE, &table);
    Ok(())
}

/// A low and a high tile.
fn split_configs(format: GemmFormat) -> impl Iterator<Item = (String, GemmConfig)> {
    let shape = GemmShape { format, ..GemmShape::new(GemmKind::Dense, 1, 1, 128) };
    [(16, 64, 4), (64, 128, 2)].into_iter().map(move |(block_m, block_n, split_k)| {
        let tile = GemmTile { block_m, block_n, swap_ab: true };
        gemm_configs::split(shape, tile, 4, split_k)
    })
}

/// What the blocks of a launch ask for: their rows of A and of B, all along K.
fn check(moved: &Moved, config: &GemmConfig, layout: Layout) {
    let name = &moved.name;
    let (row_bytes, tile) = (K * config.format.element_bytes(), config.tile);
    let columns = ceil_div(N, tile.block_n);
    // A pair of blocks along N reads its rows of A once.
    let readers = if config.cluster == Cluster::AlongN { ceil_div(columns, 2) } else { columns };
    let (mut read, mut scales, mut written, mut num_blocks) = (0, 0, 0, 0);
    for &[first, num_rows, end] in layout.groups() {
        // Blocks start at multiples of their rows in the matrix, and where a group does.
        let (mut row, group_end) = (first, first + num_rows);
        while row < group_end {
            let rows = tile.block_m.min(end - row);
            read += (rows * readers + N) * row_bytes;
            scales += (rows * columns + ceil_div(N, 128)) * ceil_div(K, 128) * size_of::<f32>();
            num_blocks += columns;
            row = (row + 1).next_multiple_of(tile.block_m);
        }
        written += num_rows * N * 2;
    }
    assert_eq!(moved.bulk("read"), read, "{name}: bytes that TMA reads");
    // Where K is cut, each part's sums go to the CTAs that add them up.
    let sums = if config.split_k > 1 { num_blocks * tile.block_m * tile.block_n * 4 } else { 0 };
    assert_eq!(moved.exchanged(), config.split_k * sums, "{name}: bytes of sums");
    let stored = moved.bulk("written") + moved.global("written");
    assert!(stored >= written, "{name}: all of D is written, {written} bytes: {stored}");
    assert_eq!(number(&moved.launch["bank_conflicts"]), 0, "{name}: bank conflicts");
    let besides = number(&moved.launch["copied_bytes"]) + moved.global("read");
    let ideal = read + if config.format == GemmFormat::Fp8 { scales } else { 0 };
    let all = read + besides;
    assert!(100 * all <= 105 * ideal, "{name}: {all} bytes are read, tiles and scales are {ideal}");
}

fn launch(cuda: &Cuda, format: GemmFormat, layout: Layout) -> Result<Value> {
    let stream = cuda.stream()?;
    let rows = layout.num_rows();
    let mut d = Tensor::<_, bf16, 2>::zeros(cuda, [rows, N])?;
    let (result, mut counts) = match format {
        GemmFormat::Bf16 => {
            let a = Tensor::<_, bf16, 2>::zeros(cuda, [rows, K])?;
            let b = Tensor::<_, bf16, 2>::zeros(cuda, [N, K])?;
            vgpu_counts::counted(|| {
                bf16_gemm_nt(cuda, &stream, a.view(), b.view(), GemmOut::Bf16(d.view_mut()))?;
                cuda.check(&stream)
            })
        }
        GemmFormat::Fp8 => {
            let operands = Fp8Operands::new(cuda, rows)?;
            vgpu_counts::counted(|| {
                operands.multiply(cuda, &stream, layout, &mut d)?;
                cuda.check(&stream)
            })
        }
    };
    result?;
    counts.retain(|it| it["kernel"].as_str().is_some_and(|kernel| kernel.starts_with("gemm")));
    assert_eq!(counts.len(), 1, "one launch: {counts:?}");
    Ok(counts.remove(0))
}

struct Fp8Operands {
    a: QuantTensor<Cuda, 2>,
    b: QuantTensor<Cuda, 3>,
    offsets: Tensor<Cuda, i32, 1>,
    num_rows: Tensor<Cuda, i32, 1>,
}

impl Fp8Operands {
    fn new(cuda: &Cuda, rows: usize) -> Result<Self> {
        let groups = GROUP_ROWS.len();
        Ok(Self {
            a: QuantTensor {
                values: Tensor::<_, E4M3, 2>::zeros(cuda, [rows, K])?,
                scales: Tensor::zeros(cuda, [rows, ceil_div(K, 128)])?,
            },
            b: QuantTensor {
                values: Tensor::<_, E4M3, 3>::zeros(cuda, [groups, N, K])?,
                scales: Tensor::zeros(cuda, [groups, ceil_div(N, 128), ceil_div(K, 128)])?,
            },
            offsets: Tensor::from_host(cuda, &OFFSETS.map(|row| row as i32), [groups + 1])?,
            num_rows: Tensor::from_host(cuda, &GROUP_ROWS.map(|rows| rows as i32), [groups])?,
        })
    }

    fn multiply(
        &self,
        cuda: &Cuda,
        stream: &<Cuda as Backend>::Stream,
        layout: Layout,
        d: &mut Tensor<Cuda, bf16, 2>,
    ) -> Result<()> {
        let (a, b) = (self.a.view(), self.b.view());
        match layout {
            Layout::Dense => {
                fp8_gemm_nt(cuda, stream, a, b.matrix(0)?, GemmOut::Bf16(d.view_mut()))
            }
            Layout::Contiguous => {
                let rows = GroupRows::Offsets {
                    expert_offsets: self.offsets.view(),
                    num_recv_tokens_per_expert: self.num_rows.view(),
                };
                let out = GemmOut::Bf16(d.view_mut());
                m_grouped_fp8_gemm_nt_contiguous(cuda, stream, a, b, rows, out)
            }
            Layout::Masked => {
                let rows = MaskedRows { masked_m: self.num_rows.view(), expected_m: GROUP_ROWS[0] };
                let out = GemmOut::Bf16(d.view_mut().split_rows(GROUP_ROWS.len())?);
                let a = a.split_rows(GROUP_ROWS.len())?;
                m_grouped_fp8_gemm_nt_masked(cuda, stream, a, b, rows, out)
            }
        }
    }
}
