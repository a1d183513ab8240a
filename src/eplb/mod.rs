//! Expert load balancing: which GPU holds which expert, how often, and how tokens are split.

mod cluster;
mod deepseek;
mod group_sum;
mod load;
mod params;
mod placement;

pub use cluster::{Cluster, Gpu};
pub use load::ExpertLoad;
pub use params::rebalance_experts;
pub use params::{Policy, RebalanceParams};
pub use placement::Placement;
