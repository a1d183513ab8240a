//! The time model beside published rates.

use std::fmt::Write;

use moekit::backend::cuda::heuristics::{
    ChooseOptions, Efficiency, Estimate, GemmConfig, PUBLISHED, PublishedProduct, choose,
};
use moekit::cost::DeviceSpec;
use moekit::gemm::{GemmKind, GemmShape};
use moekit::{Error, Result};
use serde::Serialize;

use super::explain::{bound_name, describe, mean};

#[derive(Serialize)]
pub struct Report {
    device: DeviceSpec,
    /// What was fitted.
    efficiency: Efficiency,
    rows: Vec<Row>,
    mean_error: f64,
    worst_error: f64,
}

#[derive(Serialize)]
struct Row {
    published: PublishedProduct,
    predicted: Estimate,
    predicted_tflops: f64,
    /// Predicted over published, less 1.
    error: f64,
    /// What moekit would launch.
    config: GemmConfig,
    /// What the model expects of it.
    expected: Estimate,
    expected_tflops: f64,
}

/// Predicts every published row. Only the H800's are published.
pub fn report(device: &str) -> Result<Report> {
    let device = DeviceSpec::named(device)?;
    if device != DeviceSpec::H800 {
        return Err(Error::value(
            "gemm",
            "--model",
            "h800, the device of the published rates",
            device.name,
        ));
    }
    let efficiency = Efficiency::FITTED;
    let rows = PUBLISHED.iter().map(|published| Row::new(published, &device, &efficiency));
    let rows: Vec<Row> = rows.collect::<Result<_>>()?;
    let errors = || rows.iter().map(|row| row.error.abs());
    let mean_error = errors().sum::<f64>() / rows.len() as f64;
    let worst_error = errors().fold(0.0, f64::max);
    Ok(Report { device, efficiency, rows, mean_error, worst_error })
}

impl Row {
    fn new(
        published: &PublishedProduct,
        device: &DeviceSpec,
        efficiency: &Efficiency,
    ) -> Result<Self> {
        let shape = published.shape();
        let predicted = Estimate::new(&shape, &published.config(), device, efficiency);
        let predicted_tflops = predicted.tflops(&shape);
        let [m, n, k] = published.mnk;
        // The host does not know that all groups are of the same size.
        let asked =
            GemmShape { num_groups: shape.num_groups, ..GemmShape::new(shape.kind, m, n, k) };
        let options = ChooseOptions { efficiency: *efficiency, ..ChooseOptions::default() };
        let config = choose(&asked, device, &options)?.config;
        let expected = Estimate::new(&shape, &config, device, efficiency);
        Ok(Self {
            published: *published,
            predicted,
            predicted_tflops,
            error: predicted_tflops / published.tflops - 1.0,
            config,
            expected,
            expected_tflops: expected.tflops(&shape),
        })
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let published = &self.published;
        let kind = match published.kind {
            GemmKind::Dense => "dense",
            GemmKind::Contiguous => "contiguous",
            GemmKind::Masked => "masked",
            GemmKind::KGrouped => "k-grouped",
        };
        let [m, n, k] = published.mnk;
        let ([block_m, block_n], ..) = published.launch;
        let groups = match published.num_groups {
            1 => String::new(),
            num => format!("{num} x "),
        };
        writeln!(
            text,
            "{kind:<11} {:<21} {:<8} {:>5} {:>9.0} {:>9.0} {:>+6.1} %  {:<12}  {:<20} {:>8.0} {:>6.2}",
            format!("{groups}{m}, {n}, {k}"),
            format!("{block_m}x{block_n}"),
            mean(self.predicted.num_waves),
            published.tflops,
            self.predicted_tflops,
            100.0 * self.error,
            bound_name(self.predicted.bound),
            describe(&self.config),
            self.expected_tflops,
            self.expected_tflops / published.tflops,
        )
    }
}

impl Report {
    pub fn text(&self) -> String {
        let mut text = String::new();
        // NOTE: writing to a string cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        writeln!(
            text,
            "{:<11} {:<21} {:<8} {:>5} {:>9} {:>9} {:>8}  {:<12}  {:<20} {:>8} {:>6}",
            "TFLOP/s",
            "M, N, K",
            "tile",
            "waves",
            "published",
            "predicted",
            "error",
            "bound by",
            "moekit's tile",
            "expected",
            "x pub."
        )?;
        for row in &self.rows {
            row.write(text)?;
        }
        let Efficiency { clock, hbm, k_block_cycles, tile_cycles } = self.efficiency;
        writeln!(
            text,
            "\nerror: mean {:.1} %, worst {:.1} %, over {} rows",
            100.0 * self.mean_error,
            100.0 * self.worst_error,
            self.rows.len(),
        )?;
        writeln!(
            text,
            "fitted: clock {:.1} % of {} GHz, memory {:.1} % of {} GB/s, {k_block_cycles:.0} cycles a block of K, {tile_cycles:.0} cycles a tile",
            100.0 * clock,
            self.device.clock_ghz,
            100.0 * hbm,
            self.device.hbm_gb_per_s,
        )?;
        writeln!(
            text,
            "A model of DeepGEMM's published rates on an H800. What it expects of moekit rests on the same four figures: \
             none of its kernels ran on an H800."
        )
    }
}
