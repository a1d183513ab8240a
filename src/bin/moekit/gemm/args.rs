//! The command's arguments, and the shape that they describe.

use clap::{Args, ValueEnum};
use moekit::backend::cuda::heuristics::SPLITS;
use moekit::gemm::{GemmFormat, GemmKind, GemmOutFormat, GemmShape};
use moekit::{Error, Result};

use crate::output::OutputArgs;

const OP: &str = "gemm";

/// Which kernel a matrix product takes on a GPU and why; needs no GPU.
#[derive(Debug, Args)]
pub struct GemmArgs {
    /// Explain the choice for a product: rows (of a group), columns, depth (of a group)
    #[arg(long, num_args = 3, value_names = ["M", "N", "K"], required_unless_present = "model")]
    pub explain: Option<Vec<usize>>,

    /// Compare the time model with rates that DeepGEMM published, and say what it expects of moekit
    #[arg(long, value_name = "DEVICE", conflicts_with_all = ["explain", "layout", "max_m", "groups", "format", "out", "split_k", "device"])]
    pub model: Option<String>,

    /// How the groups lie
    #[arg(long, value_enum, default_value_t = LayoutArg::Dense)]
    layout: LayoutArg,

    /// Rows that each group has room for, if masked: none has more
    #[arg(long, value_name = "N")]
    max_m: Option<usize>,

    /// Groups (experts); M and K are those of one
    #[arg(long, value_name = "N", default_value_t = 1)]
    groups: usize,

    /// Format of A and B
    #[arg(long, value_enum, default_value_t = FormatArg::Fp8)]
    format: FormatArg,

    /// Format of D [default: bf16; k-grouped: f32-accumulate]; swiglu-fp8: activated and quantised, N counting gate and
    /// up-projection
    #[arg(long, value_enum)]
    out: Option<OutArg>,

    /// Cut K into up to so many parts, as `Cuda::with_max_split_k` does: 1, 2, 4 or 8. Rows then have other bits in other
    /// company
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub split_k: usize,

    /// h100, h800 or h200
    #[arg(long, value_name = "NAME", default_value = "h100")]
    pub device: String,

    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LayoutArg {
    Dense,
    Contiguous,
    Masked,
    KGrouped,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FormatArg {
    Fp8,
    Bf16,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OutArg {
    Bf16,
    F32,
    F32Accumulate,
    SwigluFp8,
}

impl GemmArgs {
    /// The product to explain.
    pub fn shape(&self) -> Result<GemmShape> {
        let kind = match self.layout {
            LayoutArg::Dense => GemmKind::Dense,
            LayoutArg::Contiguous => GemmKind::Contiguous,
            LayoutArg::Masked => GemmKind::Masked,
            LayoutArg::KGrouped => GemmKind::KGrouped,
        };
        let &[m, n, k] = self.explain.as_deref().unwrap_or_default() else {
            return Err(Error::value(OP, "--explain", "M N K", "other"));
        };
        // Far beyond any memory, and still countable.
        let extents = [("M", m), ("N", n), ("K", k), ("--groups", self.groups)];
        for (arg, extent) in extents {
            let least = usize::from(arg != "M");
            if !(least..=1 << 24).contains(&extent) {
                return Err(Error::value(OP, arg, format!("{least} to {}", 1 << 24), extent));
            }
        }
        if kind == GemmKind::Dense && self.groups != 1 {
            return Err(Error::value(OP, "--groups", "1 (the layout is dense)", self.groups));
        }
        if let Some(max_m) = self.max_m {
            if kind != GemmKind::Masked {
                return Err(Error::value(
                    OP,
                    "--max-m",
                    "none (no layout but masked has it)",
                    max_m,
                ));
            }
            if max_m < m {
                return Err(Error::value(OP, "--max-m", format!("M or more: {m}"), max_m));
            }
        }
        let multiple = if kind == GemmKind::KGrouped { 128 } else { 16 };
        if !k.is_multiple_of(multiple) {
            return Err(Error::value(OP, "K", format!("a multiple of {multiple}"), k));
        }
        if !SPLITS.contains(&self.split_k) {
            return Err(Error::value(OP, "--split-k", "1, 2, 4 or 8", self.split_k));
        }
        let format = match self.format {
            FormatArg::Fp8 => GemmFormat::Fp8,
            FormatArg::Bf16 => GemmFormat::Bf16,
        };
        let shape = GemmShape::new(kind, m, n, k);
        let out = match self.out {
            None => shape.out,
            Some(OutArg::Bf16) => GemmOutFormat::Bf16,
            Some(OutArg::F32) => GemmOutFormat::F32,
            Some(OutArg::F32Accumulate) => GemmOutFormat::F32Accumulate,
            Some(OutArg::SwigluFp8) => {
                let is_grouped = matches!(kind, GemmKind::Contiguous | GemmKind::Masked);
                if !is_grouped || format != GemmFormat::Fp8 {
                    let expected = "FP8 in the contiguous or the masked layout";
                    return Err(Error::value(OP, "--out swiglu-fp8", expected, "another product"));
                }
                if !n.is_multiple_of(256) {
                    return Err(Error::value(OP, "N", "a multiple of 256", n));
                }
                GemmOutFormat::SwigluFp8
            }
        };
        Ok(GemmShape { format, out, num_groups: self.groups, max_m: self.max_m, ..shape })
    }
}
