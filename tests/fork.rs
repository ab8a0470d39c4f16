//! A child of `fork(2)` sends nothing of its parent's, and leaves the parent's connections alone.
#![cfg(unix)]

#[path = "support/batches.rs"]
#[allow(dead_code, reason = "not every batch is needed here")]
mod batches;
#[path = "support/forked.rs"]
mod forked;
#[path = "support/tls_world.rs"]
mod tls_world;

use batches::batch;
use forked::forked;
use otlp_embed::pipeline::{Overflow, Pipeline, PipelineConfig, QueueConfig};
use otlp_embed::rt::{Blocking, Smol, Tokio};
use otlp_embed::testing::{Answer, Collector};
use otlp_embed::{Config, DropReason, Exporter, OtlpExportFuture, Protocol, Tls, rt};
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

fn config(collector: &Collector, protocol: Protocol) -> Config {
    Config::new()
        .with_protocol(protocol)
        .with_endpoint(collector.endpoint())
}

fn assert_is_refused<R: rt::Runtime>(exporter: &Exporter<R>, export: OtlpExportFuture<R>, items: u64) {
    let mut export = pin!(export);
    let polled = export.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    let std::task::Poll::Ready(Err(error)) = polled else {
        panic!("an inherited export gave {polled:?}");
    };
    assert!(error.is_shutdown() && !error.is_retryable(), "{error}");
    assert_eq!(error.drop_reason(), Some(DropReason::Forked));
    assert_eq!(error.counts().dropped, items);
    assert!(error.to_string().contains("before a fork"), "{error}");
    let stats = exporter.stats();
    assert!(stats.is_conserved(), "{stats:?}");
}

#[test]
fn a_child_refuses_and_its_parent_goes_on() {
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let collector = Collector::start().expect("a collector");
        let exporter = config(&collector, protocol)
            .build(Blocking::new().expect("a runtime"))
            .expect("an exporter");
        exporter.export(batch(0, 2)).wait().expect("the parent's first");
        let (shared, given) = (&exporter, exporter.clone());
        forked(move || {
            let export = shared.export(batch(100, 3));
            assert_is_refused(shared, export, 3);
            assert_eq!(shared.stats().dropped_for(DropReason::Forked), 3);
            assert_eq!(shared.stats().delivered, 0, "that was the parent");
            assert!(format!("{shared:?}").contains("Forked"));
            let report = shared.shutdown(Duration::from_secs(5)).wait();
            assert_eq!(report.lost(), 3);
            given.driver().wait();
            drop(given);
        });
        exporter.export(batch(2, 2)).wait().expect("the parent's second");
        assert_eq!(collector.counters().spans, 4, "each once");
        assert_eq!(collector.connections().len(), 1, "the parent kept its connection");
    }
}

/// The child takes the last handle with it, sockets and all.
#[allow(unsafe_code, reason = "what the child drops, the parent goes on with")]
fn dropped_in_a_child<R: rt::Runtime>(exporter: &Exporter<R>) {
    forked(|| {
        // SAFETY: memory is the child's own; `exporter` is not used again in it, since it ends without unwinding.
        let last = unsafe { std::ptr::read(exporter) };
        drop(last);
    });
}

#[test]
fn a_child_that_drops_everything_leaves_the_parents_readiness_alone() {
    let collector = Collector::start().expect("a collector");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let exporter = runtime.block_on(async {
        let runtime = Tokio::current().expect("a runtime");
        let exporter = config(&collector, Protocol::Grpc)
            .build(runtime)
            .expect("an exporter");
        exporter.export(batch(0, 1)).await.expect("the first");
        exporter
    });
    dropped_in_a_child(&exporter);
    runtime.block_on(async { exporter.export(batch(1, 1)).await.expect("the second") });
    assert_eq!(collector.counters().spans, 2);
    assert_eq!(collector.connections().len(), 1);

    let exporter = config(&collector, Protocol::HttpProtobuf)
        .build(Smol::new())
        .expect("an exporter");
    smol::block_on(exporter.export(batch(2, 1))).expect("the first");
    dropped_in_a_child(&exporter);
    smol::block_on(exporter.export(batch(3, 1))).expect("the second");
    assert_eq!(collector.counters().spans, 4);
    assert_eq!(collector.connections().len(), 2);
}

#[test]
fn an_export_under_way_is_the_parents() {
    let collector = Collector::start().expect("a collector");
    collector.answer(Answer::Ok.after(Duration::from_millis(200)));
    let exporter = config(&collector, Protocol::Grpc)
        .build(Smol::new())
        .expect("an exporter");
    let mut export = Box::pin(exporter.export(batch(0, 5)));
    let mut driver = Box::pin(exporter.driver());
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(export.as_mut().poll(cx).is_pending());
    assert!(driver.as_mut().poll(cx).is_pending());
    forked(|| {
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(driver.as_mut().poll(cx).is_ready());
        let polled = export.as_mut().poll(cx);
        let std::task::Poll::Ready(Err(error)) = polled else {
            panic!("an inherited export gave {polled:?}");
        };
        assert_eq!(error.drop_reason(), Some(DropReason::Forked));
        assert_eq!(error.counts().dropped, 5);
        drop(std::mem::replace(
            &mut export,
            Box::pin(exporter.export(batch(5, 1))),
        ));
    });
    drop(driver);
    let outcome = smol::block_on(export).expect("the parent's export");
    assert_eq!((outcome.delivered(), outcome.attempts()), (5, 1));
    assert_eq!(collector.counters().spans, 5);
}

#[test]
fn a_child_waits_for_no_lock_that_another_thread_of_its_parent_held() {
    let collector = Collector::builder()
        .keep_requests(false)
        .start()
        .expect("a collector");
    let exporter = config(&collector, Protocol::HttpProtobuf)
        .build(Blocking::new().expect("a runtime"))
        .expect("an exporter");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (exporter, is_over) = (&exporter, &is_over);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    exporter.export(batch(thread, 1)).wait().expect("the parent's");
                }
            });
        }
        for _ in 0..100 {
            let mine = exporter.clone();
            forked(|| {
                assert_is_refused(&mine, mine.export(batch(9, 1)), 1);
                let _ = mine.shutdown(Duration::from_secs(60)).wait();
                let _ = format!("{mine:?}");
                drop(mine);
            });
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(exporter.stats().delivered, collector.counters().spans);
}

#[test]
fn a_child_exports_with_an_exporter_and_a_runtime_of_its_own() {
    let collector = Collector::start().expect("a collector");
    let runtime = Blocking::new().expect("a runtime");
    let parents = config(&collector, Protocol::HttpProtobuf)
        .build(runtime.clone())
        .expect("an exporter");
    parents.export(batch(0, 1)).wait().expect("the parent's");
    forked(|| {
        // The parent's runtime would wait for the parent's bell.
        let inherited = config(&collector, Protocol::HttpProtobuf).build(runtime.clone());
        let error = inherited
            .expect("an exporter")
            .export(batch(1, 1))
            .wait()
            .expect_err("a runtime of another process");
        assert!(error.to_string().contains("before a fork"), "{error}");
        let own = config(&collector, Protocol::HttpProtobuf).build(Blocking::new().expect("a runtime"));
        let outcome = own.expect("an exporter").export(batch(2, 3)).wait();
        assert_eq!(outcome.expect("the child's").delivered(), 3);
    });
    parents.export(batch(5, 1)).wait().expect("the parent's");
    assert_eq!(collector.counters().spans, 5);
}

#[test]
fn a_child_says_nothing_on_its_parents_tls_connection() {
    let authority = tls_world::Authority::new("ours");
    let server = tls_world::ServerTls::new(authority.server("127.0.0.1", |_| ()));
    let collector = Collector::builder()
        .with_tls(server.config())
        .start()
        .expect("a collector");
    let exporter = config(&collector, Protocol::HttpProtobuf)
        .with_tls(Tls::new().with_ca_pem(&authority.pem))
        .build(Blocking::new().expect("a runtime"))
        .expect("an exporter");
    exporter.export(batch(0, 1)).wait().expect("the first");
    dropped_in_a_child(&exporter);
    exporter.export(batch(1, 1)).wait().expect("the second");
    assert_eq!(collector.counters().spans, 2);
    assert_eq!(collector.connections().len(), 1);
}

fn write(pipeline: &Pipeline, id: u64) -> bool {
    let written = pipeline.spans(|batch| {
        batch.scope("suite", "1");
        batch
            .span([7; 16], (id + 1).to_be_bytes(), "work")
            .times(1..2)
            .end();
    });
    written.is_ok()
}

#[test]
fn what_a_parent_queued_is_sent_by_the_parent_alone() {
    let collector = Collector::start().expect("a collector");
    let exporter = config(&collector, Protocol::HttpProtobuf)
        .build(Blocking::new().expect("a runtime"))
        .expect("an exporter");
    let (pipeline, future) = exporter.pipeline(PipelineConfig::new()).expect("a pipeline");
    for id in 0..10 {
        assert!(write(&pipeline, id));
    }
    let mut future = Some(future);
    let inherited = &mut future;
    forked(|| {
        let limit = Duration::from_secs(60);
        let refused = pipeline.try_send(batch(100, 1)).expect_err("it is the parent's");
        assert!(refused.is_closed());
        assert!(pipeline.send_blocking(batch(100, 1), limit).is_err());
        assert!(smol::block_on(pipeline.send(batch(100, 1))).is_err());
        assert!(!write(&pipeline, 100), "it is known to be closed now");
        assert!(pipeline.flush_blocking(limit).is_err());
        let report = pipeline.shutdown_blocking(limit);
        assert_eq!((report.stats.accepted, report.stats.queued), (0, 0));
        assert_eq!(pipeline.stats().total.accepted, 0);
        assert!(pipeline.is_closed());
        let mut future = Box::pin(inherited.take().expect("a future"));
        let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_ready());
        drop((future, exporter.stats()));
    });
    let thread = future
        .take()
        .expect("a future")
        .run_on_thread()
        .expect("a thread");
    let report = pipeline
        .flush_blocking(Duration::from_secs(10))
        .expect("all of it");
    assert_eq!(report.counts.delivered, 10);
    drop(pipeline);
    thread.join().expect("the account");
    assert_eq!(collector.counters().spans, 10, "each once");
}

#[test]
fn a_child_that_only_writes_is_refused_soon_and_never_hangs() {
    let collector = Collector::builder()
        .keep_requests(false)
        .start()
        .expect("a collector");
    let exporter = config(&collector, Protocol::HttpProtobuf)
        .build(Blocking::new().expect("a runtime"))
        .expect("an exporter");
    let queue = QueueConfig::new()
        .with_items_max(2_000)
        .with_overflow(Overflow::Block);
    let (pipeline, future) = exporter
        .pipeline(PipelineConfig::new().with_queue(queue))
        .expect("a pipeline");
    let thread = future.run_on_thread().expect("a thread");
    let is_over = AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        let producers: Vec<_> = (0..2)
            .map(|_| {
                let (pipeline, is_over) = (pipeline.clone(), &is_over);
                scope.spawn(move || {
                    let writes =
                        (0..).take_while(|id| !is_over.load(Ordering::Relaxed) && write(&pipeline, *id));
                    writes.count() as u64
                })
            })
            .collect();
        for _ in 0..50 {
            let mine = pipeline.clone();
            forked(|| {
                let taken = (0..1_000).take_while(|id| write(&mine, *id)).count();
                assert!(taken < 32, "{taken} writes");
                drop(mine);
            });
        }
        is_over.store(true, Ordering::Relaxed);
        producers
            .into_iter()
            .map(|producer| producer.join().expect("no panic"))
            .sum::<u64>()
    });
    drop(pipeline);
    let report = thread.join().expect("the account");
    assert_eq!(report.stats.delivered, written);
    assert_eq!(collector.counters().spans, written, "each once, by the parent");
}
