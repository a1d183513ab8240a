//! Mixture-of-Experts stages: what each computes, and the checks of its arguments.

mod activation;
pub mod buffer;
pub mod combine;
mod convert;
pub mod cost;
pub mod dispatch;
pub mod ep_config;
pub(crate) mod ep_layout;
pub mod expert_map;
mod ffn;
mod fusion;
pub mod gate;
pub mod handle;
pub mod layer;
mod layer_sizes;
pub mod plan;
pub mod quant;
mod rows;
mod stack;
mod stages;
pub mod swiglu;
pub mod tokens;
mod weighting;
pub mod weights;
mod workspace;

pub use activation::Activation;
pub use buffer::EpBuffer;
pub use dispatch::{TokensMut, TokensRef};
pub use ep_config::{EpConfig, EpSizes, RecvLayout, Reduce, WireFormat};
pub use expert_map::ExpertMap;
pub use fusion::Fusion;
pub use handle::Handle;
pub use layer::{LayerOptions, MoeLayer};
pub use layer_sizes::LayerSizes;
pub use rows::Rows;
pub use stages::Stage;
pub use weighting::Weighting;

/// The layer as errors name it.
const OP: &str = "moe layer";
