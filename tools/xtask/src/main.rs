//! moekit's set-up-and-go commands.
fn main() {}
