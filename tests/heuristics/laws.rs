//! What holds for every shape.

use moekit::backend::cuda::heuristics::{
    Bound, ChooseOptions, Cluster, Efficiency, Estimate, Verdict, choose, splits_k, tiles, tiles_of,
};
use moekit::cost::DeviceSpec;
use moekit::gemm::{GemmFormat, GemmKind, GemmOutFormat, GemmShape};
use proptest::prelude::*;

const KINDS: [GemmKind; 4] =
    [GemmKind::Dense, GemmKind::Contiguous, GemmKind::Masked, GemmKind::KGrouped];
const FORMATS: [GemmFormat; 2] = [GemmFormat::Fp8, GemmFormat::Bf16];

fn options() -> ChooseOptions {
    ChooseOptions::default()
}

fn shapes() -> impl Strategy<Value = GemmShape> {
    let kinds = prop::sample::select(KINDS.to_vec());
    let formats = prop::sample::select(FORMATS.to_vec());
    let outs = prop::sample::select(vec![
        GemmOutFormat::Bf16,
        GemmOutFormat::F32,
        GemmOutFormat::F32Accumulate,
        GemmOutFormat::SwigluFp8,
    ]);
    let extents = (0usize..20_000, 1usize..40_000, 0usize..1_500, 1usize..400);
    (kinds, formats, outs, extents).prop_map(|(kind, format, out, (m, n, k16, num_groups))| {
        let num_groups = if kind == GemmKind::Dense { 1 } else { num_groups };
        GemmShape { format, out, num_groups, ..GemmShape::new(kind, m, n, 16 * k16) }
    })
}

proptest! {
    #[test]
    fn every_shape_gets_a_launch_that_the_device_can_hold(shape in shapes()) {
        for device in DeviceSpec::ALL {
            let choice = choose(&shape, &device, &options()).expect("a choice");
            let config = choice.config;
            prop_assert!(config.smem_bytes <= device.max_smem_bytes);
            prop_assert!(config.num_stages >= 3);
            prop_assert!((1..=device.num_sms).contains(&config.num_sms));
            prop_assert!(config.num_sms.is_multiple_of(config.cluster.num_ctas()));
            prop_assert_eq!(config.split_k, 1);
            prop_assert_eq!(config.block_k * shape.format.element_bytes(), 128);
            prop_assert!(tiles_of(&shape).contains(&config.tile));
        }
    }

    #[test]
    fn fewer_sms_do_not_add_waves(shape in shapes()) {
        let device = DeviceSpec::H800;
        let choice = choose(&shape, &device, &options()).expect("a choice");
        let given = Estimate::new(&shape, &choice.config, &device, &options().efficiency);
        prop_assert!(given.num_waves < choice.estimate.num_waves.floor() + 1.0, "{}", given.num_waves);
    }

    #[test]
    fn the_choice_has_the_least_estimated_time(shape in shapes()) {
        let choice = choose(&shape, &DeviceSpec::H100_SXM, &options()).expect("a choice");
        let times: Vec<f64> = choice.candidates.iter().filter_map(|candidate| match candidate.verdict {
            Verdict::Legal(estimate) => Some(estimate.time_us),
            Verdict::Rejected(_) => None,
        }).collect();
        prop_assert!(times.is_sorted());
        prop_assert_eq!(choice.candidates[0].config, choice.config);
    }

    #[test]
    fn more_rows_columns_or_depth_never_take_less_time(shape in shapes(), more in 1usize..4) {
        let device = DeviceSpec::H800;
        let time = |shape: &GemmShape| choose(shape, &device, &options()).expect("a choice").estimate.time_us;
        let before = time(&shape);
        let config = choose(&shape, &device, &options()).expect("a choice").config;
        for larger in [
            GemmShape { m: shape.m + 64 * more, ..shape },
            GemmShape { n: shape.n + 64 * more, ..shape },
            GemmShape { k: shape.k + 128 * more, ..shape },
        ] {
            let after = Estimate::new(&larger, &config, &device, &Efficiency::FITTED).time_us;
            prop_assert!(after >= before, "{larger:?}: {after} < {before}");
        }
    }

    #[test]
    fn no_estimate_beats_the_devices_figures(shape in shapes()) {
        let device = DeviceSpec::H200;
        let floor_us = shape.cost().floor(&device).time_us();
        let choice = choose(&shape, &device, &options()).expect("a choice");
        prop_assert!(choice.estimate.time_us >= floor_us * 0.999);
        let ideal = Estimate::new(&shape, &choice.config, &device, &Efficiency::IDEAL);
        prop_assert!(ideal.time_us >= floor_us * 0.999 && ideal.time_us <= choice.estimate.time_us);
    }

    #[test]
    fn parts_of_k_are_taken_where_they_may_be_and_fill_whole_clusters(shape in shapes(), log in 0u32..4) {
        let max_split_k = 1 << log;
        let device = DeviceSpec::H800;
        let choice = choose(&shape, &device, &ChooseOptions { max_split_k, ..options() });
        let choice = choice.expect("a choice");
        for candidate in &choice.candidates {
            let (config, Verdict::Legal(_)) = (candidate.config, candidate.verdict) else { continue };
            prop_assert!(config.split_k <= max_split_k);
            prop_assert!(config.smem_bytes <= device.max_smem_bytes);
            if config.split_k > 1 {
                prop_assert!(splits_k(&config.tile, &shape) && config.cluster == Cluster::Single);
                prop_assert!(shape.k.div_ceil(128) >= config.split_k, "a part is empty");
                prop_assert!(config.num_sms.is_multiple_of(config.split_k));
            }
        }
        let whole = choose(&shape, &device, &options()).expect("a choice");
        prop_assert!(choice.estimate.time_us <= whole.estimate.time_us);
    }

    #[test]
    fn groups_whose_rows_the_host_does_not_know_never_pair_along_m(shape in shapes()) {
        let choice = choose(&shape, &DeviceSpec::H800, &options()).expect("a choice");
        if matches!(shape.kind, GemmKind::Contiguous | GemmKind::Masked) {
            prop_assert!(choice.config.cluster != Cluster::AlongM);
        }
    }
}

#[test]
fn sums_of_every_tile_fit_into_a_threads_registers() {
    for (kind, format) in KINDS.into_iter().flat_map(|kind| FORMATS.map(|format| (kind, format))) {
        for tile in tiles(kind, format) {
            let registers = tile.num_accum_registers(format);
            assert!(registers <= 192, "{tile:?}: {registers} of 240 registers");
            let is_whole = tile.mma_m().is_multiple_of(64) && tile.mma_n().is_multiple_of(8);
            assert!(is_whole && tile.mma_n() <= 256, "{tile:?} is no multiple of an instruction");
        }
    }
}

#[test]
fn few_rows_ride_the_narrow_side() {
    for m in [1, 8, 16, 32, 64] {
        let shape = GemmShape::new(GemmKind::Dense, m, 7168, 2048);
        let config = choose(&shape, &DeviceSpec::H800, &options()).expect("a choice").config;
        assert!(config.tile.swap_ab && config.tile.block_m >= m.min(64), "{m} rows: {config:?}");
    }
}

#[test]
fn one_row_takes_no_longer_than_64() {
    let device = DeviceSpec::H800;
    for [n, k] in [[4096, 7168], [7168, 2048], [24576, 1536], [2112, 7168]] {
        let time = |m| {
            let shape = GemmShape::new(GemmKind::Dense, m, n, k);
            choose(&shape, &device, &options()).expect("a choice").estimate.time_us
        };
        assert!(time(1) <= time(64), "n {n}, k {k}");
    }
}

#[test]
fn many_rows_take_large_tiles_and_are_bound_by_the_tensor_cores() {
    let shape = GemmShape::new(GemmKind::Dense, 4096, 7168, 16384);
    let choice = choose(&shape, &DeviceSpec::H800, &options()).expect("a choice");
    let tile = choice.config.tile;
    assert!(tile.block_m * tile.block_n >= 128 * 192, "{tile:?}");
    assert_eq!(choice.estimate.bound, Bound::Tensor);
    assert_ne!(choice.config.cluster, Cluster::Single);
}

#[test]
fn k_is_cut_only_if_asked_for_and_then_where_it_fills_the_machine() {
    let shape = GemmShape::new(GemmKind::Dense, 16, 2112, 7168);
    let whole = choose(&shape, &DeviceSpec::H800, &options()).expect("a choice");
    let cut = ChooseOptions { max_split_k: 8, ..options() };
    let cut = choose(&shape, &DeviceSpec::H800, &cut).expect("a choice");
    assert_eq!(whole.config.split_k, 1);
    assert!(cut.config.split_k > 1, "{:?}", cut.config);
    assert!(cut.estimate.time_us < whole.estimate.time_us);
    assert!(cut.estimate.num_tiles > whole.estimate.num_tiles);
    // There are more tiles than SMs.
    let full = GemmShape { num_groups: 32, ..GemmShape::new(GemmKind::Masked, 16, 4096, 7168) };
    let max_split_k = ChooseOptions { max_split_k: 8, ..options() };
    let full = choose(&full, &DeviceSpec::H800, &max_split_k).expect("a choice");
    assert_eq!(full.config.split_k, 1);
}

#[test]
fn a_device_without_shared_memory_is_refused() {
    let device = DeviceSpec { max_smem_bytes: 16 << 10, ..DeviceSpec::H800 };
    let shape = GemmShape::new(GemmKind::Dense, 64, 64, 1024);
    let error = choose(&shape, &device, &options()).expect_err("no room").to_string();
    assert!(error.contains("max_smem_bytes") && error.contains("16384"), "{error}");
}
