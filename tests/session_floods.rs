//! Peers that flood the connection: each flood ends in a prompt error, in bounded memory (spec 52).

#[path = "support/session_pair.rs"]
mod session_pair;

use otlp_embed::protocol::CallEnd;
use session_pair::*;

/// Bytes that a flood may send before it has to be over.
const FLOOD_BYTES_MAX: usize = 8 << 20;

/// Sends `unit` again and again to a session with one call; what the flood cost until the connection was over.
///
/// `is_read` tells whether the peer, and so the socket, takes what it is sent.
fn flood(prelude: &[u8], unit: &[u8], is_read: bool) -> (Raw, usize) {
    let mut raw = Raw::new();
    let call = raw.call(10);
    raw.input(prelude);
    // Whole frames, about 16 KiB at a time, as a socket delivers them.
    let batch = unit.repeat((16 << 10) / unit.len().max(1) + 1);
    let mut total = 0;
    while raw.log.closed.is_empty() {
        raw.input(&batch);
        if is_read {
            raw.flush();
        }
        total += batch.len();
        assert!(total < FLOOD_BYTES_MAX, "the flood goes on");
    }
    match raw.log.end(call) {
        CallEnd::Unanswered(failure) => assert!(failure.is_retryable, "{failure:?}"),
        other => panic!("{other:?}"),
    }
    (raw, total)
}

/// A flood that is over within a few hundred KiB, read or not, with as little said in return.
fn short_flood(prelude: &[u8], unit: &[u8]) {
    for is_read in [true, false] {
        let (raw, total) = flood(prelude, unit, is_read);
        assert!(total < 1 << 20, "{total} bytes");
        assert!(raw.transmitted.len() < 1 << 20, "{} bytes", raw.transmitted.len());
    }
}

#[test]
fn pings() {
    short_flood(&[], &frame(6, 0, 0, &[7; 8]));
    short_flood(&[], &frame(6, 1, 0, &[7; 8]));
}

#[test]
fn settings_frames() {
    short_flood(&[], &settings(&[(4, 1 << 20)]));
    short_flood(&[], &settings(&[]));
}

#[test]
fn empty_data_frames() {
    short_flood(&head(1), &data(1, &[], false));
    short_flood(&[], &data(1, &[], false));
}

#[test]
fn frames_of_nothing_but_padding() {
    let (raw, total) = flood(&head(1), &frame(0, 0x8, 1, &[0]), true);
    assert!(total < 1 << 20 && raw.transmitted.len() < 1 << 20);
}

#[test]
fn interim_answers() {
    short_flood(&[], &headers(1, &[(":status", "103")], false));
}

#[test]
fn interim_answers_with_large_heads() {
    let large = "v".repeat(15_000);
    flood(
        &[],
        &headers(1, &[(":status", "103"), ("x", &large)], false),
        true,
    );
}

#[test]
fn unknown_frames_and_priorities() {
    short_flood(&[], &frame(0xbe, 0, 0, &[1; 20]));
    short_flood(&[], &frame(2, 0, 1, &[0, 0, 0, 3, 1]));
}

#[test]
fn resets_and_answers_of_streams_long_gone() {
    for unit in [rst(1, 8), data(1, &[1], false), head(1)] {
        let mut raw = Raw::new();
        let first = raw.call(10);
        raw.input(&success(1));
        assert!(raw.log.is_ok(first));
        let call = raw.call(10);
        let mut total = 0;
        while raw.log.closed.is_empty() {
            raw.input(&unit.repeat(100));
            total += unit.len() * 100;
            assert!(total < FLOOD_BYTES_MAX, "the flood goes on");
        }
        assert!(matches!(raw.log.end(call), CallEnd::Unanswered(_)));
        assert!(raw.transmitted.len() < 1 << 20);
    }
}

#[test]
fn goaways() {
    let mut raw = Raw::new();
    let call = raw.call(10);
    let mut total = 0;
    while raw.log.closed.is_empty() {
        let unit = goaway(1, 0, b"again");
        raw.input(&unit.repeat(100));
        total += unit.len() * 100;
        assert!(total < FLOOD_BYTES_MAX, "the flood goes on");
    }
    assert!(matches!(raw.log.end(call), CallEnd::Unanswered(_)));
}

#[test]
fn continuations() {
    // A header block that never ends.
    let begin = frame(1, 0, 1, &block(&[(":status", "200")]));
    short_flood(&begin, &frame(9, 0, 1, &[]));
    let (_, total) = flood(&begin, &frame(9, 0, 1, &[0x41; 16_000]), true);
    assert!(total < 1 << 20, "{total} bytes");
}

#[test]
fn a_head_of_a_mebibyte() {
    let mut raw = Raw::new();
    let call = raw.call(10);
    let value = "v".repeat(1 << 20);
    let block = block(&[(":status", "200"), ("x", &value)]);
    let (first, rest) = block.split_at(16_384);
    raw.input(&frame(1, 0, 1, first));
    let chunks: Vec<&[u8]> = rest.chunks(16_384).collect();
    for (at, chunk) in chunks.iter().enumerate() {
        let flags = if at + 1 == chunks.len() { 0x4 } else { 0 };
        raw.input(&frame(9, flags, 1, chunk));
    }
    assert!(raw.log.ends.contains_key(&call), "a prompt error");
    assert!(!raw.log.is_ok(call));
}

#[test]
fn a_bomb_of_header_compression() {
    // One large entry goes into the table and is then named thousands of times, a byte each.
    let mut raw = Raw::new();
    let call = raw.call(10);
    let mut bomb = block(&[(":status", "200")]);
    bomb.push(0x40);
    bomb.extend(&block(&[("x", &"v".repeat(4_000))])[1..]);
    bomb.extend([0xbe; 12_000]);
    raw.input(&frame(1, 0x4, 1, &bomb));
    assert!(raw.log.ends.contains_key(&call), "a prompt error");
    assert!(!raw.log.is_ok(call));
}

#[test]
fn a_head_above_the_announced_size_ends_one_call_only() {
    let mut raw = Raw::new();
    let call = raw.call(10);
    let kept = raw.call(10);
    let value = "v".repeat(4_000);
    let fields: Vec<(&str, &str)> = std::iter::once((":status", "200"))
        .chain((0..20).map(|_| ("x", &*value)))
        .collect();
    let block = block(&fields);
    let chunks: Vec<&[u8]> = block.chunks(16_384).collect();
    for (at, chunk) in chunks.iter().enumerate() {
        let kind = if at == 0 { 1 } else { 9 };
        let flags = if at + 1 == chunks.len() { 0x4 } else { 0 };
        raw.input(&frame(kind, flags, 1, chunk));
    }
    assert!(matches!(raw.log.end(call), CallEnd::Unanswered(failure) if !failure.is_retryable));
    raw.input(&success(3));
    assert!(raw.log.is_ok(kept), "{:?}", raw.log.closed);
}

#[test]
fn small_frames_of_an_endless_body() {
    flood_until_too_large(&data(1, &[0; 100], false));
    let (_, total) = flood(&head(1), &data(1, &[0], false), true);
    assert!(total < 1 << 20, "{total} bytes");
}

fn flood_until_too_large(unit: &[u8]) {
    let mut raw = Raw::new();
    let call = raw.call(10);
    raw.input(&head(1));
    let mut total = 0;
    while raw.log.ends.is_empty() {
        raw.input(&unit.repeat(100));
        raw.flush();
        total += unit.len() * 100;
        assert!(total < FLOOD_BYTES_MAX, "the flood goes on");
    }
    assert!(matches!(raw.log.end(call), CallEnd::Unanswered(failure) if !failure.is_retryable));
}

#[test]
fn a_peer_that_never_reads_cannot_make_the_session_hoard() {
    // Data for a call, within its window or not, while the socket takes nothing.
    let mut raw = Raw::new();
    raw.call(10);
    raw.input(&head(1));
    let mut total = 0;
    while raw.log.closed.is_empty() {
        raw.input(&data(1, &[0; 16_000], false));
        total += 16_000;
        assert!(total < 2 * FLOOD_BYTES_MAX, "the flood goes on");
    }
    assert!(raw.transmitted.len() < 1 << 20);
}

/// A session whose socket is stuck in the middle of a large request.
fn stuck() -> (Raw, u64) {
    let mut raw = Raw::new();
    raw.input(&settings(&[(4, 1 << 30)]));
    raw.input(&frame(8, 0, 0, &(1_u32 << 30).to_be_bytes()));
    raw.flush();
    let call = raw.start(4 << 20).expect("there is room");
    // The answer to this waits behind the request, and with it everything that comes after.
    raw.input(&frame(6, 0, 0, &[7; 8]));
    (raw, call)
}

#[test]
fn a_peer_that_sends_while_the_socket_is_stuck_loses_the_connection() {
    let (mut raw, call) = stuck();
    raw.input(&head(1));
    let mut total = 0;
    while raw.log.closed.is_empty() {
        raw.input(&data(1, &[0; 16_000], false));
        total += 16_000;
        assert!(total < 2 << 20, "the session hoards what comes");
    }
    assert!(matches!(raw.log.end(call), CallEnd::Unprocessed(failure) if failure.is_retryable));
}

#[test]
fn a_ping_behind_a_stuck_socket_is_answered_in_the_end() {
    let (mut raw, call) = stuck();
    raw.input(&success(1));
    assert!(raw.log.ends.is_empty(), "what came waits");
    while raw.log.sent.is_empty() && raw.log.ends.is_empty() {
        raw.take(300_000);
    }
    raw.flush();
    assert!(raw.log.is_ok(call));
    let pongs = raw.frames().iter().filter(|frame| frame.0 == 6).count();
    assert_eq!(pongs, 1);
}
