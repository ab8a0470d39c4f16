//! What cannot work for a signal is refused; what works and is probably not meant is warned about.

use super::*;

/// A timeout below this leaves a collector that is far away no chance.
const TIMEOUT_ODD_BELOW: Duration = Duration::from_millis(100);
/// A timeout above this is longer than a batch is worth.
const TIMEOUT_ODD_ABOVE: Duration = Duration::from_secs(600);

impl Settler<'_> {
    pub(super) fn check_protocol(
        &self,
        signal: Signal,
        protocol: Protocol,
        origin: Origin,
    ) -> Result<(), Error> {
        let built = self.built;
        let all = [
            (built.grpc, Protocol::Grpc, "grpc"),
            (built.http, Protocol::HttpProtobuf, "http"),
            (built.json, Protocol::HttpJson, "json"),
        ];
        let missing = all
            .iter()
            .find(|(is_built, known, _)| *known == protocol && !is_built);
        let Some((_, _, feature)) = missing.filter(|_| built.has_protocol()) else {
            return Ok(());
        };
        let others = all.iter().filter(|(is_built, _, _)| *is_built);
        let others: Vec<&str> = others.map(|(_, protocol, _)| protocol.as_str()).collect();
        Err(Error::config(format!(
            "protocol {protocol} of {} ({}): this build of otlp-embed lacks it; enable its feature `{feature}`, or set {}",
            signal_name(signal),
            origin.name(&options::PROTOCOL),
            others.join(" or ")
        )))
    }

    pub(super) fn check_compression(&self, compression: Compression, origin: Origin) -> Result<(), Error> {
        let is_built = match compression {
            Compression::None => true,
            Compression::Gzip => self.built.gzip,
            Compression::Zstd => self.built.zstd,
        };
        if is_built || !self.built.has_protocol() {
            return Ok(());
        }
        Err(Error::config(format!(
            "compression {compression} ({}): this build of otlp-embed lacks it; enable its feature `{compression}`, or set none",
            origin.name(&options::COMPRESSION)
        )))
    }

    pub(super) fn check_timeout(&mut self, timeout: Duration, origin: Origin) -> Result<(), Error> {
        let name = origin.name(&options::TIMEOUT);
        if timeout.is_zero() {
            return Err(no_time(&name));
        }
        if timeout < TIMEOUT_ODD_BELOW {
            let unit = match origin.is_variable() {
                true => "; the variable counts milliseconds",
                false => "",
            };
            self.report.warn(format!(
                "{name}: {timeout:?} is a short time for an export with its connection and its retries{unit}"
            ));
        }
        if timeout > TIMEOUT_ODD_ABOVE {
            self.report.warn(format!(
                "{name}: an export that waits for its collector holds its memory until the timeout, which is {}",
                shown(timeout)
            ));
        }
        Ok(())
    }

    /// TLS is never replaced by plain text.
    pub(super) fn check_tls(&mut self, signal: Signal, chosen: &Chosen) -> Result<(), Error> {
        let endpoint = &chosen.endpoint;
        let name = chosen.origin.name(&options::ENDPOINT);
        if endpoint.scheme() == Scheme::Http {
            for setting in options::FILES {
                let (value, origin) = self.pick(signal, |options| options.file(setting));
                if value.is_some() {
                    self.report.warn(format!(
                        "{}: {} go to {endpoint} in plain text ({name}), which has no use for it",
                        origin.name(setting),
                        signal_name(signal)
                    ));
                }
            }
            return Ok(());
        }
        if self.built.tls {
            return Ok(());
        }
        let hint = match chosen.has_scheme {
            true => "",
            false => "without a scheme it means TLS, and http:// before it means plain text; ",
        };
        Err(Error::config(format!(
            "endpoint {:?} ({name}): {hint}this build of otlp-embed carries no TLS and never falls back to plain text; enable its \
             feature `tls-ring` or `tls-aws-lc`, or use an http endpoint, such as a collector on this host that forwards \
             over TLS",
            endpoint.to_string()
        )))
    }

    pub(super) fn check_plain_text(
        &mut self,
        signal: Signal,
        chosen: &Chosen,
        headers: &[(String, String)],
        has_source: bool,
    ) {
        let endpoint = &chosen.endpoint;
        if endpoint.scheme() == Scheme::Https || endpoint.is_local() {
            return;
        }
        if has_source {
            self.report.warn(format!(
                "{}: what with_credentials gives goes to {endpoint} in plain text, where others can read it; use https",
                signal_name(signal)
            ));
        }
        let names = headers.iter().map(|(name, _)| name.as_str());
        let credentials: Vec<&str> = names.filter(|name| is_credential(name)).collect();
        if !credentials.is_empty() {
            self.report.warn(format!(
                "{}: the header {} looks like a credential, and goes to {endpoint} in plain text, where others can read it; \
                 use https",
                signal_name(signal),
                credentials.join(", ")
            ));
        }
    }

    pub(super) fn check_port(&mut self, signal: Signal, chosen: &Chosen, protocol: Protocol) {
        let (other, meant) = match protocol {
            Protocol::Grpc => (HTTP_PORT, "OTLP over HTTP"),
            Protocol::HttpProtobuf | Protocol::HttpJson => (GRPC_PORT, "OTLP over gRPC"),
        };
        if chosen.endpoint.port() == other {
            self.report.warn(format!(
                "{}: port {other} is that of {meant}, and the protocol of {} is {protocol}",
                chosen.origin.name(&options::ENDPOINT),
                signal_name(signal)
            ));
        }
    }

    /// A signal's own URL is used as it is, and one without a path is seldom meant.
    pub(super) fn check_path(&mut self, signal: Signal, chosen: &Chosen, protocol: Protocol) {
        let endpoint = &chosen.endpoint;
        let is_bare = matches!(&**endpoint.path(), "" | "/") && !matches!(endpoint.host(), Host::Unix(_));
        if protocol != Protocol::Grpc && chosen.origin.is_own() && is_bare {
            self.report.warn(format!(
                "{}: {endpoint} has no path, so that requests go to /; collectors take {} at {}",
                chosen.origin.name(&options::ENDPOINT),
                signal_name(signal),
                signal.http_path()
            ));
        }
    }

    /// The scheme says whether a connection is in plain text, where there is one.
    pub(super) fn check_insecure(&mut self, signal: Signal, chosen: &Chosen, protocol: Protocol) {
        let (insecure, origin) = self.pick(signal, |options| options.insecure);
        let Some(insecure) = insecure else { return };
        let name = origin.name(&options::INSECURE);
        let endpoint = &chosen.endpoint;
        let is_plain = endpoint.scheme() == Scheme::Http;
        if protocol != Protocol::Grpc {
            self.report.warn(format!(
                "{name}: {} go over HTTP, where the scheme of {endpoint} decides alone",
                signal_name(signal)
            ));
        } else if chosen.has_scheme && insecure != is_plain {
            self.report.warn(format!(
                "{name}={insecure}: the scheme of {endpoint} decides against it"
            ));
        }
    }
}
