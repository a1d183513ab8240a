//! One rank's end of expert-parallel dispatch and combine.

use std::sync::Arc;

use super::ExpertMap;
use super::ep_config::{EpConfig, OP};
use super::ep_layout::{EpLayout, Signal};
use super::handle::HandlePool;
use crate::backend::Backend;
use crate::comm::World;
use crate::error::{Error, Result};
use crate::tensor::{Tensor, TensorRef, check};
use crate::topology::Topology;

/// One rank's end of expert-parallel dispatch and combine.
///
/// `dispatch` brings every token to the ranks of its experts, `combine` brings the experts' outputs
/// back and adds them. Both are split into a send and a receive half; between the halves a caller can
/// do other work. All ranks call the same halves in the same order.
///
/// | half | afterwards |
/// | --- | --- |
/// | [`dispatch_send`](Self::dispatch_send) | this rank's tokens are on their way |
/// | [`dispatch_plan`](Self::dispatch_plan) | every received token has a row |
/// | [`dispatch_recv`](Self::dispatch_recv) | the rows are filled; the [`Handle`](super::Handle) tells whose they are |
/// | [`combine_send`](Self::combine_send) | the experts' outputs are on their way back |
/// | [`combine_recv`](Self::combine_recv) | each token has its weighted sum |
///
/// For the backward pass, or for other values over the same routing,
/// [`dispatch_cached`](Self::dispatch_cached) takes the place of the first two.
///
/// # Examples
///
/// Two ranks, two experts: every token goes to both, and the experts do nothing.
///
/// ```
/// use moekit::comm::{World, WorldOptions};
/// use moekit::moe::combine::CombineWeights;
/// use moekit::moe::{EpBuffer, EpConfig, RecvLayout, Reduce, TokensMut, TokensRef, WireFormat};
/// use moekit::num::bf16;
/// use moekit::tensor::Tensor;
/// use moekit::{Backend, Cpu};
///
/// let sums = World::run_threads(2, WorldOptions::default(), |world| {
///     let cpu = Cpu::new();
///     let stream = cpu.stream()?;
///     let config = EpConfig {
///         num_max_tokens_per_rank: 8,
///         hidden: 16,
///         num_topk: 2,
///         num_experts: 2,
///         wire: WireFormat::Bf16,
///         layout: RecvLayout::Exact { expert_alignment: 1 },
///         reduce: Reduce::BySlot,
///     };
///     let mut ep = EpBuffer::new(&cpu, &world, config)?;
///     let x = Tensor::from_host(&cpu, &[bf16::from_f32(4.0); 3 * 16], [3, 16])?;
///     let topk_idx = Tensor::from_host(&cpu, &[0, 1].repeat(3), [3, 2])?;
///     let topk_weights = Tensor::from_host(&cpu, &[0.5, 0.25].repeat(3), [3, 2])?;
///
///     let tokens = TokensRef::Bf16(x.view());
///     let mut pending = ep.dispatch_send(&stream, tokens, topk_idx.view(), topk_weights.view())?;
///     // Here is time for other work, while tokens travel.
///     ep.dispatch_plan(&stream, &mut pending)?;
///     let num_rows = pending.num_recv_rows(&ep)?;
///     let mut rows = Tensor::zeros(&cpu, [num_rows, 16])?;
///     let handle = ep.dispatch_recv(&stream, pending, TokensMut::Bf16(rows.view_mut()))?;
///     assert_eq!(num_rows, 3 + 3, "three tokens from each rank");
///
///     let pending = ep.combine_send(&stream, &handle, rows.view(), CombineWeights::Routed)?;
///     let mut out = Tensor::zeros(&cpu, [3, 16])?;
///     ep.combine_recv(&stream, &handle, pending, None, out.view_mut())?;
///     cpu.check(&stream)?;
///     world.close()?;
///     out.to_host(&cpu)
/// })?;
/// for sum in sums {
///     assert_eq!(sum?, [bf16::from_f32(0.5 * 4.0 + 0.25 * 4.0); 3 * 16]);
/// }
/// # Ok::<(), moekit::Error>(())
/// ```
pub struct EpBuffer<B: Backend> {
    pub(crate) backend: B,
    pub(crate) config: EpConfig,
    pub(crate) topology: Topology,
    pub(crate) expert_map: ExpertMap,
    pub(crate) layout: EpLayout,
    pub(crate) symmetric: B::Symmetric,
    /// INT32 `[num_local_experts]`: tokens received since the start or the last reset.
    pub(crate) expert_load: Tensor<B, i32, 1>,
    pub(crate) active: Vec<bool>,
    /// Whether handles have the weights of their rows.
    pub(super) wants_row_weights: bool,
    /// How often the rank mask has changed.
    pub(crate) mask_epoch: u64,
    pub(crate) dispatch_epoch: u64,
    pub(crate) combine_epoch: u64,
    pub(crate) pool: Arc<HandlePool<B>>,
}

/// What the halves of dispatch and combine need of an [`EpBuffer`].
pub(crate) struct EpRef<'a, B: Backend> {
    pub config: &'a EpConfig,
    pub topology: Topology,
    pub expert_map: &'a ExpertMap,
    pub layout: &'a EpLayout,
    pub active: &'a [bool],
    pub symmetric: &'a B::Symmetric,
}

impl<B: Backend> Clone for EpRef<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend> Copy for EpRef<'_, B> {}

impl<'a, B: Backend> EpRef<'a, B> {
    /// Ranks that take part, in order.
    pub fn active_ranks(self) -> impl Iterator<Item = usize> + 'a {
        (0..self.active.len()).filter(move |&rank_idx| self.active[rank_idx])
    }
}

impl<B: Backend> EpBuffer<B> {
    /// Allocates the buffer; collective.
    ///
    /// # Errors
    ///
    /// Those of [`EpConfig::sizes`]; [`Error::OutOfMemory`]; [`Error::Timeout`] or
    /// [`Error::PeerDied`] if a rank does not take part.
    pub fn new(backend: &B, world: &World, config: EpConfig) -> Result<Self> {
        let num_ranks = world.num_ranks();
        config.check(num_ranks)?;
        let node_of = (0..num_ranks).map(|rank_idx| world.node_of(rank_idx)).collect();
        let layout = EpLayout::new(&config, node_of);
        let topology = Topology::new(world.rank_idx(), num_ranks, config.num_experts)?;
        let symmetric = backend.alloc_symmetric(world, layout.num_bytes, Signal::COUNT)?;
        Ok(Self {
            backend: backend.clone(),
            expert_map: ExpertMap::identity(config.num_experts),
            config,
            topology,
            layout,
            symmetric,
            expert_load: Tensor::zeros(backend, [topology.num_local_experts()])?,
            active: vec![true; num_ranks],
            wants_row_weights: false,
            mask_epoch: 0,
            dispatch_epoch: 0,
            combine_epoch: 0,
            pool: Arc::default(),
        })
    }

    /// The configuration.
    pub fn config(&self) -> &EpConfig {
        &self.config
    }

    /// Which experts this rank holds.
    pub fn topology(&self) -> Topology {
        self.topology
    }

    /// Routes logical experts to these physical replicas from the next dispatch on; all ranks set
    /// the same map.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] unless the map has `num_experts` physical experts.
    pub fn set_expert_map(&mut self, map: ExpertMap) -> Result<()> {
        map.check_physical(self.config.num_experts)?;
        self.expert_map = map;
        Ok(())
    }

    /// Leaves ranks out from the next dispatch on: slots routed to them are dropped and counted
    /// ([`super::Handle::num_masked_slots`]), and nothing waits for them. All active ranks set the
    /// same mask, and the world's ([`World::set_rank_mask`]). Handles of another mask are stale.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] unless there is one entry per rank; [`Error::Value`] if this rank is left out,
    /// or if a rank that was left out should come back: it has missed steps, so that takes a new
    /// buffer.
    pub fn set_rank_mask(&mut self, active: &[bool]) -> Result<()> {
        check::shape(OP, "active", &[self.topology.num_ranks()], &[active.len()])?;
        if !active[self.topology.rank_idx()] {
            return Err(Error::value(OP, "active", "this rank active", "this rank left out"));
        }
        if let Some(rank_idx) = (0..active.len()).find(|&rank| active[rank] && !self.active[rank]) {
            let got = format!("rank {rank_idx} active again");
            return Err(Error::value(OP, "active", "ranks that were left out left out", got));
        }
        if self.active != active {
            self.active.copy_from_slice(active);
            self.mask_epoch += 1;
        }
        Ok(())
    }

    /// Whether handles of dispatches from the next on have the routing weight of each received row
    /// ([`super::Handle::row_weights`]), as products and activations take them; this rank's affair alone. Off at first;
    /// it takes 4 bytes for each of the rows that a handle has memory for.
    pub fn set_row_weights(&mut self, are_wanted: bool) {
        self.wants_row_weights = are_wanted;
    }

    /// INT32 `[num_local_experts]`: tokens that each of this rank's experts received since the start
    /// or the last [`EpBuffer::reset_expert_load`]; what expert balancing needs.
    pub fn expert_load(&self) -> TensorRef<'_, B, i32, 1> {
        self.expert_load.view()
    }

    /// Starts the count of [`EpBuffer::expert_load`] anew.
    ///
    /// # Errors
    ///
    /// Those of the backend's copy.
    pub fn reset_expert_load(&mut self) -> Result<()> {
        let zeros = vec![0; self.topology.num_local_experts()];
        self.expert_load.view_mut().copy_from_host(&self.backend, &zeros)
    }

    pub(crate) fn parts(&self) -> EpRef<'_, B> {
        EpRef {
            config: &self.config,
            topology: self.topology,
            expert_map: &self.expert_map,
            layout: &self.layout,
            active: &self.active,
            symmetric: &self.symmetric,
        }
    }
}
