//! The head of a request.

use crate::config::{Lane, Route};
use crate::encode::Signal;
use crate::protocol::Outgoing;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, TE, USER_AGENT};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Uri, Version};

/// The name and version that the exporter gives itself (OTLP exporter specification, "User Agent").
const USER_AGENT_VALUE: &str = concat!("OTel-OTLP-Exporter-Rust/", env!("CARGO_PKG_VERSION"));

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// What the heads of the requests on one connection have in common, made once.
pub(in crate::protocol) struct Heads {
    authority: Authority,
    scheme: Scheme,
    known: Vec<Known>,
    /// The last timeout, since most calls have the same.
    timeout: (Duration, HeaderValue),
}

/// What the heads of one signal have in common.
struct Known {
    signal: Signal,
    uri: Uri,
    headers: HeaderMap,
}

impl Heads {
    /// # Errors
    ///
    /// In words, when the endpoint cannot stand in a request.
    pub(in crate::protocol) fn new(lane: &Lane) -> Result<Self, String> {
        let authority = lane.endpoint.authority();
        let authority = Authority::try_from(&**authority)
            .map_err(|error| format!("the endpoint {authority:?} cannot stand in a request: {error}"))?;
        let scheme = match lane.endpoint.scheme() {
            crate::endpoint::Scheme::Http => Scheme::HTTP,
            crate::endpoint::Scheme::Https => Scheme::HTTPS,
        };
        Ok(Self {
            authority,
            scheme,
            known: Vec::new(),
            timeout: (Duration::ZERO, timeout(Duration::ZERO)),
        })
    }

    /// The head of a call with `left` to go until its deadline.
    ///
    /// # Errors
    ///
    /// In words, when a header cannot stand in it.
    pub(in crate::protocol) fn of(
        &mut self,
        outgoing: &Outgoing<'_>,
        left: Duration,
    ) -> Result<http::Request<()>, String> {
        if self.timeout.0 != left {
            self.timeout = (left, timeout(left));
        }
        let at = self.known(outgoing)?;
        let known = &self.known[at];
        let mut headers = known.headers.clone();
        for header in outgoing.request.headers() {
            append(&mut headers, header)?;
        }
        headers.insert(GRPC_TIMEOUT, self.timeout.1.clone());
        let mut head = http::Request::new(());
        *head.method_mut() = Method::POST;
        *head.version_mut() = Version::HTTP_2;
        *head.uri_mut() = known.uri.clone();
        *head.headers_mut() = headers;
        Ok(head)
    }

    /// Where what the heads of this signal have in common stands.
    fn known(&mut self, outgoing: &Outgoing<'_>) -> Result<usize, String> {
        let signal = outgoing.request.signal();
        if let Some(at) = self.known.iter().position(|known| known.signal == signal) {
            return Ok(at);
        }
        let route = outgoing.route;
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(
            PathAndQuery::try_from(&*route.path)
                .map_err(|error| format!("the path {:?} cannot stand in a request: {error}", route.path))?,
        );
        let uri = Uri::from_parts(parts).map_err(|error| error.to_string())?;
        self.known.push(Known {
            signal,
            uri,
            headers: common_headers(route)?,
        });
        Ok(self.known.len() - 1)
    }
}

fn common_headers(route: &Route) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::with_capacity(4 + route.headers.len() + 2);
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(USER_AGENT, HeaderValue::from_static(USER_AGENT_VALUE));
    for header in &*route.headers {
        append(&mut headers, header)?;
    }
    // Each call puts its own in this place, for which the copy need not grow.
    headers.insert(GRPC_TIMEOUT, timeout(route.timeout));
    Ok(headers)
}

fn append(headers: &mut HeaderMap, (name, value): &(String, String)) -> Result<(), String> {
    let refuse = |what: &str| format!("the header {name:?} cannot be sent: {what}");
    let name = HeaderName::try_from(name.as_str()).map_err(|_| refuse("its name is malformed"))?;
    let mut value = HeaderValue::try_from(value.as_str()).map_err(|_| refuse("its value is malformed"))?;
    // Metadata may be credentials: they are to stay out of the compression table, where their repetition could tell.
    value.set_sensitive(name == http::header::AUTHORIZATION);
    headers
        .try_append(name, value)
        .map_err(|_| refuse("there are too many headers"))?;
    Ok(())
}

/// `grpc-timeout` takes eight digits at most: the finest unit that fits, rounded up.
fn timeout(left: Duration) -> HeaderValue {
    const DIGITS_MAX: u128 = 99_999_999;
    let nanos = left.as_nanos();
    let units: [(u128, char); 5] = [
        (1, 'n'),
        (1_000, 'u'),
        (1_000_000, 'm'),
        (1_000_000_000, 'S'),
        (60_000_000_000, 'M'),
    ];
    let (count, unit) = units
        .into_iter()
        .map(|(size, unit)| (nanos.div_ceil(size), unit))
        .find(|(count, _)| *count <= DIGITS_MAX)
        .unwrap_or((nanos.div_ceil(3_600_000_000_000).min(DIGITS_MAX), 'H'));
    HeaderValue::try_from(format!("{count}{unit}")).unwrap_or_else(|_| HeaderValue::from_static("1S"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Instant;
    use crate::{Config, Protocol, Request};

    fn timeout_of(left: Duration) -> String {
        timeout(left).to_str().expect("digits and a unit").to_string()
    }

    #[test]
    fn a_timeout_has_eight_digits_at_most() {
        for (left, expected) in [
            (Duration::from_nanos(1), "1n"),
            (Duration::from_nanos(99_999_999), "99999999n"),
            (Duration::from_nanos(100_000_001), "100001u"),
            (Duration::from_secs(10), "10000000u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_secs(100_000), "100000S"),
            (Duration::from_secs(100_000_000), "1666667M"),
            (Duration::from_secs(6_000_000_000), "1666667H"),
            (Duration::MAX, "99999999H"),
        ] {
            assert_eq!(timeout_of(left), expected, "spec 43");
        }
    }

    #[test]
    fn a_head_carries_what_grpc_asks_for() {
        let settings = Config::new()
            .with_protocol(Protocol::Grpc)
            .with_endpoint("http://[::1]:9")
            .with_header("x-tenant", "a")
            .with_header("x-tenant", "b")
            .settings()
            .expect("settings that work");
        let request = Request::from_segments(Signal::Traces, 1, Vec::new())
            .with_header("x-one", "1")
            .expect("a header that works");
        let mut heads = Heads::new(settings.lane(Signal::Traces)).expect("heads");
        for _ in 0..2 {
            let head = heads
                .of(
                    &settings.outgoing(&request, Instant::ZERO),
                    Duration::from_secs(10),
                )
                .expect("a head");
            assert_eq!(
                head.uri().to_string(),
                "http://[::1]:9/opentelemetry.proto.collector.trace.v1.TraceService/Export"
            );
            let header = |name: &str| {
                let values: Vec<_> = head.headers().get_all(name).iter().collect();
                values
                    .iter()
                    .map(|v| v.to_str().expect("text"))
                    .collect::<Vec<_>>()
                    .join(",")
            };
            assert_eq!(header("te"), "trailers", "spec 43");
            assert_eq!(header("content-type"), "application/grpc", "spec 43");
            assert!(
                header("user-agent").starts_with("OTel-OTLP-Exporter-Rust/"),
                "spec 42"
            );
            assert_eq!(header("x-tenant"), "a,b");
            assert_eq!(header("x-one"), "1");
            assert_eq!(header("grpc-timeout"), "10000000u", "spec 43");
        }
    }
}
