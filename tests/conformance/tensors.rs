//! Copies between host and backend.

use moekit::Backend;
use moekit::tensor::Tensor;

use crate::case::on_every_backend;

on_every_backend![a_tensor_comes_back_as_it_went, a_new_tensor_is_zero, an_empty_tensor_is_fine];

fn a_tensor_comes_back_as_it_went<B: Backend>(backend: &B) {
    let data: Vec<i32> = (0..60).collect();
    let tensor = Tensor::from_host(backend, &data, [3, 4, 5]).expect("from_host");
    assert_eq!(tensor.shape(), [3, 4, 5]);
    assert_eq!(tensor.to_host(backend).expect("to_host"), data);
}

fn a_new_tensor_is_zero<B: Backend>(backend: &B) {
    let tensor = Tensor::<B, f32, 2>::zeros(backend, [7, 9]).expect("zeros");
    assert_eq!(tensor.to_host(backend).expect("to_host"), vec![0.0; 63]);
}

fn an_empty_tensor_is_fine<B: Backend>(backend: &B) {
    let tensor = Tensor::<B, i32, 2>::zeros(backend, [0, 9]).expect("zeros");
    assert!(tensor.to_host(backend).expect("to_host").is_empty());
}
