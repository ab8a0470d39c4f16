//! What a user sets, checked when the exporter is built.

use crate::endpoint::{Endpoint, Scheme};
use crate::error::Error;
use crate::policy::RetryPolicy;
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;

/// The endpoint unless another is set (OTLP exporter specification, "Configuration Options").
pub const DEFAULT_ENDPOINT: &str = "http://localhost:4317";

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
    endpoint: String,
    timeout: Duration,
    connect_timeout: Duration,
    headers: Vec<(String, String)>,
    addresses: Vec<SocketAddr>,
    retry: RetryPolicy,
    memory_limit_bytes: usize,
    response_bytes_max: usize,
    isolate_tracing: bool,
    #[cfg(feature = "std")]
    resolver: Option<crate::rt::Resolver>,
}

/// Settings that were checked and put into the form that the layers use.
///
/// It has no `Debug`, since header values may be secrets.
#[derive(Clone)]
pub struct Settings {
    /// Where to export to.
    pub endpoint: Endpoint,
    /// The endpoint as an error names it.
    pub endpoint_name: Arc<str>,
    /// The time of one export, retries included.
    pub timeout: Duration,
    /// The time of one address to accept a connection.
    pub connect_timeout: Duration,
    /// Metadata of every call: lowercase names, printable values.
    pub headers: Arc<[(String, String)]>,
    /// Addresses that stand in for name resolution, in the order to try.
    pub addresses: Vec<SocketAddr>,
    /// When and how often to try again.
    pub retry: RetryPolicy,
    /// Encoded bytes that exports without a verdict may hold.
    pub memory_limit_bytes: usize,
    /// The largest response message.
    pub response_bytes_max: usize,
    /// Whether spans and events of libraries under the exporter are kept from the application's subscriber.
    pub isolate_tracing: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

impl Config {
    /// The defaults of the OTLP exporter specification: `http://localhost:4317`, 10 s an export, retries on.
    pub fn new() -> Self {
        Self {
            endpoint: DEFAULT_ENDPOINT.to_owned(),
            timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            headers: Vec::new(),
            addresses: Vec::new(),
            retry: RetryPolicy::default(),
            memory_limit_bytes: 64 << 20,
            response_bytes_max: 4 << 20,
            isolate_tracing: true,
            #[cfg(feature = "std")]
            resolver: None,
        }
    }

    /// The collector's URL; `http://localhost:4317` unless set.
    pub fn with_endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = endpoint.into();
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
        let endpoint = Endpoint::parse_grpc(&self.endpoint)?;
        if endpoint.scheme() == Scheme::Https {
            return Err(Error::config(format!(
                "endpoint {endpoint}: this build carries no TLS and never falls back to plain text; use an http endpoint, \
                 such as a collector on this host that forwards over TLS"
            )));
        }
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
        Ok(Settings {
            endpoint_name: format!("{endpoint}").into(),
            endpoint,
            timeout: self.timeout,
            connect_timeout: self.connect_timeout,
            headers: headers.into(),
            addresses: self.addresses.clone(),
            retry: self.retry,
            memory_limit_bytes: self.memory_limit_bytes,
            response_bytes_max: self.response_bytes_max,
            isolate_tracing: self.isolate_tracing,
        })
    }

    #[cfg(feature = "std")]
    pub(crate) fn resolver(&self) -> Option<crate::rt::Resolver> {
        self.resolver.clone()
    }
}

/// Whether a text could be base64, padded or not (gRPC, "Binary-Header").
fn is_base64(text: &str) -> bool {
    let digits = text.trim_end_matches('=');
    text.len() - digits.len() <= 2
        && digits.len() % 4 != 1
        && digits
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
}

/// A header fit for gRPC metadata: the name in lowercase, the value printable ASCII.
pub(crate) fn checked_header(name: &str, value: &str) -> Result<(String, String), Error> {
    let lower = name.trim().to_ascii_lowercase();
    let refuse = |what: &str| Err(Error::config(format!("with_header {name:?}: {what}")));
    let token = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if lower.is_empty() || !lower.bytes().all(token) {
        return refuse("a name consists of letters, digits, '-', '_' and '.'");
    }
    let reserved = [
        "content-type",
        "te",
        "host",
        "connection",
        "transfer-encoding",
        "content-length",
        "user-agent",
    ];
    if reserved.contains(&&*lower) || lower.starts_with("grpc-") {
        return refuse("the exporter sets this header itself");
    }
    let value = value.trim();
    if lower.ends_with("-bin") && !is_base64(value) {
        return refuse("a name ending in -bin takes a value in base64");
    }
    if !value.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        return refuse(
            "the value must be printable ASCII; use a name ending in -bin and base64 for other bytes",
        );
    }
    Ok((lower, value.to_owned()))
}

impl fmt::Debug for Config {
    /// Header values may be secrets and are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Config")
            .field("endpoint", &crate::endpoint::redacted(&self.endpoint))
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
            (Config::new().with_endpoint("https://collector"), "TLS"),
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
        assert_eq!(settings.timeout, Duration::from_secs(10), "spec 38");
        assert_eq!(&*settings.endpoint_name, "http://localhost:4317", "spec 32");
        assert_eq!(settings.response_bytes_max, 4 << 20, "spec 3");
        assert!(settings.retry.attempts_max > 1, "spec 41");
    }
}
