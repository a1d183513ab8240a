//! SVG heat maps of GPU loads, and the balance of a simulation over time.

use svg::Document;
use svg::node::element::path::Data;
use svg::node::element::{Group, Path, Rectangle, Text, Title};

use super::text::ratio_of;
use crate::eplb::Simulation;

const MARGIN: f64 = 56.0;
const PANEL_WIDTH: f64 = 720.0;
const ROW_HEIGHT: f64 = 14.0;
const HEADER: f64 = 44.0;
const LEGEND: f64 = 56.0;
const FONT: &str = "Helvetica, Arial, sans-serif";
const INK: &str = "#222222";
/// Numbers along an axis at most.
const MAX_TICKS: usize = 24;

/// A GPU that failed.
const FAILED: &str = "#bdbdbd";

/// Colours at 0, 1 (the mean), 1.5 and 2 times the mean and above.
const RAMP: [(f64, [f64; 3]); 4] = [
    (0.0, [33.0, 102.0, 172.0]),
    (1.0, [217.0, 240.0, 211.0]),
    (1.5, [239.0, 138.0, 98.0]),
    (2.0, [178.0, 24.0, 43.0]),
];

/// One panel: a caption and the load of every GPU, layer by layer.
#[derive(Debug, Clone, PartialEq)]
pub struct HeatMap {
    /// Shown above the panel.
    pub caption: String,
    /// FP64 `[num_layers][num_gpus]`, time of each GPU (load by speed); NaN for a failed one.
    pub loads: Vec<Vec<f64>>,
    /// FP64 `[num_layers]`, time of every GPU in perfect balance: what colours and ratios refer to.
    pub mean_loads: Vec<f64>,
}

impl HeatMap {
    fn height(&self) -> f64 {
        HEADER + self.loads.len() as f64 * ROW_HEIGHT + 26.0
    }

    /// Draws the panel with its top at `top`.
    fn draw(&self, top: f64) -> Group {
        let mut group = Group::new().add(label(MARGIN, top + 18.0, 15.0, &self.caption));
        let top = top + HEADER;
        for (layer_idx, loads) in self.loads.iter().enumerate() {
            let y = top + layer_idx as f64 * ROW_HEIGHT;
            let mean = self.mean_loads.get(layer_idx).copied().unwrap_or(0.0);
            let width = PANEL_WIDTH / loads.len().max(1) as f64;
            let mut slowest = 0.0f64;
            for (gpu_idx, &load) in loads.iter().enumerate() {
                let ratio = ratio_of(load, mean);
                slowest = slowest.max(ratio);
                let title = match ratio.is_nan() {
                    true => format!("layer {layer_idx}, GPU {gpu_idx}: failed"),
                    false => format!("layer {layer_idx}, GPU {gpu_idx}: {ratio:.3} x mean"),
                };
                let cell = rectangle(MARGIN + gpu_idx as f64 * width, y, width, ROW_HEIGHT - 1.0);
                group = group.add(cell.set("fill", color(ratio)).add(Title::new(title)));
            }
            if self.loads.len() <= 16 || layer_idx % 8 == 0 {
                let name = label(MARGIN - 6.0, y + 10.5, 10.0, &format!("{layer_idx}"));
                group = group.add(name.set("text-anchor", "end"));
            }
            let x = MARGIN + PANEL_WIDTH + 6.0;
            group = group.add(label(x, y + 10.5, 10.0, &format!("{slowest:.3}")));
        }
        let bottom = top + self.loads.len() as f64 * ROW_HEIGHT + 12.0;
        let num_gpus = self.loads.first().map_or(0, Vec::len);
        let middle =
            |gpu_idx: usize| MARGIN + PANEL_WIDTH * (gpu_idx as f64 + 0.5) / num_gpus.max(1) as f64;
        for gpu_idx in (0..num_gpus).step_by(num_gpus.div_ceil(MAX_TICKS).max(1)) {
            let name = label(middle(gpu_idx), bottom, 10.0, &format!("{gpu_idx}"));
            group = group.add(name.set("text-anchor", "middle"));
        }
        let right = MARGIN + PANEL_WIDTH;
        group
            .add(label(MARGIN - 6.0, top - 6.0, 10.0, "layer").set("text-anchor", "end"))
            .add(label(MARGIN - 6.0, bottom, 10.0, "GPU").set("text-anchor", "end"))
            .add(label(right + MARGIN - 4.0, top - 6.0, 10.0, "max/mean").set("text-anchor", "end"))
    }
}

/// Draws heat maps one above the other, with one legend.
///
/// Every cell is a GPU's load by its layer's mean: green at the mean, blue below, red above, grey for
/// a failed GPU; the number at the end of a row is the layer's `max / mean`.
///
/// # Examples
///
/// ```
/// use moekit::eplb::{HeatMap, heat_maps_svg};
///
/// let map = HeatMap {
///     caption: "before".into(),
///     loads: vec![vec![3.0, 1.0]],
///     mean_loads: vec![2.0],
/// };
/// assert!(heat_maps_svg(&[map]).starts_with("<svg"));
/// ```
pub fn heat_maps_svg(maps: &[HeatMap]) -> String {
    let height = maps.iter().map(HeatMap::height).sum::<f64>() + LEGEND;
    let mut document = page(height);
    let mut top = 0.0;
    for map in maps {
        document = document.add(map.draw(top));
        top += map.height();
    }
    for i in 0..=40 {
        let ratio = f64::from(i) * 0.05;
        let x = MARGIN + f64::from(i) * 8.0;
        document = document.add(rectangle(x, top + 8.0, 8.0, 12.0).set("fill", color(ratio)));
    }
    for (ratio, name) in [(0.0, "0"), (1.0, "mean"), (1.5, "1.5 x"), (2.0, "2 x and above")] {
        let x = MARGIN + ratio * 160.0 + 4.0;
        document = document.add(label(x, top + 34.0, 10.0, name).set("text-anchor", "middle"));
    }
    document.to_string()
}

/// Draws a simulation: `max / mean` over the steps, rebalancings marked.
///
/// # Examples
///
/// See [`simulate_trace`](crate::eplb::simulate_trace) for how to get one.
pub fn simulation_svg(simulation: &Simulation, caption: &str) -> String {
    const HEIGHT: f64 = 260.0;
    let steps = &simulation.steps;
    let top = simulation.worst_max_over_mean.max(1.05);
    let x = |i: usize| MARGIN + PANEL_WIDTH * (i as f64 + 0.5) / steps.len().max(1) as f64;
    let y = |ratio: f64| HEADER + HEIGHT * (top - ratio) / (top - 1.0);
    let mut document = page(HEADER + HEIGHT + LEGEND).add(label(MARGIN, 18.0, 15.0, caption));
    for i in 0..=4 {
        let ratio = 1.0 + (top - 1.0) * f64::from(i) / 4.0;
        let name = label(MARGIN - 6.0, y(ratio) + 4.0, 10.0, &format!("{ratio:.2}"));
        document = document
            .add(rectangle(MARGIN, y(ratio), PANEL_WIDTH, 0.5).set("fill", "#cccccc"))
            .add(name.set("text-anchor", "end"));
    }
    for i in (0..steps.len()).step_by(steps.len().div_ceil(MAX_TICKS).max(1)) {
        let name = label(x(i), HEADER + HEIGHT + 14.0, 10.0, &format!("{i}"));
        document = document.add(name.set("text-anchor", "middle"));
    }
    for (i, step) in steps.iter().enumerate().filter(|(_, step)| step.num_moves > 0) {
        let moves = format!("step {i}: {} transfers", step.num_moves);
        let mark = rectangle(x(i) - 0.5, HEADER, 1.0, HEIGHT).set("fill", "#7fbf7b");
        document = document.add(mark.add(Title::new(moves)));
    }
    type Value = fn(&crate::eplb::SimulatedStep) -> f64;
    let lines: [(Value, &str); 2] =
        [(|s| s.worst_max_over_mean, "#b2182b"), (|s| s.mean_max_over_mean, "#2166ac")];
    for (value, stroke) in lines {
        let mut data = Data::new();
        for (i, step) in steps.iter().enumerate() {
            let point = (rounded(x(i)), rounded(y(value(step))));
            data = if i == 0 { data.move_to(point) } else { data.line_to(point) };
        }
        let line = Path::new().set("fill", "none").set("stroke", stroke).set("stroke-width", 1.5);
        document = document.add(line.set("d", data));
    }
    let note = "max / mean load over the steps: blue the mean over layers, red the worst layer; \
                green marks a migration";
    let axis = label(MARGIN - 6.0, HEADER + HEIGHT + 14.0, 10.0, "step").set("text-anchor", "end");
    document.add(axis).add(label(MARGIN, HEADER + HEIGHT + 36.0, 11.0, note)).to_string()
}

fn page(height: f64) -> Document {
    let width = PANEL_WIDTH + 2.0 * MARGIN;
    Document::new()
        .set("viewBox", (0, 0, width, height))
        .set("width", width)
        .set("height", height)
        .add(rectangle(0.0, 0.0, width, height).set("fill", "#ffffff"))
}

fn rectangle(x: f64, y: f64, width: f64, height: f64) -> Rectangle {
    Rectangle::new()
        .set("x", rounded(x))
        .set("y", rounded(y))
        .set("width", rounded(width))
        .set("height", rounded(height))
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn label(x: f64, y: f64, size: f64, text: &str) -> Text {
    Text::new(text)
        .set("x", rounded(x))
        .set("y", rounded(y))
        .set("font-family", FONT)
        .set("font-size", size)
        .set("fill", INK)
}

/// Returns the colour of a load that is `ratio` times the mean.
fn color(ratio: f64) -> String {
    if ratio.is_nan() {
        return FAILED.to_owned();
    }
    let ratio = ratio.clamp(0.0, 2.0);
    let upper = RAMP.iter().position(|&(stop, _)| ratio <= stop).unwrap_or(RAMP.len() - 1).max(1);
    let ((low, from), (high, to)) = (RAMP[upper - 1], RAMP[upper]);
    let t = (ratio - low) / (high - low);
    let [r, g, b] = [0, 1, 2].map(|i| (from[i] + t * (to[i] - from[i])).round() as u8);
    format!("#{r:02x}{g:02x}{b:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_run_from_blue_through_white_to_red() {
        assert_eq!(color(0.0), "#2166ac");
        assert_eq!(color(1.0), "#d9f0d3");
        assert_eq!(color(9.0), "#b2182b");
        assert_eq!(color(1.25), "#e4bd9b");
        assert_eq!(color(f64::NAN), FAILED);
    }

    #[test]
    fn a_picture_holds_a_cell_for_every_gpu_of_every_layer() {
        let map = HeatMap {
            caption: "a < b".into(),
            loads: vec![vec![3.0, 1.0, f64::NAN]; 4],
            mean_loads: vec![2.0; 4],
        };
        let picture = heat_maps_svg(&[map.clone(), map]);
        assert_eq!(picture.matches("x mean</title>").count(), 16);
        assert_eq!(picture.matches("GPU 2: failed</title>").count(), 8);
        assert_eq!(picture.matches("GPU 0: 1.500 x mean").count(), 8);
        assert!(picture.contains("a &lt; b"), "captions are escaped");
    }
}
