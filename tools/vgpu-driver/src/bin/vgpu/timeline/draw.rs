//! A picture of a block's warps and tensor cores: a row each, time to the right.

use std::ops::Range;

use serde_json::Value;
use svg::Document;
use svg::node::element::{Rectangle, Text, Title};

use super::items;
use crate::{Problem, Result};

const WIDTH: f64 = 1000.0;
/// Of the rows' names, left of time.
const NAMES: f64 = 120.0;
const ROW: f64 = 20.0;
/// Above the rows: the legend and the axis.
const TOP: f64 = 52.0;
const NUM_TICKS: u64 = 8;

/// Warps of a group that forms products together.
const WARPS: u64 = 4;
/// Two runs of the same instructions that are no further apart are one to the eye: others had their turns between them.
const MAX_GAP: u64 = 16;

/// Colours of what happens, in the legend's order; products of every other warpgroup have the second.
const COLOURS: [(&str, &str); 8] = [
    ("product", "#4c78a8"),
    ("product, next warpgroup", "#2f9e7c"),
    ("run behind products", "#f58518"),
    ("run", "#e8c48a"),
    ("wait for products", "#c6d4e6"),
    ("wait at mbarrier", "#d9d9d9"),
    ("wait at barrier", "#eeeeee"),
    ("wait for copies", "#e2e2e2"),
];

/// Draws those warps of a launch's first block that do something in `cycles`, and its first tensor core by warp.
pub fn draw(launch: &Value, cycles: Range<u64>) -> Result<String> {
    let end = launch["summary"]["cycles"].as_u64().unwrap_or(0).min(cycles.end);
    if cycles.start >= end {
        let got = cycles.start;
        return Err(Problem(format!("--from {got}: the launch has {end} cycles up to --to")));
    }
    let scale = Scale { start: cycles.start, cycles: end - cycles.start };
    let tracks = items(&launch["tracks"]).filter(|track| {
        let owner = track["owner"].as_str().unwrap_or("");
        track["block"] == launch["tracks"][0]["block"] && owner != "copies"
    });
    let mut document = Document::new().set("font-family", "sans-serif").set("font-size", 11);
    for text in legend().into_iter().chain(axis(&scale)) {
        document = document.add(text.0).add(text.1);
    }
    let mut num_rows = 0;
    for track in tracks {
        let bars = bars(items(&track["spans"]).filter(|span| scale.shows(span)));
        if bars.is_empty() {
            continue;
        }
        let top = TOP + ROW * f64::from(num_rows);
        let name = track["owner"].as_str().unwrap_or("?");
        document = document.add(text(name, 4.0, top + 14.0));
        for bar in bars {
            document = document.add(scale.draw(&bar, top));
        }
        num_rows += 1;
    }
    let height = TOP + ROW * f64::from(num_rows) + 6.0;
    let document = document.set("viewBox", (0, 0, WIDTH, height)).set("width", WIDTH);
    Ok(format!("{document}\n"))
}

/// From cycles to the picture's width.
struct Scale {
    start: u64,
    cycles: u64,
}

impl Scale {
    fn x(&self, cycle: u64) -> f64 {
        let inside = cycle.clamp(self.start, self.start + self.cycles) - self.start;
        NAMES + (WIDTH - NAMES - 8.0) * inside as f64 / self.cycles as f64
    }

    fn shows(&self, span: &Value) -> bool {
        let (start, end) = ends(span);
        start < self.start + self.cycles && end > self.start
    }

    fn draw(&self, bar: &Bar<'_>, top: f64) -> Rectangle {
        let (x, end) = (self.x(bar.start), self.x(bar.end));
        let title = format!("{}, line {}: {} to {}", bar.what, bar.line, bar.start, bar.end);
        rectangle(bar.what, x, top + 2.0, end - x).add(Title::new(title))
    }
}

/// Spans that look like one.
struct Bar<'s> {
    what: &'s str,
    line: u64,
    start: u64,
    end: u64,
}

fn bars<'s>(spans: impl Iterator<Item = &'s Value>) -> Vec<Bar<'s>> {
    let mut bars: Vec<Bar<'s>> = Vec::new();
    for span in spans {
        let ((start, end), line) = (ends(span), span["line"].as_u64().unwrap_or(0));
        let what = match span["what"].as_str().unwrap_or("?") {
            "product" if is_second(span) => COLOURS[1].0,
            what => what,
        };
        match bars.last_mut() {
            Some(last)
                if what.starts_with("run")
                    && (last.what, last.line) == (what, line)
                    && start <= last.end + MAX_GAP =>
            {
                last.end = end;
            }
            _ => bars.push(Bar { what, line, start, end }),
        }
    }
    bars
}

fn is_second(product: &Value) -> bool {
    (product["warp"].as_u64().unwrap_or(0) / WARPS).is_multiple_of(2)
}

fn ends(span: &Value) -> (u64, u64) {
    (span["start"].as_u64().unwrap_or(0), span["end"].as_u64().unwrap_or(0))
}

fn rectangle(what: &str, x: f64, y: f64, width: f64) -> Rectangle {
    let colour = COLOURS.iter().find(|(name, _)| *name == what).map_or("#000000", |it| it.1);
    let rounded = |x: f64| (x * 100.0).round() / 100.0;
    Rectangle::new()
        .set("x", rounded(x))
        .set("y", y)
        .set("width", rounded(width))
        .set("height", ROW - 4.0)
        .set("fill", colour)
}

fn text(content: &str, x: f64, y: f64) -> Text {
    Text::new(content).set("x", x).set("y", y)
}

/// A colour with its meaning each.
fn legend() -> Vec<(Rectangle, Text)> {
    let entries = COLOURS.iter().take(6).enumerate();
    entries
        .map(|(at, (what, _))| {
            let x = 4.0 + 166.0 * at as f64;
            (rectangle(what, x, 4.0, 14.0), text(what, x + 20.0, 16.0))
        })
        .collect()
}

/// Cycles above the rows.
fn axis(scale: &Scale) -> Vec<(Rectangle, Text)> {
    let cycles = (0..=NUM_TICKS).map(|tick| scale.start + scale.cycles * tick / NUM_TICKS);
    cycles
        .map(|cycle| {
            let x = scale.x(cycle);
            let line =
                Rectangle::new().set("x", x).set("y", TOP - 8.0).set("width", 1).set("height", 6);
            let anchor = if cycle == scale.start + scale.cycles { "end" } else { "start" };
            (line, text(&cycle.to_string(), x, TOP - 12.0).set("text-anchor", anchor))
        })
        .collect()
}
