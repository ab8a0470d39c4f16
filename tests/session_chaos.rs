//! Everything at once, over links that cut anywhere: what a call is told agrees with what the server read.

#[path = "support/session_pair.rs"]
mod session_pair;

use otlp_embed::protocol::{CallEnd, CallId, Connection};
use otlp_embed::{Code, Config};
use session_pair::*;
use std::collections::BTreeMap;
use std::time::Duration;

/// Lengths of requests, by which the server's view of a call is found again: each is used once.
fn length_of(seed: u64, at: usize) -> usize {
    (at * 613 + seed as usize % 97) % 60_000
}

fn behaviour(random: &mut fastrand::Rng) -> Behaviour {
    match random.u8(0..10) {
        0 => Behaviour::Hold,
        1 => Behaviour::Reset(h2::Reason::CANCEL),
        2 => Behaviour::Reset(h2::Reason::INTERNAL_ERROR),
        3 => Behaviour::Status(14, "busy"),
        4 => Behaviour::TrailersOnly(3, "bad"),
        5 => Behaviour::Body(vec![0; 5], 1),
        6 => Behaviour::OkAfterEmptyData,
        _ => Behaviour::Ok,
    }
}

fn chaos(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let streams_max = random.u32(1..20);
    let window = random.u32(1_000..80_000);
    let mut pair = Pair::with_server(
        seed,
        Config::new().with_protocol(otlp_embed::Protocol::Grpc),
        |server| {
            server
                .max_concurrent_streams(streams_max)
                .initial_window_size(window);
        },
    );
    let mut lengths: BTreeMap<u64, usize> = BTreeMap::new();
    let mut cancelled = Vec::new();
    let end = random.usize(50..1_500);
    for step in 0..end {
        pair.server.otherwise = behaviour(&mut random);
        match random.u8(0..20) {
            0..6 if pair.session.can_start() => {
                let len = length_of(seed, lengths.len());
                let call = pair.start(len).expect("there is room");
                lengths.insert(call, len);
            }
            6 => {
                // What was handed to the socket cannot be called back: an unsent request that expires here would still
                // arrive. The socket takes all of it first, so that the account can be checked to the item.
                pair.deliver();
                pair.pass(Duration::from_millis(random.u64(0..3_000)));
            }
            7 if !lengths.is_empty() => {
                let call = random.u64(0..lengths.len() as u64);
                if !pair.log.ends.contains_key(&call) {
                    pair.session.cancel(pair.now, CallId(call));
                    cancelled.push(call);
                }
            }
            8 if step > end / 2 && seed % 3 == 0 && !pair.server.is_done() => pair.server.shut_down(),
            _ => {}
        }
        pair.step();
    }
    if seed % 2 == 0 {
        pair.deliver();
        pair.pass(Duration::from_secs(60));
        if !pair.session.is_draining() {
            pair.run();
        }
    }
    if pair.log.closed.is_empty() {
        pair.cut_off("cut");
    }
    assert_eq!(pair.log.closed.len(), 1);
    let read: Vec<usize> = pair
        .server
        .requests
        .iter()
        .map(|(_, message)| message.len() - 5)
        .collect();
    for (call, len) in &lengths {
        if cancelled.contains(call) {
            assert!(!pair.log.ends.contains_key(call), "no event follows a cancel");
            continue;
        }
        let was_read = read.contains(len);
        match pair.log.end(*call) {
            CallEnd::Answered(answer) => {
                assert!(
                    was_read || answer.code != Code::OK,
                    "seed {seed}: success of what nobody read"
                );
            }
            CallEnd::Unprocessed(failure) => {
                assert!(
                    !was_read,
                    "seed {seed}: {call} was read, yet is told unprocessed: {failure:?}"
                );
                assert!(failure.is_retryable);
            }
            CallEnd::Expired { sent: false } => assert!(!was_read, "seed {seed}: {call} was read"),
            CallEnd::Unanswered(_) | CallEnd::Expired { sent: true } => {
                assert!(
                    pair.log.sent.contains(call),
                    "seed {seed}: {call} was never sent whole"
                );
            }
        }
    }
}

#[test]
fn every_verdict_agrees_with_what_the_server_read() {
    for seed in 0..25 {
        chaos(seed);
    }
}

#[test]
fn trailers_that_never_come_end_with_the_deadline() {
    let mut raw = Raw::new();
    let call = raw.call(10);
    raw.input(&[head(1), data(1, &[0; 5], false)].concat());
    raw.pass(Duration::from_secs(10));
    assert_eq!(raw.log.end(call), &CallEnd::Expired { sent: true }, "spec 49");
    let next = raw.call(10);
    raw.input(&[trailers(1, "0"), success(3)].concat());
    assert!(raw.log.is_ok(next));
}
