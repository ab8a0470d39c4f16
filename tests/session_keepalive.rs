//! Pings of a connection: when they are sent, what they find out, and what a peer says that is tired of them.

#[path = "support/session_pair.rs"]
mod session_pair;

use otlp_embed::protocol::{CallEnd, Connection as _};
use otlp_embed::{Config, Keepalive, Protocol};
use session_pair::{Raw, data, frame, goaway, head, settings, success, trailers};
use std::time::Duration;

const PING: u8 = 6;
const ACK: u8 = 1;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn raw(keepalive: Option<Keepalive>) -> Raw {
    let config = Config::new().with_protocol(Protocol::Grpc);
    let mut checked = config.settings().expect("settings that work");
    checked.lanes[0].keepalive = keepalive;
    let mut raw = Raw::with_settings(checked);
    raw.input(&settings(&[]));
    raw.flush();
    raw
}

/// Pings after 20 s, whose answers may take 5 s.
fn pinging(while_idle: bool) -> Raw {
    raw(Some(Keepalive {
        interval: secs(20),
        timeout: secs(5),
        while_idle,
    }))
}

/// The pings that the session sent and did not answer itself.
fn pings(raw: &Raw) -> usize {
    let frames = raw.frames();
    frames
        .iter()
        .filter(|frame| (frame.0, frame.1 & ACK) == (PING, 0))
        .count()
}

/// The answer to the last ping.
fn pong(raw: &Raw) -> Vec<u8> {
    let frames = raw.frames();
    let ping = frames
        .iter()
        .rfind(|frame| (frame.0, frame.1 & ACK) == (PING, 0))
        .expect("a ping");
    frame(PING, ACK, 0, &ping.3)
}

/// A call whose deadline is far away.
fn call_of_a_minute(raw: &mut Raw) {
    let call = otlp_embed::protocol::CallId(1_000);
    let deadline = raw.now + secs(60);
    let request = session_pair::request(100);
    let outgoing = raw.settings.outgoing(&request, deadline);
    raw.session
        .start(raw.now, call, &outgoing)
        .expect("there is room");
    raw.flush();
}

#[test]
fn a_connection_without_keepalive_never_pings() {
    let mut raw = raw(None);
    assert_eq!(raw.session.poll_timeout(), None, "spec 51: off by default");
    raw.pass(secs(3_600));
    raw.flush();
    assert_eq!(pings(&raw), 0);
    assert!(raw.session.can_start());
}

#[test]
fn an_idle_connection_is_pinged_only_where_that_is_asked_for() {
    for while_idle in [false, true] {
        let mut raw = pinging(while_idle);
        raw.pass(secs(19));
        raw.flush();
        assert_eq!(pings(&raw), 0);
        raw.pass(secs(1));
        raw.flush();
        assert_eq!(pings(&raw), usize::from(while_idle));
        assert_eq!(raw.session.poll_timeout().is_some(), while_idle);
    }
}

#[test]
fn a_peer_that_answers_is_pinged_again_after_the_interval() {
    let mut raw = pinging(true);
    for round in 1..=3 {
        raw.pass(secs(20));
        raw.flush();
        assert_eq!(pings(&raw), round);
        raw.pass(secs(4));
        let pong = pong(&raw);
        raw.input(&pong);
        assert_eq!(
            raw.session.poll_timeout(),
            Some(raw.now + secs(20)),
            "from the answer on"
        );
    }
    assert!(raw.session.can_start() && raw.log.closed.is_empty());
}

#[test]
fn a_ping_goes_out_while_a_call_is_under_way() {
    let mut raw = pinging(false);
    call_of_a_minute(&mut raw);
    raw.pass(secs(20));
    raw.flush();
    assert_eq!(pings(&raw), 1);
    let pong = pong(&raw);
    raw.input(&pong);
    raw.pass(secs(10));
    raw.input(&success(1));
    assert!(raw.log.is_ok(1_000));
    raw.pass(secs(3_600));
    raw.flush();
    assert_eq!(pings(&raw), 1, "nothing is under way any more");
    assert!(raw.log.closed.is_empty());
}

#[test]
fn whatever_the_peer_says_shows_that_it_is_alive() {
    let mut raw = pinging(false);
    call_of_a_minute(&mut raw);
    for _ in 0..5 {
        raw.pass(secs(10));
        raw.input(&settings(&[]));
    }
    raw.flush();
    assert_eq!(pings(&raw), 0, "it was heard every 10 s");
    raw.input(&[head(1), data(1, &[0; 5], false)].concat());
    raw.input(&trailers(1, "0"));
    assert!(raw.log.is_ok(1_000));
}

/// The pong may stand behind a long answer.
#[test]
fn bytes_after_the_ping_do_for_its_answer() {
    let mut raw = pinging(true);
    raw.pass(secs(20));
    raw.flush();
    raw.pass(secs(4));
    raw.input(&settings(&[]));
    raw.pass(secs(4));
    assert!(raw.session.can_start(), "it was heard within the time");
    // The earlier ping is still without an answer, and `h2` sends one at a time: the wait begins anew.
    raw.pass(secs(16));
    raw.flush();
    assert_eq!(pings(&raw), 1);
    let pong = pong(&raw);
    raw.input(&pong);
    raw.pass(secs(20));
    raw.flush();
    assert_eq!(pings(&raw), 2);
    assert!(raw.log.closed.is_empty());
}

#[test]
fn a_peer_that_never_answers_the_earlier_ping_is_found_dead_later() {
    let mut raw = pinging(true);
    raw.pass(secs(20));
    raw.flush();
    raw.input(&settings(&[]));
    raw.pass(secs(20));
    raw.flush();
    raw.pass(secs(5));
    assert_eq!(raw.log.closed.len(), 1);
}

#[test]
fn a_dead_connection_ends_its_calls_exactly() {
    let mut raw = raw(Some(Keepalive {
        interval: secs(4),
        timeout: secs(2),
        while_idle: false,
    }));
    let sent = raw.call(100);
    let held = raw.start(3 << 20).expect("there is room");
    raw.take(100);
    assert_eq!(raw.log.sent, [sent]);
    raw.pass(secs(4));
    raw.pass(secs(1));
    assert!(raw.log.closed.is_empty());
    raw.pass(secs(1));
    let why = raw.log.closed.first().expect("it is dead");
    assert!(why.contains("within 2 s of a keepalive ping"), "{why}");
    match (raw.log.end(sent), raw.log.end(held)) {
        (CallEnd::Unanswered(lost), CallEnd::Unprocessed(never)) => {
            assert!(lost.is_retryable && never.is_retryable);
            assert_eq!(&lost.message, why);
        }
        other => panic!("{other:?}"),
    }
    assert!(raw.session.is_draining() && !raw.session.can_start());
    assert_eq!(raw.session.poll_timeout(), None);
}

/// A large request over a slow line: the peer hears of the ping only after everything before it.
#[test]
fn the_time_of_a_ping_runs_from_when_the_socket_took_it() {
    let mut raw = raw(Some(Keepalive {
        interval: secs(2),
        timeout: secs(1),
        while_idle: false,
    }));
    raw.input(&settings(&[(4, 1 << 24)]));
    raw.input(&frame(8, 0, 0, &(1_u32 << 24).to_be_bytes()));
    raw.flush();
    raw.start(512 << 10).expect("there is room");
    raw.pass(secs(2));
    for _ in 0..6 {
        raw.pass(Duration::from_millis(900));
        raw.take(64 << 10);
        assert!(raw.log.closed.is_empty(), "the socket takes bytes");
    }
    raw.pass(secs(1));
    assert_eq!(raw.log.closed.len(), 1, "the socket took nothing for a second");
}

#[test]
fn a_peer_that_is_tired_of_pings_is_left_in_order() {
    let mut raw = pinging(true);
    let call = raw.call(10);
    raw.input(&goaway(1, 11, b"too_many_pings"));
    assert_eq!(raw.log.calmed, 1, "spec 51");
    assert!(raw.session.is_draining() && raw.log.closed.is_empty());
    raw.input(&goaway(1, 11, b"too_many_pings"));
    assert_eq!(raw.log.calmed, 1, "told once");
    raw.input(&success(1));
    assert!(raw.log.is_ok(call), "the call under way finishes");
    assert_eq!(raw.log.closed.len(), 1);
}

#[test]
fn other_goaways_are_no_complaint_about_pings() {
    for (code, words) in [(11, &b"slow down"[..]), (0, b"too_many_pings")] {
        let mut raw = pinging(true);
        raw.call(10);
        raw.input(&goaway(1, code, words));
        assert_eq!(raw.log.calmed, 0);
        assert!(raw.session.is_draining());
    }
    let mut raw = self::raw(None);
    raw.call(10);
    raw.input(&goaway(1, 11, b"too_many_pings"));
    assert_eq!(raw.log.calmed, 0, "it sends none");
}
