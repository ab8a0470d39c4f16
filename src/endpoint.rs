//! Where to export to: the endpoint's URL, the name to resolve, the address to connect to.

mod parse;
#[cfg(test)]
mod tests;

pub(crate) use parse::{Family, host_port, redacted};

use crate::error::Error;
use alloc::format;
use alloc::sync::Arc;
use core::fmt;
use core::net::{IpAddr, SocketAddr};

/// The port of OTLP over gRPC (OTLP specification, "OTLP/gRPC Default Port").
pub const GRPC_PORT: u16 = 4317;
/// The port of OTLP over HTTP (OTLP specification, "OTLP/HTTP Default Port").
pub const HTTP_PORT: u16 = 4318;

/// The authority of an endpoint without a name.
const LOCAL_AUTHORITY: &str = "localhost";

/// Whether the connection is in plain text or under TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain text.
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// The scheme as it stands in a URL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// A collector's URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    scheme: Scheme,
    host: Host,
    port: u16,
    authority: Arc<str>,
    /// Path and query as they were given, empty where there were none.
    path: Arc<str>,
}

/// The host of an endpoint: a name that must be resolved, an address, or a socket of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name for the resolver.
    Name(Arc<str>),
    /// A literal address, which skips the resolver.
    Ip(IpAddr),
    /// The path of a Unix domain socket, as in [`Target::Unix`]; it has no port.
    Unix(Arc<str>),
}

/// What a resolver is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    /// The host name.
    pub host: Arc<str>,
    /// The port that goes into each address.
    pub port: u16,
}

/// What a runtime connects a socket to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Target {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a Unix domain socket. One that begins with `@` names a socket of Linux's abstract namespace, with what
    /// follows the `@` as its name.
    Unix(Arc<str>),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

impl Endpoint {
    /// Takes the endpoint of OTLP over gRPC apart: `http://host[:port]` or `https://host[:port]`, where the port is 4317
    /// unless given.
    ///
    /// `unix:path` and `unix:///path` are Unix domain sockets, spoken to in plain text; `unix:@name` and
    /// `unix-abstract:name` are those of Linux's abstract namespace.
    ///
    /// A path of `/` is accepted, any other is refused, since gRPC has no use for it. `host:port` without a scheme means
    /// TLS (OTLP exporter specification, "Insecure": off by default).
    ///
    /// # Errors
    ///
    /// A misuse error that quotes the URL and says what is wrong with it: an empty URL, another scheme, user
    /// information, a path, query or fragment, a missing or malformed host, a port outside 1–65535.
    pub fn parse_grpc(url: &str) -> Result<Self, Error> {
        Self::parse(url, Family::Grpc { insecure: false }).map_err(|why| refusal(url, &why))
    }

    /// Takes the endpoint of OTLP over HTTP apart: `http://host[:port][/path][?query]`, or the same with `https`, where
    /// the port is 80 or 443 unless given (OTLP exporter specification, "Endpoint URLs for OTLP/HTTP").
    ///
    /// Unix domain sockets are written as for [`parse_grpc`](Self::parse_grpc). Such an endpoint has no path of its own, so
    /// that every request goes to the path of its signal.
    ///
    /// Path and query are kept as they are, and have to be in the form in which a request carries them (RFC 3986): what
    /// is not a letter, a digit or one of `-._~!$&'()*+,;=:@/` in it is percent-encoded.
    ///
    /// # Errors
    ///
    /// A misuse error that quotes the URL and says what is wrong with it: an empty URL, a missing or another scheme, user
    /// information, a fragment, a missing or malformed host, a port outside 1–65535, a path that is not percent-encoded.
    pub fn parse_http(url: &str) -> Result<Self, Error> {
        Self::parse(url, Family::Http).map_err(|why| refusal(url, &why))
    }

    /// The Unix domain socket at `path`, spoken to in plain text. Its authority is `localhost`, as the peer expects one.
    pub fn unix(path: impl Into<Arc<str>>) -> Self {
        Self {
            scheme: Scheme::Http,
            host: Host::Unix(path.into()),
            port: 0,
            authority: LOCAL_AUTHORITY.into(),
            path: "".into(),
        }
    }

    /// Plain text or TLS.
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host.
    pub const fn host(&self) -> &Host {
        &self.host
    }

    /// The port; 0 for a Unix domain socket, which has none.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`, as in HTTP's `:authority`; over HTTP without the port where it is that of the scheme, and `localhost`
    /// for a Unix domain socket.
    pub const fn authority(&self) -> &Arc<str> {
        &self.authority
    }

    /// The path and the query of the URL as they were given; empty where it had none.
    pub const fn path(&self) -> &Arc<str> {
        &self.path
    }

    /// The same destination without the path.
    pub(crate) fn without_path(&self) -> Self {
        Self {
            path: "".into(),
            ..self.clone()
        }
    }

    /// Whether it lies on this host, as far as can be told without asking a resolver.
    pub(crate) fn is_local(&self) -> bool {
        match &self.host {
            Host::Unix(_) => true,
            Host::Ip(ip) => ip.to_canonical().is_loopback(),
            Host::Name(name) => {
                let name = name.strip_suffix('.').unwrap_or(name);
                name == "localhost" || name.ends_with(".localhost")
            }
        }
    }
}

impl fmt::Display for Endpoint {
    /// Scheme and authority. The path is left out, since its query may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Unix(path) => write!(f, "unix:{path}"),
            Host::Name(_) | Host::Ip(_) => write!(f, "{}://{}", self.scheme.as_str(), self.authority),
        }
    }
}

fn refusal(url: &str, why: &str) -> Error {
    Error::config(format!("endpoint {}: {why}", redacted(url)))
}
