//! `cargo xtask toolchain`: MPI and CUDA under `target/toolchain/`, without root.

mod cuda;
mod environment;
pub mod libclang;
mod lock;
mod mpi;
mod pins;
mod venv;

use std::path::PathBuf;
use std::process::ExitCode;

use crate::error::Result;
use crate::prerequisites::{self, Tool};
use crate::workspace;

pub use cuda::Cuda;
pub use environment::{Change, Environment};
pub use mpi::Mpi;

#[derive(clap::Args)]
pub struct Args {
    /// Open MPI and libclang: the system's if both are there, else pinned wheels.
    #[arg(long)]
    mpi: bool,
    /// nvcc and its tools from pinned wheels; no GPU needed.
    #[arg(long)]
    cuda: bool,
    /// Print where things are as JSON.
    #[arg(long, conflicts_with = "env")]
    json: bool,
    /// Print the environment for a shell: eval "$(cargo xtask toolchain --mpi --env)".
    #[arg(long)]
    env: bool,
}

/// Sets up what is named; both if nothing is.
pub fn run(args: &Args) -> Result<ExitCode> {
    let (mpi, cuda) = (args.mpi || !args.cuda, args.cuda || !args.mpi);
    prerequisites::check(required_tools(mpi, cuda))?;
    let mpi = mpi.then(Mpi::ensure).transpose()?;
    let cuda = cuda.then(Cuda::ensure).transpose()?;

    let mut environment = Environment::default();
    if let Some(mpi) = &mpi {
        environment.0.extend(mpi.environment()?.0);
    }
    if let Some(cuda) = &cuda {
        environment.0.extend(cuda.environment().0);
    }
    if args.json {
        let env = environment.to_json();
        println!("{:#}", serde_json::json!({ "mpi": mpi, "cuda": cuda, "env": env }));
    } else if args.env {
        print!("{}", environment.shell_lines());
    } else {
        print_places(mpi.as_ref(), cuda.as_ref());
    }
    Ok(ExitCode::SUCCESS)
}

/// What must be on the machine to set these up and build with them.
pub fn required_tools(mpi: bool, cuda: bool) -> Vec<Tool> {
    let mut tools = prerequisites::BUILD.to_vec();
    if (mpi && Mpi::needs_install()) || (cuda && Cuda::needs_install()) {
        tools.push(Tool::Python);
    }
    tools
}

/// Where everything is installed.
fn toolchain_dir() -> PathBuf {
    workspace::target_dir().join("toolchain")
}

fn print_places(mpi: Option<&Mpi>, cuda: Option<&Cuda>) {
    if let Some(mpi) = mpi {
        println!("Open MPI {} ({})", mpi.version, mpi.source);
        println!("  mpicc     {}", mpi.mpicc.display());
        println!("  mpirun    {}", mpi.mpirun.display());
        println!("  libclang  {}", mpi.libclang_dir.display());
    }
    if let Some(cuda) = cuda {
        println!("CUDA compiler {} (wheels)", cuda.version);
        println!("  nvcc      {}", cuda.nvcc.display());
        println!("  toolkit   {}", cuda.toolkit.display());
    }
    let flags = [mpi.map(|_| "--mpi "), cuda.map(|_| "--cuda ")].into_iter().flatten();
    let flags: String = flags.collect();
    println!("To build and run by hand: eval \"$(cargo xtask toolchain {flags}--env)\"");
}
