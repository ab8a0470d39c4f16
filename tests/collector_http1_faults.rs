//! The faults that the collector can be told on HTTP/1.1, in memory: silence, ends, cuts, lies, dribbles.

#[path = "support/collector_client.rs"]
#[allow(dead_code, reason = "shared with the tests of HTTP/2")]
mod collector_client;
#[path = "support/collector_http1.rs"]
mod collector_http1;

use bytes::Bytes;
use collector_client::message;
use collector_http1::{Client, request};
use otlp_embed::testing::collector::{Builder, Fate, RawAnswer};
use otlp_embed::testing::{Answer, Collector};
use std::time::Duration;

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";
const TRACES: &str = "/v1/traces";

fn client_answering(answer: Answer) -> (Builder, Client) {
    let builder = Collector::builder().answer(answer);
    let client = Client::new(&builder);
    (builder, client)
}

fn export(client: &mut Client) {
    client.send(&request(TRACES, &[("content-type", PROTOBUF)], &message(&["a"])));
}

#[test]
fn silence_has_three_depths() {
    for (answer, begins) in [
        (Answer::Never, ""),
        (Answer::HeadersOnly, "HTTP/1.1 200 OK\r\n"),
        (Answer::NoTrailers, "HTTP/1.1 200 OK\r\n"),
    ] {
        let (builder, mut client) = client_answering(answer);
        export(&mut client);
        assert_eq!(client.response(), None);
        let said = String::from_utf8(client.unread()).unwrap();
        assert!(
            said.starts_with(begins) && said.is_empty() == begins.is_empty(),
            "{said}"
        );
        assert_eq!(client.session.poll_timeout(), None);
        client.disconnect();
        assert_eq!(builder.inbox().counters().calls_cancelled, 1);
    }
    let (_, mut client) = client_answering(Answer::NoTrailers);
    client.send(&request("/v1/logs", &[("content-type", JSON)], b"{}"));
    assert!(
        client
            .unread()
            .ends_with(b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n")
    );
}

#[test]
fn connections_end_as_told() {
    for (answer, fate) in [
        (Answer::CloseConnection, Fate::Closed),
        (
            Answer::GoAway {
                reason: 0,
                debug_data: Bytes::new(),
            },
            Fate::Closed,
        ),
        (Answer::AbortConnection, Fate::Aborted),
        (Answer::Reset(7), Fate::Aborted),
    ] {
        let (builder, mut client) = client_answering(answer);
        export(&mut client);
        assert_eq!((client.session.fate(), client.unread().len()), (fate, 0));
        assert_eq!(builder.inbox().counters().requests, 1);
        client.send(b"more");
        client.disconnect();
        assert_eq!((client.session.fate(), client.unread().len()), (fate, 0));
    }
}

#[test]
fn answers_are_cut_anywhere() {
    let body = RawAnswer::new(200)
        .chunked()
        .data(&b"abc"[..])
        .data(&b"defgh"[..]);
    let (_, mut client) = client_answering(body.clone().into());
    export(&mut client);
    let whole = client.unread();
    assert!(whole.ends_with(b"\r\n\r\n3\r\nabc\r\n5\r\ndefgh\r\n0\r\n\r\n"));
    for bytes in 0..=whole.len() + 1 {
        let (_, mut client) = client_answering(Answer::from(body.clone()).cut_after(bytes));
        export(&mut client);
        assert_eq!(client.unread(), &whole[..bytes.min(whole.len())]);
        assert_eq!(client.session.fate(), Fate::Closed);
    }
    // With more bytes than there are, a connection seems to be kept that is not.
    let (builder, mut client) = client_answering(Answer::Ok.cut_after(usize::MAX));
    export(&mut client);
    assert_eq!(client.session.fate(), Fate::Closed);
    let response = client.response().unwrap();
    assert_eq!((response.status, response.field("connection")), (200, None));
    let counters = builder.inbox().counters();
    assert_eq!((counters.calls_cancelled, counters.requests_accepted), (0, 1));
    assert!(builder.inbox().requests()[0].is_accepted());
    // The delay comes first, then the cut.
    let late = Answer::Ok.after(Duration::from_secs(1)).cut_after(9);
    let (_, mut client) = client_answering(late);
    export(&mut client);
    assert_eq!((client.session.fate(), client.unread().len()), (Fate::Open, 0));
    client.advance(Duration::from_secs(1));
    assert_eq!(
        (client.session.fate(), &*client.unread()),
        (Fate::Closed, &b"HTTP/1.1 "[..])
    );
}

#[test]
fn raw_answers_say_what_they_are_told() {
    let (builder, mut client) = client_answering(
        RawAnswer::new(503)
            .informational(103)
            .header("retry-after", "7")
            .header("location", "http://elsewhere/")
            .data(&b"busy"[..])
            .into(),
    );
    export(&mut client);
    assert_eq!(client.response().unwrap().status, 103);
    let response = client.response().unwrap();
    assert_eq!((response.status, &*response.body), (503, &b"busy"[..]));
    assert_eq!(response.field("retry-after"), Some("7"));
    assert_eq!(response.field("location"), Some("http://elsewhere/"));
    assert!(!builder.inbox().requests()[0].is_accepted());

    let say = |raw: RawAnswer| {
        builder.inbox().answer_next(raw.into());
        let mut client = Client::new(&builder);
        export(&mut client);
        let fate = client.session.fate();
        (String::from_utf8_lossy(&client.unread()).into_owned(), fate)
    };
    // A length that is a lie, and chunks that are none.
    let (said, fate) = say(RawAnswer::new(200)
        .header("content-length", "9")
        .data(&b"abc"[..]));
    assert_eq!(
        (&*said, fate),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", Fate::Open)
    );
    let (said, _) = say(RawAnswer::new(200)
        .header("transfer-encoding", "chunked")
        .data(&b"zz\r\n"[..]));
    assert!(said.ends_with("chunked\r\n\r\nzz\r\n"), "{said}");
    let (said, fate) = say(RawAnswer::new(200).data(&b"abc"[..]).until_close());
    assert_eq!(
        (&*said, fate),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc", Fate::Closed)
    );
    let (said, _) = say(RawAnswer::new(200).data(&b"abc"[..]).trailer("x-late", "1"));
    assert!(
        said.ends_with("\r\n\r\n3\r\nabc\r\n0\r\nX-Late: 1\r\n\r\n"),
        "{said}"
    );
    let (said, fate) = say(RawAnswer::new(204));
    assert_eq!((&*said, fate), ("HTTP/1.1 204 No Content\r\n\r\n", Fate::Open));
    let (said, fate) = say(RawAnswer::new(200));
    assert_eq!(
        (&*said, fate),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Fate::Open)
    );

    builder
        .inbox()
        .answer_next(Answer::Bytes(Bytes::from_static(b"SSH-2.0-x\r\n")));
    let mut client = Client::new(&builder);
    export(&mut client);
    assert_eq!(client.unread(), b"SSH-2.0-x\r\n");
    builder.inbox().answer(Answer::Ok);
    assert_eq!(client.post(TRACES, PROTOBUF, b"").status, 200);
}

#[test]
fn bodies_dribble_and_never_end() {
    let (_, mut client) = client_answering(
        RawAnswer::new(200)
            .data(&b"a"[..])
            .data(&b"b"[..])
            .data(&b"c"[..])
            .paced(Duration::from_secs(5))
            .into(),
    );
    export(&mut client);
    for end in ["a", "b"] {
        assert!(client.response().is_none());
        assert_eq!(
            client.session.poll_timeout(),
            Some(client.now + Duration::from_secs(5))
        );
        client.advance(Duration::from_secs(4));
        assert!(
            client.response().is_none(),
            "nothing comes after {end} before its time"
        );
        client.advance(Duration::from_secs(1));
    }
    assert_eq!(client.response().unwrap().body, b"abc");
    assert_eq!(client.session.poll_timeout(), None);

    let endless = RawAnswer::new(200)
        .data(&b"head"[..])
        .data(vec![b'x'; 1000])
        .endless();
    let (builder, mut client) = client_answering(endless.paced(Duration::ZERO).into());
    export(&mut client);
    let mut said = client.unread().len();
    assert!(said < 2000);
    for _ in 0..50 {
        client.advance(Duration::from_millis(1));
        assert!(client.response().is_none());
        let more = client.unread().len();
        assert!(more > 1000, "{more}");
        said += more;
    }
    assert!(said > 50_000);
    client.disconnect();
    assert_eq!(client.session.poll_timeout(), None);
    assert_eq!(builder.inbox().counters().calls_cancelled, 1);
}
