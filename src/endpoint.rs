//! Where to export to: the endpoint's URL, the name to resolve, the address to connect to.

use crate::error::Error;
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The port of OTLP over gRPC (OTLP specification, "OTLP/gRPC Default Port").
pub const GRPC_PORT: u16 = 4317;

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
    /// Takes the URL of an OTLP/gRPC endpoint apart: `http://host[:port]`, where the port is 4317 unless given.
    ///
    /// `unix:path` and `unix:///path` are Unix domain sockets, `unix:@name` is one of Linux's abstract namespace.
    ///
    /// A path of `/` is accepted, any other is refused, since gRPC has no use for it. `host:port` without a scheme is
    /// taken as plain text, the form in which collectors print their address.
    ///
    /// # Errors
    ///
    /// A misuse error that quotes the URL and says what is wrong with it: an empty URL, another scheme, user
    /// information, a path, query or fragment, a missing or malformed host, a port outside 1–65535.
    pub fn parse_grpc(url: &str) -> Result<Self, Error> {
        let refuse = |what: &str| Error::config(format!("endpoint {:?}: {what}", redacted(url)));
        let trimmed = url.trim();
        if let Some(path) = trimmed.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::unix(path.strip_prefix("//").unwrap_or(path)));
        }
        if trimmed.is_empty() {
            return Err(refuse("it is empty; give a URL such as http://localhost:4317"));
        }
        let (scheme, rest) = match trimmed.split_once("://") {
            None => (Scheme::Http, trimmed),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (Scheme::Http, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (Scheme::Https, rest),
            Some((scheme, _)) => {
                return Err(refuse(&format!(
                    "the scheme {scheme:?} is not known; OTLP over gRPC takes http and https"
                )));
            }
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        if !matches!(tail, "" | "/") {
            return Err(refuse(
                "OTLP over gRPC takes no path, query or fragment; leave them out",
            ));
        }
        if authority.contains('@') {
            return Err(refuse(
                "it carries user information; send credentials in a header instead",
            ));
        }
        let (host, port) =
            split_port(authority).ok_or_else(|| refuse("the port is not a number in 1–65535"))?;
        if host.is_empty() {
            return Err(refuse("the host is missing"));
        }
        let host = parse_host(host).ok_or_else(|| {
            refuse("the host is neither an address nor a name of letters, digits, '-', '_' and '.'")
        })?;
        let port = port.unwrap_or(GRPC_PORT);
        let authority = match &host {
            Host::Name(name) => format!("{name}:{port}"),
            Host::Ip(ip) => format!("{}", SocketAddr::new(*ip, port)),
            Host::Unix(_) => LOCAL_AUTHORITY.to_owned(),
        };
        Ok(Self {
            scheme,
            host,
            port,
            authority: authority.into(),
        })
    }

    /// The Unix domain socket at `path`, spoken to in plain text. Its authority is `localhost`, as the peer expects one.
    pub fn unix(path: impl Into<Arc<str>>) -> Self {
        Self {
            scheme: Scheme::Http,
            host: Host::Unix(path.into()),
            port: 0,
            authority: LOCAL_AUTHORITY.into(),
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

    /// `host:port`, as in HTTP's `:authority`; `localhost` for a Unix domain socket.
    pub const fn authority(&self) -> &Arc<str> {
        &self.authority
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Unix(path) => write!(f, "unix:{path}"),
            Host::Name(_) | Host::Ip(_) => write!(f, "{}://{}", self.scheme.as_str(), self.authority),
        }
    }
}

/// The URL without what stands before an `@`, which may be a secret.
pub(crate) fn redacted(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((before, after)) => {
            let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
            let separator = if scheme.is_empty() { "" } else { "://" };
            format!("{scheme}{separator}…@{after}")
        }
        None => url.to_owned(),
    }
}

/// Splits `host[:port]`; `None` when the port is no port.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let colon = match authority.rfind(']') {
        Some(bracket) => authority[bracket..].find(':').map(|at| bracket + at),
        None => authority.find(':'),
    };
    let Some(colon) = colon else {
        return Some((authority, None));
    };
    let digits = &authority[colon + 1..];
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let port = digits.parse::<u16>().ok().filter(|port| *port != 0)?;
    Some((&authority[..colon], Some(port)))
}

fn parse_host(host: &str) -> Option<Host> {
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']')?;
        return inner.parse::<Ipv6Addr>().ok().map(|ip| Host::Ip(ip.into()));
    }
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Some(Host::Ip(ip));
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    (name.len() <= 253 && name.split('.').all(label)).then(|| Host::Name(host.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn parse(url: &str) -> Endpoint {
        Endpoint::parse_grpc(url).unwrap_or_else(|e| panic!("{url}: {e}"))
    }

    #[test]
    fn accepts_what_users_write() {
        assert_eq!(
            parse("http://localhost:4317").to_string(),
            "http://localhost:4317"
        );
        assert_eq!(parse("http://localhost").port(), 4317, "spec 32");
        assert_eq!(parse("HTTPS://collector.example:443/").scheme(), Scheme::Https);
        assert_eq!(parse("127.0.0.1:4317").host(), &Host::Ip([127, 0, 0, 1].into()));
        assert_eq!(&**parse("http://[::1]:9").authority(), "[::1]:9");
        assert_eq!(&**parse("http://[::1]").authority(), "[::1]:4317");
        assert_eq!(parse(" otel_collector.ns.svc.cluster.local.:1 ").port(), 1);
    }

    #[test]
    fn refuses_what_cannot_work_and_says_why() {
        for (url, why) in [
            ("", "empty"),
            ("ftp://host:1", "scheme"),
            ("http://", "host"),
            ("http://:4317", "host"),
            ("http://a b:4317", "host"),
            ("http://[::1", "port"),
            ("http://[::1:4317", "port"),
            ("http://[::zz]:4317", "host"),
            ("http://::1:4317", "port"),
            ("http://host:0", "port"),
            ("http://host:65536", "port"),
            ("http://host:+1", "port"),
            ("http://host:", "port"),
            ("http://host/v1/traces", "path"),
            ("http://host?x", "path"),
            ("http://me:secret@host", "user information"),
        ] {
            let error = Endpoint::parse_grpc(url).expect_err(url);
            assert!(error.is_misuse(), "{url}");
            assert!(error.to_string().contains(why), "{url}: {error}");
            assert!(!error.to_string().contains("secret"), "{url}: {error}");
        }
    }
}
