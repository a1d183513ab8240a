//! Grids that overlap: one begins before the one in front of it in a stream has ended.

use std::fmt::{self, Debug, Formatter};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A grid's end, which the grid behind it waits for with `griddepcontrol.wait`.
#[derive(Clone, Default)]
pub struct GridEnd(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    has_come: bool,
    /// The grid behind can do nothing more before.
    is_awaited: bool,
}

impl GridEnd {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The grid has ended, and all in front of it have.
    pub fn set(&self) {
        self.state().has_come = true;
        self.0.changed.notify_all();
    }

    /// Whether it has.
    #[must_use]
    pub fn has_come(&self) -> bool {
        self.state().has_come
    }

    /// Waits for it.
    pub fn wait(&self) {
        let mut state = self.state();
        while !state.has_come {
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The grid behind can do nothing more before the end, or has ended itself.
    pub fn set_awaited(&self) {
        self.state().is_awaited = true;
        self.0.changed.notify_all();
    }

    /// Waits until the grid behind can do nothing more, but not for longer than `limit`.
    pub fn wait_until_awaited(&self, limit: Duration) {
        let end = Instant::now() + limit;
        let mut state = self.state();
        while !state.is_awaited {
            let Some(left) = end.checked_duration_since(Instant::now()) else { return };
            let waited = self.0.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Debug for GridEnd {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GridEnd").field(&self.has_come()).finish()
    }
}

/// What to do when all blocks of a grid have ended or executed `griddepcontrol.launch_dependents`:
/// the grid behind it may begin. The grid goes on when this returns.
#[derive(Clone)]
pub struct Dependents(Arc<dyn Fn() + Send + Sync>);

impl Dependents {
    /// What is to be done.
    pub fn new(begin: impl Fn() + Send + Sync + 'static) -> Self {
        Dependents(Arc::new(begin))
    }

    pub(crate) fn begin(&self) {
        (self.0)();
    }
}

impl Debug for Dependents {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Dependents")
    }
}
