#![no_main]
#[path = "../../crates/ws-hub/tests/common/broker.rs"]
mod broker;

libfuzzer_sys::fuzz_target!(|data: &[u8]| broker::run_at_nats(data));
