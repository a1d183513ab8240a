//! `moekit pipeline --search`.

use std::fmt::Write;

use moekit::Result;
use moekit::pipeline::{Candidate, Outcome, Overlap, format_us, search};
use serde_json::{Value, json};

use super::PipelineArgs;
use crate::output::print;

pub fn run(args: &PipelineArgs, overlap: Option<&Overlap>) -> Result<()> {
    let spec = args.search_spec(overlap);
    let candidates = search(&spec)?;
    if args.json {
        let candidates: Vec<Value> = candidates.iter().map(candidate_json).collect();
        print(|out| writeln!(out, "{}", json!({ "candidates": candidates })))
    } else {
        print(|out| out.write_all(table(&candidates).as_bytes()))
    }
}

fn candidate_json(candidate: &Candidate) -> Value {
    let schedule = candidate.kind.to_string();
    match &candidate.outcome {
        Ok(outcome) => json!({
            "schedule": schedule,
            "makespan": outcome.makespan_us,
            "max_bubble": outcome.max_bubble_us,
            "published_bubble": outcome.closed_form_bubble_us,
            "utilisation": outcome.utilisation,
            "peak_activations": outcome.peak_activations,
            "parameters": outcome.parameters,
            "memory_bytes": outcome.memory_bytes,
            "fits": outcome.fits,
        }),
        Err(error) => json!({"schedule": schedule, "error": error.to_string()}),
    }
}

/// Returns a Markdown table, best first.
fn table(candidates: &[Candidate]) -> String {
    let mut text = String::from(
        "| schedule | makespan | largest bubble | published | difference | utilisation | \
         peak act. | parameters | memory GB | fits |\n\
         | --- | --: | --: | --: | --: | --: | --: | --: | --: | --- |\n",
    );
    for candidate in candidates {
        // NOTE: writing to a String cannot fail.
        let _ = match &candidate.outcome {
            Ok(outcome) => writeln!(text, "| {} | {} |", candidate.kind, columns(outcome)),
            Err(error) => writeln!(text, "| {} | {error} | | | | | | | | no |", candidate.kind),
        };
    }
    text
}

fn columns(outcome: &Outcome) -> String {
    let difference_us = outcome.max_bubble_us - outcome.closed_form_bubble_us;
    // Sums of decimal fractions differ in the last bits.
    let is_equal = difference_us.abs() <= 1e-9 * outcome.makespan_us;
    [
        format_us(outcome.makespan_us),
        format_us(outcome.max_bubble_us),
        format_us(outcome.closed_form_bubble_us),
        if is_equal { "0".to_owned() } else { format_us(difference_us) },
        format!("{:.1} %", 100.0 * outcome.utilisation),
        format_us(outcome.peak_activations),
        format_us(outcome.parameters),
        format!("{:.2}", outcome.memory_bytes / 1e9),
        if outcome.fits { "yes".to_owned() } else { "no".to_owned() },
    ]
    .join(" | ")
}
