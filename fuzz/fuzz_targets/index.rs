//! A checkpoint whose index is the input.

#![no_main]

use libfuzzer_sys::fuzz_target;
use moekit::Cpu;
use moekit::checkpoint::Checkpoint;
use moekit_fuzz::{CONFIG, folder, write};

fuzz_target!(|bytes: &[u8]| {
    write("config.json", CONFIG.as_bytes());
    write("model.safetensors.index.json", bytes);
    if let Ok(checkpoint) = Checkpoint::open(folder()) {
        let _ = checkpoint.tensors();
        assert!(checkpoint.load_moe_layer(&Cpu::new(), 0, &[0]).is_err(), "no file has tensors");
    }
});
