//! Who is woken when another future does the work, stands still, leaves or panics.

use crate::batches::batch;
use crate::manual::{Manual, Panic, Task};
use core::future::Future;
use core::task::Poll;
use core::time::Duration;
use otlp_embed::policy::RetryPolicy;
use otlp_embed::{Config, DropReason, Exporter};

pub fn exporter(runtime: &Manual, policy: RetryPolicy) -> Exporter<Manual> {
    let config = Config::new()
        .with_protocol(otlp_embed::Protocol::Grpc)
        .with_endpoint("http://127.0.0.1:4317")
        .with_retry_policy(policy);
    config.build(runtime.clone()).expect("the configuration works")
}

/// Polls `task` whenever it was woken, and moves the peer in between.
pub fn finish<F: Future>(runtime: &Manual, task: &mut Task<F>) -> F::Output {
    for _ in 0..20 {
        if let Poll::Ready(output) = task.poll() {
            return output;
        }
        runtime.step();
        assert!(task.was_woken(), "the task sleeps and nothing will ever wake it");
    }
    panic!("the task is woken for nothing");
}

/// As in `select!` with `&mut driver` whose other branch awaits an export: the driver lives, was woken, and is not
/// polled.
#[test]
fn a_driver_that_stands_still_is_passed_over() {
    let runtime = Manual::new();
    let exporter = exporter(&runtime, RetryPolicy::never());
    let mut driver = Task::new(exporter.driver());
    let mut export = Task::new(exporter.export(batch(0, 3)));
    assert!(driver.poll().is_pending());
    assert!(export.poll().is_pending());
    for _ in 0..20 {
        runtime.step();
        // Both are in one task: a wake of either polls the export, and only that.
        let was_woken = driver.was_woken() | export.was_woken();
        assert!(was_woken, "the task sleeps and nothing will ever wake it");
        if let Poll::Ready(verdict) = export.poll() {
            assert_eq!(verdict.expect("delivered").delivered(), 3);
            return;
        }
    }
    panic!("the task is woken for nothing");
}

/// The export waits for its next attempt, so that its drop gives nothing to do.
#[test]
fn a_shutdown_ends_when_the_last_export_is_dropped() {
    let runtime = Manual::new();
    runtime.refuse_to_connect();
    let exporter = exporter(&runtime, RetryPolicy::default());
    let mut export = Task::new(exporter.export(batch(0, 3)));
    assert!(export.poll().is_pending());
    let mut shutdown = Task::new(exporter.shutdown(Duration::from_secs(5)));
    assert!(shutdown.poll().is_pending());
    drop(export);
    assert!(shutdown.was_woken(), "nothing is under way any more");
    let Poll::Ready(report) = shutdown.poll() else {
        panic!("nothing is under way any more")
    };
    assert_eq!(report.stats.dropped_for(DropReason::Cancelled), 3);
}

/// The answer arrives while the export's own poll holds the channel.
#[test]
fn a_shutdown_ends_when_the_last_export_settles_itself() {
    let runtime = Manual::new();
    let exporter = exporter(&runtime, RetryPolicy::never());
    let mut export = Task::new(exporter.export(batch(0, 3)));
    assert!(export.poll().is_pending());
    let mut driver = Task::new(exporter.driver());
    assert!(driver.poll().is_pending());
    let mut shutdown = Task::new(exporter.shutdown(Duration::from_secs(5)));
    assert!(shutdown.poll().is_pending());
    let _ = (driver.poll(), driver.was_woken(), shutdown.was_woken());
    runtime.arrive_in_gap();
    let Poll::Ready(verdict) = export.poll() else {
        panic!("the answer is there")
    };
    assert_eq!(verdict.expect("delivered").delivered(), 3);
    assert!(shutdown.was_woken(), "nothing is under way any more");
    assert!(driver.was_woken(), "the exporter has ended");
    assert!(driver.poll().is_ready() && shutdown.poll().is_ready());
}

/// A runtime's panic costs what it was about; the channel and the other exports go on.
#[test]
fn a_panicking_runtime_costs_one_connection() {
    for place in [Panic::Connect, Panic::Connecting, Panic::Read, Panic::Write] {
        let runtime = Manual::new();
        let exporter = exporter(&runtime, RetryPolicy::never());
        runtime.panic_next(place);
        let mut first = Task::new(exporter.export(batch(0, 3)));
        match finish(&runtime, &mut first) {
            // Nothing of it had left, so that it was sent again.
            Ok(outcome) => assert_eq!((place, outcome.attempts()), (Panic::Write, 2)),
            Err(error) => assert!(error.to_string().contains("panicked"), "{place:?}: {error}"),
        }
        let mut second = Task::new(exporter.export(batch(3, 3)));
        if matches!(place, Panic::Connect | Panic::Connecting) {
            // It waits until the endpoint may be tried again, and the clock stands still.
            assert!(second.poll().is_pending(), "{place:?}");
            drop(second);
        } else {
            let outcome = finish(&runtime, &mut second).expect("delivered");
            assert_eq!(outcome.delivered(), 3, "{place:?}");
        }
        let stats = exporter.stats();
        assert!(
            stats.is_conserved() && stats.in_flight == 0,
            "{place:?}: {stats:?}"
        );
    }
}

/// Without a timer no deadline can be kept.
#[test]
fn a_panicking_timer_ends_the_exporter() {
    let runtime = Manual::new();
    let exporter = exporter(&runtime, RetryPolicy::never());
    runtime.panic_next(Panic::Timer);
    let mut export = Task::new(exporter.export(batch(0, 3)));
    let error = finish(&runtime, &mut export).expect_err("the runtime panicked");
    assert!(error.is_runtime_gone(), "{error}");
    assert!(exporter.stats().is_conserved());
}
