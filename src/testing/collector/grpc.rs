//! The server's half of gRPC on HTTP/2: how a message is framed, how a status is written.

use super::call::Refusal;
use crate::code::Code;
use crate::pb::rpc;
use alloc::borrow::ToOwned;
use alloc::format;
use base64::Engine as _;
use bytes::{BufMut, Bytes, BytesMut};
use core::time::Duration;
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use prost::Message;

/// What `grpc-message` cannot carry as it is (gRPC over HTTP/2, "Responses").
const UNSAFE_IN_MESSAGE: &AsciiSet = &CONTROLS.add(b'%');

const PREFIX_BYTES: usize = 5;

/// Judges what has arrived of a body: the prefix tells early how large the message is going to be.
pub(super) fn check_size(body: &[u8], message_bytes_max: usize) -> Result<(), Refusal> {
    let Some(announced) = announced_bytes(body) else {
        return Ok(());
    };
    if announced > message_bytes_max {
        let message = format!("message of {announced} bytes; at most {message_bytes_max} are taken");
        return Err(Refusal::Grpc(Code::RESOURCE_EXHAUSTED, message));
    }
    if body.len() - PREFIX_BYTES > announced {
        let message = "a unary call has one message and no bytes after it".to_owned();
        return Err(Refusal::Grpc(Code::INTERNAL, message));
    }
    Ok(())
}

/// Takes the one message out of a body that has arrived whole and passed [`check_size`], and tells whether it is
/// compressed.
pub(super) fn read_message(body: &Bytes) -> Result<(bool, Bytes), Refusal> {
    let internal = |message: &str| Err(Refusal::Grpc(Code::INTERNAL, message.to_owned()));
    let Some(announced) = announced_bytes(body) else {
        return internal("the call ended without a message");
    };
    let message = body.slice(PREFIX_BYTES..);
    if message.len() != announced {
        return internal("the call ended within its message");
    }
    match body[0] {
        0 => Ok((false, message)),
        1 => Ok((true, message)),
        _ => internal("a message prefix starts with 0 or 1"),
    }
}

/// Bytes to expect of a body of which this has arrived: what its prefix says, or nothing yet.
pub(super) fn expected_bytes(body: &[u8]) -> Option<usize> {
    announced_bytes(body).map(|announced| announced.saturating_add(PREFIX_BYTES))
}

fn announced_bytes(body: &[u8]) -> Option<usize> {
    let prefix = body.first_chunk::<PREFIX_BYTES>()?;
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
    Some(usize::try_from(length).unwrap_or(usize::MAX))
}

/// A message with its prefix.
pub(super) fn framed(message: &[u8], is_compressed: bool) -> Bytes {
    let mut framed = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    framed.put_u8(u8::from(is_compressed));
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.extend_from_slice(message);
    framed.freeze()
}

/// The header fields of a status.
pub(super) fn status_fields(code: Code, message: &str, retry_info: Option<Duration>) -> HeaderMap {
    let mut fields = HeaderMap::new();
    fields.insert("grpc-status", HeaderValue::from(code.as_u32()));
    if !message.is_empty() {
        insert_text(
            &mut fields,
            "grpc-message",
            &utf8_percent_encode(message, UNSAFE_IN_MESSAGE),
        );
    }
    if retry_info.is_some() {
        let details = status(code, message, retry_info).encode_to_vec();
        let encoded = base64::engine::general_purpose::STANDARD_NO_PAD.encode(details);
        insert_text(&mut fields, "grpc-status-details-bin", &encoded);
    }
    fields
}

fn insert_text(fields: &mut HeaderMap, name: &'static str, text: &dyn core::fmt::Display) {
    let value = HeaderValue::try_from(format!("{text}")).expect("encoded text is printable ASCII");
    fields.insert(HeaderName::from_static(name), value);
}

/// A `google.rpc.Status`, with a `RetryInfo` where there is a delay.
pub(super) fn status(code: Code, message: &str, delay: Option<Duration>) -> rpc::Status {
    let details = delay.map(retry_info).into_iter().collect();
    rpc::Status {
        code: i32::try_from(code.as_u32()).unwrap_or(i32::MAX),
        message: message.to_owned(),
        details,
    }
}

fn retry_info(delay: Duration) -> rpc::Any {
    let retry_info = rpc::RetryInfo {
        retry_delay: Some(rpc::Duration {
            seconds: i64::try_from(delay.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(delay.subsec_nanos()).unwrap_or(0),
        }),
    };
    rpc::Any {
        type_url: rpc::RetryInfo::TYPE_URL.to_owned(),
        value: retry_info.encode_to_vec(),
    }
}
