//! Answers on the wire: heads, messages, trailers, and the one frame that `h2` does not write.

use super::answer::RawAnswer;
use super::grpc;
use crate::code::Code;
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;
use h2::SendStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

/// The stream, where it stays open.
pub(super) type Sent = Result<Option<SendStream<Bytes>>, h2::Error>;

pub(super) fn send_success(respond: &mut SendResponse<Bytes>, rejected: i64, message: &str) -> Sent {
    let mut stream = respond.send_response(success_head(), false)?;
    stream.send_data(grpc::response(rejected, message), false)?;
    stream.send_trailers(grpc::status_fields(Code::OK, "", None))?;
    Ok(None)
}

/// The head alone of a success.
pub(super) fn send_head(respond: &mut SendResponse<Bytes>) -> Sent {
    respond.send_response(success_head(), false).map(Some)
}

/// A success without its trailers.
pub(super) fn send_unfinished(respond: &mut SendResponse<Bytes>) -> Sent {
    let mut stream = respond.send_response(success_head(), false)?;
    stream.send_data(grpc::response(0, ""), false)?;
    Ok(Some(stream))
}

pub(super) fn send_status(
    respond: &mut SendResponse<Bytes>,
    code: Code,
    message: &str,
    retry_info: Option<Duration>,
) -> Sent {
    let mut head = success_head();
    head.headers_mut()
        .extend(grpc::status_fields(code, message, retry_info));
    respond.send_response(head, true)?;
    Ok(None)
}

pub(super) fn send_http_status(respond: &mut SendResponse<Bytes>, status: u16) -> Sent {
    let mut head = Response::new(());
    *head.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
    head.headers_mut().insert(header::CONTENT_TYPE, content_type);
    let text = alloc::format!("{}\n", head.status());
    let mut stream = respond.send_response(head, false)?;
    stream.send_data(Bytes::from(text), true)?;
    Ok(None)
}

pub(super) fn send_raw(respond: &mut SendResponse<Bytes>, raw: RawAnswer) -> Sent {
    let with_status = |status| {
        let mut head = Response::new(());
        *head.status_mut() = StatusCode::from_u16(status).expect("checked where the answer was made");
        head
    };
    for status in raw.informational {
        respond.send_informational(with_status(status))?;
    }
    let mut head = with_status(raw.status);
    for (name, value) in raw.headers {
        head.headers_mut().append(name, value);
    }
    let ends_with_head = raw.ends && raw.data.is_empty() && raw.trailers.is_empty();
    let mut stream = respond.send_response(head, ends_with_head)?;
    let last = raw.data.len().wrapping_sub(1);
    for (index, bytes) in raw.data.into_iter().enumerate() {
        stream.send_data(bytes, raw.ends && raw.trailers.is_empty() && index == last)?;
    }
    if !raw.ends {
        return Ok(Some(stream));
    }
    if !raw.trailers.is_empty() {
        let mut trailers = HeaderMap::new();
        for (name, value) in raw.trailers {
            trailers.append(name, value);
        }
        stream.send_trailers(trailers)?;
    }
    Ok(None)
}

/// A GOAWAY frame (RFC 9113, section 6.8).
pub(super) fn goaway_frame(last_stream_id: u32, reason: u32, debug_data: &[u8]) -> Vec<u8> {
    // More than a client must take in one frame would be a fault of ours.
    let debug_data = &debug_data[..debug_data.len().min(16_384 - 8)];
    let length = u32::try_from(8 + debug_data.len()).expect("at most 16 KiB");
    let mut frame = Vec::with_capacity(17 + debug_data.len());
    frame.extend_from_slice(&length.to_be_bytes()[1..]);
    frame.extend_from_slice(&[0x7, 0, 0, 0, 0, 0]);
    frame.extend_from_slice(&last_stream_id.to_be_bytes());
    frame.extend_from_slice(&reason.to_be_bytes());
    frame.extend_from_slice(debug_data);
    frame
}

fn success_head() -> Response<()> {
    let mut head = Response::new(());
    let content_type = HeaderValue::from_static("application/grpc");
    head.headers_mut().insert(header::CONTENT_TYPE, content_type);
    head
}
