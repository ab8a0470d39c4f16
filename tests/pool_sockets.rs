//! Pools of HTTP/1.1 connections over real sockets: concurrent exports share as many as are allowed (spec 8, 24), or one
//! connection where TLS negotiates HTTP/2 (spec 30).

#[path = "support/batches.rs"]
#[allow(dead_code, reason = "not every batch is needed here")]
mod batches;

use batches::batch;
use futures_util::future::join_all;
use otlp_embed::rt::{Blocking, Smol, Tokio};
use otlp_embed::testing::Collector;
use otlp_embed::{Config, Protocol, Tls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::PrivatePkcs8KeyDer;
use std::sync::Arc;

const EXPORTS: u64 = 64;

fn config(collector: &Collector) -> Config {
    Config::new()
        .with_protocol(Protocol::HttpProtobuf)
        .with_endpoint(format!("http://{}", collector.addr()))
        .with_http1_connections(3)
}

fn check(collector: &Collector) {
    let counters = collector.counters();
    assert_eq!((counters.requests_accepted, counters.spans), (EXPORTS, EXPORTS));
    assert!(
        (1..=3).contains(&counters.connections),
        "{} connections",
        counters.connections
    );
}

#[test]
fn tokio_shares_its_pool() {
    let collector = Collector::start().expect("a collector");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let exporter = config(&collector)
            .build(Tokio::current().expect("a runtime"))
            .expect("the settings work");
        let tasks = (0..EXPORTS).map(|number| tokio::spawn(exporter.export(batch(number, 1))));
        for outcome in join_all(tasks).await {
            assert_eq!(outcome.expect("no panic").expect("delivered").attempts(), 1);
        }
    });
    check(&collector);
}

#[test]
fn smol_shares_its_pool() {
    let collector = Collector::start().expect("a collector");
    let exporter = config(&collector).build(Smol::new()).expect("the settings work");
    let outcomes = smol::block_on(join_all(
        (0..EXPORTS).map(|number| exporter.export(batch(number, 1))),
    ));
    for outcome in outcomes {
        assert_eq!(outcome.expect("delivered").attempts(), 1);
    }
    check(&collector);
}

#[test]
fn threads_share_their_pool() {
    let collector = Collector::start().expect("a collector");
    let exporter = config(&collector)
        .build(Blocking::new().expect("a reactor"))
        .expect("the settings work");
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let exporter = exporter.clone();
            scope.spawn(move || {
                for number in 0..EXPORTS / 8 {
                    let request = batch(thread * 100 + number, 1);
                    let outcome = exporter.export(request).wait().expect("delivered");
                    assert_eq!(outcome.attempts(), 1);
                }
            });
        }
    });
    check(&collector);
}

/// What both sides need for TLS: the server speaks these protocols.
fn tls(alpn: &[&str]) -> (Arc<ServerConfig>, Tls) {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    let private = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let mut server = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions of TLS")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .expect("a certificate and its key");
    server.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let client = Tls::new().with_roots([issuer.der().clone()]);
    (Arc::new(server), client)
}

/// Connections for a burst of exports, against a server that speaks these protocols.
fn connections_of_a_burst(alpn: &[&str]) -> u64 {
    let (server, client) = tls(alpn);
    let collector = Collector::builder()
        .with_tls(server)
        .start()
        .expect("a collector");
    let exporter = Config::new()
        .with_protocol(Protocol::HttpProtobuf)
        .with_endpoint(format!("https://localhost:{}", collector.addr().port()))
        .with_addresses([collector.addr()])
        .with_http1_connections(3)
        .with_tls(client)
        .build(Smol::new())
        .expect("the settings work");
    for round in 0..2 {
        let numbers = round * EXPORTS..(round + 1) * EXPORTS;
        let exports = numbers.map(|number| exporter.export(batch(number, 1)));
        for outcome in smol::block_on(join_all(exports)) {
            assert_eq!(outcome.expect("delivered").attempts(), 1);
        }
    }
    assert_eq!(collector.counters().spans, 2 * EXPORTS);
    exporter.stats().connections
}

#[test]
fn one_connection_is_enough_where_tls_negotiates_http2() {
    assert_eq!(connections_of_a_burst(&["h2", "http/1.1"]), 1);
}

#[test]
fn a_pool_is_opened_where_tls_negotiates_http1() {
    for alpn in [&["http/1.1"][..], &[]] {
        let connections = connections_of_a_burst(alpn);
        assert!((2..=3).contains(&connections), "{connections} connections");
    }
}
