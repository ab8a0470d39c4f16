//! Heads of HTTP/1.1: requests read with `httparse`, answers written.

use crate::testing::collector::answer::{Delimited, RawAnswer};
use alloc::string::String;
use alloc::vec::Vec;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use std::io::Write as _;

/// The head of a request may have so many bytes.
pub(super) const HEAD_BYTES_MAX: usize = 256 << 10;
const FIELDS_MAX: usize = 256;
/// Heads up to this length are looked at whenever they grow, longer ones when an empty line has come: garbage is told
/// early, and a long head is not read as often as it has bytes.
const EAGER_BYTES: usize = 1024;

/// The head of a request.
pub(super) struct RequestHead {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) fields: HeaderMap,
    /// Whether the client wants no further call on the connection.
    pub(super) closes: bool,
    /// Its length in bytes.
    pub(super) bytes: usize,
}

/// Reads the head at the start of what has come; nothing while it is not whole.
///
/// # Errors
///
/// The status to refuse the connection with.
pub(super) fn read(input: &[u8]) -> Result<Option<RequestHead>, StatusCode> {
    let within = &input[..input.len().min(HEAD_BYTES_MAX)];
    let is_whole = within.windows(3).any(|window| window == b"\n\r\n");
    if !is_whole && within.len() > EAGER_BYTES {
        return too_long(input);
    }
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(within) {
        Ok(httparse::Status::Complete(bytes)) => take(&request, bytes).map(Some),
        Ok(httparse::Status::Partial) => too_long(input),
        Err(httparse::Error::TooManyHeaders) => Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        Err(httparse::Error::Version) => Err(StatusCode::HTTP_VERSION_NOT_SUPPORTED),
        Err(_) => Err(StatusCode::BAD_REQUEST),
    }
}

fn too_long(input: &[u8]) -> Result<Option<RequestHead>, StatusCode> {
    if input.len() >= HEAD_BYTES_MAX {
        return Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    }
    Ok(None)
}

fn take(request: &httparse::Request<'_, '_>, bytes: usize) -> Result<RequestHead, StatusCode> {
    let bad = StatusCode::BAD_REQUEST;
    let method = request.method.unwrap_or_default();
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| bad)?;
    let target: Uri = request.path.unwrap_or_default().parse().map_err(|_| bad)?;
    let mut fields = HeaderMap::new();
    for field in request.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| bad)?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| bad)?;
        fields
            .try_append(name, value)
            .map_err(|_| StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)?;
    }
    let is_old = request.version == Some(0);
    if !is_old && fields.get_all(header::HOST).iter().count() != 1 {
        return Err(bad);
    }
    Ok(RequestHead {
        method,
        path: target.path().into(),
        closes: is_old || says_close(&fields),
        fields,
        bytes,
    })
}

/// Whether `Connection: close` is among the fields.
fn says_close(fields: &HeaderMap) -> bool {
    let values = fields.get_all(header::CONNECTION);
    let mut options = values
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}

/// How the body of an answer goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyForm {
    /// As it is.
    Plain,
    /// In chunks.
    Chunks,
    /// Not at all: the request or the status allows none.
    Nothing,
}

/// Writes the interim heads and the head of an answer.
pub(super) fn write(raw: &RawAnswer, is_head_request: bool, closes: bool, out: &mut Vec<u8>) -> BodyForm {
    for status in &raw.informational {
        write_status(*status, out);
        out.extend_from_slice(b"\r\n");
    }
    write_status(raw.status, out);
    for (name, value) in &raw.headers {
        write_field(name.as_str(), value.as_bytes(), out);
    }
    let has = |name: HeaderName| raw.headers.iter().any(|(known, _)| *known == name);
    if closes && !has(header::CONNECTION) {
        write_field("connection", b"close", out);
    }
    let is_bodiless = raw.status == 204 || raw.status == 304;
    let form = if has(header::CONTENT_LENGTH) || has(header::TRANSFER_ENCODING) {
        BodyForm::Plain
    } else if is_bodiless {
        BodyForm::Nothing
    } else if raw.delimited == Delimited::Close {
        BodyForm::Plain
    } else if raw.delimited == Delimited::Chunks || !raw.ends || !raw.trailers.is_empty() {
        write_field("transfer-encoding", b"chunked", out);
        BodyForm::Chunks
    } else {
        let length: usize = raw.data.iter().map(bytes::Bytes::len).sum();
        write_field("content-length", alloc::format!("{length}").as_bytes(), out);
        BodyForm::Plain
    };
    out.extend_from_slice(b"\r\n");
    if is_head_request { BodyForm::Nothing } else { form }
}

/// Writes a chunk. An empty one would be the last, so that nothing is written for it.
pub(super) fn write_chunk(data: &[u8], out: &mut Vec<u8>) {
    if !data.is_empty() {
        write_text(format_args!("{:x}\r\n", data.len()), out);
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    }
}

/// Writes the last chunk and the trailers.
pub(super) fn write_last_chunk(trailers: &[(HeaderName, HeaderValue)], out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers {
        write_field(name.as_str(), value.as_bytes(), out);
    }
    out.extend_from_slice(b"\r\n");
}

fn write_status(status: u16, out: &mut Vec<u8>) {
    let reason = StatusCode::from_u16(status).ok();
    let reason = reason.and_then(|status| status.canonical_reason());
    write_text(
        format_args!("HTTP/1.1 {status} {}\r\n", reason.unwrap_or_default()),
        out,
    );
}

/// Writes a field as most servers do, with capitals: a client must not mind (RFC 9110, section 5.1).
fn write_field(name: &str, value: &[u8], out: &mut Vec<u8>) {
    for word in name.split_inclusive('-') {
        let (first, rest) = word.split_at(word.len().min(1));
        out.extend(first.bytes().map(|byte| byte.to_ascii_uppercase()));
        out.extend_from_slice(rest.as_bytes());
    }
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn write_text(text: core::fmt::Arguments<'_>, out: &mut Vec<u8>) {
    out.write_fmt(text).expect("a vector takes every byte");
}
