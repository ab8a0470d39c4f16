//! No event is lost between a look at a socket and the return of `Pending`, and no future takes another's along.

#[path = "../conformance/adapters.rs"]
#[allow(dead_code, reason = "those that these stories say nothing new about")]
mod adapters;
#[path = "../support/batches.rs"]
mod batches;
#[path = "../../examples/support/executor.rs"]
mod executor;
mod flights;
mod in_memory;
#[path = "../support/interposed.rs"]
mod interposed;
mod manual;
mod stories;

use batches::batch;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use flights::{
    a_flight_goes_on_without_a_dropped_export, a_flight_goes_on_without_another,
    a_flight_settles_all_of_its_exports, a_flight_takes_over_from_a_dropped_driver,
    an_export_takes_over_from_a_dropped_flight,
};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use interposed::Interposed;
use otlp_embed::policy::RetryPolicy;
use otlp_embed::rt::Runtime;
use otlp_embed::{Config, Exporter};
use std::time::Duration;

fn exporter<R: Runtime>(runtime: Interposed<R>, address: core::net::SocketAddr) -> Exporter<Interposed<R>> {
    // A lost event shows as a deadline; nothing is tried twice.
    let config = Config::new()
        .with_protocol(otlp_embed::Protocol::Grpc)
        .with_endpoint(format!("http://{address}"))
        .with_timeout(Duration::from_secs(5))
        .with_retry_policy(RetryPolicy::never());
    config.build(runtime).expect("the configuration works")
}

/// Every byte of the answers arrives in the gap.
pub async fn an_event_in_the_gap_is_never_lost<R: Runtime>(runtime: R) {
    let (runtime, peer, address) = Interposed::new(runtime);
    let exporter = exporter(runtime, address);
    for round in 0..5 {
        let outcome = exporter
            .export(batch(round * 3, 3))
            .await
            .unwrap_or_else(|e| panic!("round {round}: {e}"));
        assert_eq!(outcome.delivered(), 3);
    }
    let steps = peer.lock().expect("no step panics").steps;
    assert!(steps > 20, "the answers came in {steps} steps");
}

/// A future that is dropped at its poll number `left`.
struct DroppedAt<F> {
    future: Option<Pin<Box<F>>>,
    left: usize,
}

impl<F: Future> Future for DroppedAt<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(future) = this.future.as_mut().filter(|_| this.left > 0) else {
            this.future = None;
            return Poll::Ready(None);
        };
        this.left -= 1;
        let output = future.as_mut().poll(cx);
        if output.is_ready() {
            this.future = None;
        }
        output.map(Some)
    }
}

fn dropped_at<F: Future>(left: usize, future: F) -> DroppedAt<F> {
    DroppedAt {
        future: Some(Box::pin(future)),
        left,
    }
}

/// Two exports, each woken by its own waker alone; one is dropped at each of its polls in turn.
pub async fn the_other_export_always_completes<R: Runtime>(runtime: R) {
    for polls in 0.. {
        let (runtime, _peer, address) = Interposed::new(runtime.clone());
        let exporter = exporter(runtime, address);
        let mut exports: FuturesUnordered<_> = [
            dropped_at(polls, exporter.export(batch(0, 3))),
            dropped_at(usize::MAX, exporter.export(batch(3, 3))),
        ]
        .into_iter()
        .collect();
        let mut delivered = 0;
        while let Some(verdict) = exports.next().await {
            if let Some(verdict) = verdict {
                delivered += verdict
                    .unwrap_or_else(|e| panic!("dropped at {polls}: {e}"))
                    .delivered();
            }
        }
        let stats = exporter.stats();
        assert!(stats.is_conserved() && stats.in_flight == 0, "{stats:?}");
        assert_eq!(stats.accepted, 6);
        assert!(delivered >= 3, "dropped at {polls}: the other completes");
        if delivered == 6 {
            assert!(polls > 0, "a future that is never polled is never delivered");
            return;
        }
    }
}

/// The driver is dropped at each of its polls in turn, while an export sleeps that only its verdict would wake.
pub async fn exports_take_over_from_a_dropped_driver<R: Runtime>(runtime: R) {
    for polls in 0..12 {
        let (runtime, _peer, address) = Interposed::new(runtime.clone());
        let exporter = exporter(runtime, address);
        let driver = exporter.driver();
        let mut tasks: FuturesUnordered<Pin<Box<dyn Future<Output = bool>>>> = FuturesUnordered::new();
        tasks.push(Box::pin(async move { dropped_at(polls, driver).await.is_some() }));
        let export = exporter.export(batch(0, 3));
        tasks.push(Box::pin(async move {
            export.await.is_ok_and(|outcome| outcome.delivered() == 3)
        }));
        let first = tasks.next().await;
        let is_done = first == Some(true) || tasks.next().await == Some(true);
        assert!(is_done, "driver dropped at {polls}");
    }
}

macro_rules! over {
    ($($adapter:ident),+ => $scenarios:tt) => {
        $(over!(@adapter $adapter $scenarios);)+
    };
    (@adapter $adapter:ident [$($scenario:ident),+]) => {
        mod $adapter {
            $(
                #[test]
                fn $scenario() {
                    crate::adapters::$adapter(|runtime| crate::$scenario(runtime));
                }
            )+
        }
    };
}

over!(tokio_current_thread, tokio_two_workers, smol, smol_under_futures_executor, async_std, hand_written => [
    an_event_in_the_gap_is_never_lost,
    the_other_export_always_completes,
    exports_take_over_from_a_dropped_driver,
    a_flight_settles_all_of_its_exports,
    an_export_takes_over_from_a_dropped_flight,
    a_flight_goes_on_without_a_dropped_export,
    a_flight_goes_on_without_another,
    a_flight_takes_over_from_a_dropped_driver
]);

// Its futures are ready at their first poll, so none can be dropped between two.
over!(blocking => [an_event_in_the_gap_is_never_lost, a_flight_settles_all_of_its_exports]);

/// With one wake an event and no timer, a lost event is a future that sleeps for ever.
#[test]
fn one_wake_an_event_is_enough() {
    let config = Config::new()
        .with_protocol(otlp_embed::Protocol::Grpc)
        .with_endpoint("http://127.0.0.1:4317");
    let exporter = config
        .build(in_memory::InMemory::new())
        .expect("the configuration works");
    for round in 0..5 {
        let outcome = in_memory::run(exporter.export(batch(round, 1))).expect("delivered");
        assert_eq!(outcome.delivered(), 1);
    }
    let both = in_memory::run(futures_util::future::join(
        exporter.export(batch(5, 1)),
        exporter.export(batch(6, 1)),
    ));
    assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");
}
