//! The server's half of gRPC on HTTP/2: what a call must look like, how a message is framed, how a status is written.

use crate::code::Code;
use crate::encode::Signal;
use crate::pb::collector::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use crate::pb::rpc;
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use base64::Engine as _;
use bytes::{BufMut, Bytes, BytesMut};
use core::time::Duration;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use prost::Message;

/// What `grpc-message` cannot carry as it is (gRPC over HTTP/2, "Responses").
const UNSAFE_IN_MESSAGE: &AsciiSet = &CONTROLS.add(b'%');

const PREFIX_BYTES: usize = 5;

/// Why a call is turned away before the collector's user is asked.
#[derive(Debug, PartialEq)]
pub(super) enum Refusal {
    Http(StatusCode),
    Grpc(Code, String),
}

/// Judges the head of a call.
pub(super) fn check_head(head: &request::Parts) -> Result<(), Refusal> {
    if head.method != Method::POST {
        return Err(Refusal::Http(StatusCode::METHOD_NOT_ALLOWED));
    }
    if !head.headers.get(header::CONTENT_TYPE).is_some_and(is_grpc) {
        return Err(Refusal::Http(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    if head.uri.path() != Signal::Traces.grpc_path() {
        let message = format!("unknown method {}", head.uri.path());
        return Err(Refusal::Grpc(Code::UNIMPLEMENTED, message));
    }
    Ok(())
}

fn is_grpc(content_type: &HeaderValue) -> bool {
    let rest = content_type.as_bytes().strip_prefix(b"application/grpc");
    matches!(rest, Some([] | [b'+' | b';', ..]))
}

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

/// Reads the one message of a body that has arrived whole and passed [`check_size`]; gives its length as well.
pub(super) fn read_message(body: &[u8]) -> Result<(usize, ExportTraceServiceRequest), Refusal> {
    let internal = |message: &str| Err(Refusal::Grpc(Code::INTERNAL, message.to_owned()));
    let Some(announced) = announced_bytes(body) else {
        return internal("the call ended without a message");
    };
    let message = &body[PREFIX_BYTES..];
    if message.len() != announced {
        return internal("the call ended within its message");
    }
    match body[0] {
        0 => {}
        1 => {
            let message = "compressed messages are not taken".to_owned();
            return Err(Refusal::Grpc(Code::UNIMPLEMENTED, message));
        }
        _ => return internal("a message prefix starts with 0 or 1"),
    }
    match ExportTraceServiceRequest::decode(message) {
        Ok(request) => Ok((announced, request)),
        Err(error) => Err(Refusal::Grpc(
            Code::INVALID_ARGUMENT,
            format!("the message cannot be read: {error}"),
        )),
    }
}

fn announced_bytes(body: &[u8]) -> Option<usize> {
    let prefix = body.first_chunk::<PREFIX_BYTES>()?;
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
    Some(usize::try_from(length).unwrap_or(usize::MAX))
}

/// The framed response of a success, with the spans refused and a message where there are such.
pub(super) fn response(rejected: i64, message: &str) -> Bytes {
    let is_full = rejected == 0 && message.is_empty();
    let response = ExportTraceServiceResponse {
        partial_success: (!is_full).then(|| ExportTracePartialSuccess {
            rejected_spans: rejected,
            error_message: message.to_owned(),
        }),
    };
    let length = response.encoded_len();
    let mut framed = BytesMut::with_capacity(PREFIX_BYTES + length);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    framed.extend_from_slice(&response.encode_to_vec());
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
    if let Some(delay) = retry_info {
        let details = status_details(code, message, delay);
        let encoded = base64::engine::general_purpose::STANDARD_NO_PAD.encode(details);
        insert_text(&mut fields, "grpc-status-details-bin", &encoded);
    }
    fields
}

fn insert_text(fields: &mut HeaderMap, name: &'static str, text: &dyn core::fmt::Display) {
    let value = HeaderValue::try_from(format!("{text}")).expect("encoded text is printable ASCII");
    fields.insert(HeaderName::from_static(name), value);
}

fn status_details(code: Code, message: &str, delay: Duration) -> Vec<u8> {
    let retry_info = rpc::RetryInfo {
        retry_delay: Some(rpc::Duration {
            seconds: i64::try_from(delay.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(delay.subsec_nanos()).unwrap_or(0),
        }),
    };
    let status = rpc::Status {
        code: i32::try_from(code.as_u32()).unwrap_or(i32::MAX),
        message: message.to_owned(),
        details: vec![rpc::Any {
            type_url: rpc::RetryInfo::TYPE_URL.to_owned(),
            value: retry_info.encode_to_vec(),
        }],
    };
    status.encode_to_vec()
}
