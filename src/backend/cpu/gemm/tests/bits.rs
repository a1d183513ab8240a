//! Batch invariance: a row's bits do not depend on the call that it is part of.

use moekit_testkit::rng::Rng;
use proptest::prelude::*;
use rayon::ThreadPoolBuilder;

use super::*;

/// Rows of A, alone or together, in a dense product.
fn rows_of<'a>(a: &Fp8Mat<'a>, first: usize) -> Fp8Mat<'a> {
    a.starting_at_row(first)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn an_fp8_row_has_the_same_bits_alone_and_in_any_batch(
        seed in any::<u64>(),
        m in 2usize..90,
        n in 1usize..140,
        k_16 in 1usize..40,
        first in 0usize..90,
        len in 1usize..30,
    ) {
        let extents = Extents { m, n, k: k_16 * 16 };
        let (a, b) = fp8_operands(seed, extents);
        let (a, b) = (fp8(&a), fp8(&b));
        let first = first % m;
        let len = len.min(m - first);
        for level in levels() {
            let whole = dense(level, a, b, extents);
            let part = dense(level, rows_of(&a, first), b, Extents { m: len, ..extents });
            assert_same_bits(&format!("{level} {extents:?}"), &part, &whole[first * n..][..len * n]);
        }
    }

    #[test]
    fn a_bf16_row_has_the_same_bits_alone_and_in_any_batch(
        seed in any::<u64>(),
        m in 2usize..40,
        n in 1usize..140,
        k_16 in 1usize..40,
        row in 0usize..40,
    ) {
        let extents = Extents { m, n, k: k_16 * 16 };
        let (a, b) = (bf16_values(seed, m * extents.k), bf16_values(!seed, n * extents.k));
        let (a, b) = (bf16_mat(&a, extents.k), bf16_mat(&b, extents.k));
        let row = row % m;
        for level in levels() {
            let whole = dense(level, a, b, extents);
            let alone = dense(level, a.starting_at_row(row), b, Extents { m: 1, ..extents });
            assert_same_bits(&format!("{level} {extents:?}"), &alone, &whole[row * n..][..n]);
        }
    }

    #[test]
    fn a_column_has_the_same_bits_in_any_part_of_b(
        seed in any::<u64>(),
        m in 1usize..20,
        n in 129usize..300,
        k_16 in 1usize..20,
    ) {
        let extents = Extents { m, n, k: k_16 * 16 };
        let (a, b) = fp8_operands(seed, extents);
        let rest = n - 128;
        for level in levels() {
            let whole = dense(level, fp8(&a), fp8(&b), extents);
            let tail = dense(level, fp8(&a), fp8(&b).starting_at_row(128), Extents { n: rest, ..extents });
            for row in 0..m {
                assert_same_bits(
                    &format!("{level} {extents:?} row {row}"),
                    &tail[row * rest..][..rest],
                    &whole[row * n + 128..][..rest],
                );
            }
        }
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let extents = Extents { m: 700, n: 330, k: 272 };
    let (a, b) = fp8_operands(21, extents);
    for level in levels() {
        let with_threads = |num_threads| {
            let pool = ThreadPoolBuilder::new().num_threads(num_threads).build().expect("a pool");
            pool.install(|| dense(level, fp8(&a), fp8(&b), extents))
        };
        let one = with_threads(1);
        for num_threads in [2, 3, 7] {
            assert_same_bits(&format!("{level} {num_threads}"), &with_threads(num_threads), &one);
        }
    }
}

#[test]
fn fp32_arithmetic_has_the_same_bits_at_every_level() {
    let extents @ Extents { m, n, k } = Extents { m: 29, n: 77, k: 912 };
    let (a, b) = (bf16_values(22, m * k), bf16_values(23, n * k));
    let portable = dense(SimdLevel::Portable, bf16_mat(&a, k), bf16_mat(&b, k), extents);
    for level in levels() {
        let d = dense(level, bf16_mat(&a, k), bf16_mat(&b, k), extents);
        assert_same_bits(&format!("BF16 {level}"), &d, &portable);
    }
    let (a, b) = fp8_operands(24, extents);
    let portable = dense(SimdLevel::Portable, fp8(&a), fp8(&b), extents);
    for level in levels().filter(|&level| level <= SimdLevel::Avx2) {
        assert_same_bits(
            &format!("FP8 {level}"),
            &dense(level, fp8(&a), fp8(&b), extents),
            &portable,
        );
    }
}

/// Rows quantised so that their exponents go from the smallest to the largest, some with a NaN code.
fn nasty_operand(seed: u64, [rows, k]: [usize; 2], gran_rows: usize) -> Quantised {
    let mut rng = Rng::new(seed);
    let num_scales = usize::div_ceil(rows, gran_rows) * k.div_ceil(128);
    let scales = (0..num_scales).map(|_| 0.25 + rng.below(4) as f32).collect();
    let mut codes: Vec<u8> = (0..rows * k)
        .map(|i| {
            let largest = [0x7e, 0x50, 0x20, 0x07][i / k % 4];
            (rng.below(largest + 1) | rng.below(2) << 7) as u8
        })
        .collect();
    for row in (5..rows).step_by(11) {
        codes[row * k + rng.below(k)] = 0xff;
    }
    Quantised::new(codes, scales, [rows, k], [gran_rows, 128])
}

#[test]
fn few_rows_have_the_bits_of_many_whatever_the_codes() {
    for (seed, n, k) in [(31, 1, 16), (32, 75, 400), (33, 16, 128), (34, 130, 784)] {
        let extents = Extents { m: 9, n, k };
        let a = nasty_operand(seed, [extents.m, k], 1);
        let b = nasty_operand(seed + 100, [n, k], 128);
        for level in levels() {
            let whole = dense(level, fp8(&a), fp8(&b), extents);
            for first in 0..extents.m {
                for m in 1..=extents.m - first {
                    let part =
                        dense(level, rows_of(&fp8(&a), first), fp8(&b), Extents { m, ..extents });
                    let what = format!("{level} {extents:?}, {m} rows from {first}");
                    assert_same_bits(&what, &part, &whole[first * n..][..m * n]);
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_processor_without_fp16_instructions_computes_the_same_bits() {
    if SimdLevel::detect() < SimdLevel::Avx512 {
        return;
    }
    for m in [1, 2, 3, 4, 9] {
        let extents @ Extents { n, k, .. } = Extents { m, n: 75, k: 400 };
        let (a, b) = (nasty_operand(41, [m, k], 1), nasty_operand(42, [n, k], 128));
        let mut d = vec![f32::NAN; m * n];
        let out = SharedOut::new(OutMat::F32(&mut d), n);
        let product = |_| Product { a: fp8(&a), b: fp8(&b), d: out, row_weights: None, m, n, k };
        multiply_all(int16::Avx512Int16::without_fp16(), 1, product);
        let want = dense(SimdLevel::Avx512, fp8(&a), fp8(&b), extents);
        assert_same_bits(&format!("{m} rows"), &d, &want);
    }
}
