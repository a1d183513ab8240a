//! The choice for one product, and why.

use std::collections::BTreeMap;
use std::fmt::Write;

use moekit::Result;
use moekit::backend::cuda::heuristics::{
    Bound, Candidate, Choice, ChooseOptions, GemmConfig, SwigluFusion, Verdict, choose,
};
use moekit::cost::{DeviceSpec, Floor};
use moekit::gemm::{GemmFormat, GemmKind, GemmOutFormat, GemmShape};
use serde::Serialize;

use super::args::GemmArgs;

/// Legal candidates that the text shows.
const NUM_SHOWN: usize = 8;

#[derive(Serialize)]
pub struct Report {
    shape: GemmShape,
    device: DeviceSpec,
    floor: Floor,
    /// Parts that K may be cut into.
    #[serde(skip)]
    max_split_k: usize,
    /// Beside the two stages, for a product with its activation.
    fusion: Option<SwigluFusion>,
    #[serde(flatten)]
    choice: Choice,
}

/// Chooses, and keeps all that was looked at.
pub fn report(args: &GemmArgs) -> Result<Report> {
    let shape = args.shape()?;
    let device = DeviceSpec::named(&args.device)?;
    let options = ChooseOptions { max_split_k: args.split_k, ..ChooseOptions::default() };
    let choice = choose(&shape, &device, &options)?;
    let fusion = match shape.out {
        GemmOutFormat::SwigluFp8 => Some(SwigluFusion::new(&shape, &device, &options)?),
        _ => None,
    };
    let (floor, max_split_k) = (shape.cost().floor(&device), args.split_k);
    Ok(Report { floor, shape, device, max_split_k, fusion, choice })
}

/// Tile, cluster and parts of K in words.
pub fn describe(config: &GemmConfig) -> String {
    let tile = &config.tile;
    let mut text = format!("{}x{}", tile.block_m, tile.block_n);
    if tile.swap_ab {
        text += " swapped";
    }
    if config.cluster.num_ctas() > 1 {
        let _ = write!(text, ", {}", config.cluster);
    }
    if config.split_k > 1 {
        let _ = write!(text, ", K cut in {}", config.split_k);
    }
    text
}

pub fn bound_name(bound: Bound) -> &'static str {
    match bound {
        Bound::Tensor => "tensor cores",
        Bound::Hbm => "memory",
        Bound::L2 => "L2",
        Bound::Latency => "latency",
    }
}

impl Report {
    pub fn text(&self) -> String {
        let mut text = String::new();
        // NOTE: writing to a string cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let Self { shape, device, floor, fusion, choice, .. } = self;
        let (config, estimate) = (&choice.config, &choice.estimate);
        writeln!(text, "product    {}", describe_shape(shape))?;
        writeln!(text, "device     {}, {} SMs", device.name, device.num_sms)?;
        let warpgroups = config.num_math_warpgroups;
        let plural = if warpgroups == 1 { "" } else { "s" };
        writeln!(text, "tile       {}; {warpgroups} math warpgroup{plural}", describe(config))?;
        writeln!(
            text,
            "waves      {} tiles in {} waves of {} CTAs; the waves' room is {:.1} % full",
            mean(estimate.num_tiles),
            mean(estimate.num_waves),
            config.num_sms,
            100.0 * estimate.wave_efficiency,
        )?;
        self.write_split(text)?;
        writeln!(
            text,
            "ring       {} stages of {} of K; {} of {} bytes of shared memory",
            config.num_stages, config.block_k, config.smem_bytes, device.max_smem_bytes,
        )?;
        writeln!(
            text,
            "estimate   {:.1} us, {:.0} TFLOP/s, bound by {}: CTAs {:.1} us (tensor cores {:.1}, L2 {:.1}, latency {:.1}), memory {:.1} us",
            estimate.time_us,
            estimate.tflops(shape),
            bound_name(estimate.bound),
            estimate.cta_us,
            estimate.tensor_us,
            estimate.l2_us,
            estimate.latency_us,
            estimate.hbm_us,
        )?;
        let floor_us = floor.time_us();
        writeln!(
            text,
            "floor      {floor_us:.1} us (tensor cores {:.1}, memory {:.1}); the estimate is {:.2} x floor",
            floor.tensor_us,
            floor.hbm_us,
            estimate.time_us / floor_us,
        )?;
        if let Some(fusion) = fusion {
            writeln!(
                text,
                "two stages {:.1} us (product {:.1}, SwiGLU {:.1}): one {}",
                fusion.two_stages_us(),
                fusion.product_us,
                fusion.swiglu_us,
                if fusion.pays() { "pays" } else { "does not pay" },
            )?;
        }
        self.write_candidates(text)?;
        writeln!(
            text,
            "\nEstimates are a model's, fitted to published rates; nothing was measured here."
        )
    }

    /// Why K is in parts, or why it is not although it may be.
    fn write_split(&self, text: &mut String) -> std::fmt::Result {
        if self.max_split_k == 1 {
            return Ok(());
        }
        let Choice { config, estimate, candidates } = &self.choice;
        let best = |is_cut: bool| {
            candidates.iter().find_map(|candidate| match &candidate.verdict {
                Verdict::Legal(estimate) if is_cut == (candidate.config.split_k > 1) => {
                    Some(format!("{:.1} us ({})", estimate.time_us, describe(&candidate.config)))
                }
                _ => None,
            })
        };
        if config.split_k > 1 {
            let whole = best(false).unwrap_or_else(|| "impossible".to_owned());
            let num_tiles = estimate.num_tiles / config.split_k as f64;
            writeln!(
                text,
                "split      K in {} parts, a CTA each: {} whole tiles would take {} of {} SMs; the best with K whole: {whole}",
                config.split_k,
                mean(num_tiles),
                num_tiles.ceil().min(self.device.num_sms as f64),
                self.device.num_sms,
            )
        } else if let Some(cut) = best(true) {
            writeln!(text, "split      K stays whole: in parts it would take no less, {cut}")
        } else {
            writeln!(text, "split      K stays whole: no tile's may be cut, as said below")
        }
    }

    fn write_candidates(&self, text: &mut String) -> std::fmt::Result {
        let candidates = &self.choice.candidates;
        let num_legal = candidates.iter().filter(|c| legal(c)).count();
        writeln!(text, "\nlegal candidates, {num_legal}, the least estimated time first")?;
        writeln!(
            text,
            "  {:<28} {:>6} {:>5} {:>6} {:>8} {:>9}",
            "tile", "stages", "waves", "full", "us", "L2 MB"
        )?;
        for candidate in candidates.iter().take(NUM_SHOWN) {
            let Verdict::Legal(estimate) = &candidate.verdict else { break };
            writeln!(
                text,
                "  {:<28} {:>6} {:>5} {:>4.0} % {:>8.1} {:>9.1}",
                describe(&candidate.config),
                candidate.config.num_stages,
                mean(estimate.num_waves),
                100.0 * estimate.wave_efficiency,
                estimate.time_us,
                estimate.l2_bytes as f64 / 1e6,
            )?;
        }
        let mut reasons = BTreeMap::<String, Vec<String>>::new();
        for candidate in candidates {
            if let Verdict::Rejected(rejection) = &candidate.verdict {
                let tiles = reasons.entry(rejection.to_string()).or_default();
                tiles.push(describe(&candidate.config));
            }
        }
        writeln!(text, "\nrejected candidates, {}", candidates.len() - num_legal)?;
        for (reason, tiles) in reasons {
            writeln!(text, "  {:>3}  {reason} ({}, ..)", tiles.len(), tiles[0])?;
        }
        Ok(())
    }
}

/// With a digit behind the point, if it is no whole number.
pub fn mean(number: f64) -> String {
    if number.fract() == 0.0 { number.to_string() } else { format!("{number:.1}") }
}

fn legal(candidate: &Candidate) -> bool {
    matches!(candidate.verdict, Verdict::Legal(_))
}

fn describe_shape(shape: &GemmShape) -> String {
    let format = match shape.format {
        GemmFormat::Fp8 => "FP8",
        GemmFormat::Bf16 => "BF16",
    };
    let kind = match shape.kind {
        GemmKind::Dense => "dense",
        GemmKind::Contiguous => "contiguous",
        GemmKind::Masked => "masked",
        GemmKind::KGrouped => "k-grouped",
    };
    let activated = match shape.out {
        GemmOutFormat::SwigluFp8 => ", activated",
        _ => "",
    };
    let groups = match shape.num_groups {
        1 => String::new(),
        num => format!("{num} groups of "),
    };
    let deviation = match (shape.m_deviation, shape.max_m) {
        (0, _) => String::new(),
        (rows, None) => format!(" (M varies by {rows})"),
        (rows, Some(max_m)) => format!(" (M varies by {rows} up to {max_m})"),
    };
    format!(
        "{format} {kind}, {groups}{} x {} x {}{deviation}{activated}",
        shape.m, shape.n, shape.k
    )
}
