//! Pools of HTTP/1.1 connections over real sockets: concurrent exports share as many as are allowed (spec 8, 24).

#[path = "support/batches.rs"]
#[allow(dead_code, reason = "not every batch is needed here")]
mod batches;

use batches::batch;
use futures_util::future::join_all;
use otlp_embed::rt::{Blocking, Smol, Tokio};
use otlp_embed::testing::Collector;
use otlp_embed::{Config, Protocol};

const EXPORTS: u64 = 64;

fn config(collector: &Collector) -> Config {
    Config::new()
        .with_protocol(Protocol::HttpProtobuf)
        .with_endpoint(format!("http://{}", collector.addr()))
        .with_http1_connections(3)
}

fn check(collector: &Collector) {
    let counters = collector.counters();
    assert_eq!((counters.requests_accepted, counters.spans), (EXPORTS, EXPORTS));
    assert!(
        (1..=3).contains(&counters.connections),
        "{} connections",
        counters.connections
    );
}

#[test]
fn tokio_shares_its_pool() {
    let collector = Collector::start().expect("a collector");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let exporter = config(&collector)
            .build(Tokio::current().expect("a runtime"))
            .expect("the settings work");
        let tasks = (0..EXPORTS).map(|number| tokio::spawn(exporter.export(batch(number, 1))));
        for outcome in join_all(tasks).await {
            assert_eq!(outcome.expect("no panic").expect("delivered").attempts(), 1);
        }
    });
    check(&collector);
}

#[test]
fn smol_shares_its_pool() {
    let collector = Collector::start().expect("a collector");
    let exporter = config(&collector).build(Smol::new()).expect("the settings work");
    let outcomes = smol::block_on(join_all(
        (0..EXPORTS).map(|number| exporter.export(batch(number, 1))),
    ));
    for outcome in outcomes {
        assert_eq!(outcome.expect("delivered").attempts(), 1);
    }
    check(&collector);
}

#[test]
fn threads_share_their_pool() {
    let collector = Collector::start().expect("a collector");
    let exporter = config(&collector)
        .build(Blocking::new().expect("a reactor"))
        .expect("the settings work");
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let exporter = exporter.clone();
            scope.spawn(move || {
                for number in 0..EXPORTS / 8 {
                    let request = batch(thread * 100 + number, 1);
                    let outcome = exporter.export(request).wait().expect("delivered");
                    assert_eq!(outcome.attempts(), 1);
                }
            });
        }
    });
    check(&collector);
}
