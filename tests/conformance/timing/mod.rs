//! The timing table of a backend: events around one call, cold caches, the median of several.

mod gemm;
mod memory_bound;

use std::time::Duration;

use moekit::cost::{Cost, DeviceSpec};
use moekit::moe::swiglu::{SwigluArgs, SwigluInput};
use moekit::num::bf16;
use moekit::tensor::Tensor;
use moekit::{Backend, Error, Result};

/// Calls of each row; the first ones warm up and are not counted.
const NUM_CALLS: usize = 23;
const NUM_WARM_UP: usize = 3;

/// What to time.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// Only this stage.
    pub stage: Option<&'a str>,
    /// Extents are divided by this: 1 for figures, more to try the table where calls are slow.
    pub divisor: usize,
}

impl Options<'_> {
    /// A smaller extent, a multiple of `multiple`.
    fn extent(&self, full: usize, multiple: usize) -> usize {
        (full / self.divisor).next_multiple_of(multiple).max(multiple)
    }
}

/// One row of the table.
struct Row<'a, B: Backend> {
    stage: &'static str,
    name: &'static str,
    shape: String,
    cost: Cost,
    /// 10^12 operations per second that a peer has published for the shape, on an H800.
    published_tflops: Option<f64>,
    /// Enqueues one call.
    call: Call<'a, B>,
}

type Call<'a, B> = Box<dyn FnMut(&<B as Backend>::Stream) -> Result<()> + 'a>;

/// Times every row, each with memory of its own, and prints it at once.
pub fn print<B: Backend>(backend: &B, device_name: &str, options: Options<'_>) -> Result<()> {
    let device = device_like(device_name);
    println!(
        "\nTimes on {device_name}: events, caches flushed before each call, median of {}.",
        NUM_CALLS - NUM_WARM_UP
    );
    println!(
        "x floor: over the least time of {} (its data sheet). DeepGEMM: its published TFLOP/s on an H800.",
        device.name
    );
    if options.divisor > 1 {
        println!("Extents are divided by {}: no figures to keep.", options.divisor);
    }
    println!("\n| name | shape | us | TFLOP/s | GB/s | x floor | DeepGEMM |");
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: |");
    let mut timer = Timer::new(backend, options)?;
    let mut print_row = |row: Row<'_, B>| timer.print(row, &device);
    if options.stage.is_none_or(|stage| stage == "gemm") {
        gemm::rows(backend, options, &mut print_row)?;
    }
    memory_bound::rows(backend, options, &mut print_row)?;
    timer.failed.map_or(Ok(()), Err)
}

/// The described device that a name means, or the one that the kernels are made for.
fn device_like(name: &str) -> DeviceSpec {
    let name = name.to_lowercase();
    let known = DeviceSpec::ALL.into_iter().find(|device| name.contains(device.name));
    known.unwrap_or(DeviceSpec::H100_SXM)
}

/// A stream, and what it takes to empty the caches.
struct Timer<'b, B: Backend> {
    backend: &'b B,
    stream: B::Stream,
    stage: Option<String>,
    flushed: Tensor<B, bf16, 2>,
    flushed_into: Tensor<B, bf16, 2>,
    /// The first row's error.
    failed: Option<Error>,
}

impl<'b, B: Backend> Timer<'b, B> {
    fn new(backend: &'b B, options: Options<'_>) -> Result<Self> {
        // Read and written together: 192 MiB, several times any L2.
        let (rows, half) = (options.extent(8192, 1), 4096);
        Ok(Self {
            backend,
            stream: backend.stream()?,
            stage: options.stage.map(str::to_owned),
            flushed: Tensor::zeros(backend, [rows, 2 * half])?,
            flushed_into: Tensor::zeros(backend, [rows, half])?,
            failed: None,
        })
    }

    /// Prints a row, or what went wrong with it; that goes on to the caller at the end.
    fn print(&mut self, mut row: Row<'_, B>, device: &DeviceSpec) {
        if self.stage.as_deref().is_some_and(|stage| stage != row.stage) {
            return;
        }
        let Row { name, shape, cost, published_tflops, .. } = &row;
        let (name, shape) = (*name, shape.clone());
        let (cost, published) = (*cost, number(*published_tflops));
        match self.time_us(&mut row.call) {
            Ok(time_us) => {
                let rate = |count: u64, per: f64| {
                    number((count > 0).then(|| count as f64 / time_us / per))
                };
                let (tflops, gb_per_s) = (rate(cost.flops(), 1e6), rate(cost.hbm_bytes, 1e3));
                let x_floor = time_us / cost.floor(device).time_us();
                println!(
                    "| {name} | {shape} | {time_us:.1} | {tflops} | {gb_per_s} | {x_floor:.2} | {published} |"
                );
            }
            Err(error) => {
                println!("| {name} | {shape} | {error} | | | | |");
                self.failed.get_or_insert(error);
            }
        }
    }

    /// Median time of a call.
    fn time_us(&mut self, call: &mut Call<'_, B>) -> Result<f64> {
        let mut times = Vec::with_capacity(NUM_CALLS);
        for _ in 0..NUM_CALLS {
            let input = SwigluInput::new(self.flushed.view());
            let flush = SwigluArgs::new(input, self.flushed_into.view_mut())?;
            self.backend.swiglu(&self.stream, flush)?;
            let start = self.backend.record(&self.stream)?;
            call(&self.stream)?;
            let end = self.backend.record(&self.stream)?;
            times.push(self.backend.elapsed(&start, &end)?);
        }
        self.backend.check(&self.stream)?;
        Ok(median(&mut times[NUM_WARM_UP..]).as_secs_f64() * 1e6)
    }
}

/// A whole number, or a dash for none.
fn number(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.0}"))
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
