//! Random facts against a reference model, and the corpus that the fuzzer left behind.

#[path = "support/fuzz/engine_ops.rs"]
mod engine_ops;

use otlp_embed::{DropReason, Stats};
use std::path::Path;

/// Rounds of the simulation; each has its own seed, so that a failure names the one to repeat.
const ROUNDS: u64 = 1_000;

#[test]
fn random_facts_agree_with_the_model() {
    let mut sum = Stats::default();
    for seed in 0..ROUNDS {
        let mut rng = fastrand::Rng::with_seed(seed);
        let len = rng.usize(10..1_500);
        let data: Vec<u8> = (0..len).map(|_| rng.u8(..)).collect();
        let Ok(stats) = std::panic::catch_unwind(|| engine_ops::play(&data)) else {
            panic!("seed {seed} fails");
        };
        sum.delivered += stats.delivered;
        sum.rejected += stats.rejected;
        sum.unknown += stats.unknown;
        sum.possible_duplicates += stats.possible_duplicates;
        sum.retries += stats.retries;
        sum.connections += stats.connections;
        for reason in DropReason::ALL {
            sum.dropped[reason.index()] += stats.dropped_for(reason);
        }
    }
    // A simulation in which nothing happens proves nothing.
    let figures = [
        sum.delivered,
        sum.rejected,
        sum.unknown,
        sum.possible_duplicates,
        sum.retries,
        sum.connections,
    ];
    assert!(figures.iter().all(|&figure| figure > 100), "{sum:?}");
    assert!(sum.dropped.iter().all(|&items| items > 10), "{sum:?}");
}

#[test]
fn the_corpus_of_the_fuzzer_agrees_with_the_model() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/engine_ops");
    let mut inputs = 0;
    for entry in std::fs::read_dir(folder).expect("the corpus is there") {
        let path = entry.expect("an entry").path();
        engine_ops::run(&std::fs::read(&path).expect("an input"));
        inputs += 1;
    }
    assert!(inputs > 10, "{inputs} inputs");
}
