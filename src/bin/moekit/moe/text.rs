//! The report as text.

use super::report::{Load, Machine, Report};

/// Lays the report out for a reader.
pub fn text(report: &Report) -> String {
    [header(report), stages(report), load(&report.load), result(report)].join("\n")
}

fn header(report: &Report) -> String {
    let Report { layer, .. } = report;
    let nodes = if report.num_nodes > 1 {
        format!(" on {} nodes", report.num_nodes)
    } else {
        String::new()
    };
    format!(
        "layer {}: {} experts of {} x {}, {} per token, {} shared; {}, {} layout, reduce by {}\n\
         {} tokens over {} {} ({}){nodes}; {} backend, {}\n",
        layer.layer_idx,
        layer.num_experts,
        layer.hidden,
        layer.intermediate_hidden,
        layer.num_topk,
        layer.num_shared_experts,
        layer.dtype,
        layer.layout,
        layer.reduce,
        report.num_tokens,
        report.num_ranks,
        if report.num_ranks == 1 { "rank" } else { "ranks" },
        report.world,
        report.backend,
        machine(&report.machine),
    )
}

fn machine(machine: &Machine) -> String {
    let name = machine.simd.as_ref().or(machine.device.as_ref()).map_or("", String::as_str);
    machine.limits.as_ref().map_or_else(
        || name.to_owned(),
        |limits| {
            format!(
                "{name}, {} threads\n\
                 limits measured here: FP32 FMA {:.0} GFLOP/s, memcpy {:.1} GB/s, read {:.1} GB/s",
                limits.num_threads,
                limits.fma_gflop_per_s,
                limits.memcpy_gb_per_s,
                limits.read_gb_per_s,
            )
        },
    )
}

fn stages(report: &Report) -> String {
    let mut text = format!(
        "{:<14} {:>10} {:>6} {:>10} {:>8} {:>9} {:>10}\n",
        "stage", "ms", "%", "MB", "GB/s", "GFLOP/s", "x of limit"
    );
    for stage in &report.stages {
        let gflop_per_s =
            if stage.flops == 0 { "-".to_owned() } else { format!("{:.1}", stage.gflop_per_s) };
        let x_of_limit = stage.x_of_limit.map_or("-".to_owned(), |x| format!("{x:.2}"));
        text += &format!(
            "{:<14} {:>10.3} {:>6.1} {:>10.2} {:>8.2} {gflop_per_s:>9} {x_of_limit:>10}\n",
            stage.name,
            stage.time_us / 1e3,
            100.0 * stage.time_us / report.total_us,
            stage.bytes as f64 / 1e6,
            stage.gb_per_s,
        );
    }
    let tokens_per_s = report.tokens_per_s;
    text + &format!(
        "{:<14} {:>10.3}  {tokens_per_s:.0} tokens/s\n\
         ms: share of the step, every moment divided among the ranks in it; rates: all ranks' work in that time\n\
         x of limit: 1 = as fast as FP32 FMA or memcpy allow; FP8 products are made of integers, which are faster\n",
        "total",
        report.total_us / 1e3
    )
}

fn load(load: &Load) -> String {
    let bins = load.histogram(8);
    let most = bins.iter().map(|&(_, experts)| experts).max().unwrap_or(1).max(1);
    let mut text = format!(
        "expert load: max/mean {:.2} over experts, {:.2} over ranks\n",
        load.expert_max_over_mean, load.rank_max_over_mean
    );
    let mut from = 0;
    for (to, experts) in bins {
        let range = format!("{from} to {to}");
        let bar = "█".repeat((experts * 40).div_ceil(most));
        text += &format!("{range:>14} tokens │{bar} {experts}\n");
        from = to + 1;
    }
    text
}

fn result(report: &Report) -> String {
    let error = match (report.relative_error, report.relative_error_unquantized) {
        (Some(error), Some(unquantized)) => format!(
            "relative error  {error:.2e} against f64 on {} tokens ({unquantized:.2e} where activations are \
             not quantised)",
            report.num_checked_tokens
        ),
        _ => "relative error  not checked".to_owned(),
    };
    let undecided = match report.num_undecided_tokens {
        0 => String::new(),
        num => format!(", {num} more left out: FP32 may choose another expert"),
    };
    format!("{error}{undecided}\noutput digest   {}\n", report.output_digest)
}
