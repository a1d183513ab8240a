//! Choices of launches that were made before: a choice looks at every candidate, which takes longer than a launch.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{PoisonError, RwLock};

use crate::error::Result;

/// Shapes that are remembered, at most: those of a model at many numbers of rows.
const MAX_SHAPES: usize = 4096;

/// What was chosen for a device's products. `K` is the shape and what else the choice depends on.
#[derive(Debug)]
pub struct Choices<K, T> {
    by_shape: RwLock<HashMap<K, T>>,
}

impl<K, T> Default for Choices<K, T> {
    fn default() -> Self {
        Self { by_shape: RwLock::default() }
    }
}

impl<K: Copy + Eq + Hash, T: Copy> Choices<K, T> {
    /// The choice for a shape, which `choose` makes the first time.
    pub fn get(&self, shape: &K, choose: impl FnOnce() -> Result<T>) -> Result<T> {
        let known =
            self.by_shape.read().unwrap_or_else(PoisonError::into_inner).get(shape).copied();
        if let Some(choice) = known {
            return Ok(choice);
        }
        let choice = choose()?;
        let mut by_shape = self.by_shape.write().unwrap_or_else(PoisonError::into_inner);
        if by_shape.len() >= MAX_SHAPES {
            by_shape.clear();
        }
        by_shape.insert(*shape, choice);
        Ok(choice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cuda::heuristics::{ChooseOptions, GemmConfig, choose};
    use crate::cost::DeviceSpec;
    use crate::error::Error;
    use crate::gemm::{GemmKind, GemmShape};

    fn config(shape: &GemmShape) -> Result<GemmConfig> {
        Ok(choose(shape, &DeviceSpec::H100_SXM, &ChooseOptions::default())?.config)
    }

    #[test]
    fn a_shape_is_chosen_for_once() {
        let choices = Choices::default();
        let shape = |m| GemmShape::new(GemmKind::Dense, m, 4096, 7168);
        for m in [64, 4096] {
            let first = choices.get(&shape(m), || config(&shape(m))).expect("a choice");
            assert_eq!(first, config(&shape(m)).expect("a choice"));
            let again = choices.get(&shape(m), || panic!("chosen twice")).expect("the same");
            assert_eq!(again, first);
        }
    }

    #[test]
    fn an_error_is_not_remembered() {
        let choices = Choices::default();
        let shape = GemmShape::new(GemmKind::Dense, 64, 4096, 7168);
        let none = || Err(Error::value("choose", "device", "some", "none"));
        choices.get(&shape, none).expect_err("no choice");
        choices.get(&shape, || config(&shape)).expect("a choice");
    }

    #[test]
    fn no_more_shapes_are_kept_than_there_is_room_for() {
        let choices = Choices::default();
        let any = config(&GemmShape::new(GemmKind::Dense, 64, 4096, 7168)).expect("a choice");
        for m in 0..MAX_SHAPES + 2 {
            let shape = GemmShape::new(GemmKind::Dense, m, 4096, 7168);
            choices.get(&shape, || Ok(any)).expect("a choice");
        }
        assert_eq!(choices.by_shape.read().expect("not poisoned").len(), 2);
    }
}
