//! Combine: the experts' outputs return to the tokens' ranks and are added, weighted.

use super::buffer::{EpBuffer, EpRef};
use super::handle::{Handle, HandleState};
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::num::bf16;
use crate::tensor::{TensorMut, TensorRef, check};

const OP: &str = "combine";

/// What multiplies the experts' outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CombineWeights {
    /// The weights that were dispatched.
    #[default]
    Routed,
    /// One: a plain sum, the backward of dispatch.
    Ones,
}

/// Arguments of [`Backend::combine_send`]; made by [`EpBuffer::combine_send`].
pub struct CombineSendArgs<'a, B: Backend> {
    pub(crate) ep: EpRef<'a, B>,
    pub(crate) epoch: u64,
    pub(crate) state: &'a HandleState<B>,
    pub(crate) y: TensorRef<'a, B, bf16, 2>,
    pub(crate) weights: CombineWeights,
}

/// Arguments of [`Backend::combine_recv`]; made by [`EpBuffer::combine_recv`].
pub struct CombineRecvArgs<'a, B: Backend> {
    pub(crate) ep: EpRef<'a, B>,
    pub(crate) epoch: u64,
    pub(crate) state: &'a HandleState<B>,
    pub(crate) weights: CombineWeights,
    pub(crate) bias: Option<TensorRef<'a, B, bf16, 2>>,
    pub(crate) out: TensorMut<'a, B, bf16, 2>,
}

/// A combine whose send half is under way; the next combine makes it stale.
#[must_use = "peers wait until the receive half has run"]
#[derive(Debug)]
pub struct PendingCombine {
    epoch: u64,
    weights: CombineWeights,
}

impl<B: Backend> EpBuffer<B> {
    /// Returns the experts' outputs to the tokens' ranks: the send half of combine.
    ///
    /// `y` is BF16 `[num_rows, hidden]`, rows contiguous, in the rows of the handle's dispatch.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`], [`Error::Stride`] unless `y` is as stated; [`Error::Capacity`] if it has
    /// fewer rows than the dispatch delivered (the exact layout) or may deliver (the others);
    /// [`Error::Value`] if the handle is of another buffer; [`Error::StaleHandle`] if the rank mask has
    /// changed since its dispatch; [`Error::Timeout`] or [`Error::PeerDied`] if a rank has not read the rows of the step before.
    ///
    /// # Source
    ///
    /// DeepEP `combine`, `low_latency_combine`.
    pub fn combine_send(
        &mut self,
        stream: &B::Stream,
        handle: &Handle<B>,
        y: TensorRef<'_, B, bf16, 2>,
        weights: CombineWeights,
    ) -> Result<PendingCombine> {
        self.check_handle(OP, handle)?;
        let [num_rows, width] = y.shape();
        check::shape(OP, "y", &[num_rows, self.config.hidden], &[num_rows, width])?;
        check::contiguous_rows(OP, "y", y.layout())?;
        let needed = handle.state().num_rows;
        check::capacity(OP, "y", needed, num_rows, "rows")?;
        let epoch = self.combine_epoch + 1;
        let args = CombineSendArgs { ep: self.parts(), epoch, state: handle.state(), y, weights };
        self.backend.combine_send(stream, args)?;
        self.combine_epoch = epoch;
        Ok(PendingCombine { epoch, weights })
    }

    /// Adds the returned rows of each token: the receive half of combine.
    ///
    /// `out[t] = bf16(sum over slots ascending of w[t, slot] * y(t, slot) + bias[t])`
    ///
    /// # Shapes
    ///
    /// | name | dtype | shape | layout |
    /// | --- | --- | --- | --- |
    /// | `bias` | BF16 | `[num_tokens, hidden]` | rows contiguous; the shared expert's output |
    /// | `out` | BF16 | `[num_tokens, hidden]` | rows contiguous, overwritten |
    ///
    /// # Numerics
    ///
    /// FP32: `acc = 0; acc = fma(w, y, acc)` by ascending slot, then the bias, one rounding to BF16. With
    /// [`super::Reduce::ByRank`] the inner sum is per rank and rounded to BF16 before it returns.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`], [`Error::Stride`] unless the tensors are as stated; [`Error::StaleHandle`]
    /// if a later combine was sent or the rank mask changed meanwhile; [`Error::Timeout`] or [`Error::PeerDied`] naming the
    /// rank whose rows did not come.
    pub fn combine_recv(
        &self,
        stream: &B::Stream,
        handle: &Handle<B>,
        pending: PendingCombine,
        bias: Option<TensorRef<'_, B, bf16, 2>>,
        out: TensorMut<'_, B, bf16, 2>,
    ) -> Result<()> {
        self.check_handle(OP, handle)?;
        if pending.epoch != self.combine_epoch {
            return Err(Error::StaleHandle {
                op: OP,
                handle_epoch: pending.epoch,
                buffer_epoch: self.combine_epoch,
            });
        }
        let shape = [handle.num_tokens(), self.config.hidden];
        check::shape(OP, "out", &shape, &out.shape())?;
        check::contiguous_rows(OP, "out", out.layout())?;
        if let Some(bias) = bias {
            check::shape(OP, "bias", &shape, &bias.shape())?;
            check::contiguous_rows(OP, "bias", bias.layout())?;
        }
        let (epoch, weights) = (pending.epoch, pending.weights);
        let args =
            CombineRecvArgs { ep: self.parts(), epoch, state: handle.state(), weights, bias, out };
        self.backend.combine_recv(stream, args)
    }
}
