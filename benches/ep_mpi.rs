//! Plan, dispatch and combine over processes, against memcpy and `MPI_Alltoallv` in the same rounds.
//!
//! `cargo xtask bench ep_mpi` sets up MPI, builds with the feature `mpi` and runs it; it starts itself under
//! `mpirun`. `MPI_Alltoallv` carries what cannot be left out: each token once to each rank with an expert of
//! it, and back one row for each expert. Its bytes are twice those sent (read and written), our bytes are
//! those of `EpRank::num_bytes`; all ranks' are added.

mod common;
#[path = "common/ep.rs"]
mod ep;
#[path = "../tests/common/mpirun.rs"]
mod mpirun;

use std::process::{Command, ExitCode};
use std::time::Instant;

use common::{NUM_ROUNDS, Work, print_line};
use ep::{EpRank, HIDDEN, NUM_RANKS, NUM_TOKENS, Phase, ROW_BYTES, layouts, token_bytes};
use moekit::comm::{World, WorldOptions};
use moekit::moe::{RecvLayout, WireFormat};
use moekit::tensor::Tensor;
use moekit::{Cpu, Result};
use mpi::Threading;
use mpi::datatype::{Partition, PartitionMut};
use mpi::topology::SimpleCommunicator;
use mpi::traits::CommunicatorCollectives;

/// Bytes that each rank's memcpy reads and writes.
const MEMCPY_BYTES: usize = (1 << 30) / NUM_RANKS;

fn main() -> ExitCode {
    let num_tokens = std::env::args().find_map(|arg| arg.parse().ok()).unwrap_or(NUM_TOKENS);
    if std::env::args().any(|arg| arg == "rank") {
        return match rank(num_tokens) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    match start(num_tokens) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

/// Starts the ranks.
fn start(num_tokens: usize) -> std::result::Result<(), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    // UCX's one-sided component prints errors where it finds no network, and looking for libfabric's
    // networks takes a second.
    let options = ["--allow-run-as-root", "--oversubscribe", "--mca", "osc", "^ucx"];
    let status = Command::new(mpirun::mpirun()?)
        .args(options)
        .args(["--mca", "btl", "^ofi", "-n", &NUM_RANKS.to_string()])
        .arg(program)
        .args(["rank", &num_tokens.to_string()])
        .status()
        .map_err(|error| format!("mpirun: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("mpirun: {status}")) }
}

/// One process.
fn rank(num_tokens: usize) -> Result<()> {
    let (universe, _) = mpi::initialize_with_threading(Threading::Multiple)
        .expect("this program alone should start MPI");
    // The same share of the cores for each; this thread is one of them.
    let num_cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = rayon::ThreadPoolBuilder::new().num_threads((num_cores / NUM_RANKS).max(1));
    threads.use_current_thread().build_global().expect("threads should start");
    let comm = universe.world();
    let world = World::mpi(WorldOptions::default())?;
    if world.rank_idx() == 0 {
        common::header(&format!("simd {}, {NUM_RANKS} processes", Cpu::new().simd()));
    }
    for (format, wire) in [("BF16", WireFormat::Bf16), ("FP8", WireFormat::Fp8)] {
        for (name, layout) in layouts(num_tokens) {
            let shape = format!("{format} {name} {num_tokens} x {HIDDEN}");
            bench(&world, &comm, num_tokens, wire, layout, &shape)?;
        }
    }
    world.close()
}

fn bench(
    world: &World,
    comm: &SimpleCommunicator,
    num_tokens: usize,
    wire: WireFormat,
    layout: RecvLayout,
    shape: &str,
) -> Result<()> {
    let cpu = Cpu::new();
    let mut rank = EpRank::new(&cpu, world, num_tokens, wire, layout)?;
    let received = rank.received()?;
    let mut dispatch = Exchange::new(comm, received.num_tokens_from, token_bytes(wire), false);
    let mut combine = Exchange::new(comm, received.num_rows_from, ROW_BYTES, true);
    let most = dispatch.num_bytes().max(combine.num_bytes()).max(MEMCPY_BYTES / 2);
    let mut from = Tensor::<Cpu, u8, 1>::zeros(&cpu, [most])?;
    let mut to = Tensor::<Cpu, u8, 1>::zeros(&cpu, [most])?;
    // Untouched pages are not read from memory.
    from.view_mut().as_mut_span().fill(1);

    let num_bytes_of = |own: usize| {
        let all = world.all_gather("bench", &own.to_le_bytes())?;
        let number = |bytes: &Vec<u8>| bytes.as_slice().try_into().map(usize::from_le_bytes);
        Ok::<usize, moekit::Error>(all.iter().map(|bytes| number(bytes).unwrap_or(0)).sum())
    };
    let alltoallv_bytes = num_bytes_of(dispatch.sent_bytes() + combine.sent_bytes())?;
    let phases: Vec<Phase> = Phase::ALL.into_iter().filter(|&phase| phase != Phase::Gate).collect();
    let bytes = phases.iter().map(|&phase| num_bytes_of(rank.num_bytes(phase)?));
    let bytes = bytes.collect::<Result<Vec<_>>>()?;

    let mut best = vec![f64::INFINITY; phases.len()];
    let (mut memcpy, mut alltoallv) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..NUM_ROUNDS.min(6) {
        memcpy = memcpy.min(seconds(comm, || {
            let half = MEMCPY_BYTES / 2;
            to.view_mut().as_mut_span()[..half].copy_from_slice(&from.view().as_span()[..half]);
            Ok(())
        })?);
        alltoallv = alltoallv.min(seconds(comm, || {
            dispatch.run(comm, from.view().as_span(), to.view_mut().as_mut_span());
            combine.run(comm, from.view().as_span(), to.view_mut().as_mut_span());
            Ok(())
        })?);
        for (&phase, best) in phases.iter().zip(&mut best) {
            *best = best.min(seconds(comm, || rank.run(phase))?);
        }
    }
    if world.rank_idx() == 0 {
        let memcpy_gb_per_s = (NUM_RANKS * MEMCPY_BYTES) as f64 / memcpy / 1e9;
        let alltoallv_work = Work { num_bytes: 2 * alltoallv_bytes, num_flops: 0 };
        let alltoallv_gb_per_s = alltoallv_work.num_bytes as f64 / alltoallv / 1e9;
        let limits = [("memcpy", memcpy_gb_per_s), ("Alltoallv", alltoallv_gb_per_s)];
        print_line("MPI_Alltoallv", shape, alltoallv_work, limits[0], alltoallv);
        for ((phase, num_bytes), seconds) in phases.iter().zip(bytes).zip(best) {
            let work = Work { num_bytes, num_flops: 0 };
            let is_whole = *phase == Phase::Whole;
            for limit in limits.into_iter().take(if is_whole { 2 } else { 1 }) {
                print_line(phase.name(), shape, work, limit, seconds);
            }
        }
    }
    Ok(())
}

/// Time until the last rank is done.
fn seconds(comm: &SimpleCommunicator, stage: impl FnOnce() -> Result<()>) -> Result<f64> {
    comm.barrier();
    let start = Instant::now();
    stage()?;
    comm.barrier();
    Ok(start.elapsed().as_secs_f64())
}

/// The counts of an `MPI_Alltoallv`, in bytes.
struct Exchange {
    send_counts: Vec<i32>,
    send_offsets: Vec<i32>,
    recv_counts: Vec<i32>,
    recv_offsets: Vec<i32>,
}

impl Exchange {
    /// From the rows of `row_bytes` that this rank gets from each; or gives to each, if it is the way back.
    fn new(
        comm: &SimpleCommunicator,
        num_rows: [usize; NUM_RANKS],
        row_bytes: usize,
        is_way_back: bool,
    ) -> Self {
        let own: Vec<i32> =
            num_rows.iter().map(|&num_rows| (num_rows * row_bytes) as i32).collect();
        let mut others = vec![0; NUM_RANKS];
        comm.all_to_all_into(&own, &mut others);
        let (send_counts, recv_counts) = if is_way_back { (own, others) } else { (others, own) };
        let offsets = |counts: &[i32]| {
            let add = |end: &mut i32, &count: &i32| Some(std::mem::replace(end, *end + count));
            counts.iter().scan(0, add).collect::<Vec<_>>()
        };
        Self {
            send_offsets: offsets(&send_counts),
            recv_offsets: offsets(&recv_counts),
            send_counts,
            recv_counts,
        }
    }

    fn sent_bytes(&self) -> usize {
        self.send_counts.iter().map(|&count| count as usize).sum()
    }

    /// Bytes of the larger side.
    fn num_bytes(&self) -> usize {
        self.sent_bytes().max(self.recv_counts.iter().map(|&count| count as usize).sum())
    }

    fn run(&mut self, comm: &SimpleCommunicator, from: &[u8], to: &mut [u8]) {
        let send = Partition::new(from, &self.send_counts[..], &self.send_offsets[..]);
        let mut recv = PartitionMut::new(to, &self.recv_counts[..], &self.recv_offsets[..]);
        comm.all_to_all_varcount_into(&send, &mut recv);
    }
}
