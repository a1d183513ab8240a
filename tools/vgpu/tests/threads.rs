//! Launches whose clusters run on several host threads.

mod support;

use support::{Gpu, launch};
use vgpu::{Asynchrony, Checks, Launch, LaunchError};

/// Blocks of 64 threads do `body` with their block's number in `%b` and 1 in `%one` after 4000 turns of
/// a loop, so that the launch is worth several threads.
fn kernel(body: &str) -> String {
    format!(
        ".version 8.7\n.target sm_90a\n.address_size 64\n\
         .entry k(.param .u64 p) {{\n.reg .b64 %p, %x; .reg .b32 %b, %i, %t, %n, %one; .reg .pred %q;\n\
         ld.param.u64 %p, [p];\nmov.u32 %b, %ctaid.x;\nmov.u32 %n, %nctaid.x;\nmov.u32 %t, %tid.x;\n\
         mov.u32 %one, 1;\nmov.u32 %i, 0;\n\
         $more: add.u32 %i, %i, 1;\nsetp.lt.u32 %q, %i, 4000;\n@%q bra $more;\n{body}\nret;\n}}\n"
    )
}

fn shape(blocks: u32, params: &[u64], host_threads: usize, mode: Asynchrony) -> Launch {
    let asynchrony = Some(mode);
    // Only without checkers and counts do clusters leave the launch's own thread.
    let checks = Some(Checks::NONE);
    let shape = launch(blocks, 64, params);
    Launch { host_threads, asynchrony, checks, counts: false, fuel: 200_000_000, ..shape }
}

const MODES: [Asynchrony; 3] = [Asynchrony::Earliest, Asynchrony::Latest, Asynchrony::Random(5)];

#[test]
fn atomics_and_counts_do_not_depend_on_the_threads() {
    // A sum of all, and the largest in a word of each block's own.
    let text = kernel(
        "red.global.add.u32 [%p], %one;\nmul.wide.u32 %x, %b, 4;\nadd.u64 %x, %p, %x;\n\
         atom.global.max.u32 %i, [%x+4], %t;",
    );
    let gpu = Gpu::new(&text);
    for mode in MODES {
        let mut reports = Vec::new();
        for host_threads in [1, 2, 5, 0] {
            let out = gpu.upload(&[0u32; 101]);
            let report = gpu.launch("k", &shape(100, &[out], host_threads, mode)).unwrap();
            let got = gpu.download::<u32>(out, 101);
            assert_eq!(got[0], 6400, "{mode:?} on {host_threads} threads");
            assert_eq!(got[1..], [63; 100], "{mode:?} on {host_threads} threads");
            reports.push(report);
        }
        assert!(reports.iter().all(|it| *it == reports[0]), "{mode:?}: {reports:?}");
    }
}

#[test]
fn blocks_that_live_together_wait_for_each_other() {
    // Each block tells the next one, and the first the last: nobody can end before all have begun.
    let text = kernel(
        "setp.ne.u32 %q, %t, 0;\n@%q ret;\nmul.wide.u32 %x, %b, 4;\nadd.u64 %x, %p, %x;\n\
         st.release.gpu.global.u32 [%x], %one;\nadd.u32 %i, %b, 1;\nrem.u32 %i, %i, %n;\n\
         mul.wide.u32 %x, %i, 4;\nadd.u64 %x, %p, %x;\n\
         $wait: ld.acquire.gpu.global.u32 %t, [%x];\nsetp.eq.u32 %q, %t, 0;\n@%q bra $wait;",
    );
    let gpu = Gpu::new(&text);
    for mode in MODES {
        for host_threads in [1, 2, 3] {
            let flags = gpu.upload(&[0u32; 8]);
            let shape = Launch { cooperative: true, ..shape(8, &[flags], host_threads, mode) };
            gpu.launch("k", &shape).unwrap_or_else(|error| panic!("{mode:?}: {error}"));
            assert_eq!(gpu.download::<u32>(flags, 8), [1; 8]);
        }
    }
}

#[test]
fn a_fault_on_any_thread_ends_the_launch() {
    let text = kernel("setp.eq.u32 %q, %b, 37;\n@%q st.global.u32 [%p+4096], %one;");
    let gpu = Gpu::new(&text);
    let out = gpu.upload(&[0u32; 4]);
    for host_threads in [1, 2, 4] {
        let result = gpu.launch("k", &shape(64, &[out], host_threads, Asynchrony::Earliest));
        let Err(LaunchError::Fault(fault)) = result else { panic!("{result:?}") };
        assert_eq!(fault.at.map(|at| at.block), Some([37, 0, 0]));
    }
}

#[test]
fn the_fuel_is_that_of_all_threads() {
    let text = kernel("$for_ever: bra $for_ever;");
    let gpu = Gpu::new(&text);
    for host_threads in [1, 2] {
        let shape = shape(8, &[0], host_threads, Asynchrony::Latest);
        let result = gpu.launch("k", &Launch { fuel: 1_000_000, ..shape });
        assert!(result.unwrap_err().to_string().contains("still running"), "{host_threads}");
    }
}
