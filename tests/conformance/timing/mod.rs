//! The timing table of a backend: events around one call, cold caches, the median of several; beside them what the
//! same run measures as limits, and what a call costs the host.

mod gemm;
mod gemm_swiglu;
mod inputs;
mod limits;
mod quant;
mod routing;
mod swiglu;

use std::time::{Duration, Instant};

use moekit::backend::cuda::Cuda;
use moekit::cost::{Cost, DeviceSpec};
use moekit::moe::swiglu::{SwigluArgs, SwigluInput};
use moekit::num::bf16;
use moekit::tensor::Tensor;
use moekit::{Backend, Cpu, Error, Result};

use limits::Limits;

/// Calls of each row; the first ones warm up and are not counted.
const NUM_CALLS: usize = 23;
const NUM_WARM_UP: usize = 3;
/// Calls that are enqueued one after another for the host's time: fewer than a stream takes without waiting.
const NUM_ENQUEUED: usize = 200;

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

    fn has(&self, stage: &str) -> bool {
        self.stage.is_none_or(|wanted| wanted == stage)
    }
}

/// One row of the table.
struct Row<'a, B: Backend> {
    name: &'static str,
    shape: String,
    cost: Cost,
    /// 10^12 operations per second that a peer has published for the shape, on an H800.
    published_tflops: Option<f64>,
    /// Enqueues one call.
    call: Call<'a, B>,
}

type Call<'a, B> = Box<dyn FnMut(&<B as Backend>::Stream) -> Result<()> + 'a>;

/// Prints the table of the device that a backend drives.
pub fn print_cuda(cuda: &Cuda, options: Options<'_>) -> Result<()> {
    let limits = Limits::of_cuda(cuda, options)?;
    print(cuda, &cuda.device_name()?, limits, options, |print_row| {
        if options.has("gemm") { gemm::rows_of_few(cuda, options, print_row) } else { Ok(()) }
    })
}

/// Prints the table of the processor.
pub fn print_cpu(options: Options<'_>) -> Result<()> {
    print(&Cpu::new(), "the processor", Limits::of_processor(options), options, |_| Ok(()))
}

/// Times every row, each with memory of its own, and prints it at once; `own` has the backend's own rows.
fn print<B: Backend>(
    backend: &B,
    device_name: &str,
    limits: Limits,
    options: Options<'_>,
    own: impl FnOnce(&mut dyn FnMut(Row<'_, B>)) -> Result<()>,
) -> Result<()> {
    let device = device_like(device_name);
    println!(
        "\nTimes on {device_name}: events, caches flushed before each call, median of {}.",
        NUM_CALLS - NUM_WARM_UP
    );
    println!(
        "Measured likewise in this run: an empty call {:.1} us, a copy {:.0} GB/s (read and written).",
        limits.empty_us, limits.copy_gb_per_s
    );
    println!(
        "host us: what enqueuing costs the calling thread, median of {NUM_ENQUEUED} calls without a wait."
    );
    println!("x measured: over the longer of the empty call and the copy of as many bytes;");
    println!("    left out where arithmetic is the limit.");
    println!(
        "x floor: over the least time of {} (its data sheet). DeepGEMM: its published TFLOP/s on an H800.",
        device.name
    );
    if options.divisor > 1 {
        println!("Extents are divided by {}: no figures to keep.", options.divisor);
    }
    println!(
        "\n| name | shape | us | host us | TFLOP/s | GB/s | x measured | x floor | DeepGEMM |"
    );
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    let mut timer = Timer::new(backend, backend.stream()?, options)?;
    let mut failed = None;
    let mut print_row = |row: Row<'_, B>| print_row(&mut timer, row, &device, limits, &mut failed);
    if options.has("gemm") {
        gemm::rows(backend, options, &mut print_row)?;
    }
    if options.has("gemm_swiglu") {
        gemm_swiglu::rows(backend, options, &mut print_row)?;
    }
    if options.has("gate") || options.has("plan") {
        routing::rows(backend, options, &mut print_row)?;
    }
    if options.has("quant") {
        quant::rows(backend, options, &mut print_row)?;
    }
    if options.has("swiglu") {
        swiglu::rows(backend, options, &mut print_row)?;
    }
    own(&mut print_row)?;
    failed.map_or(Ok(()), Err)
}

/// The described device that a name means, or the one that the kernels are made for.
fn device_like(name: &str) -> DeviceSpec {
    let name = name.to_lowercase();
    let known = DeviceSpec::ALL.into_iter().find(|device| name.contains(device.name));
    known.unwrap_or(DeviceSpec::H100_SXM)
}

/// Prints a row, or what went wrong with it; the first that failed goes on to the caller at the end.
fn print_row<B: Backend>(
    timer: &mut Timer<'_, B>,
    row: Row<'_, B>,
    device: &DeviceSpec,
    limits: Limits,
    failed: &mut Option<Error>,
) {
    let Row { name, shape, cost, published_tflops, mut call } = row;
    let timed = timer.time_us(&mut call).and_then(|us| Ok((us, timer.host_us(&mut call)?)));
    match timed {
        Ok((time_us, host_us)) => {
            let rate =
                |count: u64, per: f64| number((count > 0).then(|| count as f64 / time_us / per));
            let (tflops, gb_per_s) = (rate(cost.flops(), 1e6), rate(cost.hbm_bytes, 1e3));
            let floor = cost.floor(device);
            let x_measured = match floor.tensor_us <= floor.hbm_us {
                true => format!("{:.2}", time_us / limits.time_us(&cost)),
                false => "-".to_owned(),
            };
            let x_floor = time_us / floor.time_us();
            let published = number(published_tflops);
            println!(
                "| {name} | {shape} | {time_us:.1} | {host_us:.1} | {tflops} | {gb_per_s} | {x_measured} | {x_floor:.2} | {published} |"
            );
        }
        Err(error) => {
            println!("| {name} | {shape} | {error} | | | | | | |");
            failed.get_or_insert(error);
        }
    }
}

/// A stream, and what it takes to empty the caches.
struct Timer<'b, B: Backend> {
    backend: &'b B,
    stream: B::Stream,
    /// Calls for the host's time.
    num_enqueued: usize,
    flushed: Tensor<B, bf16, 2>,
    flushed_into: Tensor<B, bf16, 2>,
}

impl<'b, B: Backend> Timer<'b, B> {
    fn new(backend: &'b B, stream: B::Stream, options: Options<'_>) -> Result<Self> {
        // Read and written together: 192 MiB, several times any L2.
        let (rows, half) = (options.extent(8192, 1), 4096);
        Ok(Self {
            backend,
            stream,
            num_enqueued: NUM_ENQUEUED.div_ceil(options.divisor),
            flushed: Tensor::zeros(backend, [rows, 2 * half])?,
            flushed_into: Tensor::zeros(backend, [rows, half])?,
        })
    }

    /// Median time of a call on the device.
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
        Ok(median_us(&mut times[NUM_WARM_UP..]))
    }

    /// Median time that the thread spends in a call.
    fn host_us(&mut self, call: &mut Call<'_, B>) -> Result<f64> {
        let mut times = Vec::with_capacity(self.num_enqueued);
        for _ in 0..self.num_enqueued {
            let started = Instant::now();
            call(&self.stream)?;
            times.push(started.elapsed());
        }
        self.backend.check(&self.stream)?;
        Ok(median_us(&mut times))
    }
}

/// A whole number, or a dash for none.
fn number(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.0}"))
}

fn median_us(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e6
}
