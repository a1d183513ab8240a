//! `config.json`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use moekit::checkpoint::ModelConfig;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(config) = serde_json::from_slice::<ModelConfig>(bytes)
        && config.check().is_ok()
    {
        config.to_moe_config().check().expect("a checked configuration should be sound");
        let layers = config.moe_layers();
        assert_eq!(config.is_moe_layer(layers.start), !layers.is_empty());
    }
});
