//! What an answer says, whichever protocol carried it: statuses of HTTP, rich statuses, partial success.

use crate::code::Code;
use crate::pb::collector::ExportTraceServiceResponse;
use crate::pb::rpc;
use alloc::string::String;
use core::time::Duration;
use prost::Message;

/// Characters of a peer's message that are kept.
pub(super) const MESSAGE_CHARS_MAX: usize = 2_048;

/// An answer is larger than the settings allow (OTLP specification, response size limit).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

/// The peer's text, cut off where it is long.
#[cfg(feature = "http2")]
pub(super) fn bounded(text: &str) -> String {
    text.chars().take(MESSAGE_CHARS_MAX).collect()
}

/// The code for an answer without a status of its own (gRPC, "HTTP to gRPC Status Code Mapping").
pub(super) const fn code_of_http(status: u16) -> Code {
    match status {
        400 => Code::INTERNAL,
        401 => Code::UNAUTHENTICATED,
        403 => Code::PERMISSION_DENIED,
        404 => Code::UNIMPLEMENTED,
        429 | 502 | 503 | 504 => Code::UNAVAILABLE,
        _ => Code::UNKNOWN,
    }
}

/// The wait that the first readable `RetryInfo` asks for. A negative or missing delay is no wait, yet it tells that the
/// peer expects the request again.
pub(super) fn retry_info(status: &rpc::Status) -> Option<Duration> {
    status
        .details
        .iter()
        .filter(|any| is_retry_info(&any.type_url))
        .find_map(|any| rpc::RetryInfo::decode(&*any.value).ok())
        .map(|info| {
            info.retry_delay
                .map_or(Duration::ZERO, |delay| to_duration(&delay))
        })
}

/// Whether a type URL names `google.rpc.RetryInfo`.
pub(super) fn is_retry_info(type_url: &str) -> bool {
    type_url.rsplit('/').next() == Some("google.rpc.RetryInfo")
}

fn to_duration(delay: &rpc::Duration) -> Duration {
    let nanos = i128::from(delay.seconds) * 1_000_000_000 + i128::from(delay.nanos);
    let nanos = u128::try_from(nanos).unwrap_or(0);
    let seconds = u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX);
    Duration::new(seconds, u32::try_from(nanos % 1_000_000_000).unwrap_or(0))
}

/// Items refused and the collector's words. An answer that cannot be read refuses nothing: it was a success. The answers
/// to every signal have the same form.
pub(super) fn partial_success(message: &[u8]) -> (u64, String) {
    let partial = ExportTraceServiceResponse::decode(message)
        .ok()
        .and_then(|response| response.partial_success)
        .unwrap_or_default();
    (
        u64::try_from(partial.rejected_spans).unwrap_or(0),
        partial.error_message,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::collector::ExportTracePartialSuccess;

    #[test]
    fn a_partial_success_is_read_leniently() {
        let encoded = ExportTraceServiceResponse {
            partial_success: Some(ExportTracePartialSuccess {
                rejected_spans: 3,
                error_message: "too old".into(),
            }),
        }
        .encode_to_vec();
        assert_eq!(partial_success(&encoded), (3, "too old".into()), "spec 12");
        assert_eq!(partial_success(&[0xff, 0xff]), (0, String::new()), "spec 53");
        let negative = [
            0x0a, 11, 8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1,
        ];
        assert_eq!(partial_success(&negative), (0, String::new()));
    }

    #[test]
    fn http_statuses_follow_the_table() {
        for (http, code) in [
            (400, Code::INTERNAL),
            (401, Code::UNAUTHENTICATED),
            (403, Code::PERMISSION_DENIED),
            (404, Code::UNIMPLEMENTED),
            (429, Code::UNAVAILABLE),
            (502, Code::UNAVAILABLE),
            (503, Code::UNAVAILABLE),
            (504, Code::UNAVAILABLE),
            (200, Code::UNKNOWN),
            (302, Code::UNKNOWN),
            (500, Code::UNKNOWN),
        ] {
            assert_eq!(code_of_http(http), code, "spec 45: {http}");
        }
    }
}
