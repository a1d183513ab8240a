//! The cases' results as one JSON value on standard output, for scripts.

use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use libtest_mimic::Arguments;
use serde_json::{Value, json};

use crate::case::NamedCase;

/// Runs the cases that the arguments choose, side by side, and prints their results.
pub fn run(backend: &str, arguments: &Arguments, cases: Vec<NamedCase>) -> ExitCode {
    let num_cases = cases.len();
    let chosen: Vec<NamedCase> =
        cases.into_iter().filter(|case| is_chosen(arguments, &case.name)).collect();
    let num_filtered_out = num_cases - chosen.len();
    let results = run_side_by_side(chosen);
    let num_failed = results.iter().filter(|result| result["passed"] == false).count();
    let summary = json!({
        "backend": backend,
        "num_passed": results.len() - num_failed,
        "num_failed": num_failed,
        "num_filtered_out": num_filtered_out,
        "cases": results,
    });
    println!("{summary:#}");
    if num_failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One thread for each core takes case after case.
fn run_side_by_side(cases: Vec<NamedCase>) -> Vec<Value> {
    let num_threads = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    // NOTE: threads of their own, because a case waits for ranks that compute on rayon's.
    let (queue, results) = (Mutex::new(cases.into_iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..num_threads {
            scope.spawn(|| {
                while let Some(case) = lock(&queue).next() {
                    let result = run_one(case);
                    lock(&results).push(result);
                }
            });
        }
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn run_one(NamedCase { name, stage, run }: NamedCase) -> Value {
    let started = Instant::now();
    let problem = run().err();
    let time_ms = started.elapsed().as_secs_f64() * 1e3;
    let passed = problem.is_none();
    json!({ "name": name, "stage": stage, "passed": passed, "problem": problem, "time_ms": time_ms })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_chosen(arguments: &Arguments, name: &str) -> bool {
    let matches =
        |wanted: &str| if arguments.exact { name == wanted } else { name.contains(wanted) };
    arguments.filter.as_deref().is_none_or(matches)
        && !arguments.skip.iter().any(|skipped| matches(skipped))
}
