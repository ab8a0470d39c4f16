//! Random answers to exports that hand back what is left: whatever the peer does, every item is settled or comes back, once.

#[path = "support/fuzz/engine_parts.rs"]
#[allow(dead_code, reason = "the entry of the fuzzer")]
mod engine_parts;

use engine_parts::Owner;

/// Rounds of the simulation; each has its own seed, so that a failure names the one to repeat.
const ROUNDS: u64 = 800;

#[test]
fn every_item_is_settled_or_comes_back() {
    let mut sum = Owner::default();
    let (mut accepted, mut retries, mut splits, mut duplicates) = (0, 0, 0, 0);
    for seed in 0..ROUNDS {
        let mut rng = fastrand::Rng::with_seed(seed);
        let len = rng.usize(10..1_000);
        let data: Vec<u8> = (0..len).map(|_| rng.u8(..)).collect();
        let Ok((stats, owner)) = std::panic::catch_unwind(|| engine_parts::play_managed(&data)) else {
            panic!("seed {seed} fails");
        };
        assert!(stats.is_conserved());
        assert_eq!(
            owner.submitted,
            owner.settled.total() + owner.given_up,
            "seed {seed}"
        );
        accepted += stats.accepted;
        retries += stats.retries;
        splits += stats.splits;
        duplicates += stats.possible_duplicates;
        sum.submitted += owner.submitted;
        sum.settled += owner.settled;
        sum.returned += owner.returned;
        sum.divided += owner.divided;
        sum.given_up += owner.given_up;
    }
    // A simulation in which nothing happens proves nothing.
    println!("{sum:?}, {accepted} of others, {retries} retries, {splits} splits, {duplicates} duplicates");
    let settled = sum.settled;
    let figures = [
        settled.delivered,
        settled.rejected,
        settled.dropped,
        settled.unknown,
        sum.returned,
        sum.divided,
        sum.given_up,
        accepted,
        retries,
        splits,
        duplicates,
    ];
    assert!(figures.iter().all(|&figure| figure > 50), "{figures:?}");
}
