//! Loads as a line of bars for a terminal.

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Draws loads as one line of at most `max_width` bars, full at twice the mean; where GPUs share a
/// bar, the most loaded counts. A GPU of load NaN (failed) is a blank.
///
/// # Examples
///
/// ```
/// assert_eq!(moekit::eplb::load_bar(&[0.0, 1.0, 2.0], 80), "▁▅█");
/// ```
pub fn load_bar(loads: &[f64], max_width: usize) -> String {
    ratios(loads, max_width).map(bar_of).collect()
}

/// As [`load_bar`], coloured by ANSI escapes: blue below 0.95 times the mean, red above 1.05.
pub fn load_bar_colored(loads: &[f64], max_width: usize) -> String {
    ratios(loads, max_width)
        .map(|ratio| {
            let color = match ratio {
                r if r.is_nan() => 0,
                r if r < 0.95 => 34,
                r if r > 1.05 => 31,
                _ => 32,
            };
            format!("\x1b[{color}m{}\x1b[0m", bar_of(ratio))
        })
        .collect()
}

/// Returns the loads over their mean, the largest of each bar.
fn ratios(loads: &[f64], max_width: usize) -> impl Iterator<Item = f64> {
    let mean = mean_of(loads);
    let per_bar = loads.len().div_ceil(max_width.max(1)).max(1);
    loads
        .chunks(per_bar)
        .map(move |bar| ratio_of(bar.iter().copied().fold(f64::NAN, f64::max), mean))
}

/// Returns the mean over the GPUs that work.
fn mean_of(loads: &[f64]) -> f64 {
    let working = || loads.iter().filter(|load| !load.is_nan());
    working().sum::<f64>() / working().count().max(1) as f64
}

/// Returns `load / mean`: 1 without load, NaN for a GPU that failed.
pub(super) fn ratio_of(load: f64, mean: f64) -> f64 {
    if mean > 0.0 || load.is_nan() { load / mean } else { 1.0 }
}

fn bar_of(ratio: f64) -> char {
    if ratio.is_nan() {
        return ' ';
    }
    let level = (ratio * 0.5 * BARS.len() as f64) as usize;
    BARS[level.min(BARS.len() - 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_rise_with_the_load_and_share_where_the_line_is_short() {
        assert_eq!(load_bar(&[0.0, 1.0, 2.0], 80), "▁▅█");
        assert_eq!(load_bar(&[0.0, 1.0, 2.0, 1.0], 2), "▅█");
        assert_eq!(load_bar(&[0.0, 0.0], 80), "▅▅");
        assert_eq!(load_bar(&[], 80), "");
        assert_eq!(load_bar(&[1.0, f64::NAN, 1.0], 80), "▅ ▅");
        assert_eq!(load_bar_colored(&[1.0, 3.0], 80), "\x1b[34m▃\x1b[0m\x1b[31m▇\x1b[0m");
    }
}
