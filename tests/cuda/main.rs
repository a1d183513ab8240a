//! The CUDA backend beyond its stages: opening, streams, events, graphs, tensor maps. What needs a
//! driver is left out where there is none, and says so; the driver may be the virtual GPU's.

mod command;
mod gemm;
mod sharing;
mod split_k;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use moekit::backend::cuda::{Cuda, CudaStream, Swizzle, TensorMap, TensorMapDesc};
use moekit::moe::Rows;
use moekit::moe::gate::{GateArgs, GateConfig, Scoring};
use moekit::moe::quant::{QuantizeArgs, ScaleFormat};
use moekit::num::{E4M3, bf16};
use moekit::tensor::{Dtype, QuantTensor, ScaleLayout, Tensor};
use moekit::{Backend, Cpu, Error, Result};

fn main() -> ExitCode {
    if let Some(task) = sharing::task_of_this_process() {
        return sharing::second_process(&task);
    }
    let opened = Cuda::new(0);
    if let Err(error) = &opened {
        eprintln!("left out: all that needs a driver ({error})");
    }
    let cuda = opened.ok();
    let case = |name: &str, run: fn(&Cuda) -> Result<(), Failed>| {
        let cuda = cuda.clone();
        let is_left_out = cuda.is_none();
        let run = move || run(&cuda.ok_or("there is no driver")?);
        Trial::test(name, run).with_ignored_flag(is_left_out)
    };
    let trials = vec![
        Trial::test("opening_never_panics_and_names_what_is_missing", opening_is_typed),
        case("a_device_that_is_not_there_is_refused_by_number", a_missing_device_is_refused),
        case("a_captured_stage_runs_when_it_is_replayed_and_not_before", capture_and_replay),
        case("a_fault_in_a_replay_is_told_once", faults_in_replays_are_told),
        case("an_error_within_a_capture_ends_it", errors_end_captures),
        case("events_tell_the_time_between_them", events_tell_time),
        case("a_foreign_stream_takes_stages", foreign_streams_take_stages),
        case("tensor_maps_refuse_extents_that_do_not_fit", tensor_maps_are_checked),
        case("devices_use_each_others_memory", sharing::devices_share),
        case("a_process_maps_memory_that_came_as_a_file", sharing::files_are_imported),
        case("a_process_maps_memory_that_came_by_the_fabric", sharing::fabric_handles_are_imported),
        case("a_process_opens_ordinary_memory", sharing::ordinary_memory_is_opened),
        case("handles_of_nothing_are_refused", sharing::wrong_handles_are_refused),
        case("the_command_runs_a_layer_on_the_device", command::a_layer_runs),
        case(
            "pairs_of_ctas_along_m_have_the_bits_of_single_ones",
            gemm::pairs_along_m_have_the_same_bits,
        ),
        case("a_launch_that_cannot_be_is_refused", gemm::impossible_launches_are_refused),
        case("parts_of_k_are_added_in_ascending_order", split_k::parts_are_added_in_order),
        case(
            "bf16_parts_of_k_are_added_in_ascending_order",
            split_k::bf16_parts_are_added_in_order,
        ),
        case("k_is_cut_where_the_backend_may", split_k::k_is_cut_on_request),
    ];
    let mut arguments = Arguments::from_args();
    // Some capture, while which others may not copy to the host: see `Cuda::capture`.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn opening_is_typed() -> Result<(), Failed> {
    match Cuda::new(usize::MAX) {
        Ok(_) => Err("there cannot be that many devices".into()),
        Err(Error::KernelsNotBuilt { .. } | Error::Unavailable { .. } | Error::Value { .. }) => {
            Ok(())
        }
        Err(other) => Err(format!("unexpected: {other}").into()),
    }
}

fn a_missing_device_is_refused(_: &Cuda) -> Result<(), Failed> {
    let error = Cuda::new(1_000_000).expect_err("there are fewer devices").to_string();
    assert!(error.starts_with("cuda context: `ordinal` is 1000000, expected less than"), "{error}");
    Ok(())
}

/// A matrix to be quantised, and its result.
struct Quantisation {
    x: Tensor<Cuda, bf16, 2>,
    out: QuantTensor<Cuda, 2>,
}

const SHAPE: [usize; 2] = [3, 272];

impl Quantisation {
    fn new(cuda: &Cuda) -> Result<Self> {
        let out = QuantTensor::zeros_per_row(cuda, SHAPE, ScaleLayout::MnMajor)?;
        Ok(Self { x: Tensor::zeros(cuda, SHAPE)?, out })
    }

    fn set(&mut self, cuda: &Cuda, x: &[bf16]) -> Result<()> {
        self.x.view_mut().copy_from_host(cuda, x)
    }

    fn enqueue(&mut self, cuda: &Cuda, stream: &CudaStream) -> Result<()> {
        let out = self.out.view_mut();
        let args = QuantizeArgs::new(self.x.view(), out, ScaleFormat::Fp32, Rows::All)?;
        cuda.quantize(stream, args)
    }

    fn codes(&self, cuda: &Cuda) -> Result<Vec<E4M3>> {
        self.out.values.to_host(cuda)
    }
}

fn numbers(factor: f32) -> Vec<bf16> {
    let number = |idx: usize| bf16::from_f32(factor * ((idx * 37 % 101) as f32 - 50.0));
    (0..SHAPE[0] * SHAPE[1]).map(number).collect()
}

fn codes_on_the_cpu(x: &[bf16]) -> Result<Vec<E4M3>> {
    let cpu = Cpu::new();
    let x = Tensor::from_host(&cpu, x, SHAPE)?;
    let mut out = QuantTensor::zeros_per_row(&cpu, SHAPE, ScaleLayout::MnMajor)?;
    let args = QuantizeArgs::new(x.view(), out.view_mut(), ScaleFormat::Fp32, Rows::All)?;
    cpu.quantize(&cpu.stream()?, args)?;
    out.values.to_host(&cpu)
}

fn capture_and_replay(cuda: &Cuda) -> Result<(), Failed> {
    let stream = cuda.stream()?;
    let mut quantisation = Quantisation::new(cuda)?;
    // SAFETY: tensors and stream live to the end of this function, longer than the graph.
    let mut graph = unsafe { cuda.capture(&stream, || quantisation.enqueue(cuda, &stream)) }?;
    assert!(quantisation.codes(cuda)?.iter().all(|code| code.0 == 0), "nothing ran yet");
    for factor in [1.0, -3.5] {
        let x = numbers(factor);
        quantisation.set(cuda, &x)?;
        cuda.replay(&mut graph, &stream)?;
        cuda.check(&stream)?;
        assert_eq!(quantisation.codes(cuda)?, codes_on_the_cpu(&x)?, "factor {factor}");
    }
    Ok(())
}

fn faults_in_replays_are_told(cuda: &Cuda) -> Result<(), Failed> {
    let stream = cuda.stream()?;
    let config = GateConfig {
        num_experts: 4,
        num_topk: 2,
        scoring: Scoring::Sigmoid,
        num_expert_groups: 1,
        num_topk_groups: 1,
        renormalize: false,
        routed_scaling_factor: 1.0,
    };
    let mut logits = Tensor::from_host(cuda, &[0.5f32; 8], [2, 4])?;
    let (mut idx, mut weights) = (Tensor::zeros(cuda, [2, 2])?, Tensor::zeros(cuda, [2, 2])?);
    let args = GateArgs::new(logits.view(), None, config, idx.view_mut(), weights.view_mut())?;
    // SAFETY: tensors and stream live to the end of this function, longer than the graph.
    let mut graph = unsafe { cuda.capture(&stream, || cuda.gate(&stream, args)) }?;
    cuda.replay(&mut graph, &stream)?;
    cuda.check(&stream)?;
    let with_nan = [0.0, 1.0, 2.0, 3.0, 0.0, f32::NAN, 1.0, 2.0];
    logits.view_mut().copy_from_host(cuda, &with_nan)?;
    cuda.replay(&mut graph, &stream)?;
    let fault = cuda.check(&stream).expect_err("a logit is NaN").to_string();
    assert_eq!(fault, "gate: `logits` is NaN at token 1, expected numbers");
    cuda.check(&stream)?;
    Ok(())
}

fn errors_end_captures(cuda: &Cuda) -> Result<(), Failed> {
    let stream = cuda.stream()?;
    let refuse = || Err(Error::value("test", "x", "nothing", "something"));
    // SAFETY: nothing is captured.
    let refused = unsafe { cuda.capture(&stream, refuse) };
    let error = refused.expect_err("the closure refused").to_string();
    assert_eq!(error, "test: `x` is something, expected nothing");
    // The stream is no longer capturing.
    cuda.check(&stream)?;
    Ok(())
}

fn events_tell_time(cuda: &Cuda) -> Result<(), Failed> {
    let (stream, other) = (cuda.stream()?, cuda.stream()?);
    let start = cuda.record(&stream)?;
    Quantisation::new(cuda)?.enqueue(cuda, &stream)?;
    let end = cuda.record(&stream)?;
    other.wait_for(&end)?;
    cuda.check(&other)?;
    let elapsed = cuda.elapsed(&start, &end)?;
    assert!(elapsed.as_secs() < 3600, "{elapsed:?}");
    Ok(())
}

fn foreign_streams_take_stages(cuda: &Cuda) -> Result<(), Failed> {
    // SAFETY: the null handle is every context's default stream.
    let stream = unsafe { cuda.wrap_stream(std::ptr::null_mut()) }?;
    let (mut quantisation, x) = (Quantisation::new(cuda)?, numbers(2.0));
    quantisation.set(cuda, &x)?;
    quantisation.enqueue(cuda, &stream)?;
    cuda.check(&stream)?;
    assert_eq!(quantisation.codes(cuda)?, codes_on_the_cpu(&x)?);
    Ok(())
}

fn tensor_maps_are_checked(cuda: &Cuda) -> Result<(), Failed> {
    let x = Tensor::<_, bf16, 2>::zeros(cuda, [64, 128])?;
    let desc = TensorMapDesc {
        dtype: Dtype::Bf16,
        address: x.view().as_ptr().cast(),
        shape: &[128, 64],
        strides_bytes: &[256],
        box_shape: &[64, 32],
        swizzle: Swizzle::B128,
    };
    TensorMap::tiled(&desc)?;
    let refused = |desc: TensorMapDesc<'_>| {
        TensorMap::tiled(&desc).expect_err("the extents contradict each other").to_string()
    };
    assert_eq!(
        refused(TensorMapDesc { box_shape: &[64], ..desc }),
        "tensor map: `box_shape` has shape [1], expected [2]"
    );
    assert_eq!(
        refused(TensorMapDesc { strides_bytes: &[], ..desc }),
        "tensor map: `strides_bytes` has shape [0], expected [1]"
    );
    assert_eq!(
        refused(TensorMapDesc { shape: &[], strides_bytes: &[], box_shape: &[], ..desc }),
        "tensor map: `shape` is 0, expected 1 to 5 extents"
    );
    Ok(())
}
