//! Connections that the peer closes in order.

#[path = "support/session_pair.rs"]
mod session_pair;

use otlp_embed::Config;
use otlp_embed::protocol::{CallEnd, Connection};
use session_pair::*;
use std::time::Duration;

#[test]
fn streams_above_the_last_one_were_not_processed() {
    let mut raw = Raw::new();
    let calls: Vec<u64> = (0..4).map(|_| raw.call(10)).collect();
    raw.input(&goaway(3, 0, b"max_age"));
    assert_eq!(raw.log.draining.len(), 1);
    assert!(raw.log.draining[0].contains("max_age"), "{:?}", raw.log.draining);
    assert!(raw.session.is_draining() && !raw.session.can_start());
    for above in &calls[2..] {
        match raw.log.end(*above) {
            CallEnd::Unprocessed(failure) => {
                assert!(
                    failure.is_retryable && failure.message.contains("max_age"),
                    "{failure:?}"
                );
            }
            other => panic!("spec 47: {other:?}"),
        }
    }
    assert!(raw.log.closed.is_empty());
    raw.input(&success(3));
    raw.input(&success(1));
    assert!(raw.log.is_ok(calls[0]) && raw.log.is_ok(calls[1]), "spec 47");
    assert_eq!(raw.log.closed.len(), 1, "the last call is done");
    raw.flush();
    assert!(raw.log.ends.len() == 4);
}

#[test]
fn a_goaway_of_zero_hands_everything_back() {
    for code in [0, 2, 11] {
        let mut raw = Raw::new();
        let call = raw.call(10);
        raw.input(&goaway(0, code, b""));
        assert!(
            matches!(raw.log.end(call), CallEnd::Unprocessed(failure) if failure.is_retryable),
            "spec 47: {:?}",
            raw.log.end(call)
        );
        assert_eq!(raw.log.closed.len(), 1);
        raw.eof("eof");
        assert_eq!(raw.log.closed.len(), 1);
    }
}

#[test]
fn an_idle_connection_that_is_told_to_go_goes() {
    let mut raw = Raw::new();
    raw.input(&goaway(u32::MAX >> 1, 0, b""));
    assert_eq!((raw.log.draining.len(), raw.log.closed.len()), (1, 1));
    raw.flush();
    let last = raw.frames().pop().expect("frames");
    assert_eq!(last.0, 7, "the goodbye is returned");
}

#[test]
fn calls_below_a_goaway_keep_their_verdict_when_the_connection_dies() {
    let mut raw = Raw::new();
    let whole = raw.call(10);
    raw.input(&goaway(1, 0, b""));
    raw.eof("reset");
    assert!(
        matches!(raw.log.end(whole), CallEnd::Unanswered(_)),
        "{:?}",
        raw.log.end(whole)
    );
}

#[test]
fn a_graceful_shutdown_under_load_loses_nothing() {
    for seed in 0..12 {
        let mut pair = Pair::new(seed);
        let mut accepted = 0;
        let mut calls = Vec::new();
        for step in 0..10_000 {
            if step == 400 {
                pair.server.shut_down();
            }
            if pair.session.can_start() && calls.len() < 400 {
                calls.push(pair.start(50 + step % 700).expect("there is room"));
            }
            if !pair.step() && pair.session.is_draining() {
                break;
            }
        }
        for call in &calls {
            match pair.log.end(*call) {
                CallEnd::Answered(answer) => {
                    assert_eq!(answer.code, otlp_embed::Code::OK);
                    accepted += 1;
                }
                CallEnd::Unprocessed(failure) => assert!(failure.is_retryable),
                other => panic!("spec 47: {other:?} of {call}, seed {seed}"),
            }
        }
        assert_eq!(
            accepted,
            pair.server.requests.len(),
            "spec 47: neither lost nor doubled, seed {seed}"
        );
        assert!(accepted > 0);
        assert_eq!(
            (pair.log.draining.len(), pair.log.closed.len()),
            (1, 1),
            "seed {seed}"
        );
    }
}

#[test]
fn late_answers_to_cancelled_calls_cost_no_other_call_its_verdict() {
    let mut raw = Raw::new();
    let kept = raw.call(10);
    for round in 0..1_000 {
        let call = raw.call(10);
        raw.cancel(call);
        let stream = 3 + 2 * round;
        let body = data(stream, b"\0\0\0\0\x02\x0a\0", false);
        raw.input(
            &[
                head(stream),
                data(stream, &[], false),
                body,
                trailers(stream, "0"),
            ]
            .concat(),
        );
        raw.flush();
    }
    raw.input(&success(1));
    assert!(
        raw.log.is_ok(kept),
        "{:?} {:?}",
        raw.log.ends.get(&kept),
        raw.log.closed
    );
    assert!(raw.session.can_start());
}

#[test]
fn late_answers_to_expired_calls_cost_no_other_call_its_verdict() {
    let mut raw = Raw::new();
    let mut stream = 1;
    for _ in 0..3 {
        let expired: Vec<u64> = (0..999).map(|_| raw.call(10)).collect();
        raw.pass(Duration::from_secs(5));
        let kept = raw.call(10);
        assert!(!raw.session.can_start(), "a thousand calls are under way");
        raw.pass(Duration::from_secs(5));
        let mut late = Vec::new();
        for call in expired {
            assert_eq!(raw.log.end(call), &CallEnd::Expired { sent: true });
            let body = data(stream, b"\0\0\0\0\x02\x0a\0", false);
            late.extend(
                [
                    head(stream),
                    data(stream, &[], false),
                    body,
                    trailers(stream, "0"),
                ]
                .concat(),
            );
            stream += 2;
        }
        raw.input(&late);
        raw.input(&success(stream));
        stream += 2;
        assert!(raw.log.is_ok(kept), "{:?}", raw.log.closed);
    }
    assert!(raw.log.closed.is_empty() && raw.session.can_start());
}

#[test]
fn empty_data_frames_cost_no_call_its_verdict() {
    let mut pair = Pair::with_server(5, Config::new().with_protocol(otlp_embed::Protocol::Grpc), |_| {});
    pair.server.otherwise = Behaviour::OkAfterEmptyData;
    let mut calls = Vec::new();
    while calls.len() < 1_000 {
        calls.push(pair.start(10).expect("there is room"));
        pair.run();
    }
    assert!(calls.iter().all(|call| pair.log.is_ok(*call)));
}

#[test]
fn blank_data_frames_drain_the_connection_before_it_breaks() {
    let mut raw = Raw::new();
    let mut stream = 1;
    while raw.session.can_start() {
        let call = raw.call(10);
        raw.input(&head(stream));
        raw.input(&frame(0, 0x8, stream, &[1, 0]));
        raw.input(&[data(stream, &[0; 5], false), trailers(stream, "0")].concat());
        assert!(raw.log.is_ok(call));
        stream += 2;
        assert!(stream < 1_000, "the connection drains some time");
    }
    assert_eq!((raw.log.draining.len(), raw.log.closed.len()), (1, 1));
}
