//! Products of tensor cores against bits that a GPU gave.

mod support;

use support::products::{differences, record};
use support::{Gpu, launch};
use vgpu::{Accumulation, Launch};

/// The answers of the virtual GPU.
fn recorded(accumulation: Accumulation) -> String {
    record(|product| {
        let gpu = Gpu::new(&product.ptx);
        let [a, b] = product.inputs.each_ref().map(|words| gpu.upload(words));
        let results = gpu.upload(&vec![0u32; product.num_results]);
        let shape = launch(1, product.num_threads as u32, &[a, b, results]);
        let shape = Launch { accumulation: Some(accumulation), ..shape };
        gpu.launch("k", &shape).map_err(|error| error.to_string())?;
        Ok(gpu.download(results, product.num_results))
    })
}

#[test]
fn products_have_the_bits_of_a_gpu() {
    let golden = include_str!("golden/products.txt");
    let differences = differences(golden, &recorded(Accumulation::Hopper));
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn fp32_sums_differ_from_a_gpus() {
    let golden = include_str!("golden/products.txt");
    assert!(!differences(golden, &recorded(Accumulation::Fp32)).is_empty());
}
