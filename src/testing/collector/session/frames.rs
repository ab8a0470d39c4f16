//! Answers on HTTP/2: heads, bodies, trailers, and the one frame that `h2` does not write.

use super::speech::Speech;
use crate::testing::collector::answer::RawAnswer;
use crate::time::Instant;
use alloc::vec::Vec;
use bytes::Bytes;
use h2::SendStream;
use h2::server::SendResponse;
use http::{HeaderMap, Response, StatusCode};

/// How far an answer has been said.
pub(super) enum Sent {
    /// To its end.
    Everything,
    /// The head; the stream takes the rest.
    Head(SendStream<Bytes>),
}

/// Sends the interim heads and the head of an answer.
pub(super) fn send(
    respond: &mut SendResponse<Bytes>,
    raw: &RawAnswer,
    is_bodiless: bool,
) -> Result<Sent, h2::Error> {
    let with_status = |status| {
        let mut head = Response::new(());
        *head.status_mut() = StatusCode::from_u16(status).expect("checked where the answer was made");
        head
    };
    for status in &raw.informational {
        respond.send_informational(with_status(*status))?;
    }
    let mut head = with_status(raw.status);
    for (name, value) in &raw.headers {
        head.headers_mut().append(name, value.clone());
    }
    let ends_with_head = raw.ends && is_bodiless && raw.trailers.is_empty();
    let stream = respond.send_response(head, ends_with_head)?;
    Ok(if ends_with_head {
        Sent::Everything
    } else {
        Sent::Head(stream)
    })
}

/// Sends what is due of a body, and its end; tells whether everything has been said.
pub(super) fn say(
    stream: &mut SendStream<Bytes>,
    speech: &mut Speech,
    now: Instant,
    ends: bool,
    trailers: HeaderMap,
) -> Result<bool, h2::Error> {
    while !speech.is_over() {
        let Some(piece) = speech.next(now) else {
            return Ok(false);
        };
        if speech.is_endless() {
            // What the client's window has no room for would pile up in `h2`.
            stream.reserve_capacity(piece.len());
            let room = stream.capacity().min(piece.len());
            if room > 0 {
                stream.send_data(piece.slice(..room), false)?;
            }
        } else {
            stream.send_data(piece, speech.is_over() && ends && trailers.is_empty())?;
        }
    }
    if ends && !trailers.is_empty() {
        stream.send_trailers(trailers)?;
    }
    Ok(true)
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
