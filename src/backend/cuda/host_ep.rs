//! Dispatch and combine through the host's memory, by the cpu's stages.
//!
//! Tokens travel between ranks in host memory: each half copies what it needs from the device, runs the
//! cpu's stage, and copies the outcome back. So these stages wait, and cannot be captured.

use super::{Cuda, CudaStream};
use crate::backend::{Backend, Cpu};
use crate::comm::SymmetricBuffer;
use crate::error::Result;
use crate::moe::buffer::EpRef;
use crate::moe::combine::{CombineRecvArgs, CombineSendArgs};
use crate::moe::dispatch::{
    DispatchGatherArgs, DispatchRecvArgs, DispatchSendArgs, Routing, TokensMut, TokensRef,
};
use crate::moe::handle::HandleState;
use crate::tensor::{Element, QuantMut, QuantRef, QuantTensor, Tensor, TensorMut, TensorRef};

/// Symmetric memory of a CUDA backend: the host's.
#[derive(Debug)]
pub struct CudaSymmetric {
    host: SymmetricBuffer,
}

impl CudaSymmetric {
    pub(super) fn new(host: SymmetricBuffer) -> Self {
        Self { host }
    }
}

pub fn dispatch_send(
    cuda: &Cuda,
    stream: &CudaStream,
    args: DispatchSendArgs<'_, Cuda>,
) -> Result<()> {
    let DispatchSendArgs { ep, epoch, x, routing, state } = args;
    let host = Host::new(cuda);
    let x = HostTokens::read(&host, x)?;
    let routing = match routing {
        Routing::New { topk_idx, topk_weights } => {
            Some((host.read(topk_idx)?, host.read(topk_weights)?))
        }
        Routing::Cached => None,
    };
    let mut on_host = host.read_state(state)?;
    let args = DispatchSendArgs {
        ep: of_host(ep),
        epoch,
        x: x.view(),
        routing: match &routing {
            Some((idx, weights)) => {
                Routing::New { topk_idx: idx.view(), topk_weights: weights.view() }
            }
            None => Routing::Cached,
        },
        state: &mut on_host,
    };
    host.run(stream, |cpu, stream| cpu.dispatch_send(stream, args))?;
    if routing.is_none() {
        return Ok(());
    }
    state.num_masked_slots = on_host.num_masked_slots;
    host.write(&on_host.topk_idx, state.topk_idx.view_mut())?;
    host.write(&on_host.topk_weights, state.topk_weights.view_mut())
}

pub fn dispatch_gather(
    cuda: &Cuda,
    stream: &CudaStream,
    args: DispatchGatherArgs<'_, Cuda>,
) -> Result<()> {
    let DispatchGatherArgs { ep, epoch, state } = args;
    let host = Host::new(cuda);
    let mut on_host = host.read_state(state)?;
    let args = DispatchGatherArgs { ep: of_host(ep), epoch, state: &mut on_host };
    host.run(stream, |cpu, stream| cpu.dispatch_gather(stream, args))?;
    host.write(&on_host.recv_topk_idx, state.recv_topk_idx.view_mut())?;
    host.write(&on_host.recv_topk_weights, state.recv_topk_weights.view_mut())
}

pub fn dispatch_recv(
    cuda: &Cuda,
    stream: &CudaStream,
    args: DispatchRecvArgs<'_, Cuda>,
) -> Result<()> {
    let DispatchRecvArgs { ep, epoch, state, rows } = args;
    let host = Host::new(cuda);
    let on_host = host.read_state(state)?;
    // NOTE: read first, for padding rows and gaps stay as they are.
    let mut received = match &rows {
        TokensMut::Bf16(rows) => HostTokens::Bf16(host.read(rows.view())?),
        TokensMut::Fp8(rows) => HostTokens::Fp8(QuantTensor {
            values: host.read(rows.values.view())?,
            scales: host.read(rows.scales.view())?,
        }),
    };
    let args =
        DispatchRecvArgs { ep: of_host(ep), epoch, state: &on_host, rows: received.view_mut() };
    host.run(stream, |cpu, stream| cpu.dispatch_recv(stream, args))?;
    match (&received, rows) {
        (HostTokens::Bf16(from), TokensMut::Bf16(to)) => host.write(from, to),
        (HostTokens::Fp8(from), TokensMut::Fp8(QuantMut { values, scales })) => {
            host.write(&from.values, values)?;
            host.write(&from.scales, scales)
        }
        _ => Ok(()),
    }
}

pub fn combine_send(
    cuda: &Cuda,
    stream: &CudaStream,
    args: CombineSendArgs<'_, Cuda>,
) -> Result<()> {
    let CombineSendArgs { ep, epoch, state, y, weights } = args;
    let host = Host::new(cuda);
    let (on_host, y) = (host.read_state(state)?, host.read(y)?);
    let args = CombineSendArgs { ep: of_host(ep), epoch, state: &on_host, y: y.view(), weights };
    host.run(stream, |cpu, stream| cpu.combine_send(stream, args))
}

pub fn combine_recv(
    cuda: &Cuda,
    stream: &CudaStream,
    args: CombineRecvArgs<'_, Cuda>,
) -> Result<()> {
    let CombineRecvArgs { ep, epoch, state, weights, bias, out } = args;
    let host = Host::new(cuda);
    let on_host = host.read_state(state)?;
    let bias = bias.map(|bias| host.read(bias)).transpose()?;
    let mut sums = host.read(out.view())?;
    let args = CombineRecvArgs {
        ep: of_host(ep),
        epoch,
        state: &on_host,
        weights,
        bias: bias.as_ref().map(Tensor::view),
        out: sums.view_mut(),
    };
    host.run(stream, |cpu, stream| cpu.combine_recv(stream, args))?;
    host.write(&sums, out)
}

/// The buffer as the cpu's stages see it.
fn of_host<'a>(ep: EpRef<'a, Cuda>) -> EpRef<'a, Cpu> {
    let EpRef { config, topology, expert_map, layout, active, symmetric } = ep;
    EpRef { config, topology, expert_map, layout, active, symmetric: &symmetric.host }
}

/// The cpu, and the device whose memory it is given copies of.
struct Host<'a> {
    cuda: &'a Cuda,
    cpu: Cpu,
}

impl<'a> Host<'a> {
    fn new(cuda: &'a Cuda) -> Self {
        Self { cuda, cpu: Cpu::new() }
    }

    /// Runs a stage of the cpu; what it reports in values goes to the device's stream.
    fn run(
        &self,
        stream: &CudaStream,
        stage: impl FnOnce(&Cpu, &<Cpu as Backend>::Stream) -> Result<()>,
    ) -> Result<()> {
        let on_host = self.cpu.stream()?;
        stage(&self.cpu, &on_host)?;
        if let Err(fault) = self.cpu.check(&on_host) {
            stream.report(fault);
        }
        Ok(())
    }

    /// A copy in the same layout; waits for the stages before.
    fn read<T: Element, const R: usize>(
        &self,
        from: TensorRef<'_, Cuda, T, R>,
    ) -> Result<Tensor<Cpu, T, R>> {
        let mut to = Tensor::zeros_with_layout(&self.cpu, from.layout())?;
        to.view_mut().copy_from_host(&self.cpu, &from.to_host(self.cuda)?)?;
        Ok(to)
    }

    fn write<T: Element, const R: usize>(
        &self,
        from: &Tensor<Cpu, T, R>,
        mut to: TensorMut<'_, Cuda, T, R>,
    ) -> Result<()> {
        to.copy_from_host(self.cuda, from.view().as_span())
    }

    fn read_state(&self, state: &HandleState<Cuda>) -> Result<HandleState<Cpu>> {
        Ok(HandleState {
            num_tokens: state.num_tokens,
            num_masked_slots: state.num_masked_slots,
            num_rows: state.num_rows,
            mask_epoch: state.mask_epoch,
            num_topk: state.num_topk,
            row_layout: state.row_layout,
            topk_idx: self.read(state.topk_idx.view())?,
            topk_weights: self.read(state.topk_weights.view())?,
            recv_topk_idx: self.read(state.recv_topk_idx.view())?,
            recv_topk_weights: self.read(state.recv_topk_weights.view())?,
            slot_rows: self.read(state.slot_rows.view())?,
            expert_offsets: self.read(state.expert_offsets.view())?,
            num_recv_tokens_per_expert: self.read(state.num_recv_tokens_per_expert.view())?,
            grouped_layout: self.read(state.grouped_layout.view())?,
            src_info: self.read(state.src_info.view())?,
            // Only the plan and products meet them, on the device.
            row_weights: None,
        })
    }
}

/// Tokens in host memory.
enum HostTokens {
    Bf16(Tensor<Cpu, crate::num::bf16, 2>),
    Fp8(QuantTensor<Cpu, 2>),
}

impl HostTokens {
    fn read(host: &Host<'_>, x: TokensRef<'_, Cuda>) -> Result<Self> {
        Ok(match x {
            TokensRef::Bf16(x) => Self::Bf16(host.read(x)?),
            TokensRef::Fp8(QuantRef { values, scales }) => {
                Self::Fp8(QuantTensor { values: host.read(values)?, scales: host.read(scales)? })
            }
        })
    }

    fn view(&self) -> TokensRef<'_, Cpu> {
        match self {
            Self::Bf16(x) => TokensRef::Bf16(x.view()),
            Self::Fp8(x) => TokensRef::Fp8(x.view()),
        }
    }

    fn view_mut(&mut self) -> TokensMut<'_, Cpu> {
        match self {
            Self::Bf16(x) => TokensMut::Bf16(x.view_mut()),
            Self::Fp8(x) => TokensMut::Fp8(x.view_mut()),
        }
    }
}
