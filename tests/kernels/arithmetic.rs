//! The kernels' plain arithmetic, compiled for the host, has the bits of the Rust side.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use libloading::{Library, Symbol};
use libtest_mimic::{Failed, Trial};
use moekit::backend::cuda::heuristics::{GemmTile, Smem, tiles_of};
use moekit::gemm::{GemmFormat, GemmKind, GemmOutFormat, GemmShape};
use moekit::moe::Rows;
use moekit::moe::quant::{QuantizeArgs, ScaleFormat};
use moekit::moe::swiglu::{SwigluArgs, SwigluInput};
use moekit::num::{E4M3, Ue8m0, exp, sigmoid};
use moekit::tensor::{QuantTensor, ScaleLayout, Tensor};
use moekit::{Backend, Cpu};
use moekit_testkit::compare::assert_bits_eq;
use moekit_testkit::inputs;
use moekit_testkit::rng::Rng;

use crate::root;

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("exp_and_sigmoid_have_the_bits_of_num_exp", || compare_exp(16_381)),
        Trial::test("exp_and_sigmoid_have_the_bits_of_num_exp_for_every_input", || compare_exp(1))
            .with_ignored_flag(true),
        Trial::test("near_gates_have_the_bits_of_the_full_formula", || compare_silu(4093)),
        Trial::test("near_gates_have_the_bits_of_the_full_formula_for_every_input", || {
            compare_silu(1)
        })
        .with_ignored_flag(true),
        Trial::test("scales_have_the_bits_of_the_cpu_backend", compare_scales),
        Trial::test("swiglu_has_the_bits_of_the_cpu_backend", compare_swiglu),
        Trial::test("codes_have_the_values_of_num_e4m3_and_num_ue8m0", compare_codes),
        Trial::test("keys_ascend_as_the_numbers_do", keys_ascend),
        Trial::test("tiles_and_their_shared_memory_are_those_of_the_heuristics", compare_tiles),
    ]
}

/// `arithmetic.cpp` as a library, compiled once by the C++ compiler that nvcc uses too.
fn library() -> Result<&'static Library, Failed> {
    static LIBRARY: OnceLock<Result<Library, String>> = OnceLock::new();
    let library = LIBRARY.get_or_init(|| {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let file = compile(dir.path().join("arithmetic.so"))?;
        // SAFETY: the library is plain functions, without initialisers.
        unsafe { Library::new(file) }.map_err(|error| error.to_string())
    });
    library.as_ref().map_err(|problem| problem.clone().into())
}

fn compile(file: PathBuf) -> Result<PathBuf, String> {
    let compiler = std::env::var_os("CXX").unwrap_or("g++".into());
    let mut command = Command::new(&compiler);
    command.args(["-std=c++20", "-O3", "-shared", "-fPIC", "-Wall", "-Werror"]);
    // As the instances are compiled: what is written is what is computed.
    command.args(["-ffp-contract=off", "-fno-fast-math"]);
    if std::env::consts::ARCH == "x86_64" {
        // fmaf as an instruction, not as a call; all processors of the last ten years have it.
        command.arg("-mfma");
    }
    command.arg("-I").arg(root().join("csrc")).arg("-o").arg(&file);
    let output = command.arg(root().join("tests/kernels/arithmetic.cpp")).output();
    let output =
        output.map_err(|error| format!("{} does not start: {error}", compiler.display()))?;
    match output.status.success() {
        true => Ok(file),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

type Map = unsafe extern "C" fn(*const f32, *mut f32, usize);
type SiluNear = unsafe extern "C" fn(*const f32, i32, *mut f32, usize);
type Scale = unsafe extern "C" fn(*const f32, usize, i32, *mut f32, *mut f32);
type Swiglu = unsafe extern "C" fn(*const f32, usize, f32, *const f32, *mut f32);

/// A function of `arithmetic.cpp`.
///
/// # Safety
///
/// `F` is its type.
unsafe fn function<F>(name: &str) -> Result<Symbol<'static, F>, Failed> {
    // SAFETY: the caller names the type.
    Ok(unsafe { library()?.get(name.as_bytes()) }?)
}

/// Every `stride`-th bit pattern of FP32.
fn compare_exp(stride: u32) -> Result<(), Failed> {
    const CHUNK: usize = 1 << 16;
    let mut functions = Vec::new();
    // What the short way does not reach keeps the bits of the line above it.
    for (name, function) in [
        ("mk_exp", Function::Exp),
        ("mk_sigmoid", Function::Sigmoid),
        ("mk_sigmoid_near", Function::Sigmoid),
    ] {
        // SAFETY: the type is that of all three.
        functions.push((unsafe { self::function::<Map>(name)? }, function));
    }
    let (mut x, mut got, mut want) = (vec![0.0; CHUNK], vec![0.0; CHUNK], vec![0.0; CHUNK]);
    for first in (0..=u32::MAX).step_by(CHUNK * stride as usize) {
        for (idx, x) in x.iter_mut().enumerate() {
            *x = f32::from_bits(first.wrapping_add(idx as u32 * stride));
        }
        for (cpp, function) in &functions {
            // SAFETY: both arrays have `CHUNK` elements.
            unsafe { cpp(x.as_ptr(), got.as_mut_ptr(), CHUNK) };
            function.apply(&x, &mut want);
            for ((x, got), want) in x.iter().zip(&got).zip(&want) {
                let is_same = got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan());
                assert!(is_same, "of {x:e} ({:#010x}): {got:e}, not {want:e}", x.to_bits());
            }
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Function {
    Exp,
    Sigmoid,
}

impl Function {
    /// The Rust side, with multiply-adds as instructions where the processor has them.
    fn apply(self, x: &[f32], out: &mut [f32]) {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
        {
            // SAFETY: the processor has both.
            return unsafe { self.apply_fma(x, out) };
        }
        self.apply_plain(x, out);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn apply_fma(self, x: &[f32], out: &mut [f32]) {
        self.apply_plain(x, out);
    }

    #[inline(always)]
    fn apply_plain(self, x: &[f32], out: &mut [f32]) {
        match self {
            Self::Exp => out.iter_mut().zip(x).for_each(|(out, &x)| *out = exp(x)),
            Self::Sigmoid => out.iter_mut().zip(x).for_each(|(out, &x)| *out = sigmoid(x)),
        }
    }
}

/// The same for the short way of SiLU, whatever the error of the device's estimate.
fn compare_silu(stride: u32) -> Result<(), Failed> {
    const CHUNK: usize = 1 << 16;
    // SAFETY: the types are those in `arithmetic.cpp`.
    let (silu, near) =
        unsafe { (function::<Map>("mk_silu")?, function::<SiluNear>("mk_silu_near")?) };
    let (mut x, mut got, mut want) = (vec![0.0; CHUNK], vec![0.0; CHUNK], vec![0.0; CHUNK]);
    for first in (0..=u32::MAX).step_by(CHUNK * stride as usize) {
        for (idx, x) in x.iter_mut().enumerate() {
            *x = f32::from_bits(first.wrapping_add(idx as u32 * stride));
        }
        // SAFETY: all arrays have `CHUNK` elements.
        unsafe { silu(x.as_ptr(), want.as_mut_ptr(), CHUNK) };
        for ulps_off in [-1, 0, 1] {
            got.copy_from_slice(&want);
            // SAFETY: as above.
            unsafe { near(x.as_ptr(), ulps_off, got.as_mut_ptr(), CHUNK) };
            for ((x, got), want) in x.iter().zip(&got).zip(&want) {
                let is_same = got.to_bits() == want.to_bits();
                assert!(is_same, "of {x:e}, {ulps_off} ulp off: {got:e}, not {want:e}");
            }
        }
    }
    Ok(())
}

fn compare_scales() -> Result<(), Failed> {
    let mut amax: Vec<f32> = (0..0x7f80_0000u32).step_by(65_521).map(f32::from_bits).collect();
    amax.extend([0.0, 1e-4, 1e-4f32.next_up(), 448.0, f32::MAX, f32::INFINITY]);
    let cpu = Cpu::new();
    let rows: Vec<f32> =
        amax.iter().flat_map(|&amax| [[amax; 1].as_slice(), &[0.0; 15]].concat()).collect();
    let x = Tensor::from_host(&cpu, &rows, [amax.len(), 16])?;
    // SAFETY: the type is that of `mk_scale`.
    let cpp = unsafe { function::<Scale>("mk_scale")? };
    for format in [ScaleFormat::Fp32, ScaleFormat::Ue8m0] {
        let mut out = QuantTensor::zeros_per_row(&cpu, [amax.len(), 16], ScaleLayout::RowMajor)?;
        let args = QuantizeArgs::new(x.view(), out.view_mut(), format, Rows::All)?;
        cpu.quantize(&cpu.stream()?, args)?;
        let want = out.scales.to_host(&cpu)?;
        let (mut sf, mut inverse) = (vec![0.0; amax.len()], vec![0.0; amax.len()]);
        let is_ue8m0 = i32::from(format == ScaleFormat::Ue8m0);
        // SAFETY: all arrays have `amax.len()` elements.
        unsafe {
            cpp(amax.as_ptr(), amax.len(), is_ue8m0, sf.as_mut_ptr(), inverse.as_mut_ptr());
        }
        assert_bits_eq("scales", &[amax.len()], &sf, &want);
        let reciprocals: Vec<f32> = want.iter().map(|sf| 1.0 / sf).collect();
        assert_bits_eq("reciprocals", &[amax.len()], &inverse, &reciprocals);
    }
    Ok(())
}

fn compare_swiglu() -> Result<(), Failed> {
    let num_rows = 100_000;
    let mut rng = Rng::new(7);
    let mut gate_up = inputs::normal(&mut rng, 2 * num_rows, 20.0);
    let ends = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, 3.0, -3.0, f32::MAX];
    let pairs = ends.iter().flat_map(|&gate| ends.map(|up| [gate, up]));
    gate_up.splice(..2 * ends.len() * ends.len(), pairs.flatten());
    let weights = inputs::normal(&mut rng, num_rows, 1.0);
    let cpu = Cpu::new();
    let x = Tensor::from_host(&cpu, &gate_up, [num_rows, 2])?;
    let row_weights = Tensor::from_host(&cpu, &weights, [num_rows])?;
    // SAFETY: the type is that of `mk_swiglu`.
    let cpp = unsafe { function::<Swiglu>("mk_swiglu")? };
    for limit in [3.0, f32::INFINITY] {
        let mut out = Tensor::<_, f32, 2>::zeros(&cpu, [num_rows, 1])?;
        let row_weights = Some(row_weights.view());
        let input = SwigluInput { limit, row_weights, ..SwigluInput::new(x.view()) };
        cpu.swiglu(&cpu.stream()?, SwigluArgs::new(input, out.view_mut())?)?;
        let mut got = vec![0.0f32; num_rows];
        // SAFETY: `gate_up` has two elements a row, the others one.
        unsafe { cpp(gate_up.as_ptr(), num_rows, limit, weights.as_ptr(), got.as_mut_ptr()) };
        // The kernel's store makes NaN canonical, as the cpu's does.
        got.iter_mut().filter(|x| x.is_nan()).for_each(|x| *x = f32::from_bits(0x7fff_ffff));
        assert_bits_eq("activations", &[num_rows], &got, &out.to_host(&cpu)?);
    }
    Ok(())
}

fn compare_codes() -> Result<(), Failed> {
    type Decode = unsafe extern "C" fn(u32) -> f32;
    // SAFETY: the types are those in `arithmetic.cpp`.
    let (e4m3, ue8m0, ue8m0_ceil) = unsafe {
        (
            function::<Decode>("mk_e4m3_to_f32")?,
            function::<Decode>("mk_ue8m0_to_f32")?,
            function::<unsafe extern "C" fn(f32) -> u32>("mk_ue8m0_of_f32_ceil")?,
        )
    };
    for code in 0..=u8::MAX {
        // SAFETY: plain functions of one number.
        let got = unsafe { [e4m3(code.into()), ue8m0(code.into())] };
        for (got, want) in got.into_iter().zip([E4M3(code).to_f32(), Ue8m0(code).to_f32()]) {
            assert_eq!(got.is_nan(), want.is_nan(), "{code:#04x}");
            assert!(got.is_nan() || got.to_bits() == want.to_bits(), "{code:#04x}: {got}");
        }
    }
    for bits in (0..=u32::MAX).step_by(9973).chain((0..512).map(|upper| upper << 23)) {
        let x = f32::from_bits(bits);
        // SAFETY: as above.
        let got = unsafe { ue8m0_ceil(x) };
        assert_eq!(got, u32::from(Ue8m0::from_f32_ceil(x).0), "{x:e} ({bits:#010x})");
    }
    Ok(())
}

fn keys_ascend() -> Result<(), Failed> {
    // SAFETY: the types are those in `arithmetic.cpp`.
    let (key, float) = unsafe {
        (
            function::<unsafe extern "C" fn(f32) -> u32>("mk_float_key")?,
            function::<unsafe extern "C" fn(u32) -> f32>("mk_float_of_key")?,
        )
    };
    // SAFETY: plain functions of one number.
    let key = |x: f32| unsafe { key(x) };
    // SAFETY: as above.
    let float = |key: u32| unsafe { float(key) };
    assert_eq!((key(f32::NAN), key(-f32::NAN)), (0, 0));
    assert_eq!(key(0.0), key(-0.0));
    assert_eq!(key(f32::NEG_INFINITY), 0x007f_ffff);
    let mut numbers: Vec<f32> = (0..=u32::MAX).step_by(9973).map(f32::from_bits).collect();
    numbers.extend([0.0, f32::MIN_POSITIVE, -f32::MIN_POSITIVE, f32::INFINITY, f32::NEG_INFINITY]);
    numbers.retain(|x| !x.is_nan());
    numbers.sort_by(f32::total_cmp);
    for pair in numbers.windows(2) {
        let [low, high] = [pair[0], pair[1]];
        assert_eq!(key(low) < key(high), low < high, "{low:e} and {high:e}");
        assert_eq!(float(key(high)), high, "{high:e}");
    }
    Ok(())
}

fn compare_tiles() -> Result<(), Failed> {
    let dense = GemmShape::new(GemmKind::Dense, 1, 1, 128);
    let swiglu = GemmShape {
        out: GemmOutFormat::SwigluFp8,
        ..GemmShape::new(GemmKind::Contiguous, 1, 256, 128)
    };
    compare_tiles_of(&dense, "mk_gemm_fp8_tiles")?;
    compare_tiles_of(&GemmShape { format: GemmFormat::Bf16, ..dense }, "mk_gemm_bf16_tiles")?;
    compare_tiles_of(&swiglu, "mk_gemm_swiglu_tiles")
}

fn compare_tiles_of(shape: &GemmShape, name: &str) -> Result<(), Failed> {
    // SAFETY: the type is that in `arithmetic.cpp`.
    let describe = unsafe { function::<unsafe extern "C" fn(*mut u32) -> usize>(name)? };
    let mut numbers = [[0u32; 8]; 64];
    // SAFETY: there is room for 64 tiles.
    let len = unsafe { describe(numbers.as_mut_ptr().cast()) };
    let here = |tile: &GemmTile| {
        let smem = Smem::new(tile, shape);
        let extents = [tile.block_m, tile.block_n, tile.num_math_warpgroups()];
        let [m, n, num_math] = extents.map(|it| it as u32);
        let partials = |split_k| smem.with_partials(tile, split_k).bytes(3) - smem.bytes(3);
        let sizes = [smem.bytes(3), smem.bytes(16), partials(2), partials(8)].map(|it| it as u32);
        let [three, most, two_parts, eight_parts] = sizes;
        [m, n, num_math, u32::from(tile.swap_ab), three, most, two_parts, eight_parts]
    };
    let mut here: Vec<_> = tiles_of(shape).iter().map(here).collect();
    let there = &mut numbers[..len];
    here.sort_unstable();
    there.sort_unstable();
    assert_eq!(here, there);
    Ok(())
}
