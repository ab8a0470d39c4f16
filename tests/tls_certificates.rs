//! Certificates are verified, and each failure names its cause (spec 54).

#[path = "support/batches.rs"]
mod batches;
#[path = "support/tls_world.rs"]
mod tls_world;

use batches::batch;
use otlp_embed::{Config, DropReason, Error, Protocol, Tls};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, date_time_ymd};
use rustls::ServerConfig;
use std::sync::Arc;
use std::time::Duration;
use tls_world::*;

fn config(tls: Tls) -> Config {
    Config::new()
        .with_protocol(Protocol::Grpc)
        .with_endpoint(format!("https://{NAME}:4317"))
        .with_tls(tls)
}

fn trusting(authority: &Authority) -> Tls {
    Tls::new().with_ca_pem(&authority.pem)
}

fn grpc_server(
    server: Arc<ServerConfig>,
) -> impl FnMut(&otlp_embed::testing::collector::Builder, u64) -> Peer {
    move |builder, number| Peer::tls(server.clone(), App::Http2(Box::new(builder.session(number))))
}

fn world(tls: Tls, server: &ServerTls) -> TlsWorld {
    TlsWorld::new(config(tls), grpc_server(server.config()))
}

/// A control: the set-up works.
fn works(tls: Tls, server: &ServerTls) {
    let mut world = world(tls, server);
    let outcome = world.export(batch(0, 3)).expect("delivered");
    assert_eq!((outcome.delivered(), outcome.attempts()), (3, 1));
    assert_eq!(world.builder.inbox().counters().spans, 3);
    let heard = world.heard();
    assert!(
        !heard.windows(7).any(|window| window == b"opentel") && heard[0] == 22,
        "nothing is in plain text"
    );
}

/// The export fails at once, for good, with these words; no span arrives and nothing leaves in plain text.
fn refused(tls: Tls, server: &ServerTls, words: &[&str]) -> Error {
    let mut world = world(tls, server);
    let error = refused_in(&mut world, words);
    assert_eq!(world.builder.inbox().counters().requests, 0, "{error}");
    error
}

fn refused_in(world: &mut TlsWorld, words: &[&str]) -> Error {
    let began = world.now;
    let error = world.export(batch(0, 3)).expect_err("refused");
    let text = error.to_string();
    assert!(words.iter().all(|word| text.contains(word)), "{text}");
    assert!(text.contains(&format!("https://{NAME}:4317")), "{text}");
    assert!(!error.is_retryable(), "{text}");
    assert_eq!(error.counts().dropped, 3, "{text}");
    assert_eq!(error.drop_reason(), Some(DropReason::NotRetryable), "{text}");
    assert_eq!(world.now - began, Duration::ZERO, "at once: {text}");
    assert_eq!(world.opened(), 1, "one connection: {text}");
    let heard = world.heard();
    assert!(
        heard.is_empty() || heard[0] == 22,
        "a handshake and nothing else: {text}"
    );
    assert!(
        !heard.windows(14).any(|window| window == b"PRI * HTTP/2.0"),
        "{text}"
    );
    error
}

fn good(authority: &Authority) -> ServerTls {
    ServerTls::new(authority.server(NAME, |_| ()))
}

/// spec 54
#[test]
fn a_certificate_of_a_trusted_authority_is_accepted() {
    let authority = Authority::new("ours");
    works(trusting(&authority), &good(&authority));
    works(Tls::new().with_roots([authority.der()]), &good(&authority));
    let other = Authority::new("another");
    let both = trusting(&other).with_ca_pem(&authority.pem);
    works(both, &good(&authority));
}

/// spec 54
#[test]
fn an_unknown_authority_is_refused() {
    let authority = Authority::new("ours");
    let error = refused(
        trusting(&authority),
        &good(&Authority::new("ours")),
        &[
            "unknown issuer",
            "names a trusted authority (CA) and does not bear its signature",
        ],
    );
    assert!(error.is_connect());
    let strange = Authority::new("strange");
    let error = refused(
        trusting(&authority),
        &good(&strange),
        &[
            "unknown issuer",
            "authority (CA) is not trusted",
            "Tls::with_ca_file",
        ],
    );
    assert!(error.is_connect());
}

/// spec 54
#[test]
fn a_missing_intermediate_certificate_is_named_as_a_cause() {
    let authority = Authority::new("root");
    let intermediate = authority.intermediate("between");
    let mut server = good(&intermediate);
    works(trusting(&authority), &server);
    server.certificate.chain.truncate(1);
    refused(
        trusting(&authority),
        &server,
        &["unknown issuer", "intermediate certificate"],
    );
}

/// spec 54
#[test]
fn another_name_is_refused_and_both_are_told() {
    let authority = Authority::new("ours");
    let server = ServerTls::new(authority.server("other.example", |_| ()));
    refused(
        trusting(&authority),
        &server,
        &[NAME, "other.example", "Tls::with_server_name"],
    );
    works(trusting(&authority).with_server_name("other.example"), &server);
    // The name that is asked for is the one that has to be in the certificate.
    refused(
        trusting(&authority).with_server_name("third.example"),
        &good(&authority),
        &["not made out for third.example"],
    );
}

/// spec 54
#[test]
fn an_address_needs_a_certificate_for_the_address() {
    let authority = Authority::new("ours");
    let at_address = || {
        Config::new()
            .with_protocol(Protocol::Grpc)
            .with_endpoint("https://127.0.0.1:4317")
            .with_tls(trusting(&authority))
    };
    let by_address = ServerTls::new(authority.server("127.0.0.1", |_| ()));
    let mut world = TlsWorld::new(at_address(), grpc_server(by_address.config()));
    assert_eq!(world.export(batch(0, 3)).expect("delivered").delivered(), 3);
    let mut world = TlsWorld::new(at_address(), grpc_server(good(&authority).config()));
    let error = world.export(batch(0, 3)).expect_err("refused").to_string();
    assert!(error.contains("not made out for 127.0.0.1 but for"), "{error}");
}

/// spec 54
#[test]
fn a_certificate_out_of_its_time_is_refused() {
    let authority = Authority::new("ours");
    let dated = |change: fn(&mut CertificateParams)| ServerTls::new(authority.server(NAME, change));
    let expired = dated(|params| params.not_after = date_time_ymd(2001, 1, 1));
    refused(
        trusting(&authority),
        &expired,
        &["has expired", "days ago", "clock"],
    );
    let early = dated(|params| params.not_before = date_time_ymd(4000, 1, 1));
    refused(
        trusting(&authority),
        &early,
        &["not valid yet, but in", "days", "clock"],
    );
}

/// spec 54
#[test]
fn a_certificate_that_is_not_for_servers_is_refused() {
    let authority = Authority::new("ours");
    let wrong = ServerTls::new(authority.server(NAME, |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    }));
    refused(trusting(&authority), &wrong, &["not made for servers"]);
}

/// spec 54
#[test]
fn a_missing_client_certificate_is_named() {
    let authority = Authority::new("ours");
    let own = authority.client("exporter.example");
    for versions in [&[&rustls::version::TLS13], &[&rustls::version::TLS12]] {
        let mut server = good(&authority);
        server.clients = Some(authority.der());
        server.versions = versions.to_vec();
        let with = trusting(&authority).with_client_certificate_pem(&own.chain_pem, &own.key_pem);
        works(with, &server);
        // By then our side of the handshake may be done and the request on its way: it is known not to be processed.
        let words = if versions[0].version == rustls::ProtocolVersion::TLSv1_3 {
            &["asks for a client certificate and none was presented"][..]
        } else {
            &["client certificate"]
        };
        refused(trusting(&authority), &server, words);
    }
}

/// spec 54
#[test]
fn a_client_certificate_of_an_unknown_authority_is_named() {
    let (authority, strange) = (Authority::new("ours"), Authority::new("strange"));
    let own = strange.client("exporter.example");
    let mut server = good(&authority);
    server.clients = Some(authority.der());
    let tls = trusting(&authority).with_client_certificate_pem(&own.chain_pem, &own.key_pem);
    refused(tls, &server, &["authority (CA) of the client certificate"]);
}

/// spec 54
#[test]
fn many_exports_that_wait_for_a_connection_are_all_told() {
    let (authority, strange) = (Authority::new("ours"), Authority::new("strange"));
    let mut world = world(trusting(&authority), &good(&strange));
    let ids: Vec<_> = (0..5).map(|at| world.submit(batch(at, 1))).collect();
    for id in ids {
        let error = world.run_until_settled(id).expect_err("refused");
        assert!(
            !error.is_retryable() && error.to_string().contains("unknown issuer"),
            "{error}"
        );
    }
    let last = world.engine.stats().last_error.expect("an error");
    assert!(last.contains("unknown issuer"), "{last}");
    // A later export is told by a connection of its own, once the endpoint's backoff is over.
    let error = world.export(batch(9, 1)).expect_err("refused");
    assert!(error.to_string().contains("unknown issuer"), "{error}");
}

/// spec 54
#[test]
fn versions_before_1_2_are_refused() {
    let authority = Authority::new("ours");
    // A ServerHello of TLS 1.1 (RFC 4346, section 7.4.1.3), with a cipher suite that was fit for it.
    let mut hello = vec![0x03, 0x02];
    hello.extend([7; 32]);
    hello.extend([0, 0xc0, 0x13, 0]);
    let mut message = vec![2, 0, 0, hello.len() as u8];
    message.extend(hello);
    let mut record = vec![22, 3, 2, 0, message.len() as u8];
    record.extend(message);
    // Or the alert of a server that knows no version of ours (RFC 8446, section 6.2: protocol_version).
    let alert = vec![21, 3, 1, 0, 2, 2, 70];
    for words in [record, alert] {
        let mut world = TlsWorld::new(config(trusting(&authority)), move |_, _| {
            Peer::Script(words.clone())
        });
        refused_in(&mut world, &["no TLS 1.2 or newer"]);
    }
}

/// spec 54
#[test]
fn a_peer_that_speaks_plain_text_is_named() {
    let authority = Authority::new("ours");
    for (words, named) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
            "in plain HTTP instead of TLS",
        ),
        (
            &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1],
            "in plain HTTP/2 instead of TLS",
        ),
        (b"SSH-2.0-OpenSSH_9\r\n", "in SSH instead of TLS"),
        (b"\x05\x00\x00\x00\x00\x00\x00\x00", "is no TLS"),
    ] {
        let mut world = TlsWorld::new(config(trusting(&authority)), move |_, _| {
            Peer::Script(words.to_vec())
        });
        refused_in(&mut world, &[named]);
    }
}

/// spec 54
#[test]
fn nobody_can_be_trusted_by_default_in_a_build_without_roots() {
    let built = Config::new()
        .with_endpoint("https://collector.example")
        .settings();
    if cfg!(any(feature = "tls-webpki-roots", feature = "tls-native-roots")) {
        assert!(built.is_ok());
        return;
    }
    let error = built.err().expect("nobody to trust");
    let text = error.to_string();
    assert!(error.is_misuse(), "{text}");
    for word in [
        "https://collector.example",
        "Tls::with_ca_file",
        "tls-webpki-roots",
    ] {
        assert!(text.contains(word), "{text}");
    }
}

/// spec 54
#[test]
fn tls_on_a_plain_endpoint_is_a_mistake() {
    let error = Config::new()
        .with_endpoint("http://collector.example:4317")
        .with_tls(Tls::new())
        .settings()
        .err()
        .expect("refused");
    assert!(
        error.is_misuse() && error.to_string().contains("with_tls"),
        "{error}"
    );
}
