//! Seeded inputs, f64 oracles, comparisons and poison for moekit's tests; shares no code with it.
