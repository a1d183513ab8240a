//! Expert load balancing: which GPU holds which expert, how often, and how tokens are split.

mod balance;
mod bound;
mod cluster;
mod deepseek;
mod group_sum;
mod load;
mod optimized;
mod ordered;
mod params;
mod placement;

pub use balance::{Balance, LayerBalance, gpu_loads};
pub use cluster::{Cluster, Gpu};
pub use load::ExpertLoad;
pub use optimized::{OptimizedOptions, place_on_cluster};
pub use params::{Policy, RebalanceParams, rebalance_experts};
pub use placement::Placement;
