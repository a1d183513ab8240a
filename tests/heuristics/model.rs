//! The time model: its figures are the fit's, its errors those that the guide states.

use moekit::backend::cuda::heuristics::{Efficiency, Estimate, PUBLISHED, PublishedProduct};
use moekit::cost::DeviceSpec;

/// Predicted over published rate.
fn ratio(published: &PublishedProduct, efficiency: &Efficiency) -> f64 {
    let shape = published.shape();
    let estimate = Estimate::new(&shape, &published.config(), &DeviceSpec::H800, efficiency);
    estimate.tflops(&shape) / published.tflops
}

fn loss(efficiency: &Efficiency) -> f64 {
    PUBLISHED.iter().map(|row| ratio(row, efficiency).ln().powi(2)).sum()
}

#[test]
fn the_fitted_figures_are_where_the_squares_are_least() {
    const FIT: Efficiency = Efficiency::FITTED;
    let least = loss(&FIT);
    let moves: [fn(f64) -> Efficiency; 4] = [
        |by| Efficiency { clock: FIT.clock * by, ..FIT },
        |by| Efficiency { hbm: FIT.hbm * by, ..FIT },
        |by| Efficiency { k_block_cycles: FIT.k_block_cycles * by, ..FIT },
        |by| Efficiency { tile_cycles: FIT.tile_cycles * by, ..FIT },
    ];
    for (idx, moved) in moves.iter().enumerate() {
        for by in [0.95, 1.05] {
            let got = loss(&moved(by));
            assert!(got > least, "figure {idx} times {by}: {got} < {least}");
        }
    }
}

#[test]
fn the_models_errors_are_those_that_the_guide_states() {
    let errors = PUBLISHED.iter().map(|row| (ratio(row, &Efficiency::FITTED) - 1.0).abs());
    let errors: Vec<f64> = errors.collect();
    let mean = errors.iter().sum::<f64>() / errors.len() as f64;
    assert!(mean < 0.055, "mean {mean}");
    assert!(errors.iter().all(|&error| error < 0.22), "{errors:?}");
}

#[test]
fn published_launches_fit_into_an_h800() {
    for row in &PUBLISHED {
        let config = row.config();
        assert!(config.smem_bytes <= DeviceSpec::H800.max_smem_bytes, "{row:?}");
        let estimate = Estimate::new(&row.shape(), &config, &DeviceSpec::H800, &Efficiency::FITTED);
        assert!(estimate.num_waves * config.num_sms as f64 >= estimate.num_tiles, "{row:?}");
    }
}
