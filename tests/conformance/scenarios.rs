//! The behaviours. Each takes a runtime, plays one story against a peer and looks at the verdicts and the account.

use crate::batches::{batch, batch_with};
use crate::support::{BlackHole, balanced, build, not_once, peer_that_says, refused};
use crate::way::Way;
use core::time::Duration;
use futures_util::future::join_all;
use otlp_embed::policy::RetryPolicy;
use otlp_embed::rt::Runtime;
use otlp_embed::testing::Answer;
use otlp_embed::{Code, Config, DropReason, ExportState};
use std::io;
use std::sync::mpsc;

pub async fn delivers_every_span_once<R: Runtime>(runtime: R, way: Way) {
    let collector = way.collector();
    let exporter = build(runtime, way.config(&collector));
    for round in 0..3 {
        let outcome = exporter.export(batch(round * 50, 50)).await.expect("delivered");
        assert_eq!(
            (outcome.delivered(), outcome.rejected(), outcome.attempts()),
            (50, 0, 1)
        );
    }
    assert_eq!(not_once(&collector, 150), [].into());
    assert_eq!(exporter.stats().delivered, 150);
    balanced(&exporter);
}

pub async fn carries_headers_and_metadata<R: Runtime>(runtime: R, way: Way) {
    let collector = way.collector();
    let config = way.config(&collector).with_header("X-Scope-OrgID", "acme");
    let exporter = build(runtime, config);
    let request = batch(0, 1)
        .with_header("x-request", "yes")
        .expect("a fine header");
    exporter.export(request).await.expect("delivered");
    let requests = collector.requests();
    let header = |name| requests[0].header(name);
    assert_eq!(header("x-scope-orgid"), Some("acme"));
    assert_eq!(header("x-request"), Some("yes"));
    let content_type = match way.is_grpc() {
        true => "application/grpc",
        false => "application/x-protobuf",
    };
    assert_eq!(header("content-type"), Some(content_type), "spec 28, 43");
    let te = way.is_grpc().then_some("trailers");
    assert_eq!(header("te"), te, "spec 43");
    assert_eq!(header("grpc-timeout").is_some(), way.is_grpc(), "spec 43");
    assert!(
        header("user-agent").is_some_and(|agent| agent.contains("OTel-OTLP-Exporter-Rust/")),
        "spec 42"
    );
}

pub async fn shares_connections<R: Runtime>(runtime: R, way: Way) {
    let collector = way.collector();
    let exporter = build(runtime, way.config(&collector));
    let verdicts = join_all((0..8).map(|i| exporter.export(batch(i * 10, 10)))).await;
    assert!(verdicts.iter().all(Result::is_ok), "{verdicts:?}");
    assert_eq!(not_once(&collector, 80), [].into());
    let connections = collector.counters().connections;
    assert!(
        (1..=way.connections_max()).contains(&connections),
        "{connections}: spec 7, 8, 24"
    );
    balanced(&exporter);
}

pub async fn retries_what_is_unavailable<R: Runtime>(runtime: R, way: Way) {
    let collector = way.collector();
    collector.answer_next(Answer::unavailable());
    collector.answer_next(Answer::unavailable());
    let exporter = build(runtime, way.config(&collector));
    let outcome = exporter.export(batch(0, 5)).await.expect("delivered in the end");
    assert_eq!((outcome.delivered(), outcome.attempts()), (5, 3), "spec 15, 17");
    assert_eq!(exporter.stats().retries, 2, "spec 13");
    balanced(&exporter);
}

pub async fn waits_as_told<R: Runtime>(runtime: R, way: Way) {
    let collector = way.collector();
    collector.answer_next(Answer::throttled(Duration::from_millis(30)));
    let exporter = build(runtime.clone(), way.config(&collector));
    let start = runtime.now();
    let outcome = exporter.export(batch(0, 5)).await.expect("delivered in the end");
    assert_eq!(outcome.attempts(), 2, "spec 16");
    // `Retry-After` counts seconds, and is rounded up.
    let wait = if way.is_grpc() { 30 } else { 1_000 };
    assert!(
        runtime.now() - start >= Duration::from_millis(wait),
        "spec 18, 21"
    );

    collector.answer_next(Answer::status(Code::RESOURCE_EXHAUSTED, "no hint"));
    let verdict = exporter.export(batch(5, 5)).await;
    if way.is_grpc() {
        let error = verdict.expect_err("not retried");
        assert_eq!(
            (error.grpc_status(), error.attempts()),
            (Some(Code::RESOURCE_EXHAUSTED), 1),
            "spec 16"
        );
    } else {
        let outcome = verdict.expect("a 429 is retried, hint or not");
        assert_eq!(outcome.attempts(), 2, "spec 19");
    }
    balanced(&exporter);
}

pub async fn reports_a_partial_success<R: Runtime>(runtime: R, way: Way) {
    let collector = way.collector();
    collector.answer_next(Answer::PartialSuccess {
        rejected: 3,
        message: "too old".into(),
    });
    let exporter = build(runtime, way.config(&collector));
    let outcome = exporter.export(batch(0, 10)).await.expect("an outcome");
    assert_eq!(
        (outcome.delivered(), outcome.rejected(), outcome.message()),
        (7, 3, Some("too old")),
        "spec 12"
    );
    assert_eq!(collector.counters().requests, 1, "spec 12");
    balanced(&exporter);
}

pub async fn takes_a_warning_as_success<R: Runtime>(runtime: R, way: Way) {
    let collector = way.collector();
    collector.answer_next(Answer::PartialSuccess {
        rejected: 0,
        message: "soon deprecated".into(),
    });
    let exporter = build(runtime, way.config(&collector));
    let outcome = exporter.export(batch(0, 10)).await.expect("an outcome");
    assert_eq!(
        (outcome.delivered(), outcome.message()),
        (10, Some("soon deprecated")),
        "spec 12"
    );
    balanced(&exporter);
}

pub async fn reports_a_refusal<R: Runtime>(runtime: R, way: Way) {
    let collector = way.collector();
    collector.answer_next(Answer::status(Code::INVALID_ARGUMENT, "100 % wrong"));
    let exporter = build(runtime, way.config(&collector));
    let error = exporter.export(batch(0, 10)).await.expect_err("refused");
    match way.is_grpc() {
        true => assert_eq!(error.grpc_status(), Some(Code::INVALID_ARGUMENT)),
        false => assert_eq!(error.http_status(), Some(400)),
    }
    assert_eq!(
        (error.counts().rejected, error.attempts(), error.is_retryable()),
        (10, 1, false),
        "spec 14"
    );
    assert!(error.to_string().contains("100 % wrong"), "spec 44: {error}");
    balanced(&exporter);
}

pub async fn gives_up_at_the_deadline<R: Runtime>(runtime: R, way: Way) {
    let collector = way.collector();
    collector.answer_next(Answer::Never);
    let config = way.config(&collector).with_timeout(Duration::from_millis(200));
    let exporter = build(runtime.clone(), config);
    let start = runtime.now();
    let error = exporter.export(batch(0, 10)).await.expect_err("no answer came");
    assert!(error.is_timeout(), "{error}");
    assert_eq!(error.counts().unknown, 10, "the socket took the whole request");
    assert!(runtime.now() - start >= Duration::from_millis(200), "spec 49");
    exporter
        .export(batch(10, 10))
        .await
        .expect("the next export works: spec 49");
    balanced(&exporter);
}

pub async fn survives_late_answers<R: Runtime>(runtime: R, way: Way) {
    let collector = way.collector();
    let exporter = build(runtime, way.config(&collector));
    for round in 0..10 {
        collector.answer_next(Answer::Ok.after(Duration::from_millis(400)));
        let late = batch(round * 2, 1).with_timeout(Duration::from_millis(20));
        let error = exporter.export(late).await.expect_err("too late");
        assert!(error.is_timeout(), "{error}");
        exporter
            .export(batch(round * 2 + 1, 1))
            .await
            .expect("no other export is hurt");
    }
    // Meanwhile the late answers arrive.
    collector.answer_next(Answer::Ok.after(Duration::from_millis(500)));
    exporter
        .export(batch(20, 1))
        .await
        .expect("no other export is hurt");
    balanced(&exporter);
}

pub async fn names_a_refused_connection<R: Runtime>(runtime: R, way: Way) {
    let config = way.config_to(refused()).with_timeout(Duration::from_millis(200));
    let exporter = build(runtime, config);
    let error = exporter.export(batch(0, 10)).await.expect_err("nobody listens");
    assert_eq!((error.counts().dropped, error.counts().unknown), (10, 0));
    assert_eq!(error.drop_reason(), Some(DropReason::Deadline));
    assert!(error.attempts() > 1, "spec 23: {error:?}");
    assert!(error.to_string().to_lowercase().contains("refused"), "{error}");
    balanced(&exporter);
}

pub async fn resolves_localhost<R: Runtime>(runtime: R, way: Way) {
    let collector = way.collector();
    let exporter = build(
        runtime,
        way.config_to(format_args!("localhost:{}", collector.addr().port())),
    );
    exporter
        .export(batch(0, 10))
        .await
        .expect("127.0.0.1 is one of its addresses");
    balanced(&exporter);
}

pub async fn tries_the_next_address<R: Runtime>(runtime: R, way: Way) {
    let collector = way.collector();
    let config = way
        .config_to("collector.invalid")
        .with_addresses([refused(), collector.addr()]);
    let exporter = build(runtime, config);
    let outcome = exporter
        .export(batch(0, 10))
        .await
        .expect("the second address works");
    assert_eq!(outcome.attempts(), 1, "the addresses of a name are one attempt");
    balanced(&exporter);
}

pub async fn passes_a_black_hole<R: Runtime>(runtime: R, way: Way) {
    let (hole, collector) = (BlackHole::new(), way.collector());
    let config = way
        .config_to("collector.invalid")
        .with_addresses([hole.address, collector.addr()])
        .with_connect_timeout(Duration::from_millis(100));
    let exporter = build(runtime, config);
    exporter
        .export(batch(0, 10))
        .await
        .expect("the second address works");
    balanced(&exporter);
}

pub async fn abandons_a_slow_resolver<R: Runtime>(runtime: R, way: Way) {
    // It answers when the test is over, which is long after the deadline.
    let (release, held) = mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let config = way
        .config_to("collector.invalid")
        .with_timeout(Duration::from_millis(200))
        .with_resolver(move |_| {
            let _ = held
                .lock()
                .expect("asked once at a time")
                .recv_timeout(Duration::from_secs(30));
            Err(io::ErrorKind::TimedOut.into())
        });
    if !resolves_off_thread(&runtime) {
        return;
    }
    let exporter = build(runtime.clone(), config);
    let start = runtime.now();
    let error = exporter.export(batch(0, 10)).await.expect_err("no address came");
    assert!(error.is_timeout(), "{error}");
    assert_eq!(error.counts().dropped, 10);
    assert!(runtime.now() - start < Duration::from_secs(10), "spec 49");
    balanced(&exporter);
    drop(release);
}

/// The hand-written loop resolves on its own thread and says so.
fn resolves_off_thread<R: Runtime>(_: &R) -> bool {
    core::any::type_name::<R>() != core::any::type_name::<crate::executor::Handle>()
}

pub async fn reports_a_failing_resolver<R: Runtime>(runtime: R, way: Way) {
    let config = way
        .config_to("collector.invalid")
        .with_retry_policy(RetryPolicy::never())
        .with_resolver(|name| Err(io::Error::other(format!("no such name: {}", name.host))));
    let exporter = build(runtime, config);
    let error = exporter.export(batch(0, 10)).await.expect_err("no address came");
    assert!(
        error.to_string().contains("no such name: collector.invalid"),
        "{error}"
    );
    balanced(&exporter);
}

pub async fn survives_a_panicking_resolver<R: Runtime>(runtime: R, way: Way) {
    let config = way
        .config_to("collector.invalid")
        .with_retry_policy(RetryPolicy::never())
        .with_resolver(|_| panic!("a caller's resolver"));
    let exporter = build(runtime, config);
    let error = exporter.export(batch(0, 10)).await.expect_err("no address came");
    assert!(error.to_string().contains("resolver panicked"), "{error}");
    balanced(&exporter);
}

pub async fn moves_on_at_goaway<R: Runtime>(runtime: R, way: Way) {
    let collector = way
        .builder()
        .requests_per_connection(2)
        .start()
        .expect("a collector");
    let exporter = build(runtime, way.config(&collector));
    let verdicts = join_all((0..20).map(|i| exporter.export(batch(i * 5, 5)))).await;
    assert!(verdicts.iter().all(Result::is_ok), "{verdicts:?}");
    assert_eq!(not_once(&collector, 100), [].into(), "spec 47");
    balanced(&exporter);

    collector.answer_next(Answer::GoAway {
        reason: 0,
        debug_data: Default::default(),
    });
    exporter
        .export(batch(100, 5))
        .await
        .expect("resent on a new connection: spec 47");
    // HTTP/1.1 cannot say which request was the last to be processed.
    let possible_duplicates = if way.is_multiplexed() { 0 } else { 5 };
    assert_eq!(
        exporter.stats().possible_duplicates,
        possible_duplicates,
        "spec 47"
    );
    balanced(&exporter);
}

pub async fn resends_after_a_lost_connection<R: Runtime>(runtime: R, way: Way) {
    let collector = way.collector();
    let exporter = build(runtime, way.config(&collector));
    for (round, answer) in [Answer::CloseConnection, Answer::AbortConnection, Answer::Reset(7)]
        .into_iter()
        .enumerate()
    {
        collector.answer_next(answer);
        let outcome = exporter
            .export(batch(round as u64 * 5, 5))
            .await
            .expect("spec 22, 46");
        assert_eq!((outcome.delivered(), outcome.attempts()), (5, 2), "round {round}");
    }
    // A stream that was refused is no duplicate; HTTP/1.1 has no way to refuse one.
    let possible_duplicates = if way.is_multiplexed() { 10 } else { 15 };
    assert_eq!(
        exporter.stats().possible_duplicates,
        possible_duplicates,
        "spec 25, 46"
    );
    balanced(&exporter);
}

pub async fn replaces_a_dead_connection<R: Runtime>(runtime: R, way: Way) {
    let collector = way.collector();
    let exporter = build(runtime, way.config(&collector));
    exporter.export(batch(0, 5)).await.expect("delivered");
    collector.kill_connections();
    let outcome = exporter.export(batch(5, 5)).await.expect("spec 50");
    assert_eq!(outcome.delivered(), 5);
    assert!(exporter.stats().connections >= 2);
    balanced(&exporter);
}

pub async fn queues_behind_a_stream_limit<R: Runtime>(runtime: R, way: Way) {
    let collector = way
        .builder()
        .max_concurrent_streams(1)
        .start()
        .expect("a collector");
    let exporter = build(runtime, way.config(&collector));
    let verdicts = join_all((0..12).map(|i| exporter.export(batch(i * 5, 5)))).await;
    assert!(verdicts.iter().all(Result::is_ok), "{verdicts:?}");
    assert_eq!(not_once(&collector, 60), [].into(), "spec 48");
    balanced(&exporter);
}

pub async fn sends_five_megabytes<R: Runtime>(runtime: R, way: Way) {
    static PAYLOAD: [u8; 10_000] = [b'x'; 10_000];
    let payload = core::str::from_utf8(&PAYLOAD).expect("it is ASCII");
    let collector = way.collector();
    let exporter = build(runtime, way.config(&collector));
    let request = batch_with(0, 500, payload);
    assert!(request.encoded_len() > 5_000_000);
    let outcome = exporter.export(request).await.expect("delivered");
    assert_eq!(outcome.delivered(), 500);
    assert_eq!(not_once(&collector, 500), [].into());
    balanced(&exporter);
}

pub async fn ends_before_a_stalled_peer<R: Runtime>(runtime: R, way: Way) {
    static PAYLOAD: [u8; 10_000] = [b'x'; 10_000];
    let payload = core::str::from_utf8(&PAYLOAD).expect("it is ASCII");
    let collector = way.collector();
    collector.pause();
    let config = way.config(&collector).with_timeout(Duration::from_millis(200));
    let exporter = build(runtime, config);
    // HTTP/1.1 has no windows: more than the buffers of the sockets take.
    let spans = if way.is_multiplexed() { 500 } else { 5_000 };
    let error = exporter
        .export(batch_with(0, spans, payload))
        .await
        .expect_err("nobody reads");
    assert!(error.is_timeout(), "{error}");
    assert_eq!(
        (error.counts().dropped, error.counts().unknown),
        (spans, 0),
        "flow control held it back"
    );
    collector.resume();
    exporter
        .export(batch(spans, 5))
        .await
        .expect("the next export works: spec 49");
    balanced(&exporter);
}

pub async fn cancels_what_is_dropped<R: Runtime>(runtime: R, way: Way) {
    let collector = way.collector();
    let exporter = build(runtime, way.config(&collector));
    drop(exporter.export(batch(0, 5)));
    assert_eq!(exporter.stats().dropped_for(DropReason::Cancelled), 5);
    exporter
        .export(batch(5, 5))
        .await
        .expect("no other export is hurt");
    assert_eq!(
        collector.counters().spans,
        5,
        "a future that was never polled sent nothing"
    );
    balanced(&exporter);
}

pub async fn says_when_the_peer_speaks_http1<R: Runtime>(runtime: R, way: Way) {
    let address = peer_that_says(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
    garbled(runtime, way.config_to(address), "HTTP/1.1").await;
}

pub async fn refuses_garbage<R: Runtime>(runtime: R, way: Way) {
    let address =
        peer_that_says(b"\x00\x01\x02\x03 this is no HTTP/2 at all, and it goes on for a while \xff\xfe");
    let spoken = match (way.is_secured(), way.is_multiplexed()) {
        (true, _) => "TLS",
        (false, true) => "HTTP/2",
        (false, false) => "HTTP/1.1",
    };
    garbled(runtime, way.config_to(address), spoken).await;
}

async fn garbled<R: Runtime>(runtime: R, config: Config, word: &str) {
    let config = config.with_timeout(Duration::from_millis(500));
    let exporter = build(runtime, config);
    let error = exporter
        .export(batch(0, 5))
        .await
        .expect_err("no collector is there");
    assert!(error.to_string().contains(word), "{error}");
    assert_eq!(error.counts().total(), 5);
    balanced(&exporter);
}

pub async fn keeps_the_memory_limit<R: Runtime>(runtime: R, way: Way) {
    let collector = way.collector();
    let exporter = build(runtime, way.config(&collector).with_memory_limit(2_000));
    let error = exporter
        .export(batch(0, 100))
        .await
        .expect_err("larger than the limit");
    assert!(error.to_string().contains("memory limit"), "{error}");
    assert_eq!(error.drop_reason(), Some(DropReason::MemoryLimit));
    exporter.export(batch(0, 5)).await.expect("a small one fits");
    balanced(&exporter);
}

pub async fn shuts_down_and_reports<R: Runtime>(runtime: R, way: Way) {
    let collector = way.collector();
    let exporter = build(runtime, way.config(&collector));
    exporter.export(batch(0, 5)).await.expect("delivered");
    collector.answer_next(Answer::Never);
    let hanging = exporter.export(batch(5, 5));
    let report = exporter.shutdown(Duration::from_millis(100)).await;
    assert!(
        report.stats.is_conserved() && report.stats.in_flight == 0,
        "{report}"
    );
    assert_eq!(
        (report.stats.delivered, report.lost()),
        (5, 5),
        "spec 9, 10: {report}"
    );
    assert!(hanging.await.expect_err("shut down").is_shutdown());
    let error = exporter.export(batch(10, 5)).await.expect_err("shut down");
    assert!(error.is_shutdown(), "{error}");
    let again = exporter.shutdown(Duration::from_millis(100)).await;
    assert_eq!(
        again.stats.dropped_for(DropReason::Shutdown) + again.stats.unknown,
        10,
        "{again}"
    );
}

pub async fn is_defined_after_the_verdict<R: Runtime>(runtime: R, way: Way) {
    let collector = way.collector();
    let exporter = build(runtime, way.config(&collector));
    let mut export = std::pin::pin!(exporter.export(batch(0, 5)));
    assert_ne!(export.state(), ExportState::Done);
    export.as_mut().await.expect("delivered");
    assert_eq!(export.state(), ExportState::Done);
    assert!(
        export
            .as_mut()
            .await
            .expect_err("it has given its verdict")
            .is_misuse()
    );
    balanced(&exporter);
}
