//! The corpora, replayed: what fuzzers begin with and what they have found.

use std::{fs, path::Path};

use proptest::prelude::*;
use unfazed_fuzz::targets::{ALL, Target};

fn replay((name, target): Target) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let files: Vec<_> = fs::read_dir(&folder).expect("each target has a corpus").collect();
    assert!(files.len() >= 5, "{name} has {} files", files.len());
    for file in files {
        let path = file.expect("it can be listed").path();
        println!("{}", path.display());
        target(&fs::read(&path).expect("it can be read"));
    }
}

#[test]
fn every_corpus_holds_what_its_target_promises() {
    ALL.into_iter().for_each(replay);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_bytes_hold_what_every_target_promises(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        ALL.into_iter().for_each(|(_, target)| target(&bytes));
    }
}
