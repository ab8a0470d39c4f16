//! Code of the user's that runs within the poll of a pipeline's future, and writes into that pipeline: nobody but its own
//! thread could make room for it, so it never waits.

#[path = "support/pipeline.rs"]
mod support;

use otlp_embed::observe::{Event, EventKind};
use otlp_embed::pipeline::{Pipeline, Refusal};
use otlp_embed::testing::Network;
use otlp_embed::testing::collector::Accepting;
use otlp_embed::{Config, DropReason, Protocol};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use support::{SECOND, World, blocking, span, spans};

/// What the observer's writes came to.
type Written = Arc<Mutex<Vec<Result<(), Refusal>>>>;

/// An exporter whose observer does so with its pipeline whenever it hears of a connection that failed.
fn world(
    act: impl Fn(&Pipeline) -> Result<(), Refusal> + Send + Sync + 'static,
) -> (World, Arc<OnceLock<Pipeline>>, Written) {
    let network = Network::new(7);
    let collector = network.collector();
    collector.set_accepting(Accepting::Refuse);
    let (inner, written) = (Arc::new(OnceLock::<Pipeline>::new()), Written::default());
    let (writes_to, notes) = (inner.clone(), written.clone());
    let exporter = Config::new()
        .with_endpoint(collector.endpoint())
        .with_protocol(Protocol::Grpc)
        .with_observer(move |event: Event<'_>| {
            if event.kind() == EventKind::OutageBegan {
                let pipeline = writes_to.get().expect("it was made before anything failed");
                let result = act(pipeline);
                notes.lock().expect("no panic").push(result);
            }
        })
        .build(network.clone())
        .expect("a config that can work");
    let world = World {
        network,
        collector,
        exporter,
    };
    (world, inner, written)
}

/// Runs a test that would hang where it fails.
fn in_time(test: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        test();
        done.send(()).expect("the test waits");
    });
    match ended.recv_timeout(Duration::from_secs(60)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("the thread waits for itself"),
        Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => thread.join().expect("the test passes"),
    }
}

/// Fills a queue of four, and has the observer write while it is full; then everything but what the observer wrote arrives.
fn write_while_full(items: u64, act: impl Fn(&Pipeline) -> Result<(), Refusal> + Send + Sync + 'static) {
    let (world, inner, written) = world(act);
    let (pipeline, future) = world.exporter.pipeline(blocking(4)).expect("it works");
    inner.set(pipeline.clone()).expect("the first");
    pipeline.try_send(spans(0, 4)).expect("room");
    let running = world.network.spawn(future);
    world.network.block_on(async {
        world.network.clock().sleep(5 * SECOND).await;
        let refused = written.lock().expect("no panic").clone();
        assert!(!refused.is_empty(), "the observer was called");
        for result in &refused {
            let refusal = result.expect_err("the queue is full");
            assert!(refusal.is_full() && !refusal.is_timeout(), "{refusal}");
            assert_eq!(refusal.drop_reason(), Some(DropReason::QueueFull));
        }
        world.collector.set_accepting(Accepting::Serve);
        let report = pipeline.shutdown(60 * SECOND).await;
        running.await;
        let lost = items * refused.len() as u64;
        let stats = report.stats;
        assert_eq!((stats.accepted, stats.delivered), (4 + lost, 4), "{stats:?}");
        assert_eq!(stats.dropped[DropReason::QueueFull.index()], lost, "{stats:?}");
        assert_eq!(world.collector.spans().len(), 4);
    });
}

#[test]
fn a_span_that_an_observer_writes_is_refused_where_it_would_wait() {
    in_time(|| write_while_full(1, |pipeline| pipeline.spans(|batch| span(batch, 99))));
}

#[test]
fn a_request_that_an_observer_sends_is_refused_where_it_would_wait() {
    in_time(|| write_while_full(3, |pipeline| pipeline.send_blocking(spans(90, 3), Duration::MAX)));
}

#[test]
fn what_an_observer_writes_is_taken_where_there_is_room() {
    in_time(|| {
        let (world, inner, written) = world(|pipeline| {
            pipeline.spans(|batch| span(batch, 98))?;
            pipeline.send_blocking(spans(99, 1), Duration::MAX)
        });
        let (pipeline, future) = world.exporter.pipeline(blocking(1_000)).expect("it works");
        inner.set(pipeline.clone()).expect("the first");
        pipeline.try_send(spans(0, 4)).expect("room");
        let running = world.network.spawn(future);
        world.network.block_on(async {
            world.network.clock().sleep(5 * SECOND).await;
            world.collector.set_accepting(Accepting::Serve);
            let report = pipeline.shutdown(60 * SECOND).await;
            running.await;
            let calls = written.lock().expect("no panic").clone();
            assert!(!calls.is_empty() && calls.iter().all(Result::is_ok), "{calls:?}");
            assert_eq!(report.stats.delivered, 4 + 2 * calls.len() as u64, "{report}");
            assert_eq!(report.lost(), 0, "{report}");
        });
    });
}

#[test]
fn an_observer_does_not_overtake_who_waits_already() {
    in_time(|| {
        let (world, inner, written) = world(|pipeline| pipeline.spans(|batch| span(batch, 99)));
        let (pipeline, future) = world.exporter.pipeline(blocking(4)).expect("it works");
        inner.set(pipeline.clone()).expect("the first");
        pipeline.try_send(spans(0, 3)).expect("room");
        // Two do not fit, one would: it stands behind.
        let mut waits = Box::pin(pipeline.send(spans(10, 2)));
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(waits.as_mut().poll(cx).is_pending());
        let running = world.network.spawn(future);
        world.network.block_on(async {
            world.network.clock().sleep(5 * SECOND).await;
            let refused = written.lock().expect("no panic").clone();
            assert!(
                !refused.is_empty() && refused.iter().all(Result::is_err),
                "{refused:?}"
            );
            world.collector.set_accepting(Accepting::Serve);
            waits.await.expect("there is room now");
            let report = pipeline.shutdown(60 * SECOND).await;
            running.await;
            assert_eq!(report.stats.delivered, 5, "{report}");
            assert_eq!(report.lost(), refused.len() as u64, "{report}");
        });
    });
}

#[test]
fn an_observer_that_flushes_or_shuts_down_is_answered_at_once() {
    in_time(|| {
        let (world, inner, written) = world(|pipeline| {
            let flushed = pipeline.flush_blocking(Duration::MAX).expect("it has not ended");
            assert_eq!((flushed.pending, flushed.counts.delivered), (4, 0));
            let report = pipeline.shutdown_blocking(60 * SECOND);
            assert_eq!(report.stats.accepted, 4);
            pipeline.spans(|batch| span(batch, 99))
        });
        let (pipeline, future) = world.exporter.pipeline(blocking(4)).expect("it works");
        inner.set(pipeline.clone()).expect("the first");
        pipeline.try_send(spans(0, 4)).expect("room");
        let running = world.network.spawn(future);
        world.network.block_on(async {
            world.network.clock().sleep(5 * SECOND).await;
            world.collector.set_accepting(Accepting::Serve);
            let report = running.await;
            assert_eq!(report.stats.delivered, 4, "{report}");
            let refused = written.lock().expect("no panic").clone();
            assert!(!refused.is_empty(), "the observer was called");
            assert!(
                refused
                    .iter()
                    .all(|result| result.is_err_and(|refusal| refusal.is_closed()))
            );
        });
    });
}

#[test]
fn outside_the_poll_the_same_thread_waits() {
    in_time(|| {
        let (world, inner, _) = world(|_| Ok(()));
        let (pipeline, future) = world.exporter.pipeline(blocking(4)).expect("it works");
        inner.set(pipeline.clone()).expect("the first");
        pipeline.try_send(spans(0, 4)).expect("room");
        let mut future = Box::pin(future);
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(matches!(
            std::future::Future::poll(future.as_mut(), cx),
            Poll::Pending
        ));
        // Out of the poll, the very same thread would wait again: it is told apart by the poll, not by the thread.
        let refusal = pipeline.send_blocking(spans(90, 1), Duration::from_millis(1));
        assert!(refusal.is_err_and(|refusal| refusal.is_timeout() && refusal.drop_reason().is_none()));
        drop(future);
        assert!(
            pipeline
                .spans(|batch| span(batch, 99))
                .is_err_and(|refusal| refusal.is_closed())
        );
    });
}
