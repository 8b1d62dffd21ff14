#![no_main]
#[path = "../../crates/ws-conn/tests/common/mod.rs"]
mod common;
#[path = "../../crates/ws-conn/tests/common/talk.rs"]
mod talk;

libfuzzer_sys::fuzz_target!(|data: &[u8]| talk::run(data));
