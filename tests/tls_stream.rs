//! What goes through TLS: the protocol that is agreed on, large requests, ends of streams, time.

#[path = "support/batches.rs"]
mod batches;
#[path = "support/tls_world.rs"]
mod tls_world;

use batches::{batch, batch_with};
use otlp_embed::export::{ExportState, Fact};
use otlp_embed::testing::Answer;
use otlp_embed::testing::collector::Builder;
use otlp_embed::time::DeadlineReason;
use otlp_embed::{Config, Protocol, Tls};
use rustls::{ClientConfig, RootCertStore};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;
use tls_world::*;

struct Setup {
    authority: Authority,
    server: ServerTls,
}

fn setup() -> Setup {
    let authority = Authority::new("ours");
    let server = ServerTls::new(authority.server(NAME, |_| ()));
    Setup { authority, server }
}

impl Setup {
    fn alpn(mut self, alpn: &[&'static [u8]]) -> Self {
        self.server.alpn = alpn.to_vec();
        self
    }

    fn config(&self, protocol: Protocol) -> Config {
        Config::new()
            .with_protocol(protocol)
            .with_endpoint(format!("https://{NAME}:4317"))
            .with_tls(Tls::new().with_ca_pem(&self.authority.pem))
    }

    fn world(&self, protocol: Protocol, app: impl Fn(&Builder, u64) -> App + 'static) -> TlsWorld {
        self.world_of(self.config(protocol), app)
    }

    fn world_of(&self, config: Config, app: impl Fn(&Builder, u64) -> App + 'static) -> TlsWorld {
        let server = self.server.config();
        TlsWorld::new(config, move |builder, number| {
            Peer::tls(server.clone(), app(builder, number))
        })
    }

    fn grpc(&self) -> TlsWorld {
        self.world(Protocol::Grpc, http2)
    }
}

fn http2(builder: &Builder, number: u64) -> App {
    App::Http2(Box::new(builder.session(number)))
}

fn http1(_: &Builder, _: u64) -> App {
    App::Http1(Http1::default())
}

fn agreed(world: &TlsWorld) -> Option<Vec<u8>> {
    match &world.last_wire().peer {
        Peer::Tls(tls, _) => tls.alpn_protocol().map(<[u8]>::to_vec),
        _ => panic!("a server under TLS"),
    }
}

fn http1_requests(world: &TlsWorld) -> Vec<Vec<u8>> {
    match &world.last_wire().peer {
        Peer::Tls(_, app) => match &**app {
            App::Http1(http) => http.requests.clone(),
            _ => panic!("a server of HTTP/1.1"),
        },
        _ => panic!("a server under TLS"),
    }
}

/// spec 30: HTTP/2 by ALPN, falling back to HTTP/1.1.
#[test]
fn otlp_over_http_takes_what_both_sides_speak() {
    for (alpn, agrees) in [(&[&b"http/1.1"[..]][..], Some(b"http/1.1".to_vec())), (&[], None)] {
        let setup = setup().alpn(alpn);
        let mut world = setup.world(Protocol::HttpProtobuf, http1);
        assert_eq!(world.export(batch(0, 3)).expect("delivered").delivered(), 3);
        assert_eq!(agreed(&world), agrees);
        let requests = http1_requests(&world);
        assert!(requests[0].starts_with(b"POST "), "HTTP/1.1 under TLS");
    }
    for alpn in [&[&b"h2"[..]][..], &[b"h2", b"http/1.1"]] {
        let setup = setup().alpn(alpn);
        let mut world = setup.world(Protocol::HttpProtobuf, |_, _| App::Sink(Vec::new()));
        world.submit(batch(0, 3));
        while world.step() {}
        assert_eq!(agreed(&world).as_deref(), Some(&b"h2"[..]));
        let Peer::Tls(_, app) = &world.last_wire().peer else {
            panic!("a server under TLS");
        };
        let App::Sink(taken) = &**app else {
            panic!("a sink")
        };
        assert!(taken.starts_with(b"PRI * HTTP/2.0"), "HTTP/2 under TLS");
    }
}

/// spec 54
#[test]
fn grpc_needs_http2() {
    let works = setup();
    let mut world = works.grpc();
    world.export(batch(0, 1)).expect("delivered");
    assert_eq!(agreed(&world).as_deref(), Some(&b"h2"[..]));
    // One that chooses nothing, and one that has nothing in common.
    for alpn in [&[][..], &[&b"http/1.1"[..]]] {
        let setup = setup().alpn(alpn);
        let mut world = setup.grpc();
        let error = world.export(batch(0, 1)).expect_err("no HTTP/2");
        let text = error.to_string();
        assert!(text.contains("ALPN") && text.contains("gRPC needs h2"), "{text}");
        assert!(!error.is_retryable() && world.opened() == 1, "{text}");
    }
}

#[test]
fn the_applications_own_configuration_is_used() {
    let setup = setup().alpn(&[b"h2", b"http/1.1"]);
    let mut roots = RootCertStore::empty();
    roots.add(setup.authority.der()).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .expect("versions");
    let mut own = builder.with_root_certificates(roots).with_no_client_auth();
    own.alpn_protocols = vec![b"http/1.1".to_vec()];
    let tls = Tls::from_config(Arc::new(own));
    let version = |world: &TlsWorld| match &world.last_wire().peer {
        Peer::Tls(tls, _) => tls.protocol_version(),
        _ => None,
    };
    // gRPC is HTTP/2 whatever it says, OTLP/HTTP is what it says.
    for (protocol, app, agrees) in [
        (Protocol::Grpc, http2 as fn(&Builder, u64) -> App, &b"h2"[..]),
        (Protocol::HttpProtobuf, http1, b"http/1.1"),
    ] {
        let config = setup.config(protocol).with_tls(tls.clone());
        let mut world = setup.world_of(config, app);
        assert_eq!(world.export(batch(0, 3)).expect("delivered").delivered(), 3);
        assert_eq!(agreed(&world).as_deref(), Some(agrees));
        assert_eq!(version(&world), Some(rustls::ProtocolVersion::TLSv1_2));
    }
    let error = setup
        .config(Protocol::Grpc)
        .with_tls(tls.with_ca_pem(&setup.authority.pem))
        .settings()
        .err()
        .expect("roots belong in the configuration");
    assert!(
        error.is_misuse() && error.to_string().contains("Tls::from_config"),
        "{error}"
    );
}

#[test]
fn a_second_connection_resumes_the_session() {
    let setup = setup();
    let mut world = setup.grpc();
    world.export(batch(0, 1)).expect("delivered");
    let first = world.order[0];
    world.wires.get_mut(&first).expect("it is there").is_closed = true;
    world.fact(Fact::Eof(first));
    world.export(batch(1, 1)).expect("delivered");
    assert_eq!(world.opened(), 2);
    let kinds: Vec<_> = world
        .order
        .iter()
        .map(|id| match &world.wires[id].peer {
            Peer::Tls(tls, _) => tls.handshake_kind(),
            _ => None,
        })
        .collect();
    assert_eq!(
        kinds,
        [
            Some(rustls::HandshakeKind::Full),
            Some(rustls::HandshakeKind::Resumed)
        ]
    );
}

/// Every version, and bytes handed over one at a time: no boundary matters.
#[test]
fn bytes_may_come_one_at_a_time() {
    for versions in [&[&rustls::version::TLS13], &[&rustls::version::TLS12]] {
        let mut setup = setup();
        setup.server.versions = versions.to_vec();
        for chunk in [1, 7, 1_000] {
            let mut world = setup.grpc();
            world.chunk = chunk;
            assert_eq!(
                world.export(batch(0, 5)).expect("delivered").delivered(),
                5,
                "chunks of {chunk}"
            );
            assert_eq!(world.builder.inbox().counters().spans, 5);
        }
    }
}

fn large(spans: u64) -> otlp_embed::Request {
    let payload: &'static str = Box::leak("p".repeat(100_000).into_boxed_str());
    batch_with(0, spans, payload)
}

#[test]
fn a_large_request_is_encrypted_as_the_socket_takes_it() {
    for (alpn, protocol, app) in [
        (&b"h2"[..], Protocol::Grpc, http2 as fn(&Builder, u64) -> App),
        (b"http/1.1", Protocol::HttpProtobuf, http1),
    ] {
        let setup = setup().alpn(&[alpn]);
        let mut world = setup.world(protocol, app);
        let request = large(50);
        let len = request.encoded_len();
        assert!(len > 5_000_000);
        let id = world.submit(request);
        let mut most = 0;
        while !world.verdicts.contains_key(&id) {
            assert!(world.step() || world.pass_time(), "it goes on");
            most = most.max(world.waiting());
        }
        let outcome = world.run_until_settled(id).expect("delivered");
        assert_eq!(outcome.delivered(), 50);
        assert!(
            most < 512 << 10,
            "{most} bytes were encrypted at a time in {protocol}"
        );
        let heard = world.heard().len();
        assert!(
            heard > len && heard < len + len / 50 + 10_000,
            "{heard} bytes for {len}"
        );
    }
}

/// The socket takes only so many bytes, then the connection ends: a request counts as sent exactly where the last byte of
/// the record that holds its end was taken, and then the server has it whole.
#[test]
fn a_request_is_sent_when_the_last_byte_of_its_record_is() {
    for (alpn, protocol, app) in [
        (&b"h2"[..], Protocol::Grpc, http2 as fn(&Builder, u64) -> App),
        (b"http/1.1", Protocol::HttpProtobuf, http1),
    ] {
        let setup = setup().alpn(&[alpn]);
        let (hello, total) = {
            let mut world = setup.world(protocol, app);
            let id = world.submit(batch(0, 3));
            while world.state(id) == Some(ExportState::Connecting) {
                assert!(world.step(), "a handshake");
            }
            let hello = world.taken;
            world.run_until_settled(id).expect("delivered");
            (hello, world.taken)
        };
        let mut seen = (0, 0);
        // Every count where the end may lie, and some before.
        for most in (hello..=total).filter(|most| most % 7 == 0 || most + 80 > total) {
            let mut world = setup.world(protocol, app);
            world.builder.inbox().answer(Answer::Never);
            world.take_at_most = Some(most);
            // Not a word of what comes after the handshake is heard.
            let id = world.submit(batch(0, 3));
            while world.state(id) == Some(ExportState::Connecting) {
                assert!(world.step(), "a handshake, at {most} of {total}");
            }
            world.deafen();
            while world.step() {}
            let is_sent = world.state(id) == Some(ExportState::WaitingResponse);
            let is_received = match &world.last_wire().peer {
                Peer::Tls(_, app) => match &**app {
                    App::Http1(http) => !http.requests.is_empty(),
                    _ => world.builder.inbox().counters().requests > 0,
                },
                _ => false,
            };
            assert_eq!(is_sent, is_received, "{protocol} at {most} of {total}");
            seen.0 += u32::from(is_sent);
            seen.1 += u32::from(!is_sent);
            // What a lost connection has not taken it never will.
            let wire = world.order[0];
            world.fact(Fact::Eof(wire));
            world.fact(Fact::Shutdown);
            let counts = world.run_until_settled(id).expect_err("shut down").counts();
            assert_eq!(counts.unknown > 0, is_sent, "{protocol} at {most} of {total}");
        }
        assert!(seen.0 > 0 && seen.1 > 50, "{seen:?}");
    }
}

/// spec 22, 53: the server's bytes are cut after each possible count.
#[test]
fn a_connection_that_ends_at_any_byte_ends_in_the_right_verdict() {
    let setup = setup();
    let total = {
        let mut world = setup.grpc();
        world.export(batch(0, 3)).expect("delivered");
        world.said
    };
    let mut delivered = 0;
    // Sizes of signatures vary by a few bytes from handshake to handshake.
    for cut in (0..=total + 16).filter(|cut| cut % 7 == 0 || *cut < 60 || cut + 200 > total) {
        let mut world = setup.grpc();
        world.cut_after = Some(cut);
        let id = world.submit(batch(0, 3).with_timeout(Duration::from_millis(300)));
        let verdict = world.run_until_settled(id);
        let received = world.builder.inbox().counters().requests;
        match verdict {
            Ok(outcome) => {
                delivered += 1;
                assert_eq!(outcome.delivered(), 3, "cut after {cut}");
            }
            Err(error) => {
                assert!(error.is_retryable(), "cut after {cut}: {error}");
                let counts = error.counts();
                assert_eq!(counts.total(), 3, "cut after {cut}: {error}");
                assert_eq!(counts.unknown > 0, received > 0, "cut after {cut}: {error}");
                if received == 0 {
                    assert!(error.to_string().contains("TLS with"), "cut after {cut}: {error}");
                }
            }
        }
    }
    assert!(delivered > 0 && delivered < 40, "{delivered} of {total}");
}

/// An answer that is complete stands, whether the end of TLS follows it or not.
///
/// spec 54
#[test]
fn an_end_without_close_notify_costs_no_answer() {
    let setup = setup();
    let mut world = setup.grpc();
    world.export(batch(0, 3)).expect("delivered");
    let wire = world.order[0];
    world.fact(Fact::Eof(wire));
    let stats = world.engine.stats();
    assert_eq!((stats.delivered, stats.last_error), (3, None));
    // A call without its answer is in doubt, and the words tell what was missing.
    let mut world = setup.grpc();
    world.builder.inbox().answer(Answer::Never);
    let id = world.submit(batch(0, 3).with_timeout(Duration::from_millis(300)));
    while world.builder.inbox().counters().requests == 0 {
        assert!(world.step());
    }
    let wire = world.order[0];
    world.fact(Fact::Eof(wire));
    world.fact(Fact::Shutdown);
    let error = world.run_until_settled(id).expect_err("lost");
    assert!(error.to_string().contains("close_notify"), "{error}");
    assert_eq!(error.counts().unknown, 3);
}

#[test]
fn a_server_that_closes_in_order_is_left_in_order() {
    let setup = setup();
    let mut world = setup.grpc();
    world.export(batch(0, 3)).expect("delivered");
    let wire = world.order[0];
    let goodbye = world.close_notify(wire);
    world.fact(Fact::Input(wire, &goodbye));
    while world.step() {}
    assert!(world.wires[&wire].is_closed, "no socket is kept for it");
    assert!(world.has_closed(wire), "and close_notify was sent");
    assert_eq!(world.engine.stats().last_error, None, "an idle end is no failure");
    world.export(batch(1, 1)).expect("delivered on a new connection");
    assert_eq!(world.opened(), 2);
}

/// spec 49: the connect timeout covers the handshake, and the deadline everything.
#[test]
fn a_handshake_that_never_ends_is_given_up() {
    let setup = setup();
    let config = setup
        .config(Protocol::Grpc)
        .with_connect_timeout(Duration::from_secs(2));
    let mut world = TlsWorld::new(config.clone(), |_, _| Peer::Silent);
    let id = world.submit(batch(0, 3).with_timeout(Duration::from_secs(9)));
    let due = world.engine.next_deadline().expect("something is due");
    assert_eq!(due.reason, DeadlineReason::Connect);
    let began = world.now;
    let error = world.run_until_settled(id).expect_err("no handshake");
    let text = error.to_string();
    assert!(error.is_retryable(), "{text}");
    assert!(
        text.contains("no handshake") && text.contains("connect timeout"),
        "{text}"
    );
    assert!(world.now - began <= Duration::from_secs(9), "{text}");
    assert!(world.opened() > 1, "tried again: {text}");
    // A shorter deadline ends it first.
    let mut world = TlsWorld::new(config, |_, _| Peer::Silent);
    let began = world.now;
    let error = world
        .export(batch(0, 3).with_timeout(SECOND))
        .expect_err("no handshake");
    assert!(error.is_timeout() && world.now - began == SECOND, "{error}");
}

#[test]
fn a_server_that_closes_in_the_handshake_is_tried_again() {
    let setup = setup();
    let server = setup.server.config();
    let mut world = TlsWorld::new(setup.config(Protocol::Grpc), move |builder, number| {
        if number == 1 {
            Peer::Closer
        } else {
            Peer::tls(server.clone(), http2(builder, number))
        }
    });
    let outcome = world.export(batch(0, 3)).expect("delivered");
    assert_eq!((outcome.delivered(), outcome.attempts()), (3, 2));
    let said = world.engine.stats().last_error.expect("an error");
    assert!(
        said.contains("no handshake") && said.contains("had not answered"),
        "{said}"
    );
}

/// A record that was tampered with ends the connection, and what it would have said counts for nothing.
///
/// spec 54
#[test]
fn a_garbled_record_ends_the_connection() {
    let setup = setup();
    let mut world = setup.grpc();
    world.builder.inbox().answer(Answer::Never);
    let id = world.submit(batch(0, 3).with_timeout(Duration::from_millis(300)));
    while world.builder.inbox().counters().requests == 0 {
        assert!(world.step());
    }
    let wire = world.order[0];
    let mut record = vec![23, 3, 3, 0, 40];
    record.extend([9; 40]);
    world.fact(Fact::Input(wire, &record));
    assert!(world.wires[&wire].is_closed || !world.engine.is_idle());
    world.fact(Fact::Shutdown);
    let error = world.run_until_settled(id).expect_err("lost");
    assert!(error.to_string().contains("cannot decrypt"), "{error}");
    assert_eq!(error.counts().unknown, 3, "{error}");
}

/// Whatever is done to the server's bytes: no panic, no verdict that is wrong, and no export that hangs.
///
/// spec 54
#[test]
fn garbled_bytes_never_pass_for_an_answer() {
    let mut random = fastrand::Rng::with_seed(11);
    let setup = setup();
    let total = {
        let mut world = setup.grpc();
        world.export(batch(0, 3)).expect("delivered");
        world.said
    };
    let mut failed = 0;
    for _ in 0..150 {
        let mut world = setup.grpc();
        world.chunk = random.usize(1..=total);
        world.garble = Some((random.usize(..total - 100), random.u8(1..)));
        let id = world.submit(batch(0, 3).with_timeout(Duration::from_millis(300)));
        match world.run_until_settled(id) {
            // The garbled connection was given up, and another one served.
            Ok(outcome) => assert_eq!(outcome.delivered(), 3),
            Err(error) => assert_eq!(error.counts().total(), 3, "{error}"),
        }
        assert!(world.garble.is_none(), "it was garbled");
        failed += u32::from(world.engine.stats().last_error.is_some());
    }
    assert!(failed > 140, "TLS notices what was garbled: {failed}");
}

/// Under TLS, too, an answer that came before the request is none to it; what TLS itself says is no answer.
#[test]
fn what_came_before_the_request_is_no_answer_to_it() {
    for is_answer in [true, false] {
        let setup = setup().alpn(&[b"http/1.1"]);
        let mut world = setup.world(Protocol::HttpProtobuf, http1);
        world.export(batch(0, 3)).expect("delivered");
        let conn = world.order[0];
        let Peer::Tls(tls, _) = &mut world.wires.get_mut(&conn).expect("it is kept").peer else {
            panic!("a server under TLS");
        };
        if is_answer {
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            tls.writer().write_all(answer).expect("memory");
        } else {
            tls.refresh_traffic_keys().expect("TLS 1.3");
        }
        let mut early = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut early).expect("memory");
        }
        assert!(!early.is_empty());
        // The shell reads before it carries out what the export asks for.
        let id = world.engine.submit(world.now, batch(1, 3));
        world.fact(Fact::Input(conn, &early));
        let outcome = world.run_until_settled(id).expect("delivered");
        let expected = if is_answer { (3, 2) } else { (3, 1) };
        assert_eq!((outcome.delivered(), outcome.attempts()), expected);
        assert_eq!(world.opened(), if is_answer { 2 } else { 1 });
    }
}

/// What waits to be encrypted when a call ends never leaves: nobody can have processed the request.
#[test]
fn a_request_whose_end_was_not_encrypted_was_not_sent() {
    for is_cancelled in [false, true] {
        let setup = setup().alpn(&[b"http/1.1"]);
        let mut world = setup.world(Protocol::HttpProtobuf, http1);
        world.export(batch(0, 3)).expect("delivered");
        let request = large(6);
        assert!(
            (400 << 10..1 << 20).contains(&request.encoded_len()),
            "{}",
            request.encoded_len()
        );
        world.take_at_most = Some(world.taken + (64 << 10));
        let id = world.submit(request.with_timeout(SECOND));
        while world.step() {}
        if is_cancelled {
            world.fact(Fact::Cancel(id));
        } else {
            let error = world.run_until_settled(id).expect_err("it is not taken");
            assert_eq!(
                (error.counts().unknown, error.counts().dropped),
                (0, 6),
                "{error}"
            );
        }
        let stats = world.engine.stats();
        assert!(stats.is_conserved(), "{stats:?}");
        assert_eq!(stats.unknown, 0, "{stats:?}");
    }
}
