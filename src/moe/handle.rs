//! What dispatch returns and combine needs: the routing of one step.

use std::sync::{Arc, Mutex, PoisonError};

use super::buffer::EpBuffer;
use super::ep_config::{EpConfig, RecvLayout};
use super::plan::RowLayout;
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::tensor::{Tensor, TensorRef};

/// The routing of one dispatch: where each received row came from and where it must return.
///
/// It can be used for any number of combines, and for further dispatches of other values over the same
/// routing ([`EpBuffer::dispatch_cached`]), until the rank mask changes. Its memory goes back to the
/// buffer's pool when it drops.
pub struct Handle<B: Backend> {
    pub(crate) state: Option<Box<HandleState<B>>>,
    pool: Arc<HandlePool<B>>,
}

/// The tensors of a handle, allocated once for the largest step.
pub(crate) struct HandleState<B: Backend> {
    pub num_tokens: usize,
    pub num_masked_slots: usize,
    /// Rows that its dispatch was given, which combine needs again.
    pub num_rows: usize,
    /// The buffer's when the routing was made.
    pub mask_epoch: u64,
    pub num_topk: usize,
    pub row_layout: RowLayout,
    /// INT32 `[num_max_tokens_per_rank, num_topk]`: physical experts of this rank's tokens.
    pub topk_idx: Tensor<B, i32, 2>,
    /// FP32, as `topk_idx`.
    pub topk_weights: Tensor<B, f32, 2>,
    /// INT32 `[num_ranks * num_max_tokens_per_rank, num_topk]`: physical experts of all tokens.
    pub recv_topk_idx: Tensor<B, i32, 2>,
    /// FP32, as `recv_topk_idx`.
    pub recv_topk_weights: Tensor<B, f32, 2>,
    /// INT32, as `recv_topk_idx`: row of each slot.
    pub slot_rows: Tensor<B, i32, 2>,
    pub expert_offsets: Tensor<B, i32, 1>,
    pub num_recv_tokens_per_expert: Tensor<B, i32, 1>,
    pub grouped_layout: Tensor<B, i32, 1>,
    pub src_info: Tensor<B, i32, 1>,
    /// FP32 `[num_rows]`: weight of each row; `None` unless the buffer was asked for them.
    pub row_weights: Option<Tensor<B, f32, 1>>,
}

impl<B: Backend> HandleState<B> {
    fn new(backend: &B, config: &EpConfig, num_ranks: usize) -> Result<Self> {
        let own = [config.num_max_tokens_per_rank, config.num_topk];
        let all = [num_ranks * config.num_max_tokens_per_rank, config.num_topk];
        let num_rows = config.num_max_recv_rows(num_ranks);
        let num_local = config.num_experts / num_ranks;
        let row_layout = match config.layout {
            RecvLayout::Exact { expert_alignment }
            | RecvLayout::Capacity { expert_alignment, .. } => {
                RowLayout::Contiguous { expert_alignment }
            }
            RecvLayout::Masked { .. } => RowLayout::Masked { max_m: num_rows / num_local },
        };
        Ok(Self {
            num_tokens: 0,
            num_masked_slots: 0,
            num_rows: 0,
            mask_epoch: 0,
            num_topk: config.num_topk,
            row_layout,
            topk_idx: Tensor::zeros(backend, own)?,
            topk_weights: Tensor::zeros(backend, own)?,
            recv_topk_idx: Tensor::zeros(backend, all)?,
            recv_topk_weights: Tensor::zeros(backend, all)?,
            slot_rows: Tensor::zeros(backend, all)?,
            expert_offsets: Tensor::zeros(backend, [num_local + 1])?,
            num_recv_tokens_per_expert: Tensor::zeros(backend, [num_local])?,
            grouped_layout: Tensor::zeros(backend, [num_rows])?,
            src_info: Tensor::zeros(backend, [num_rows])?,
            row_weights: None,
        })
    }

    /// Keeps memory for the rows' weights, or none.
    fn set_row_weights(&mut self, backend: &B, are_wanted: bool) -> Result<()> {
        match (&self.row_weights, are_wanted) {
            (None, true) => {
                self.row_weights = Some(Tensor::zeros(backend, self.src_info.shape())?);
            }
            (Some(_), false) => self.row_weights = None,
            _ => {}
        }
        Ok(())
    }
}

/// Handle memory that is free for the next step.
pub(crate) struct HandlePool<B: Backend>(Mutex<Vec<Box<HandleState<B>>>>);

impl<B: Backend> Default for HandlePool<B> {
    fn default() -> Self {
        Self(Mutex::new(Vec::new()))
    }
}

impl<B: Backend> EpBuffer<B> {
    pub(super) fn new_handle(&self) -> Result<Handle<B>> {
        let free = self.pool.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let state = match free {
            Some(state) => state,
            None => {
                let num_ranks = self.topology.num_ranks();
                Box::new(HandleState::new(&self.backend, &self.config, num_ranks)?)
            }
        };
        let mut handle = Handle { state: Some(state), pool: self.pool.clone() };
        let state = handle.state_mut();
        state.mask_epoch = self.mask_epoch;
        state.set_row_weights(&self.backend, self.wants_row_weights)?;
        Ok(handle)
    }

    /// Refuses a handle of another buffer, or of another rank mask.
    pub(super) fn check_handle(&self, op: &'static str, handle: &Handle<B>) -> Result<()> {
        if !Arc::ptr_eq(&self.pool, &handle.pool) {
            let got = "a handle of another buffer";
            return Err(Error::value(op, "handle", "a handle of this buffer", got));
        }
        let (handle_epoch, buffer_epoch) = (handle.state().mask_epoch, self.mask_epoch);
        if handle_epoch != buffer_epoch {
            return Err(Error::StaleHandle { op, handle_epoch, buffer_epoch });
        }
        Ok(())
    }
}

impl<B: Backend> Drop for Handle<B> {
    fn drop(&mut self) {
        if let Some(state) = self.state.take() {
            self.pool.0.lock().unwrap_or_else(PoisonError::into_inner).push(state);
        }
    }
}

impl<B: Backend> Handle<B> {
    pub(crate) fn state(&self) -> &HandleState<B> {
        self.state.as_ref().expect("a handle has its state until it drops")
    }

    pub(crate) fn state_mut(&mut self) -> &mut HandleState<B> {
        self.state.as_mut().expect("a handle has its state until it drops")
    }

    /// Tokens that this rank dispatched.
    pub fn num_tokens(&self) -> usize {
        self.state().num_tokens
    }

    /// Slots of this rank's tokens that were dropped because their rank is left out.
    pub fn num_masked_slots(&self) -> usize {
        self.state().num_masked_slots
    }

    /// How the received rows lie.
    pub fn row_layout(&self) -> RowLayout {
        self.state().row_layout
    }

    /// INT32 `[num_local_experts + 1]`: first row of each expert, then the end.
    pub fn expert_offsets(&self) -> TensorRef<'_, B, i32, 1> {
        self.state().expert_offsets.view()
    }

    /// INT32 `[num_local_experts]`: tokens routed to each local expert, unaligned, never clipped.
    pub fn num_recv_tokens_per_expert(&self) -> TensorRef<'_, B, i32, 1> {
        self.state().num_recv_tokens_per_expert.view()
    }

    /// INT32 `[num_max_recv_rows]`: local expert of each row; -1 marks padding.
    pub fn grouped_layout(&self) -> TensorRef<'_, B, i32, 1> {
        self.state().grouped_layout.view()
    }

    /// INT32 `[num_max_recv_rows]`: `src_token_global_idx * num_topk + topk slot`; -1 marks padding.
    pub fn src_info(&self) -> TensorRef<'_, B, i32, 1> {
        self.state().src_info.view()
    }

    /// FP32 `[num_max_recv_rows]`: routing weight of each row, 0 in padding; `None` unless the buffer was asked for them
    /// ([`EpBuffer::set_row_weights`]) before the dispatch.
    pub fn row_weights(&self) -> Option<TensorRef<'_, B, f32, 1>> {
        self.state().row_weights.as_ref().map(Tensor::view)
    }

    /// FP32 `[num_ranks * num_max_tokens_per_rank, num_topk]`: routing weights, indexed (flat) by
    /// `src_info`.
    pub fn recv_topk_weights(&self) -> TensorRef<'_, B, f32, 2> {
        self.state().recv_topk_weights.view()
    }
}
