//! How long a launch should take. A model, not a measurement.
//!
//! A CTA's time for a block of K is the longest of: the tensor cores' plus what the warpgroups add between
//! products; the way from L2; the ring's refill. A tile adds its start and its epilogue. Waves of tiles follow
//! each other. Where K is in parts, a tile has the longest one's blocks, and then adds the parts up. Device memory
//! works beside all that, imperfectly: the two times add as the root of their squares.

use serde::Serialize;

use super::config::{Cluster, GemmConfig};
use super::split::{exchange_cycles, part_lens};
use super::waves::Tiles;
use crate::cost::DeviceSpec;
use crate::gemm::{GemmFormat, GemmOutFormat, GemmShape};
use crate::num::ceil_div;

/// What keeps a kernel from a device's best figures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Efficiency {
    /// Clock that the SMs keep up under load, over the highest.
    pub clock: f64,
    /// Bandwidth that device memory keeps up, over the maker's.
    pub hbm: f64,
    /// Cycles that a block of K adds to the tensor cores' own: barriers, and what of the promotion is
    /// not hidden.
    pub k_block_cycles: f64,
    /// Cycles that a tile adds: filling the ring, epilogue.
    pub tile_cycles: f64,
}

impl Efficiency {
    /// Fitted to the [published rates](super::PUBLISHED), by least squares of the ratios' logarithms.
    pub const FITTED: Self =
        Self { clock: 0.919, hbm: 0.918, k_block_cycles: 127.0, tile_cycles: 3200.0 };
    /// Nothing is lost.
    pub const IDEAL: Self = Self { clock: 1.0, hbm: 1.0, k_block_cycles: 0.0, tile_cycles: 0.0 };
}

/// What an estimated time is mostly made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// The tensor cores.
    Tensor,
    /// Device memory.
    Hbm,
    /// The way from L2 into shared memory.
    L2,
    /// Waiting: barriers, ring refills, the tile's start and end.
    Latency,
}

/// An estimated time and where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// All together.
    pub time_us: f64,
    /// Of the CTAs, all waves.
    pub cta_us: f64,
    /// Of the tensor cores in it.
    pub tensor_us: f64,
    /// Of the way from L2 in it, beside the tensor cores.
    pub l2_us: f64,
    /// Of all else in it.
    pub latency_us: f64,
    /// Of device memory.
    pub hbm_us: f64,
    /// Bytes that leave L2 for the SMs; what a cluster shares leaves once.
    pub l2_bytes: u64,
    /// Tiles, those of clusters' missing partners among them, as many for a block of D as K has parts; on average, if
    /// groups' rows vary.
    pub num_tiles: f64,
    /// Rounds in which each SM has one tile at most; on average, if groups' rows vary.
    pub num_waves: f64,
    /// Tiles over the waves' room, at most 1.
    pub wave_efficiency: f64,
    /// The longest part.
    pub bound: Bound,
}

/// Bytes that an SM takes from L2 in a cycle.
///
/// NVIDIA's figure for A100 and H100 (5120 bytes per cycle of the whole L2 for reads are less, but two SMs that ask for
/// the same line are answered at once, and tiles of a wave share most lines).
const L2_BYTES_PER_CYCLE: f64 = 64.0;
/// Bytes that the tensor cores take from shared memory in a cycle.
const SMEM_BYTES_PER_CYCLE: f64 = 128.0;
/// Cycles from a load's issue to its arrival from device memory, with the memory busy.
const LOAD_LATENCY_CYCLES: f64 = 1000.0;
/// Rows of one tensor-core instruction, bytes of K that it takes, and instructions for a block's 128 bytes.
const MMA_ROWS: usize = 64;
const MMA_K_BYTES: f64 = 32.0;
const MMAS_PER_K_BLOCK: f64 = 4.0;
/// Cycles in which a warp activates and quantises a row of a tile, by its instructions; warps that do so beside the
/// products, and with the products' warps at the end of a CTA's last tile.
const ACTIVATION_CYCLES: f64 = 500.0;
const ACTIVATING_WARPS: f64 = 2.0;
const ACTIVATING_WARPS_AT_END: f64 = 10.0;

impl Estimate {
    /// Estimates a launch.
    pub fn new(
        shape: &GemmShape,
        config: &GemmConfig,
        device: &DeviceSpec,
        efficiency: &Efficiency,
    ) -> Self {
        let tiles = Tiles::new(shape, config);
        let (num_tiles, num_waves) = (tiles.mean(), tiles.num_waves(config.num_sms));
        let [_, longest_part] = part_lens(shape, config.split_k);
        let num_k_blocks = longest_part as f64;
        let tensor = tensor_cycles(config, device);
        let l2 = l2_cycles(config);
        let refill = LOAD_LATENCY_CYCLES / config.num_stages as f64;
        let k_block = (tensor + efficiency.k_block_cycles).max(l2).max(refill);
        // 10^3 cycles per microsecond and GHz.
        let cycles_to_us =
            |cycles: f64| num_waves * cycles / (1e3 * device.clock_ghz * efficiency.clock);
        let activation = activation_cycles(shape, config);
        let exchange = exchange_cycles(&config.tile, config.split_k);
        let tile = num_k_blocks * k_block + efficiency.tile_cycles + exchange;
        let at_end = activation / ACTIVATING_WARPS_AT_END / num_waves.max(1.0);
        let cta_us = cycles_to_us(tile.max(activation / ACTIVATING_WARPS) + at_end);
        let tensor_us = cycles_to_us(num_k_blocks * tensor);
        let l2_us = cycles_to_us(num_k_blocks * (l2 - tensor).max(0.0));
        let latency_us = cta_us - tensor_us - l2_us;
        let hbm_us = shape.cost().hbm_bytes as f64 / (device.hbm_gb_per_s * efficiency.hbm * 1e3);
        let parts = [
            (Bound::Tensor, tensor_us),
            (Bound::Hbm, hbm_us),
            (Bound::L2, l2_us),
            (Bound::Latency, latency_us),
        ];
        let longest = parts.into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
        Self {
            time_us: (cta_us * cta_us + hbm_us * hbm_us).sqrt(),
            cta_us,
            tensor_us,
            l2_us,
            latency_us,
            hbm_us,
            l2_bytes: (num_tiles / config.split_k as f64 * l2_tile_bytes(shape, config) as f64)
                as u64,
            num_tiles,
            num_waves,
            wave_efficiency: num_tiles / (num_waves * device.num_sms as f64).max(1.0),
            bound: longest.map_or(Bound::Latency, |(bound, _)| bound),
        }
    }

    /// 10^12 operations per second that the time means for `shape`.
    pub fn tflops(&self, shape: &GemmShape) -> f64 {
        shape.cost().flops() as f64 / (self.time_us * 1e6)
    }
}

/// Cycles of the tensor cores for a block of K, or of shared memory that feeds them.
fn tensor_cycles(config: &GemmConfig, device: &DeviceSpec) -> f64 {
    let num_rows = ceil_div(config.tile.mma_m(), MMA_ROWS) as f64;
    let mma_n = config.tile.mma_n() as f64;
    let mma_k = MMA_K_BYTES / config.format.element_bytes() as f64;
    let flops_per_cycle = match config.format {
        GemmFormat::Fp8 => device.fp8_flops_per_cycle(),
        GemmFormat::Bf16 => device.bf16_flops_per_cycle(),
    };
    let math = 2.0 * MMA_ROWS as f64 * mma_n * mma_k / flops_per_cycle;
    let feed = (MMA_ROWS as f64 + mma_n) * MMA_K_BYTES / SMEM_BYTES_PER_CYCLE;
    MMAS_PER_K_BLOCK * num_rows * math.max(feed)
}

/// Cycles of one warp that activates a tile alone; none if that is no part of the product.
fn activation_cycles(shape: &GemmShape, config: &GemmConfig) -> f64 {
    match shape.out {
        GemmOutFormat::SwigluFp8 => config.tile.block_m as f64 * ACTIVATION_CYCLES,
        _ => 0.0,
    }
}

/// Bytes of A and B that a CTA receives for a block of K.
fn k_block_bytes(config: &GemmConfig) -> usize {
    let row_bytes = config.block_k * config.format.element_bytes();
    (config.tile.block_m + config.tile.block_n) * row_bytes
}

fn l2_cycles(config: &GemmConfig) -> f64 {
    k_block_bytes(config) as f64 / L2_BYTES_PER_CYCLE
}

/// Bytes that leave L2 for a tile, all of K: half of what it shares with another.
fn l2_tile_bytes(shape: &GemmShape, config: &GemmConfig) -> u64 {
    let row_bytes = config.block_k * config.format.element_bytes();
    let shared_rows = match config.cluster {
        Cluster::Single => 0,
        Cluster::AlongM => config.tile.block_n,
        Cluster::AlongN => config.tile.block_m,
    };
    let block = k_block_bytes(config) - shared_rows * row_bytes / 2;
    (block * shape.num_k_blocks()) as u64
}
