//! Headers that a user may set, and the name that the exporter gives itself.

use crate::error::Error;
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;

/// A header fit for a request: the name in lowercase, the value printable ASCII.
pub(crate) fn checked_header(name: &str, value: &str) -> Result<(String, String), Error> {
    check(name, value).map_err(|what| Error::config(format!("with_header {name:?}: {what}")))
}

/// The same, with nothing quoted in the error.
///
/// # Errors
///
/// In words, what is wrong with it.
pub(super) fn check(name: &str, value: &str) -> Result<(String, String), &'static str> {
    let lower = name.trim().to_ascii_lowercase();
    let token = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if lower.is_empty() || !lower.bytes().all(token) {
        return Err("a name consists of letters, digits, '-', '_' and '.'");
    }
    if RESERVED.contains(&&*lower) || lower.starts_with("grpc-") {
        return Err("the exporter sets this header itself, or has no use for it");
    }
    let value = value.trim();
    if lower.ends_with("-bin") && !is_base64(value) {
        return Err("a name ending in -bin takes a value in base64");
    }
    if !value.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        return Err(
            "the value must be printable ASCII; use a name ending in -bin and base64 for other bytes",
        );
    }
    Ok((lower, value.to_owned()))
}

/// Whether a header of this name is likely to carry a credential.
pub(crate) fn is_credential(name: &str) -> bool {
    let marks = [
        "auth",
        "token",
        "secret",
        "key",
        "cookie",
        "password",
        "credential",
    ];
    marks.iter().any(|mark| name.contains(mark))
}

/// The name that the exporter gives itself, after the product of the user's (OTLP exporter specification, "User Agent").
///
/// # Errors
///
/// In words, what is wrong with the product.
pub(super) fn user_agent(product: Option<&str>) -> Result<String, &'static str> {
    const OWN: &str = concat!("OTel-OTLP-Exporter-Rust/", env!("CARGO_PKG_VERSION"));
    let Some(product) = product.map(str::trim) else {
        return Ok(OWN.into());
    };
    let is_token = |text: &str| {
        let mark = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        !text.is_empty() && text.bytes().all(mark)
    };
    let is_product = |word: &str| match word.split_once('/') {
        Some((name, version)) => is_token(name) && is_token(version),
        None => is_token(word),
    };
    if product.len() > 256 || product.is_empty() || !product.split(' ').all(is_product) {
        return Err("it is no product such as shop/1.2, letters, digits and '.' before and after the slash");
    }
    Ok(format!("{product} {OWN}"))
}

/// Headers that say how a request is framed, or that ask for another protocol: they are the connection's own.
pub(crate) const RESERVED: [&str; 15] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// Whether a text could be base64, padded or not (gRPC, "Binary-Header").
fn is_base64(text: &str) -> bool {
    let digits = text.trim_end_matches('=');
    text.len() - digits.len() <= 2
        && digits.len() % 4 != 1
        && digits
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
}
