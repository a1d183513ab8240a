//! Dispatch: tokens travel to the ranks of their experts.
//!
//! Three stages. *Send* publishes this rank's tokens once, for all their experts. *Plan* waits for
//! every rank's routing and gives each (token, expert) a row. *Receive* fills these rows.

use super::buffer::{EpBuffer, EpRef};
use super::ep_config::WireFormat;
use super::handle::{Handle, HandleState};
use super::plan::{PlanArgs, PlanOut};
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::num::{bf16, ceil_div};
use crate::tensor::{Layout, QuantMut, QuantRef, TensorMut, TensorRef, check};

const OP: &str = "dispatch";

/// Tokens to send, in the wire's format.
#[derive(Debug)]
pub enum TokensRef<'a, B> {
    /// BF16 `[num_tokens, hidden]`, rows contiguous.
    Bf16(TensorRef<'a, B, bf16, 2>),
    /// E4M3 `[num_tokens, hidden]` with FP32 scales `[num_tokens, ceil_div(hidden, 128)]`.
    Fp8(QuantRef<'a, B, 2>),
}

impl<B> Clone for TokensRef<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for TokensRef<'_, B> {}

/// Memory for received rows, in the wire's format.
#[derive(Debug)]
pub enum TokensMut<'a, B> {
    /// BF16 `[num_rows, hidden]`, rows contiguous.
    Bf16(TensorMut<'a, B, bf16, 2>),
    /// E4M3 `[num_rows, hidden]` with FP32 scales `[num_rows, ceil_div(hidden, 128)]`.
    Fp8(QuantMut<'a, B, 2>),
}

/// Where the routing of a send comes from.
pub(crate) enum Routing<'a, B: Backend> {
    /// New: logical experts and weights of each token.
    New { topk_idx: TensorRef<'a, B, i32, 2>, topk_weights: TensorRef<'a, B, f32, 2> },
    /// As in the handle; only values travel.
    Cached,
}

/// Arguments of [`Backend::dispatch_send`]; made by [`EpBuffer::dispatch_send`].
pub struct DispatchSendArgs<'a, B: Backend> {
    pub(crate) ep: EpRef<'a, B>,
    pub(crate) epoch: u64,
    pub(crate) x: TokensRef<'a, B>,
    pub(crate) routing: Routing<'a, B>,
    pub(crate) state: &'a mut HandleState<B>,
}

/// Arguments of [`Backend::dispatch_gather`]; made by [`EpBuffer::dispatch_plan`].
pub struct DispatchGatherArgs<'a, B: Backend> {
    pub(crate) ep: EpRef<'a, B>,
    pub(crate) epoch: u64,
    pub(crate) state: &'a mut HandleState<B>,
}

/// Arguments of [`Backend::dispatch_recv`]; made by [`EpBuffer::dispatch_recv`].
pub struct DispatchRecvArgs<'a, B: Backend> {
    pub(crate) ep: EpRef<'a, B>,
    pub(crate) epoch: u64,
    pub(crate) state: &'a HandleState<B>,
    pub(crate) rows: TokensMut<'a, B>,
}

/// A dispatch whose send half is under way.
///
/// The next dispatch makes it stale: that one's send half gives up the tokens that were not received.
#[must_use = "peers wait until the receive half has run"]
pub struct PendingDispatch<B: Backend> {
    handle: Handle<B>,
    epoch: u64,
}

impl<B: Backend> EpBuffer<B> {
    /// Publishes this rank's tokens: the send half of dispatch.
    ///
    /// # Shapes
    ///
    /// | name | dtype | shape | layout |
    /// | --- | --- | --- | --- |
    /// | `x` | the wire's | `[num_tokens, hidden]` | rows contiguous |
    /// | `topk_idx` | INT32 | `[num_tokens, num_topk]` | row-major; logical expert, -1 = not selected |
    /// | `topk_weights` | FP32 | `[num_tokens, num_topk]` | row-major |
    ///
    /// # Errors
    ///
    /// [`Error::Shape`], [`Error::Stride`] unless the tensors are as stated; [`Error::Value`] if `x`
    /// is not in the wire's format; [`Error::Capacity`] if
    /// `num_tokens > num_max_tokens_per_rank`; [`Error::Timeout`] or [`Error::PeerDied`] if a rank has
    /// not read the tokens of the step before. An index out of range is reported by
    /// [`Backend::check`] and its slot dropped.
    ///
    /// # Source
    ///
    /// DeepEP `dispatch`, `low_latency_dispatch` with `return_recv_hook`.
    pub fn dispatch_send(
        &mut self,
        stream: &B::Stream,
        x: TokensRef<'_, B>,
        topk_idx: TensorRef<'_, B, i32, 2>,
        topk_weights: TensorRef<'_, B, f32, 2>,
    ) -> Result<PendingDispatch<B>> {
        let num_tokens = self.check_tokens(x)?;
        let routing_shape = [num_tokens, self.config.num_topk];
        check::shape(OP, "topk_idx", &routing_shape, &topk_idx.shape())?;
        check::shape(OP, "topk_weights", &routing_shape, &topk_weights.shape())?;
        check::contiguous(OP, "topk_idx", topk_idx.layout())?;
        check::contiguous(OP, "topk_weights", topk_weights.layout())?;
        let mut handle = self.new_handle()?;
        handle.state_mut().num_tokens = num_tokens;
        self.send(stream, handle, x, Routing::New { topk_idx, topk_weights })
    }

    /// Publishes other values over the routing of an earlier dispatch: the backward of combine, or
    /// a repeated layout. All ranks call it with their handles of the same step.
    ///
    /// The pending dispatch goes to [`EpBuffer::dispatch_recv`] directly; rows are those of `handle`.
    ///
    /// # Errors
    ///
    /// As [`EpBuffer::dispatch_send`]; [`Error::Shape`] unless `x` has the handle's number of tokens;
    /// [`Error::Value`] if the handle belongs to another buffer; [`Error::StaleHandle`] if the rank mask
    /// has changed since.
    pub fn dispatch_cached(
        &mut self,
        stream: &B::Stream,
        x: TokensRef<'_, B>,
        handle: Handle<B>,
    ) -> Result<PendingDispatch<B>> {
        self.check_handle(OP, &handle)?;
        let num_tokens = self.check_tokens(x)?;
        let expected = [handle.num_tokens(), self.config.hidden];
        check::shape(OP, "x", &expected, &[num_tokens, self.config.hidden])?;
        self.send(stream, handle, x, Routing::Cached)
    }

    fn send(
        &mut self,
        stream: &B::Stream,
        mut handle: Handle<B>,
        x: TokensRef<'_, B>,
        routing: Routing<'_, B>,
    ) -> Result<PendingDispatch<B>> {
        let epoch = self.dispatch_epoch + 1;
        let args =
            DispatchSendArgs { ep: self.parts(), epoch, x, routing, state: handle.state_mut() };
        self.backend.dispatch_send(stream, args)?;
        self.dispatch_epoch = epoch;
        Ok(PendingDispatch { handle, epoch })
    }

    /// Waits for all ranks' routing and plans the rows. The host does not wait, except in the exact
    /// layout, where [`PendingDispatch::num_recv_rows`] reads the result.
    ///
    /// # Errors
    ///
    /// [`Error::StaleHandle`] if a later dispatch was sent meanwhile; [`Error::Timeout`] or
    /// [`Error::PeerDied`] naming the rank that did not send. At [`Backend::check`]:
    /// [`Error::Capacity`] with the rows needed if they do not fit.
    pub fn dispatch_plan(
        &mut self,
        stream: &B::Stream,
        pending: &mut PendingDispatch<B>,
    ) -> Result<()> {
        self.check_pending(pending)?;
        let (epoch, state) = (pending.epoch, pending.handle.state_mut());
        self.backend
            .dispatch_gather(stream, DispatchGatherArgs { ep: self.parts(), epoch, state })?;
        let mut args = PlanArgs::new(
            state.recv_topk_idx.view(),
            self.topology.num_experts(),
            self.topology.local_experts(),
            state.row_layout,
            PlanOut {
                expert_offsets: state.expert_offsets.view_mut(),
                num_recv_tokens_per_expert: state.num_recv_tokens_per_expert.view_mut(),
                expert_load: Some(self.expert_load.view_mut()),
                grouped_layout: state.grouped_layout.view_mut(),
                src_info: state.src_info.view_mut(),
                slot_rows: state.slot_rows.view_mut(),
            },
        )?;
        if let Some(row_weights) = &mut state.row_weights {
            let weights = state.recv_topk_weights.view();
            args = args.with_row_weights(weights, row_weights.view_mut())?;
        }
        self.backend.plan(stream, args)
    }

    /// Fills the received rows: the receive half of dispatch.
    ///
    /// `rows` has at least the rows planned in the exact layout ([`PendingDispatch::num_recv_rows`]),
    /// and all rows of the layout otherwise. Padding rows are left as they are.
    ///
    /// # Errors
    ///
    /// [`Error::StaleHandle`] if a later dispatch was sent meanwhile; [`Error::Shape`],
    /// [`Error::Stride`], [`Error::Value`] unless `rows` is of the wire's format and `hidden` wide;
    /// [`Error::Capacity`] with the rows needed if there are too few; [`Error::Timeout`] or
    /// [`Error::PeerDied`].
    pub fn dispatch_recv(
        &self,
        stream: &B::Stream,
        mut pending: PendingDispatch<B>,
        rows: TokensMut<'_, B>,
    ) -> Result<Handle<B>> {
        self.check_pending(&pending)?;
        pending.handle.state_mut().num_rows = self.check_rows(&pending, &rows)?;
        let (epoch, state) = (pending.epoch, pending.handle.state());
        self.backend
            .dispatch_recv(stream, DispatchRecvArgs { ep: self.parts(), epoch, state, rows })?;
        Ok(pending.handle)
    }

    fn check_pending(&self, pending: &PendingDispatch<B>) -> Result<()> {
        self.check_handle(OP, &pending.handle)?;
        if pending.epoch == self.dispatch_epoch {
            return Ok(());
        }
        Err(Error::StaleHandle {
            op: OP,
            handle_epoch: pending.epoch,
            buffer_epoch: self.dispatch_epoch,
        })
    }

    /// Refuses tokens of another format, width or number than the buffer's; returns their number.
    fn check_tokens(&self, x: TokensRef<'_, B>) -> Result<usize> {
        let num_tokens = match x {
            TokensRef::Bf16(x) => {
                self.check_wire("x", WireFormat::Bf16)?;
                self.check_values("x", x.layout())?
            }
            TokensRef::Fp8(x) => {
                self.check_wire("x", WireFormat::Fp8)?;
                let num_tokens = self.check_values("x.values", x.values.layout())?;
                self.check_scales("x.scales", num_tokens, x.scales.shape())?;
                num_tokens
            }
        };
        let capacity = self.config.num_max_tokens_per_rank;
        check::capacity(OP, "num_max_tokens_per_rank", num_tokens, capacity, "tokens")?;
        Ok(num_tokens)
    }

    /// Refuses rows of another format or width, or too few; returns the number needed.
    fn check_rows(&self, pending: &PendingDispatch<B>, rows: &TokensMut<'_, B>) -> Result<usize> {
        let capacity = match rows {
            TokensMut::Bf16(rows) => {
                self.check_wire("rows", WireFormat::Bf16)?;
                self.check_values("rows", rows.layout())?
            }
            TokensMut::Fp8(rows) => {
                self.check_wire("rows", WireFormat::Fp8)?;
                let num_rows = self.check_values("rows.values", rows.values.layout())?;
                self.check_scales("rows.scales", num_rows, rows.scales.shape())?;
                num_rows
            }
        };
        let needed = pending.num_rows_to_provide(self)?;
        check::capacity(OP, "rows", needed, capacity, "rows")?;
        Ok(needed)
    }

    fn check_wire(&self, arg: &'static str, format: WireFormat) -> Result<()> {
        if self.config.wire == format {
            return Ok(());
        }
        let expected = format!("{:?}, the buffer's wire format", self.config.wire);
        Err(Error::value(OP, arg, expected, format!("{format:?}")))
    }

    fn check_values(&self, arg: &'static str, layout: Layout<2>) -> Result<usize> {
        let [num_rows, width] = layout.shape();
        check::shape(OP, arg, &[num_rows, self.config.hidden], &[num_rows, width])?;
        check::contiguous_rows(OP, arg, layout)?;
        Ok(num_rows)
    }

    fn check_scales(&self, arg: &'static str, num_rows: usize, got: [usize; 2]) -> Result<()> {
        check::shape(OP, arg, &[num_rows, ceil_div(self.config.hidden, 128)], &got)
    }
}

impl<B: Backend> PendingDispatch<B> {
    /// Rows that this rank will receive, padding included; waits for the plan (exact layout).
    ///
    /// # Errors
    ///
    /// Those of [`Backend::read`].
    pub fn num_recv_rows(&self, ep: &EpBuffer<B>) -> Result<usize> {
        let offsets = self.handle.state().expert_offsets.view();
        let mut end = [0i32];
        // SAFETY: the last of the view's initialised elements, which nothing writes meanwhile.
        unsafe {
            let last = offsets.as_ptr().add(ep.topology.num_local_experts());
            ep.backend.read(last.cast(), bytemuck::cast_slice_mut(&mut end))?;
        }
        Ok(end[0] as usize)
    }

    fn num_rows_to_provide(&self, ep: &EpBuffer<B>) -> Result<usize> {
        match ep.config.layout {
            super::RecvLayout::Exact { .. } => self.num_recv_rows(ep),
            _ => Ok(ep.config.num_max_recv_rows(ep.topology.num_ranks())),
        }
    }
}
