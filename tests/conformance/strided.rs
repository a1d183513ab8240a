//! Tensors of any layout whose gaps, and outputs before the call, hold poison.

use moekit::Backend;
use moekit::tensor::{Element, Layout, Tensor, TensorMut, TensorRef};

/// A tensor with strides; what lies between its elements is poison and must stay so.
pub struct Strided<B: Backend, T, const R: usize> {
    memory: Tensor<B, T, 1>,
    layout: Layout<R>,
    poison: T,
}

impl<B: Backend, T: Element, const R: usize> Strided<B, T, R> {
    /// An output: poison everywhere.
    pub fn poisoned(backend: &B, layout: Layout<R>, poison: T) -> Self {
        let data = vec![poison; layout.span()];
        let memory = Tensor::from_host(backend, &data, [data.len()]).expect("room for an output");
        Self { memory, layout, poison }
    }

    /// An input with these values, given in row-major order.
    pub fn new(backend: &B, layout: Layout<R>, poison: T, values: &[T]) -> Self {
        let mut data = vec![poison; layout.span()];
        assert_eq!(values.len(), layout.num_elements(), "values of a {:?} tensor", layout.shape());
        for (flat, &value) in values.iter().enumerate() {
            data[layout.offset(unflatten(layout.shape(), flat))] = value;
        }
        let memory = Tensor::from_host(backend, &data, [data.len()]).expect("room for an input");
        Self { memory, layout, poison }
    }

    pub fn view(&self) -> TensorRef<'_, B, T, R> {
        // SAFETY: the memory has `span` elements.
        unsafe { TensorRef::from_raw(self.memory.view().as_ptr(), self.layout) }
    }

    pub fn view_mut(&mut self) -> TensorMut<'_, B, T, R> {
        // SAFETY: the memory has `span` elements, and the borrow is exclusive.
        unsafe { TensorMut::from_raw(self.memory.view_mut().as_mut_ptr(), self.layout) }
    }

    /// The elements in row-major order; panics if a gap was written.
    pub fn to_host(&self, backend: &B) -> Vec<T> {
        let mut data = self.memory.to_host(backend).expect("copy to the host");
        let shape = self.layout.shape();
        let values = (0..self.layout.num_elements())
            .map(|flat| {
                let offset = self.layout.offset(unflatten(shape, flat));
                std::mem::replace(&mut data[offset], self.poison)
            })
            .collect();
        let bytes = |x: &T| bytemuck::bytes_of(x).to_vec();
        let written = data.iter().position(|x| bytes(x) != bytes(&self.poison));
        assert_eq!(written, None, "a gap of the {shape:?} tensor was written");
        values
    }
}

fn unflatten<const R: usize>(shape: [usize; R], mut flat: usize) -> [usize; R] {
    let mut idx = [0; R];
    for dim in (0..R).rev() {
        idx[dim] = flat % shape[dim];
        flat /= shape[dim];
    }
    idx
}
