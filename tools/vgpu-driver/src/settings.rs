//! What the user chooses by environment variables, read once.

use std::env;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::OnceLock;

use vgpu::MAX_DEVICES;

/// The choices.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `VGPU_DEVICES`: number of devices, 8.
    pub num_devices: usize,
    /// `VGPU_SMS`: streaming multiprocessors of each, 132.
    pub num_sms: u32,
    /// `VGPU_MEMORY_MB`: memory of each, 81559 MiB.
    pub memory_bytes: u64,
    /// `VGPU_NAME`: name of each.
    pub name: String,
    /// `VGPU_FUEL`: warp instructions after which a launch counts as endless.
    pub fuel: u64,
    /// `VGPU_LOG`: write to stderr why a call was refused.
    pub log: bool,
    /// `VGPU_FAULT_FILE`: kernels' faults are appended to this file too.
    pub fault_file: Option<PathBuf>,
    /// `VGPU_COUNTS`: every launch's counts are appended to this file, as a line of JSON.
    pub counts_file: Option<PathBuf>,
    /// `VGPU_TIMELINE`: every launch's timeline is appended to this file, as a line of JSON.
    pub timeline_file: Option<PathBuf>,
}

/// The choices of this process.
pub fn settings() -> &'static Settings {
    static SETTINGS: OnceLock<Settings> = OnceLock::new();
    SETTINGS.get_or_init(|| Settings {
        num_devices: number("VGPU_DEVICES", 8).min(MAX_DEVICES),
        num_sms: number("VGPU_SMS", 132).max(1),
        memory_bytes: number("VGPU_MEMORY_MB", 81_559u64) << 20,
        name: env::var("VGPU_NAME").unwrap_or_else(|_| "NVIDIA H100 80GB HBM3 (vgpu)".to_owned()),
        fuel: number("VGPU_FUEL", 100_000_000_000),
        log: env::var_os("VGPU_LOG").is_some_and(|value| value != "0"),
        fault_file: env::var_os("VGPU_FAULT_FILE").map(PathBuf::from),
        counts_file: env::var_os("VGPU_COUNTS").map(PathBuf::from),
        timeline_file: env::var_os("VGPU_TIMELINE").map(PathBuf::from),
    })
}

/// A number from the environment; one that cannot be read is reported and not used.
fn number<T: FromStr + std::fmt::Display>(name: &str, default: T) -> T {
    let Ok(text) = env::var(name) else { return default };
    text.parse().unwrap_or_else(|_| {
        eprintln!("vgpu: {name} is `{text}`, expected a number; {default} is used");
        default
    })
}
