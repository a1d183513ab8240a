//! Matrix products: what the kernels of `csrc/kernels/gemm` are launched with.

mod operands;
mod tile;

use super::abi::{ClusterShares, GemmParams, RowsKind, RowsParams, TensorMap};
use super::driver::Launch;
use super::params::to_u32;
use super::{Cuda, CudaStream};
use crate::error::Result;
use crate::gemm::{GemmArgs, GemmFormat, GroupRows, GroupedGemmArgs, MaskedGemmArgs, Operands};
use crate::num::{bf16, ceil_div};
use crate::tensor::{QuantRef, TensorRef};
use operands::{Operand, Output};
use tile::{BF16_TILES, FP8_TILES, GemmTile};

const DENSE: &str = "gemm_nt";
const CONTIGUOUS: &str = "m_grouped_gemm_nt_contiguous";
const MASKED: &str = "m_grouped_gemm_nt_masked";

pub fn dense(cuda: &Cuda, stream: &CudaStream, args: GemmArgs<'_, Cuda>) -> Result<()> {
    let GemmArgs { operands, mut out } = args;
    let [m, n] = out.layout().shape();
    if m == 0 || n == 0 {
        return Ok(());
    }
    let [a, b] = match operands {
        Operands::Fp8 { a, b } => scaled(a.split_rows(1)?, b.split_rows(1)?),
        Operands::Bf16 { a, b } => unscaled(a.split_rows(1)?, b.split_rows(1)?),
    };
    let product = Product { op: DENSE, layout: "dense", a, b, rows: all_rows(), num_row_groups: 1 };
    product.launch(cuda, stream, Output::matrix(&mut out))
}

pub fn contiguous(cuda: &Cuda, stream: &CudaStream, args: GroupedGemmArgs<'_, Cuda>) -> Result<()> {
    let GroupedGemmArgs { operands, rows, mut out } = args;
    let rows = match rows {
        GroupRows::PerRow(grouped_layout) => {
            RowsParams { values: grouped_layout.as_ptr(), kind: RowsKind::PerRow, ..all_rows() }
        }
        GroupRows::Offsets { expert_offsets, num_recv_tokens_per_expert: num_recv } => RowsParams {
            values: expert_offsets.as_ptr(),
            num_recv_tokens_per_expert: num_recv.as_ptr(),
            kind: RowsKind::Offsets,
            num_experts: to_u32(CONTIGUOUS, "b", num_recv.shape()[0])?,
        },
    };
    let [a, b] = match operands {
        Operands::Fp8 { a, b } => scaled(a.split_rows(1)?, b),
        Operands::Bf16 { a, b } => unscaled(a.split_rows(1)?, b),
    };
    let product = Product { op: CONTIGUOUS, layout: "contiguous", a, b, rows, num_row_groups: 1 };
    product.launch(cuda, stream, Output::matrix(&mut out))
}

pub fn masked(cuda: &Cuda, stream: &CudaStream, args: MaskedGemmArgs<'_, Cuda>) -> Result<()> {
    let MaskedGemmArgs { operands, rows, mut out } = args;
    let [a, b] = match operands {
        Operands::Fp8 { a, b } => scaled(a, b),
        Operands::Bf16 { a, b } => unscaled(a, b),
    };
    let [num_row_groups] = rows.masked_m.shape();
    let rows = RowsParams { values: rows.masked_m.as_ptr(), kind: RowsKind::Masked, ..all_rows() };
    let product = Product { op: MASKED, layout: "masked", a, b, rows, num_row_groups };
    product.launch(cuda, stream, Output::stack(&mut out))
}

fn scaled<'a>(a: QuantRef<'a, Cuda, 3>, b: QuantRef<'a, Cuda, 3>) -> [Operand<'a>; 2] {
    [Operand::fp8("a", a), Operand::fp8("b", b)]
}

fn unscaled<'a>(
    a: TensorRef<'a, Cuda, bf16, 3>,
    b: TensorRef<'a, Cuda, bf16, 3>,
) -> [Operand<'a>; 2] {
    [Operand::bf16("a", a), Operand::bf16("b", b)]
}

fn all_rows() -> RowsParams {
    RowsParams {
        values: std::ptr::null(),
        num_recv_tokens_per_expert: std::ptr::null(),
        kind: RowsKind::All,
        num_experts: 0,
    }
}

/// How a product is launched.
#[derive(Debug, Clone, Copy)]
struct GemmConfig {
    tile: GemmTile,
    num_stages: usize,
    cluster_shares: ClusterShares,
    /// Blocks along M that are walked together.
    band_width: usize,
}

/// A product in any layout of rows.
struct Product<'a> {
    op: &'static str,
    /// The layout's part of the kernel's name.
    layout: &'static str,
    a: Operand<'a>,
    b: Operand<'a>,
    rows: RowsParams,
    /// Stacks of rows that have blocks of their own.
    num_row_groups: usize,
}

impl Product<'_> {
    fn launch(&self, cuda: &Cuda, stream: &CudaStream, out: Output) -> Result<()> {
        let config = self.config();
        let kernel = cuda.kernel(self.op, &config.tile.kernel_name(self.layout))?;
        let num_stages = config.tile.max_stages(kernel.max_dynamic_shared_bytes);
        let config = GemmConfig { num_stages, ..config };
        let params = self.params(stream, &config, out)?;
        let cluster_len = match config.cluster_shares {
            ClusterShares::Nothing => 1,
            _ => 2,
        };
        let launch = Launch {
            shared_bytes: to_u32(self.op, "num_stages", config.tile.shared_bytes(num_stages))?,
            cluster_len,
            overlaps_previous: true,
            ..Launch::new(self.num_ctas(cuda, &config, cluster_len)?, config.tile.num_threads())
        };
        // SAFETY: the arguments' type checked the extents against the tensors, which the caller keeps
        // until the stream has passed.
        unsafe { launch.enqueue(self.op, &stream.driver, kernel, &params) }
    }

    fn config(&self) -> GemmConfig {
        GemmConfig {
            tile: match self.a.format() {
                GemmFormat::Fp8 => FP8_TILES[0],
                GemmFormat::Bf16 => BF16_TILES[0],
            },
            num_stages: 0,
            cluster_shares: ClusterShares::Nothing,
            band_width: 16,
        }
    }

    /// `[m, n]` of each group of rows.
    fn extents(&self) -> [usize; 2] {
        [self.a.shape()[1], self.b.shape()[1]]
    }

    /// As many as the device runs at once and have work, in whole clusters; one at least, for faults in the
    /// layout of rows are told where there is nothing to multiply.
    fn num_ctas(&self, cuda: &Cuda, config: &GemmConfig, cluster_len: u32) -> Result<u32> {
        let [m, n] = self.extents();
        let [span_m, span_n] = match config.cluster_shares {
            ClusterShares::Nothing => [1, 1],
            ClusterShares::A => [1, 2],
            ClusterShares::B => [2, 1],
        };
        let num_m = ceil_div(ceil_div(m, config.tile.block_m), span_m);
        let num_n = ceil_div(ceil_div(n, config.tile.block_n), span_n);
        let num_clusters = (self.num_row_groups * num_m * num_n).max(1);
        to_u32(self.op, "d", num_clusters)?;
        let most = (cuda.num_sms() / cluster_len as usize).max(1);
        Ok(num_clusters.min(most) as u32 * cluster_len)
    }

    fn params(&self, stream: &CudaStream, config: &GemmConfig, out: Output) -> Result<GemmParams> {
        let (op, [m, n], tile) = (self.op, self.extents(), config.tile);
        let [num_groups, _, k] = self.b.shape();
        let rows_of = |rows, is_shared| if is_shared { rows / 2 } else { rows };
        let a_rows = rows_of(tile.block_m, config.cluster_shares == ClusterShares::A);
        let b_rows = rows_of(tile.block_n, config.cluster_shares == ClusterShares::B);
        let d = out.map()?;
        Ok(GemmParams {
            a: self.a.map(op, a_rows)?,
            b: self.b.map(op, b_rows)?,
            d: d.unwrap_or(TensorMap { words: [0; 16] }),
            a_scales: self.a.scales(),
            b_scales: self.b.scales(),
            out: out.params(),
            rows: self.rows,
            faults: stream.fault_sink(),
            m: to_u32(op, "a", m)?,
            n: to_u32(op, "b", n)?,
            k: to_u32(op, "k", k)?,
            num_groups: to_u32(op, "b", num_groups)?,
            num_stages: to_u32(op, "num_stages", config.num_stages)?,
            band_width: to_u32(op, "band_width", config.band_width)?,
            kind: out.kind(),
            cluster_shares: config.cluster_shares,
            stores_by_tma: u32::from(d.is_some()),
            reserved: [0; 5],
        })
    }
}
