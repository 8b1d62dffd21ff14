//! Nothing: the package is its benches. `cargo bench -p micro` in bench/ runs them; they stand here, so
//! that what they need is not compiled with the tests of the crates.
