//! The head of a request.

use crate::config::{Lane, Protocol, RESERVED, Route, is_credential};
use crate::protocol::Outgoing;
use crate::protocol::decoding::ACCEPT_ENCODING;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// A header field of a request.
#[derive(Clone, Copy)]
pub(in crate::protocol) struct Field<'a> {
    /// In lowercase.
    pub name: &'a str,
    pub value: &'a str,
    /// Whether the value is to stay out of every table and log.
    #[cfg_attr(not(feature = "http2"), expect(dead_code, reason = "HTTP/1.1 has no table"))]
    pub is_secret: bool,
}

/// The `host:port` to ask, without a port that goes without saying: some servers choose by the bare name.
pub(in crate::protocol) fn authority(lane: &Lane) -> &str {
    let authority = &**lane.endpoint.authority();
    let default = match lane.endpoint.scheme() {
        crate::endpoint::Scheme::Http => ":80",
        crate::endpoint::Scheme::Https => ":443",
    };
    let host = authority.strip_suffix(default);
    // `[::1]:80`, yet not the end of an address.
    host.filter(|host| !host.contains(':') || host.ends_with(']'))
        .unwrap_or(authority)
}

/// What the requests of a route have in common, after the authority: those headers that `credentials` bring themselves
/// are left out.
///
/// # Errors
///
/// In words, when a header cannot be sent.
pub(in crate::protocol) fn common<'a>(
    user_agent: &'a str,
    route: &'a Route,
    credentials: &[(String, String)],
) -> Result<Vec<Field<'a>>, String> {
    let plain = |name, value| Field {
        name,
        value,
        is_secret: false,
    };
    let mut fields = Vec::with_capacity(4 + route.headers.len());
    fields.push(plain("user-agent", user_agent));
    let content_type = match route.protocol {
        Protocol::HttpJson => "application/json",
        Protocol::HttpProtobuf | Protocol::Grpc => "application/x-protobuf",
    };
    fields.push(plain("content-type", content_type));
    if let Some(coding) = route.compression.content_coding() {
        fields.push(plain("content-encoding", coding));
    }
    if let Some(codings) = ACCEPT_ENCODING {
        fields.push(plain("accept-encoding", codings));
    }
    check(&fields[0])?;
    for (name, value) in &*route.headers {
        if credentials.iter().all(|(known, _)| known != name) {
            fields.push(checked(name, value, is_credential(name))?);
        }
    }
    Ok(fields)
}

/// What one request adds of its own.
///
/// # Errors
///
/// In words, when a header cannot be sent.
pub(in crate::protocol) fn own<'a>(
    outgoing: &Outgoing<'a>,
) -> impl Iterator<Item = Result<Field<'a>, String>> + use<'a> {
    let credentials = outgoing.credentials;
    let of_request = outgoing
        .request
        .headers()
        .iter()
        .map(|(name, value)| checked(name, value, is_credential(name)));
    let of_attempt = credentials.iter().map(|(name, value)| checked(name, value, true));
    of_request.chain(of_attempt)
}

fn checked<'a>(name: &'a str, value: &'a str, is_secret: bool) -> Result<Field<'a>, String> {
    let field = Field {
        name,
        value,
        is_secret,
    };
    if RESERVED.contains(&name) {
        return Err(format!(
            "the header {name:?} cannot be sent: the exporter sets it itself"
        ));
    }
    check(&field).map(|()| field)
}

/// Whether a field can stand in a head (RFC 9110, section 5), in lowercase as HTTP/2 wants it. The value of a refused one
/// may be a secret and is not told.
fn check(field: &Field<'_>) -> Result<(), String> {
    let is_token =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if field.name.is_empty() || !field.name.bytes().all(is_token) {
        return Err(format!(
            "the header {:?} cannot be sent: a name consists of lowercase letters, digits, '-', '_' and '.'",
            field.name
        ));
    }
    if !field.value.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return Err(format!(
            "the header {:?} cannot be sent: its value is not printable ASCII",
            field.name
        ));
    }
    Ok(())
}
