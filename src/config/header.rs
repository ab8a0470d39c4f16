//! Headers that a user may set.

use crate::error::Error;
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;

/// Whether a text could be base64, padded or not (gRPC, "Binary-Header").
fn is_base64(text: &str) -> bool {
    let digits = text.trim_end_matches('=');
    text.len() - digits.len() <= 2
        && digits.len() % 4 != 1
        && digits
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
}

/// A header fit for gRPC metadata: the name in lowercase, the value printable ASCII.
pub(crate) fn checked_header(name: &str, value: &str) -> Result<(String, String), Error> {
    let lower = name.trim().to_ascii_lowercase();
    let refuse = |what: &str| Err(Error::config(format!("with_header {name:?}: {what}")));
    let token = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if lower.is_empty() || !lower.bytes().all(token) {
        return refuse("a name consists of letters, digits, '-', '_' and '.'");
    }
    let reserved = [
        "content-type",
        "te",
        "host",
        "connection",
        "transfer-encoding",
        "content-length",
        "user-agent",
    ];
    if reserved.contains(&&*lower) || lower.starts_with("grpc-") {
        return refuse("the exporter sets this header itself");
    }
    let value = value.trim();
    if lower.ends_with("-bin") && !is_base64(value) {
        return refuse("a name ending in -bin takes a value in base64");
    }
    if !value.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        return refuse(
            "the value must be printable ASCII; use a name ending in -bin and base64 for other bytes",
        );
    }
    Ok((lower, value.to_owned()))
}
