//! Gantt charts as text: one line for each rank, or for each stream of an overlapped chunk.

use std::fmt::Write;

use super::{Hue, fill};
use crate::pipeline::{Op, OpKind, Overlap, Schedule, Simulation, Span, Stream};

/// Whether a text drawing carries escape codes for colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Plain text.
    Never,
    /// 24-bit colours (ANSI escape codes).
    Always,
}

/// Draws a simulated schedule as text of at most `width` columns (at least 40).
///
/// Every column is a moment. An operation begins with its letter, `&` for an overlapped pair, in
/// lower case for direction 1, then its chunk's number where there is room, and goes on as `-`
/// (`=` for a pair). Bubbles are dots.
pub fn gantt_text(
    schedule: &Schedule,
    simulation: &Simulation,
    width: usize,
    colour: Colour,
) -> String {
    let label_width = format!("rank {}", schedule.num_pp_ranks().saturating_sub(1)).len() + 1;
    let num_columns = width.max(40).saturating_sub(label_width + 2);
    let mut drawing = String::new();
    for rank_idx in 0..schedule.num_pp_ranks() {
        let label = format!("rank {rank_idx}");
        let columns = row(schedule, simulation, rank_idx, num_columns);
        // NOTE: writing to a String cannot fail.
        let _ = writeln!(drawing, "{label:<label_width$}|{}|", render(&columns, colour));
    }
    drawing
}

/// Draws both streams of an overlapped chunk as text of at most `width` columns (at least 40).
///
/// `A`, `D`, `M` and `C` are attention, dispatch, experts and combine of the forward, in lower case
/// of the backward; `w` is a weight gradient. Idle time is dots.
pub fn overlap_text(overlap: &Overlap, width: usize, colour: Colour) -> String {
    let num_columns = width.max(40).saturating_sub("compute ".len() + 2);
    let mut drawing = String::new();
    for (label, stream) in [("compute", Stream::Compute), ("comm", Stream::Comm)] {
        let boxes = overlap.spans.iter().filter(|span| span.stream == stream).map(|span| {
            let (kind, hue) = match span.pass {
                OpKind::F => (OpKind::F, Hue::First),
                OpKind::W => (OpKind::W, Hue::First),
                _ => (OpKind::B, Hue::Second),
            };
            let initial = span.name.chars().next().unwrap_or(' ');
            let letter = match span.pass {
                OpKind::F => initial.to_ascii_uppercase(),
                OpKind::W => 'w',
                _ => initial,
            };
            let text = move |width: usize| {
                (0..width).map(|column| if column == 0 { letter } else { '-' }).collect()
            };
            (Span { start_us: span.start_us, end_us: span.end_us }, text, fill(kind, hue))
        });
        let columns = lay_out(boxes, overlap.times.fb_us, num_columns);
        // NOTE: writing to a String cannot fail.
        let _ = writeln!(drawing, "{label:<8}|{}|", render(&columns, colour));
    }
    drawing
}

/// A fill, and whether text on it is light.
type Fill = ((u8, u8, u8), bool);

/// A character and what is behind it.
type Column = (char, Option<Fill>);

fn row(
    schedule: &Schedule,
    simulation: &Simulation,
    rank_idx: usize,
    num_columns: usize,
) -> Vec<Column> {
    let spans = &simulation.spans[rank_idx];
    let boxes = schedule.ranks()[rank_idx].iter().zip(spans).map(|(op, span)| {
        let (kind, cell) = op.parts().next().expect("an operation has a part");
        (*span, |width| op_text(*op, width), fill(kind, Hue::of(schedule, cell)))
    });
    lay_out(boxes, simulation.makespan_us, num_columns)
}

/// Puts boxes on a line that is `end_us` long; a box's text is made to its width.
fn lay_out(
    boxes: impl Iterator<Item = (Span, impl Fn(usize) -> String, Fill)>,
    end_us: f64,
    num_columns: usize,
) -> Vec<Column> {
    let mut columns: Vec<Column> = vec![('.', None); num_columns];
    if end_us <= 0.0 {
        return columns;
    }
    let scale = num_columns as f64 / end_us;
    let column_of = |time_us: f64| ((time_us * scale).round() as usize).min(num_columns);
    for (span, text, background) in boxes {
        let covered = column_of(span.start_us)..column_of(span.end_us);
        let text = text(covered.len());
        for (column, letter) in columns[covered].iter_mut().zip(text.chars()) {
            *column = (letter, Some(background));
        }
    }
    columns
}

/// Returns an operation's text, `width` characters long.
fn op_text(op: Op, width: usize) -> String {
    let mark = |kind: OpKind, direction: u8| {
        let letter = kind.letter();
        if direction == 1 && kind != OpKind::W { letter.to_ascii_lowercase() } else { letter }
    };
    let labels: Vec<String> = op
        .parts()
        .map(|(kind, cell)| format!("{}{}", mark(kind, cell.direction), cell.chunk_idx))
        .collect();
    let (short, pad) = match op {
        Op::Overlapped { .. } => ('&', '='),
        Op::Single(kind, cell) => (mark(kind, cell.direction), '-'),
    };
    let long = labels.concat();
    let text = if long.len() <= width { long } else { short.to_string() };
    let mut text: String = text.chars().take(width).collect();
    while text.len() < width {
        text.push(pad);
    }
    text
}

fn render(columns: &[Column], colour: Colour) -> String {
    let mut line = String::new();
    let mut current = None;
    for (letter, background) in columns {
        if colour == Colour::Always && *background != current {
            match background {
                Some(((r, g, b), is_dark)) => {
                    let text = if *is_dark { 97 } else { 30 };
                    let _ = write!(line, "\x1b[{text};48;2;{r};{g};{b}m");
                }
                None => line.push_str("\x1b[0m"),
            }
            current = *background;
        }
        line.push(*letter);
    }
    if current.is_some() {
        line.push_str("\x1b[0m");
    }
    line
}
