//! The way through an HTTP proxy, with TLS behind it and without.

#[path = "support/batches.rs"]
mod batches;
#[path = "support/tls_world.rs"]
mod tls_world;

use batches::batch;
use otlp_embed::endpoint::Host;
use otlp_embed::protocol::{CallEnd, CallId, Connection as _, Event, Proxy, Session, Settings};
use otlp_embed::time::Instant;
use otlp_embed::{Code, Config, Protocol, Request, Tls};
use std::time::Duration;
use tls_world::*;

const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";
const TIMEOUT: Duration = Duration::from_secs(2);

/// A session and what is at the other end, without an engine.
struct Link {
    settings: Settings,
    session: Session,
    peer: Peer,
    asked: Vec<u8>,
    heard: Vec<u8>,
    now: Instant,
    events: Vec<Event>,
}

fn settings(config: Config) -> Settings {
    let config = config
        .with_connect_timeout(TIMEOUT)
        .with_header("authorization", "Bearer hunter2");
    let mut settings = config.settings().expect("they work");
    settings.lanes[0].proxy = Some(Proxy {
        host: Host::Name("proxy.example".into()),
        port: 3128,
        authorization: Some("Basic bWU6c2VjcmV0".into()),
    });
    settings
}

fn grpc(scheme: &str) -> Config {
    Config::new()
        .with_protocol(Protocol::Grpc)
        .with_endpoint(format!("{scheme}://{NAME}:4317"))
}

impl Link {
    fn new(settings: Settings, peer: Peer) -> Self {
        let now = Instant::from_millis(1);
        let session = Session::open(&settings.lanes[0], now).expect("it opens");
        Self {
            settings,
            session,
            peer,
            asked: Vec::new(),
            heard: Vec::new(),
            now,
            events: Vec::new(),
        }
    }

    /// Moves bytes, so many at a time, until none move.
    fn run(&mut self, chunk: usize) {
        loop {
            let mut sent = Vec::new();
            while let Some(pieces) = self.session.poll_transmit() {
                pieces.iter().for_each(|piece| sent.extend_from_slice(piece));
            }
            self.drain();
            if sent.is_empty() {
                return;
            }
            for part in sent.chunks(chunk) {
                self.heard.extend_from_slice(part);
                self.session.handle_sent(self.now, part.len());
                let answer = self.peer.answer(self.now, part, &mut self.asked);
                match answer {
                    Some(answer) => answer
                        .chunks(chunk)
                        .for_each(|part| self.session.handle_input(self.now, part)),
                    None => return self.session.handle_eof(self.now, "the peer closed it"),
                }
            }
        }
    }

    fn drain(&mut self) {
        while let Some(event) = self.session.poll_event() {
            self.events.push(event);
        }
    }

    fn start(&mut self, request: &Request) {
        assert!(self.session.can_start());
        let deadline = self.now + Duration::from_secs(10);
        let outgoing = self.settings.outgoing(request, deadline);
        self.session
            .start(self.now, CallId(1), &outgoing)
            .expect("it starts");
    }

    /// The words of the one event there is, and whether another attempt might do better.
    fn refusal(&mut self) -> (String, bool) {
        self.drain();
        assert!(!self.session.can_start());
        match &self.events[..] {
            [Event::Refused(why)] => (why.clone(), false),
            [Event::Closed(why)] => (why.clone(), true),
            events => panic!("{events:?}"),
        }
    }
}

fn proxy_to(answer: &[u8], next: Peer) -> Peer {
    Peer::Proxy(answer.to_vec(), Some(Box::new(next)))
}

/// spec 53: credentials never leave the origin
#[test]
fn exports_go_through_the_tunnel_in_plain_text_and_under_tls() {
    let authority = Authority::new("ours");
    let server = ServerTls::new(authority.server(NAME, |_| ())).config();
    let builder = otlp_embed::testing::Collector::builder();
    for (at, is_tls) in [(0, false), (1, true)] {
        for chunk in [1, 5, usize::MAX] {
            let app = App::Http2(Box::new(builder.session(at)));
            let (config, next) = if is_tls {
                let tls = Tls::new().with_ca_pem(&authority.pem);
                (grpc("https").with_tls(tls), Peer::tls(server.clone(), app))
            } else {
                (grpc("http"), Peer::Plain(Box::new(app)))
            };
            let mut link = Link::new(settings(config), proxy_to(ESTABLISHED, next));
            assert!(
                !link.session.can_start() && !link.session.is_draining(),
                "not yet"
            );
            assert!(link.session.is_multiplexed(), "it is to be gRPC");
            assert_eq!(link.session.poll_timeout(), Some(link.now + TIMEOUT));
            link.run(chunk);
            let request = batch(0, 3);
            link.start(&request);
            link.run(chunk);
            match &link.events[..] {
                [
                    Event::RequestSent(CallId(1)),
                    Event::Ended(CallId(1), CallEnd::Answered(answer)),
                ] => {
                    assert_eq!(answer.code, Code::OK);
                }
                events => panic!("{events:?}"),
            }
            // The proxy hears where to and its own credentials, and then what it cannot read or need not know.
            let asked = String::from_utf8(link.asked.clone()).expect("text");
            assert!(
                asked.starts_with(&format!("CONNECT {NAME}:4317 HTTP/1.1\r\n")),
                "{asked}"
            );
            assert!(
                asked.contains("\r\nproxy-authorization: Basic bWU6c2VjcmV0\r\n"),
                "{asked}"
            );
            assert!(!asked.contains("hunter2"), "{asked}");
            assert_eq!(
                link.heard[asked.len()] == 22,
                is_tls,
                "TLS begins behind the tunnel"
            );
        }
    }
    assert_eq!(builder.inbox().counters().spans, 18);
    let credentials = builder.inbox().requests();
    for request in credentials {
        assert_eq!(request.header("authorization"), Some("Bearer hunter2"));
        assert_eq!(request.header("proxy-authorization"), None);
    }
}

#[test]
fn a_count_that_comes_late_does_not_count_for_the_export() {
    let builder = otlp_embed::testing::Collector::builder();
    let next = Peer::Plain(Box::new(App::Http2(Box::new(builder.session(1)))));
    let mut link = Link::new(settings(grpc("http")), proxy_to(ESTABLISHED, next));
    let request = link.session.poll_transmit().expect("a request").concat();
    // The proxy's answer is read before the socket tells what it took of the question.
    link.session.handle_input(link.now, ESTABLISHED);
    let message = batch(0, 3);
    link.start(&message);
    let mut sent = 0;
    while let Some(pieces) = link.session.poll_transmit() {
        sent += pieces.iter().map(bytes::Bytes::len).sum::<usize>();
    }
    link.session.handle_sent(link.now, request.len() + sent - 1);
    link.drain();
    assert!(link.events.is_empty(), "{:?}", link.events);
    link.session.handle_sent(link.now, 1);
    link.drain();
    assert!(
        matches!(link.events[..], [Event::RequestSent(CallId(1))]),
        "{:?}",
        link.events
    );
}

/// spec 53: credentials never leave the origin
#[test]
fn a_proxy_that_refuses_is_named_and_nothing_of_the_export_leaves() {
    for (answer, is_retryable, words) in [
        (
            &b"HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\n\r\n"[..],
            false,
            "credentials for the proxy",
        ),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", true, "502 Bad Gateway"),
        (b"\x15\x03\x03\x00\x02\x02\x0a", false, "no HTTP"),
    ] {
        for chunk in [1, usize::MAX] {
            let peer = Peer::Proxy(answer.to_vec(), None);
            let mut link = Link::new(settings(grpc("http")), peer);
            link.run(chunk);
            let (why, retryable) = link.refusal();
            assert!(why.contains(words) && why.contains("proxy.example:3128"), "{why}");
            assert_eq!(retryable, is_retryable, "{why}");
            assert_eq!(link.heard, link.asked);
            assert!(link.session.is_draining() && link.session.poll_timeout().is_none());
        }
    }
}

/// spec 49
#[test]
fn a_proxy_that_says_nothing_is_given_up_in_time() {
    let mut link = Link::new(settings(grpc("http")), Peer::Silent);
    link.run(usize::MAX);
    link.session
        .handle_timeout(link.now + (TIMEOUT - Duration::from_nanos(1)));
    link.drain();
    assert!(link.events.is_empty());
    link.session.handle_timeout(link.now + TIMEOUT);
    let (why, is_retryable) = link.refusal();
    assert!(
        is_retryable && why.contains("connect timeout") && why.contains("proxy"),
        "{why}"
    );

    let mut link = Link::new(settings(grpc("http")), Peer::Closer);
    link.run(usize::MAX);
    let (why, is_retryable) = link.refusal();
    assert!(is_retryable && why.contains("the peer closed it"), "{why}");
}

/// The proxy's time and that of TLS are one.
///
/// spec 49
#[test]
fn the_connect_timeout_covers_proxy_and_handshake_together() {
    let authority = Authority::new("ours");
    let config = grpc("https").with_tls(Tls::new().with_ca_pem(&authority.pem));
    let mut link = Link::new(settings(config), proxy_to(ESTABLISHED, Peer::Silent));
    let until = link.now + TIMEOUT;
    let question = link.session.poll_transmit().expect("a question").concat();
    link.session.handle_sent(link.now, question.len());
    link.now = link.now + TIMEOUT / 2;
    link.session.handle_input(link.now, ESTABLISHED);
    assert_eq!(link.session.poll_timeout(), Some(until));
    link.peer = Peer::Silent;
    link.run(usize::MAX);
    link.session.handle_timeout(until);
    let (why, is_retryable) = link.refusal();
    assert!(is_retryable && why.contains("TLS with"), "{why}");
}

/// spec 54
#[test]
fn a_certificate_is_verified_for_the_collector_and_not_for_the_proxy() {
    let authority = Authority::new("ours");
    let server = ServerTls::new(authority.server("proxy.example", |_| ())).config();
    let builder = otlp_embed::testing::Collector::builder();
    let next = Peer::tls(server, App::Http2(Box::new(builder.session(1))));
    let config = grpc("https").with_tls(Tls::new().with_ca_pem(&authority.pem));
    let mut link = Link::new(settings(config), proxy_to(ESTABLISHED, next));
    link.run(usize::MAX);
    let (why, is_retryable) = link.refusal();
    assert!(
        !is_retryable && why.contains("not made out for collector.example"),
        "{why}"
    );
}

/// Through the whole exporter: the proxy is what is dialed, and its refusal is what the export is told.
#[test]
fn an_exporter_reaches_its_collector_through_the_proxy() {
    let authority = Authority::new("ours");
    let server = ServerTls::new(authority.server(NAME, |_| ())).config();
    let config = grpc("https")
        .with_tls(Tls::new().with_ca_pem(&authority.pem))
        .with_proxy("http://me:secret@proxy.example:3128");
    let mut world = TlsWorld::new(config.clone(), move |builder, number| {
        let collector = Peer::tls(server.clone(), App::Http2(Box::new(builder.session(number))));
        proxy_to(ESTABLISHED, collector)
    });
    let outcome = world.export(batch(0, 3)).expect("delivered");
    assert_eq!((outcome.delivered(), outcome.attempts()), (3, 1));
    assert_eq!(
        world.resolved,
        ["proxy.example:3128"],
        "the collector's name is the proxy's affair"
    );
    let asked = String::from_utf8(world.last_wire().asked.clone()).expect("text");
    // `me:secret` in base64.
    assert!(
        asked.contains("\r\nproxy-authorization: Basic bWU6c2VjcmV0\r\n"),
        "{asked}"
    );

    let refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n";
    let mut world = TlsWorld::new(config, |_, _| Peer::Proxy(refusal.to_vec(), None));
    let error = world.export(batch(0, 3)).expect_err("refused");
    let text = error.to_string();
    assert!(
        text.contains("407") && text.contains("credentials for the proxy"),
        "{text}"
    );
    assert!(!text.contains("secret") && !text.contains("bWU6"), "{text}");
    assert!(!error.is_retryable() && world.opened() == 1, "{text}");
}
