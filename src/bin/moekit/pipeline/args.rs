//! The command's arguments, and what they say to the library.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, ValueEnum};
use moekit::pipeline::{
    Colour, Costs, Jitter, Limits, Link, Overlap, OverlapSpec, Schedule, ScheduleKind, SearchSpec,
    Sends, SlowRank, StageTimes, Times, best_overlap, overlap,
};
use moekit::{Error, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Generate, check, simulate and draw a pipeline schedule, or rank all of them.
#[derive(Args, Debug)]
#[command(allow_negative_numbers = true)]
pub struct PipelineArgs {
    /// gpipe, 1f1b, interleaved, zb1p, dualpipe or dualpipev
    #[arg(long, value_name = "NAME", required_unless_present_any = ["file", "search"])]
    schedule: Option<String>,
    /// Check and simulate a schedule of your own (JSON; what --json prints is one)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["schedule", "ranks", "chunks", "search"])]
    file: Option<PathBuf>,
    /// Rank all schedules for the given times and memory
    #[arg(long, conflicts_with_all = ["schedule", "svg", "trace"])]
    pub search: bool,
    /// Number of pipeline ranks
    #[arg(long, value_name = "N", required_unless_present = "file")]
    ranks: Option<usize>,
    /// Number of chunks (micro-batches), both directions together
    #[arg(long, value_name = "N", required_unless_present = "file")]
    chunks: Option<usize>,
    /// Pipeline stages per rank of the interleaved schedule; with --search the most to try
    #[arg(long, value_name = "N", default_value_t = 2)]
    virtual_stages: u32,

    /// Time of a forward on one stage, in us [default: 1]
    #[arg(long, value_name = "US", help_heading = "Times")]
    f: Option<f64>,
    /// Time of a full backward [default: 2 F]
    #[arg(long, value_name = "US", help_heading = "Times")]
    b: Option<f64>,
    /// Time of a backward for weights; the backward for inputs is B - W [default: B / 2]
    #[arg(long, value_name = "US", help_heading = "Times")]
    w: Option<f64>,
    /// Time of an overlapped forward and backward [default: F + B]
    #[arg(long, value_name = "US", help_heading = "Times")]
    fb: Option<f64>,
    /// Times by rank: JSON [{"f":1,"b":2,"w":1,"fb":3}, ...], or a pair [{...},{...}] for the two
    /// directions in place of each
    #[arg(long, value_name = "FILE", conflicts_with_all = ["f", "b", "w", "fb", "search"], help_heading = "Times")]
    times: Option<PathBuf>,
    /// Times from the parts of a layer (attention, dispatch, experts, combine), overlapped on two
    /// streams: JSON
    #[arg(long, value_name = "FILE", conflicts_with_all = ["f", "b", "w", "fb", "times"], help_heading = "Times")]
    overlap: Option<PathBuf>,
    /// With --overlap: find the number of communication SMs that makes F&B shortest
    #[arg(long, requires = "overlap", help_heading = "Times")]
    best_split: bool,
    /// Vary every time by up to this part, at random
    #[arg(long, value_name = "PART", help_heading = "Times")]
    jitter: Option<f64>,
    /// Seed of --jitter
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Times")]
    seed: u64,
    /// A rank that takes FACTOR times as long
    #[arg(long, value_name = "RANK:FACTOR", help_heading = "Times")]
    slow_rank: Option<SlowRankArg>,

    /// Latency of a message between ranks, in us
    #[arg(long, value_name = "US", default_value_t = 0.0, help_heading = "Messages")]
    latency: f64,
    /// Bandwidth between two ranks, each way, in GB/s [default: infinite]
    #[arg(long, value_name = "GBPS", help_heading = "Messages")]
    bandwidth: Option<f64>,
    /// Bytes of a message
    #[arg(long, value_name = "BYTES", default_value_t = 0.0, help_heading = "Messages")]
    message_bytes: f64,
    /// Simulate blocking sends
    #[arg(long, help_heading = "Messages")]
    blocking: bool,
    /// Receives posted ahead under blocking sends, for each sender and sort of message
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Messages")]
    recv_buffers: usize,

    /// Refuse a schedule with more activations alive on a rank, in chunks on one stage
    #[arg(long, value_name = "N", help_heading = "Memory")]
    max_activations: Option<f64>,
    /// Part of a chunk's activations that stays alive between its I and its W
    #[arg(long, value_name = "PART", default_value_t = 1.0, help_heading = "Memory")]
    kept_for_weights: f64,
    /// With --search: bytes of the parameters of 1/ranks of the model
    #[arg(long, value_name = "BYTES", default_value_t = 0.0, help_heading = "Memory")]
    parameter_bytes: f64,
    /// With --search: bytes of the activations of one chunk on 1/ranks of the model
    #[arg(long, value_name = "BYTES", default_value_t = 0.0, help_heading = "Memory")]
    activation_bytes: f64,
    /// With --search: memory of a rank
    #[arg(long, value_name = "BYTES", help_heading = "Memory")]
    memory_limit: Option<f64>,

    /// Print JSON
    #[arg(long, help_heading = "Output")]
    pub json: bool,
    /// Write a Gantt chart
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub svg: Option<PathBuf>,
    /// Write a Chrome trace (JSON) for Perfetto
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub trace: Option<PathBuf>,
    /// Columns of the drawing [default: the terminal's, else 100]
    #[arg(long, value_name = "N", help_heading = "Output")]
    width: Option<usize>,
    /// Colours in the drawing
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = When::Auto, help_heading = "Output")]
    color: When,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum When {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    Always,
    Never,
}

#[derive(Clone, Copy, Debug)]
struct SlowRankArg(SlowRank);

impl FromStr for SlowRankArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(':').ok_or("expected RANK:FACTOR, such as 2:1.5")?;
        let rank_idx = parts.0.parse().map_err(|_| format!("`{}` is no rank", parts.0))?;
        let factor = parts.1.parse().map_err(|_| format!("`{}` is no factor", parts.1))?;
        Ok(Self(SlowRank { rank_idx, factor }))
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct TimesFile {
    f: f64,
    b: f64,
    w: f64,
    fb: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RankTimesFile {
    Both(TimesFile),
    Each([TimesFile; 2]),
}

impl TimesFile {
    fn times(self) -> StageTimes {
        let Self { f, b, w, fb } = self;
        StageTimes { f_us: f, b_us: b, w_us: w, fb_us: fb.unwrap_or(f + b) }
    }
}

impl PipelineArgs {
    pub fn schedule(&self) -> Result<Schedule> {
        match (&self.file, &self.schedule) {
            (Some(path), _) => Schedule::read(path),
            (None, Some(name)) => {
                let kind = match name.parse()? {
                    ScheduleKind::Interleaved { .. } => {
                        ScheduleKind::Interleaved { num_virtual_stages: self.virtual_stages }
                    }
                    kind => kind,
                };
                Schedule::generate(kind, self.num_pp_ranks(), self.num_chunks())
            }
            (None, None) => Err(Error::value("pipeline", "schedule", "a schedule", "none")),
        }
    }

    /// Returns the overlapped chunk of `--overlap`.
    pub fn overlap(&self) -> Result<Option<Overlap>> {
        let Some(path) = &self.overlap else { return Ok(None) };
        let spec: OverlapSpec = read_json(path, "overlapped chunk (JSON)")?;
        let result = if self.best_split { best_overlap(&spec) } else { overlap(&spec) };
        result.map(Some)
    }

    pub fn costs(&self, overlap: Option<&Overlap>) -> Result<Costs> {
        let times = match &self.times {
            None => Times::Uniform(self.stage_times(overlap)),
            Some(path) => {
                let ranks: Vec<RankTimesFile> = read_json(path, "times by rank (JSON)")?;
                let pair = |times| match times {
                    RankTimesFile::Both(times) => [times.times(); 2],
                    RankTimesFile::Each(times) => times.map(TimesFile::times),
                };
                Times::PerRank(ranks.into_iter().map(pair).collect())
            }
        };
        Ok(Costs {
            times,
            link: self.link(),
            sends: match self.blocking {
                true => Sends::Blocking { num_recv_buffers: self.recv_buffers },
                false => Sends::Buffered,
            },
            jitter: self.jitter.map(|relative| Jitter { relative, seed: self.seed }),
            slow_rank: self.slow_rank.map(|SlowRankArg(slow)| slow),
            kept_for_weights: self.kept_for_weights,
        })
    }

    pub fn limits(&self) -> Limits {
        Limits {
            num_recv_buffers: self.recv_buffers,
            max_activations: self.max_activations,
            kept_for_weights: self.kept_for_weights,
        }
    }

    pub fn search_spec(&self, overlap: Option<&Overlap>) -> SearchSpec {
        SearchSpec {
            num_pp_ranks: self.num_pp_ranks(),
            num_chunks: self.num_chunks(),
            times: self.stage_times(overlap),
            link: self.link(),
            kept_for_weights: self.kept_for_weights,
            parameter_bytes: self.parameter_bytes,
            activation_bytes: self.activation_bytes,
            memory_limit_bytes: self.memory_limit,
            max_virtual_stages: self.virtual_stages,
        }
    }

    /// The flag that sets an argument of the library; the argument itself if a file does.
    pub fn flag_of(&self, arg: &'static str) -> &'static str {
        let from_flags = self.times.is_none() && self.overlap.is_none();
        match arg {
            "num_pp_ranks" if self.file.is_none() => "--ranks (num_pp_ranks)",
            "num_chunks" if self.file.is_none() => "--chunks (num_chunks)",
            "num_virtual_stages" if self.file.is_none() => "--virtual-stages (num_virtual_stages)",
            "max_virtual_stages" => "--virtual-stages",
            "f_us" if from_flags => "--f",
            "b_us" if from_flags => "--b",
            "w_us" if from_flags => "--w",
            "fb_us" if from_flags => "--fb",
            "schedule" => "--schedule",
            "times" => "--times",
            "jitter" => "--jitter",
            "slow_rank" => "--slow-rank",
            "latency_us" => "--latency",
            "bandwidth_gbps" => "--bandwidth",
            "message_bytes" => "--message-bytes",
            "max_activations" => "--max-activations",
            "kept_for_weights" => "--kept-for-weights",
            "parameter_bytes" => "--parameter-bytes",
            "activation_bytes" => "--activation-bytes",
            "memory_limit_bytes" => "--memory-limit",
            other => other,
        }
    }

    /// Returns the width of the drawing.
    pub fn columns(&self) -> usize {
        let of_terminal = || {
            let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
            (size.ws_col > 0).then_some(usize::from(size.ws_col))
        };
        self.width.or_else(of_terminal).unwrap_or(100).min(10_000)
    }

    pub fn colour(&self) -> Colour {
        let is_wanted = match self.color {
            When::Always => true,
            When::Never => false,
            When::Auto => std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        };
        if is_wanted { Colour::Always } else { Colour::Never }
    }

    fn num_pp_ranks(&self) -> usize {
        self.ranks.unwrap_or_default()
    }

    fn num_chunks(&self) -> usize {
        self.chunks.unwrap_or_default()
    }

    fn stage_times(&self, overlap: Option<&Overlap>) -> StageTimes {
        if let Some(overlap) = overlap {
            return overlap.times;
        }
        let f_us = self.f.unwrap_or(1.0);
        let b_us = self.b.unwrap_or(2.0 * f_us);
        let w_us = self.w.unwrap_or(b_us / 2.0);
        StageTimes { f_us, b_us, w_us, fb_us: self.fb.unwrap_or(f_us + b_us) }
    }

    fn link(&self) -> Link {
        Link {
            latency_us: self.latency,
            bandwidth_gbps: self.bandwidth.unwrap_or(f64::INFINITY),
            message_bytes: self.message_bytes,
        }
    }
}

fn read_json<T: DeserializeOwned>(path: &Path, format: &'static str) -> Result<T> {
    let bytes = std::fs::read(path).map_err(|source| Error::io("moekit pipeline", path, source))?;
    serde_json::from_slice(&bytes).map_err(|error| Error::Format {
        path: path.into(),
        format,
        problem: error.to_string(),
    })
}
