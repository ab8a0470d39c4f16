//! Many exports with one registration: a wake, a poll and a drop at any moment lose nothing.

use crate::batches::batch;
use crate::interposed::Interposed;
use crate::manual::{Manual, Task};
use crate::{DroppedAt, dropped_at, exporter, stories};
use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::Poll;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use otlp_embed::export::{Flight, Managed};
use otlp_embed::policy::RetryPolicy;
use otlp_embed::rt::Runtime;
use otlp_embed::{Error, Exporter, Outcome};

type Tasks<'a, T> = FuturesUnordered<Pin<Box<dyn Future<Output = T> + 'a>>>;

/// The next verdict. On a runtime without an executor it blocks, as the owner of a flight has it.
pub async fn next<R: Runtime>(flight: &mut Flight<R>) -> Result<Outcome, Error> {
    let runtime = flight.runtime().expect("the process did not change").clone();
    let (_, verdict) = poll_fn(|cx| runtime.drive(cx, |cx| flight.poll(cx))).await;
    verdict
}

/// Submits `exports` exports of two items each, and counts what is delivered.
async fn fly<R: Runtime>(exporter: Exporter<R>, exports: u64) -> u64 {
    let mut flight = Flight::new(&exporter);
    for number in 0..exports {
        let managed = (number % 2 == 0).then(Managed::default);
        flight.submit(batch(100 + 2 * number, 2), managed);
    }
    let mut delivered = 0;
    while !flight.is_empty() {
        delivered += next(&mut flight).await.expect("nothing fails here").delivered();
    }
    delivered
}

/// The driver of nobody else: it moves itself.
pub async fn a_flight_settles_all_of_its_exports<R: Runtime>(runtime: R) {
    let (runtime, _peer, address) = Interposed::new(runtime);
    let exporter = exporter(runtime, address);
    for exports in [0, 1, 7] {
        assert_eq!(fly(exporter.clone(), exports).await, 2 * exports);
    }
    let stats = exporter.stats();
    assert_eq!((stats.exports_in_flight, stats.connections), (0, 1), "{stats:?}");
    assert_eq!(stats.delivered, 6, "half of them are booked elsewhere");
}

/// Two tasks, one of which is dropped at one of its polls: what the other has delivered, and whether both came to their end.
async fn other_of(
    one: DroppedAt<impl Future<Output = u64>>,
    other: impl Future<Output = u64>,
) -> (u64, bool) {
    let mut tasks: Tasks<'_, (u64, bool)> = FuturesUnordered::new();
    tasks.push(Box::pin(async { (0, one.await.is_some()) }));
    tasks.push(Box::pin(async { (other.await, true) }));
    let (mut delivered, mut has_ended) = (0, true);
    while let Some((of_other, ended)) = tasks.next().await {
        delivered += of_other;
        has_ended &= ended;
    }
    (delivered, has_ended)
}

async fn export<R: Runtime>(exporter: Exporter<R>) -> u64 {
    exporter.export(batch(0, 3)).await.expect("delivered").delivered()
}

fn assert_nothing_is_left<R: Runtime>(exporter: &Exporter<R>, polls: usize) {
    let stats = exporter.stats();
    let left = (stats.in_flight, stats.exports_in_flight, stats.bytes_in_flight);
    assert!(
        stats.is_conserved() && left == (0, 0, 0),
        "dropped at {polls}: {stats:?}"
    );
}

/// The flight moves the export of somebody else, who sleeps; it is dropped at each of its polls in turn.
pub async fn an_export_takes_over_from_a_dropped_flight<R: Runtime>(runtime: R) {
    for polls in 0.. {
        let (runtime, _peer, address) = Interposed::new(runtime.clone());
        let exporter = exporter(runtime, address);
        let flight = dropped_at(polls, fly(exporter.clone(), 3));
        let (delivered, has_ended) = other_of(flight, export(exporter.clone())).await;
        assert_eq!(delivered, 3, "dropped at {polls}");
        assert_nothing_is_left(&exporter, polls);
        if has_ended {
            assert!(polls > 0, "what is never polled is never delivered");
            return;
        }
    }
}

/// An export is dropped at each of its polls in turn beside a flight.
pub async fn a_flight_goes_on_without_a_dropped_export<R: Runtime>(runtime: R) {
    for polls in 0.. {
        let (runtime, _peer, address) = Interposed::new(runtime.clone());
        let exporter = exporter(runtime, address);
        let dropped = dropped_at(polls, export(exporter.clone()));
        let (delivered, has_ended) = other_of(dropped, fly(exporter.clone(), 3)).await;
        assert_eq!(delivered, 6, "dropped at {polls}");
        assert_nothing_is_left(&exporter, polls);
        if has_ended {
            return;
        }
    }
}

/// Of two flights one leads, which is dropped at each of its polls in turn.
pub async fn a_flight_goes_on_without_another<R: Runtime>(runtime: R) {
    for polls in 0.. {
        let (runtime, _peer, address) = Interposed::new(runtime.clone());
        let exporter = exporter(runtime, address);
        let dropped = dropped_at(polls, fly(exporter.clone(), 2));
        let (delivered, has_ended) = other_of(dropped, fly(exporter.clone(), 3)).await;
        assert_eq!(delivered, 6, "dropped at {polls}");
        assert_nothing_is_left(&exporter, polls);
        if has_ended {
            return;
        }
    }
}

/// The flight sleeps while a driver does the work, which is dropped at each of its polls in turn.
pub async fn a_flight_takes_over_from_a_dropped_driver<R: Runtime>(runtime: R) {
    for polls in 0..12 {
        let (runtime, _peer, address) = Interposed::new(runtime.clone());
        let exporter = exporter(runtime, address);
        let driver = exporter.driver();
        let driver = async {
            driver.await;
            0
        };
        let (delivered, _) = other_of(dropped_at(polls, driver), fly(exporter, 3)).await;
        assert_eq!(delivered, 6, "driver dropped at {polls}");
    }
}

/// What a flight delivers.
async fn verdicts(mut flight: Flight<Manual>) -> u64 {
    let mut delivered = 0;
    while !flight.is_empty() {
        delivered += next(&mut flight).await.expect("nothing fails here").delivered();
    }
    delivered
}

#[test]
fn a_flight_without_exports_sleeps_until_somebody_needs_it() {
    let runtime = Manual::new();
    let exporter = stories::exporter(&runtime, RetryPolicy::never());
    let mut flight = Flight::new(&exporter);
    let mut idle = Task::new(poll_fn(move |cx| flight.poll(cx).map(|_| ())));
    assert!(idle.poll().is_pending());
    assert!(!idle.was_woken(), "nothing has happened");
    // It is the driver: it is woken for an export of somebody else, and moves it.
    let mut export = Task::new(exporter.export(batch(0, 3)));
    assert!(idle.was_woken());
    let mut wakes = 0;
    while !export.was_woken() {
        assert!(idle.poll().is_pending());
        runtime.step();
        if wakes == 0 {
            assert!(export.poll().is_pending());
        }
        wakes += 1;
        assert!(wakes < 20, "it moves nothing");
    }
    let Poll::Ready(verdict) = export.poll() else {
        panic!("it was woken for its verdict")
    };
    assert_eq!(verdict.expect("delivered").delivered(), 3);
}

#[test]
fn a_flight_that_stands_still_is_passed_over() {
    let runtime = Manual::new();
    let exporter = stories::exporter(&runtime, RetryPolicy::never());
    let mut flight = Flight::new(&exporter);
    flight.submit(batch(10, 2), None);
    let mut flight = Task::new(verdicts(flight));
    let mut export = Task::new(exporter.export(batch(0, 3)));
    assert!(flight.poll().is_pending() && export.poll().is_pending());
    for _ in 0..20 {
        runtime.step();
        let was_woken = flight.was_woken() | export.was_woken();
        assert!(was_woken, "the task sleeps and nothing will ever wake it");
        if let Poll::Ready(verdict) = export.poll() {
            assert_eq!(verdict.expect("delivered").delivered(), 3);
            // What others settled for it is there when it comes back.
            assert_eq!(stories::finish(&runtime, &mut flight), 2);
            return;
        }
    }
    panic!("the task is woken for nothing");
}

/// A verdict of its own is taken in the poll that finds it, and wakes nobody.
#[test]
fn a_flight_is_not_woken_for_what_it_finds_itself() {
    let runtime = Manual::new();
    let exporter = stories::exporter(&runtime, RetryPolicy::never());
    let mut flight = Flight::new(&exporter);
    for number in 0..3 {
        flight.submit(batch(10 * number, 2), None);
    }
    let mut task = Task::new(verdicts(flight));
    assert!(task.poll().is_pending());
    // The answers come in the middle of a poll, all of them.
    runtime.arrive_in_gap();
    let mut polls = 0;
    let delivered = loop {
        let _ = task.was_woken();
        match task.poll() {
            Poll::Ready(delivered) => break delivered,
            Poll::Pending => runtime.step(),
        }
        polls += 1;
        assert!(polls < 20 && task.was_woken(), "nothing wakes it, or all does");
    };
    assert_eq!(delivered, 6);
    assert!(!task.was_woken(), "it has all its verdicts");
}

/// Ended without being polled, as the drop of its owner has to.
#[test]
fn what_is_cancelled_gives_its_verdict_at_once() {
    let runtime = Manual::new();
    let exporter = stories::exporter(&runtime, RetryPolicy::never());
    let mut flight = Flight::new(&exporter);
    let early = flight.submit(batch(0, 2), Some(Managed::default()));
    let _ = Task::new(poll_fn(|cx| flight.poll(cx).map(|_| ()))).poll();
    let late = flight.submit(batch(2, 3), Some(Managed::default()));
    let own = flight.submit(batch(5, 1), None);
    for (id, items, unanswered) in [(early, 2, true), (late, 3, true)] {
        let error = flight
            .cancel(id)
            .expect("it was not taken")
            .expect_err("cancelled");
        assert!(error.is_cancelled(), "{error}");
        let left = error.remainder().expect("all of it");
        assert_eq!(
            (left.items(), left.unanswered, error.counts().total()),
            (items, unanswered, 0)
        );
        assert!(flight.cancel(id).is_none(), "once");
    }
    assert_eq!(flight.len(), 1);
    let error = flight
        .cancel(own)
        .expect("it was not taken")
        .expect_err("cancelled");
    assert!(error.remainder().is_none());
    assert_eq!(error.counts().total(), 1);
    assert!(flight.is_empty());
    let stats = exporter.stats();
    assert_eq!((stats.accepted, stats.exports_in_flight), (1, 0), "{stats:?}");
}
