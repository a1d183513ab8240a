//! Primary contexts: one for each device, counted.

use std::sync::{Arc, Mutex};

use crate::context::{Context, lock};
use crate::failure::{Failure, Result};
use crate::status::Status;

/// A device's primary context.
#[derive(Default)]
pub struct Primary {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    context: Option<Arc<Context>>,
    num_users: usize,
    flags: u32,
}

impl Primary {
    /// The context, with one more user.
    ///
    /// # Errors
    ///
    /// `NOT_INITIALIZED`.
    pub fn retain(&self, device: usize) -> Result<Arc<Context>> {
        let mut state = lock(&self.state);
        let context = match &state.context {
            Some(context) => context.clone(),
            None => Context::create(device, true, state.flags)?,
        };
        state.context = Some(context.clone());
        state.num_users += 1;
        Ok(context)
    }

    /// One user less; the last one ends the context.
    ///
    /// # Errors
    ///
    /// `INVALID_CONTEXT` without users.
    pub fn release(&self) -> Result<()> {
        let mut state = lock(&self.state);
        if state.num_users == 0 {
            return Err(Failure::new(Status::INVALID_CONTEXT, "it was not retained"));
        }
        state.num_users -= 1;
        if state.num_users > 0 {
            return Ok(());
        }
        state.context.take().map_or(Ok(()), |context| context.destroy())
    }

    /// Ends the context whoever uses it; its fault ends with it.
    ///
    /// # Errors
    ///
    /// `NOT_INITIALIZED`.
    pub fn reset(&self) -> Result<()> {
        let mut state = lock(&self.state);
        state.num_users = 0;
        state.context.take().map_or(Ok(()), |context| context.destroy())
    }

    /// Flags, and whether there is a context.
    pub fn state(&self) -> (u32, bool) {
        let state = lock(&self.state);
        (state.flags, state.context.is_some())
    }

    /// Flags for the context, also the one that there is.
    pub fn set_flags(&self, flags: u32) {
        let mut state = lock(&self.state);
        state.flags = flags;
        if let Some(context) = &state.context {
            lock(&context.options).flags = flags;
        }
    }
}
