//! Times of work done in rounds.

use std::time::{Duration, Instant};

/// Times that each way is gone; the script that counts instructions divides by it.
pub const ROUNDS: usize = 8;

/// The best of all rounds.
pub fn timed(mut work: impl FnMut()) -> Duration {
    timed_on(|| (), |()| work())
}

/// The same, with something prepared for each round that is not timed.
pub fn timed_on<T>(prepare: impl FnMut() -> T, work: impl FnMut(T)) -> Duration {
    timed_rounds(ROUNDS, prepare, work)
}

#[allow(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn timed_rounds<T>(rounds: usize, mut prepare: impl FnMut() -> T, mut work: impl FnMut(T)) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..rounds {
        let prepared = prepare();
        let begin = Instant::now();
        work(prepared);
        best = best.min(begin.elapsed());
    }
    best
}

/// The time.
#[allow(clippy::disallowed_methods, reason = "a benchmark measures time")]
pub fn now() -> Instant {
    Instant::now()
}
