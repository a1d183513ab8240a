//! Grouped layouts give every row the bits of the dense product with its group's weights.

use super::*;

const N: usize = 70;
const K: usize = 272;
const NUM_GROUPS: usize = 4;

/// Rows of A for all groups, and each group's weights.
fn operands(m: usize) -> (Quantised, Vec<Quantised>) {
    let (a, _) = fp8_operands(31, Extents { m, n: 1, k: K });
    let b = (0..NUM_GROUPS)
        .map(|group| fp8_operands(32 + group as u64, Extents { m: 1, n: N, k: K }).1)
        .collect();
    (a, b)
}

fn one_row(level: SimdLevel, a: &Quantised, row: usize, b: &Quantised) -> Vec<f32> {
    dense(level, fp8(a).starting_at_row(row), fp8(b), Extents { m: 1, n: N, k: K })
}

fn check_contiguous(grouped_layout: &[i32]) {
    let m = grouped_layout.len();
    let (a, b) = operands(m);
    let mut segments = Vec::new();
    assert_eq!(from_grouped_layout(grouped_layout, NUM_GROUPS, &mut segments), None);
    for level in levels() {
        let mut d = vec![f32::NAN; m * N];
        m_grouped_gemm_nt_contiguous(
            level,
            fp8(&a),
            |group| fp8(&b[group]),
            (&segments, None),
            (OutMat::F32(&mut d), N),
            Extents { m, n: N, k: K },
        );
        for (row, &group) in grouped_layout.iter().enumerate() {
            let want = match usize::try_from(group) {
                Ok(group) => one_row(level, &a, row, &b[group]),
                Err(_) => vec![0.0; N],
            };
            assert_same_bits(&format!("{level} row {row}"), &d[row * N..][..N], &want);
        }
    }
}

#[test]
fn contiguous_rows_take_their_groups_weights() {
    let mut layout = vec![0; 40];
    layout.extend([-1; 8]);
    layout.extend([1; 1]);
    layout.extend([-1; 15]);
    layout.extend([3; 13]);
    check_contiguous(&layout);
}

#[test]
fn one_row_groups_and_a_group_met_twice_are_fine() {
    check_contiguous(&[2, 0, 1, 2, 3, -1, 0]);
}

#[test]
fn all_padding_becomes_zeros() {
    check_contiguous(&[-1; 37]);
    check_contiguous(&[]);
}

#[test]
fn padding_becomes_zeros_also_where_products_are_added_and_in_bf16() {
    let (a, b) = operands(3);
    let segments = [Segment { rows: 0..1, group: Some(1) }, Segment { rows: 1..3, group: None }];
    let extents = Extents { m: 3, n: N, k: K };
    for level in levels() {
        let multiply = |out| {
            let (a, b, rows) = (fp8(&a), |g: usize| fp8(&b[g]), (&segments[..], None));
            m_grouped_gemm_nt_contiguous(level, a, b, rows, (out, N), extents);
        };
        let mut sums = vec![1.0f32; 3 * N];
        multiply(OutMat::AddF32(&mut sums));
        let mut rounded = vec![bf16::NAN; 3 * N];
        multiply(OutMat::Bf16(&mut rounded));
        for (col, product) in one_row(level, &a, 0, &b[1]).into_iter().enumerate() {
            assert_eq!(sums[col], 1.0 + product, "{level} column {col}");
            assert_eq!(rounded[col], bf16::from_f32(product), "{level} column {col}");
        }
        assert!(bits(&sums[N..]).iter().all(|&bits| bits == 0), "{level}");
        assert!(rounded[N..].iter().all(|d| d.to_bits() == 0), "{level}");
    }
}

#[test]
fn masked_rows_are_multiplied_and_the_others_left_alone() {
    let max_m = 9;
    let (a, b) = operands(NUM_GROUPS * max_m);
    for masked_m in [[0, 9, 1, 5], [0; 4], [-3, 12, i32::MAX, 2]] {
        for level in levels() {
            let mut d = vec![f32::NAN; NUM_GROUPS * max_m * N];
            m_grouped_gemm_nt_masked(
                level,
                |group| fp8(&a).starting_at_row(group * max_m),
                |group| fp8(&b[group]),
                (&masked_m, None),
                (OutMat::F32(&mut d), OutStrides { row: N, group: max_m * N }),
                Extents { m: max_m, n: N, k: K },
            );
            for row in 0..NUM_GROUPS * max_m {
                let (group, got) = (row / max_m, &d[row * N..][..N]);
                if ((row % max_m) as i32) < masked_m[group] {
                    let want = one_row(level, &a, row, &b[group]);
                    assert_same_bits(&format!("{level} row {row}"), got, &want);
                } else {
                    assert!(got.iter().all(|d| d.is_nan()), "{level} row {row} was touched");
                }
            }
        }
    }
}

#[test]
fn k_groups_add_their_products() {
    let (m, n) = (13, 66);
    let ks = [256, 0, 128, 384];
    let operand = |seed: u64, rows: usize| -> Vec<Quantised> {
        let mut rng = Rng::new(seed);
        let one = |&k: &usize| {
            let x = inputs::normal(&mut rng, rows * k, 1.0);
            quant::per_token(&x, [rows, k], ScaleFormat::F32)
        };
        ks.iter().map(one).collect()
    };
    let (a, b) = (operand(41, m), operand(42, n));
    let c = inputs::normal(&mut Rng::new(43), ks.len() * m * n, 1.0);
    for level in levels() {
        let mut d = c.clone();
        k_grouped_gemm_nt_contiguous(
            level,
            |group| fp8(&a[group]),
            |group| fp8(&b[group]),
            &ks,
            (&mut d, OutStrides { row: n, group: m * n }),
            [m, n],
        );
        for (group, &k) in ks.iter().enumerate() {
            let product = dense(level, fp8(&a[group]), fp8(&b[group]), Extents { m, n, k });
            let range = group * m * n..(group + 1) * m * n;
            let want: Vec<f32> =
                c[range.clone()].iter().zip(&product).map(|(c, p)| c + p).collect();
            assert_same_bits(&format!("{level} group {group}"), &d[range], &want);
        }
    }
}

#[test]
fn bf16_groups_take_their_weights_too() {
    let (m, k) = (12, 144);
    let a = bf16_values(51, m * k);
    let b: Vec<Vec<bf16>> = (0..3).map(|group| bf16_values(52 + group, N * k)).collect();
    let segments =
        [Segment { rows: 0..5, group: Some(2) }, Segment { rows: 5..12, group: Some(0) }];
    for level in levels() {
        let mut d = vec![f32::NAN; m * N];
        m_grouped_gemm_nt_contiguous(
            level,
            bf16_mat(&a, k),
            |group| bf16_mat(&b[group], k),
            (&segments, None),
            (OutMat::F32(&mut d), N),
            Extents { m, n: N, k },
        );
        for Segment { rows, group } in &segments {
            let b = &b[group.expect("no padding here")];
            let extents = Extents { m: rows.len(), n: N, k };
            let want =
                dense(level, bf16_mat(&a, k).starting_at_row(rows.start), bf16_mat(b, k), extents);
            let what = format!("{level} rows {rows:?}");
            assert_same_bits(&what, &d[rows.start * N..rows.end * N], &want);
        }
    }
}
