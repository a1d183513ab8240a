// Runs of elements between memory and FP32 registers: 16 bytes at a time where rows are aligned to that.
#pragma once

#include "abi/tensor.h"
#include "common/bits.cuh"
#include "ptx/cvt.cuh"

namespace moekit::layout {

// Elements that one thread handles: 16 codes are one store.
constexpr uint32_t kPiece = 16;

MK_DEVICE float to_f32(float x) {
    return x;
}

MK_DEVICE float to_f32(abi::Bf16 x) {
    return common::from_bits(static_cast<uint32_t>(x.bits) << 16);
}

// Elements of T in 16 bytes.
template <typename T>
constexpr uint32_t kVector = 16 / sizeof(T);

MK_DEVICE void unpack(const uint4& raw, float* x, float) {
    x[0] = common::from_bits(raw.x);
    x[1] = common::from_bits(raw.y);
    x[2] = common::from_bits(raw.z);
    x[3] = common::from_bits(raw.w);
}

MK_DEVICE void unpack(const uint4& raw, float* x, abi::Bf16) {
    const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
        x[2 * i] = common::from_bits(words[i] << 16);
        x[2 * i + 1] = common::from_bits(words[i] & 0xffff0000);
    }
}

// A piece as it lies in memory. NOTE: apart from its values, so that several are on their way before one is used.
template <typename T, uint32_t kLen = kPiece>
struct RawPiece {
    uint4 vectors[kLen / kVector<T>];

    // From an address that is a multiple of 16.
    MK_DEVICE explicit RawPiece(const T* src) {
#pragma unroll
        for (uint32_t v = 0; v < kLen / kVector<T>; ++v)
            vectors[v] = __ldg(reinterpret_cast<const uint4*>(src) + v);
    }

    MK_DEVICE void unpack_to(float (&x)[kLen]) const {
#pragma unroll
        for (uint32_t v = 0; v < kLen / kVector<T>; ++v)
            unpack(vectors[v], x + v * kVector<T>, T{});
    }
};

// The first `num_valid` of `kLen` elements, one by one, then zeros.
template <typename T, uint32_t kLen>
MK_DEVICE void load_each(const T* src, uint32_t num_valid, float (&x)[kLen]) {
#pragma unroll
    for (uint32_t i = 0; i < kLen; ++i)
        x[i] = i < num_valid ? to_f32(src[i]) : 0.0f;
}

MK_DEVICE void store_16_bytes(void* dst, const uint4& raw, bool is_aligned) {
    if (is_aligned) {
        *reinterpret_cast<uint4*>(dst) = raw;
        return;
    }
    const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
    auto* bytes = reinterpret_cast<uint8_t*>(dst);
#pragma unroll
    for (uint32_t i = 0; i < 16; ++i)
        bytes[i] = static_cast<uint8_t>(words[i / 4] >> (8 * (i % 4)));
}

// The first `num_valid` codes of some words; a word at a time where rows are aligned.
template <uint32_t kWords>
MK_DEVICE void store_codes(uint8_t* dst, const uint32_t (&words)[kWords], uint32_t num_valid, bool is_aligned) {
#pragma unroll
    for (uint32_t w = 0; w < kWords; ++w) {
        if (is_aligned and num_valid >= 4 * (w + 1)) {
            reinterpret_cast<uint32_t*>(dst)[w] = words[w];
            continue;
        }
#pragma unroll
        for (uint32_t i = 0; i < 4; ++i) {
            if (4 * w + i < num_valid)
                dst[4 * w + i] = static_cast<uint8_t>(words[w] >> (8 * i));
        }
    }
}

// NOTE: a NaN is written as PTX's canonical one, so that it too has the same bits on every backend.
MK_DEVICE uint32_t canonical_bits(float x) {
    return common::is_nan(x) ? 0x7fffffff : common::to_bits(x);
}

MK_DEVICE void store_element(float* dst, float x) {
    *dst = common::from_bits(canonical_bits(x));
}

MK_DEVICE void store_element(abi::Bf16* dst, float x) {
    dst->bits = static_cast<uint16_t>(ptx::cvt_rn_bf16x2_f32(x, 0.0f));
}

MK_DEVICE void store_bits(abi::Bf16* dst, uint32_t bits) {
    dst->bits = static_cast<uint16_t>(bits);
}

MK_DEVICE void store_bits(float* dst, uint32_t bits) {
    *dst = common::from_bits(bits);
}

MK_DEVICE uint4 pack(const float* x, abi::Bf16) {
    return {ptx::cvt_rn_bf16x2_f32(x[0], x[1]), ptx::cvt_rn_bf16x2_f32(x[2], x[3]), ptx::cvt_rn_bf16x2_f32(x[4], x[5]),
            ptx::cvt_rn_bf16x2_f32(x[6], x[7])};
}

MK_DEVICE uint4 pack(const float* x, float) {
    return {canonical_bits(x[0]), canonical_bits(x[1]), canonical_bits(x[2]), canonical_bits(x[3])};
}

// Writes the first `num_valid` of a piece, rounded to T.
template <typename T, uint32_t kLen>
MK_DEVICE void store_piece(T* dst, const float (&x)[kLen], uint32_t num_valid, bool is_aligned) {
#pragma unroll
    for (uint32_t v = 0; v < kLen / kVector<T>; ++v) {
        const uint4 raw = pack(x + v * kVector<T>, T{});
        if (is_aligned and num_valid >= (v + 1) * kVector<T>) {
            *reinterpret_cast<uint4*>(dst + v * kVector<T>) = raw;
            continue;
        }
        const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
        for (uint32_t i = 0; i < kVector<T>; ++i) {
            const uint32_t word = words[i * sizeof(T) / 4] >> (8 * (i * sizeof(T) % 4));
            if (v * kVector<T> + i < num_valid)
                store_bits(dst + v * kVector<T> + i, word);
        }
    }
}

}  // namespace moekit::layout
