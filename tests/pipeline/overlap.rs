//! The overlapped chunk.

use moekit::pipeline::{
    Colour, LayerTimes, OverlapSpec, Stream, WeightTimes, best_overlap, overlap, overlap_text,
};
use proptest::prelude::*;

fn layer_times() -> impl Strategy<Value = LayerTimes> {
    (0.0..50.0_f64, 0.0..50.0_f64, 0.0..50.0_f64, 0.0..50.0_f64).prop_map(
        |(attn_us, dispatch_us, mlp_us, combine_us)| LayerTimes {
            attn_us,
            dispatch_us,
            mlp_us,
            combine_us,
        },
    )
}

fn specs() -> impl Strategy<Value = OverlapSpec> {
    let weights = (0.0..50.0_f64, 0.0..50.0_f64)
        .prop_map(|(attn_us, mlp_us)| WeightTimes { attn_us, mlp_us });
    let split = (2..140_u32).prop_flat_map(|num_sms| (Just(num_sms), 1..num_sms, 0..40_u32));
    (1..5_usize, layer_times(), layer_times(), weights, split).prop_map(
        |(num_layers, forward, backward, weights, (num_sms, num_comm_sms, num_saturating_sms))| {
            OverlapSpec {
                num_layers,
                forward,
                backward,
                weights,
                num_sms,
                num_comm_sms,
                num_saturating_sms,
            }
        },
    )
}

proptest! {
    #[test]
    fn streams_do_one_thing_at_a_time_in_each_chunks_order(spec in specs()) {
        let result = overlap(&spec).expect("overlap");
        prop_assert_eq!(result.spans.len(), 10 * spec.num_layers);
        for stream in [Stream::Compute, Stream::Comm] {
            let on_stream: Vec<_> =
                result.spans.iter().filter(|span| span.stream == stream).collect();
            for pair in on_stream.windows(2) {
                prop_assert!(pair[1].start_us >= pair[0].end_us - 1e-9, "{pair:?}");
            }
        }
        let find = |name: &str, layer_idx: usize| {
            let is_it = |span: &&moekit::pipeline::OverlapSpan| {
                format!("{}({})", span.name, span.pass.letter()) == name && span.layer_idx == layer_idx
            };
            result.spans.iter().find(is_it).expect("every operation runs once")
        };
        let forward = ["attn(F)", "dispatch(F)", "mlp(F)", "combine(F)"];
        let backward = ["combine(I)", "mlp(I)", "dispatch(I)", "attn(I)"];
        for layer_idx in 0..spec.num_layers {
            for chain in [forward, backward] {
                for pair in chain.windows(2) {
                    let (before, after) = (find(pair[0], layer_idx), find(pair[1], layer_idx));
                    prop_assert!(after.start_us >= before.end_us - 1e-9);
                }
            }
            prop_assert!(find("mlp(W)", layer_idx).start_us >= find("mlp(I)", layer_idx).end_us - 1e-9);
            prop_assert!(find("attn(W)", layer_idx).start_us >= find("attn(I)", layer_idx).end_us - 1e-9);
            if layer_idx > 0 {
                let previous = layer_idx - 1;
                prop_assert!(find("attn(F)", layer_idx).start_us >= find("combine(F)", previous).end_us - 1e-9);
                prop_assert!(find("combine(I)", previous).start_us >= find("attn(I)", layer_idx).end_us - 1e-9);
            }
        }
    }

    #[test]
    fn f_and_b_lies_between_its_bound_and_the_streams_sum(spec in specs()) {
        let result = overlap(&spec).expect("overlap");
        let fb_us = result.times.fb_us;
        let slack = 1e-9 * (1.0 + fb_us);
        prop_assert!(fb_us >= result.lower_bound_us - slack);
        prop_assert!(fb_us <= result.compute_us + result.comm_us + slack);
        let last = result.spans.iter().map(|span| span.end_us).fold(0.0, f64::max);
        prop_assert_eq!(last, fb_us);
    }

    #[test]
    fn the_best_split_is_at_least_as_good_as_any(spec in specs()) {
        let best = best_overlap(&spec).expect("overlap").times.fb_us;
        let given = overlap(&spec).expect("overlap").times.fb_us;
        prop_assert!(best <= given + 1e-9 * given, "{best} > {given}");
    }
}

/// One layer whose parts all take 1 us, communication free of SMs.
fn even_layer() -> OverlapSpec {
    let times = LayerTimes { attn_us: 1.0, dispatch_us: 1.0, mlp_us: 1.0, combine_us: 1.0 };
    OverlapSpec {
        num_layers: 1,
        forward: times,
        backward: times,
        weights: WeightTimes { attn_us: 1.0, mlp_us: 1.0 },
        num_sms: 10,
        num_comm_sms: 0,
        num_saturating_sms: 0,
    }
}

#[test]
fn communication_hides_behind_computation() {
    let result = overlap(&even_layer()).expect("overlap");
    assert_eq!((result.times.f_us, result.times.b_us, result.times.w_us), (4.0, 6.0, 2.0));
    assert_eq!((result.compute_us, result.comm_us), (6.0, 4.0));
    assert_eq!(result.times.fb_us, 6.0, "the computation alone takes as long: {:?}", result.spans);
}

#[test]
fn sms_that_communicate_are_lost_to_computation() {
    let spec = OverlapSpec { num_comm_sms: 2, num_saturating_sms: 4, ..even_layer() };
    let result = overlap(&spec).expect("overlap");
    // 10 of 8 SMs' time, and half of the SMs that saturate the wire.
    assert_eq!((result.compute_us, result.comm_us), (7.5, 8.0));
}

#[test]
fn bad_numbers_are_refused_by_name() {
    let refuse = |spec: OverlapSpec, arg: &str| {
        let error = overlap(&spec).expect_err(arg).to_string();
        assert!(error.contains(&format!("`{arg}`")), "{error}");
    };
    let even = even_layer();
    refuse(OverlapSpec { num_layers: 0, ..even }, "num_layers");
    refuse(OverlapSpec { num_comm_sms: 10, ..even }, "num_comm_sms");
    refuse(OverlapSpec { num_saturating_sms: 4, ..even }, "num_comm_sms");
    let forward = LayerTimes { mlp_us: f64::NAN, ..even.forward };
    refuse(OverlapSpec { forward, ..even }, "forward.mlp_us");
    let weights = WeightTimes { attn_us: -1.0, ..even.weights };
    refuse(OverlapSpec { weights, ..even }, "weights.attn_us");
    let error = best_overlap(&OverlapSpec { num_sms: 1, ..even }).expect_err("1 SM").to_string();
    assert!(error.contains("`num_sms` is 1"), "{error}");
}

#[test]
fn both_streams_are_drawn_with_their_idle_time() {
    let result = overlap(&even_layer()).expect("overlap");
    // 6 us on 60 columns.
    let drawing = overlap_text(&result, 70, Colour::Never);
    let lines: Vec<&str> = drawing.lines().collect();
    assert_eq!(lines.len(), 2);
    let rows = lines.iter().map(|line| &line[9..69]).collect::<Vec<_>>();
    let starts = |row: &str| row.as_bytes().chunks(10).map(|cell| cell[0]).collect::<Vec<_>>();
    let mut compute = starts(rows[0]);
    compute.sort_unstable();
    assert_eq!(compute, b"AMamww", "{drawing}");
    let mut comm = starts(rows[1]);
    comm.sort_unstable();
    assert_eq!(comm, b"..CDcd", "{drawing}");
}
