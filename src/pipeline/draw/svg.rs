//! Gantt chart as SVG: ranks down, time across.

use std::collections::BTreeSet;

use svg::Document;
use svg::node::element::{Definitions, Group, Line, Pattern, Rectangle, Text, Title};

use super::{Hue, describe, fill, format_us};
use crate::pipeline::{Op, OpKind, Schedule, Simulation, Span};

const ROW: f64 = 30.0;
const ROW_GAP: f64 = 6.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 40.0;
const LEGEND_ROW: f64 = 20.0;
/// A digit of the chunk numbers is this wide.
const DIGIT: f64 = 6.5;

/// Draws a simulated schedule as an SVG Gantt chart.
///
/// A row is a rank, a box an operation with its chunk's number; an overlapped pair is a framed box
/// with the forward above and the backward below. What stays hatched is the bubble. Pointing at a
/// box shows its operation, pp_stage and times.
pub fn gantt_svg(schedule: &Schedule, simulation: &Simulation) -> String {
    let chart = Chart::new(schedule, simulation);
    let mut document = Document::new()
        .set("viewBox", format!("0 0 {} {}", number(chart.width()), number(chart.height())))
        .set("width", number(chart.width()))
        .set("height", number(chart.height()))
        .set("font-family", "Helvetica, Arial, DejaVu Sans, sans-serif")
        .set("font-size", 11)
        .add(definitions())
        .add(Rectangle::new().set("width", "100%").set("height", "100%").set("fill", "#ffffff"))
        .add(text(LEFT, 22.0, &chart.title()).set("font-size", 15).set("font-weight", "bold"));
    for rank_idx in 0..schedule.num_pp_ranks() {
        document = document.add(chart.row(rank_idx));
    }
    document.add(chart.axis()).add(chart.legend()).to_string() + "\n"
}

struct Chart<'a> {
    schedule: &'a Schedule,
    simulation: &'a Simulation,
    plot_width: f64,
}

impl<'a> Chart<'a> {
    fn new(schedule: &'a Schedule, simulation: &'a Simulation) -> Self {
        let most_ops = schedule.ranks().iter().map(Vec::len).max().unwrap_or(0);
        // Wide enough for the numbers of the busiest rank, within what viewers scroll well.
        let plot_width = (most_ops as f64 * 20.0).clamp(900.0, 20_000.0);
        Self { schedule, simulation, plot_width }
    }

    fn width(&self) -> f64 {
        LEFT + self.plot_width + RIGHT
    }

    fn height(&self) -> f64 {
        let num_rows = (self.legend_entries().len() + 1).div_ceil(4);
        self.axis_y() + 40.0 + num_rows as f64 * LEGEND_ROW
    }

    fn axis_y(&self) -> f64 {
        TOP + self.schedule.num_pp_ranks() as f64 * (ROW + ROW_GAP)
    }

    fn x(&self, time_us: f64) -> f64 {
        let makespan_us = self.simulation.makespan_us;
        LEFT + if makespan_us > 0.0 { time_us / makespan_us * self.plot_width } else { 0.0 }
    }

    fn title(&self) -> String {
        format!(
            "{}: {} ranks, {} chunks, makespan {}, largest bubble {}, utilisation {:.1} %",
            self.schedule.name(),
            self.schedule.num_pp_ranks(),
            self.schedule.num_chunks(),
            format_us(self.simulation.makespan_us),
            format_us(self.simulation.max_bubble_us()),
            100.0 * self.simulation.utilisation(),
        )
    }

    fn row(&self, rank_idx: usize) -> Group {
        let y = TOP + rank_idx as f64 * (ROW + ROW_GAP);
        let report = &self.simulation.ranks[rank_idx];
        let note = format!(
            "bubble {}, peak {} act.",
            format_us(report.bubble_us),
            format_us(report.peak_activations)
        );
        let mut group = Group::new()
            .add(text(8.0, y + 0.65 * ROW, &format!("rank {rank_idx}")))
            .add(
                rectangle(LEFT, y, self.plot_width, ROW)
                    .set("fill", "url(#bubble)")
                    .set("stroke", "#bbbbbb")
                    .set("stroke-width", 0.5),
            )
            .add(text(LEFT + self.plot_width + 8.0, y + 0.65 * ROW, &note));
        let spans = &self.simulation.spans[rank_idx];
        for (op, span) in self.schedule.ranks()[rank_idx].iter().zip(spans) {
            group = group.add(self.operation(*op, *span, y));
        }
        group
    }

    fn operation(&self, op: Op, span: Span, y: f64) -> Group {
        let (left, right) = (self.x(span.start_us), self.x(span.end_us));
        let num_parts = op.parts().count() as f64;
        let part_height = ROW / num_parts;
        let mut group = Group::new().add(Title::new(tooltip(op, span)));
        for (part_idx, (kind, cell)) in op.parts().enumerate() {
            let top = y + part_idx as f64 * part_height;
            let ((r, g, b), is_dark) = fill(kind, Hue::of(self.schedule, cell));
            group = group.add(
                rectangle(left, top, right - left, part_height)
                    .set("fill", format!("#{r:02x}{g:02x}{b:02x}"))
                    .set("stroke", "#ffffff")
                    .set("stroke-width", 0.5),
            );
            let label = cell.chunk_idx.to_string();
            if label.len() as f64 * DIGIT <= right - left {
                let colour = if is_dark { "#ffffff" } else { "#1a1a1a" };
                group = group.add(
                    text(0.5 * (left + right), top + 0.5 * part_height + 4.0, &label)
                        .set("text-anchor", "middle")
                        .set("fill", colour),
                );
            }
        }
        if matches!(op, Op::Overlapped { .. }) {
            group = group.add(
                rectangle(left, y, right - left, ROW).set("fill", "none").set("stroke", "#000000"),
            );
        }
        group
    }

    fn axis(&self) -> Group {
        let y = self.axis_y();
        let step_us = tick_step(self.simulation.makespan_us);
        let mut group = Group::new().add(line(LEFT, y, LEFT + self.plot_width, y));
        let num_ticks = if step_us > 0.0 {
            (self.simulation.makespan_us / step_us * (1.0 + 1e-9)) as usize
        } else {
            0
        };
        for tick in 0..=num_ticks {
            let time_us = tick as f64 * step_us;
            let x = self.x(time_us);
            group = group
                .add(line(x, y, x, y + 4.0))
                .add(text(x, y + 16.0, &format_us(time_us)).set("text-anchor", "middle"));
        }
        group.add(text(LEFT + self.plot_width + 8.0, y + 16.0, "time"))
    }

    fn legend_entries(&self) -> BTreeSet<(OpKind, Hue)> {
        let parts = self.schedule.ranks().iter().flatten().flat_map(|op| op.parts());
        parts
            .map(|(kind, cell)| match kind {
                OpKind::W => (kind, Hue::First),
                _ => (kind, Hue::of(self.schedule, cell)),
            })
            .collect()
    }

    fn legend(&self) -> Group {
        let mut group = Group::new();
        let mut entries: Vec<(String, String)> = self
            .legend_entries()
            .into_iter()
            .map(|(kind, hue)| {
                let ((r, g, b), _) = fill(kind, hue);
                let hue = if kind == OpKind::W { "" } else { hue.describe(self.schedule) };
                let label = format!("{}: {}{hue}", kind.letter(), describe(kind));
                (format!("#{r:02x}{g:02x}{b:02x}"), label)
            })
            .collect();
        entries.push(("url(#bubble)".to_owned(), "bubble".to_owned()));
        for (entry_idx, (colour, label)) in entries.iter().enumerate() {
            let x = LEFT + (entry_idx % 4) as f64 * 255.0;
            let y = self.axis_y() + 28.0 + (entry_idx / 4) as f64 * LEGEND_ROW;
            group = group
                .add(
                    rectangle(x, y, 14.0, 12.0)
                        .set("fill", colour.as_str())
                        .set("stroke", "#888888")
                        .set("stroke-width", 0.5),
                )
                .add(text(x + 20.0, y + 10.0, label));
        }
        group
    }
}

fn definitions() -> Definitions {
    let hatch = Pattern::new()
        .set("id", "bubble")
        .set("width", 6)
        .set("height", 6)
        .set("patternUnits", "userSpaceOnUse")
        .set("patternTransform", "rotate(45)")
        .add(Rectangle::new().set("width", 6).set("height", 6).set("fill", "#f4f4f4"))
        .add(Rectangle::new().set("width", 2).set("height", 6).set("fill", "#d8d8d8"));
    Definitions::new().add(hatch)
}

fn tooltip(op: Op, span: Span) -> String {
    let parts: Vec<String> = op
        .parts()
        .map(|(kind, cell)| {
            format!(
                "{} of chunk {} on pp_stage {} (direction {})",
                describe(kind),
                cell.chunk_idx,
                cell.pp_stage_idx,
                cell.direction
            )
        })
        .collect();
    let (start, end) = (format_us(span.start_us), format_us(span.end_us));
    format!("{op}: {}; {start} to {end}", parts.join(" with "))
}

/// Returns a step of 1, 2 or 5 times a power of ten that makes at most 20 ticks.
fn tick_step(makespan_us: f64) -> f64 {
    if makespan_us <= 0.0 {
        return 0.0;
    }
    let power = 10f64.powf((makespan_us / 20.0).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    steps.into_iter().find(|step| makespan_us / step <= 20.0).unwrap_or(steps[3])
}

fn rectangle(x: f64, y: f64, width: f64, height: f64) -> Rectangle {
    Rectangle::new()
        .set("x", number(x))
        .set("y", number(y))
        .set("width", number(width))
        .set("height", number(height))
}

fn line(x1: f64, y1: f64, x2: f64, y2: f64) -> Line {
    Line::new()
        .set("x1", number(x1))
        .set("y1", number(y1))
        .set("x2", number(x2))
        .set("y2", number(y2))
        .set("stroke", "#444444")
}

fn text(x: f64, y: f64, content: &str) -> Text {
    Text::new(content).set("x", number(x)).set("y", number(y))
}

/// Rounds to hundredths of a pixel.
fn number(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
