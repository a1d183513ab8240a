//! The tables of instructions of the crate vgpu, by way of the driver's API: on the virtual GPU, or, with
//! `--hardware`, on the GPU of this machine. `--record FILE` writes the file of products that
//! `tools/vgpu/tests/golden` has instead.

#[path = "../../../vgpu/tests/support/approximate.rs"]
mod approximate;
#[path = "../cudarc/child.rs"]
#[allow(dead_code, unused_macros, unused_imports)]
mod child;
#[path = "../../../vgpu/tests/support/ops.rs"]
mod ops;
#[path = "../../../vgpu/tests/support/products/mod.rs"]
mod products;

use std::env;
use std::fs;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaStream, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::Ptx;
use libtest_mimic::{Arguments, Failed, Trial};

/// Set in the process that finds the virtual GPU.
const CHILD: &str = "VGPU_INSTRUCTIONS_CHILD";

const TABLES: [(&str, &str); 6] = [
    ("integer", include_str!("../../../vgpu/tests/ops/integer.txt")),
    ("bits", include_str!("../../../vgpu/tests/ops/bits.txt")),
    ("float", include_str!("../../../vgpu/tests/ops/float.txt")),
    ("corners", include_str!("../../../vgpu/tests/ops/corners.txt")),
    ("compare", include_str!("../../../vgpu/tests/ops/compare.txt")),
    ("convert", include_str!("../../../vgpu/tests/ops/convert.txt")),
];
const PRODUCTS: &str = include_str!("../../../vgpu/tests/golden/products.txt");

fn main() -> ExitCode {
    let mut args: Vec<String> = env::args().collect();
    let is_hardware = take(&mut args, "--hardware").is_some();
    if !is_hardware && env::var_os(CHILD).is_none() {
        return on_the_virtual_gpu(&args[1..]);
    }
    let file = take(&mut args, "--record").map(|at| args.remove(at));
    let gpu = match Gpu::open() {
        Ok(gpu) => gpu,
        Err(error) => {
            eprintln!("instructions: no GPU can be used: {error}");
            return ExitCode::from(2);
        }
    };
    eprintln!("on {}", gpu.name);
    if let Some(file) = file {
        let recorded = products::record(|product| gpu.product(product));
        return match fs::write(&file, recorded) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("instructions: {file} cannot be written: {error}");
                ExitCode::from(2)
            }
        };
    }
    libtest_mimic::run(&Arguments::from_iter(args), trials(gpu, is_hardware)).exit_code()
}

/// Removes an option, and tells where it was.
fn take(args: &mut Vec<String>, option: &str) -> Option<usize> {
    let at = args.iter().position(|arg| arg == option)?;
    args.remove(at);
    Some(at)
}

/// This program again, with the virtual GPU's library where it looks for the driver.
fn on_the_virtual_gpu(args: &[String]) -> ExitCode {
    let folder = child::library_folder();
    let mut command = Command::new(env::current_exe().expect("the test's path"));
    command.args(args).env(CHILD, "1").env("LD_LIBRARY_PATH", folder.path());
    let status = command.env("VGPU_ACCUMULATION", "hopper").status();
    match status.expect("the test's own program starts").success() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn trials(gpu: Arc<Gpu>, is_hardware: bool) -> Vec<Trial> {
    let expect_none = |differences: Vec<String>| match differences.is_empty() {
        true => Ok(()),
        false => Err(Failed::from(differences.join("\n"))),
    };
    let mut trials = Vec::new();
    for (name, table) in TABLES {
        let gpu = gpu.clone();
        trials.push(Trial::test(format!("table_{name}"), move || {
            expect_none(ops::differences(table, |ptx, num_threads, inputs| {
                gpu.run(ptx, 1, num_threads, &[inputs, &[]], num_threads)
            }))
        }));
    }
    let products = gpu.clone();
    trials.push(Trial::test("products_have_the_bits_of_the_file", move || {
        let recorded = products::record(|product| products.product(product));
        expect_none(products::differences(PRODUCTS, &recorded))
    }));
    for approximate in &approximate::ALL {
        let gpu = gpu.clone();
        trials.push(Trial::test(approximate.instruction, move || {
            gpu.approximate(approximate, is_hardware)
        }));
    }
    trials
}

/// An open device.
struct Gpu {
    stream: Arc<CudaStream>,
    name: String,
}

impl Gpu {
    fn open() -> Result<Arc<Self>, String> {
        let context = CudaContext::new(0).map_err(|error| error.to_string())?;
        let name = context.name().map_err(|error| error.to_string())?;
        let stream = context.default_stream();
        Ok(Arc::new(Gpu { stream, name }))
    }

    /// Runs kernel `k` with the addresses of the inputs, if there are any in the second list, and of
    /// the results.
    fn run<T: cudarc::driver::DeviceRepr + Default + Clone>(
        &self,
        ptx: &str,
        num_blocks: usize,
        num_threads: usize,
        inputs: &[&[T]; 2],
        num_results: usize,
    ) -> Result<Vec<T>, String> {
        let run = || {
            let context = self.stream.context();
            context.bind_to_thread()?;
            let module = context.load_module(Ptx::from_src(ptx))?;
            let kernel = module.load_function("k")?;
            let first = self.stream.clone_htod(inputs[0])?;
            let second = match inputs[1] {
                [] => None,
                words => Some(self.stream.clone_htod(words)?),
            };
            let mut results = self.stream.clone_htod(&vec![T::default(); num_results])?;
            let mut launch = self.stream.launch_builder(&kernel);
            launch.arg(&first);
            if let Some(second) = &second {
                launch.arg(second);
            }
            launch.arg(&mut results);
            let config = LaunchConfig {
                grid_dim: (num_blocks as u32, 1, 1),
                block_dim: (num_threads as u32, 1, 1),
                shared_mem_bytes: 0,
            };
            // SAFETY: the kernels read and write what was allocated for them.
            unsafe { launch.launch(config) }?;
            self.stream.clone_dtoh(&results)
        };
        run().map_err(|error: cudarc::driver::DriverError| error.to_string())
    }

    fn product(&self, product: &products::Launch) -> Result<Vec<u32>, String> {
        let [a, b] = &product.inputs;
        self.run(&product.ptx, 1, product.num_threads, &[a, b], product.num_results)
    }

    /// The virtual GPU rounds once.
    fn approximate(
        &self,
        approximate: &approximate::Approximate,
        is_hardware: bool,
    ) -> Result<(), Failed> {
        let numbers = approximate.numbers();
        let num_blocks = approximate::NUM / 1024;
        let results =
            self.run(&approximate.kernel(), num_blocks, 1024, &[&numbers, &[]], approximate::NUM)?;
        let [ulps, error] = approximate.errors(&numbers, &results);
        println!("{}: {ulps:.4} ulp, {error:.3e}", approximate.instruction);
        let is_close = match approximate.on_h200 {
            _ if !is_hardware => ulps <= 0.5001,
            approximate::Error::Ulps(bound) => ulps <= bound,
            approximate::Error::Absolute(bound) => error <= bound,
        };
        match is_close {
            true => Ok(()),
            false => Err(format!("{ulps} ulp, {error}: see `on_h200`").into()),
        }
    }
}
