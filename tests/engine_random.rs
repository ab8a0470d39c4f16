//! Random facts against a reference model.

#[path = "support/fuzz/engine_ops.rs"]
#[allow(dead_code, reason = "the entry of the fuzzer")]
mod engine_ops;

use otlp_embed::{DropReason, Stats};

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
    // No request of this simulation can be taken apart; the reasons after that are of queues and of processes.
    for reason in &DropReason::ALL[..DropReason::TooLarge.index()] {
        let is_met = sum.dropped_for(*reason) > 10;
        assert!(is_met, "{reason:?}: {sum:?}");
    }
}
