//! Thousands of random lives of a delivery against its model; see `support/fuzz/delivery_ops.rs`.

#[path = "support/fuzz/delivery_ops.rs"]
#[allow(dead_code, reason = "the entry of the fuzzer")]
mod delivery_ops;

fn bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..count).map(|_| rng.u8(..)).collect()
}

#[test]
fn random_lives_keep_every_item_accounted_for() {
    let (mut delivered, mut dropped, mut unknown) = (0, 0, 0);
    for seed in 0..1_500 {
        let input = bytes(seed, 60 + (seed as usize % 9) * 60);
        let played = std::panic::catch_unwind(|| delivery_ops::play(&input));
        let Ok(stats) = played else {
            panic!("seed {seed}");
        };
        delivered += stats.total.delivered;
        dropped += stats.total.dropped_total();
        unknown += stats.total.unknown;
    }
    // The lives are worth watching.
    assert!(delivered > 10_000 && dropped > 1_000 && unknown > 100);
}

#[test]
fn long_lives_without_an_early_end() {
    for seed in 0..150 {
        let mut input = bytes(seed + 1_000_000, 6_000);
        // No drain, no fork, nothing gone.
        for byte in &mut input[3..] {
            if *byte % 16 == 15 {
                *byte -= 1;
            }
        }
        let played = std::panic::catch_unwind(|| delivery_ops::play(&input));
        assert!(played.is_ok(), "seed {seed}");
    }
}
