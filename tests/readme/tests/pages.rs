//! What the README names is there: paths, examples, the tests behind its claims.

use std::fs;
use std::path::{Path, PathBuf};

const README: &str = include_str!("../../../README.md");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What stands between backquotes, blocks left out.
fn quotes() -> impl Iterator<Item = &'static str> {
    let prose = README.split("\n```").step_by(2);
    prose.flat_map(|text| text.split('`').skip(1).step_by(2))
}

#[test]
fn every_path_is_there() {
    let folders = ["src/", "tests/", "examples/", "benches/", "fuzz/", ".ci/"];
    let paths = quotes().filter(|quote| folders.iter().any(|folder| quote.starts_with(folder)));
    let paths: Vec<_> = paths
        .map(|quote| quote.split(' ').next().unwrap_or_default())
        .collect();
    // That of the newcomer, who has no other file yet.
    let missing = paths
        .iter()
        .filter(|path| **path != "src/main.rs" && !root().join(path).exists());
    let missing: Vec<_> = missing.collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(paths.len() > 10, "they are found: {paths:?}");
}

#[test]
fn every_example_is_named() {
    for entry in fs::read_dir(root().join("examples")).expect("the examples") {
        let path = entry.expect("an example").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name");
        if path.extension().is_some_and(|extension| extension == "rs") {
            let is_named =
                quotes().any(|quote| quote == name) || README.contains(&format!("--example {name}\n"));
            assert!(is_named, "{name} is an example that the README does not name");
        }
    }
}

#[test]
fn every_claim_about_failing_peers_has_its_test() {
    let tests = fs::read_to_string(root().join("tests/sdk/tests/peers.rs")).expect("the tests");
    let (_, rest) = README
        .split_once("| the collector | this crate |")
        .expect("the table");
    let (table, _) = rest.split_once("\n\n").expect("an end");
    for row in table.lines().skip(2) {
        let column = row.trim_end_matches(" |").rsplit(" | ").next().expect("a column");
        let names: Vec<_> = column.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "a claim without a test: {row}");
        for name in names {
            assert!(
                tests.contains(&format!("#[test]\nfn {name}()")),
                "{name} is no test of peers.rs"
            );
        }
    }
}
