//! Nothing: the package is its benches. `cargo bench -p micro` runs them.
