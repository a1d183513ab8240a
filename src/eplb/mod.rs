//! Expert load balancing: which GPU holds which expert, how often, and how tokens are split.

mod balance;
mod bound;
mod cluster;
mod deepseek;
mod dispatch;
mod draw;
mod edge_colors;
mod estimate;
mod even_out;
mod flow;
mod group_sum;
mod incremental;
mod load;
mod migration;
mod optimized;
mod ordered;
mod params;
mod placement;
mod read;
mod simulate;
mod split;

pub use balance::{Balance, LayerBalance, gpu_loads};
pub use cluster::{Cluster, Gpu};
pub use dispatch::SplitTable;
pub use draw::{HeatMap, heat_maps_svg, load_bar, load_bar_colored, simulation_svg};
pub use estimate::{Estimator, LoadEstimator};
pub use incremental::{Goal, IncrementalParams, rebalance_incremental};
pub use load::ExpertLoad;
pub use migration::{LinkSpeeds, MigrationPlan, Transfer, break_even_steps, plan_migration};
pub use optimized::{OptimizedOptions, place_on_cluster};
pub use params::{Policy, RebalanceParams, rebalance_experts};
pub use placement::Placement;
pub use read::{Trace, read_load, read_placement, read_trace};
pub use simulate::{SimulatedPolicy, SimulatedStep, Simulation, SimulationParams, simulate_trace};
pub use split::{TokenSplit, split_tokens};
