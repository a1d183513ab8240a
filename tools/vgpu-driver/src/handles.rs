//! Opaque handles: numbers that are never used twice, so that a stale or invented one is noticed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::failure::{Failure, Result};
use crate::status::Status;

/// A handle as the caller holds it. 0, 1 and 2 have meanings of their own as streams.
pub type Handle = usize;

/// A new handle, different from all others of the process.
pub fn next_handle() -> Handle {
    static NEXT: AtomicUsize = AtomicUsize::new(0x1000);
    NEXT.fetch_add(16, Ordering::Relaxed)
}

/// The objects of a kind that the caller has handles of.
#[derive(Debug)]
pub struct Handles<T> {
    what: &'static str,
    objects: RwLock<HashMap<Handle, Arc<T>>>,
}

impl<T> Handles<T> {
    /// No objects; `what` names them in messages.
    pub fn new(what: &'static str) -> Self {
        Handles { what, objects: RwLock::default() }
    }

    /// Adds an object under a new handle.
    pub fn add(&self, object: T) -> Handle {
        let handle = next_handle();
        self.insert(handle, Arc::new(object));
        handle
    }

    /// Adds an object under a handle from [`next_handle`].
    pub fn insert(&self, handle: Handle, object: Arc<T>) {
        self.objects.write().unwrap_or_else(PoisonError::into_inner).insert(handle, object);
    }

    /// The object of a handle.
    pub fn get(&self, handle: Handle) -> Result<Arc<T>> {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        objects.get(&handle).cloned().ok_or_else(|| self.unknown(handle))
    }

    /// Takes an object away.
    pub fn remove(&self, handle: Handle) -> Result<Arc<T>> {
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        objects.remove(&handle).ok_or_else(|| self.unknown(handle))
    }

    /// Takes away all objects that a condition holds for.
    pub fn remove_if(&self, condition: impl Fn(&T) -> bool) -> Vec<Arc<T>> {
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        objects.extract_if(|_, object| condition(object)).map(|(_, object)| object).collect()
    }

    fn unknown(&self, handle: Handle) -> Failure {
        let reason = format!("{handle:#x} is no {} that is alive", self.what);
        Failure::new(Status::INVALID_HANDLE, reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_ends_with_its_object() {
        let handles = Handles::new("thing");
        let (a, b) = (handles.add(1), handles.add(2));
        assert_eq!(*handles.get(a).unwrap(), 1);
        handles.remove(a).unwrap();
        assert_eq!(handles.get(a).unwrap_err().status, Status::INVALID_HANDLE);
        assert_eq!(*handles.remove_if(|it| *it == 2)[0], 2);
        assert!(handles.get(b).unwrap_err().reason.contains("thing"));
    }
}
