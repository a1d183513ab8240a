//! Matrix products: what the kernels of `csrc/kernels/gemm` are launched with.

mod operands;

use super::abi::{ClusterShares, GemmParams, RowsKind, RowsParams, TensorMap};
use super::driver::Launch;
use super::heuristics::{ChooseOptions, Cluster, GemmConfig, choose};
use super::params::to_u32;
use super::stages::no_kernel;
use super::{Cuda, CudaStream};
use crate::cost::DeviceSpec;
use crate::error::{Error, Result};
use crate::gemm::{
    GemmArgs, GemmFormat, GemmKind, GemmShape, GroupRows, GroupedGemmArgs, KGroupedGemmArgs,
    KGroupedOperands, MaskedGemmArgs, Operands,
};
use crate::num::{bf16, ceil_div};
use crate::tensor::{Layout, QuantRef, TensorRef};
use operands::{Operand, Output};

/// Blocks along M that are walked together: with as many along N, of the CTAs that run at once, they take the fewest
/// rows of A and B from memory.
const BAND_WIDTH: usize = 12;

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
    let [num_groups, m] = [b.shape()[0], a.shape()[1]];
    let expected_m = ceil_div(m, num_groups.max(1));
    let product = Product { op: CONTIGUOUS, kind: GemmKind::Contiguous, a, b, rows, expected_m };
    product.launch(cuda, stream, Output::matrix(&mut out))
}

pub fn masked(cuda: &Cuda, stream: &CudaStream, args: MaskedGemmArgs<'_, Cuda>) -> Result<()> {
    let MaskedGemmArgs { operands, rows, mut out } = args;
    let [a, b] = match operands {
        Operands::Fp8 { a, b } => scaled(a, b),
        Operands::Bf16 { a, b } => unscaled(a, b),
    };
    let expected_m = rows.expected_m;
    let rows = RowsParams { values: rows.masked_m.as_ptr(), kind: RowsKind::Masked, ..all_rows() };
    let product = Product { op: MASKED, kind: GemmKind::Masked, a, b, rows, expected_m };
    product.launch(cuda, stream, Output::stack(&mut out))
}

/// One product after the other: each is large enough to fill a device.
pub fn k_grouped(cuda: &Cuda, stream: &CudaStream, args: KGroupedGemmArgs<'_, Cuda>) -> Result<()> {
    let KGroupedGemmArgs { operands, ks, mut d } = args;
    let KGroupedOperands::Bf16 { a, b } = operands else { return Err(no_kernel(K_GROUPED)) };
    let [_, m, n] = d.shape();
    let mut first_k = 0;
    for (group, &k) in ks.iter().enumerate() {
        let matrix = |all: &TensorRef<'_, Cuda, bf16, 1>, rows| {
            let layout = Layout::row_major([1, rows, k]);
            // SAFETY: `KGroupedGemmArgs` checked that all groups' matrices follow each other without gaps.
            unsafe { TensorRef::from_raw(all.as_ptr().wrapping_add(rows * first_k), layout) }
        };
        let [a, b] = unscaled(matrix(&a, m), matrix(&b, n));
        if m > 0 && n > 0 && k > 0 {
            let rows = all_rows();
            let product =
                Product { op: K_GROUPED, kind: GemmKind::Dense, a, b, rows, expected_m: m };
            product.launch(cuda, stream, Output::accumulating(&mut d, group))?;
        }
        first_k += k;
    }
    Ok(())
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
    fn launch(&self, cuda: &Cuda, stream: &CudaStream, out: Output) -> Result<()> {
        let config = self.config(cuda, &out)?;
        let layout = match self.kind {
            GemmKind::Contiguous => "contiguous",
            GemmKind::Masked => "masked",
            GemmKind::Dense | GemmKind::KGrouped => "dense",
        };
        let format = match self.a.format() {
            GemmFormat::Fp8 => "fp8",
            GemmFormat::Bf16 => "bf16",
        };
        let name = format!("gemm_{format}_{layout}_{}", config.tile.name());
        let kernel = cuda.kernel(self.op, &name)?;
        let params = self.params(stream, &config, out)?;
        let num_threads = 128 * (1 + config.num_math_warpgroups);
        let launch = Launch {
            shared_bytes: to_u32(self.op, "config", config.smem_bytes)?,
            cluster_len: config.cluster.num_ctas() as u32,
            overlaps_previous: true,
            ..Launch::new(self.num_ctas(cuda, &config)?, to_u32(self.op, "config", num_threads)?)
        };
        // SAFETY: the arguments' type checked the extents against the tensors, which the caller keeps
        // until the stream has passed.
        unsafe { launch.enqueue(self.op, &stream.driver, kernel, &params) }
    }

    /// The caller's for this format, else the one that is estimated to be fastest.
    fn config(&self, cuda: &Cuda, out: &Output) -> Result<GemmConfig> {
        let format = self.a.format();
        if let Some(config) = cuda.gemm_config.filter(|config| config.format == format) {
            // The block below may be another group's, with other weights.
            if self.kind == GemmKind::Contiguous && config.cluster == Cluster::AlongM {
                let expected = "a cluster along N, or none, for groups in one matrix";
                return Err(Error::value(self.op, "config", expected, config.cluster));
            }
            // A stage is released when the products of the next are under way.
            if format == GemmFormat::Bf16 && config.num_stages < 2 {
                let expected = "at least 2 stages for BF16";
                return Err(Error::value(self.op, "config", expected, config.num_stages));
            }
            return Ok(config);
        }
        let [num_groups, n, k] = self.b.shape();
        let shape = GemmShape {
            num_groups: num_groups.max(1),
            format,
            out: out.format(),
            ..GemmShape::new(self.kind, self.expected_m.max(1), n.max(1), k.max(1))
        };
        let device = DeviceSpec { num_sms: cuda.num_sms(), ..DeviceSpec::H100_SXM };
        Ok(choose(&shape, &device, &ChooseOptions::default())?.config)
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
        let cluster_len = config.cluster.num_ctas();
        let most = (cuda.num_sms() / cluster_len).max(1);
        to_u32(self.op, "d", num_clusters.clamp(1, most) * cluster_len)
    }

    fn params(&self, stream: &CudaStream, config: &GemmConfig, out: Output) -> Result<GemmParams> {
        let (op, tile) = (self.op, config.tile);
        let [num_groups, n, k] = self.b.shape();
        let [_, m, _] = self.a.shape();
        let (cluster_shares, a_rows, b_rows) = match config.cluster {
            Cluster::Single => (ClusterShares::Nothing, tile.block_m, tile.block_n),
            Cluster::AlongM => (ClusterShares::B, tile.block_m, tile.block_n / 2),
            Cluster::AlongN => (ClusterShares::A, tile.block_m / 2, tile.block_n),
        };
        // A warpgroup stores all rows of a swapped tile, or 64 at a time.
        let d = out.map(tile.block_m.min(64))?;
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
            band_width: to_u32(op, "band_width", BAND_WIDTH)?,
            kind: out.kind(),
            cluster_shares,
            stores_by_tma: u32::from(d.is_some()),
            reserved: [0; 5],
        })
    }
}
