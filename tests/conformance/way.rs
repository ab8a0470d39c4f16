//! The ways that a request can take: protocol, version of HTTP, compression, and what carries them.

use crate::certificates::{Authority, Certificate, NAME, ServerTls};
use core::fmt;
use core::time::Duration;
use otlp_embed::policy::RetryPolicy;
use otlp_embed::testing::Collector;
use otlp_embed::testing::collector::{Builder, HttpVersion};
use otlp_embed::{Compression, Config, Protocol, Tls};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Long enough never to matter, short enough for a test that fails.
pub const LONG: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Way {
    pub protocol: Protocol,
    pub version: HttpVersion,
    pub compression: Compression,
    pub link: Link,
}

/// What carries HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    Tcp,
    Unix,
    /// TLS whose server knows the way's version, and HTTP/1.1 beside HTTP/2.
    Tls,
    /// TLS whose server knows nothing of ALPN (spec 30).
    TlsWithoutAlpn,
    /// TLS whose server asks for a certificate.
    MutualTls,
}

use HttpVersion::{Http1, Http2};
use Link::{MutualTls, Tcp, TlsWithoutAlpn, Unix};
use Protocol::{Grpc, HttpJson, HttpProtobuf};

impl Way {
    pub const GRPC: Self = Self::new(Grpc, Http2, Tcp);
    pub const GRPC_UNIX: Self = Self::new(Grpc, Http2, Unix);
    pub const GRPC_TLS: Self = Self::new(Grpc, Http2, Link::Tls);
    pub const GRPC_MTLS: Self = Self::new(Grpc, Http2, MutualTls);
    pub const HTTP: Self = Self::new(HttpProtobuf, Http1, Tcp);
    pub const HTTP_UNIX: Self = Self::new(HttpProtobuf, Http1, Unix);
    pub const HTTP_TLS: Self = Self::new(HttpProtobuf, Http1, Link::Tls);
    pub const HTTP_TLS_WITHOUT_ALPN: Self = Self::new(HttpProtobuf, Http1, TlsWithoutAlpn);
    pub const HTTP2_TLS: Self = Self::new(HttpProtobuf, Http2, Link::Tls);
    pub const HTTP2_MTLS: Self = Self::new(HttpProtobuf, Http2, MutualTls);
    pub const JSON: Self = Self::new(HttpJson, Http1, Tcp);
    pub const JSON_MTLS: Self = Self::new(HttpJson, Http1, MutualTls);
    pub const JSON_HTTP2_TLS: Self = Self::new(HttpJson, Http2, Link::Tls);

    const fn new(protocol: Protocol, version: HttpVersion, link: Link) -> Self {
        Self {
            protocol,
            version,
            compression: Compression::None,
            link,
        }
    }

    pub const fn compressed(self, compression: Compression) -> Self {
        Self { compression, ..self }
    }

    pub fn is_grpc(self) -> bool {
        self.protocol == Grpc
    }

    /// Whether one connection carries every call.
    pub fn is_multiplexed(self) -> bool {
        self.version == Http2
    }

    /// Connections that may be open to one destination, by default.
    pub fn connections_max(self) -> u64 {
        if self.is_multiplexed() { 1 } else { 4 }
    }

    pub fn is_secured(self) -> bool {
        !matches!(self.link, Tcp | Unix)
    }

    /// Settings of a collector that serves it.
    pub fn builder(self) -> Builder {
        let builder = Collector::builder();
        match self.link {
            Tcp => builder,
            Unix => builder.with_unix_path(fresh_path()),
            _ => builder.with_tls(self.server().config()),
        }
    }

    pub fn collector(self) -> Collector {
        self.builder().start().expect("a collector")
    }

    /// The name that the server agrees to by ALPN.
    pub fn alpn(self) -> Option<&'static str> {
        match (self.link, self.version) {
            (Tcp | Unix | TlsWithoutAlpn, _) => None,
            (_, Http2) => Some("h2"),
            (..) => Some("http/1.1"),
        }
    }

    fn server(self) -> ServerTls {
        let papers = Papers::shared();
        let mut server = ServerTls::new(papers.authority.server(NAME, |_| ()));
        server.alpn = match self.alpn() {
            None => vec![],
            Some("h2") => vec![b"h2", b"http/1.1"],
            Some(other) => vec![other.as_bytes()],
        };
        server.clients = (self.link == MutualTls).then(|| papers.authority.der());
        server
    }

    /// Settings of an exporter to this collector, with retries that do not make a test wait.
    pub fn config(self, collector: &Collector) -> Config {
        self.to().with_endpoint(collector.endpoint())
    }

    /// Settings of an exporter to a host and, maybe, a port.
    pub fn config_to(self, host: impl fmt::Display) -> Config {
        let scheme = if self.is_secured() { "https" } else { "http" };
        self.to().with_endpoint(format!("{scheme}://{host}"))
    }

    fn to(self) -> Config {
        let policy = RetryPolicy::default()
            .with_initial(Duration::from_millis(5))
            .with_max(Duration::from_millis(20));
        let config = Config::new()
            .with_protocol(self.protocol)
            .with_compression(self.compression)
            .with_retry_policy(policy)
            .with_timeout(LONG);
        if !self.is_secured() {
            return config;
        }
        let papers = Papers::shared();
        let tls = Tls::new()
            .with_ca_pem(&papers.authority.pem)
            .with_server_name(NAME);
        config.with_tls(match self.link {
            MutualTls => tls.with_client_certificate_pem(&papers.client.chain_pem, &papers.client.key_pem),
            _ => tls,
        })
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            protocol,
            version,
            compression,
            link,
        } = self;
        write!(f, "{protocol}, {version:?}, {compression}, {link:?}")
    }
}

/// The certificates of all tests in a process.
struct Papers {
    authority: Authority,
    client: Certificate,
}

impl Papers {
    fn shared() -> &'static Self {
        static PAPERS: OnceLock<Papers> = OnceLock::new();
        PAPERS.get_or_init(|| {
            let authority = Authority::new("the suite's authority");
            Self {
                client: authority.client("the suite"),
                authority,
            }
        })
    }
}

fn fresh_path() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("otlp-embed-suite-{}-{number}.sock", std::process::id()));
    // Left behind by a process of the same number that was killed.
    let _ = std::fs::remove_file(&path);
    path
}
