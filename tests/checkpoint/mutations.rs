//! Random damage: a reader may refuse it or not, but it neither panics nor reads what is not there.

use std::fs;
use std::sync::LazyLock;

use moekit::Cpu;
use moekit::checkpoint::{Checkpoint, ModelConfig};
use moekit::moe::tokens::{TextSplit, TokenSource};
use moekit::num::bf16;
use proptest::prelude::*;
use serde_json::Value;
use tempfile::TempDir;

use crate::store::{Format, Store};

/// One change of a file.
#[derive(Debug, Clone)]
enum Damage {
    Flip { at: usize, mask: u8 },
    Cut { at: usize },
    Remove { at: usize, len: usize },
    Insert { at: usize, bytes: Vec<u8> },
    Digit { at: usize, digit: u8 },
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = 0..usize::MAX;
    prop_oneof![
        (at.clone(), 1..=u8::MAX).prop_map(|(at, mask)| Damage::Flip { at, mask }),
        at.clone().prop_map(|at| Damage::Cut { at }),
        (at.clone(), 1..40usize).prop_map(|(at, len)| Damage::Remove { at, len }),
        (at.clone(), prop::collection::vec(any::<u8>(), 1..20))
            .prop_map(|(at, bytes)| Damage::Insert { at, bytes }),
        (at, b'0'..=b'9').prop_map(|(at, digit)| Damage::Digit { at, digit }),
    ]
}

impl Damage {
    /// Changes `bytes`, within the first `limit` if it can.
    fn apply(&self, bytes: &mut Vec<u8>, limit: usize) {
        let limit = limit.min(bytes.len());
        if limit == 0 {
            return;
        }
        match self {
            Self::Flip { at, mask } => bytes[at % limit] ^= mask,
            Self::Cut { at } => bytes.truncate(at % limit),
            Self::Remove { at, len } => {
                let start = at % limit;
                bytes.drain(start..bytes.len().min(start + len));
            }
            Self::Insert { at, bytes: new } => {
                let start = at % limit;
                bytes.splice(start..start, new.iter().copied());
            }
            Self::Digit { at, digit } => {
                let digits: Vec<usize> =
                    (0..limit).filter(|&idx| bytes[idx].is_ascii_digit()).collect();
                if !digits.is_empty() {
                    bytes[digits[at % digits.len()]] = *digit;
                }
            }
        }
    }
}

static STORE: LazyLock<(TempDir, Vec<u8>)> = LazyLock::new(|| {
    let dir = Store::new(Format::Fp8, 16).write_single();
    let bytes = fs::read(dir.path().join("model.safetensors")).expect("a file");
    (dir, bytes)
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_safetensors_file_is_refused_or_read(
        damages in prop::collection::vec(damage(), 1..4),
        within_header in any::<bool>(),
    ) {
        let (dir, whole) = &*STORE;
        let header_bytes = 8 + u64::from_le_bytes(whole[..8].try_into().expect("8 bytes")) as usize;
        let mut bytes = whole.clone();
        for damage in &damages {
            damage.apply(&mut bytes, if within_header { header_bytes } else { usize::MAX });
        }
        // A folder for each case: proptest may run several at a time.
        let case = tempfile::tempdir().expect("a folder");
        fs::copy(dir.path().join("config.json"), case.path().join("config.json")).expect("copied");
        fs::write(case.path().join("model.safetensors"), &bytes).expect("written");
        if let Ok(checkpoint) = Checkpoint::open(case.path()) {
            let size = bytes.len() as u64;
            for tensor in checkpoint.tensors().into_iter().flatten() {
                prop_assert!(tensor.num_bytes < size, "{tensor:?} of a file of {size} bytes");
            }
            if let Ok(weights) = checkpoint.load_moe_layer(&Cpu::new(), 0, &[0, 5]) {
                prop_assert_eq!(weights.routed.gate_up.shape(), [2, 32, 272]);
            }
        }
    }

    #[test]
    fn a_damaged_configuration_is_refused_or_can_be_computed(
        damages in prop::collection::vec(damage(), 1..6),
    ) {
        let mut text = Store::new(Format::Bf16, 16).config.to_string().into_bytes();
        damages.iter().for_each(|damage| damage.apply(&mut text, usize::MAX));
        if let Ok(config) = serde_json::from_slice::<ModelConfig>(&text)
            && config.check().is_ok()
        {
            config.to_moe_config().check().expect("what the configuration promises");
            prop_assert!(config.moe_layers().len() <= 2 << 20);
        }
    }

    #[test]
    fn any_json_is_no_configuration_or_a_sound_one(key in 0..15usize, number in any::<i64>()) {
        let mut config = Store::new(Format::Bf16, 16).config;
        let object = config.as_object_mut().expect("an object");
        let name = object.keys().nth(key % object.len()).expect("a key").clone();
        object.insert(name, Value::from(number));
        if let Ok(config) = serde_json::from_value::<ModelConfig>(config)
            && config.check().is_ok()
        {
            config.to_moe_config().check().expect("what the configuration promises");
        }
    }

    #[test]
    fn any_bytes_are_tokens_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), &bytes).expect("written");
        for split in [TextSplit::Bytes, TextSplit::Words] {
            match TokenSource::read(file.path(), split, 1) {
                Ok(tokens) => {
                    let num_tokens = tokens.num_tokens().expect("a text has an end");
                    prop_assert!((1..=bytes.len()).contains(&num_tokens));
                    let mut x = vec![bf16::NAN; 3 * 16];
                    tokens.hidden_states(usize::MAX / 2, 16, &mut x);
                    prop_assert!(x.iter().all(|x| x.is_finite()));
                }
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }
    }

    #[test]
    fn any_text_splits_into_words_that_miss_no_letter(text in "\\PC{0,60}") {
        let num_signs = text.chars().filter(|c| !c.is_whitespace()).count();
        let tokens = TokenSource::text(&text, TextSplit::Words, 0).ok();
        let num_tokens = tokens.and_then(|tokens| tokens.num_tokens()).unwrap_or(0);
        prop_assert!(num_tokens <= num_signs && (num_tokens > 0) == (num_signs > 0));
    }
}
