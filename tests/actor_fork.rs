//! A child of `fork(2)` has neither an actor nor a run: what it inherits of them answers at once and sends nothing.
#![cfg(unix)]

#[path = "support/batches.rs"]
#[allow(dead_code)]
mod batches;
#[path = "support/forked.rs"]
mod forked;
#[path = "support/sources.rs"]
#[allow(dead_code)]
mod sources;

use batches::batch;
use forked::forked;
use otlp_embed::pipeline::{ActorConfig, ActorStats, ExporterActor, StreamingConfig, StreamingOtlpExporter};
use otlp_embed::rt::Smol;
use otlp_embed::testing::Collector;
use otlp_embed::{Config, Exporter, Protocol};
use sources::Source;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

fn exporter(collector: &Collector) -> Exporter<Smol> {
    Config::new()
        .with_protocol(Protocol::Grpc)
        .with_endpoint(collector.endpoint())
        .build(Smol::new())
        .expect("it works")
}

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn a_child_of_an_actors_process_gets_errors_and_sends_nothing() {
    let collector = Collector::start().expect("a socket");
    // Nothing is answered before the child has come and gone.
    collector.pause();
    let exporter = exporter(&collector);
    let config = ActorConfig::new().with_mailbox(2).with_concurrency_max(1);
    let (handle, mut actor) = ExporterActor::new(&exporter, config).expect("it works");
    let mut in_flight = handle.try_export(batch(0, 1)).expect("room");
    assert!(poll(&mut actor).is_pending());
    let mut queued = handle.try_export(batch(10, 2)).expect("room");
    let mut flush = handle.flush();
    assert!(poll(&mut flush).is_pending());
    let mut waits = handle.export(batch(20, 4));
    assert!(poll(&mut waits).is_pending());
    let mut shutdown = Some(handle.clone());
    forked(|| {
        for answer in [
            &mut in_flight,
            &mut queued,
            &mut waits,
            &mut handle.export(batch(30, 8)),
        ] {
            let Poll::Ready(Err(error)) = poll(answer) else {
                panic!("it hangs");
            };
            assert!(
                error.is_shutdown() && error.to_string().contains("before a fork"),
                "{error}"
            );
        }
        assert!(matches!(poll(&mut flush), Poll::Ready(Err(_))));
        assert!(handle.is_closed());
        assert!(
            handle
                .try_export(batch(40, 1))
                .err()
                .expect("no actor")
                .is_closed()
        );
        let error = handle
            .export_blocking(batch(50, 1), Duration::from_secs(600))
            .expect_err("no actor");
        assert!(error.is_shutdown(), "{error}");
        let Poll::Ready(stats) = poll(&mut handle.shutdown(Duration::ZERO)) else {
            panic!("it hangs");
        };
        assert_eq!(stats, ActorStats::default());
        assert!(matches!(poll(&mut actor), Poll::Ready(stats) if stats == ActorStats::default()));
        let error = ExporterActor::new(&exporter, ActorConfig::new()).expect_err("the parent's exporter");
        assert!(error.to_string().contains("before a fork"), "{error}");
        drop(shutdown.take());
    });
    // The parent goes on as if nothing had been.
    collector.resume();
    let stats = smol::block_on(async {
        let actor = smol::spawn(actor);
        assert_eq!(in_flight.await.expect("delivered").delivered(), 1);
        assert_eq!(queued.await.expect("delivered").delivered(), 2);
        flush.await.expect("flushed");
        assert_eq!(waits.await.expect("delivered").delivered(), 4);
        drop((handle, shutdown));
        actor.await
    });
    assert_eq!(
        (stats.export_count, stats.error_count, stats.items_exported),
        (3, 0, 7)
    );
    assert_eq!(collector.counters().spans_accepted, 7);
    assert_eq!(collector.connections().len(), 1);
}

#[test]
fn a_child_of_a_runs_process_ends_it_and_sends_nothing() {
    let collector = Collector::start().expect("a socket");
    // Nothing is answered before the child has come and gone.
    collector.pause();
    let exporter = exporter(&collector);
    let streaming = StreamingOtlpExporter::new(&exporter, StreamingConfig::new()).expect("it works");
    let handle = streaming.handle();
    let source = Source::of([batch(0, 3)]);
    let mut run = Box::pin(streaming.run(source.stream()));
    assert!(poll(&mut run).is_pending());
    let polls = source.polls();
    forked(|| {
        source.push(batch(20, 5));
        let Poll::Ready(stats) = poll(&mut run) else {
            panic!("it hangs");
        };
        assert_eq!(
            (stats.total_taken, stats.total_exported, stats.total_failed),
            (3, 0, 3)
        );
        assert!(source.is_dropped() && handle.is_finished());
        assert_eq!(source.polls(), polls, "nothing more is taken");
        let error = StreamingOtlpExporter::new(&exporter, StreamingConfig::new()).expect_err("the parent's");
        assert!(error.to_string().contains("before a fork"), "{error}");
    });
    collector.resume();
    source.push(batch(10, 4));
    source.close();
    // The first was in the parent's hands all the time.
    let stats = smol::block_on(run);
    assert_eq!((stats.total_taken, stats.total_exported), (7, 7), "{stats}");
    assert_eq!(collector.counters().spans_accepted, 7);
}
