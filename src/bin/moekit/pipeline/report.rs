//! What the command prints of one schedule.

use std::fmt::Write;

use moekit::pipeline::{
    Costs, Overlap, Proof, RankReport, Schedule, Simulation, Times, closed_form_bubble_us,
    format_us,
};
use serde_json::{Value, json};

/// A schedule with all that is known of it.
pub struct Report<'a> {
    pub schedule: &'a Schedule,
    pub costs: &'a Costs,
    pub proof: Proof,
    pub simulation: Simulation,
    pub overlap: Option<&'a Overlap>,
}

impl Report<'_> {
    /// Returns the report as JSON; `--file` reads it back.
    pub fn json(&self) -> Value {
        let Self { schedule, simulation, .. } = self;
        let mut json = schedule.to_json();
        if let Some(Value::Array(ranks)) = json.get_mut("ranks") {
            for (rank_idx, rank) in ranks.iter_mut().enumerate() {
                let report = &simulation.ranks[rank_idx];
                let spans = &simulation.spans[rank_idx];
                rank["start"] = spans.iter().map(|span| span.start_us).collect();
                rank["end"] = spans.iter().map(|span| span.end_us).collect();
                rank["busy"] = report.busy_us.into();
                rank["bubble"] = report.bubble_us.into();
                rank["utilisation"] = report.utilisation.into();
                rank["peak_activations"] = report.peak_activations.into();
                rank["parameters"] = report.num_parameter_stages.into();
            }
        }
        let each = |value: fn(&RankReport) -> f64| -> Value {
            simulation.ranks.iter().map(value).collect()
        };
        json["schedule"] = schedule.name().into();
        json["num_ranks"] = schedule.num_pp_ranks().into();
        json["num_pp_stages"] = schedule.num_pp_stages().into();
        json["makespan"] = simulation.makespan_us.into();
        json["bubble"] = each(|rank| rank.bubble_us);
        json["busy"] = each(|rank| rank.busy_us);
        json["peak_activations"] = each(|rank| rank.peak_activations);
        json["parameters"] =
            simulation.ranks.iter().map(|rank| rank.num_parameter_stages).collect();
        json["max_bubble"] = simulation.max_bubble_us().into();
        json["published_bubble"] = self.published_bubble_us().into();
        json["utilisation"] = simulation.utilisation().into();
        json["num_messages"] = self.proof.num_messages.into();
        json["num_recv_buffers"] = self.proof.num_recv_buffers.into();
        if let Times::Uniform(times) = self.costs.times {
            json["times"] = json!({
                "f": times.f_us, "b": times.b_us, "w": times.w_us, "fb": times.fb_us,
            });
        }
        if let Some(overlap) = self.overlap {
            json["overlap"] = json!({
                "fb": overlap.times.fb_us,
                "num_comm_sms": overlap.num_comm_sms,
                "compute": overlap.compute_us,
                "comm": overlap.comm_us,
                "lower_bound": overlap.lower_bound_us,
                "spans": overlap.spans,
            });
        }
        json
    }

    /// Returns the first lines: what was simulated and what came out.
    pub fn headline(&self) -> String {
        let Self { schedule, simulation, proof, .. } = self;
        let mut text = format!(
            "{}: {} ranks, {} chunks, {} pp_stages ({})\n",
            schedule.name(),
            schedule.num_pp_ranks(),
            schedule.num_chunks(),
            schedule.num_pp_stages(),
            schedule.placement().name(),
        );
        let published = self.published_bubble_us();
        let published = published
            .map_or_else(String::new, |bubble| format!(" (published {})", format_us(bubble)));
        // NOTE: writing to a String cannot fail.
        let _ = writeln!(
            text,
            "makespan {}, largest bubble {}{published}, utilisation {:.1} %",
            format_us(simulation.makespan_us),
            format_us(simulation.max_bubble_us()),
            100.0 * simulation.utilisation(),
        );
        let _ = writeln!(
            text,
            "valid: no deadlock under blocking sends; {} messages, receives posted ahead: {}",
            proof.num_messages, proof.num_recv_buffers,
        );
        if let Some(overlap) = self.overlap {
            let times = overlap.times;
            let apart_us = times.f_us + times.b_us;
            let _ = writeln!(
                text,
                "overlap: F {}, B {}, W {}, F&B {} with {} communication SMs; apart F + B = {}",
                format_us(times.f_us),
                format_us(times.b_us),
                format_us(times.w_us),
                format_us(times.fb_us),
                overlap.num_comm_sms,
                format_us(apart_us),
            );
        }
        text
    }

    /// Returns what each rank did.
    pub fn table(&self) -> String {
        let mut text =
            String::from("rank      busy    bubble  utilisation  peak act.  parameters\n");
        for (rank_idx, rank) in self.simulation.ranks.iter().enumerate() {
            let _ = writeln!(
                text,
                "{rank_idx:>4}  {:>8}  {:>8}  {:>9.1} %  {:>9}  {:>10}",
                format_us(rank.busy_us),
                format_us(rank.bubble_us),
                100.0 * rank.utilisation,
                format_us(rank.peak_activations),
                rank.num_parameter_stages,
            );
        }
        text
    }

    fn published_bubble_us(&self) -> Option<f64> {
        match &self.costs.times {
            Times::Uniform(times) => closed_form_bubble_us(self.schedule, times),
            Times::PerRank(_) => None,
        }
    }
}
