//! URLs of endpoints, as people write them.

use super::{Endpoint, GRPC_PORT, Host, LOCAL_AUTHORITY, Scheme};
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};

/// What is exported over, which decides what an endpoint may look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// gRPC. `insecure` decides between plain text and TLS where the endpoint has no scheme.
    Grpc { insecure: bool },
    /// HTTP.
    Http,
}

/// The longest URL that is read, and the longest host, path and query with it.
const URL_BYTES_MAX: usize = 8 << 10;
/// The longest path of a Unix domain socket: what fits into every system's `sockaddr_un`, Linux's being 108.
const UNIX_BYTES_MAX: usize = 103;
/// Characters of a refused value that are shown.
const SHOWN_CHARS_MAX: usize = 120;

impl Endpoint {
    /// # Errors
    ///
    /// In words, what is wrong with the URL; nothing of it is quoted but its scheme.
    pub(crate) fn parse(url: &str, family: Family) -> Result<Self, String> {
        let url = url.trim();
        if url.is_empty() {
            return Err(match family {
                Family::Grpc { .. } => "it is empty; give a URL such as http://localhost:4317".into(),
                Family::Http => "it is empty; give a URL such as http://localhost:4318".into(),
            });
        }
        if url.len() > URL_BYTES_MAX {
            return Err(format!("it is longer than {URL_BYTES_MAX} bytes"));
        }
        if let Some(socket) = unix_socket(url) {
            return socket.map(Self::unix);
        }
        let (scheme, rest) = scheme(url, family)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        if authority.contains('@') {
            return Err("it carries user information; send credentials in a header instead".into());
        }
        let path = match family {
            Family::Grpc { .. } if matches!(tail, "" | "/") => "",
            Family::Grpc { .. } => {
                return Err("OTLP over gRPC takes no path, query or fragment; leave them out".into());
            }
            Family::Http => checked_path(tail)?,
        };
        let default_port = match (family, scheme) {
            (Family::Grpc { .. }, _) => GRPC_PORT,
            (Family::Http, Scheme::Http) => 80,
            (Family::Http, Scheme::Https) => 443,
        };
        let (host, port) = host_port(authority)?;
        let port = port.unwrap_or(default_port);
        let authority = match &host {
            // A server that knows itself by its bare name would not know itself with a port that goes without saying.
            Host::Name(name) if family == Family::Http && port == default_port => format!("{name}"),
            Host::Name(name) => format!("{name}:{port}"),
            Host::Ip(IpAddr::V6(ip)) if family == Family::Http && port == default_port => format!("[{ip}]"),
            Host::Ip(ip) if family == Family::Http && port == default_port => format!("{ip}"),
            Host::Ip(ip) => format!("{}", SocketAddr::new(*ip, port)),
            Host::Unix(_) => LOCAL_AUTHORITY.into(),
        };
        Ok(Self {
            scheme,
            host,
            port,
            authority: authority.into(),
            path: path.into(),
        })
    }

    /// The URL without path, query and fragment, for a protocol that has no use for them.
    pub(crate) fn strip_path(url: &str) -> &str {
        let url = url.trim();
        let from = url.find("://").map_or(0, |at| at + 3);
        match url[from..].find(['/', '?', '#']) {
            Some(end) => &url[..from + end],
            None => url,
        }
    }
}

/// A value that was refused, quoted for people: shortened, and without what stands before an `@` or after a `?` or `#`, any
/// of which may be a secret.
pub(crate) fn redacted(url: &str) -> String {
    let (open, is_cut) = match url.find(['?', '#']) {
        Some(at) => (&url[..=at], true),
        None => (url, false),
    };
    let scheme = match open.split_once("://") {
        Some((scheme, _)) if is_scheme(scheme) => &open[..scheme.len() + 3],
        _ => "",
    };
    let mut shown = match open.rsplit_once('@') {
        // A password may have a `?` in it, and a query an `@`: what belongs to which cannot be told.
        _ if url[open.len()..].contains('@') => format!("{scheme}…"),
        Some((_, host)) => format!("{scheme}…@{host}"),
        None => open.to_owned(),
    };
    if is_cut && !shown.ends_with('…') {
        shown.push('…');
    }
    if let Some((at, _)) = shown.char_indices().nth(SHOWN_CHARS_MAX) {
        shown.truncate(at);
        shown.push('…');
    }
    format!("{shown:?}")
}

/// Takes `host[:port]` apart.
///
/// # Errors
///
/// In words, what is wrong with it.
pub(crate) fn host_port(authority: &str) -> Result<(Host, Option<u16>), String> {
    let (host, port) = split_port(authority).ok_or("the port is not a number in 1–65535")?;
    if host.is_empty() {
        return Err("the host is missing".into());
    }
    if !host.is_ascii() {
        return Err(
            "the host has letters beyond ASCII; write the name as DNS has it, in its xn-- form".into(),
        );
    }
    if host.contains('%') {
        return Err(match host.starts_with('[') {
            true => "an IPv6 address with a zone is not supported; give the address alone".into(),
            false => "the host is percent-encoded; write its letters as they are".into(),
        });
    }
    let host = parse_host(host)
        .ok_or("the host is neither an address nor a name of letters, digits, '-', '_' and '.'")?;
    Ok((host, port))
}

/// The path of a Unix domain socket, where the URL is one (gRPC, "Name Resolution").
fn unix_socket(url: &str) -> Option<Result<String, String>> {
    let after = |scheme: &str| {
        let head = url.get(..scheme.len())?;
        head.eq_ignore_ascii_case(scheme).then(|| &url[scheme.len()..])
    };
    let (path, is_abstract) = match (after("unix:"), after("unix-abstract:")) {
        (Some(path), _) => match path.strip_prefix("//") {
            // What follows two slashes is an authority, which only an absolute path leaves empty.
            Some(path) if !path.starts_with('/') => {
                return Some(Err(
                    "after unix:// comes an absolute path, as in unix:///run/otlp.sock; a relative one is written unix:otlp.sock".into(),
                ));
            }
            Some(path) => (path, false),
            None => match path.strip_prefix('@') {
                Some(name) => (name, true),
                None => (path, false),
            },
        },
        (None, Some(name)) => (name, true),
        (None, None) => return None,
    };
    if path.is_empty() {
        return Some(Err(
            "the path of the Unix socket is missing, as in unix:/run/otlp.sock".into(),
        ));
    }
    if path.contains('\0') {
        return Some(Err("the path of the Unix socket has a zero byte in it".into()));
    }
    if path.len() > UNIX_BYTES_MAX {
        return Some(Err(format!(
            "the path of the Unix socket is longer than {UNIX_BYTES_MAX} bytes, which the system does not take"
        )));
    }
    Some(Ok(match is_abstract {
        true => format!("@{path}"),
        false => path.into(),
    }))
}

/// The scheme and what follows it.
fn scheme(url: &str, family: Family) -> Result<(Scheme, &str), String> {
    match (url.split_once("://"), family) {
        (Some((scheme, rest)), _) if scheme.eq_ignore_ascii_case("http") => Ok((Scheme::Http, rest)),
        (Some((scheme, rest)), _) if scheme.eq_ignore_ascii_case("https") => Ok((Scheme::Https, rest)),
        (Some((scheme, _)), _) if is_scheme(scheme) => {
            let over = match family {
                Family::Grpc { .. } => "gRPC",
                Family::Http => "HTTP",
            };
            Err(format!(
                "the scheme {:?} is not known; OTLP over {over} takes http and https",
                scheme.chars().take(SHOWN_CHARS_MAX).collect::<String>()
            ))
        }
        (Some(_), _) => Err("what stands before :// is no scheme; OTLP takes http and https".into()),
        (None, Family::Grpc { insecure: true }) => Ok((Scheme::Http, url)),
        (None, Family::Grpc { insecure: false }) => Ok((Scheme::Https, url)),
        (None, Family::Http) => {
            Err("it has no scheme; begin it with http:// or https://, such as http://localhost:4318".into())
        }
    }
}

/// RFC 3986, section 3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

/// Path and query in the form in which a request carries them (RFC 3986, sections 3.3 and 3.4).
fn checked_path(tail: &str) -> Result<&str, String> {
    if tail.contains('#') {
        return Err("it carries a fragment, which is never sent; leave it out".into());
    }
    let mut bytes = tail.bytes();
    while let Some(byte) = bytes.next() {
        let is_fit = match byte {
            b'%' => {
                let is_hex = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_hexdigit());
                is_hex(bytes.next()) && is_hex(bytes.next())
            }
            _ => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?".contains(&byte),
        };
        if !is_fit {
            return Err("the path is not percent-encoded; write a space as %20, and % itself as %25".into());
        }
    }
    Ok(tail)
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
    (name.len() <= 253 && name.split('.').all(label)).then(|| Host::Name(host.to_ascii_lowercase().into()))
}
