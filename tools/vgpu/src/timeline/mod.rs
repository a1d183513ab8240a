//! When the warps of a cluster would do what: a model, not a measurement.
//!
//! The machine runs a launch without a notion of time and writes down what each warp did; the replay then gives every
//! event a time. A scheduler issues an instruction a cycle, for one warp after the other; a scheduler's tensor core
//! forms one product after the other; a block's copies come one after the other, each a latency later. What warps wait
//! for, they wait for. What an instruction takes beyond its issue (a load's way, a dependent operand) is left out, and
//! instructions are those of PTX, not of machine code: so the order, what overlaps and what is waited for are telling,
//! the number of cycles is a lower bound.

mod replay;

use crate::machine::{Log, LogPlace};

/// What happens in a span of a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// A warp issues instructions, in turns with others of its scheduler.
    Run {
        /// It has waited for products, and issued none since: what it does with their sums.
        after_products: bool,
    },
    /// A warp waits for its products.
    WaitProducts,
    /// A warp waits at an mbarrier.
    WaitMbarrier,
    /// A warp waits at a barrier of its block or cluster.
    WaitBarrier,
    /// A warp waits for its copies.
    WaitCopies,
    /// A tensor core forms a product.
    Product,
    /// A copy is under way.
    Copy,
}

impl What {
    /// In words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            What::Run { after_products: true } => "run behind products",
            What::Run { after_products: false } => "run",
            What::WaitProducts => "wait for products",
            What::WaitMbarrier => "wait at mbarrier",
            What::WaitBarrier => "wait at barrier",
            What::WaitCopies => "wait for copies",
            What::Product => "product",
            What::Copy => "copy",
        }
    }
}

/// A part of a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// What happens.
    pub what: What,
    /// First cycle.
    pub start: u64,
    /// Cycle behind the last.
    pub end: u64,
    /// Warp of the block whose doing it is.
    pub warp: u32,
    /// Line of the PTX text; of a run that of the instruction behind it.
    pub line: u32,
}

/// What a track is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// A warp of the block.
    Warp(u32),
    /// The tensor core of a scheduler.
    TensorCore(u32),
    /// The block's copies.
    Copies,
}

/// One thing after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// Position of its block in the grid.
    pub block: [u32; 3],
    /// What it is of.
    pub owner: Owner,
    /// Spans in ascending order; those of copies overlap.
    pub spans: Vec<Span>,
}

/// When the first cluster of a launch would do what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeline {
    /// Cycles from the first instruction to the last.
    pub cycles: u64,
    /// Of each block: its warps, its tensor cores if it has products, its copies.
    pub tracks: Vec<Track>,
}

/// How much of the time the tensor cores have work, and what else goes on meanwhile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TensorUse {
    /// Cycles from the first product's begin to the last one's end, all tensor cores together.
    pub cycles: u64,
    /// Those in which there is a product.
    pub busy: u64,
    /// Cycles in which warps issue instructions between a wait for products and the next product.
    pub behind: u64,
    /// Those of them in which the warp's tensor core forms a product of another warp.
    pub hidden: u64,
}

impl Timeline {
    pub(crate) fn new(log: &Log, place: &LogPlace<'_>) -> Self {
        replay::replay(log, place)
    }

    /// Use of the tensor cores; `None` without products.
    #[must_use]
    pub fn tensor_use(&self) -> Option<TensorUse> {
        let mut sum = TensorUse { cycles: 0, busy: 0, behind: 0, hidden: 0 };
        for track in &self.tracks {
            let Owner::TensorCore(core) = track.owner else { continue };
            let (Some(first), Some(last)) = (track.spans.first(), track.spans.last()) else {
                continue;
            };
            sum.cycles += last.end - first.start;
            sum.busy += length(&track.spans);
            let is_beside = |it: &&Track| {
                it.block == track.block
                    && matches!(it.owner, Owner::Warp(warp) if warp % replay::NUM_SCHEDULERS == core)
            };
            for warp in self.tracks.iter().filter(is_beside) {
                let behind = warp.spans.iter().filter(|span| {
                    span.what == (What::Run { after_products: true }) && span.end <= last.end
                });
                for span in behind {
                    sum.behind += span.end - span.start;
                    sum.hidden += overlap(span, &track.spans);
                }
            }
        }
        (sum.cycles > 0).then_some(sum)
    }
}

fn length(spans: &[Span]) -> u64 {
    spans.iter().map(|span| span.end - span.start).sum()
}

/// Cycles of a span in which one of the ascending `others`, of another warp, goes on too.
fn overlap(span: &Span, others: &[Span]) -> u64 {
    let first = others.partition_point(|other| other.end <= span.start);
    let beside = others[first..].iter().take_while(|other| other.start < span.end);
    let common = |it: &Span| it.end.min(span.end) - it.start.max(span.start);
    beside.filter(|it| it.warp != span.warp).map(common).sum()
}
