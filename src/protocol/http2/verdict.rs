//! What became of a call whose answer could not be read.

use super::call::ReadEnd;
use crate::protocol::grpc::code_of_reset;
use crate::protocol::http2::ingress::GoAway;
use crate::protocol::{Answer, CallEnd, Failure};
use alloc::format;
use alloc::string::{String, ToString};
use h2::Reason;

/// Judges a call by the end of its stream, never by that of the connection.
///
/// `is_grpc` tells whether a reset stands for a status, `is_sent` whether the socket had taken the whole request or still may; `why` is what is known about the connection.
pub(super) fn judge(
    end: ReadEnd,
    is_grpc: bool,
    is_sent: bool,
    goaway: Option<&GoAway>,
    why: Option<&Failure>,
) -> CallEnd {
    let error = match end {
        ReadEnd::Answered(answer) => return CallEnd::Answered(answer),
        ReadEnd::TooLarge => {
            let words = "the answer is larger than the response size limit";
            return unanswered(is_sent, Failure::fatal(words));
        }
        ReadEnd::Broken(error) => error,
    };
    let reason = error.reason();
    if error.is_go_away() && error.is_remote() {
        let words = goaway.map_or_else(|| error.to_string(), describe_goaway);
        return CallEnd::Unprocessed(Failure::retryable(format!("{words}; the call was not processed")));
    }
    if error.is_reset() {
        let reason = reason.unwrap_or(Reason::PROTOCOL_ERROR);
        return if !error.is_remote() {
            let words = format!("the answer breaks HTTP/2 ({})", describe_reason(reason));
            unanswered(is_sent, Failure::fatal(words))
        } else if reason == Reason::REFUSED_STREAM {
            CallEnd::Unprocessed(Failure::retryable("the peer refused the stream (REFUSED_STREAM)"))
        } else if !is_grpc {
            // HTTP has no status for it: there is no answer.
            let words = format!("the peer reset the stream ({})", describe_reason(reason));
            let failure = match reason {
                Reason::INADEQUATE_SECURITY | Reason::HTTP_1_1_REQUIRED => Failure::fatal(words),
                _ => Failure::retryable(words),
            };
            unanswered(is_sent, failure)
        } else {
            CallEnd::Answered(Answer {
                code: code_of_reset(reason),
                message: format!("the peer reset the stream ({})", describe_reason(reason)),
                rejected: 0,
                retry_after: None,
                http_status: None,
                is_http: false,
                location: None,
            })
        };
    }
    let failure = match (why, reason) {
        (Some(why), _) => why.clone(),
        (None, Some(reason)) => {
            Failure::retryable(format!("the peer broke HTTP/2 ({})", describe_reason(reason)))
        }
        (None, None) => Failure::retryable(format!("the connection was lost: {error}")),
    };
    unanswered(is_sent, failure)
}

/// A call that nothing will answer: the peer certainly did not process it unless it was sent whole.
pub(super) fn unanswered(is_sent: bool, failure: Failure) -> CallEnd {
    if is_sent {
        CallEnd::Unanswered(failure)
    } else {
        CallEnd::Unprocessed(failure)
    }
}

/// A GOAWAY in words.
pub(super) fn describe_goaway(goaway: &GoAway) -> String {
    let reason = describe_reason(Reason::from(goaway.code));
    if goaway.debug_data.is_empty() {
        return format!("the peer is closing the connection (GOAWAY, {reason})");
    }
    let data = goaway.debug_data.escape_ascii();
    format!("the peer is closing the connection (GOAWAY, {reason}: {data})")
}

/// An error code by its name in RFC 9113, section 7.
pub(super) fn describe_reason(reason: Reason) -> String {
    let name = match reason {
        Reason::NO_ERROR => "NO_ERROR",
        Reason::PROTOCOL_ERROR => "PROTOCOL_ERROR",
        Reason::INTERNAL_ERROR => "INTERNAL_ERROR",
        Reason::FLOW_CONTROL_ERROR => "FLOW_CONTROL_ERROR",
        Reason::SETTINGS_TIMEOUT => "SETTINGS_TIMEOUT",
        Reason::STREAM_CLOSED => "STREAM_CLOSED",
        Reason::FRAME_SIZE_ERROR => "FRAME_SIZE_ERROR",
        Reason::REFUSED_STREAM => "REFUSED_STREAM",
        Reason::CANCEL => "CANCEL",
        Reason::COMPRESSION_ERROR => "COMPRESSION_ERROR",
        Reason::CONNECT_ERROR => "CONNECT_ERROR",
        Reason::ENHANCE_YOUR_CALM => "ENHANCE_YOUR_CALM",
        Reason::INADEQUATE_SECURITY => "INADEQUATE_SECURITY",
        Reason::HTTP_1_1_REQUIRED => "HTTP_1_1_REQUIRED",
        other => return format!("error code {}", u32::from(other)),
    };
    name.into()
}
