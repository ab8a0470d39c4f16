//! Actors over sockets, on each kind of runtime, and threads that wait for them.

#[path = "support/batches.rs"]
#[allow(dead_code)]
mod batches;

use batches::batch;
use otlp_embed::endpoint::Target;
use otlp_embed::pipeline::{ActorConfig, ActorStats, ExporterActor, ExporterHandle};
use otlp_embed::policy::RetryPolicy;
use otlp_embed::rt::{Blocking, Resolve, Runtime, Smol, Tokio};
use otlp_embed::testing::{Answer, Collector, Network};
use otlp_embed::time::Instant;
use otlp_embed::{Config, Exporter, Protocol};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

fn actor<R: Runtime>(
    collector: &Collector,
    runtime: R,
    config: ActorConfig,
) -> (ExporterHandle, ExporterActor<R>) {
    let exporter: Exporter<R> = Config::new()
        .with_protocol(Protocol::Grpc)
        .with_endpoint(collector.endpoint())
        .build(runtime)
        .expect("it works");
    ExporterActor::new(&exporter, config).expect("it works")
}

/// A small mailbox, so that threads wait for room as well.
fn small() -> ActorConfig {
    ActorConfig::new().with_mailbox(2).with_concurrency_max(2)
}

/// Threads that wait for their own answers, and tasks of an executor that knows no reactor.
fn crowd(handle: &ExporterHandle) {
    let threads: Vec<_> = (0..4)
        .map(|thread: u64| {
            let handle = handle.clone();
            thread::spawn(move || {
                for number in 0..10 {
                    let first = (thread * 10 + number) * 10;
                    let outcome = match number % 2 {
                        0 => handle.export_blocking(batch(first, number + 1), MINUTE),
                        _ => futures_executor::block_on(handle.export(batch(first, number + 1))),
                    };
                    assert_eq!(outcome.expect("delivered").delivered(), number + 1);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
    futures_executor::block_on(handle.flush()).expect("flushed");
}

fn check(stats: &ActorStats, collector: &Collector) {
    assert_eq!(
        (stats.export_count, stats.error_count, stats.items_exported),
        (40, 0, 220),
        "{stats}"
    );
    assert_eq!(stats.messages_processed, 41);
    assert_eq!(collector.counters().spans_accepted, 220);
    assert_eq!(collector.connections().len(), 1);
}

#[test]
fn on_a_plain_thread() {
    let collector = Collector::start().expect("a socket");
    let (handle, actor) = actor(&collector, Blocking::new().expect("it works"), small());
    let actor = thread::spawn(|| futures_executor::block_on(actor.run()));
    crowd(&handle);
    drop(handle);
    check(&actor.join().expect("no panic"), &collector);
}

#[test]
fn on_tokio() {
    let collector = Collector::start().expect("a socket");
    let runtime = tokio::runtime::Runtime::new().expect("it works");
    let tokio = Tokio::with_handle(runtime.handle().clone()).expect("it works");
    let (handle, actor) = actor(&collector, tokio, small());
    let actor = runtime.spawn(actor.run());
    crowd(&handle);
    let stats = runtime.block_on(handle.shutdown(MINUTE));
    check(&stats, &collector);
    assert_eq!(runtime.block_on(actor).expect("no panic"), stats);
}

#[test]
fn on_smol() {
    let collector = Collector::start().expect("a socket");
    let (handle, actor) = actor(&collector, Smol::new(), small());
    let actor = smol::spawn(actor.run());
    crowd(&handle);
    drop(handle);
    check(&smol::block_on(actor), &collector);
}

/// The runtime that an actor lives on ends under those who wait: on threads, for answers and for room.
#[test]
fn a_runtime_that_is_gone_leaves_no_one_waiting() {
    let collector = Collector::start().expect("a socket");
    collector.answer(Answer::Never);
    let runtime = tokio::runtime::Runtime::new().expect("it works");
    let tokio = Tokio::with_handle(runtime.handle().clone()).expect("it works");
    let (handle, actor) = actor(&collector, tokio, small());
    runtime.spawn(actor.run());
    let threads: Vec<_> = (0..8)
        .map(|number| {
            let handle = handle.clone();
            thread::spawn(move || handle.export_blocking(batch(number * 10, 1), MINUTE))
        })
        .collect();
    while collector.counters().requests < 2 || handle.stats().queued < 2 {
        thread::yield_now();
    }
    runtime.shutdown_background();
    for thread in threads {
        let error = thread.join().expect("no panic").expect_err("the actor is gone");
        assert!(
            error.is_shutdown() || error.is_cancelled() || error.is_runtime_gone(),
            "{error:?}"
        );
    }
    let stats = handle.stats();
    assert_eq!((stats.export_count, stats.error_count), (4, 4), "{stats}");
    assert!(handle.is_closed());
    let late = handle
        .export_blocking(batch(0, 1), MINUTE)
        .expect_err("it is gone");
    assert!(late.is_shutdown(), "{late}");
}

/// An actor that nobody runs: whoever blocks does so no longer than told, and learns whether anything was sent.
#[test]
fn a_thread_waits_no_longer_than_it_may() {
    let collector = Collector::start().expect("a socket");
    let (handle, actor) = actor(&collector, Smol::new(), small().with_mailbox(1));
    let milli = Duration::from_millis(1);
    let error = handle
        .export_blocking(batch(0, 3), milli)
        .expect_err("nobody exports");
    assert!(
        error.is_timeout() && error.to_string().contains("goes on"),
        "{error}"
    );
    let error = handle
        .export_blocking(batch(10, 4), milli)
        .expect_err("there is no room");
    assert!(
        error.is_timeout() && error.to_string().contains("nothing was sent"),
        "{error}"
    );
    // What was sent is exported all the same.
    drop(handle);
    let stats = smol::block_on(actor);
    assert_eq!((stats.items_exported, stats.answers_dropped), (3, 1));
    assert_eq!(collector.counters().spans_accepted, 3);
}

/// A panic in a source of credentials costs one export, and never the actor.
#[test]
fn a_panic_in_a_credential_source_costs_one_export() {
    let network = Network::new(1);
    let collector = network.collector();
    let is_well = Arc::new(AtomicBool::new(false));
    let seen = is_well.clone();
    let exporter = Config::new()
        .with_protocol(Protocol::Grpc)
        .with_endpoint(collector.endpoint())
        .with_retry_policy(RetryPolicy::never())
        .with_credentials(move || -> String {
            assert!(seen.load(Ordering::SeqCst), "the source's own");
            "token".into()
        })
        .build(network.clone())
        .expect("it works");
    let (handle, actor) = ExporterActor::new(&exporter, ActorConfig::new()).expect("it works");
    network.spawn(actor);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let result = network.block_on(handle.export(batch(0, 1)));
    std::panic::set_hook(hook);
    let error = result.expect_err("no credentials");
    assert!(error.is_credentials(), "{error}");
    is_well.store(true, Ordering::SeqCst);
    let outcome = network.block_on(handle.export(batch(1, 1)));
    assert_eq!(outcome.expect("the actor works on").delivered(), 1);
    assert_eq!((handle.stats().error_count, handle.stats().export_count), (1, 2));
}

/// A runtime whose clock panics when it is told to.
#[derive(Clone)]
struct Faulty(Network, Arc<AtomicBool>);

impl Runtime for Faulty {
    type Io = <Network as Runtime>::Io;
    type Timer = <Network as Runtime>::Timer;
    type Connecting = <Network as Runtime>::Connecting;
    type Resolving = <Network as Runtime>::Resolving;

    fn now(&self) -> Instant {
        // Once: what cleans up after a panic has to go on.
        assert!(!self.1.swap(false, Ordering::SeqCst), "the clock's own");
        self.0.now()
    }

    fn connect(&self, target: &Target) -> Self::Connecting {
        self.0.connect(target)
    }

    fn resolve(&self, query: Resolve) -> Self::Resolving {
        self.0.resolve(query)
    }

    fn timer(&self) -> Self::Timer {
        self.0.timer()
    }
}

/// A panic under the actor itself ends it, whether or not anybody drops what is left of it.
#[test]
fn a_panic_under_the_actor_is_an_error_to_all() {
    let network = Network::new(1);
    let collector = network.collector();
    collector.answer(Answer::Never);
    let must_panic = Arc::new(AtomicBool::new(false));
    let (handle, mut actor) = {
        let exporter = Config::new()
            .with_endpoint(collector.endpoint())
            .build(Faulty(network.clone(), must_panic.clone()))
            .expect("it works");
        ExporterActor::new(&exporter, ActorConfig::new().with_concurrency_max(1)).expect("it works")
    };
    let mut cx = Context::from_waker(Waker::noop());
    let mut answers: Vec<_> = (0..3)
        .map(|id| handle.try_export(batch(id, 1)).expect("room"))
        .collect();
    assert!(Pin::new(&mut actor).poll(&mut cx).is_pending());
    let mut flush = handle.flush();
    assert!(Pin::new(&mut flush).poll(&mut cx).is_pending());
    must_panic.store(true, Ordering::SeqCst);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut actor).poll(&mut cx)));
    std::panic::set_hook(hook);
    polled.expect_err("its panic goes on");
    // The actor is still there, and nobody waits for it.
    for answer in &mut answers {
        assert!(matches!(Pin::new(answer).poll(&mut cx), Poll::Ready(Err(_))));
    }
    assert!(matches!(Pin::new(&mut flush).poll(&mut cx), Poll::Ready(Err(_))));
    assert!(
        handle
            .try_export(batch(9, 1))
            .err()
            .expect("it is dead")
            .is_closed()
    );
    let Poll::Ready(stats) = Pin::new(&mut actor).poll(&mut cx) else {
        panic!("it is over");
    };
    assert_eq!((stats.error_count, stats.in_flight, stats.queued), (3, 0, 0));
}
