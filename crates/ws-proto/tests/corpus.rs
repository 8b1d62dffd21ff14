//! The seeds of the fuzz targets, replayed: each as it is, and cut in pieces of other lengths.

#[path = "../../../fuzz/src/lib.rs"]
mod targets;

use std::{fs, path::Path};

#[test]
fn seeds_hold() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
    for (name, target) in targets::TARGETS {
        let mut files = 0;
        for entry in fs::read_dir(seeds.join(name)).expect("seeds of every target") {
            let mut data = fs::read(entry.expect("a readable folder").path()).expect("a seed");
            target(&data);
            for piece in [0, 1, 2, 3, 5, 8, 125, 255] {
                if let Some(first) = data.first_mut() {
                    *first = piece;
                }
                target(&data);
            }
            files += 1;
        }
        assert!(files > 3, "{name} has {files} seeds");
    }
    let names = fs::read_dir(&seeds).expect("seeds").count();
    // Those of `talk` are replayed by ws-conn, those of `broker` and `nats` by ws-hub.
    assert_eq!(names, targets::TARGETS.len() + 3, "a folder of seeds without a target");
}
