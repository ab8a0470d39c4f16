//! Many exports of one owner over real sockets: whatever ends them, each verdict comes once.

#[path = "support/batches.rs"]
#[allow(dead_code, reason = "not every batch is needed here")]
mod batches;

use batches::batch;
use otlp_embed::export::{ExportId, Flight, Managed};
use otlp_embed::policy::RetryPolicy;
use otlp_embed::rt::{Blocking, Runtime, Tokio};
use otlp_embed::testing::{Answer, Collector};
use otlp_embed::{Config, DropReason, Error, Exporter, Outcome};
use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

const MANAGED: Option<Managed> = Some(Managed {
    unanswered: false,
    is_single: false,
});

fn config(collector: &Collector) -> Config {
    Config::new()
        .with_protocol(otlp_embed::Protocol::Grpc)
        .with_endpoint(collector.endpoint())
}

fn blocking(config: Config) -> Exporter<Blocking> {
    let runtime = Blocking::new().expect("a reactor");
    config.build(runtime).expect("the configuration works")
}

fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it blocks"),
    }
}

async fn next<R: Runtime>(flight: &mut Flight<R>) -> (ExportId, Result<Outcome, Error>) {
    let runtime = flight.runtime().expect("the process did not change").clone();
    poll_fn(|cx| runtime.drive(cx, |cx| flight.poll(cx))).await
}

/// The items that came back.
fn left(verdict: Result<Outcome, Error>) -> u64 {
    let error = verdict.expect_err("it failed");
    error.remainder().map_or(0, |left| left.items())
}

#[test]
fn a_thousand_exports_share_one_connection_and_each_has_its_verdict() {
    let collector = Collector::start().expect("a collector");
    let exporter = blocking(config(&collector));
    let mut flight = Flight::new(&exporter);
    let mut awaited = BTreeSet::new();
    for number in 0..1_000 {
        awaited.insert(flight.submit(batch(2 * number, 2), MANAGED));
    }
    assert_eq!((flight.len(), awaited.len()), (1_000, 1_000));
    while !flight.is_empty() {
        let (id, verdict) = ready(next(&mut flight));
        assert_eq!(verdict.expect("accepted").delivered(), 2);
        assert!(awaited.remove(&id), "one verdict an export");
    }
    assert!(awaited.is_empty());
    assert_eq!(collector.counters().spans, 2_000);
    let stats = exporter.stats();
    assert_eq!((stats.connections, stats.accepted), (1, 0), "{stats:?}");
}

#[test]
fn a_shutdown_gives_every_export_back() {
    let collector = Collector::builder()
        .answer(Answer::Never)
        .start()
        .expect("a collector");
    let exporter = blocking(config(&collector));
    let mut flight = Flight::new(&exporter);
    for number in 0..3 {
        flight.submit(batch(number, 1), MANAGED);
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            collector
                .wait_for_requests(3, Duration::from_secs(10))
                .expect("they arrive");
            exporter.shutdown(Duration::ZERO).wait();
        });
        for _ in 0..3 {
            let (_, verdict) = ready(next(&mut flight));
            let error = verdict.expect_err("nobody answered");
            assert!(error.is_shutdown(), "{error}");
            let remainder = error.remainder().expect("all of it");
            assert!(remainder.unanswered && remainder.items() == 1, "{error}");
        }
    });
    // And what comes after it.
    for _ in 0..2 {
        let late = flight.submit(batch(9, 4), MANAGED);
        let (id, verdict) = ready(next(&mut flight));
        assert_eq!(id, late);
        let error = verdict.as_ref().expect_err("too late");
        assert!(error.is_shutdown() && error.counts().total() == 0, "{error}");
        assert_eq!(left(verdict), 4);
    }
    let own = flight.submit(batch(9, 4), None);
    let (id, verdict) = ready(next(&mut flight));
    assert_eq!(id, own);
    let error = verdict.expect_err("too late");
    assert_eq!(
        (error.drop_reason(), error.counts().dropped),
        (Some(DropReason::Shutdown), 4)
    );
}

#[test]
fn a_runtime_that_is_gone_gives_every_export_back() {
    let collector = Collector::builder()
        .answer(Answer::Never)
        .start()
        .expect("a collector");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let tokio = Tokio::with_handle(runtime.handle().clone()).expect("it has timers");
    let exporter = config(&collector).build(tokio).expect("the configuration works");
    let mut flight = Flight::new(&exporter);
    for number in 0..3 {
        flight.submit(batch(number, 1), MANAGED);
    }
    runtime.block_on(async {
        // It is on its way before the runtime goes.
        let mut polled = std::pin::pin!(next(&mut flight));
        poll_fn(|cx| {
            assert!(polled.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
    });
    drop(runtime);
    let cx = &mut Context::from_waker(Waker::noop());
    for _ in 0..3 {
        let Poll::Ready((_, verdict)) = flight.poll(cx) else {
            panic!("nothing else will ever happen");
        };
        assert!(
            verdict.as_ref().expect_err("it failed").is_runtime_gone(),
            "{verdict:?}"
        );
        assert_eq!(left(verdict), 1);
    }
    flight.submit(batch(9, 4), MANAGED);
    let Poll::Ready((_, verdict)) = flight.poll(cx) else {
        panic!("nothing else will ever happen");
    };
    assert!(
        verdict.as_ref().expect_err("it failed").is_runtime_gone(),
        "{verdict:?}"
    );
    assert_eq!(left(verdict), 4);
}

/// The source asks the very exporter that asks it.
#[test]
fn credentials_are_asked_for_with_nothing_locked() {
    let collector = Collector::start().expect("a collector");
    let known: Arc<OnceLock<Exporter<Blocking>>> = Arc::default();
    let asked = Arc::new(AtomicUsize::new(0));
    let (source, count) = (known.clone(), asked.clone());
    let config = config(&collector).with_credentials(move || {
        count.fetch_add(1, Ordering::Relaxed);
        let stats = source.get().map(|exporter| exporter.stats().exports_in_flight);
        format!("token{stats:?}")
    });
    let exporter = blocking(config);
    assert!(known.set(exporter.clone()).is_ok());
    let mut flight = Flight::new(&exporter);
    for number in 0..5 {
        flight.submit(batch(number, 1), MANAGED);
    }
    while !flight.is_empty() {
        let (_, verdict) = ready(next(&mut flight));
        assert_eq!(verdict.expect("accepted").delivered(), 1);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 5);
}

#[test]
fn a_source_of_credentials_that_panics_costs_its_exports_alone() {
    let collector = Collector::start().expect("a collector");
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let config = config(&collector)
        .with_retry_policy(RetryPolicy::never())
        .with_credentials(move || match count.fetch_add(1, Ordering::Relaxed) {
            0 => panic!("a source of credentials that panics"),
            _ => String::from("fine"),
        });
    let exporter = blocking(config);
    let mut flight = Flight::new(&exporter);
    for number in 0..3 {
        flight.submit(batch(number, 1), MANAGED);
    }
    let mut delivered = 0;
    let mut failed = 0;
    while !flight.is_empty() {
        match ready(next(&mut flight)).1 {
            Ok(outcome) => delivered += outcome.delivered(),
            Err(error) => {
                assert!(error.is_credentials(), "{error}");
                failed += 1;
            }
        }
    }
    assert_eq!((delivered, failed), (2, 1));
}

#[test]
fn a_dropped_flight_leaves_nothing_behind() {
    let collector = Collector::builder()
        .answer(Answer::Never)
        .start()
        .expect("a collector");
    let exporter = blocking(config(&collector));
    {
        let mut flight = Flight::new(&exporter);
        for number in 0..4 {
            flight.submit(batch(number, 1), MANAGED);
            flight.submit(batch(10 + number, 1), None);
        }
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(flight.poll(cx).is_pending());
    }
    let stats = exporter.stats();
    assert_eq!(
        (stats.exports_in_flight, stats.bytes_in_flight),
        (0, 0),
        "{stats:?}"
    );
    assert_eq!((stats.accepted, stats.in_flight), (4, 0), "{stats:?}");
    assert!(stats.is_conserved());
    collector.answer(Answer::Ok);
    let outcome = exporter
        .export(batch(20, 2))
        .wait()
        .expect("the exporter goes on");
    assert_eq!(outcome.delivered(), 2);
}

/// The collector takes one call at a time: the first is on its way, and the others wait for it.
fn one_at_a_time() -> (Collector, Exporter<Blocking>, Flight<Blocking>) {
    let builder = Collector::builder().max_concurrent_streams(1);
    let collector = builder.start().expect("a collector");
    let exporter = blocking(config(&collector));
    // The collector has said what it takes.
    exporter.export(batch(0, 1)).wait().expect("accepted");
    collector.answer(Answer::Never);
    let mut flight = Flight::new(&exporter);
    for number in 1..6 {
        flight.submit(batch(number, 1), MANAGED);
    }
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(flight.poll(cx).is_pending());
    collector
        .wait_for_requests(2, Duration::from_secs(10))
        .expect("it arrives");
    (collector, exporter, flight)
}

#[test]
fn none_begins_in_the_place_of_another_that_is_cancelled() {
    let (collector, exporter, mut flight) = one_at_a_time();
    let verdicts = flight.cancel_all();
    let newest_first: Vec<ExportId> = verdicts.iter().map(|(id, _)| *id).collect();
    assert!(newest_first.is_sorted_by(|one, other| one > other) && newest_first.len() == 5);
    let unanswered = |verdict: Result<Outcome, Error>| {
        let error = verdict.expect_err("cancelled");
        error.remainder().expect("all of it").unanswered
    };
    let unanswered: Vec<bool> = verdicts
        .into_iter()
        .map(|(_, verdict)| unanswered(verdict))
        .collect();
    assert_eq!(unanswered, [false, false, false, false, true]);
    assert!(flight.is_empty());
    drop(flight);
    collector.answer(Answer::Ok);
    exporter
        .export(batch(20, 1))
        .wait()
        .expect("the exporter goes on");
    assert_eq!(collector.requests().len(), 3, "one of the flight's had arrived");

    let (collector, exporter, flight) = one_at_a_time();
    drop(flight);
    collector.answer(Answer::Ok);
    exporter
        .export(batch(20, 1))
        .wait()
        .expect("the exporter goes on");
    assert_eq!(collector.requests().len(), 3, "one of the flight's had arrived");
}

/// Each keeps going: a flight on one thread, plain exports on others, all on one exporter.
#[test]
fn threads_and_a_flight_share_an_exporter() {
    const THREADS: u64 = 4;
    const EXPORTS: u64 = 50;
    let collector = Collector::start().expect("a collector");
    let exporter = blocking(config(&collector));
    let start = Barrier::new(THREADS as usize + 1);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (exporter, start) = (&exporter, &start);
            scope.spawn(move || {
                start.wait();
                for number in 0..EXPORTS {
                    let request = batch(10_000 * (thread + 1) + number, 1);
                    exporter.export(request).wait().expect("accepted");
                }
            });
        }
        // Flights come and go in between; what they leave is exported again.
        start.wait();
        let mut delivered = 0;
        let mut number = 0;
        while delivered < EXPORTS {
            let mut flight = Flight::new(&exporter);
            for _ in 0..5 {
                flight.submit(batch(number, 1), MANAGED);
                number += 1;
            }
            for _ in 0..3 {
                delivered += ready(next(&mut flight)).1.expect("accepted").delivered();
            }
        }
    });
    let stats = exporter.stats();
    assert_eq!(stats.delivered, THREADS * EXPORTS, "{stats:?}");
    assert_eq!((stats.in_flight, stats.exports_in_flight), (0, 0), "{stats:?}");
}

/// The flight may be moved between threads with its owner, where its runtime may.
#[test]
fn a_flight_is_as_free_as_its_runtime() {
    fn is_send<T: Send + Unpin>() {}
    is_send::<Flight<Tokio>>();
    is_send::<Flight<Blocking>>();
}
