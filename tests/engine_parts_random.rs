//! Random answers to exports in parts: every item ends where the answers put it.

#[path = "support/fuzz/engine_parts.rs"]
#[allow(dead_code, reason = "the entry of the fuzzer")]
mod engine_parts;

use otlp_embed::{DropReason, Stats};

/// Rounds of the simulation; each has its own seed, so that a failure names the one to repeat.
const ROUNDS: u64 = 600;

#[test]
fn random_answers_leave_every_item_in_its_place() {
    let mut sum = Stats::default();
    for seed in 0..ROUNDS {
        let mut rng = fastrand::Rng::with_seed(seed);
        let len = rng.usize(10..1_000);
        let data: Vec<u8> = (0..len).map(|_| rng.u8(..)).collect();
        let Ok(stats) = std::panic::catch_unwind(|| engine_parts::play(&data)) else {
            panic!("seed {seed} fails");
        };
        assert!(stats.is_conserved());
        sum.delivered += stats.delivered;
        sum.rejected += stats.rejected;
        sum.unknown += stats.unknown;
        sum.retries += stats.retries;
        sum.splits += stats.splits;
        for reason in DropReason::ALL {
            sum.dropped[reason.index()] += stats.dropped_for(reason);
        }
    }
    // A simulation in which nothing happens proves nothing.
    println!("{sum:?}");
    let figures = [sum.delivered, sum.rejected, sum.unknown, sum.retries, sum.splits];
    assert!(figures.iter().all(|&figure| figure > 100), "{sum:?}");
    // The reasons after these are of queues and of processes.
    let reasons = &sum.dropped[..=DropReason::TooLarge.index()];
    assert!(reasons.iter().all(|&items| items > 10), "{sum:?}");
}
