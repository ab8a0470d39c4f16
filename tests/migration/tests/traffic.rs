//! The application tells a collector the same with either exporter, and with processors in the place of the SDK's.

#[path = "../after.rs"]
mod after;
#[path = "../before.rs"]
mod before;
#[path = "../with_processors.rs"]
mod with_processors;

use otlp_embed::pb::metrics::metric::Data;
use otlp_embed::testing::Collector;
use otlp_embed::testing::collector::{
    ReceivedLog, ReceivedMetric, ReceivedResource, ReceivedScope, ReceivedSpan,
};
use otlp_embed::{Protocol, Signal};
use std::error::Error;
use std::future::Future;
use std::sync::{Mutex, PoisonError};

/// The providers are those of the process.
static ALONE: Mutex<()> = Mutex::new(());

/// What a backend makes of the telemetry, times and ids left out, in an order that does not depend on batches.
#[derive(Debug, PartialEq)]
struct Arrived {
    spans: Vec<String>,
    logs: Vec<String>,
    metrics: Vec<String>,
    tenants: Vec<(Signal, String)>,
}

#[test]
fn over_grpc_the_same_arrives() {
    compare(Protocol::Grpc);
}

#[test]
fn over_http_the_same_arrives() {
    compare(Protocol::HttpProtobuf);
}

fn compare(protocol: Protocol) {
    let over_grpc = protocol == Protocol::Grpc;
    let before = arrived(protocol, |endpoint| {
        before::run(before::Arguments { endpoint, over_grpc })
    });
    let after = arrived(protocol, |endpoint| {
        after::run(after::Arguments { endpoint, over_grpc })
    });
    assert_eq!(before, after);
    let processed = arrived(protocol, |endpoint| {
        with_processors::run(with_processors::Arguments { endpoint, over_grpc })
    });
    assert_eq!(before, processed);
    assert_eq!(
        (before.spans.len(), before.logs.len(), before.metrics.len()),
        (2, 1, 3)
    );
    let (spans, logs, metrics) = (
        before.spans.concat(),
        before.logs.concat(),
        before.metrics.concat(),
    );
    for part in ["shop", "cart", "checkout", "sold out", "paid", "order"] {
        assert!(spans.contains(part), "{part} is missing in {spans}");
    }
    for part in ["shop", "stock", "nothing left", "Warn"] {
        assert!(logs.contains(part), "{part} is missing in {logs}");
    }
    for part in ["orders", "amount", "EUR", "web", "Delta", "Cumulative"] {
        assert!(metrics.contains(part), "{part} is missing in {metrics}");
    }
    assert_eq!(before.tenants.len(), 3, "{:?}", before.tenants);
    assert!(before.tenants.iter().all(|(_, tenant)| tenant == "acme"));
}

/// Runs the application, as its `main` would, and looks at what came.
fn arrived<F>(protocol: Protocol, run: impl FnOnce(String) -> F) -> Arrived
where
    F: Future<Output = Result<(), Box<dyn Error>>>,
{
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let collector = Collector::start().expect("a collector");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime
        .block_on(run(collector.endpoint()))
        .expect("the application ends well");
    let requests = collector.requests();
    assert!(requests.iter().all(|request| request.protocol == protocol));
    let mut arrived = Arrived {
        spans: collector.spans().into_iter().map(span).collect(),
        logs: collector.logs().into_iter().map(log).collect(),
        metrics: collector.metrics().into_iter().map(metric).collect(),
        tenants: requests
            .iter()
            .map(|request| {
                (
                    request.signal,
                    request.header("x-scope-orgid").unwrap_or_default().to_owned(),
                )
            })
            .collect(),
    };
    for items in [&mut arrived.spans, &mut arrived.logs, &mut arrived.metrics] {
        items.sort();
    }
    arrived.tenants.sort_by_key(|(signal, _)| format!("{signal:?}"));
    arrived
}

/// A span without what differs from run to run.
fn span(mut span: ReceivedSpan) -> String {
    assert!(span.start_unix_nanos <= span.end_unix_nanos && span.start_unix_nanos > 0);
    assert_eq!((span.trace_id.len(), span.span_id.len()), (16, 8));
    (span.start_unix_nanos, span.end_unix_nanos) = (0, 0);
    span.trace_id.clear();
    span.span_id.clear();
    for event in &mut span.events {
        assert!(event.unix_nanos > 0);
        event.unix_nanos = 0;
    }
    let source = source(&span.resource, &span.scope);
    span.resource = Default::default();
    (span.request, span.encoded_len) = (0, 0);
    format!("{source} {span:?}")
}

fn log(mut log: ReceivedLog) -> String {
    assert!(log.record.observed_time_unix_nano > 0);
    log.record.observed_time_unix_nano = 0;
    format!("{} {:?}", source(&log.resource, &log.scope), log.record)
}

fn metric(mut metric: ReceivedMetric) -> String {
    match metric.metric.data.as_mut().expect("data") {
        Data::Sum(sum) => {
            for point in &mut sum.data_points {
                assert!(point.start_time_unix_nano <= point.time_unix_nano);
                (point.start_time_unix_nano, point.time_unix_nano) = (0, 0);
            }
        }
        Data::Histogram(histogram) => {
            for point in &mut histogram.data_points {
                assert!(point.start_time_unix_nano <= point.time_unix_nano);
                (point.start_time_unix_nano, point.time_unix_nano) = (0, 0);
            }
        }
        other => panic!("the application makes no {other:?}"),
    }
    format!("{} {:?}", source(&metric.resource, &metric.scope), metric.metric)
}

/// What produced an item. Attributes of a resource have no order.
fn source(resource: &ReceivedResource, scope: &ReceivedScope) -> String {
    let mut resource = resource.clone();
    resource.attributes.sort_by(|(one, _), (other, _)| one.cmp(other));
    format!("{resource:?} {scope:?}")
}
