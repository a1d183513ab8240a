//! A case: a name and a function that panics when the backend is wrong.

/// A named case for backend `B`.
pub type Case<B> = (&'static str, fn(&B));

/// Declares `pub fn cases<B: Backend>()` of the functions named, each `fn name<B: Backend>(&B)`.
macro_rules! on_every_backend {
    [$($case:ident),* $(,)?] => {
        pub fn cases<B: moekit::Backend>() -> Vec<crate::case::Case<B>> {
            vec![$((stringify!($case), $case::<B> as fn(&B))),*]
        }
    };
}
pub(crate) use on_every_backend;
