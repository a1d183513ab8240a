//! Pipeline schedules as data: generated, checked, simulated, drawn and compared.
//!
//! [`Schedule::generate`] makes every rank's order of work; [`check`] proves an order valid, one's
//! own from a file too; [`simulate`] tells when everything runs; [`search`] ranks the schedules for
//! given times and memory; [`overlap`] gives the F&B of an overlapped chunk from its parts.

mod check;
mod closed_form;
mod draw;
mod file;
mod generate;
mod memory;
mod op;
mod overlap;
mod placement;
mod problem;
mod program;
mod run;
mod schedule;
mod search;
mod simulate;
mod times;

pub use check::{Limits, Proof, check};
pub use closed_form::closed_form_bubble_us;
pub use draw::{
    Colour, chrome_trace, format_us, gantt_svg, gantt_text, overlap_events, overlap_text,
};
pub use op::{Cell, Op, OpKind};
pub use overlap::{
    LayerTimes, Overlap, OverlapSpan, OverlapSpec, Stream, WeightTimes, best_overlap, overlap,
};
pub use placement::Placement;
pub use problem::{Fault, Problem, Wait, WaitReason};
pub use run::Span;
pub use schedule::{Schedule, ScheduleKind};
pub use search::{Candidate, Outcome, SearchSpec, search};
pub use simulate::{RankReport, Simulation, Transfer, simulate};
pub use times::{Costs, Jitter, Link, Sends, SlowRank, StageTimes, Times};
