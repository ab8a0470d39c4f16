//! Statuses: of gRPC, of HTTP, of a reset stream, and the throttling that comes with them.

use crate::code::Code;
use crate::pb::rpc;
use crate::protocol::status::{bounded, retry_info};
use alloc::string::{String, ToString};
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use core::time::Duration;
use h2::Reason;
use http::{HeaderMap, StatusCode};
use prost::Message;

/// Senders pad binary metadata or do not (gRPC, "Binary-Header").
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A gRPC status as it stands in trailers.
pub(super) struct Status {
    /// `None` when the number is no number.
    pub code: Option<Code>,
    pub message: String,
    pub retry_after: Option<Duration>,
}

impl Status {
    /// Reads the status, if there is one.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let code = headers.get("grpc-status")?;
        let details = headers.get("grpc-status-details-bin");
        Some(Self {
            code: parse_code(code.as_bytes()),
            message: headers
                .get("grpc-message")
                .map(|message| decode_message(message.as_bytes()))
                .unwrap_or_default(),
            retry_after: details.and_then(|details| retry_after(details.as_bytes())),
        })
    }
}

/// The code for a stream that the peer reset (gRPC, "HTTP2 Transport Mapping", errors).
pub(in crate::protocol) fn code_of_reset(reason: Reason) -> Code {
    match reason {
        Reason::REFUSED_STREAM => Code::UNAVAILABLE,
        Reason::CANCEL => Code::CANCELLED,
        Reason::ENHANCE_YOUR_CALM => Code::RESOURCE_EXHAUSTED,
        Reason::INADEQUATE_SECURITY => Code::PERMISSION_DENIED,
        Reason::NO_ERROR
        | Reason::PROTOCOL_ERROR
        | Reason::INTERNAL_ERROR
        | Reason::FLOW_CONTROL_ERROR
        | Reason::SETTINGS_TIMEOUT
        | Reason::FRAME_SIZE_ERROR
        | Reason::COMPRESSION_ERROR
        | Reason::CONNECT_ERROR => Code::INTERNAL,
        _ => Code::UNKNOWN,
    }
}

fn parse_code(bytes: &[u8]) -> Option<Code> {
    let is_number = !bytes.is_empty() && bytes.len() <= 10 && bytes.iter().all(u8::is_ascii_digit);
    let text = core::str::from_utf8(bytes).ok().filter(|_| is_number)?;
    text.parse().ok().map(Code::from_u32)
}

/// Percent-decodes leniently: what is no escape stands for itself, what is no UTF-8 becomes a replacement character.
fn decode_message(bytes: &[u8]) -> String {
    bounded(&percent_encoding::percent_decode(bytes).decode_utf8_lossy())
}

/// The wait that the details of a status ask for.
fn retry_after(details: &[u8]) -> Option<Duration> {
    let decoded = LENIENT.decode(details.trim_ascii()).ok()?;
    retry_info(&rpc::Status::decode(&*decoded).ok()?)
}

/// What the peer's HTTP status says, for the error message.
pub(super) fn describe_http(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => alloc::format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::status::MESSAGE_CHARS_MAX;
    use alloc::vec;
    use alloc::vec::Vec;
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

    fn details(delays: &[Option<(i64, i32)>]) -> Vec<u8> {
        let mut details = vec![rpc::Any {
            type_url: "type.googleapis.com/google.rpc.DebugInfo".into(),
            value: vec![0xff],
        }];
        details.extend(delays.iter().map(|delay| {
            rpc::Any {
                type_url: "type.googleapis.com/google.rpc.RetryInfo".into(),
                value: rpc::RetryInfo {
                    retry_delay: delay.map(|(seconds, nanos)| rpc::Duration { seconds, nanos }),
                }
                .encode_to_vec(),
            }
        }));
        rpc::Status {
            details,
            ..rpc::Status::default()
        }
        .encode_to_vec()
    }

    #[test]
    fn retry_info_is_found_wherever_it_stands() {
        let encoded = details(&[Some((2, 500_000_000)), Some((9, 0))]);
        let expected = Some(Duration::from_millis(2_500));
        assert_eq!(
            retry_after(STANDARD.encode(&encoded).as_bytes()),
            expected,
            "spec 18"
        );
        assert_eq!(
            retry_after(STANDARD_NO_PAD.encode(&encoded).as_bytes()),
            expected,
            "spec 18"
        );
    }

    #[test]
    fn absurd_delays_are_taken_calmly() {
        for (delay, expected) in [
            (None, Duration::ZERO),
            (Some((-1, 0)), Duration::ZERO),
            (Some((0, -1)), Duration::ZERO),
            (Some((1, -500_000_000)), Duration::from_millis(500)),
            (Some((i64::MIN, i32::MIN)), Duration::ZERO),
            (Some((i64::MAX, 0)), Duration::from_secs(i64::MAX as u64)),
            (Some((0, i32::MAX)), Duration::from_nanos(i32::MAX as u64)),
        ] {
            let encoded = STANDARD.encode(details(&[delay]));
            assert_eq!(
                retry_after(encoded.as_bytes()),
                Some(expected),
                "spec 18: {delay:?}"
            );
        }
        for garbage in ["", "%%%", "AAA", "//////8=", "!"] {
            assert_eq!(retry_after(garbage.as_bytes()), None, "{garbage}");
        }
        assert_eq!(retry_after(STANDARD.encode(details(&[])).as_bytes()), None);
    }

    #[test]
    fn messages_are_decoded_leniently() {
        for (raw, expected) in [
            ("caf%C3%A9 100%", "caf\u{e9} 100%"),
            ("%zz%4", "%zz%4"),
            ("%ff", "\u{fffd}"),
            ("", ""),
        ] {
            assert_eq!(decode_message(raw.as_bytes()), expected, "spec 44");
        }
        assert_eq!(decode_message(&[b'a'; 10_000]).len(), MESSAGE_CHARS_MAX);
    }

    #[test]
    fn codes_are_plain_numbers() {
        assert_eq!(parse_code(b"0"), Some(Code::OK));
        assert_eq!(parse_code(b"14"), Some(Code::UNAVAILABLE));
        assert_eq!(parse_code(b"99"), Some(Code::from_u32(99)));
        for garbage in [
            &b""[..],
            b"-1",
            b"+1",
            b" 0",
            b"0x0",
            b"OK",
            b"99999999999",
            b"\xff",
        ] {
            assert_eq!(parse_code(garbage), None, "{}", garbage.escape_ascii());
        }
    }
}
