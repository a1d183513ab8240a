//! What operations and messages cost.

use crate::pipeline::{Op, OpKind, Schedule};
use crate::{Error, Result};

const OP: &str = "pipeline";

/// Times of one chunk on one pp_stage, in µs.
///
/// `I = B - W`. Only ratios matter where there are no messages to pay for, so any other unit does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StageTimes {
    /// F: forward.
    pub f_us: f64,
    /// B: full backward.
    pub b_us: f64,
    /// W: backward for weights.
    pub w_us: f64,
    /// F&B: an overlapped forward and full backward.
    pub fb_us: f64,
}

impl StageTimes {
    /// Returns I, the backward for inputs.
    pub fn i_us(&self) -> f64 {
        self.b_us - self.w_us
    }

    /// Returns all times multiplied by `factor`.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        Self {
            f_us: self.f_us * factor,
            b_us: self.b_us * factor,
            w_us: self.w_us * factor,
            fb_us: self.fb_us * factor,
        }
    }

    /// Checks that the times are finite and not negative, and that `w_us <= b_us`.
    ///
    /// # Errors
    ///
    /// [`Error::Value`] that names the time.
    pub fn validate(&self) -> Result<()> {
        let all =
            [("f_us", self.f_us), ("b_us", self.b_us), ("w_us", self.w_us), ("fb_us", self.fb_us)];
        for (arg, time_us) in all {
            not_negative(arg, time_us)?;
        }
        if self.w_us > self.b_us {
            let expected = format!("at most b_us = {}", self.b_us);
            return Err(Error::value(OP, "w_us", expected, self.w_us));
        }
        Ok(())
    }

    fn of(&self, op: Op) -> f64 {
        match op {
            Op::Single(OpKind::F, _) => self.f_us,
            Op::Single(OpKind::B, _) => self.b_us,
            Op::Single(OpKind::I, _) => self.i_us(),
            Op::Single(OpKind::W, _) => self.w_us,
            Op::Overlapped { .. } => self.fb_us,
        }
    }
}

/// The default unit: F = I = W = 1, B = 2, and F&B = 3, which overlaps nothing.
impl Default for StageTimes {
    fn default() -> Self {
        Self { f_us: 1.0, b_us: 2.0, w_us: 1.0, fb_us: 3.0 }
    }
}

/// Times of every rank in both directions.
#[derive(Clone, Debug, PartialEq)]
pub enum Times {
    /// The same everywhere.
    Uniform(StageTimes),
    /// `[num_pp_ranks]`, each `[direction 0, direction 1]`. An overlapped pair takes the F&B of
    /// its forward's direction.
    PerRank(Vec<[StageTimes; 2]>),
}

impl Times {
    pub(crate) fn validate(&self, num_pp_ranks: usize) -> Result<()> {
        match self {
            Self::Uniform(times) => times.validate(),
            Self::PerRank(ranks) if ranks.len() != num_pp_ranks => {
                let expected = format!("one entry for each of {num_pp_ranks} ranks");
                Err(Error::value(OP, "times", expected, format!("a list of {}", ranks.len())))
            }
            Self::PerRank(ranks) => ranks.iter().flatten().try_for_each(StageTimes::validate),
        }
    }

    fn at(&self, rank_idx: usize, direction: u8) -> &StageTimes {
        match self {
            Self::Uniform(times) => times,
            Self::PerRank(ranks) => &ranks[rank_idx][usize::from(direction)],
        }
    }
}

/// What a message between two ranks costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// From the end of the transfer at the sender to its end at the receiver, in µs.
    pub latency_us: f64,
    /// Bandwidth of each direction between two ranks, in GB/s (1e9 bytes); infinite = free.
    pub bandwidth_gbps: f64,
    /// Bytes of one message: the activations of one chunk at a pp_stage's border.
    pub message_bytes: f64,
}

impl Link {
    /// Returns how long one message occupies the link.
    pub fn transfer_us(&self) -> f64 {
        self.message_bytes / (self.bandwidth_gbps * 1e3)
    }

    pub(crate) fn validate(&self) -> Result<()> {
        not_negative("latency_us", self.latency_us)?;
        not_negative("message_bytes", self.message_bytes)?;
        if self.bandwidth_gbps > 0.0 {
            Ok(())
        } else {
            Err(Error::value(OP, "bandwidth_gbps", "more than 0", self.bandwidth_gbps))
        }
    }
}

/// A link that costs nothing.
impl Default for Link {
    fn default() -> Self {
        Self { latency_us: 0.0, bandwidth_gbps: f64::INFINITY, message_bytes: 0.0 }
    }
}

/// Whether a rank waits until its messages are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sends {
    /// A rank goes on at once; messages wait in unbounded buffers.
    Buffered,
    /// Before its next operation a rank waits until the messages of the last one are with their
    /// receivers. All of an operation's messages, and the receives of the next operation, are
    /// posted together.
    Blocking {
        /// Receives posted ahead for each sender and sort of message (activations, gradients).
        /// With 0, a receive is posted only when its operation is next.
        num_recv_buffers: usize,
    },
}

/// Random variation of operation times: each is multiplied by `1 + relative * u`, `u` uniform in
/// [-1, 1), drawn from the seed, the rank and the operation's position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Jitter {
    /// Largest relative deviation, in [0, 1].
    pub relative: f64,
    /// Seed: equal seeds give equal times.
    pub seed: u64,
}

/// One rank whose operations all take `factor` times as long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowRank {
    /// The rank.
    pub rank_idx: usize,
    /// The factor, at least 0.
    pub factor: f64,
}

/// Everything that a simulation is told beside the schedule.
#[derive(Clone, Debug, PartialEq)]
pub struct Costs {
    /// Times of the operations.
    pub times: Times,
    /// Cost of the messages.
    pub link: Link,
    /// Whether sends block.
    pub sends: Sends,
    /// Random variation.
    pub jitter: Option<Jitter>,
    /// A slow rank.
    pub slow_rank: Option<SlowRank>,
    /// Part of a chunk's activations that stays alive between its I and its W, in [0, 1].
    pub kept_for_weights: f64,
}

impl Costs {
    /// Returns costs with the same times everywhere, free and buffered messages, no variation, and
    /// all activations kept until W.
    pub fn uniform(times: StageTimes) -> Self {
        Self {
            times: Times::Uniform(times),
            link: Link::default(),
            sends: Sends::Buffered,
            jitter: None,
            slow_rank: None,
            kept_for_weights: 1.0,
        }
    }

    pub(crate) fn validate(&self, num_pp_ranks: usize) -> Result<()> {
        self.times.validate(num_pp_ranks)?;
        self.link.validate()?;
        if let Some(jitter) = self.jitter {
            in_unit_interval("jitter", jitter.relative)?;
        }
        if let Some(slow) = self.slow_rank {
            not_negative("slow_rank factor", slow.factor)?;
            if slow.rank_idx >= num_pp_ranks {
                let expected = format!("a rank below {num_pp_ranks}");
                return Err(Error::value(OP, "slow_rank", expected, slow.rank_idx));
            }
        }
        in_unit_interval("kept_for_weights", self.kept_for_weights)
    }

    /// Returns how long every operation takes.
    pub(crate) fn durations(&self, schedule: &Schedule) -> Vec<Vec<f64>> {
        let on_rank = |(rank_idx, ops): (usize, &Vec<Op>)| {
            let factor = match self.slow_rank {
                Some(slow) if slow.rank_idx == rank_idx => slow.factor,
                _ => 1.0,
            };
            let duration = |(op_idx, op): (usize, &Op)| {
                let (_, cell) = op.parts().next().expect("an operation has a part");
                let time_us = self.times.at(rank_idx, cell.direction).of(*op);
                let wobble = self.jitter.map_or(1.0, |jitter| jitter.factor(rank_idx, op_idx));
                time_us * factor * wobble
            };
            ops.iter().enumerate().map(duration).collect()
        };
        schedule.ranks.iter().enumerate().map(on_rank).collect()
    }
}

impl Jitter {
    fn factor(&self, rank_idx: usize, op_idx: usize) -> f64 {
        let place = ((rank_idx as u64) << 32) | op_idx as u64;
        let bits = splitmix64(splitmix64(self.seed).wrapping_add(place));
        // The upper 53 bits fill an f64's mantissa.
        let uniform = (bits >> 11) as f64 / (1u64 << 53) as f64;
        1.0 + self.relative * (2.0 * uniform - 1.0)
    }
}

/// Steele, Lea, Flood 2014: one step of SplitMix64.
fn splitmix64(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

pub(crate) fn not_negative(arg: &'static str, value: f64) -> Result<()> {
    if value.is_finite() && value >= 0.0 {
        Ok(())
    } else {
        Err(Error::value(OP, arg, "a finite number of at least 0", value))
    }
}

fn in_unit_interval(arg: &'static str, value: f64) -> Result<()> {
    if (0.0..=1.0).contains(&value) {
        Ok(())
    } else {
        Err(Error::value(OP, arg, "a number in [0, 1]", value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within_its_part_and_averages_to_nothing() {
        let jitter = Jitter { relative: 0.25, seed: 3 };
        let factors: Vec<f64> = (0..8)
            .flat_map(|rank_idx| (0..1000).map(move |op_idx| jitter.factor(rank_idx, op_idx)))
            .collect();
        assert!(factors.iter().all(|factor| (0.75..1.25).contains(factor)));
        let mean = factors.iter().sum::<f64>() / factors.len() as f64;
        // The mean of 8000 uniform draws has a standard deviation of 0.0016.
        assert!((mean - 1.0).abs() < 0.008, "mean {mean}");
        assert_ne!(jitter.factor(0, 1), jitter.factor(1, 0));
    }

    #[test]
    fn links_cost_bytes_over_bandwidth() {
        let link = Link { bandwidth_gbps: 50.0, message_bytes: 1e6, ..Link::default() };
        assert_eq!(link.transfer_us(), 20.0);
        assert_eq!(Link::default().transfer_us(), 0.0);
    }
}
