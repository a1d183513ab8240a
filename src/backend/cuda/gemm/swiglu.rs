//! The experts' first product with its activation: what the kernels of `csrc/kernels/gemm/swiglu_gemm.cuh` are launched
//! with.

use super::{Product, contiguous_rows, device, masked_rows, options, scaled, weights_ptr};
use crate::backend::cuda::abi::GemmSwigluParams;
use crate::backend::cuda::heuristics::SwigluFusion;
use crate::backend::cuda::params::quant_out;
use crate::backend::cuda::{Cuda, CudaStream};
use crate::error::Result;
use crate::gemm::{
    GemmKind, GemmOutFormat, GemmShape, GroupedSwigluArgs, MaskedSwigluArgs, SwigluOut,
};
use crate::num::ceil_div;

const CONTIGUOUS: &str = "m_grouped_gemm_swiglu_contiguous";
const MASKED: &str = "m_grouped_gemm_swiglu_masked";

pub fn contiguous(
    cuda: &Cuda,
    stream: &CudaStream,
    args: GroupedSwigluArgs<'_, Cuda>,
) -> Result<()> {
    let GroupedSwigluArgs { a, b, rows, out } = args;
    let rows = contiguous_rows(CONTIGUOUS, rows)?;
    let [a, b] = scaled(a.split_rows(1)?, b);
    let expected_m = ceil_div(a.shape()[1], b.shape()[0].max(1));
    let product = Product { op: CONTIGUOUS, kind: GemmKind::Contiguous, a, b, rows, expected_m };
    launch(&product, cuda, stream, out)
}

pub fn masked(cuda: &Cuda, stream: &CudaStream, args: MaskedSwigluArgs<'_, Cuda>) -> Result<()> {
    let MaskedSwigluArgs { a, b, rows, out } = args;
    let ([a, b], expected_m) = (scaled(a, b), rows.expected_m);
    let rows = masked_rows(&rows);
    let product = Product { op: MASKED, kind: GemmKind::Masked, a, b, rows, expected_m };
    launch(&product, cuda, stream, out)
}

/// Whether one launch should take less time than two.
pub fn fusion_pays(cuda: &Cuda, shape: &GemmShape) -> bool {
    let pays = cuda.fusion_choices().get(&(*shape, cuda.max_split_k), || {
        Ok(SwigluFusion::new(shape, &device(cuda), &options(cuda))?.pays())
    });
    pays.unwrap_or(false)
}

fn launch(
    product: &Product<'_>,
    cuda: &Cuda,
    stream: &CudaStream,
    mut out: SwigluOut<'_, Cuda, 3>,
) -> Result<()> {
    let config = product.config(cuda, GemmOutFormat::SwigluFp8)?;
    let mut params = product.params(stream, &config, None)?;
    // Columns of the result.
    params.n /= 2;
    let params = GemmSwigluParams {
        product: params,
        act: quant_out(&mut out.act, out.scale_format),
        row_weights: weights_ptr(out.row_weights),
        limit: out.limit,
        reserved: [0; 11],
    };
    product.enqueue(cuda, stream, &config, "fp8_swiglu", &params)
}
