//! Collectors on a simulated network to which anything happens.

use fastrand::Rng;
use otlp_embed::Protocol;
use otlp_embed::testing::collector::Accepting;
use otlp_embed::testing::{Answer, Clock, Link, SimulatedCollector};
use std::time::Duration;

/// Twenty seconds in which anything happens to the collector, and then all is well.
pub async fn chaos(clock: Clock, collector: SimulatedCollector, mut rng: Rng) {
    for _ in 0..rng.usize(..40) {
        clock.sleep(Duration::from_micros(rng.u64(..1_000_000))).await;
        match rng.u8(..12) {
            0 => collector.pause(),
            1 | 2 => collector.resume(),
            3 => collector.partition(),
            4 | 5 => collector.repair(),
            6 => _ = collector.kill_share(rng.f64()),
            7 => collector.forget_connections(),
            8 => collector.drain_connections(),
            9 => {
                let accepting = [Accepting::Refuse, Accepting::CloseAtOnce, Accepting::Serve];
                collector.set_accepting(accepting[rng.usize(..3)]);
            }
            _ => {
                let mut link = Link::new()
                    .with_latency(Duration::from_micros(rng.u64(..100_000)))
                    .with_jitter(Duration::from_micros(rng.u64(..20_000)))
                    .with_buffer(rng.usize(1_000..1_000_000));
                if rng.bool() {
                    link = link.with_bandwidth(rng.u64(5_000..10_000_000));
                }
                if rng.bool() {
                    link = link.with_chunks(rng.usize(100..70_000));
                }
                if rng.bool() {
                    link = link.with_resets(rng.f64() / 10.0);
                }
                collector.set_link(link);
            }
        }
    }
    collector.set_link(Link::new());
    collector.set_accepting(Accepting::Serve);
    collector.resume();
    collector.repair();
}

/// An answer, of a hundred of which so many are anything but a plain success.
pub fn answer(rng: &mut Rng, evil: u8) -> Answer {
    if rng.u8(..100) >= evil {
        return Answer::Ok;
    }
    match rng.u8(..8) {
        0 => Answer::unavailable(),
        1 => Answer::throttled(Duration::from_millis(rng.u64(..3_000))),
        2 => Answer::Ok.after(Duration::from_millis(rng.u64(..3_000))),
        3 => Answer::Never,
        4 => Answer::CloseConnection,
        5 => Answer::AbortConnection,
        6 => Answer::Drain(Box::new(Answer::Ok)),
        _ => Answer::Ok.cut_after(rng.usize(..200)),
    }
}

/// Whether the collector may have accepted the items, as far as its client can tell.
pub fn may_succeed(answer: &Answer, protocol: Protocol) -> bool {
    match answer {
        Answer::Delay(_, answer) | Answer::Drain(answer) | Answer::Cut(_, answer) => {
            may_succeed(answer, protocol)
        }
        _ => answer.is_success_over(protocol),
    }
}
