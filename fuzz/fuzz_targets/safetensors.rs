//! A checkpoint whose one file of tensors is the input.

#![no_main]

use libfuzzer_sys::fuzz_target;
use moekit::Cpu;
use moekit::checkpoint::Checkpoint;
use moekit_fuzz::{CONFIG, folder, write};

fuzz_target!(|bytes: &[u8]| {
    write("config.json", CONFIG.as_bytes());
    write("model.safetensors", bytes);
    if let Ok(checkpoint) = Checkpoint::open(folder()) {
        for tensor in checkpoint.tensors().into_iter().flatten() {
            assert!(tensor.num_bytes < bytes.len() as u64);
        }
        let _ = checkpoint.load_moe_layer(&Cpu::new(), 0, &[0, 1, -1]);
    }
});
