//! Matrix products: what the kernels of `csrc/kernels/gemm` are launched with.

mod choices;
mod operands;
mod swiglu;

use super::abi::{ClusterShares, GemmOut, GemmParams, RowsKind, RowsParams, ScaleOrder, StackOut};
use super::driver::Launch;
use super::heuristics::{
    ChooseOptions, Cluster, GemmConfig, GemmTile, MAX_STAGES, SPLITS, Smem, choose, splits_k,
    tiles_of, usable_sms,
};
use super::params::to_u32;
use super::{Cuda, CudaStream};
use crate::cost::DeviceSpec;
use crate::error::{Error, Result};
use crate::gemm::{
    GemmArgs, GemmFormat, GemmKind, GemmOutFormat, GemmShape, GroupRows, GroupedGemmArgs,
    KGroupedGemmArgs, KGroupedOperands, MaskedGemmArgs, MaskedRows, Operands,
};
use crate::moe::quant::GRAN_K;
use crate::num::{bf16, ceil_div};
use crate::tensor::{Element, Layout, QuantRef, TensorRef};
pub use choices::Choices;
use operands::{NO_MAP, Operand, Output, ScaleMap};

pub use swiglu::{
    contiguous as swiglu_contiguous, fusion_pays as swiglu_fusion_pays, masked as swiglu_masked,
};

/// Blocks along M that are walked together: with as many along N, of the CTAs that run at once, they take the fewest
/// rows of A and B from memory.
const BAND_WIDTH: usize = 12;

/// The result of a kernel that stores elsewhere.
const NOWHERE: StackOut = StackOut {
    data: std::ptr::null_mut(),
    group_stride: 0,
    row_stride: 0,
    is_aligned: 0,
    reserved: 0,
};

const DENSE: &str = "gemm_nt";
const CONTIGUOUS: &str = "m_grouped_gemm_nt_contiguous";
const MASKED: &str = "m_grouped_gemm_nt_masked";
const K_GROUPED: &str = "k_grouped_gemm_nt_contiguous";

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
    let product =
        Product { op: DENSE, kind: GemmKind::Dense, a, b, rows: all_rows(), expected_m: m };
    product.launch(cuda, stream, Output::matrix(&mut out), None)
}

pub fn contiguous(cuda: &Cuda, stream: &CudaStream, args: GroupedGemmArgs<'_, Cuda>) -> Result<()> {
    let GroupedGemmArgs { operands, rows, mut out, row_weights } = args;
    let rows = contiguous_rows(CONTIGUOUS, rows)?;
    let [a, b] = match operands {
        Operands::Fp8 { a, b } => scaled(a.split_rows(1)?, b),
        Operands::Bf16 { a, b } => unscaled(a.split_rows(1)?, b),
    };
    let [num_groups, m] = [b.shape()[0], a.shape()[1]];
    let expected_m = ceil_div(m, num_groups.max(1));
    let product = Product { op: CONTIGUOUS, kind: GemmKind::Contiguous, a, b, rows, expected_m };
    product.launch(cuda, stream, Output::matrix(&mut out), row_weights)
}

pub fn masked(cuda: &Cuda, stream: &CudaStream, args: MaskedGemmArgs<'_, Cuda>) -> Result<()> {
    let MaskedGemmArgs { operands, rows, mut out, row_weights } = args;
    let [a, b] = match operands {
        Operands::Fp8 { a, b } => scaled(a, b),
        Operands::Bf16 { a, b } => unscaled(a, b),
    };
    let (rows, expected_m) = (masked_rows(&rows), rows.expected_m);
    let product = Product { op: MASKED, kind: GemmKind::Masked, a, b, rows, expected_m };
    product.launch(cuda, stream, Output::stack(&mut out), row_weights)
}

/// One launch for each group: the host knows their K, and each fills the device.
pub fn k_grouped(cuda: &Cuda, stream: &CudaStream, args: KGroupedGemmArgs<'_, Cuda>) -> Result<()> {
    let KGroupedGemmArgs { operands, ks, mut d } = args;
    let ([_, m, n], [group_stride, ..]) = (d.shape(), d.layout().strides());
    if m == 0 || n == 0 {
        return Ok(());
    }
    let mut first_k = 0;
    for (group, &k) in ks.iter().enumerate().filter(|(_, k)| **k > 0) {
        let ([a_shape, b_shape], op, rows) = ([[m, k], [n, k]], K_GROUPED, all_rows());
        // SAFETY: `KGroupedGemmArgs` checked that both hold `m` or `n` times the sum of all K.
        let ([a, b], kind) = unsafe {
            match &operands {
                KGroupedOperands::Fp8 { a, b } => {
                    let (a, b) = (k_group(a, a_shape, first_k), k_group(b, b_shape, first_k));
                    (scaled(a, b), GemmKind::KGrouped)
                }
                // Without scales there is nothing that sets it apart from a dense product.
                KGroupedOperands::Bf16 { a, b } => {
                    let (a, b) = (k_matrix(a, a_shape, first_k), k_matrix(b, b_shape, first_k));
                    (unscaled(a, b), GemmKind::Dense)
                }
            }
        };
        first_k += k;
        let product = Product { op, kind, a, b, rows, expected_m: m };
        product.launch(cuda, stream, Output::added(&mut d, group * group_stride), None)?;
    }
    Ok(())
}

/// The group whose K starts at `first_k`, a `[rows, k]` matrix with scales per row, as a stack of one.
///
/// # Safety
///
/// The operand holds `rows` times `first_k + k` values.
unsafe fn k_group<'a>(
    operand: &QuantRef<'a, Cuda, 1>,
    [rows, k]: [usize; 2],
    first_k: usize,
) -> QuantRef<'a, Cuda, 3> {
    // SAFETY: the caller says that the values are there, and with them the scales, one for each 128.
    unsafe {
        QuantRef {
            values: k_matrix(&operand.values, [rows, k], first_k),
            scales: k_matrix(&operand.scales, [rows, k / GRAN_K], first_k / GRAN_K),
        }
    }
}

/// The `[rows, k]` matrix behind others of as many rows and `first_k` columns in all, as a stack of one.
///
/// # Safety
///
/// There are `rows` times `first_k + k` elements.
unsafe fn k_matrix<'a, T: Element>(
    all: &TensorRef<'a, Cuda, T, 1>,
    [rows, k]: [usize; 2],
    first_k: usize,
) -> TensorRef<'a, Cuda, T, 3> {
    let first = all.as_ptr().wrapping_add(rows * first_k);
    // SAFETY: the caller says that the elements are there.
    unsafe { TensorRef::from_raw(first, Layout::row_major([1, rows, k])) }
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

fn contiguous_rows(op: &'static str, rows: GroupRows<'_, Cuda>) -> Result<RowsParams> {
    Ok(match rows {
        GroupRows::PerRow(grouped_layout) => {
            RowsParams { values: grouped_layout.as_ptr(), kind: RowsKind::PerRow, ..all_rows() }
        }
        GroupRows::Offsets { expert_offsets, num_recv_tokens_per_expert: num_recv } => RowsParams {
            values: expert_offsets.as_ptr(),
            num_recv_tokens_per_expert: num_recv.as_ptr(),
            kind: RowsKind::Offsets,
            num_experts: to_u32(op, "b", num_recv.shape()[0])?,
        },
    })
}

fn masked_rows(rows: &MaskedRows<'_, Cuda>) -> RowsParams {
    RowsParams { values: rows.masked_m.as_ptr(), kind: RowsKind::Masked, ..all_rows() }
}

/// Weights of rows as the kernels take them; null = 1.
fn weights_ptr(row_weights: Option<TensorRef<'_, Cuda, f32, 1>>) -> *const f32 {
    row_weights.map_or(std::ptr::null(), |weights| weights.as_ptr())
}

/// What the choice of tile reckons with.
fn device(cuda: &Cuda) -> DeviceSpec {
    DeviceSpec { num_sms: cuda.num_sms(), ..DeviceSpec::H100_SXM }
}

fn options(cuda: &Cuda) -> ChooseOptions {
    ChooseOptions { max_split_k: cuda.max_split_k, ..ChooseOptions::default() }
}

/// A product in any layout of rows.
struct Product<'a> {
    op: &'static str,
    kind: GemmKind,
    a: Operand<'a>,
    b: Operand<'a>,
    rows: RowsParams,
    /// Rows of each group that the choice of tile reckons with.
    expected_m: usize,
}

impl Product<'_> {
    /// `row_weights` multiply the sums of D's rows.
    fn launch(
        &self,
        cuda: &Cuda,
        stream: &CudaStream,
        out: Output,
        row_weights: Option<TensorRef<'_, Cuda, f32, 1>>,
    ) -> Result<()> {
        let config = self.config(cuda, out.format())?;
        let params = GemmParams {
            row_weights: weights_ptr(row_weights),
            ..self.params(stream, &config, Some(out))?
        };
        let format = match self.a.format() {
            GemmFormat::Fp8 => "fp8",
            GemmFormat::Bf16 => "bf16",
        };
        self.enqueue(cuda, stream, &config, format, &params)
    }

    /// Enqueues the kernel of what is computed in that layout; `params` is its struct.
    fn enqueue<P: Copy>(
        &self,
        cuda: &Cuda,
        stream: &CudaStream,
        config: &GemmConfig,
        what: &str,
        params: &P,
    ) -> Result<()> {
        let layout = match self.kind {
            GemmKind::Contiguous => "contiguous",
            GemmKind::Masked => "masked",
            GemmKind::Dense => "dense",
            GemmKind::KGrouped => "k_grouped",
        };
        let name = format!("gemm_{what}_{layout}_{}", config.tile.name());
        let kernel = cuda.kernel(self.op, &name)?;
        let num_threads = 128 * (1 + config.num_math_warpgroups);
        let launch = Launch {
            shared_bytes: to_u32(self.op, "config", config.smem_bytes)?,
            cluster_len: to_u32(self.op, "config", config.cluster_len())?,
            overlaps_previous: true,
            ..Launch::new(self.num_ctas(cuda, config)?, to_u32(self.op, "config", num_threads)?)
        };
        // SAFETY: the arguments' type checked the extents against the tensors, which the caller keeps
        // until the stream has passed.
        unsafe { launch.enqueue(self.op, &stream.driver, kernel, params) }
    }

    /// The caller's, if there is such a tile for this product, else the one that is estimated to be fastest.
    fn config(&self, cuda: &Cuda, out: GemmOutFormat) -> Result<GemmConfig> {
        let (format, [num_groups, n, k]) = (self.a.format(), self.b.shape());
        let max_m = (self.kind == GemmKind::Masked).then_some(self.a.shape()[1].max(1));
        let expected_m = max_m.map_or(self.expected_m, |max_m| self.expected_m.min(max_m));
        let shape = GemmShape {
            num_groups: num_groups.max(1),
            format,
            out,
            max_m,
            ..GemmShape::new(self.kind, expected_m.max(1), n.max(1), k.max(1))
        };
        let has_tile = |it: &GemmConfig| it.format == format && tiles_of(&shape).contains(&it.tile);
        let Some(config) = cuda.gemm_config.filter(has_tile) else {
            let config = cuda.gemm_choices().get(&(shape, cuda.max_split_k), || {
                Ok(choose(&shape, &device(cuda), &options(cuda))?.config)
            })?;
            // The rows that there are may be more than those that were expected.
            return Ok(GemmConfig { num_sms: cuda.num_sms(), ..config });
        };
        // The block below may be another group's, with other weights.
        if self.kind == GemmKind::Contiguous && config.cluster == Cluster::AlongM {
            let expected = "a cluster along N, or none, for groups in one matrix";
            return Err(Error::value(self.op, "config", expected, config.cluster));
        }
        // A stage is released when the next is there and its products may be under way.
        if !(2..=MAX_STAGES).contains(&config.num_stages) {
            let expected = format!("a ring of 2 to {MAX_STAGES} stages");
            return Err(Error::value(self.op, "config", expected, config.num_stages));
        }
        self.check_split(&config, &shape)?;
        let smem = Smem::new(&config.tile, &shape).with_partials(&config.tile, config.split_k);
        Ok(GemmConfig { smem_bytes: smem.bytes(config.num_stages), ..config })
    }

    /// Parts of K of a launch that the caller asked for. There may be more of them than blocks.
    fn check_split(&self, config: &GemmConfig, shape: &GemmShape) -> Result<()> {
        let refuse =
            |expected| Err(Error::value(self.op, "config.split_k", expected, config.split_k));
        if config.split_k == 1 {
            Ok(())
        } else if !SPLITS.contains(&config.split_k) {
            refuse("K in 1, 2, 4 or 8 parts")
        } else if config.cluster != Cluster::Single {
            refuse("1, as the CTAs of a cluster share loads")
        } else if !splits_k(&config.tile, shape) {
            refuse("1, as the tile's kernel takes K whole")
        } else {
            Ok(())
        }
    }

    /// As many as the device runs at once and have work, in whole clusters; one at least, for faults in the
    /// layout of rows are told where there is nothing to multiply.
    fn num_ctas(&self, cuda: &Cuda, config: &GemmConfig) -> Result<u32> {
        let [num_row_groups, m, _] = self.a.shape();
        let [_, n, _] = self.b.shape();
        let [span_m, span_n] = match config.cluster {
            Cluster::Single => [1, 1],
            Cluster::AlongM => [2, 1],
            Cluster::AlongN => [1, 2],
        };
        let num_m = ceil_div(ceil_div(m, config.tile.block_m), span_m);
        let num_n = ceil_div(ceil_div(n, config.tile.block_n), span_n);
        let num_clusters = num_row_groups.saturating_mul(num_m).saturating_mul(num_n);
        to_u32(self.op, "d", num_clusters)?;
        let cluster_len = config.cluster_len();
        let num_sms = usable_sms(cuda.num_sms(), config.split_k).min(config.num_sms);
        let most = (num_sms / cluster_len).max(1);
        to_u32(self.op, "d", num_clusters.clamp(1, most) * cluster_len)
    }

    /// Scales as TMA loads them, if it can load both operands'. A gated tile's kernel knows them side by side along K alone.
    fn scale_maps(&self, tile: &GemmTile, is_gated: bool) -> Result<[ScaleMap; 2]> {
        if is_gated {
            let a = self.a.scale_map(tile.block_m)?.filter(|it| it.order == ScaleOrder::Blocks);
            return Ok(match (a, self.b.halves_scale_map()?) {
                (Some(a), Some(b)) => [a, b],
                _ => [ScaleMap::NONE; 2],
            });
        }
        let b_rows = match self.kind {
            GemmKind::KGrouped => tile.block_n,
            _ => tile.num_b_scale_rows(),
        };
        Ok(match (self.a.scale_map(tile.block_m)?, self.b.scale_map(b_rows)?) {
            (Some(a), Some(b)) => [a, b],
            _ => [ScaleMap::NONE; 2],
        })
    }

    /// Without `out` the kernel stores elsewhere.
    fn params(
        &self,
        stream: &CudaStream,
        config: &GemmConfig,
        out: Option<Output>,
    ) -> Result<GemmParams> {
        let (op, tile) = (self.op, config.tile);
        let [num_groups, n, k] = self.b.shape();
        let [_, m, _] = self.a.shape();
        let (cluster_shares, a_rows, b_rows) = match config.cluster {
            _ if config.split_k > 1 => (ClusterShares::D, tile.block_m, tile.block_n),
            Cluster::Single => (ClusterShares::Nothing, tile.block_m, tile.block_n),
            Cluster::AlongM => (ClusterShares::B, tile.block_m, tile.block_n / 2),
            Cluster::AlongN => (ClusterShares::A, tile.block_m / 2, tile.block_n),
        };
        // A warpgroup stores all rows of a swapped tile, or 64 at a time; a part of them row by row.
        let d = match out {
            Some(out) if config.split_k == 1 => out.map(tile.block_m.min(64))?,
            _ => None,
        };
        // Gate and up lie apart.
        let num_b_boxes = if out.is_some() { 1 } else { 2 };
        let [a_scales, b_scales] = self.scale_maps(&tile, out.is_none())?;
        Ok(GemmParams {
            a: self.a.map(op, a_rows)?,
            b: self.b.map(op, b_rows / num_b_boxes)?,
            d: d.unwrap_or(NO_MAP),
            a_scale_map: a_scales.map,
            b_scale_map: b_scales.map,
            a_scales: self.a.scales(),
            b_scales: self.b.scales(),
            out: out.map_or(NOWHERE, |out| out.params()),
            rows: self.rows,
            faults: stream.fault_sink(),
            row_weights: std::ptr::null(),
            m: to_u32(op, "a", m)?,
            n: to_u32(op, "b", n)?,
            k: to_u32(op, "k", k)?,
            num_groups: to_u32(op, "b", num_groups)?,
            num_stages: to_u32(op, "num_stages", config.num_stages)?,
            band_width: to_u32(op, "band_width", BAND_WIDTH)?,
            kind: out.map_or(GemmOut::Bf16, |out| out.kind()),
            cluster_shares,
            stores_by_tma: u32::from(d.is_some()),
            a_scale_order: a_scales.order,
            b_scale_order: b_scales.order,
            reserved: 0,
        })
    }
}
