//! Pictures of a simulated schedule: SVG, text for a terminal, and a trace for Perfetto.

mod svg;
mod terminal;
mod trace;

pub use svg::gantt_svg;
pub use terminal::{Colour, gantt_text, overlap_text};
pub use trace::{chrome_trace, overlap_events};

use crate::pipeline::{Cell, OpKind, Placement, Schedule};

/// What a drawing distinguishes beside the kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Hue {
    /// Direction 0, or an even pp_stage of an interleaved rank.
    First,
    /// Direction 1, or an odd one.
    Second,
}

impl Hue {
    fn of(schedule: &Schedule, cell: Cell) -> Self {
        let is_second = match schedule.placement() {
            Placement::Interleaved { .. } => {
                (cell.pp_stage_idx as usize / schedule.num_pp_ranks()) % 2 == 1
            }
            _ => cell.direction == 1,
        };
        if is_second { Self::Second } else { Self::First }
    }

    fn describe(self, schedule: &Schedule) -> &'static str {
        match (schedule.placement(), self) {
            (Placement::Linear, _) => "",
            (Placement::Interleaved { .. }, Self::First) => ", even stage of the rank",
            (Placement::Interleaved { .. }, Self::Second) => ", odd stage of the rank",
            (_, Self::First) => ", direction 0",
            (_, Self::Second) => ", direction 1",
        }
    }
}

fn describe(kind: OpKind) -> &'static str {
    match kind {
        OpKind::F => "forward",
        OpKind::B => "full backward",
        OpKind::I => "backward for inputs",
        OpKind::W => "weight gradient",
    }
}

/// Returns an RGB fill and whether text on it is light; hue by way, darkness by kind.
fn fill(kind: OpKind, hue: Hue) -> ((u8, u8, u8), bool) {
    match (kind, hue) {
        (OpKind::F, Hue::First) => ((0xa6, 0xc8, 0xe8), false),
        (OpKind::I, Hue::First) => ((0x5b, 0x9b, 0xd5), false),
        (OpKind::B, Hue::First) => ((0x1f, 0x5f, 0xa8), true),
        (OpKind::F, Hue::Second) => ((0xfb, 0xd3, 0x9a), false),
        (OpKind::I, Hue::Second) => ((0xf2, 0x9b, 0x38), false),
        (OpKind::B, Hue::Second) => ((0xb8, 0x57, 0x0c), true),
        (OpKind::W, _) => ((0x7f, 0xbf, 0x7b), false),
    }
}

/// Formats a time with at most three decimals, without trailing zeros.
pub fn format_us(time_us: f64) -> String {
    let text = format!("{time_us:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
