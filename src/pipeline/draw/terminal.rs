//! Gantt chart as text: one line for each rank.

use std::fmt::Write;

use super::{Hue, fill};
use crate::pipeline::{Op, OpKind, Schedule, Simulation};

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

/// A character and the fill behind it.
type Column = (char, Option<((u8, u8, u8), bool)>);

fn row(
    schedule: &Schedule,
    simulation: &Simulation,
    rank_idx: usize,
    num_columns: usize,
) -> Vec<Column> {
    let mut columns: Vec<Column> = vec![('.', None); num_columns];
    if simulation.makespan_us <= 0.0 {
        return columns;
    }
    let scale = num_columns as f64 / simulation.makespan_us;
    let column_of = |time_us: f64| ((time_us * scale).round() as usize).min(num_columns);
    let spans = &simulation.spans[rank_idx];
    for (op, span) in schedule.ranks()[rank_idx].iter().zip(spans) {
        let cells = column_of(span.start_us)..column_of(span.end_us);
        let text = op_text(*op, cells.len());
        let (kind, cell) = op.parts().next().expect("an operation has a part");
        let background = fill(kind, Hue::of(schedule, cell));
        for (column, letter) in columns[cells].iter_mut().zip(text.chars()) {
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
