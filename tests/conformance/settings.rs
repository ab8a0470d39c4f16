//! More behaviours: what settings of an exporter do to what is sent.

use crate::batches::{batch, batch_with};
use crate::signals::{ITEMS, request};
use crate::support::{balanced, build, not_once, silent};
use crate::way::{LONG, Way};
use core::time::Duration;
use futures_util::future::join_all;
use otlp_embed::rt::Runtime;
use otlp_embed::testing::Answer;
use otlp_embed::testing::collector::RawAnswer;
use otlp_embed::{Compression, DropReason, Signal};
use std::sync::atomic::{AtomicU64, Ordering};

pub async fn splits_what_is_too_large<R: Runtime>(runtime: R, way: Way) {
    static PAYLOAD: [u8; 1_000] = [b'x'; 1_000];
    let payload = core::str::from_utf8(&PAYLOAD).expect("it is ASCII");
    let collector = way.builder().message_bytes_max(32 << 10).start();
    let collector = collector.expect("a collector");
    let exporter = build(runtime, way.compressed(Compression::Gzip).config(&collector));
    let outcome = exporter.export(batch_with(0, 100, payload)).await;
    let outcome = outcome.expect("it fits in parts: spec 2");
    assert_eq!((outcome.delivered(), outcome.rejected()), (100, 0));
    assert_eq!(not_once(&collector, 100), [].into());
    assert!(exporter.stats().splits > 0);
    let refused = collector.counters().calls_invalid;
    exporter
        .export(batch_with(100, 100, payload))
        .await
        .expect("the size is known by now");
    assert_eq!(collector.counters().calls_invalid, refused);
    balanced(&exporter);
}

pub async fn splits_by_the_request_limit<R: Runtime>(runtime: R, way: Way) {
    let collector = way.collector();
    let config = way.config(&collector).with_request_limit(1_000);
    let exporter = build(runtime, config);
    let outcome = exporter.export(batch(0, 100)).await.expect("it fits in parts");
    assert_eq!(outcome.delivered(), 100, "spec 2");
    let requests = collector.requests();
    assert!(requests.len() > 5);
    assert!(
        requests.iter().all(|request| request.encoded_len <= 1_000),
        "spec 1"
    );
    assert_eq!(not_once(&collector, 100), [].into());
    balanced(&exporter);
}

pub async fn asks_for_credentials_each_attempt<R: Runtime>(runtime: R, way: Way) {
    let collector = way.collector();
    collector.answer_next(Answer::unavailable());
    let asked = AtomicU64::new(0);
    let config = way
        .config(&collector)
        .with_credentials(move || format!("token-{}", asked.fetch_add(1, Ordering::Relaxed)));
    let exporter = build(runtime, config);
    exporter.export(batch(0, 5)).await.expect("delivered in the end");
    exporter.export(batch(5, 5)).await.expect("delivered");
    let requests = collector.requests();
    let tokens: Vec<_> = requests
        .iter()
        .map(|request| request.header("authorization"))
        .collect();
    assert_eq!(
        tokens,
        ["Bearer token-0", "Bearer token-1", "Bearer token-2"].map(Some)
    );
    balanced(&exporter);
}

pub async fn follows_no_redirect<R: Runtime>(runtime: R, way: Way) {
    let (collector, other) = (way.collector(), way.collector());
    for status in [301, 302, 307, 308] {
        let redirect = RawAnswer::new(status).header("location", other.endpoint());
        collector.answer_next(redirect.into());
    }
    let exporter = build(runtime, way.config(&collector));
    for round in 0..4 {
        let error = exporter.export(batch(round, 1)).await.expect_err("spec 53");
        assert_eq!(error.location(), Some(other.endpoint().as_str()), "spec 53");
        assert!(error.to_string().contains(&other.endpoint()), "{error}");
        assert_eq!((error.attempts(), error.counts().rejected), (1, 1), "{error}");
    }
    assert_eq!(other.counters().connections, 0, "spec 53");
    exporter.export(batch(4, 1)).await.expect("the next export works");
    balanced(&exporter);
}

pub async fn refuses_an_oversize_answer<R: Runtime>(runtime: R, way: Way) {
    let collector = way.collector();
    let exporter = build(runtime, way.config(&collector).with_response_limit(10_000));
    let large = Answer::PartialSuccess {
        rejected: 1,
        message: "x".repeat(20_000),
    };
    // As it is, and grown from what is small.
    for (round, answer) in [large.clone(), large.compressed(Compression::Gzip)]
        .into_iter()
        .enumerate()
    {
        collector.answer_next(answer);
        let verdict = exporter.export(batch(round as u64, 1)).await;
        let error = verdict.expect_err("spec 4");
        assert_eq!(
            (error.attempts(), error.is_retryable()),
            (1, false),
            "{error}: spec 4"
        );
    }
    exporter.export(batch(2, 1)).await.expect("the next export works");
    balanced(&exporter);
}

/// A peer that accepts connections and says nothing: under TLS the handshake never ends.
pub async fn ends_before_a_silent_peer<R: Runtime>(runtime: R, way: Way) {
    let (address, _listener) = silent();
    let config = way.config_to(address).with_timeout(Duration::from_millis(200));
    let exporter = build(runtime, config);
    let exports = (0..3).map(|round| exporter.export(batch(round, 1)));
    for verdict in join_all(exports).await {
        let error = verdict.expect_err("nobody answers");
        assert!(error.is_timeout(), "{error}: spec 49");
    }
    // HTTP/2 begins one call before it has heard how many the peer takes, HTTP/1.1 one on each connection.
    let unknown = match (way.is_secured(), way.is_multiplexed()) {
        (true, _) => 0,
        (false, true) => 1,
        (false, false) => 3,
    };
    let stats = exporter.stats();
    let seen = (stats.unknown, stats.dropped_for(DropReason::Deadline));
    assert_eq!(seen, (unknown, 3 - unknown), "{stats:?}");
    balanced(&exporter);
}

pub async fn replaces_old_connections<R: Runtime>(runtime: R, way: Way) {
    let collector = way.collector();
    let config = way
        .config(&collector)
        .with_max_connection_age(Duration::from_millis(30));
    let exporter = build(runtime, config);
    for round in 0..8 {
        collector.answer_next(Answer::Ok.after(Duration::from_millis(10)));
        let exports = (0..3).map(|part| exporter.export(batch(round * 3 + part, 1)));
        let verdicts = join_all(exports).await;
        assert!(verdicts.iter().all(Result::is_ok), "{verdicts:?}");
    }
    assert_eq!(not_once(&collector, 24), [].into());
    let stats = exporter.stats();
    assert!(stats.connections >= 3, "{stats:?}");
    assert_eq!((stats.retries, stats.possible_duplicates), (0, 0), "{stats:?}");
    balanced(&exporter);
}

/// Each signal goes its own way, and a destination that is stuck holds up no other.
pub async fn serves_two_destinations<R: Runtime>(runtime: R, way: Way) {
    let other_way = match way.is_grpc() {
        true => Way::JSON.compressed(Compression::Gzip),
        false => Way::GRPC.compressed(Compression::Zstd),
    };
    let (stuck, other) = (way.collector(), other_way.collector());
    stuck.pause();
    let config = way.config(&stuck).for_signal(Signal::Logs, |logs| {
        let path = if other_way.is_grpc() { "" } else { "/v1/logs" };
        logs.with_endpoint(format!("{}{path}", other.endpoint()))
            .with_protocol(other_way.protocol)
            .with_compression(other_way.compression)
            .with_header("x-own", "logs")
    });
    let exporter = build(runtime, config);
    let waits = exporter.export(batch(0, 1).with_timeout(Duration::from_millis(150)));
    for number in 0..3 {
        let outcome = exporter.export(request(Signal::Logs, number)).await;
        assert_eq!(outcome.expect("it goes elsewhere: spec 11").delivered(), ITEMS);
    }
    assert!(waits.await.expect_err("nobody reads").is_timeout());
    for request in other.requests() {
        assert_eq!(
            (request.signal, request.protocol, request.compression),
            (Signal::Logs, other_way.protocol, other_way.compression)
        );
        assert_eq!(request.header("x-own"), Some("logs"), "spec 33");
    }
    assert_eq!(other.counters().requests, 3);
    stuck.resume();
    exporter
        .export(batch(1, 1).with_timeout(LONG))
        .await
        .expect("it goes on");
    assert!(
        stuck
            .requests()
            .iter()
            .all(|request| request.header("x-own").is_none())
    );
    balanced(&exporter);
}
