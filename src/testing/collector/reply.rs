//! Answers in the words of a protocol: the head, body and trailers that say what the user ordered.

use super::answer::{Answer, RawAnswer};
use super::call::{Plan, Refusal};
use super::coding;
use super::grpc;
use crate::code::Code;
use crate::config::{Compression, Protocol};
use crate::encode::Signal;
use crate::pb::collector::{ExportTracePartialSuccess, ExportTraceServiceResponse};
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;
use http::{HeaderMap, StatusCode};
use prost::Message;
use serde_json::json;

/// Puts an answer together that consists of words; nothing for one that is a deed, such as a reset.
pub(super) fn compose(plan: Plan, answer: Answer) -> Option<RawAnswer> {
    compose_compressed(plan, answer, Compression::None)
}

fn compose_compressed(plan: Plan, answer: Answer, compression: Compression) -> Option<RawAnswer> {
    if !coding::is_built(compression) {
        let message = "the answer's compression is not built in";
        return Some(failure(plan, Code::INTERNAL, message, None, Compression::None));
    }
    let raw = match answer {
        Answer::Ok => success(plan, 0, "", compression),
        Answer::PartialSuccess { rejected, message } => success(plan, rejected, &message, compression),
        Answer::Status {
            code,
            message,
            retry_info,
        } => failure(plan, code, &message, retry_info, compression),
        Answer::HeadersOnly => {
            let mut raw = success(plan, 0, "", compression).never_ends();
            raw.data.clear();
            raw
        }
        Answer::NoTrailers => success(plan, 0, "", compression).never_ends(),
        Answer::HttpStatus(status) => plain(status),
        Answer::Raw(raw) => raw,
        Answer::Compressed(compression, answer) => {
            return compose_compressed(plan, *answer, compression);
        }
        _ => return None,
    };
    Some(raw)
}

/// What is said to a call that is turned away.
pub(super) fn refuse(refusal: Refusal) -> RawAnswer {
    match refusal {
        Refusal::Http(status) => {
            let raw = plain(status.as_u16());
            match status {
                StatusCode::METHOD_NOT_ALLOWED => raw.header("allow", "POST"),
                StatusCode::UNSUPPORTED_MEDIA_TYPE => raw.header("accept-encoding", coding::accepted()),
                _ => raw,
            }
        }
        Refusal::Grpc(code, message) => {
            let raw = grpc_status(code, &message, None);
            match code {
                Code::UNIMPLEMENTED => raw.header("grpc-accept-encoding", coding::accepted()),
                _ => raw,
            }
        }
        Refusal::Otlp(status, code, message, format) => {
            let status = RawAnswer::new(status.as_u16());
            http_body(
                status,
                format,
                status_body(format, code, &message, None),
                Compression::None,
            )
        }
    }
}

/// A short text, as of a proxy.
pub(super) fn plain(status: u16) -> RawAnswer {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if status.is_informational() {
        // No final answer could say it.
        return plain(StatusCode::INTERNAL_SERVER_ERROR.as_u16());
    }
    RawAnswer::new(status.as_u16())
        .header("content-type", "text/plain; charset=utf-8")
        .data(format!("{status}\n"))
}

fn success(plan: Plan, rejected: i64, message: &str, compression: Compression) -> RawAnswer {
    let response = response_body(plan, rejected, message);
    if plan.protocol != Protocol::Grpc {
        return http_body(RawAnswer::new(200), plan.protocol, response, compression);
    }
    let mut raw = grpc_head();
    let is_compressed = compression != Compression::None;
    let response = if is_compressed {
        raw = raw.header("grpc-encoding", coding::name(compression));
        coding::compress(compression, &response).unwrap_or_default()
    } else {
        response
    };
    raw = raw.data(grpc::framed(&response, is_compressed));
    for (name, value) in &grpc::status_fields(Code::OK, "", None) {
        raw = raw.trailer(name.as_str(), value);
    }
    raw
}

fn failure(
    plan: Plan,
    code: Code,
    message: &str,
    retry_info: Option<Duration>,
    compression: Compression,
) -> RawAnswer {
    if plan.protocol == Protocol::Grpc {
        return grpc_status(code, message, retry_info);
    }
    let mut raw = RawAnswer::new(http_status(code).as_u16());
    if let Some(delay) = retry_info {
        let seconds = delay
            .as_secs()
            .saturating_add(u64::from(delay.subsec_nanos() > 0));
        raw = raw.header("retry-after", seconds.to_string());
    }
    let body = status_body(plan.protocol, code, message, retry_info);
    http_body(raw, plan.protocol, body, compression)
}

fn grpc_head() -> RawAnswer {
    RawAnswer::new(200).header("content-type", "application/grpc")
}

fn grpc_status(code: Code, message: &str, retry_info: Option<Duration>) -> RawAnswer {
    let fields: HeaderMap = grpc::status_fields(code, message, retry_info);
    let mut raw = grpc_head();
    for (name, value) in &fields {
        raw = raw.header(name.as_str(), value);
    }
    raw
}

fn http_body(raw: RawAnswer, format: Protocol, body: Vec<u8>, compression: Compression) -> RawAnswer {
    let content_type = match format {
        Protocol::HttpJson => "application/json",
        Protocol::Grpc | Protocol::HttpProtobuf => "application/x-protobuf",
    };
    let mut raw = raw.header("content-type", content_type);
    let body = if compression == Compression::None {
        body
    } else {
        raw = raw.header("content-encoding", coding::name(compression));
        coding::compress(compression, &body).unwrap_or_default()
    };
    if body.is_empty() {
        return raw;
    }
    raw.data(Bytes::from(body))
}

/// The response message of every signal: they differ in names alone, so that traces serve for all in protobuf.
fn response_body(plan: Plan, rejected: i64, message: &str) -> Vec<u8> {
    let is_full = rejected == 0 && message.is_empty();
    if plan.protocol == Protocol::HttpJson {
        let response = if is_full {
            json!({})
        } else {
            // A 64-bit integer is a string of digits (ProtoJSON).
            let counter = rejected_name(plan.signal);
            json!({"partialSuccess": {counter: rejected.to_string(), "errorMessage": message}})
        };
        return response.to_string().into_bytes();
    }
    let response = ExportTraceServiceResponse {
        partial_success: (!is_full).then(|| ExportTracePartialSuccess {
            rejected_spans: rejected,
            error_message: message.to_owned(),
        }),
    };
    response.encode_to_vec()
}

const fn rejected_name(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "rejectedSpans",
        Signal::Metrics => "rejectedDataPoints",
        Signal::Logs => "rejectedLogRecords",
        Signal::Profiles => "rejectedProfiles",
    }
}

fn status_body(format: Protocol, code: Code, message: &str, retry_info: Option<Duration>) -> Vec<u8> {
    if format != Protocol::HttpJson {
        return grpc::status(code, message, retry_info).encode_to_vec();
    }
    let mut status = json!({"code": code.as_u32(), "message": message});
    if let Some(delay) = retry_info {
        let seconds = format!("{}.{:09}s", delay.as_secs(), delay.subsec_nanos());
        status["details"] =
            json!([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": seconds}]);
    }
    status.to_string().into_bytes()
}

/// The HTTP status that goes with a code (OTLP specification, "Failures"; the mapping of `google/rpc/code.proto`).
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::OK => StatusCode::OK,
        Code::CANCELLED => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::INVALID_ARGUMENT | Code::FAILED_PRECONDITION | Code::OUT_OF_RANGE => StatusCode::BAD_REQUEST,
        Code::DEADLINE_EXCEEDED => StatusCode::GATEWAY_TIMEOUT,
        Code::NOT_FOUND => StatusCode::NOT_FOUND,
        Code::ALREADY_EXISTS | Code::ABORTED => StatusCode::CONFLICT,
        Code::PERMISSION_DENIED => StatusCode::FORBIDDEN,
        Code::UNAUTHENTICATED => StatusCode::UNAUTHORIZED,
        Code::RESOURCE_EXHAUSTED => StatusCode::TOO_MANY_REQUESTS,
        Code::UNIMPLEMENTED => StatusCode::NOT_IMPLEMENTED,
        Code::UNAVAILABLE => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
