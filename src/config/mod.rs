//! What a user sets, checked when the exporter is built.
//!
//! Owns the setters, the environment variables of the specification, and the report of what became of both. It reads no
//! file and, but for [`Config::from_env`], nothing of the process.

mod choices;
mod env;
mod header;
mod options;
mod percent;
mod proxy;
mod report;
mod settings;
mod settle;
#[cfg(feature = "tls")]
mod tls;

pub use choices::{Compression, HistogramAggregation, Protocol, TemporalityPreference};
#[cfg(feature = "http")]
pub(crate) use header::RESERVED;
pub(crate) use header::checked_header;
#[cfg(any(feature = "http", feature = "http2"))]
pub(crate) use header::is_credential;
pub use report::{ConfigEntry, ConfigReport};
pub use settings::{Keepalive, Lane, Proxy, Route, Settings};
#[cfg(feature = "tls")]
pub use tls::Tls;

use crate::credentials::{CredentialSource, Credentials};
use crate::encode::Signal;
use crate::error::Error;
use crate::observe::{Event, Observer};
use crate::policy::RetryPolicy;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;
use env::Environment;
use options::{Levels, Options};
use settle::{Built, settle};

/// The time of one export (OTLP exporter specification, "Configuration Options").
const TIMEOUT: Duration = Duration::from_secs(10);
/// Stands for no limit: the longest time that the common configuration specification, "Timeout", asks for.
const NO_LIMIT: Duration = Duration::from_millis(u32::MAX as u64);
/// The time of one address to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections of HTTP/1.1 to one destination.
const HTTP1_CONNECTIONS_MAX: usize = 4;
/// Encoded bytes that exports without a verdict may hold.
const MEMORY_LIMIT_BYTES: usize = 64 << 20;
/// The largest request (OTLP specification, "Request size limit").
const REQUEST_BYTES_MAX: usize = 64 << 20;
/// The largest response (OTLP specification, "Response size limit").
const RESPONSE_BYTES_MAX: usize = 4 << 20;

/// The settings of an exporter.
///
/// Nothing is checked before the exporter is built, so that a chain of setters reads as one sentence.
///
/// ```
/// use core::time::Duration;
/// use otlp_embed::{Config, Protocol, Signal};
///
/// let config = Config::new()
///     .with_protocol(Protocol::Grpc)
///     .with_endpoint("http://localhost:4317")
///     .with_timeout(Duration::from_secs(5))
///     .with_header("x-scope-orgid", "acme")
///     .for_signal(Signal::Logs, |logs| logs.with_endpoint("http://logs.internal:4317"));
/// ```
///
/// # Which value counts
///
/// For each setting of a signal the first of these that has one: [`for_signal`](Self::for_signal), the setter, the
/// signal's environment variable, the general variable (both only after [`from_env`](Self::from_env) or
/// [`from_vars`](Self::from_vars)), the default. [`report`](Self::report) tells which it was.
#[derive(Clone, Default)]
#[must_use = "setters take the configuration and give it back"]
pub struct Config {
    /// What code set.
    code: Levels,
    /// What the environment says, once it was asked.
    env: Option<Arc<Environment>>,
    whole: Whole,
    /// Setters that were called where they mean nothing.
    misuse: Vec<String>,
}

/// What holds for the whole exporter; the default where nothing is set.
#[derive(Clone, Default)]
struct Whole {
    connect_timeout: Option<Duration>,
    retry: Option<RetryPolicy>,
    memory_limit_bytes: Option<usize>,
    request_bytes_max: Option<usize>,
    response_bytes_max: Option<usize>,
    keepalive: Option<Keepalive>,
    max_connection_age: Option<Duration>,
    http1_connections_max: Option<usize>,
    user_agent: Option<String>,
    proxy: Option<ProxyChoice>,
    isolate_tracing: Option<bool>,
    observer: Observer,
    temporality: Option<TemporalityPreference>,
    histogram: Option<HistogramAggregation>,
    #[cfg(feature = "std")]
    resolver: Option<crate::rt::Resolver>,
}

/// Who says which proxy connections go through.
#[derive(Clone)]
enum ProxyChoice {
    Url(String),
    Variables(proxy::Variables),
}

impl Config {
    /// The defaults of the OTLP exporter specification: `http://localhost:4318`, 10 s an export, retries on. The
    /// environment is not asked; see [`from_env`](Self::from_env).
    pub fn new() -> Self {
        Self::default()
    }

    /// How requests are put on the wire; `http/protobuf` unless set, or `grpc` in a build without the feature `http`.
    pub fn with_protocol(mut self, protocol: Protocol) -> Self {
        self.code.all.protocol = Some(protocol);
        self
    }

    /// The collector's URL; `http://localhost:4318` unless set, or `http://localhost:4317` over gRPC.
    ///
    /// Over HTTP it is the base of the signals' URLs: `http://host/base` sends traces to `http://host/base/v1/traces`, and
    /// the port is 80 or 443 unless given. Within [`for_signal`](Self::for_signal) it is that signal's whole URL, used as it
    /// is: without a path, requests go to `/`. Over gRPC it has no path, the port is 4317 unless given, and without a
    /// scheme [`with_insecure`](Self::with_insecure) decides about TLS. Both take Unix domain sockets, as `unix:/path`
    /// (OTLP exporter specification, "Endpoint URLs for OTLP/HTTP").
    pub fn with_endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.code.all.endpoint = Some(endpoint.into());
        self
    }

    /// Whether an endpoint of gRPC without a scheme, such as `collector:4317`, is spoken to in plain text; not unless set,
    /// which means TLS. A scheme always wins, and OTLP over HTTP goes by the scheme alone (OTLP exporter specification,
    /// "Insecure").
    pub fn with_insecure(mut self, insecure: bool) -> Self {
        self.code.all.insecure = Some(insecure);
        self
    }

    /// How requests are compressed; not at all unless set.
    pub fn with_compression(mut self, compression: Compression) -> Self {
        self.code.all.compression = Some(compression);
        self
    }

    /// The time of one export, from [`Exporter::export`](crate::Exporter::export) to its verdict, names, connections
    /// and retries included; 10 s unless set. It is more than zero; below 100 ms and above 600 s it is among the report's warnings.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.code.all.timeout = Some(timeout);
        self
    }

    /// A header, or metadata over gRPC, to send with every export. A name that is set twice is sent with both values. One
    /// ending in `-bin` carries base64 of binary data.
    ///
    /// Names consist of letters, digits, `-`, `_` and `.`, and are sent in lowercase; values are printable ASCII. Refused, as an
    /// error of [`build`](Self::build), are names that the exporter or the connection sets itself, such as `content-type`, `host`,
    /// `user-agent` and whatever begins with `grpc-`.
    ///
    /// Headers are added to those of the environment, and within [`for_signal`](Self::for_signal) to those of all signals,
    /// and take the place of those of the same name.
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.code.all.headers.push((name.into(), value.into()));
        self
    }

    /// Several headers; see [`with_header`](Self::with_header).
    pub fn with_headers<N, V>(mut self, headers: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<String>,
        V: Into<String>,
    {
        let headers = headers
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()));
        self.code.all.headers.extend(headers);
        self
    }

    /// How connections to an `https` endpoint are secured; [`Tls::new`] unless set, with the files that environment variables
    /// name. What is set here takes the place of all of them.
    ///
    /// The endpoint's scheme decides whether there is TLS (OTLP exporter specification, "Configuration Options"). Set for
    /// an `http` endpoint, this is a misuse error when the exporter is built: plain text is not what was meant.
    #[cfg(feature = "tls")]
    pub fn with_tls(mut self, tls: Tls) -> Self {
        self.code.all.tls = Some(tls);
        self
    }

    /// Where headers come from that change while the exporter runs, such as a token that expires; a closure that returns a
    /// `String` gives bearer tokens. It is asked for every attempt; see [`Credentials`] for what it may do.
    pub fn with_credentials(mut self, source: impl Credentials + 'static) -> Self {
        self.code.all.credentials = Some(CredentialSource::new(source));
        self
    }

    /// Addresses to connect to instead of resolving the endpoint's host, in the order to try. They stand in for that host
    /// alone: a signal whose endpoint is its own takes those that are set with it.
    pub fn with_addresses(mut self, addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.code.all.addresses = addresses.into_iter().collect();
        self
    }

    /// Settings that hold for one signal, and win over those for all (OTLP exporter specification, "Configuration
    /// Options"). The configuration that is passed in has nothing set.
    ///
    /// Endpoint, protocol, compression, timeout, headers, credentials, TLS, addresses and [`with_insecure`](Self::with_insecure) can differ
    /// by signal; the others hold for the whole exporter, and are an error of [`build`](Self::build) here.
    ///
    /// ```
    /// use otlp_embed::{Compression, Config, Signal};
    ///
    /// let config = Config::new()
    ///     .with_endpoint("http://collector:4318")
    ///     .for_signal(Signal::Metrics, |metrics| {
    ///         metrics
    ///             .with_endpoint("http://metrics:9090/api/v1/otlp/v1/metrics")
    ///             .with_header("x-tenant", "acme")
    ///     });
    /// ```
    pub fn for_signal(mut self, signal: Signal, set: impl FnOnce(Self) -> Self) -> Self {
        let set = set(Self::new());
        let name = format!("for_signal({signal:?})");
        let mut misplaced = set.whole.set();
        if set.env.is_some() {
            misplaced.push("from_env");
        }
        for method in misplaced {
            self.misuse.push(format!(
                "{name}.{method}: this holds for the whole exporter; set it outside of for_signal"
            ));
        }
        self.misuse
            .extend(set.misuse.iter().map(|text| format!("{name}: {text}")));
        if set.code.signals.iter().any(Options::is_any_set) {
            self.misuse.push(format!(
                "{name}: a signal has no signals; call for_signal outside of for_signal"
            ));
        }
        self.code.of_mut(Some(signal)).overlay(set.code.all);
        self
    }

    /// The time that one address has to accept a connection before the next is tried, more than zero; 5 s unless set.
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.whole.connect_timeout = Some(timeout);
        self
    }

    /// A resolver to ask instead of the system's. It may block: it runs where the runtime resolves names.
    #[cfg(feature = "std")]
    pub fn with_resolver<F>(mut self, resolver: F) -> Self
    where
        F: Fn(&crate::endpoint::Name) -> std::io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    {
        self.whole.resolver = Some(crate::rt::Resolver::new(resolver));
        self
    }

    /// When and how often a failed attempt is repeated; see [`RetryPolicy`] for the default.
    pub fn with_retry_policy(mut self, policy: RetryPolicy) -> Self {
        self.whole.retry = Some(policy);
        self
    }

    /// Bytes that exports without a verdict may hold together, at least 1; 64 MiB unless set. An export that does not fit beside the
    /// others ends at once in a retryable error, one that exceeds the limit by itself in a misuse error.
    ///
    /// Counted are the encoded message of each export, and beside it what is made of it for the wire: its JSON, or what
    /// compression leaves of it. Bounded apart from this are the answers, each by the response limit, what a connection
    /// holds for its socket, and what a thread in [`Exporter::export`](crate::Exporter::export) is making of its request at
    /// that moment.
    pub fn with_memory_limit(mut self, bytes: usize) -> Self {
        self.whole.memory_limit_bytes = Some(bytes);
        self
    }

    /// The largest request in bytes, before compression, at least 1; 64 MiB unless set. One that is larger is split, and a record
    /// that is too large alone is dropped and counted (OTLP specification, "Request size limit").
    pub fn with_request_limit(mut self, bytes: usize) -> Self {
        self.whole.request_bytes_max = Some(bytes);
        self
    }

    /// The largest response in bytes that is read, after decompression, at least 1; 4 MiB unless set. A larger one is an error that is
    /// not retried (OTLP specification, "Response size limit").
    pub fn with_response_limit(mut self, bytes: usize) -> Self {
        self.whole.response_bytes_max = Some(bytes);
        self
    }

    /// Pings that notice a dead connection; none unless set.
    pub fn with_keepalive(mut self, keepalive: Keepalive) -> Self {
        self.whole.keepalive = Some(keepalive);
        self
    }

    /// How old a connection may get before it is replaced, so that collectors that were added get their share; more than zero,
    /// and without limit unless set. It varies by a tenth, so that connections that were opened together are not replaced together.
    /// What is under way on it ends first; the next connection resolves the name again.
    pub fn with_max_connection_age(mut self, age: Duration) -> Self {
        self.whole.max_connection_age = Some(age);
        self
    }

    /// Connections of HTTP/1.1, which carries one request at a time, that may be open to one destination, from 1 to 1,000; 4 unless
    /// set (OTLP specification, "OTLP/HTTP Concurrent Requests"). They are opened as exports wait for one, the latest is used first,
    /// and an idle one is closed after 90 s beside another.
    pub fn with_http1_connections(mut self, count: usize) -> Self {
        self.whole.http1_connections_max = Some(count);
        self
    }

    /// The product that the exporter is part of, such as `shop/1.2`, to stand before its own name in `User-Agent` (OTLP
    /// exporter specification, "User Agent"); several are separated by a space, of 256 bytes at most together.
    pub fn with_user_agent(mut self, product: impl Into<String>) -> Self {
        self.whole.user_agent = Some(product.into());
        self
    }

    /// The HTTP proxy that every connection goes through, by CONNECT: `[http://][user:password@]host[:port]`, where the port
    /// is 80 unless given. User and password are percent-decoded. Unix domain sockets are connected to directly.
    pub fn with_proxy(mut self, url: impl Into<String>) -> Self {
        self.whole.proxy = Some(ProxyChoice::Url(url.into()));
        self
    }

    /// Takes the proxies that environment variables name; they are not asked unless this is called. After
    /// [`from_vars`](Self::from_vars) they are looked up in what was given there, else in the process's environment, at this
    /// call.
    ///
    /// An `https` endpoint is reached through `https_proxy` or `HTTPS_PROXY`, an `http` endpoint through `http_proxy` or
    /// `HTTP_PROXY`, and either through `all_proxy` or `ALL_PROXY` where those are not set; of two spellings the one in
    /// lowercase counts. `HTTP_PROXY` counts for nothing where `REQUEST_METHOD` is set, since the client of a CGI program
    /// could have set it. A proxy is `[http://][user:password@]host[:port]`; what else is found, such as a SOCKS proxy, is
    /// reported and passed over.
    ///
    /// `no_proxy` or `NO_PROXY` lists what is connected to directly, separated by commas or spaces: `*` for everything, an
    /// address, a block such as `10.0.0.0/8`, a name, which stands for those under it too, or `.name` for those alone. Names
    /// and addresses may carry a port, and count for that port then. What lies on this host is never reached through a proxy.
    pub fn with_proxy_from_env(mut self) -> Self {
        let variables = self.env.as_ref().map(|env| env.proxies.clone());
        #[cfg(feature = "std")]
        let variables = variables.or_else(|| Some(Environment::proxies_of_process()));
        self.whole.proxy = Some(ProxyChoice::Variables(variables.unwrap_or_default()));
        self
    }

    /// Whether the `tracing` spans and events of the libraries under the exporter are kept away from the application's
    /// subscriber, on unless set. Without this, an application that exports its `tracing` spans through this crate
    /// would trace its own exports for ever.
    ///
    /// With the OpenTelemetry SDK's feature on, what reaches the SDK by another way is kept from it too, such as the records that TLS
    /// and a runtime's drivers write to the `log` crate. What wakes an export is called under the same guard: an executor that runs
    /// a task within `wake` itself, which those of this crate's features do not, does not hear that task's telemetry then.
    ///
    /// It costs next to nothing unless the application listens at `DEBUG` or finer. The first isolated call turns off
    /// `tracing`'s fallback to the `log` crate for the whole process; an application that relies on the fallback sets
    /// `false`.
    pub fn with_tracing_isolated(mut self, isolated: bool) -> Self {
        self.whole.isolate_tracing = Some(isolated);
        self
    }

    /// Who is told what happens to the exporter: connections, outages and their end, what was rejected, limits that are
    /// reached; see [`Event`]. The last one set counts. Unless one is set, a build with the feature `log` writes the same to
    /// the crate `log`, under the target `otlp_embed`: connections at `info`, everything else, the end of an outage
    /// included, at `warn`.
    ///
    /// It is called by whoever drives the exporter, with no lock held, one event after the other. It may use the exporter
    /// that it hears of, and should be quick, since what the caller does waits for it. A panic in it ends with the call.
    ///
    /// ```
    /// use otlp_embed::Config;
    ///
    /// let config = Config::new().with_observer(|event| eprintln!("{event}"));
    /// # _ = config;
    /// ```
    pub fn with_observer(mut self, observer: impl Fn(Event<'_>) + Send + Sync + 'static) -> Self {
        self.whole.observer = Observer::new(observer);
        self
    }

    /// Which temporality the SDK is to collect metrics with; cumulative unless set.
    pub fn with_temporality_preference(mut self, preference: TemporalityPreference) -> Self {
        self.whole.temporality = Some(preference);
        self
    }

    /// How the SDK is to aggregate histograms where no view says otherwise; with explicit buckets unless set.
    pub fn with_default_histogram_aggregation(mut self, aggregation: HistogramAggregation) -> Self {
        self.whole.histogram = Some(aggregation);
        self
    }

    /// What became of every setting: its value and where it comes from, what was refused, and what is probably not meant.
    /// It can be asked for before the exporter is built, and tells why it cannot be; files are not read for it.
    pub fn report(&self) -> ConfigReport {
        let mut report = ConfigReport::default();
        if let Err(error) = settle(self, Built::THIS, &mut report) {
            report.refuse(error.to_string());
        }
        report
    }

    /// Checks every setting and puts it into the form that the layers use; for driving one layer by hand.
    ///
    /// # Errors
    ///
    /// A misuse error that names the setting, its value and what would work.
    #[doc(hidden)]
    pub fn settings(&self) -> Result<Settings, Error> {
        let mut report = ConfigReport::default();
        let settings = settle(self, Built::THIS, &mut report)?;
        #[cfg(feature = "tls")]
        for (at, lane) in settings.lanes.iter().enumerate() {
            let Some(tls) = &lane.tls else { continue };
            let signal = Signal::ALL
                .into_iter()
                .find(|signal| settings.route(*signal).lane == at);
            let origin = report
                .entry(signal, "endpoint")
                .map_or("default", ConfigEntry::origin);
            tls.check(&format!("endpoint {:?} ({origin})", &*lane.endpoint_name))?;
        }
        Ok(settings)
    }

    pub(crate) fn observer(&self) -> &Observer {
        &self.whole.observer
    }

    #[cfg(feature = "std")]
    pub(crate) fn resolver(&self) -> Option<crate::rt::Resolver> {
        self.whole.resolver.clone()
    }
}

impl Whole {
    /// The setters of what is set.
    fn set(&self) -> Vec<&'static str> {
        let settings = [
            (self.connect_timeout.is_some(), "with_connect_timeout"),
            (self.retry.is_some(), "with_retry_policy"),
            (self.memory_limit_bytes.is_some(), "with_memory_limit"),
            (self.request_bytes_max.is_some(), "with_request_limit"),
            (self.response_bytes_max.is_some(), "with_response_limit"),
            (self.keepalive.is_some(), "with_keepalive"),
            (self.max_connection_age.is_some(), "with_max_connection_age"),
            (self.http1_connections_max.is_some(), "with_http1_connections"),
            (self.user_agent.is_some(), "with_user_agent"),
            (self.proxy.is_some(), "with_proxy"),
            (self.isolate_tracing.is_some(), "with_tracing_isolated"),
            (self.observer.is_set(), "with_observer"),
            (self.temporality.is_some(), "with_temporality_preference"),
            (self.histogram.is_some(), "with_default_histogram_aggregation"),
            #[cfg(feature = "std")]
            (self.resolver.is_some(), "with_resolver"),
        ];
        let set = settings.iter().filter(|(is_set, _)| *is_set);
        set.map(|(_, method)| *method).collect()
    }
}

impl fmt::Debug for Config {
    /// What would be used, without secrets, as in the report.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.report();
        let mut map = f.debug_map();
        for entry in report.entries() {
            match entry.signal() {
                Some(signal) => map.entry(&format_args!("{signal:?} {}", entry.setting()), &entry.value()),
                None => map.entry(&format_args!("{}", entry.setting()), &entry.value()),
            };
        }
        let refused: Vec<&str> = report.refused().collect();
        if !refused.is_empty() {
            map.entry(&format_args!("refused"), &refused);
        }
        map.finish()
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
            (Config::new().with_header("Upgrade", "h2c"), "with_header"),
            (Config::new().with_header("expect", "100-continue"), "with_header"),
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
