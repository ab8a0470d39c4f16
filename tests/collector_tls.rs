//! The collector under TLS, in memory and on a socket: versions by ALPN, client certificates, failures.

#[path = "support/collector_client.rs"]
#[allow(dead_code, reason = "shared with the tests of plain HTTP/2")]
mod collector_client;
#[path = "support/collector_http1.rs"]
#[allow(dead_code, reason = "shared with the tests of plain HTTP/1.1")]
mod collector_http1;

use collector_client::{bytes_of_one_export, message};
use collector_http1::request;
use otlp_embed::testing::collector::{Builder, Fate, HttpVersion, ServerSession};
use otlp_embed::testing::{Answer, Collector};
use otlp_embed::time::Instant;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

/// Longer than any step of these tests takes; a hang becomes a failure.
const PATIENCE: Duration = Duration::from_secs(20);
const PROTOBUF: &str = "application/x-protobuf";

/// A certificate authority with a certificate for the server and one for the client.
struct Authority {
    roots: Arc<RootCertStore>,
    server: (CertificateDer<'static>, Vec<u8>),
    client: (CertificateDer<'static>, Vec<u8>),
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let issue = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            let certificate = params.signed_by(&key, &issuer).unwrap();
            (certificate.der().clone(), key.serialize_der())
        };
        let mut roots = RootCertStore::empty();
        roots.add(issuer.der().clone()).unwrap();
        Self {
            roots: Arc::new(roots),
            server: issue("localhost"),
            client: issue("agent.test"),
        }
    }

    fn server_config(&self, alpn: &[&str], asks_for_client: bool) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if asks_for_client {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&self.roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let (certificate, key) = self.server.clone();
        let mut config = builder.with_single_cert(vec![certificate], private(key)).unwrap();
        config.alpn_protocols = names(alpn);
        Arc::new(config)
    }

    fn client_config(&self, alpn: &[&str], has_certificate: bool) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(Arc::clone(&self.roots));
        let mut config = if has_certificate {
            let (certificate, key) = self.client.clone();
            builder
                .with_client_auth_cert(vec![certificate], private(key))
                .unwrap()
        } else {
            builder.with_no_client_auth()
        };
        config.alpn_protocols = names(alpn);
        Arc::new(config)
    }
}

fn private(key: Vec<u8>) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(key).into()
}

fn names(alpn: &[&str]) -> Vec<Vec<u8>> {
    alpn.iter().map(|name| name.as_bytes().to_vec()).collect()
}

/// A TLS client and a session, in memory.
struct Pair {
    session: ServerSession,
    client: ClientConnection,
    now: Instant,
    /// Bytes that are handed to the session at one time.
    chunk: usize,
    /// What the session said under TLS.
    plain: Vec<u8>,
    error: Option<rustls::Error>,
    is_closed: bool,
}

impl Pair {
    fn new(builder: &Builder, config: Arc<ClientConfig>, name: &str) -> Self {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        Self {
            session: builder.session(0),
            client: ClientConnection::new(config, name).unwrap(),
            now: Instant::ZERO,
            chunk: usize::MAX,
            plain: Vec::new(),
            error: None,
            is_closed: false,
        }
    }

    fn pump(&mut self) {
        loop {
            let mut sent = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut sent).unwrap();
            }
            for chunk in sent.chunks(self.chunk.min(sent.len().max(1))) {
                self.session.handle_input(self.now, chunk);
            }
            let mut said = Vec::new();
            while let Some(bytes) = self.session.poll_transmit() {
                said.extend(bytes);
            }
            if sent.is_empty() && said.is_empty() {
                return;
            }
            let mut said = &said[..];
            while !said.is_empty() && self.error.is_none() {
                if self.client.read_tls(&mut said).unwrap() == 0 {
                    break;
                }
                match self.client.process_new_packets() {
                    Ok(state) => self.is_closed |= state.peer_has_closed(),
                    Err(error) => self.error = Some(error),
                }
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = self.client.reader().read(&mut buffer) {
                    self.plain.extend_from_slice(&buffer[..count]);
                }
            }
        }
    }

    fn send(&mut self, plain: &[u8]) {
        self.client.writer().write_all(plain).unwrap();
        self.pump();
    }
}

fn post() -> Vec<u8> {
    request("/v1/traces", &[("content-type", PROTOBUF)], &message(&["a"]))
}

#[test]
fn alpn_tells_the_version() {
    let authority = Authority::new();
    let both = ["h2", "http/1.1"];
    // What the server offers, what the client offers, what comes of it.
    let cases = [
        (&both[..], &both[..], Some("h2")),
        (&both, &both[1..], Some("http/1.1")),
        (&both[1..], &both, Some("http/1.1")),
        (&[], &both, None),
        (&both, &[], None),
    ];
    for (offers, asks, chosen) in cases {
        for chunk in [1, 50, usize::MAX] {
            let builder = Collector::builder().with_tls(authority.server_config(offers, false));
            let config = authority.client_config(asks, false);
            let mut pair = Pair::new(&builder, config, "localhost");
            pair.chunk = chunk;
            pair.pump();
            let is_http2 = chosen == Some("h2");
            // Settings come first on HTTP/2; nothing does on HTTP/1.1, or where the version is not known yet.
            assert_eq!(pair.plain.get(3), is_http2.then_some(&4), "{chosen:?}");
            if is_http2 {
                pair.send(&bytes_of_one_export(&Collector::builder(), &message(&["a"])));
            } else {
                pair.send(&post());
                assert!(pair.plain.starts_with(b"HTTP/1.1 200 OK\r\n"));
            }
            assert_eq!(builder.inbox().counters().spans_accepted, 1, "{chosen:?} {chunk}");
            let connection = &builder.inbox().connections()[0];
            let version = if is_http2 {
                HttpVersion::Http2
            } else {
                HttpVersion::Http1
            };
            assert_eq!((connection.version, connection.requests), (Some(version), 1));
            let tls = connection.tls.as_ref().unwrap();
            assert_eq!((tls.alpn.as_deref(), &*tls.version), (chosen, "TLSv1_3"));
            assert_eq!(tls.server_name.as_deref(), Some("localhost"));
            assert!(tls.peer_certificates.is_empty());
        }
    }
    // Without ALPN the preface tells.
    let builder = Collector::builder().with_tls(authority.server_config(&[], false));
    let mut pair = Pair::new(&builder, authority.client_config(&[], false), "localhost");
    pair.send(&bytes_of_one_export(&Collector::builder(), &message(&["a"])));
    assert_eq!(builder.inbox().connections()[0].version, Some(HttpVersion::Http2));
    assert_eq!(builder.inbox().counters().spans, 1);
}

#[test]
fn client_certificates_are_seen() {
    let authority = Authority::new();
    let builder = Collector::builder().with_tls(authority.server_config(&[], true));
    let mut pair = Pair::new(&builder, authority.client_config(&[], true), "localhost");
    pair.send(&post());
    assert!(pair.plain.starts_with(b"HTTP/1.1 200 OK\r\n"), "{:?}", pair.error);
    let tls = builder.inbox().connections()[0].tls.clone().unwrap();
    assert_eq!(tls.peer_certificates, [authority.client.0.to_vec()]);

    let builder = Collector::builder().with_tls(authority.server_config(&[], true));
    let mut pair = Pair::new(&builder, authority.client_config(&[], false), "localhost");
    pair.send(&post());
    let error = pair.error.unwrap().to_string();
    assert!(error.contains("CertificateRequired"), "{error}");
    assert_eq!(pair.session.fate(), Fate::Closed);
    let connection = &builder.inbox().connections()[0];
    assert!(connection.tls.is_none() && !connection.is_open);
    assert_eq!(connection.tls_error.as_deref(), Some("peer sent no certificates"));
    let counters = builder.inbox().counters();
    assert_eq!((counters.tls_failures, counters.requests), (1, 0));
}

#[test]
fn a_client_that_distrusts_the_server_is_recorded() {
    let authority = Authority::new();
    let builder = Collector::builder().with_tls(authority.server_config(&[], false));
    let mut pair = Pair::new(&builder, Authority::new().client_config(&[], false), "localhost");
    pair.pump();
    assert!(pair.error.is_some());
    assert_eq!(pair.session.fate(), Fate::Closed);
    let error = builder.inbox().connections()[0].tls_error.clone().unwrap();
    assert!(error.contains("received fatal alert"), "{error}");
}

#[test]
fn plain_text_and_noise_end_the_handshake() {
    let authority = Authority::new();
    for noise in [&post()[..], &[0; 100], &[0xff; 5], b"\x16\x03\x01\xff\xff"] {
        let builder = Collector::builder().with_tls(authority.server_config(&[], false));
        let mut session = builder.session(0);
        session.handle_input(Instant::ZERO, noise);
        session.handle_eof(Instant::ZERO);
        assert_eq!(session.fate(), Fate::Closed);
        assert_eq!(builder.inbox().counters().requests, 0);
        session.handle_input(Instant::ZERO, noise);
        session.handle_timeout(Instant::ZERO);
    }
}

#[test]
fn closing_says_so_unless_the_answer_is_cut() {
    let authority = Authority::new();
    let exchange = |answer: Answer| {
        let builder = Collector::builder()
            .with_tls(authority.server_config(&[], false))
            .answer(answer);
        let mut pair = Pair::new(&builder, authority.client_config(&[], false), "localhost");
        pair.send(&post());
        (
            pair.session.fate(),
            pair.is_closed,
            String::from_utf8(pair.plain).unwrap(),
        )
    };
    let (fate, is_closed, said) = exchange(Answer::Drain(Box::new(Answer::Ok)));
    assert_eq!((fate, is_closed), (Fate::Closed, true));
    assert!(
        said.starts_with("HTTP/1.1 200 OK\r\n") && said.ends_with("\r\n\r\n"),
        "{said}"
    );
    assert_eq!(
        exchange(Answer::CloseConnection),
        (Fate::Closed, true, String::new())
    );
    assert_eq!(
        exchange(Answer::Ok.cut_after(6)),
        (Fate::Closed, false, "HTTP/1".into())
    );
    let (fate, is_closed, _) = exchange(Answer::AbortConnection);
    assert_eq!((fate, is_closed), (Fate::Aborted, false));
    // A client that says goodbye is done.
    let builder = Collector::builder().with_tls(authority.server_config(&[], false));
    let mut pair = Pair::new(&builder, authority.client_config(&[], false), "localhost");
    pair.send(&post());
    assert_eq!(pair.session.fate(), Fate::Open);
    pair.client.send_close_notify();
    pair.pump();
    assert_eq!((pair.session.fate(), pair.is_closed), (Fate::Closed, true));
}

#[test]
fn it_serves_tls_on_sockets() {
    let authority = Authority::new();
    let collector = Collector::builder()
        .with_tls(authority.server_config(&["h2", "http/1.1"], false))
        .start()
        .unwrap();
    assert_eq!(collector.endpoint(), format!("https://{}", collector.addr()));
    let socket = TcpStream::connect(collector.addr()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let config = authority.client_config(&["http/1.1"], false);
    let client = ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap();
    let mut stream = rustls::StreamOwned::new(client, socket);
    // Larger than the socket's buffers in both directions.
    let name = "n".repeat(5 << 20);
    let body = message(&[&name]);
    collector.answer(Answer::status(otlp_embed::Code::UNAVAILABLE, "m".repeat(3 << 20)));
    stream
        .write_all(&request("/v1/traces", &[("content-type", PROTOBUF)], &body))
        .unwrap();
    let mut said = vec![0; 3 << 20];
    stream.read_exact(&mut said).unwrap();
    assert!(said.starts_with(b"HTTP/1.1 503 "));
    assert_eq!(collector.spans()[0].name, name);
    assert_eq!(collector.connections()[0].version, Some(HttpVersion::Http1));
    collector.kill_connections();
    assert!(!collector.connections()[0].is_open);
}
