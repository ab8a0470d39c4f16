//! Many tasks, or threads, on one exporter, whose collector fails now and then in every way.

use crate::batches::batch;
use crate::support::{balanced, build, not_once};
use crate::way::{LONG, Way};
use core::future::Future;
use core::pin::pin;
use core::task::{Context, Waker};
use core::time::Duration;
use otlp_embed::rt::{Blocking, Runtime, Tokio};
use otlp_embed::testing::{Answer, Collector};
use otlp_embed::{Compression, Exporter};
use std::sync::Arc;

const CALLERS: u64 = 8;
const EXPORTS: u64 = 30;
/// Spans of each export.
const SPANS: u64 = 3;

fn collector(way: Way) -> Collector {
    let collector = way.collector();
    collector.answer_with(|request| match request.index % 13 {
        2 => Answer::unavailable(),
        4 => Answer::Ok.after(Duration::from_millis(3)),
        6 => Answer::CloseConnection,
        8 => Answer::AbortConnection,
        10 => Answer::Drain(Box::new(Answer::Ok)),
        12 => Answer::Reset(7),
        _ => Answer::Ok,
    });
    collector
}

/// What one caller does: most exports are awaited, some are dropped at an early poll. Gives the spans that were delivered.
async fn exports<R: Runtime>(exporter: &Exporter<R>, caller: u64) -> Vec<u64> {
    let mut delivered = Vec::new();
    for round in 0..EXPORTS {
        let first = (caller * EXPORTS + round) * SPANS;
        let request = batch(first, SPANS).with_timeout(LONG);
        let mut export = pin!(exporter.export(request));
        if round % 7 == 3 {
            let poll = export.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            if poll.is_pending() {
                continue;
            }
        } else {
            let outcome = export.await.expect("every failure can be mended");
            assert_eq!(outcome.delivered(), SPANS);
            delivered.extend(first..first + SPANS);
        }
    }
    delivered
}

fn check<R: Runtime>(exporter: &Exporter<R>, collector: &Collector, delivered: &[u64]) {
    balanced(exporter);
    let stats = exporter.stats();
    assert_eq!(stats.accepted, CALLERS * EXPORTS * SPANS, "{stats:?}");
    assert!(stats.delivered >= delivered.len() as u64, "{stats:?}");
    let odd = not_once(collector, CALLERS * EXPORTS * SPANS);
    let missing = delivered.iter().filter(|span| odd.get(span) == Some(&0));
    assert_eq!(missing.count(), 0, "delivered, and not there: {stats:?}");
    let again: u64 = odd.values().map(|times| times.saturating_sub(1) as u64).sum();
    assert!(again > 0, "no answer was lost");
}

pub fn tasks(way: Way) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let collector = collector(way);
    let tokio = Tokio::with_handle(runtime.handle().clone()).expect("it has a time driver");
    let exporter = Arc::new(build(tokio, way.compressed(Compression::Gzip).config(&collector)));
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let exporter = exporter.clone();
            runtime.spawn(async move { exports(&exporter, caller).await })
        })
        .collect();
    let delivered: Vec<u64> = callers
        .into_iter()
        .flat_map(|caller| runtime.block_on(caller).expect("no caller panics"))
        .collect();
    check(&exporter, &collector, &delivered);
}

pub fn threads(way: Way) {
    let collector = collector(way);
    let exporter = build(Blocking::new().expect("a reactor"), way.config(&collector));
    let delivered: Vec<u64> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let exporter = &exporter;
                scope.spawn(move || futures_executor::block_on(exports(exporter, caller)))
            })
            .collect();
        callers
            .into_iter()
            .flat_map(|caller| caller.join().expect("no caller panics"))
            .collect()
    });
    check(&exporter, &collector, &delivered);
}
