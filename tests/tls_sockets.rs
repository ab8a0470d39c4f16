//! TLS over real sockets, for every protocol, with client certificates.

#[path = "support/batches.rs"]
#[allow(dead_code, reason = "not every batch is needed here")]
mod batches;
#[path = "support/tls_world.rs"]
mod tls_world;

use batches::{batch, batch_with};
use otlp_embed::rt::{Blocking, Tokio};
use otlp_embed::testing::Collector;
use otlp_embed::{Config, Protocol, Tls};
use std::time::Duration;
use tls_world::{Authority, ServerTls};

struct Setup {
    authority: Authority,
    collector: Collector,
}

/// A collector that admits the clients of its own authority.
fn setup(alpn: &[&'static [u8]]) -> Setup {
    let authority = Authority::new("ours");
    let mut server = ServerTls::new(authority.server("127.0.0.1", |_| ()));
    server.alpn = alpn.to_vec();
    server.clients = Some(authority.der());
    let collector = Collector::builder().with_tls(server.config());
    Setup {
        authority,
        collector: collector.start().expect("a collector"),
    }
}

impl Setup {
    fn config(&self, protocol: Protocol, trusted: &Authority) -> Config {
        let own = self.authority.client("exporter.example");
        let tls = Tls::new()
            .with_ca_pem(&trusted.pem)
            .with_client_certificate_pem(&own.chain_pem, &own.key_pem);
        Config::new()
            .with_protocol(protocol)
            .with_endpoint(self.collector.endpoint())
            .with_tls(tls)
    }
}

const EVERY: [(Protocol, &[&[u8]]); 4] = [
    (Protocol::Grpc, &[b"h2"]),
    (Protocol::HttpProtobuf, &[b"h2"]),
    (Protocol::HttpProtobuf, &[b"http/1.1"]),
    (Protocol::HttpJson, &[]),
];

#[test]
fn every_protocol_goes_under_tls() {
    // Larger than what sockets take at once.
    let payload: &'static str = Box::leak("p".repeat(200_000).into_boxed_str());
    for (protocol, alpn) in EVERY {
        let setup = setup(alpn);
        let config = setup.config(protocol, &setup.authority);
        let exporter = config.clone().build(Blocking::new().expect("a runtime"));
        let exporter = exporter.expect("the settings work");
        for round in 0..3 {
            let outcome = exporter.export(batch_with(10 * round, 10, payload)).wait();
            assert_eq!(
                outcome.expect("delivered").delivered(),
                10,
                "{protocol} with {alpn:?}"
            );
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let exporter = config.build(Tokio::current().expect("a runtime"));
            let exporter = exporter.expect("the settings work");
            let outcome = exporter.export(batch(100, 5)).await.expect("delivered");
            assert_eq!(outcome.delivered(), 5, "{protocol} with {alpn:?}");
            exporter.shutdown(Duration::from_secs(5)).await;
        });
        let counters = setup.collector.counters();
        assert_eq!(
            (counters.spans, counters.connections),
            (35, 2),
            "{protocol} with {alpn:?}"
        );
    }
}

#[test]
fn a_stranger_is_refused_by_every_protocol() {
    for (protocol, alpn) in EVERY {
        let setup = setup(alpn);
        let config = setup.config(protocol, &Authority::new("stranger"));
        let exporter = config.build(Blocking::new().expect("a runtime"));
        let error = exporter
            .expect("the settings work")
            .export(batch(0, 1))
            .wait()
            .expect_err("refused");
        let text = error.to_string();
        assert!(text.contains("unknown issuer") && !error.is_retryable(), "{text}");
        assert!(error.is_connect() && error.attempts() == 1, "{text}");
        assert_eq!(setup.collector.counters().requests, 0, "{text}");
    }
}
