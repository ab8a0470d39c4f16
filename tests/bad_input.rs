//! What callers and peers get wrong ends in an error that says what, where and what to do.

#[path = "support/batches.rs"]
#[allow(dead_code, reason = "not every batch is needed here")]
mod batches;

use batches::batch;
use otlp_embed::rt::Blocking;
use otlp_embed::testing::Collector;
use otlp_embed::{Config, DropReason, Error, Exporter, Request, Resource, TraceBatch};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

fn build(config: Config) -> Result<Exporter<Blocking>, Error> {
    config.build(Blocking::new().expect("a reactor"))
}

/// An exporter to whatever listens there, with little patience.
fn exporter_to(address: SocketAddr) -> Exporter<Blocking> {
    let config = Config::new()
        .with_protocol(otlp_embed::Protocol::Grpc)
        .with_endpoint(format!("http://{address}"))
        .with_timeout(Duration::from_millis(500));
    build(config).expect("the configuration works")
}

/// A peer that answers the first bytes of each connection with `answer` and then says nothing more.
fn peer(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer);
            open.push(stream);
        }
    });
    address
}

#[test]
fn an_endpoint_that_cannot_work_is_refused_when_the_exporter_is_built() {
    for (endpoint, words) in [
        ("", "it is empty"),
        ("http//localhost:4317", "takes no path"),
        ("ftp://localhost:4317", "the scheme \"ftp\" is not known"),
        ("grpc://localhost:4317", "takes http and https"),
        ("http://localhost:65536", "the port is not a number in 1–65535"),
        ("http://:4317", "the host is missing"),
        ("http://local host", "the host is neither an address nor a name"),
        ("http://localhost/v1/traces", "takes no path"),
        ("http://user:hunter2@localhost", "send credentials in a header"),
        // The tests have TLS, and nobody to trust.
        #[cfg(not(any(feature = "tls-webpki-roots", feature = "tls-native-roots")))]
        (
            "https://localhost:4317",
            "(with_endpoint): TLS trusts nobody here",
        ),
        #[cfg(not(any(feature = "tls-webpki-roots", feature = "tls-native-roots")))]
        (
            "localhost:4317",
            "endpoint \"https://localhost:4317\" (with_endpoint): TLS",
        ),
        ("unix:", "the path of the Unix socket is missing"),
        ("unix://run/otlp.sock", "comes an absolute path"),
        ("http://[fe80::1%25eth0]:4317", "a zone is not supported"),
        ("http://b\u{fc}cher.example", "in its xn-- form"),
    ] {
        let error = build(
            Config::new()
                .with_protocol(otlp_embed::Protocol::Grpc)
                .with_endpoint(endpoint),
        )
        .expect_err(endpoint);
        assert!(error.is_misuse(), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(words), "{endpoint}: {text}");
        assert!(!text.contains("hunter2"), "secrets stay out of errors: {text}");
    }
}

#[test]
fn an_endpoint_of_http_that_cannot_work_is_refused_when_the_exporter_is_built() {
    for (endpoint, words) in [
        ("", "http://localhost:4318"),
        ("localhost:4318", "begin it with http:// or https://"),
        ("grpc://localhost:4317", "takes http and https"),
        ("http://localhost/a path", "write a space as %20"),
        ("http://localhost/100%", "and % itself as %25"),
        ("http://localhost/#top", "a fragment, which is never sent"),
        ("http://user:hunter2@localhost/", "send credentials in a header"),
        (
            "http://user:hunter2@localhost:x/?hunter2",
            "send credentials in a header",
        ),
    ] {
        let error = build(Config::new().with_endpoint(endpoint)).expect_err(endpoint);
        let text = error.to_string();
        assert!(error.is_misuse() && text.contains(words), "{endpoint}: {text}");
        assert!(text.contains("(with_endpoint)"), "the setter is named: {text}");
        assert!(!text.contains("hunter2"), "secrets stay out of errors: {text}");
    }
}

#[test]
fn what_variables_get_wrong_is_told_by_the_exporter() {
    let collector = Collector::start().expect("a collector");
    let endpoint = collector.endpoint();
    let vars = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADER", "api-key=hunter2"),
    ];
    let exporter = build(Config::from_vars(vars).expect("not too much")).expect("the rest works");
    let outcome = exporter.export(batch(0, 1)).wait().expect("it is sent");
    assert_eq!(outcome.delivered(), 1);
    let told = exporter.config_report().to_string();
    for words in [
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT=\"soon\": it is no number of milliseconds",
        "is OTEL_EXPORTER_OTLP_TRACES_HEADERS meant?",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert!(!told.contains("hunter2"), "{told}");
}

#[test]
fn zero_ids_are_refused_and_reported() {
    let mut batch = TraceBatch::new(&Resource::new());
    batch.scope("suite", "1");
    batch.span([0; 16], [1; 8], "no trace id").end();
    batch.span([1; 16], [0; 8], "no span id").end();
    let error = batch
        .span([0; 16], [0; 8], "neither")
        .try_end()
        .expect_err("zero ids");
    assert!(error.is_misuse() && error.to_string().contains("zero"), "{error}");
    batch.span([1; 16], [1; 8], "fine").end();
    let request = batch.finish();
    assert_eq!((request.items(), request.refused()), (1, 3));

    let collector = Collector::start().expect("a collector");
    let outcome = exporter_to(collector.addr())
        .export(request)
        .wait()
        .expect("the fine one is sent");
    assert_eq!(outcome.delivered(), 1);
    assert_eq!(collector.spans()[0].name, "fine");
}

#[test]
fn an_oversized_attribute_is_refused_by_the_memory_limit() {
    let mut batch = TraceBatch::new(&Resource::new());
    batch.scope("suite", "1");
    batch
        .span([1; 16], [1; 8], "large")
        .attr_shared("payload", "x".repeat(65 << 20))
        .end();
    let collector = Collector::start().expect("a collector");
    let exporter = exporter_to(collector.addr());
    let error = exporter
        .export(batch.finish())
        .wait()
        .expect_err("above the default limit of 64 MiB");
    assert_eq!(error.drop_reason(), Some(DropReason::MemoryLimit));
    assert!(
        error.to_string().contains("with_memory_limit") && !error.is_retryable(),
        "{error}"
    );
    let outcome = exporter
        .export(self::batch(0, 1))
        .wait()
        .expect("the next export works");
    assert_eq!(outcome.delivered(), 1);
    assert!(exporter.stats().is_conserved());
}

/// Decoders give up on what nests deeper than a hundred messages, and with it on the whole request.
#[test]
fn an_attribute_that_nests_without_end_costs_no_other_span() {
    use otlp_embed::pb::common::{AnyValue, KeyValue, KeyValueList, any_value::Value};
    use otlp_embed::pb::trace::{ResourceSpans, ScopeSpans, Span};
    let pair = |value| KeyValue {
        key: "deeper".into(),
        value: Some(value),
        ..KeyValue::default()
    };
    let mut value = AnyValue {
        value: Some(Value::StringValue("the end".into())),
    };
    for _ in 0..500 {
        let list = KeyValueList {
            values: vec![pair(value)],
        };
        value = AnyValue {
            value: Some(Value::KvlistValue(list)),
        };
    }
    let span = |id, attributes| Span {
        trace_id: vec![1; 16],
        span_id: vec![id; 8],
        attributes,
        ..Span::default()
    };
    let scope = ScopeSpans {
        spans: vec![span(1, vec![pair(value)]), span(2, Vec::new())],
        ..ScopeSpans::default()
    };
    let spans = vec![ResourceSpans {
        scope_spans: vec![scope],
        ..ResourceSpans::default()
    }];
    let collector = Collector::start().expect("a collector");
    let exporter = exporter_to(collector.addr());
    let outcome = exporter
        .export(Request::from_spans(spans))
        .wait()
        .expect("both are read");
    assert_eq!(outcome.delivered(), 2);
    assert_eq!(collector.spans().len(), 2);
}

#[test]
fn an_empty_request_is_a_success_that_is_never_sent() {
    let collector = Collector::start().expect("a collector");
    let request: Request = TraceBatch::new(&Resource::new()).finish();
    let outcome = exporter_to(collector.addr())
        .export(request)
        .wait()
        .expect("nothing to do");
    assert_eq!((outcome.delivered(), outcome.attempts()), (0, 0), "spec 5");
    assert_eq!(collector.counters().connections, 0, "spec 5");
}

#[test]
fn peers_that_are_no_collector_are_named() {
    for (answer, words) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "it answered HTTP/1.1"),
        (b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", "it began with \"SSH-2.0"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "it answered in TLS"),
        (
            b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x01",
            "does not speak HTTP/2",
        ),
        // Nothing at all: only the deadline ends it.
        (b"", "no verdict within 500 ms"),
    ] {
        let exporter = exporter_to(peer(answer));
        let error = exporter.export(batch(0, 3)).wait().expect_err(words);
        assert!(error.to_string().contains(words), "{words}: {error}");
        assert_eq!(error.counts().total(), 3);
        assert!(exporter.stats().is_conserved());
    }
}
