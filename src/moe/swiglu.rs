//! The activation of an expert.
