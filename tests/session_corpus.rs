//! The fuzzer's corpus, replayed.

#[path = "support/fuzz/session_bytes.rs"]
mod session_bytes;

use std::fs;
use std::path::Path;

#[test]
fn the_corpus_of_session_bytes_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/session_bytes");
    let mut count = 0;
    for entry in fs::read_dir(folder).expect("the corpus is committed") {
        let path = entry.expect("an entry").path();
        session_bytes::run(&fs::read(&path).expect("a file"));
        count += 1;
    }
    assert!(count > 20, "the corpus is there: {count} files");
}

#[test]
fn noise_of_a_fixed_seed_holds() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..3_000 {
        let len = random.usize(0..400);
        // A SETTINGS frame first, most of the time, or the session soon hears that its peer speaks no HTTP/2.
        let mut data = if random.u8(0..8) > 0 {
            vec![8, 0]
        } else {
            Vec::new()
        };
        data.extend((0..len).map(|_| random.u8(..) & random.u8(..)));
        session_bytes::run(&data);
    }
}
