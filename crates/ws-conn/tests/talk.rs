//! What holds whatever two sides do: see `common/talk.rs`.

mod common;
#[path = "common/talk.rs"]
mod talk;

use proptest::collection::vec;
use proptest::prelude::{any, proptest, ProptestConfig};

#[test]
fn seeds_hold() {
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/talk");
    for entry in std::fs::read_dir(seeds).expect("seeds") {
        talk::run(&std::fs::read(entry.expect("a readable folder").path()).expect("a seed"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn two_sides_understand_each_other(data in vec(any::<u8>(), 0..400)) {
        talk::run(&data);
    }
}
