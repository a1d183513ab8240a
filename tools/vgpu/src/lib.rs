//! The virtual GPU: a PTX emulator that serves the CUDA driver API.
