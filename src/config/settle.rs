//! From what was set to what the layers use: levels become one value each, signals become routes and lanes.

mod checks;
mod lanes;
#[cfg(feature = "tls")]
mod secured;
#[cfg(test)]
mod tests;
mod whole;

use super::header::{check, is_credential};
use super::options::{self, Options, Origin, Setting, signal_name};
use super::settings::{Proxy, Route, Settings};
use super::{Compression, Config, ConfigReport, NO_LIMIT, Protocol, ProxyChoice, proxy};
use crate::encode::Signal;
use crate::endpoint::{Endpoint, Family, GRPC_PORT, HTTP_PORT, Host, Scheme, redacted};
use crate::error::Error;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;
use lanes::{Lanes, Wanted};

/// What this build can do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Built {
    pub grpc: bool,
    pub http: bool,
    pub json: bool,
    pub tls: bool,
    pub gzip: bool,
    pub zstd: bool,
}

impl Built {
    pub const THIS: Self = Self {
        grpc: cfg!(feature = "grpc"),
        http: cfg!(feature = "http"),
        json: cfg!(feature = "json"),
        tls: cfg!(feature = "tls"),
        gzip: cfg!(feature = "gzip"),
        zstd: cfg!(feature = "zstd"),
    };

    /// A build without any protocol is for driving the layers by hand, whatever is set.
    const fn has_protocol(self) -> bool {
        self.grpc || self.http
    }
}

/// Puts the configuration into the form that the layers use, and tells the report about it.
///
/// # Errors
///
/// A misuse error that names the setting, its value and what would work. The report holds what was understood until then.
pub(super) fn settle(config: &Config, built: Built, report: &mut ConfigReport) -> Result<Settings, Error> {
    if let Some(env) = &config.env {
        env.refused.iter().for_each(|text| report.refuse(text.as_str()));
        env.warnings.iter().for_each(|text| report.warn(text.as_str()));
    }
    if let Some(text) = config.misuse.first() {
        return Err(Error::config(text.as_str()));
    }
    prefer(config, report);
    let mut settler = Settler {
        config,
        built,
        report,
    };
    let mut lanes = Lanes::new(config, settler.report)?;
    let mut routes = Vec::with_capacity(Signal::ALL.len());
    for signal in Signal::ALL {
        let (wanted, route) = settler.route(signal)?;
        let lane = lanes.place(wanted, &route);
        routes.push(Route { lane, ..route });
    }
    whole::check(config, settler.report)?;
    let Ok(routes) = routes.try_into() else {
        unreachable!("one route for each signal");
    };
    let whole = &config.whole;
    Ok(Settings {
        lanes: lanes.into_vec(),
        routes,
        retry: whole.retry.unwrap_or_default(),
        request_bytes_max: whole.request_bytes_max.unwrap_or(super::REQUEST_BYTES_MAX),
        memory_limit_bytes: whole.memory_limit_bytes.unwrap_or(super::MEMORY_LIMIT_BYTES),
        isolate_tracing: whole.isolate_tracing.unwrap_or(true),
    })
}

/// What the SDK is to do with metrics.
fn prefer(config: &Config, report: &mut ConfigReport) {
    let (whole, env) = (&config.whole, config.env.as_ref());
    let pick = |is_code, is_env, method, suffix| match (is_code, is_env) {
        (true, _) => String::from(method),
        (false, true) => options::variable(Some(Signal::Metrics), suffix),
        (false, false) => "default".into(),
    };
    let found = env.and_then(|env| env.temporality);
    let temporality = whole.temporality.or(found).unwrap_or_default();
    let (is_code, is_env) = (whole.temporality.is_some(), found.is_some());
    let from = pick(
        is_code,
        is_env,
        "with_temporality_preference",
        options::TEMPORALITY,
    );
    report.understand(None, "temporality", temporality.as_str(), from);

    let found = env.and_then(|env| env.histogram);
    let histogram = whole.histogram.or(found).unwrap_or_default();
    let (is_code, is_env) = (whole.histogram.is_some(), found.is_some());
    let from = pick(
        is_code,
        is_env,
        "with_default_histogram_aggregation",
        options::HISTOGRAM,
    );
    report.understand(None, "histograms", histogram.as_str(), from);
    report.prefer(temporality, histogram);
}

struct Settler<'a> {
    config: &'a Config,
    built: Built,
    report: &'a mut ConfigReport,
}

/// An endpoint that was chosen.
struct Chosen {
    endpoint: Endpoint,
    origin: Origin,
    /// Whether its scheme was written out.
    has_scheme: bool,
    /// Those that stand in for its host.
    addresses: Vec<SocketAddr>,
}

impl<'a> Settler<'a> {
    /// How one signal goes out, and the destination it wants; its lane is not known yet.
    fn route(&mut self, signal: Signal) -> Result<(Wanted, Route), Error> {
        let (protocol, protocol_origin) = self.pick(signal, |options| options.protocol);
        let protocol = protocol.unwrap_or_default();
        self.check_protocol(signal, protocol, protocol_origin)?;
        let (compression, compression_origin) = self.pick(signal, |options| options.compression);
        let compression = compression.unwrap_or_default();
        self.check_compression(compression, compression_origin)?;
        let (timeout, timeout_origin) = self.pick(signal, |options| options.timeout);
        let timeout = timeout.unwrap_or(super::TIMEOUT);
        self.check_timeout(timeout, timeout_origin)?;
        let headers = self.headers(signal)?;
        let chosen = self.endpoint(signal, protocol)?;
        self.check_tls(signal, &chosen)?;
        let credentials = self.pick(signal, |options| options.credentials.clone()).0;
        self.check_plain_text(signal, &chosen, &headers, credentials.is_some());
        self.check_port(signal, &chosen, protocol);
        self.check_insecure(signal, &chosen, protocol);
        let proxy = self.proxy(signal, &chosen.endpoint)?;

        let path = path_of(&chosen, signal, protocol);
        self.check_path(signal, &chosen, protocol);
        let endpoint_name = endpoint_name(&chosen.endpoint, &path, protocol);
        self.understand(signal, &options::ENDPOINT, &endpoint_name, chosen.origin);
        self.understand(signal, &options::PROTOCOL, protocol.as_str(), protocol_origin);
        self.understand(
            signal,
            &options::COMPRESSION,
            compression.as_str(),
            compression_origin,
        );
        self.understand(signal, &options::TIMEOUT, &shown(timeout), timeout_origin);
        #[cfg(feature = "tls")]
        let tls = self.tls(signal, &chosen)?;
        let wanted = Wanted {
            endpoint: chosen.endpoint.without_path(),
            is_grpc: protocol == Protocol::Grpc,
            addresses: chosen.addresses,
            proxy,
            #[cfg(feature = "tls")]
            tls,
        };
        let route = Route {
            lane: 0,
            protocol,
            compression,
            path: path.into(),
            headers: headers.into(),
            timeout,
            endpoint_name,
            credentials,
        };
        Ok((wanted, route))
    }

    fn understand(&mut self, signal: Signal, setting: &Setting, value: &str, origin: Origin) {
        self.report
            .understand(Some(signal), setting.name, value, origin.name(setting));
    }

    /// The levels of a signal, the first to ask first: what code sets wins over what the environment sets, and within each
    /// what is set for one signal over what is set for all.
    fn levels(&self, signal: Signal) -> Vec<(Origin, &'a Options)> {
        let mut levels = Vec::with_capacity(4);
        let config = self.config;
        for at in [Some(signal), None] {
            levels.push((Origin::Code(at), config.code.of(at)));
        }
        if let Some(env) = &config.env {
            for at in [Some(signal), None] {
                levels.push((Origin::Variable(at), env.levels.of(at)));
            }
        }
        levels
    }

    /// The value of the first level that has one.
    fn pick<T>(&self, signal: Signal, of: impl Fn(&'a Options) -> Option<T>) -> (Option<T>, Origin) {
        self.levels(signal)
            .into_iter()
            .find_map(|(origin, options)| Some((Some(of(options)?), origin)))
            .unwrap_or((None, Origin::Default))
    }

    fn endpoint(&mut self, signal: Signal, protocol: Protocol) -> Result<Chosen, Error> {
        let insecure = self.pick(signal, |options| options.insecure).0.unwrap_or(false);
        let family = match protocol {
            Protocol::Grpc => Family::Grpc { insecure },
            Protocol::HttpProtobuf | Protocol::HttpJson => Family::Http,
        };
        let levels = self.levels(signal);
        for (origin, options) in &levels {
            let Some(url) = &options.endpoint else {
                continue;
            };
            match self.parse_endpoint(signal, url, family, *origin)? {
                Some(endpoint) => {
                    let has_scheme = url.contains("://") || matches!(endpoint.host(), Host::Unix(_));
                    return Ok(self.chosen(signal, endpoint, *origin, has_scheme));
                }
                None => continue,
            }
        }
        let endpoint = Endpoint::parse(protocol.default_endpoint(), family)
            .map_err(|why| Error::config(format!("the default endpoint: {why}")))?;
        Ok(self.chosen(signal, endpoint, Origin::Default, true))
    }

    fn chosen(&self, signal: Signal, endpoint: Endpoint, origin: Origin, has_scheme: bool) -> Chosen {
        // Addresses stand in for the host that they were given for, and for no other.
        let own = &self.config.code.of(Some(signal)).addresses;
        let addresses = match (own.is_empty(), origin.is_own()) {
            (false, _) => own.clone(),
            (true, false) => self.config.code.all.addresses.clone(),
            (true, true) => Vec::new(),
        };
        Chosen {
            endpoint,
            origin,
            has_scheme,
            addresses,
        }
    }

    /// Nothing where a variable's value is passed over.
    fn parse_endpoint(
        &mut self,
        signal: Signal,
        url: &str,
        family: Family,
        origin: Origin,
    ) -> Result<Option<Endpoint>, Error> {
        let name = origin.name(&options::ENDPOINT);
        let why = match Endpoint::parse(url, family) {
            Ok(endpoint) => return Ok(Some(endpoint)),
            Err(why) => why,
        };
        let quoted = redacted(url);
        if !origin.is_variable() {
            return Err(Error::config(format!("endpoint {quoted} ({name}): {why}")));
        }
        // A base for HTTP serves the signals that go over gRPC as well.
        let without_path = Endpoint::parse(Endpoint::strip_path(url), family);
        if let (Family::Grpc { .. }, Ok(endpoint)) = (family, without_path) {
            self.report.warn(format!(
                "{name}={quoted}: {} go over gRPC, which has no use for its path",
                signal_name(signal)
            ));
            return Ok(Some(endpoint));
        }
        let levels = self.levels(signal);
        let has_secrets =
            |(_, options): &(Origin, &Options)| !options.headers.is_empty() || options.credentials.is_some();
        if levels.iter().any(has_secrets) {
            return Err(Error::config(format!(
                "endpoint {quoted} ({name}): {why}; it is not passed over, since the headers that are set may be \
                 credentials, and would go to another endpoint"
            )));
        }
        self.report.refuse(format!("{name}={quoted}: {why}"));
        Ok(None)
    }

    /// The headers of a signal. Those that code sets are added to those of the environment, of which a signal's own take
    /// the place of the general ones. A level that sets a name takes the place of those before it.
    fn headers(&mut self, signal: Signal) -> Result<Vec<(String, String)>, Error> {
        let mut headers: Vec<(String, String)> = Vec::new();
        let mut origins: Vec<String> = Vec::new();
        let mut levels = self.levels(signal);
        levels.reverse();
        for (origin, options) in levels {
            if options.headers.is_empty() {
                continue;
            }
            let name = origin.name(&options::HEADERS);
            if origin.is_own() && origin.is_variable() {
                headers.clear();
                origins.clear();
            }
            let mut level = Vec::with_capacity(options.headers.len());
            for (header, value) in &options.headers {
                let pair = check(header, value);
                level.push(pair.map_err(|why| Error::config(format!("{name} {header:?}: {why}")))?);
            }
            headers.retain(|(outer, _)| level.iter().all(|(inner, _)| inner != outer));
            headers.append(&mut level);
            origins.push(name);
        }
        let shown: Vec<String> = headers.iter().map(|(name, _)| format!("{name}=…")).collect();
        if !shown.is_empty() {
            let origin = origins.join(", ");
            let name = options::HEADERS.name;
            self.report
                .understand(Some(signal), name, shown.join(", "), origin);
        }
        Ok(headers)
    }

    fn proxy(&mut self, signal: Signal, endpoint: &Endpoint) -> Result<Option<Proxy>, Error> {
        if matches!(endpoint.host(), Host::Unix(_)) {
            return Ok(None);
        }
        let (proxy, origin) = match &self.config.whole.proxy {
            None => return Ok(None),
            Some(ProxyChoice::Url(url)) => {
                let proxy = proxy::parse(url)
                    .map_err(|why| Error::config(format!("with_proxy {}: {why}", redacted(url))))?;
                (Some(proxy), "with_proxy".to_string())
            }
            Some(ProxyChoice::Variables(variables)) => {
                match variables.choose(endpoint, |text| self.report.refuse(text)) {
                    proxy::Choice::Through(proxy, name) => (Some(proxy), name.into()),
                    proxy::Choice::Direct(why) => (None, why),
                }
            }
        };
        let value = proxy.as_ref().map_or("none".into(), Proxy::to_string);
        self.report.understand(Some(signal), "proxy", value, origin);
        Ok(proxy)
    }
}

/// The path of a signal's requests (OTLP exporter specification, "Endpoint URLs for OTLP/HTTP").
fn path_of(chosen: &Chosen, signal: Signal, protocol: Protocol) -> String {
    let endpoint = &chosen.endpoint;
    let is_unix = matches!(endpoint.host(), Host::Unix(_));
    match protocol {
        Protocol::Grpc => signal.grpc_path().into(),
        // Such an endpoint cannot have a path of its own.
        _ if is_unix => signal.http_path().into(),
        _ if chosen.origin.is_own() => match &**endpoint.path() {
            "" => "/".into(),
            query if query.starts_with('?') => format!("/{query}"),
            path => path.into(),
        },
        _ => {
            let (path, query) = match endpoint.path().find('?') {
                Some(at) => endpoint.path().split_at(at),
                None => (&**endpoint.path(), ""),
            };
            format!("{}{}{query}", path.trim_end_matches('/'), signal.http_path())
        }
    }
}

/// The endpoint as errors and reports name it: without the query, which may be a secret.
fn endpoint_name(endpoint: &Endpoint, path: &str, protocol: Protocol) -> Arc<str> {
    if protocol == Protocol::Grpc || matches!(endpoint.host(), Host::Unix(_)) {
        return endpoint.to_string().into();
    }
    match path.split_once('?') {
        // What looks like a path may be a password with a slash in it.
        _ if path.contains('@') => format!("{endpoint}/…").into(),
        Some((path, _)) => format!("{endpoint}{path}?…").into(),
        None => format!("{endpoint}{path}").into(),
    }
}

fn no_time(name: &str) -> Error {
    Error::config(format!(
        "{name}: zero leaves no time for an export; give more than 0 s"
    ))
}

/// A duration for people.
fn shown(duration: Duration) -> String {
    if duration == NO_LIMIT {
        return "no limit".into();
    }
    format!("{duration:?}")
}
