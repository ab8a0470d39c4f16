//! Replays the corpus of every fuzz target, so that what a fuzzer once found stays found on stable.

#[path = "../../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use support::fuzz;

/// A target's name, which is that of its corpus, and its body.
type Target = (&'static str, fn(&[u8]));

/// Every target there is; a corpus without one fails the test.
const TARGETS: &[Target] = &[
    ("connect_proxy_response", fuzz::connect_proxy_response::run),
    ("decompress_response", fuzz::decompress_response::run),
    ("delivery_ops", fuzz::delivery_ops::run),
    ("encode_roundtrip", fuzz::encode_roundtrip::run),
    ("engine_ops", fuzz::engine_ops::run),
    ("engine_parts", fuzz::engine_parts::run),
    ("engine_session", fuzz::engine_session::run),
    ("env_config", fuzz::env_config::run),
    ("http1_response", fuzz::http1_response::run),
    ("json_from_wire", fuzz::json_from_wire::run),
    ("policies", fuzz::policies::run),
    ("retry_hints", fuzz::retry_hints::run),
    ("session_bytes", fuzz::session_bytes::run),
    ("wire_reader", fuzz::wire_reader::run),
];

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz")
        .join(name)
}

fn entries(directory: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    entries
        .map(|entry| entry.expect("a readable directory").path())
        .collect()
}

#[test]
fn every_corpus_passes() {
    for (name, run) in TARGETS {
        let files = entries(&directory("corpus").join(name));
        assert!(!files.is_empty(), "the corpus of {name} is empty");
        for file in files {
            // Shown by the harness where the body panics.
            println!("{}", file.display());
            run(&fs::read(&file).expect("a readable file"));
        }
    }
}

#[test]
fn every_target_and_every_corpus_is_listed() {
    let listed: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let stems = |name| -> BTreeSet<_> {
        let files = entries(&directory(name)).into_iter();
        files
            .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
            .collect()
    };
    assert_eq!(stems("corpus"), listed);
    assert_eq!(stems("fuzz_targets"), listed);
}
