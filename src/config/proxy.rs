//! Which HTTP proxy a connection goes through.

use super::percent::decoded;
use super::settings::Proxy;
use crate::endpoint::{Endpoint, Host, Scheme, host_port};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

/// The port of a proxy unless another is given, that of HTTP.
const PORT: u16 = 80;

/// The variables that name proxies, as they were found. Credentials may be in them, so that there is no `Debug`.
#[derive(Clone, Default)]
pub(super) struct Variables {
    found: Vec<(&'static str, String)>,
}

/// What the variables say about one endpoint.
pub(super) enum Choice {
    /// To connect to it directly, and why.
    Direct(String),
    /// To go through a proxy, and the variable that names it.
    Through(Proxy, &'static str),
}

impl Variables {
    /// The names that [`read`](Self::read) looks up.
    pub const NAMES: [&'static str; 9] = [
        "http_proxy",
        "HTTP_PROXY",
        "https_proxy",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
        "no_proxy",
        "NO_PROXY",
        // Set where the process is a CGI program, whose client sets HTTP_PROXY by a header called `Proxy`.
        "REQUEST_METHOD",
    ];

    /// Looks the names up; one that is empty counts as unset, and does not hide its other spelling.
    pub fn read(mut lookup: impl FnMut(&'static str) -> Option<String>) -> Self {
        let found = Self::NAMES.into_iter().filter_map(|name| {
            let value = lookup(name)?;
            (!value.trim().is_empty()).then_some((name, value))
        });
        Self {
            found: found.collect(),
        }
    }

    /// Those of these names that are set.
    fn set(&self, names: [&'static str; 2]) -> impl Iterator<Item = &(&'static str, String)> {
        let named = move |name| self.found.iter().find(move |(found, _)| *found == name);
        names.into_iter().filter_map(named)
    }

    /// What they say about an endpoint; `refused` is told about each value that cannot be used.
    pub fn choose(&self, endpoint: &Endpoint, mut refused: impl FnMut(String)) -> Choice {
        if endpoint.is_local() {
            return Choice::Direct("default, it lies on this host".into());
        }
        if let Some((name, list)) = self.set(["no_proxy", "NO_PROXY"]).next() {
            if is_exempt(list, endpoint) {
                return Choice::Direct((*name).into());
            }
        }
        let is_cgi = self.found.iter().any(|(name, _)| *name == "REQUEST_METHOD");
        let own = match endpoint.scheme() {
            Scheme::Http => ["http_proxy", if is_cgi { "" } else { "HTTP_PROXY" }],
            Scheme::Https => ["https_proxy", "HTTPS_PROXY"],
        };
        for (name, url) in self.set(own).chain(self.set(["all_proxy", "ALL_PROXY"])) {
            match parse(url) {
                Ok(proxy) => return Choice::Through(proxy, name),
                // The value is not quoted, since a password may be anywhere in what cannot be read.
                Err(why) => refused(format!("{name}: {why}")),
            }
        }
        Choice::Direct("default".into())
    }
}

impl fmt::Display for Proxy {
    /// Without what it is to be told, which is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(name) => write!(f, "http://{name}:{}", self.port)?,
            Host::Ip(IpAddr::V6(ip)) => write!(f, "http://[{ip}]:{}", self.port)?,
            Host::Ip(ip) => write!(f, "http://{ip}:{}", self.port)?,
            Host::Unix(path) => write!(f, "unix:{path}")?,
        }
        match self.authorization {
            Some(_) => f.write_str(" with credentials"),
            None => Ok(()),
        }
    }
}

/// Takes `[http://][user:password@]host[:port]` apart.
///
/// # Errors
///
/// In words, what is wrong with it; nothing of it is quoted.
pub(super) fn parse(url: &str) -> Result<Proxy, String> {
    let url = url.trim();
    let rest = match url.split_once("://") {
        None => url,
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
        Some(_) => {
            return Err("only HTTP proxies are supported, which are given as http://host:port".into());
        }
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (user, authority) = match rest.rsplit_once('@') {
        Some((user, authority)) => (Some(user), authority),
        None => (None, rest),
    };
    if authority.contains(['/', '?', '#']) {
        return Err("a proxy has no path; give http://host:port".into());
    }
    let (host, port) = host_port(authority)?;
    Ok(Proxy {
        host,
        port: port.unwrap_or(PORT),
        authorization: user.map(basic).transpose()?,
    })
}

/// Basic credentials (RFC 7617) from the user information of a URL.
fn basic(user: &str) -> Result<Arc<str>, String> {
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let (mut credentials, _) = decoded(name);
    if credentials.contains(&b':') {
        return Err("the name of a user has no colon in it (RFC 7617)".into());
    }
    credentials.push(b':');
    credentials.extend(decoded(password).0);
    encoded(&credentials).map(|text| format!("Basic {text}").into())
}

#[cfg(any(feature = "http", feature = "http2"))]
fn encoded(bytes: &[u8]) -> Result<String, String> {
    use base64::Engine;
    Ok(base64::engine::general_purpose::STANDARD.encode(bytes))
}

#[cfg(not(any(feature = "http", feature = "http2")))]
fn encoded(_: &[u8]) -> Result<String, String> {
    Err("this build of otlp-embed speaks no protocol to a proxy; enable its feature `grpc` or `http`".into())
}

/// Whether a list of exceptions names the endpoint's host.
fn is_exempt(list: &str, endpoint: &Endpoint) -> bool {
    list.split([',', ' ', '\t'])
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .any(|entry| names(entry, endpoint.host(), endpoint.port()))
}

/// Whether one exception names the host: `*`, an address, a block of addresses, or a name with those under it.
fn names(entry: &str, host: &Host, port: u16) -> bool {
    if entry == "*" {
        return true;
    }
    if let Some((network, bits)) = entry.split_once('/') {
        let network = network.parse::<IpAddr>().ok().zip(bits.parse().ok());
        return match (network, host) {
            (Some((network, bits)), Host::Ip(ip)) => is_within(*ip, network, bits),
            _ => false,
        };
    }
    let (pattern, only) = match entry.parse::<IpAddr>() {
        Ok(ip) => (Host::Ip(ip), None),
        Err(_) => {
            // What stands before the first label says that names under it are meant, and it alone is not.
            let name = entry.strip_prefix('*').unwrap_or(entry);
            let bare = name.strip_prefix('.').unwrap_or(name);
            let Ok((pattern, only)) = host_port(bare) else {
                return false;
            };
            if let (Host::Name(pattern), Host::Name(name)) = (&pattern, host) {
                let is_under_only = bare.len() < entry.len();
                return only.is_none_or(|only| only == port) && is_name(name, pattern, is_under_only);
            }
            (pattern, only)
        }
    };
    match (pattern, host) {
        (Host::Ip(a), Host::Ip(b)) => {
            a.to_canonical() == b.to_canonical() && only.is_none_or(|only| only == port)
        }
        _ => false,
    }
}

fn is_name(name: &str, pattern: &str, is_under_only: bool) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let pattern = pattern.strip_suffix('.').unwrap_or(pattern);
    let under = || {
        name.strip_suffix(pattern)
            .is_some_and(|before| before.ends_with('.'))
    };
    (!is_under_only && name == pattern) || under()
}

fn is_within(ip: IpAddr, network: IpAddr, bits: u32) -> bool {
    match (ip.to_canonical(), network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) if bits <= 32 => {
            let differing = ip.to_bits() ^ network.to_bits();
            differing.checked_shr(32 - bits).unwrap_or(0) == 0
        }
        (IpAddr::V6(ip), IpAddr::V6(network)) if bits <= 128 => {
            let differing = ip.to_bits() ^ network.to_bits();
            differing.checked_shr(128 - bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
#[cfg(any(feature = "http", feature = "http2"))]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn proxies_are_taken_apart() {
        for (url, shown, authorization) in [
            ("http://proxy:3128", "http://proxy:3128", None),
            ("proxy:3128", "http://proxy:3128", None),
            ("HTTP://Proxy/", "http://proxy:80", None),
            ("http://[::1]:8080", "http://[::1]:8080", None),
            (
                "http://me:hunter2@proxy:1",
                "http://proxy:1 with credentials",
                Some("Basic bWU6aHVudGVyMg=="),
            ),
            (
                "http://m%40e:h%3Au@10.0.0.1:1",
                "http://10.0.0.1:1 with credentials",
                Some("Basic bUBlOmg6dQ=="),
            ),
            ("me@proxy", "http://proxy:80 with credentials", Some("Basic bWU6")),
        ] {
            let proxy = parse(url).unwrap_or_else(|why| panic!("{url}: {why}"));
            assert_eq!(proxy.to_string(), shown);
            assert_eq!(proxy.authorization.as_deref(), authorization, "{url}");
        }
        for (url, why) in [
            ("socks5://hunter2:1", "HTTP proxies"),
            ("https://hunter2:1", "HTTP proxies"),
            ("", "host"),
            ("http://hunter2:x", "port"),
            ("http://proxy/hunter2", "path"),
            ("http://a%3Ab:hunter2@proxy", "colon"),
            ("http://me:hunter2@", "host"),
        ] {
            let text = parse(url).err().unwrap_or_else(|| panic!("{url} is taken"));
            assert!(text.contains(why) && !text.contains("hunter2"), "{url}: {text}");
        }
    }

    #[test]
    fn exceptions_name_hosts() {
        for (list, url, is_exempt_) in [
            ("*", "http://a.example", true),
            ("", "http://a.example", false),
            ("a.example", "http://A.example", true),
            ("a.example", "http://b.a.example.", true),
            ("a.example", "http://ba.example", false),
            (".a.example", "http://a.example", false),
            (".a.example", "http://b.a.example", true),
            ("*.a.example", "http://b.a.example", true),
            ("*.a.example", "http://a.example", false),
            ("x, a.example:4318", "http://a.example:4318", true),
            ("x a.example:4318", "http://a.example:4317", false),
            ("10.0.0.1", "http://10.0.0.1:9", true),
            ("10.0.0.1:8", "http://10.0.0.1:9", false),
            ("10.0.0.0/8", "http://10.200.0.1", true),
            ("10.0.0.0/8", "http://11.0.0.1", false),
            ("0.0.0.0/0", "http://11.0.0.1", true),
            ("10.0.0.0/33", "http://10.0.0.0", false),
            ("10.0.0.0/8", "http://ten.example", false),
            ("2001:db8::/32", "http://[2001:db8:1::1]", true),
            ("2001:db8::/32", "http://[2001:db9::1]", false),
            ("::/0", "http://[2001:db9::1]", true),
            ("2001:db8::1", "http://[2001:db8::1]", true),
            ("[2001:db8::1]:80", "http://[2001:db8::1]", true),
            ("a..b,/,/8,:,://,*a,%", "http://a.example", false),
        ] {
            let endpoint = Endpoint::parse_http(url).expect(url);
            assert_eq!(is_exempt(list, &endpoint), is_exempt_, "{list}: {url}");
        }
    }

    #[test]
    fn variables_are_asked_in_their_order() {
        let given = [
            ("https_proxy", "http://lower:1"),
            ("HTTPS_PROXY", "http://upper:1"),
            ("HTTP_PROXY", "http://cgi:1"),
            ("REQUEST_METHOD", "GET"),
            ("ALL_PROXY", "socks5://all:1"),
            ("NO_PROXY", "internal.example"),
        ];
        let variables = Variables::read(|name| {
            given
                .iter()
                .find(|(given, _)| *given == name)
                .map(|(_, value)| (*value).into())
        });
        let mut refused = Vec::new();
        let mut through = |url: &str| {
            let endpoint = Endpoint::parse_http(url).expect(url);
            match variables.choose(&endpoint, |text| refused.push(text)) {
                Choice::Through(proxy, name) => format!("{name} {proxy}"),
                Choice::Direct(why) => why,
            }
        };
        assert_eq!(through("https://a.example"), "https_proxy http://lower:1");
        assert_eq!(through("https://a.internal.example"), "NO_PROXY");
        assert_eq!(
            through("http://a.example"),
            "default",
            "HTTP_PROXY counts for nothing in CGI"
        );
        assert_eq!(through("https://localhost"), "default, it lies on this host");
        assert!(
            refused.len() == 1 && refused[0].starts_with("ALL_PROXY: only HTTP"),
            "{refused:?}"
        );
    }
}
