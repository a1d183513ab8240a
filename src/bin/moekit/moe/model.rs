//! What is run: the layer's checkpoint, given or generated for this run, and the tokens.

use moekit::Result;
use moekit::checkpoint::Checkpoint;
use moekit::moe::tokens::TokenSource;
use moekit::moe::weights::MoeConfig;
use tempfile::TempDir;

use super::args::MoeArgs;
use crate::checkpoint::{DtypeArg, generate_with_bar};

const OP: &str = "moekit moe";

/// An open checkpoint, the layer to run, and what to run it on.
pub struct Model {
    pub checkpoint: Checkpoint,
    pub layer_idx: usize,
    pub config: MoeConfig,
    pub tokens: TokenSource,
    /// Holds a generated checkpoint for as long as it is in use.
    _generated: Option<TempDir>,
}

impl Model {
    /// Opens the checkpoint, or generates one.
    pub fn prepare(args: &MoeArgs) -> Result<Self> {
        let tokens = args.token_source()?;
        let generated = if args.checkpoint.is_none() { Some(generated(args)?) } else { None };
        let dir = generated.as_ref().map(TempDir::path).or(args.checkpoint.as_deref());
        Self::open(args, tokens, Checkpoint::open(dir.unwrap_or("".as_ref()))?, generated)
    }

    /// As [`Model::prepare`], where the first rank generates for all; collective.
    #[cfg(feature = "mpi")]
    pub fn prepare_together(args: &MoeArgs, world: &moekit::comm::World) -> Result<Self> {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;

        if args.checkpoint.is_some() {
            return Self::prepare(args);
        }
        let tokens = args.token_source()?;
        let own = if world.rank_idx() == 0 { Some(generated(args)?) } else { None };
        let own_path = own.as_ref().map_or(&b""[..], |dir| dir.path().as_os_str().as_bytes());
        let paths = world.all_gather(OP, own_path)?;
        let checkpoint = Checkpoint::open(OsStr::from_bytes(&paths[0]))?;
        Self::open(args, tokens, checkpoint, own)
    }

    fn open(
        args: &MoeArgs,
        tokens: TokenSource,
        checkpoint: Checkpoint,
        generated: Option<TempDir>,
    ) -> Result<Self> {
        let layer_idx = args.layer.unwrap_or(checkpoint.config().moe_layers().start);
        let config = checkpoint.moe_config(layer_idx)?;
        Ok(Self { checkpoint, layer_idx, config, tokens, _generated: generated })
    }
}

fn generated(args: &MoeArgs) -> Result<TempDir> {
    let options = args.shape.options(args.dtype.unwrap_or(DtypeArg::Fp8), 1);
    options.check()?;
    let dir =
        tempfile::tempdir().map_err(|error| moekit::Error::io(OP, std::env::temp_dir(), error))?;
    generate_with_bar(dir.path(), &options, args.output)?;
    Ok(dir)
}
