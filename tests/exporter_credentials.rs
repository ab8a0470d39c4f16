//! Credentials, parts and sizes through real sockets: the source is asked with no lock held, and a refusal of its value or of a
//! size is answered within the same export.

use otlp_embed::testing::collector::ReceivedRequest;
use otlp_embed::testing::{Answer, Collector};
use otlp_embed::{
    Code, Compression, Config, Credentials, CredentialsError, Exporter, Protocol, Request, Resource,
    TraceBatch, rt,
};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

/// Each way that requests go.
const PROTOCOLS: [Protocol; 3] = [Protocol::Grpc, Protocol::HttpProtobuf, Protocol::HttpJson];

fn spans(count: usize, payload: usize) -> Request {
    let mut batch = TraceBatch::new(&Resource::builder().attr("service.name", "shop").build());
    batch.scope("lib", "1.0");
    for number in 1..=count as u64 {
        let payload = "x".repeat(payload);
        batch
            .span([1; 16], number.to_be_bytes(), "work")
            .attr("payload", &*payload)
            .end();
    }
    batch.finish()
}

fn config(collector: &Collector, protocol: Protocol) -> Config {
    let endpoint = collector.endpoint();
    Config::new().with_protocol(protocol).with_endpoint(endpoint)
}

fn tokens_of(collector: &Collector) -> Vec<String> {
    let header = |request: &ReceivedRequest| request.header("authorization").map(str::to_owned);
    collector.requests().iter().filter_map(header).collect()
}

/// The words of each protocol for a value that is refused.
fn unauthenticated(protocol: Protocol) -> Answer {
    match protocol {
        Protocol::Grpc => Answer::status(Code::UNAUTHENTICATED, "expired"),
        _ => Answer::HttpStatus(401),
    }
}

#[test]
fn a_token_that_expired_is_replaced_within_the_export() {
    for protocol in PROTOCOLS {
        let collector = Collector::start().expect("a collector");
        let count = Arc::new(AtomicUsize::new(0));
        let config = config(&collector, protocol)
            .with_credentials(move || format!("token{}", count.fetch_add(1, Ordering::Relaxed)));
        collector.answer_next(unauthenticated(protocol));
        let exporter = config
            .build(rt::Blocking::new().expect("a reactor"))
            .expect("it works");
        let outcome = exporter
            .export(spans(2, 10))
            .wait()
            .expect("the second token is good");
        assert_eq!((outcome.delivered(), outcome.attempts()), (2, 2), "{protocol}");
        assert_eq!(
            tokens_of(&collector),
            ["Bearer token0", "Bearer token1"],
            "{protocol}"
        );
    }
}

#[test]
fn a_token_that_stays_refused_fails_the_export() {
    for protocol in PROTOCOLS {
        let collector = Collector::start().expect("a collector");
        let config = config(&collector, protocol).with_credentials(|| String::from("hunter2"));
        collector.answer(unauthenticated(protocol));
        let exporter = config
            .build(rt::Blocking::new().expect("a reactor"))
            .expect("it works");
        let error = exporter.export(spans(2, 10)).wait().expect_err("refused");
        assert_eq!(error.counts().rejected, 2);
        let is_grpc = protocol == Protocol::Grpc;
        assert_eq!(
            error.grpc_status(),
            is_grpc.then_some(Code::UNAUTHENTICATED),
            "{protocol}"
        );
        assert_eq!(error.http_status(), (!is_grpc).then_some(401), "{protocol}");
        let shown = format!("{error} {error:?} {:?}", exporter.stats());
        assert!(
            !shown.contains("hunter2") && shown.contains("credentials"),
            "{shown}"
        );
        assert_eq!(tokens_of(&collector).len(), 1);
    }
}

/// A source that uses the exporter that asks it, which a lock held meanwhile would not survive.
#[derive(Clone, Default)]
struct Curious(Arc<OnceLock<Exporter<rt::Blocking>>>);

impl Credentials for Curious {
    fn headers(&self) -> Result<Vec<(String, String)>, CredentialsError> {
        let exporter = self.0.get().expect("built before the first export");
        let in_flight = exporter.stats().exports_in_flight;
        Ok(vec![("x-in-flight".into(), in_flight.to_string())])
    }
}

#[test]
fn a_source_is_asked_with_no_lock_held() {
    let collector = Collector::start().expect("a collector");
    let source = Curious::default();
    let config = config(&collector, Protocol::Grpc).with_credentials(source.clone());
    let exporter = config
        .build(rt::Blocking::new().expect("a reactor"))
        .expect("it works");
    assert!(source.0.set(exporter.clone()).is_ok());
    assert_eq!(
        exporter
            .export(spans(1, 10))
            .wait()
            .expect("delivered")
            .delivered(),
        1
    );
    assert_eq!(collector.requests()[0].header("x-in-flight"), Some("1"));
}

#[test]
fn a_panic_in_a_source_costs_one_export_on_any_shell() {
    let collector = Collector::start().expect("a collector");
    let config = config(&collector, Protocol::Grpc);
    let source = || {
        let count = AtomicUsize::new(0);
        move || {
            assert!(count.fetch_add(1, Ordering::Relaxed) > 0, "on purpose");
            String::from("fine")
        }
    };
    let exporter = config
        .clone()
        .with_credentials(source())
        .build(rt::Blocking::new().expect("a reactor"))
        .expect("it works");
    let error = exporter.export(spans(3, 10)).wait().expect_err("the first");
    assert!(error.is_credentials() && error.counts().dropped == 3, "{error}");
    assert!(exporter.export(spans(3, 10)).wait().is_ok());

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let tokio = rt::Tokio::current().expect("a runtime");
        let exporter = config.with_credentials(source()).build(tokio).expect("it works");
        let driver = tokio::spawn(exporter.driver());
        let (a, b) = tokio::join!(exporter.export(spans(3, 10)), exporter.export(spans(3, 10)));
        assert_eq!([a.is_ok(), b.is_ok()].iter().filter(|ok| **ok).count(), 1);
        drop(exporter);
        driver.await.expect("the driver ends with the last exporter");
    });
}

/// An error whose words cannot be had.
#[derive(Debug)]
struct Unspeakable;

impl std::fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("on purpose")
    }
}

impl std::error::Error for Unspeakable {}

/// Fails once.
#[derive(Default)]
struct Unspoken(AtomicUsize);

impl Credentials for Unspoken {
    fn headers(&self) -> Result<Vec<(String, String)>, CredentialsError> {
        match self.0.fetch_add(1, Ordering::Relaxed) {
            0 => Err(Box::new(Unspeakable)),
            _ => Ok(Vec::new()),
        }
    }
}

#[test]
fn a_panic_in_the_words_of_a_sources_error_costs_one_export() {
    let collector = Collector::start().expect("a collector");
    let config = config(&collector, Protocol::Grpc).with_credentials(Unspoken::default());
    let exporter = config
        .build(rt::Blocking::new().expect("a reactor"))
        .expect("it works");
    let (first, second) = (exporter.export(spans(3, 10)), exporter.export(spans(3, 10)));
    let error = first.wait().expect_err("the first");
    assert!(error.is_credentials() && error.counts().dropped == 3, "{error}");
    assert!(second.wait().is_ok());
}

#[test]
fn sources_serve_many_exports_at_a_time() {
    let collector = Collector::start().expect("a collector");
    let asked = Arc::new(Mutex::new(0));
    let count = asked.clone();
    let config = config(&collector, Protocol::Grpc).with_credentials(move || {
        *count.lock().unwrap() += 1;
        String::from("fine")
    });
    let exporter = config
        .build(rt::Blocking::new().expect("a reactor"))
        .expect("it works");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let exporter = exporter.clone();
            scope.spawn(move || {
                for _ in 0..20 {
                    assert!(exporter.export(spans(1, 10)).wait().is_ok());
                }
            });
        }
    });
    assert_eq!(tokens_of(&collector).len(), 160);
    assert!(*asked.lock().unwrap() >= 160);
}

#[test]
fn a_size_that_the_collector_refuses_is_learned_on_every_protocol() {
    for protocol in PROTOCOLS {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let collector = Collector::builder()
                .message_bytes_max(30_000)
                .start()
                .expect("a collector");
            let config = config(&collector, protocol).with_compression(compression);
            let exporter = config
                .build(rt::Blocking::new().expect("a reactor"))
                .expect("it works");
            for _ in 0..2 {
                let outcome = exporter.export(spans(100, 1_000)).wait();
                let outcome = outcome.unwrap_or_else(|error| panic!("{protocol} {compression:?}: {error}"));
                assert_eq!(outcome.delivered(), 100, "{protocol} {compression:?}");
            }
            assert_eq!(collector.counters().spans_accepted, 200);
            let stats = exporter.stats();
            assert!(
                stats.splits > 0 && stats.splits < 20,
                "{protocol} {compression:?}: {stats:?}"
            );
            assert_eq!((stats.delivered, stats.bytes_in_flight), (200, 0));
        }
    }
}

#[test]
fn a_limit_of_ones_own_splits_before_anything_is_sent() {
    for protocol in PROTOCOLS {
        let collector = Collector::start().expect("a collector");
        let config = config(&collector, protocol).with_request_limit(20_000);
        let exporter = config
            .build(rt::Blocking::new().expect("a reactor"))
            .expect("it works");
        let outcome = exporter.export(spans(100, 1_000)).wait().expect("delivered");
        assert_eq!(outcome.delivered(), 100, "spec 2: {protocol}");
        let requests = collector.requests();
        assert!(requests.len() >= 6, "{protocol}: {}", requests.len());
        assert!(
            requests.iter().all(|request| request.body.len() <= 20_000 + 5),
            "spec 1: {protocol}"
        );
        assert_eq!(exporter.stats().splits, 0);
    }
}

#[test]
fn what_is_dropped_before_its_first_poll_was_never_sent() {
    for protocol in PROTOCOLS {
        let collector = Collector::start().expect("a collector");
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        for has_credentials in [false, true] {
            let mut config = config(&collector, protocol);
            if has_credentials {
                let count = count.clone();
                config = config.with_credentials(move || {
                    count.fetch_add(1, Ordering::Relaxed);
                    String::from("fine")
                });
            }
            let exporter = config
                .build(rt::Blocking::new().expect("a reactor"))
                .expect("it works");
            // There is a connection that would take it.
            assert!(exporter.export(spans(1, 10)).wait().is_ok());
            drop(exporter.export(spans(2, 10)));
            let stats = exporter.stats();
            assert_eq!((stats.dropped_total(), stats.unknown), (2, 0), "{protocol}");
            assert!(exporter.export(spans(1, 10)).wait().is_ok());
            assert_eq!((stats.connections, exporter.stats().connections), (1, 1));
        }
        assert_eq!(asked.load(Ordering::Relaxed), 2, "{protocol}");
        assert_eq!(collector.counters().spans, 4, "{protocol}");
    }
}
