//! What gRPC puts into the head of a request.

use crate::config::Route;
use crate::protocol::decoding::ACCEPT_ENCODING;
use alloc::format;
use alloc::string::String;
use core::time::Duration;
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, TE, USER_AGENT};

pub(in crate::protocol) const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// What the calls of a route have in common, apart from its own headers.
///
/// # Errors
///
/// In words, when the name of the exporter cannot be sent.
pub(in crate::protocol) fn common(user_agent: &str, route: &Route) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::with_capacity(6 + route.headers.len() + 2);
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let user_agent = HeaderValue::try_from(user_agent)
        .map_err(|_| format!("the user agent {user_agent:?} cannot be sent: it is not printable ASCII"))?;
    headers.insert(USER_AGENT, user_agent);
    if let Some(coding) = route.compression.content_coding() {
        headers.insert(GRPC_ENCODING, HeaderValue::from_static(coding));
    }
    if let Some(codings) = ACCEPT_ENCODING {
        headers.insert(GRPC_ACCEPT_ENCODING, HeaderValue::from_static(codings));
    }
    // Each call puts its own in this place, for which the copy need not grow.
    headers.insert(GRPC_TIMEOUT, timeout(route.timeout));
    Ok(headers)
}

/// The time that a call is told to have: from a second on rounded up to hundredths of one. A call that begins a moment after
/// its export then says what the last one said, which needs no memory of its own; this side keeps the exact deadline.
pub(in crate::protocol) fn told(left: Duration) -> Duration {
    const STEP_NANOS: u32 = 10_000_000;
    if left < Duration::from_secs(1) {
        return left;
    }
    let nanos = left.subsec_nanos().next_multiple_of(STEP_NANOS);
    Duration::from_secs(left.as_secs()).saturating_add(Duration::from_nanos(nanos.into()))
}

/// `grpc-timeout` takes eight digits at most: the finest unit that fits, rounded up.
pub(in crate::protocol) fn timeout(left: Duration) -> HeaderValue {
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
    use alloc::string::ToString;

    fn timeout_of(left: Duration) -> String {
        timeout(left).to_str().expect("digits and a unit").to_string()
    }

    #[test]
    fn a_call_is_told_no_less_than_it_has_and_hardly_more() {
        for (left_us, expected_us) in [
            (0, 0),
            (1, 1),
            (999_999, 999_999),
            (1_000_000, 1_000_000),
            (1_000_001, 1_010_000),
            (9_999_990, 10_000_000),
            (10_000_000, 10_000_000),
            (10_000_001, 10_010_000),
        ] {
            let told = told(Duration::from_micros(left_us));
            assert_eq!(told, Duration::from_micros(expected_us), "spec 43");
        }
        assert_eq!(told(Duration::MAX), Duration::MAX);
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
}
