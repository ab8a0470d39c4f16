//! Many exporters share one `rt::Blocking`: whoever leads waits for the sockets of all.

#[path = "support/batches.rs"]
#[allow(dead_code, reason = "not every batch is needed here")]
mod batches;

use batches::batch;
use otlp_embed::rt::Blocking;
use otlp_embed::testing::{Answer, Collector};
use otlp_embed::{Config, Exporter};
use std::time::Duration;

const EXPORTERS: u64 = 12;

/// Each exporter has a connection of its own, and their answers come late and at about the same time: the leader watches
/// a dozen sockets, sees several become ready and wakes the thread of each.
#[test]
fn a_leader_serves_every_exporter_of_its_runtime() {
    let collector = Collector::start().expect("a collector");
    let runtime = Blocking::new().expect("a reactor");
    let exporters: Vec<Exporter<Blocking>> = (0..EXPORTERS)
        .map(|_| {
            let config = Config::new()
                .with_protocol(otlp_embed::Protocol::Grpc)
                .with_endpoint(collector.endpoint())
                .with_timeout(Duration::from_secs(20));
            config.build(runtime.clone()).expect("the configuration works")
        })
        .collect();
    for round in 1..=3 {
        collector.answer(Answer::Ok.after(Duration::from_millis(100)));
        std::thread::scope(|scope| {
            for (number, exporter) in exporters.iter().enumerate() {
                scope.spawn(move || {
                    let outcome = exporter.export(batch(number as u64 * 10, 10)).wait();
                    assert_eq!(outcome.expect("delivered").delivered(), 10);
                });
            }
        });
        let counters = collector.counters();
        assert_eq!(counters.connections, EXPORTERS);
        assert_eq!(counters.spans_accepted, round * EXPORTERS * 10);
    }
    for exporter in &exporters {
        let stats = exporter.stats();
        assert!(stats.is_conserved(), "{stats:?}");
        assert_eq!((stats.delivered, stats.retries, stats.connections), (30, 0, 1));
    }
}
