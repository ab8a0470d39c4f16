//! The head of a request.

use crate::config::Settings;
use crate::encode::{Request, Signal};
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

/// What the heads of all requests on one connection have in common, made once.
pub(in crate::protocol) struct Heads {
    authority: Authority,
    headers: HeaderMap,
    uris: Vec<(Signal, Uri)>,
    /// The last timeout, since most calls have the same.
    timeout: (Duration, HeaderValue),
}

impl Heads {
    /// # Errors
    ///
    /// In words, when the endpoint or a header cannot stand in a request.
    pub(in crate::protocol) fn new(settings: &Settings) -> Result<Self, String> {
        let authority = settings.endpoint.authority();
        let authority = Authority::try_from(&**authority)
            .map_err(|error| format!("the endpoint {authority:?} cannot stand in a request: {error}"))?;
        let mut headers = HeaderMap::with_capacity(4 + settings.headers.len() + 2);
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(USER_AGENT, HeaderValue::from_static(USER_AGENT_VALUE));
        for header in &*settings.headers {
            append(&mut headers, header)?;
        }
        let timeout = (settings.timeout, timeout(settings.timeout));
        // Each call puts its own in this place, for which the copy need not grow.
        headers.insert(GRPC_TIMEOUT, timeout.1.clone());
        Ok(Self {
            authority,
            headers,
            uris: Vec::new(),
            timeout,
        })
    }

    /// The head of a call with `left` to go until its deadline.
    ///
    /// # Errors
    ///
    /// In words, when a header of the request cannot stand in it.
    pub(in crate::protocol) fn of(
        &mut self,
        request: &Request,
        left: Duration,
    ) -> Result<http::Request<()>, String> {
        let mut headers = self.headers.clone();
        for header in request.headers() {
            append(&mut headers, header)?;
        }
        if self.timeout.0 != left {
            self.timeout = (left, timeout(left));
        }
        headers.insert(GRPC_TIMEOUT, self.timeout.1.clone());
        let mut head = http::Request::new(());
        *head.method_mut() = Method::POST;
        *head.version_mut() = Version::HTTP_2;
        *head.uri_mut() = self.uri(request.signal())?;
        *head.headers_mut() = headers;
        Ok(head)
    }

    fn uri(&mut self, signal: Signal) -> Result<Uri, String> {
        if let Some((_, uri)) = self.uris.iter().find(|(known, _)| *known == signal) {
            return Ok(uri.clone());
        }
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(PathAndQuery::from_static(signal.grpc_path()));
        let uri = Uri::from_parts(parts).map_err(|error| error.to_string())?;
        self.uris.push((signal, uri.clone()));
        Ok(uri)
    }
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
    use crate::Config;

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
            .with_endpoint("http://[::1]:9")
            .with_header("x-tenant", "a")
            .with_header("x-tenant", "b")
            .settings()
            .expect("settings that work");
        let request = Request::from_segments(Signal::Traces, 1, Vec::new())
            .with_header("x-one", "1")
            .expect("a header that works");
        let mut heads = Heads::new(&settings).expect("heads");
        for _ in 0..2 {
            let head = heads.of(&request, Duration::from_secs(10)).expect("a head");
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
