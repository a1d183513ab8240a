//! A case: a name and a function that panics when the backend is wrong.

/// A named case for backend `B`.
pub type Case<B> = (&'static str, fn(&B));

/// A case bound to a backend.
pub struct NamedCase {
    pub name: String,
    pub stage: &'static str,
    /// The error is what the case's panic said.
    pub run: Box<dyn FnOnce() -> Result<(), String> + Send>,
}

/// Declares `pub fn cases<B: Backend>()` of the functions named, each `fn name<B: Backend>(&B)`.
macro_rules! on_every_backend {
    [$($case:ident),* $(,)?] => {
        pub fn cases<B: moekit::Backend>() -> Vec<crate::case::Case<B>> {
            vec![$((stringify!($case), $case::<B> as fn(&B))),*]
        }
    };
}
pub(crate) use on_every_backend;
