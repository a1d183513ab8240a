//! TEMPORARY naive products.
use super::{Cpu, CpuStream};
use crate::gemm::*;
use crate::num::{bf16, round_bf16};
use crate::tensor::Layout;
use rayon::prelude::*;

fn dot(operands: &Any<'_>, ga: usize, i: usize, gb: usize, j: usize, k: usize) -> f32 {
    let mut acc = 0.0f32;
    for b in 0..k.div_ceil(128) {
        let mut s = 0.0f32;
        let r = b * 128..(b * 128 + 128).min(k);
        match operands {
            Any::Fp8 { a, al, sa, sal, b: bb, bl, sb, sbl } => {
                let (ao, bo) = (al.offset([ga, i, 0]), bl.offset([gb, j, 0]));
                for l in r {
                    s += a[ao + l].to_f32() * bb[bo + l].to_f32();
                }
                acc = s.mul_add(sa[sal.offset([ga, i, b])] * sb[sbl.offset([gb, j / 128, b])], acc);
            }
            Any::Bf16 { a, al, b: bb, bl } => {
                let (ao, bo) = (al.offset([ga, i, 0]), bl.offset([gb, j, 0]));
                for l in r {
                    s += a[ao + l].to_f32() * bb[bo + l].to_f32();
                }
                acc += s;
            }
        }
    }
    acc
}

enum Any<'a> {
    Fp8 {
        a: &'a [crate::num::E4M3],
        al: Layout<3>,
        sa: &'a [f32],
        sal: Layout<3>,
        b: &'a [crate::num::E4M3],
        bl: Layout<3>,
        sb: &'a [f32],
        sbl: Layout<3>,
    },
    Bf16 {
        a: &'a [bf16],
        al: Layout<3>,
        b: &'a [bf16],
        bl: Layout<3>,
    },
}

fn up<const R: usize>(l: Layout<R>) -> Layout<3> {
    if R == 3 {
        let (s, t) = (l.shape(), l.strides());
        Layout::with_strides([s[0], s[1], s[2]], [t[0], t[1], t[2]])
    } else {
        let (s, t) = (l.shape(), l.strides());
        Layout::with_strides([1, s[0], s[1]], [0, t[0], t[1]])
    }
}

fn any<'a, const RA: usize, const RB: usize>(o: &Operands<'a, Cpu, RA, RB>) -> Any<'a> {
    match o {
        Operands::Fp8 { a, b } => Any::Fp8 {
            a: a.values.as_span(),
            al: up(a.values.layout()),
            sa: a.scales.as_span(),
            sal: up(a.scales.layout()),
            b: b.values.as_span(),
            bl: up(b.values.layout()),
            sb: b.scales.as_span(),
            sbl: up(b.scales.layout()),
        },
        Operands::Bf16 { a, b } => {
            Any::Bf16 { a: a.as_span(), al: up(a.layout()), b: b.as_span(), bl: up(b.layout()) }
        }
    }
}

fn each<const R: usize>(
    out: GemmOut<'_, Cpu, R>,
    f: impl Fn(usize, usize, usize) -> Option<f32> + Sync,
    zero: bool,
) {
    let l = up(out.layout());
    let [_, m, n] = l.shape();
    let stride = l.strides()[1].max(1);
    macro_rules! go {
        ($d:expr, $w:expr) => {
            $d.as_mut_span().par_chunks_mut(stride).enumerate().for_each(|(r, row)| {
                if m == 0 {
                    return;
                }
                for j in 0..n {
                    match f(r / m, r % m, j) {
                        Some(x) => $w(&mut row[j], x),
                        None if zero => row[j] = Default::default(),
                        None => {}
                    }
                }
            })
        };
    }
    match out {
        GemmOut::Bf16(mut d) => go!(d, |d: &mut bf16, x| *d = round_bf16(x)),
        GemmOut::F32(mut d) => go!(d, |d: &mut f32, x| *d = x),
        GemmOut::F32Accumulate(mut d) => go!(d, |d: &mut f32, x| *d += x),
    }
}

pub(super) fn gemm_nt(args: GemmArgs<'_, Cpu>) {
    let k = args.operands.a_layout().shape()[1];
    let o = any(&args.operands);
    each(args.out, |_, i, j| Some(dot(&o, 0, i, 0, j, k)), true);
}

pub(super) fn contiguous(_stream: &CpuStream, args: GroupedGemmArgs<'_, Cpu>) {
    let k = args.operands.a_layout().shape()[1];
    let o = any(&args.operands);
    let m = args.operands.a_layout().shape()[0];
    let mut g = vec![-1; m];
    match args.rows {
        GroupRows::PerRow(l) => g.copy_from_slice(l.as_span()),
        GroupRows::Offsets { expert_offsets, num_recv_tokens_per_expert } => {
            for (e, &n) in num_recv_tokens_per_expert.as_span().iter().enumerate() {
                let s = expert_offsets.as_span()[e] as usize;
                g[s..(s + n as usize).min(m)].fill(e as i32);
            }
        }
    }
    each(args.out, |_, i, j| (g[i] >= 0).then(|| dot(&o, 0, i, g[i] as usize, j, k)), true);
}

pub(super) fn masked(_stream: &CpuStream, args: MaskedGemmArgs<'_, Cpu>) {
    let k = args.operands.a_layout().shape()[2];
    let o = any(&args.operands);
    let mm = args.rows.masked_m.as_span();
    each(args.out, |g, i, j| ((i as i32) < mm[g]).then(|| dot(&o, g, i, g, j, k)), false);
}
