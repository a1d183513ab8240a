//! Which compiled kernel a matrix product takes, and why: pure functions of the shape and the device.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `tile` | the complete list of compiled tiles |
//! | `config` | a launch: tile, cluster, ring; its shared memory |
//! | `waves` | tiles of a launch, on average where groups' rows vary, and the waves in which the SMs take them |
//! | `estimate` | how long a launch should take: waves, tensor cores, memory |
//! | `choose` | candidates, filters, order |
//! | `fusion` | whether the experts' first product should take its activation along |
//! | `split` | K in parts: where they end, what adding them up takes |
//! | `published` | another library's rates on an H800, which the estimate is fitted to |
//!
//! No environment variable, global or clock is read. The answers for the models' shapes are a checked-in
//! table (`tests/golden/gemm_choices.txt`).

mod choose;
mod config;
mod estimate;
mod fusion;
mod published;
mod split;
mod tile;
mod waves;

pub use choose::{Candidate, Choice, ChooseOptions, Rejection, Verdict, choose};
pub use config::{Cluster, GemmConfig, MAX_STAGES, SCALE_BLOCKS, Smem};
pub use estimate::{Bound, Efficiency, Estimate};
pub use fusion::SwigluFusion;
pub use published::{PUBLISHED, PublishedLaunch, PublishedProduct};
pub use split::{SPLITS, splits_k, usable_sms};
pub use tile::{GemmTile, tiles, tiles_of};
