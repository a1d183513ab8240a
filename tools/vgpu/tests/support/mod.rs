//! A device with one module, for tests.
#![allow(dead_code)]

pub mod approximate;
pub mod asynchronous;
pub mod machine;
pub mod ops;
pub mod products;
pub mod wgmma;

use std::sync::Arc;

use vgpu::{Checks, Fault, Image, Launch, LaunchError, Memory, Program, Report};

/// A module on a device.
pub struct Gpu {
    pub memory: Arc<Memory>,
    pub image: Image,
}

/// A value that has little-endian bytes.
pub trait Plain: Copy {
    fn bytes(self) -> Vec<u8>;
    fn from_bytes(bytes: &[u8]) -> Self;
}

macro_rules! plain {
    ($($ty:ty),*) => {$(
        impl Plain for $ty {
            fn bytes(self) -> Vec<u8> {
                self.to_le_bytes().to_vec()
            }
            fn from_bytes(bytes: &[u8]) -> Self {
                Self::from_le_bytes(bytes.try_into().expect("the value's bytes"))
            }
        }
    )*};
}

plain!(u8, u16, u32, u64, i32, i64, f32);

impl Gpu {
    /// Loads a module.
    pub fn new(ptx: &str) -> Self {
        let program = match Program::load(ptx) {
            Ok(program) => Arc::new(program),
            Err(error) => panic!("{error}\n{ptx}"),
        };
        let memory = Arc::new(Memory::with_checks(Checks::ALL));
        let image = Image::load(program, memory.clone(), 0).expect("room for the module");
        Gpu { memory, image }
    }

    /// Allocates and fills a buffer.
    pub fn upload<T: Plain>(&self, values: &[T]) -> u64 {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.bytes()).collect();
        let address = self.memory.alloc(0, bytes.len().max(1) as u64).expect("room");
        self.memory.write(address, &bytes).expect("the buffer was just allocated");
        address
    }

    /// Reads a buffer.
    pub fn download<T: Plain>(&self, address: u64, count: usize) -> Vec<T> {
        let size = size_of::<T>();
        let mut bytes = vec![0; count * size];
        self.memory.read(address, &mut bytes).expect("the buffer has that many values");
        bytes.chunks_exact(size).map(T::from_bytes).collect()
    }

    /// Launches with 64-bit parameters and expects no fault.
    pub fn run(&self, kernel: &str, blocks: u32, threads: u32, params: &[u64]) -> Report {
        self.launch(kernel, &launch(blocks, threads, params)).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Launches with 64-bit parameters and expects a fault.
    pub fn fault(&self, kernel: &str, blocks: u32, threads: u32, params: &[u64]) -> Fault {
        match self.launch(kernel, &launch(blocks, threads, params)) {
            Err(LaunchError::Fault(fault)) => *fault,
            other => panic!("expected a fault, got {other:?}"),
        }
    }

    pub fn launch(&self, kernel: &str, launch: &Launch) -> Result<Report, LaunchError> {
        self.image.launch(kernel, launch)
    }
}

/// A launch of blocks along x, under all checks.
pub fn launch(blocks: u32, threads: u32, params: &[u64]) -> Launch {
    Launch {
        grid: [blocks, 1, 1],
        block: [threads, 1, 1],
        params: params.iter().flat_map(|param| param.to_le_bytes()).collect(),
        fuel: 20_000_000,
        counts: true,
        checks: Some(Checks::ALL),
        ..Launch::default()
    }
}
