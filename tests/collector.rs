//! The collector's session in memory: what it records, and that it answers as it is told.

#[path = "support/collector_client.rs"]
mod collector_client;

use bytes::Bytes;
use collector_client::{Call, Pair, TRACE_PATH, export_request, framed, message};
use h2::Reason;
use http::Request;
use otlp_embed::Code;
use otlp_embed::testing::collector::{Builder, Fate, RawAnswer, ReceivedRequest, Value};
use otlp_embed::testing::{Answer, Collector};
use std::time::Duration;

fn pair_answering(answer: Answer) -> (Builder, Pair) {
    let builder = Collector::builder().answer(answer);
    let pair = Pair::new(&builder);
    (builder, pair)
}

fn answer_to(answer: Answer) -> Call {
    let (_, mut pair) = pair_answering(answer);
    pair.export(&message(&["a"]))
}

#[track_caller]
fn assert_success(call: &Call) {
    assert_eq!(
        (call.http_status(), call.grpc_status(), &*call.data),
        (Some(200), Some("0"), &[0; 5][..]),
        "{:?}",
        call.error
    );
}

#[test]
fn records_every_part_of_a_span() {
    let builder = Collector::builder();
    let mut pair = Pair::new(&builder);
    let sent = message(&["first", "second"]);
    let call = pair.export(&sent);
    assert_success(&call);

    let spans = builder.inbox().spans();
    assert_eq!(spans.len(), 2);
    let span = &spans[1];
    assert_eq!(span.name, "second");
    assert_eq!(
        (&*span.trace_id, &*span.span_id, &*span.parent_span_id),
        (&[2; 16][..], &[2; 8][..], &[9; 8][..])
    );
    assert_eq!(
        (span.kind, span.start_unix_nanos, span.end_unix_nanos),
        (3, 1_000, 2_500)
    );
    assert_eq!(span.service_name(), "shop");
    assert_eq!((&*span.scope.name, &*span.scope.version), ("scope", "1.0"));
    assert_eq!(span.attribute("http.route"), Some(&Value::from("/chat")));
    assert_eq!(span.attribute("retries"), Some(&Value::from(2)));
    assert_eq!(
        span.attribute("tags"),
        Some(&Value::Array(vec![Value::from("a")]))
    );
    assert_eq!(span.attribute("absent"), None);
    let event = &span.events[0];
    assert_eq!((event.unix_nanos, &*event.name), (1_700, "cache miss"));
    assert_eq!(event.attributes, [("hit".to_owned(), Value::from(false))]);
    assert_eq!(
        (&*span.links[0].trace_id, &*span.links[0].span_id),
        (&[5; 16][..], &[6; 8][..])
    );
    assert!(span.is_error());
    assert_eq!(span.status_message, "boom");

    let requests = builder.inbox().requests();
    let request = &requests[0];
    assert_eq!((request.index, request.connection, request.stream_id), (0, 7, 1));
    assert_eq!((request.items, request.encoded_len), (2, sent.len()));
    assert_eq!(request.header("te"), Some("trailers"));
    assert_eq!(
        request.header(":path"),
        Some("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
    );
    assert!(request.is_accepted());
    let length: usize = spans.iter().map(|span| span.encoded_len).sum();
    assert!(length > 200 && length < sent.len(), "{length}");
}

#[test]
fn duplicates_are_recorded_as_often_as_they_come() {
    let builder = Collector::builder();
    let mut pair = Pair::new(&builder);
    for _ in 0..3 {
        assert_success(&pair.export(&message(&["a", "b"])));
    }
    let inbox = builder.inbox();
    assert_eq!(inbox.spans().iter().filter(|span| span.name == "b").count(), 3);
    assert_eq!(
        inbox.spans().iter().map(|span| span.request).collect::<Vec<_>>(),
        [0, 0, 1, 1, 2, 2]
    );
    let counters = inbox.counters();
    assert_eq!(
        (counters.requests, counters.requests_accepted, counters.spans),
        (3, 3, 6)
    );
    inbox.clear();
    assert_eq!((inbox.spans().len(), inbox.requests().len()), (0, 0));
    assert_eq!(inbox.counters().requests, 0);
    assert_success(&pair.export(&message(&["c"])));
    assert_eq!(inbox.requests()[0].index, 3);
}

#[test]
fn a_request_is_recorded_only_when_it_is_whole() {
    let builder = Collector::builder();
    let mut pair = Pair::new(&builder);
    let body = framed(&message(&["a"]));
    let mut call = pair.open(export_request());
    // The prefix itself comes in pieces (gRPC over HTTP/2, "Length-Prefixed-Message").
    for piece in [&body[..3], &body[3..7], &body[7..]] {
        assert_eq!(builder.inbox().counters().requests, 0);
        call.stream
            .send_data(Bytes::copy_from_slice(piece), false)
            .unwrap();
        pair.pump();
        call.take();
    }
    assert_eq!(builder.inbox().counters().requests, 0);
    assert!(call.head.is_none());
    call.stream.send_data(Bytes::new(), true).unwrap();
    pair.pump();
    call.take();
    assert_success(&call);
    assert_eq!(builder.inbox().counters().spans, 1);
}

#[test]
fn a_call_that_the_client_gives_up_is_not_recorded() {
    let builder = Collector::builder();
    let mut pair = Pair::new(&builder);
    let body = framed(&message(&["a"]));
    let mut call = pair.open(export_request());
    call.stream
        .send_data(Bytes::copy_from_slice(&body[..20]), false)
        .unwrap();
    call.stream.send_reset(Reason::CANCEL);
    pair.pump();
    let mut cut = pair.open(export_request());
    cut.stream
        .send_data(Bytes::copy_from_slice(&body[..20]), false)
        .unwrap();
    pair.pump();
    pair.disconnect();
    let counters = builder.inbox().counters();
    assert_eq!((counters.requests, counters.calls_cancelled), (0, 2));
    assert_eq!(pair.session.fate(), Fate::Closed);
}

#[test]
fn every_split_of_the_bytes_gives_the_same() {
    for chunk in [1, 2, 3, 7, 9, 64] {
        let builder = Collector::builder();
        let mut pair = Pair::new(&builder);
        pair.chunk = chunk;
        assert_success(&pair.export(&message(&["a", "b", "c"])));
        assert_eq!(builder.inbox().counters().spans, 3, "chunks of {chunk}");
    }
}

#[test]
fn large_messages_pass_small_windows() {
    let builder = Collector::builder()
        .initial_window_size(1_000)
        .keep_requests(false);
    let mut pair = Pair::new(&builder);
    let name = "n".repeat(5 << 20);
    assert_success(&pair.export(&message(&[&name])));
    let counters = builder.inbox().counters();
    assert_eq!(counters.spans, 1);
    assert!(counters.message_bytes > 5 << 20);
    // Only counters were asked for.
    assert_eq!(
        (builder.inbox().spans().len(), builder.inbox().requests().len()),
        (0, 0)
    );
}

#[test]
fn a_window_of_zero_never_lets_a_request_in() {
    let builder = Collector::builder().initial_window_size(0);
    let mut pair = Pair::new(&builder);
    let call = pair.export(&message(&["a"]));
    assert!(call.head.is_none() && call.error.is_none());
    assert_eq!(builder.inbox().counters().requests, 0);
}

#[test]
fn a_message_above_the_cap_is_refused_at_its_prefix() {
    let builder = Collector::builder().message_bytes_max(100);
    let mut pair = Pair::new(&builder);
    let mut call = pair.open(export_request());
    call.stream
        .send_data(Bytes::from_static(&[0, 0, 0, 0, 101]), false)
        .unwrap();
    pair.pump();
    call.take();
    assert_eq!(call.grpc_status(), Some("8"));
    assert_eq!(
        call.field("grpc-message"),
        Some("message of 101 bytes; at most 100 are taken")
    );
    assert_eq!(builder.inbox().counters().calls_invalid, 1);
    // The connection is as good as before.
    assert_eq!(
        pair.call_with(export_request(), &framed(&[])).grpc_status(),
        Some("0")
    );
}

#[test]
fn calls_that_are_not_grpc_are_turned_away() {
    let request = |method: &str, uri: &str, content_type: &str| {
        let builder = Request::builder()
            .method(method)
            .uri(uri)
            .header("content-type", content_type);
        builder.body(()).unwrap()
    };
    let unknown = "http://test/opentelemetry.proto.collector.metrics.v1.MetricsService/Import";
    let cases = [
        (request("POST", unknown, "application/grpc"), 200, Some("12")),
        (request("POST", TRACE_PATH, "application/x-protobuf"), 415, None),
        (request("POST", TRACE_PATH, "application/grpc-web"), 415, None),
        (request("PUT", TRACE_PATH, "application/grpc"), 405, None),
        (
            request("POST", TRACE_PATH, "application/grpc+proto"),
            200,
            Some("0"),
        ),
    ];
    let builder = Collector::builder();
    let mut pair = Pair::new(&builder);
    for (request, http_status, grpc_status) in cases {
        let call = pair.call_with(request, &framed(&message(&["a"])));
        assert_eq!(
            (call.http_status(), call.grpc_status()),
            (Some(http_status), grpc_status)
        );
    }
    let counters = builder.inbox().counters();
    assert_eq!((counters.requests, counters.calls_invalid), (1, 4));
}

#[test]
fn malformed_bodies_are_turned_away() {
    let good = framed(&message(&["a"]));
    let with_flag = |flag| [&[flag], &good[1..]].concat();
    let cases: [(Vec<u8>, &str); 7] = [
        (Vec::new(), "13"),
        (good[..4].to_vec(), "13"),
        (good[..good.len() - 1].to_vec(), "13"),
        ([&*good, &[0]].concat(), "13"),
        (with_flag(1), "13"),
        (with_flag(2), "13"),
        (framed(&[0x0a, 0x7f]), "3"),
    ];
    let builder = Collector::builder();
    let mut pair = Pair::new(&builder);
    for (body, status) in cases {
        let call = pair.call_with(export_request(), &body);
        assert_eq!(call.grpc_status(), Some(status), "{body:?}");
    }
    assert_eq!(builder.inbox().counters().requests, 0);
    assert_eq!(builder.inbox().counters().calls_invalid, 7);
    assert_success(&pair.call_with(export_request(), &good));
}

#[test]
fn partial_success_says_what_was_refused() {
    let builder = Collector::builder().answer(Answer::PartialSuccess {
        rejected: 2,
        message: "no".into(),
    });
    let mut pair = Pair::new(&builder);
    let call = pair.export(&message(&["a", "b", "c"]));
    assert_eq!(call.grpc_status(), Some("0"));
    // partial_success { rejected_spans: 2, error_message: "no" }
    let expected = [0, 0, 0, 0, 8, 0x0a, 6, 0x08, 2, 0x12, 2, b'n', b'o'];
    assert_eq!(call.data, expected);
    let counters = builder.inbox().counters();
    assert_eq!((counters.spans, counters.spans_accepted), (3, 1));
}

#[test]
fn a_status_has_a_message_and_retry_info() {
    let call = answer_to(Answer::Status {
        code: Code::RESOURCE_EXHAUSTED,
        message: "100 % full: é\n".into(),
        retry_info: Some(Duration::from_millis(1_500)),
    });
    // Trailers-Only: the head is all there is.
    assert!(call.is_ended && call.trailers.is_none() && call.data.is_empty());
    assert_eq!(call.grpc_status(), Some("8"));
    assert_eq!(call.field("grpc-message"), Some("100 %25 full: %C3%A9%0A"));
    let details = call.field("grpc-status-details-bin").unwrap();
    let details = base64::Engine::decode(&base64::engine::general_purpose::STANDARD_NO_PAD, details).unwrap();
    let retry_info = [0x0a, 8, 0x08, 1, 0x10, 0x80, 0xca, 0xb5, 0xee, 0x01];
    assert!(
        details.windows(10).any(|window| window == retry_info),
        "{details:x?}"
    );
    let url = b"type.googleapis.com/google.rpc.RetryInfo";
    assert!(details.windows(url.len()).any(|window| window == url));
}

#[test]
fn scripted_answers_come_before_the_chosen_ones() {
    let builder =
        Collector::builder().answer_with(|request: &ReceivedRequest| match request.header("x-case") {
            Some("reset") => Answer::Reset(Reason::REFUSED_STREAM.into()),
            Some("panic") => panic!("a fault of the test"),
            _ => Answer::HttpStatus(503),
        });
    let mut pair = Pair::new(&builder);
    builder.inbox().answer_next(Answer::Ok);
    builder
        .inbox()
        .answer_next(Answer::status(Code::UNAVAILABLE, "later"));
    assert_success(&pair.export(&message(&["a"])));
    assert_eq!(pair.export(&message(&["a"])).grpc_status(), Some("14"));

    let call = pair.export(&message(&["a"]));
    assert_eq!((call.http_status(), call.grpc_status()), (Some(503), None));
    let mut request = export_request();
    request.headers_mut().insert("x-case", "reset".parse().unwrap());
    let call = pair.call_with(request, &framed(&message(&["a"])));
    assert_eq!(call.error.unwrap().reason(), Some(Reason::REFUSED_STREAM));
    let mut request = export_request();
    request.headers_mut().insert("x-case", "panic".parse().unwrap());
    let call = pair.call_with(request, &framed(&message(&["a"])));
    assert_eq!(call.grpc_status(), Some("13"));

    builder.inbox().answer(Answer::Ok);
    assert_success(&pair.export(&message(&["a"])));
    let answers: Vec<_> = builder.inbox().requests();
    let accepted: Vec<_> = answers.iter().map(ReceivedRequest::is_accepted).collect();
    assert_eq!(accepted, [true, false, false, false, false, true]);
    assert_eq!(builder.inbox().counters().spans_accepted, 2);
}

#[test]
fn a_delayed_answer_comes_at_its_time() {
    let (builder, mut pair) = pair_answering(Answer::Ok.after(Duration::from_millis(300)));
    let mut slow = pair.export(&message(&["a"]));
    builder.inbox().answer(Answer::Ok);
    assert_success(&pair.export(&message(&["b"])));
    assert_eq!(
        pair.session.poll_timeout(),
        Some(pair.now + Duration::from_millis(300))
    );
    pair.advance(Duration::from_millis(299));
    slow.take();
    assert!(slow.head.is_none());
    pair.advance(Duration::from_millis(1));
    slow.take();
    assert_success(&slow);
    assert_eq!(pair.session.poll_timeout(), None);
}

#[test]
fn a_delayed_answer_to_a_cancelled_call_is_forgotten() {
    let (builder, mut pair) = pair_answering(Answer::Ok.after(Duration::from_secs(1)));
    for _ in 0..300 {
        let mut call = pair.export(&message(&["a"]));
        call.stream.send_reset(Reason::CANCEL);
        pair.pump();
    }
    assert_eq!(pair.session.poll_timeout(), None);
    assert_eq!(builder.inbox().counters().calls_cancelled, 300);
    assert_eq!(pair.session.fate(), Fate::Open);
}

#[test]
fn silence_has_three_depths() {
    let never = answer_to(Answer::Never);
    assert!(never.head.is_none() && never.error.is_none());

    let headers = answer_to(Answer::HeadersOnly);
    assert_eq!((headers.http_status(), headers.data.len()), (Some(200), 0));
    assert!(!headers.is_ended && headers.error.is_none());

    let data = answer_to(Answer::NoTrailers);
    assert_eq!((data.http_status(), &*data.data), (Some(200), &[0; 5][..]));
    assert!(!data.is_ended && data.error.is_none());
}

#[test]
fn silent_calls_end_with_the_clients_reset() {
    let (builder, mut pair) = pair_answering(Answer::Never);
    for answer in [Answer::Never, Answer::HeadersOnly, Answer::NoTrailers] {
        builder.inbox().answer(answer);
        let mut call = pair.export(&message(&["a"]));
        call.stream.send_reset(Reason::CANCEL);
        pair.pump();
    }
    assert_eq!(builder.inbox().counters().calls_cancelled, 3);
}

#[test]
fn goaway_excludes_this_call_and_later_ones() {
    let (builder, mut pair) = pair_answering(Answer::Ok.after(Duration::from_secs(1)));
    let mut earlier = pair.export(&message(&["earlier"]));
    builder.inbox().answer(Answer::GoAway {
        reason: Reason::ENHANCE_YOUR_CALM.into(),
        debug_data: Bytes::from_static(b"too_many_pings"),
    });
    let mut later = pair.open(export_request());
    let refused = pair.export(&message(&["refused"]));
    later.take();
    for call in [&refused, &later] {
        // Stream 1 was the last to be processed; whether 3 was is told by 5's GOAWAY alone.
        if let Some(error) = &call.error {
            assert!(error.is_go_away() && error.is_remote(), "{error}");
        }
    }
    assert!(refused.error.is_some());
    assert_eq!(pair.session.fate(), Fate::Open);
    pair.advance(Duration::from_secs(1));
    earlier.take();
    assert_success(&earlier);
    // The open call below the last stream still counts; once it is gone the connection closes.
    assert_eq!(pair.session.fate(), Fate::Open);
    later.stream.send_reset(Reason::CANCEL);
    pair.pump();
    assert_eq!(pair.session.fate(), Fate::Closed);
    let goaway = [0, 0, 22, 7, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 11];
    assert!(pair.said.windows(17).any(|window| window == goaway));
    assert!(pair.said.windows(14).any(|window| window == b"too_many_pings"));
}

#[test]
fn goaway_on_the_first_call_names_stream_zero() {
    let (_, mut pair) = pair_answering(Answer::GoAway {
        reason: 0,
        debug_data: Bytes::new(),
    });
    let call = pair.export(&message(&["a"]));
    assert!(call.error.unwrap().is_go_away());
    let goaway = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert!(pair.said.ends_with(&goaway));
    assert_eq!(pair.session.fate(), Fate::Closed);
}

#[test]
fn a_drain_lets_calls_end_well() {
    let (builder, mut pair) = pair_answering(Answer::Ok.after(Duration::from_secs(1)));
    let mut earlier = pair.export(&message(&["a"]));
    builder.inbox().answer(Answer::Drain(Box::new(Answer::Ok)));
    assert_success(&pair.export(&message(&["b"])));
    assert_eq!(pair.session.fate(), Fate::Open);
    pair.advance(Duration::from_secs(1));
    earlier.take();
    assert_success(&earlier);
    assert_eq!(pair.session.fate(), Fate::Closed);
    assert!(
        matches!(pair.connection_end, Some(Ok(()))),
        "{:?}",
        pair.connection_end
    );
    // Two GOAWAY frames: the first without a limit, the second with the last call.
    let heads = [
        [0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff],
        [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 3],
    ];
    for head in heads {
        assert!(pair.said.windows(13).any(|window| window == head));
    }
}

#[test]
fn a_connection_drains_after_its_last_request() {
    let builder = Collector::builder().requests_per_connection(2);
    let mut pair = Pair::new(&builder);
    assert_success(&pair.export(&message(&["a"])));
    assert_eq!(pair.session.fate(), Fate::Open);
    assert_success(&pair.export(&message(&["b"])));
    assert_eq!(pair.session.fate(), Fate::Closed);
}

#[test]
fn a_drain_asked_for_before_the_preface_comes_after_it() {
    let builder = Collector::builder();
    let mut session = builder.session(0);
    session.drain(otlp_embed::time::Instant::ZERO);
    assert_eq!(session.fate(), Fate::Open);
    session.handle_input(
        otlp_embed::time::Instant::ZERO,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    );
    let said = session.poll_transmit().unwrap();
    let head = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff];
    assert!(said.windows(13).any(|window| window == head));
}

#[test]
fn connections_end_as_told() {
    for (answer, fate) in [
        (Answer::CloseConnection, Fate::Closed),
        (Answer::AbortConnection, Fate::Aborted),
    ] {
        let (builder, mut pair) = pair_answering(Answer::Never);
        let mut other = pair.export(&message(&["other"]));
        builder.inbox().answer(answer);
        let call = pair.export(&message(&["a"]));
        other.take();
        assert_eq!(pair.session.fate(), fate);
        assert!(call.error.is_some() && other.error.is_some());
        assert_eq!(builder.inbox().counters().requests, 2);
    }
}

#[test]
fn answers_of_the_same_moment_leave_before_the_connection_closes() {
    let builder = Collector::builder();
    let mut pair = Pair::new(&builder);
    builder.inbox().answer_next(Answer::Ok);
    builder.inbox().answer_next(Answer::CloseConnection);
    let body = Bytes::from(framed(&message(&["a"])));
    let mut first = pair.open(export_request());
    let mut second = pair.open(export_request());
    first.stream.send_data(body.clone(), true).unwrap();
    second.stream.send_data(body, true).unwrap();
    pair.pump();
    first.take();
    second.take();
    assert_success(&first);
    assert!(second.error.is_some());
}

#[test]
fn raw_answers_say_what_they_are_told() {
    let raw = RawAnswer::new(200)
        .informational(103)
        .header("content-type", "application/grpc")
        .data(vec![0, 0])
        .data(vec![0, 0, 0])
        .trailer("grpc-status", "0")
        .trailer("grpc-status-details-bin", "%%%not base64%%%");
    let call = answer_to(raw.into());
    assert_success(&call);
    assert_eq!(call.field("grpc-status-details-bin"), Some("%%%not base64%%%"));

    let head_only = answer_to(RawAnswer::new(301).header("location", "http://elsewhere/").into());
    assert_eq!(head_only.http_status(), Some(301));
    assert_eq!(head_only.field("location"), Some("http://elsewhere/"));
    assert!(head_only.is_ended);

    let without_trailers = answer_to(RawAnswer::new(200).data(vec![1, 2, 3]).into());
    assert_eq!(without_trailers.data, [1, 2, 3]);
    assert!(without_trailers.is_ended && without_trailers.trailers.is_none());

    let endless = answer_to(RawAnswer::new(200).data(vec![1]).never_ends().into());
    assert_eq!(endless.data, [1]);
    assert!(!endless.is_ended && endless.error.is_none());
}

#[test]
fn stream_limits_hold() {
    let builder = Collector::builder()
        .max_concurrent_streams(1)
        .answer(Answer::Never);
    let mut pair = Pair::new(&builder);
    let _first = pair.export(&message(&["a"]));
    let _second = pair.export(&message(&["b"]));
    // The second waits inside the client.
    assert_eq!(builder.inbox().counters().requests, 1);
}

#[test]
fn garbage_ends_the_connection() {
    let late = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0xff; 64]].concat();
    for garbage in [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r"[..],
        &late,
        &[0xff; 64],
        &[0; 24],
    ] {
        let builder = Collector::builder();
        let mut session = builder.session(0);
        let now = otlp_embed::time::Instant::ZERO;
        session.handle_input(now, garbage);
        assert_eq!(session.fate(), Fate::Closed, "{garbage:?}");
        session.handle_input(now, garbage);
        session.handle_eof(now);
        session.handle_timeout(now);
        assert_eq!(session.fate(), Fate::Closed);
    }
}

#[test]
fn every_prefix_of_a_client_then_eof_ends_the_session() {
    // What a client says in one export, from preface to END_STREAM.
    let builder = Collector::builder();
    let sent = collector_client::bytes_of_one_export(&builder, &message(&["a"]));
    for length in 0..=sent.len() {
        let builder = Collector::builder();
        let mut session = builder.session(0);
        let now = otlp_embed::time::Instant::ZERO;
        session.handle_input(now, &sent[..length]);
        session.handle_eof(now);
        assert_eq!(session.fate(), Fate::Closed, "prefix of {length}");
        let received = u64::from(length == sent.len());
        assert_eq!(
            builder.inbox().counters().requests,
            received,
            "prefix of {length}"
        );
    }
}
