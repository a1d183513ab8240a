//! A file of text.

#![no_main]

use libfuzzer_sys::fuzz_target;
use moekit::moe::tokens::{TextSplit, TokenSource};
use moekit::num::bf16;
use moekit_fuzz::write;

fuzz_target!(|bytes: &[u8]| {
    let path = write("text", bytes);
    for split in [TextSplit::Bytes, TextSplit::Words] {
        if let Ok(tokens) = TokenSource::read(&path, split, 0) {
            assert!(tokens.num_tokens().is_some_and(|num| (1..=bytes.len()).contains(&num)));
            let mut x = vec![bf16::NAN; 16];
            tokens.hidden_states(usize::MAX, 16, &mut x);
            assert!(x.iter().all(|x| x.is_finite()));
        }
    }
});
