// The kernels' plain arithmetic for a C++ host compiler, to be compared with the Rust side bit for bit.
#include "common/e4m3.cuh"
#include "common/exp.cuh"
#include "common/float_key.cuh"
#include "common/scale.cuh"
#include "common/swiglu.cuh"
#include "kernels/gemm/tiles.cuh"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <utility>

using namespace moekit;

extern "C" void mk_exp(const float* x, float* out, size_t len) {
    for (size_t i = 0; i < len; ++i)
        out[i] = common::exp(x[i]);
}

extern "C" void mk_sigmoid(const float* x, float* out, size_t len) {
    for (size_t i = 0; i < len; ++i)
        out[i] = common::sigmoid(x[i]);
}

// Scales of blocks with these largest magnitudes, and their reciprocals.
extern "C" void mk_scale(const float* amax, size_t len, int is_ue8m0, float* sf, float* inverse) {
    for (size_t i = 0; i < len; ++i) {
        const auto format = is_ue8m0 ? abi::ScaleFormat::kUe8m0 : abi::ScaleFormat::kFp32;
        const common::Scale scale = common::scale_of(amax[i], format);
        sf[i] = scale.sf;
        inverse[i] = scale.inverse;
    }
}

extern "C" void mk_silu(const float* x, float* out, size_t len) {
    for (size_t i = 0; i < len; ++i)
        out[i] = common::silu(x[i]);
}

// What the short way does not reach stays as it is in `out`.
extern "C" void mk_sigmoid_near(const float* x, float* out, size_t len) {
    for (size_t i = 0; i < len; ++i) {
        if (fabsf(x[i]) <= common::kExpReach)
            out[i] = common::sigmoid_near(x[i]);
    }
}

// As the kernels compute it for gates that are near, from an estimate that is off by so many units in the last place;
// the others stay as they are in `out`.
extern "C" void mk_silu_near(const float* x, int ulps_off, float* out, size_t len) {
    for (size_t i = 0; i < len; ++i) {
        if (not common::is_near(x[i]))
            continue;
        const float denominator = 1.0f + common::exp_near(-x[i]);
        const uint32_t estimate = common::to_bits(common::reciprocal_estimate(denominator)) + ulps_off;
        out[i] = common::divide_normal(x[i], denominator, common::from_bits(estimate));
    }
}

// gate_up [num_rows, 2]; one activation a row.
extern "C" void mk_swiglu(const float* gate_up, size_t num_rows, float limit, const float* weights, float* out) {
    for (size_t i = 0; i < num_rows; ++i)
        out[i] = common::swiglu_activation(gate_up[2 * i], gate_up[2 * i + 1], limit, weights[i]);
}

// Of a tile of products into BF16: extents, math warpgroups, whether it is swapped, shared memory with 3 and with 16
// stages, and what K in 2 and in 8 parts adds to it.
template <layout::GemmTile kTile>
static void describe(unsigned* out) {
    using Smem = layout::GemmSmem<kTile>;
    const unsigned all[8] = {kTile.block_m,          kTile.block_n,          kTile.num_math_warpgroups,
                             kTile.swaps_operands,   Smem::total(3, true),   Smem::total(16, true),
                             Smem::partial_bytes(2), Smem::partial_bytes(8)};
    std::copy(all, all + 8, out);
}

template <const auto& kTiles, size_t... kIdx>
static size_t describe_all(unsigned* out, std::index_sequence<kIdx...>) {
    static_assert(sizeof...(kIdx) <= 64);
    (describe<kTiles[kIdx]>(out + 8 * kIdx), ...);
    return sizeof...(kIdx);
}

// Writes eight numbers for each tile; `out` has room for 64 tiles. Returns their number.
extern "C" size_t mk_gemm_fp8_tiles(unsigned* out) {
    return describe_all<kernels::kFp8Tiles>(out, std::make_index_sequence<std::size(kernels::kFp8Tiles)>());
}

extern "C" size_t mk_gemm_swiglu_tiles(unsigned* out) {
    return describe_all<kernels::kGatedTiles>(out, std::make_index_sequence<std::size(kernels::kGatedTiles)>());
}

extern "C" size_t mk_gemm_bf16_tiles(unsigned* out) {
    return describe_all<kernels::kBf16Tiles>(out, std::make_index_sequence<std::size(kernels::kBf16Tiles)>());
}

extern "C" unsigned mk_float_key(float x) {
    return common::float_key(x);
}

extern "C" float mk_float_of_key(unsigned key) {
    return common::float_of_key(key);
}

extern "C" float mk_e4m3_to_f32(unsigned code) {
    return common::e4m3_to_f32(code);
}

extern "C" unsigned mk_ue8m0_of_f32_ceil(float x) {
    return common::ue8m0_of_f32_ceil(x);
}

extern "C" float mk_ue8m0_to_f32(unsigned code) {
    return common::ue8m0_to_f32(code);
}
