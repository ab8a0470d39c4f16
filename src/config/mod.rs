//! What a user sets, checked when the exporter is built.

mod header;
mod settings;
#[cfg(feature = "tls")]
mod tls;

pub(crate) use header::checked_header;
pub use settings::{Keepalive, Lane, Proxy, Route, Settings};
#[cfg(feature = "tls")]
pub(crate) use tls::Opening;
#[cfg(feature = "tls")]
pub use tls::Tls;

use crate::encode::Signal;
use crate::endpoint::{Endpoint, Scheme};
use crate::error::Error;
use crate::policy::RetryPolicy;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;

/// How requests are put on the wire (OTLP exporter specification, "Specify Protocol").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// `grpc`: protobuf over gRPC, which is HTTP/2.
    Grpc,
    /// `http/protobuf`: protobuf in HTTP requests.
    HttpProtobuf,
    /// `http/json`: JSON in HTTP requests.
    HttpJson,
}

impl Protocol {
    /// The name in the environment variables of the specification.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::HttpProtobuf => "http/protobuf",
            Self::HttpJson => "http/json",
        }
    }

    /// The endpoint unless another is set (OTLP exporter specification, "Configuration Options").
    pub const fn default_endpoint(self) -> &'static str {
        match self {
            Self::Grpc => "http://localhost:4317",
            Self::HttpProtobuf | Self::HttpJson => "http://localhost:4318",
        }
    }
}

/// `http/protobuf`, as the specification asks, or `grpc` in a build without the feature `http`.
impl Default for Protocol {
    fn default() -> Self {
        if cfg!(feature = "http") {
            Self::HttpProtobuf
        } else {
            Self::Grpc
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How requests are compressed (OTLP exporter specification, "Specify Compression").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878), beyond the specification.
    Zstd,
}

/// The settings of an exporter.
///
/// Nothing is checked before the exporter is built, so that a chain of setters reads as one sentence.
///
/// ```
/// use core::time::Duration;
/// use otlp_embed::Config;
///
/// let config = Config::new()
///     .with_endpoint("http://localhost:4317")
///     .with_timeout(Duration::from_secs(5))
///     .with_header("x-scope-orgid", "acme");
/// ```
#[derive(Clone)]
#[must_use = "setters take the configuration and give it back"]
pub struct Config {
    endpoint: Option<String>,
    protocol: Protocol,
    timeout: Duration,
    connect_timeout: Duration,
    headers: Vec<(String, String)>,
    addresses: Vec<SocketAddr>,
    retry: RetryPolicy,
    memory_limit_bytes: usize,
    response_bytes_max: usize,
    isolate_tracing: bool,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
    #[cfg(feature = "std")]
    resolver: Option<crate::rt::Resolver>,
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

impl Config {
    /// The defaults of the OTLP exporter specification: `http://localhost:4318`, 10 s an export, retries on.
    pub fn new() -> Self {
        Self {
            endpoint: None,
            protocol: Protocol::default(),
            timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            headers: Vec::new(),
            addresses: Vec::new(),
            retry: RetryPolicy::default(),
            memory_limit_bytes: 64 << 20,
            response_bytes_max: 4 << 20,
            isolate_tracing: true,
            #[cfg(feature = "tls")]
            tls: None,
            #[cfg(feature = "std")]
            resolver: None,
        }
    }

    /// How requests are put on the wire; `http/protobuf` unless set, or `grpc` in a build without the feature `http`.
    pub fn with_protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// The collector's URL; `http://localhost:4318` unless set, or `http://localhost:4317` over gRPC.
    pub fn with_endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = Some(endpoint.into());
        self
    }

    /// The time of one export, from [`Exporter::export`](crate::Exporter::export) to its verdict, names, connections
    /// and retries included; 10 s unless set.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The time that one address has to accept a connection before the next is tried; 5 s unless set.
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How connections to an `https` endpoint are secured; [`Tls::new`] unless set.
    ///
    /// The endpoint's scheme decides whether there is TLS (OTLP exporter specification, "Configuration Options"). Set on
    /// an `http` endpoint, this is a misuse error when the exporter is built: plain text is not what was meant.
    #[cfg(feature = "tls")]
    pub fn with_tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Metadata to send with every export. A name ending in `-bin` carries base64 of binary data.
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Addresses to connect to instead of resolving the endpoint's host, in the order to try.
    pub fn with_addresses(mut self, addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.addresses = addresses.into_iter().collect();
        self
    }

    /// A resolver to ask instead of the system's. It may block: it runs where the runtime resolves names.
    #[cfg(feature = "std")]
    pub fn with_resolver<F>(mut self, resolver: F) -> Self
    where
        F: Fn(&crate::endpoint::Name) -> std::io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    {
        self.resolver = Some(crate::rt::Resolver::new(resolver));
        self
    }

    /// When and how often a failed attempt is repeated; see [`RetryPolicy`] for the default.
    pub fn with_retry_policy(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Encoded bytes that exports without a verdict may hold together; 64 MiB unless set. An export that does not
    /// fit beside the others ends at once in a retryable error, one that exceeds the limit by itself in a misuse error.
    pub fn with_memory_limit(mut self, bytes: usize) -> Self {
        self.memory_limit_bytes = bytes;
        self
    }

    /// Whether the `tracing` spans and events of the libraries under the exporter are kept away from the application's
    /// subscriber, on unless set. Without this, an application that exports its `tracing` spans through this crate
    /// would trace its own exports for ever.
    ///
    /// It costs nothing unless the application listens at `DEBUG` or finer. The first isolated call turns off
    /// `tracing`'s fallback to the `log` crate for the whole process; an application that relies on the fallback sets
    /// `false`.
    pub fn with_tracing_isolated(mut self, isolated: bool) -> Self {
        self.isolate_tracing = isolated;
        self
    }

    /// Checks every setting and puts it into the form that the layers use; for driving one layer by hand.
    ///
    /// # Errors
    ///
    /// A misuse error that names the setting, its value and what would work.
    #[doc(hidden)]
    pub fn settings(&self) -> Result<Settings, Error> {
        let endpoint = Endpoint::parse_grpc(
            self.endpoint
                .as_deref()
                .unwrap_or(self.protocol.default_endpoint()),
        )?;
        #[cfg(not(feature = "tls"))]
        if endpoint.scheme() == Scheme::Https {
            return Err(Error::config(format!(
                "endpoint {endpoint}: this build carries no TLS and never falls back to plain text; enable the feature \
                 `tls-ring` or `tls-aws-lc` of otlp-embed, or use an http endpoint, such as a collector on this host that \
                 forwards over TLS"
            )));
        }
        #[cfg(feature = "tls")]
        let tls = secured(&endpoint, self.tls.as_ref())?;
        for (name, value) in [
            ("with_timeout", self.timeout),
            ("with_connect_timeout", self.connect_timeout),
        ] {
            if value.is_zero() {
                return Err(Error::config(format!(
                    "{name}: zero leaves no time for an export; give more than 0 s"
                )));
            }
        }
        if self.memory_limit_bytes == 0 {
            return Err(Error::config(
                "with_memory_limit: zero bytes hold no request; give more than 0",
            ));
        }
        self.retry.check()?;
        let headers = self
            .headers
            .iter()
            .map(|(n, v)| checked_header(n, v))
            .collect::<Result<Vec<_>, _>>()?;
        let endpoint_name: Arc<str> = format!("{endpoint}").into();
        let headers: Arc<[(String, String)]> = headers.into();
        let lane = Lane {
            endpoint,
            endpoint_name: endpoint_name.clone(),
            is_grpc: self.protocol == Protocol::Grpc,
            connect_timeout: self.connect_timeout,
            headers: headers.clone(),
            addresses: self.addresses.clone(),
            proxy: None,
            keepalive: None,
            max_connection_age: None,
            http1_connections_max: 4,
            user_agent: concat!("OTel-OTLP-Exporter-Rust/", env!("CARGO_PKG_VERSION")).into(),
            response_bytes_max: self.response_bytes_max,
            isolate_tracing: self.isolate_tracing,
            #[cfg(feature = "tls")]
            tls,
        };
        let routes = Signal::ALL.map(|signal| Route {
            lane: 0,
            protocol: self.protocol,
            compression: Compression::None,
            path: match self.protocol {
                Protocol::Grpc => signal.grpc_path(),
                _ => signal.http_path(),
            }
            .into(),
            headers: headers.clone(),
            timeout: self.timeout,
            endpoint_name: endpoint_name.clone(),
        });
        Ok(Settings {
            lanes: alloc::vec![lane],
            routes,
            retry: self.retry,
            request_bytes_max: 64 << 20,
            memory_limit_bytes: self.memory_limit_bytes,
            isolate_tracing: self.isolate_tracing,
        })
    }

    #[cfg(feature = "std")]
    pub(crate) fn resolver(&self) -> Option<crate::rt::Resolver> {
        self.resolver.clone()
    }
}

/// How connections to the endpoint are secured, checked; `None` for plain text.
#[cfg(feature = "tls")]
fn secured(endpoint: &Endpoint, tls: Option<&Tls>) -> Result<Option<Tls>, Error> {
    match (endpoint.scheme(), tls) {
        (Scheme::Http, None) => Ok(None),
        (Scheme::Http, Some(_)) => Err(Error::config(format!(
            "with_tls: the endpoint {endpoint} is plain text, since its scheme decides; use https, or leave with_tls out"
        ))),
        (Scheme::Https, tls) => {
            let tls = tls.cloned().unwrap_or_default();
            tls.check(&format!("endpoint {endpoint}"))?;
            Ok(Some(tls))
        }
    }
}

impl fmt::Debug for Config {
    /// Header values may be secrets and are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Config")
            .field(
                "endpoint",
                &self.endpoint.as_deref().map(crate::endpoint::redacted),
            )
            .field("protocol", &self.protocol)
            .field("timeout", &self.timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("headers", &names)
            .field("retry", &self.retry)
            .field("memory_limit_bytes", &self.memory_limit_bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn misuse_names_the_setting() {
        for (config, what) in [
            (Config::new().with_timeout(Duration::ZERO), "with_timeout"),
            (
                Config::new().with_connect_timeout(Duration::ZERO),
                "with_connect_timeout",
            ),
            (Config::new().with_memory_limit(0), "with_memory_limit"),
            (Config::new().with_header("", "x"), "with_header"),
            (Config::new().with_header("grpc-timeout", "1S"), "with_header"),
            (Config::new().with_header("x-key", "a\nb"), "with_header"),
            (Config::new().with_header("x-bin", "not base64!"), "base64"),
            (Config::new().with_header("x-bin", "AAAAA"), "base64"),
            #[cfg(not(feature = "tls"))]
            (Config::new().with_endpoint("https://collector"), "tls-ring"),
        ] {
            let error = config.settings().err().expect(what);
            assert!(error.is_misuse() && error.to_string().contains(what), "{error}");
        }
    }

    #[test]
    fn debug_redacts_secrets() {
        let shown = format!(
            "{:?}",
            Config::new().with_header("authorization", "Bearer hunter2")
        );
        assert!(
            shown.contains("authorization") && !shown.contains("hunter2"),
            "{shown}"
        );
    }

    #[test]
    fn defaults_follow_the_specification() {
        let settings = Config::new().settings().expect("the defaults work");
        assert_eq!(settings.routes[0].timeout, Duration::from_secs(10), "spec 38");
        assert_eq!(
            &*settings.lanes[0].endpoint_name, "http://localhost:4318",
            "spec 32"
        );
        assert_eq!(settings.routes[0].protocol, Protocol::HttpProtobuf, "spec 37");
        assert_eq!(settings.lanes[0].response_bytes_max, 4 << 20, "spec 3");
        assert!(settings.retry.attempts_max > 1, "spec 41");
    }
}
