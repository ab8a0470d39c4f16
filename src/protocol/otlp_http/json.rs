//! Answers in JSON (Protocol Buffers, "ProtoJSON Format").

use super::words::{PARSED_BYTES_MAX, Said};
use crate::protocol::status::is_retry_info;
use alloc::borrow::ToOwned;
use alloc::string::String;
use core::time::Duration;
use serde_json::Value;

/// Items refused and the peer's words, whatever the signal; nothing for what cannot be read.
pub(super) fn partial_success(body: &[u8]) -> (u64, String) {
    let partial =
        parse(body).and_then(|answer| member(&answer, ["partialSuccess", "partial_success"]).cloned());
    let Some(partial) = partial else {
        return (0, String::new());
    };
    let counts = [
        ["rejectedSpans", "rejected_spans"],
        ["rejectedDataPoints", "rejected_data_points"],
        ["rejectedLogRecords", "rejected_log_records"],
        ["rejectedProfiles", "rejected_profiles"],
    ];
    let rejected = counts
        .into_iter()
        .find_map(|names| member(&partial, names))
        .and_then(count)
        .unwrap_or(0);
    let message = text(member(&partial, ["errorMessage", "error_message"]));
    (rejected, message)
}

/// A `google.rpc.Status`, or whatever has a message in its place.
pub(super) fn status(body: &[u8]) -> Option<Said> {
    let status = parse(body)?;
    let message = status.get("message")?.as_str()?.to_owned();
    let details = status.get("details").and_then(Value::as_array);
    let retry_info = details.into_iter().flatten().find(|detail| {
        let name = detail.get("@type").and_then(Value::as_str);
        name.is_some_and(is_retry_info)
    });
    Some(Said {
        message,
        // As in protobuf: without a delay it still says that the peer expects the request again.
        retry_after: retry_info.map(|info| match member(info, ["retryDelay", "retry_delay"]) {
            Some(delay) => delay.as_str().and_then(duration).unwrap_or_default(),
            None => Duration::ZERO,
        }),
    })
}

/// A document that is not too long to be parsed.
fn parse(body: &[u8]) -> Option<Value> {
    if body.len() > PARSED_BYTES_MAX {
        return None;
    }
    serde_json::from_slice(body).ok()
}

/// A member under its name in JSON or the one in the schema, which a reader takes as well.
fn member<'a>(value: &'a Value, names: [&str; 2]) -> Option<&'a Value> {
    names.into_iter().find_map(|name| value.get(name))
}

/// A count of 64 bits: a decimal string, or a number all the same.
fn count(value: &Value) -> Option<u64> {
    match value {
        Value::String(digits) => digits.parse().ok(),
        Value::Number(number) => number.as_u64(),
        _ => None,
    }
}

fn text(value: Option<&Value>) -> String {
    value.and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// A `google.protobuf.Duration`: seconds with up to nine digits after the point, and an `s`.
fn duration(text: &str) -> Option<Duration> {
    let number = text.strip_suffix('s')?;
    if number.starts_with('-') {
        return Some(Duration::ZERO);
    }
    let (seconds, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if seconds.is_empty() || fraction.len() > 9 || !is_digits(seconds) || !is_digits(fraction) {
        return None;
    }
    let mut nanos = 0;
    for at in 0..9 {
        let digit = fraction.as_bytes().get(at).map_or(0, |digit| digit - b'0');
        nanos = nanos * 10 + u32::from(digit);
    }
    Some(Duration::new(seconds.parse().unwrap_or(u64::MAX), nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_come_as_strings_or_numbers_under_either_name() {
        for (body, expected) in [
            (
                r#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"old"}}"#,
                (3, "old"),
            ),
            (r#"{"partialSuccess":{"rejectedLogRecords":4}}"#, (4, "")),
            (
                r#"{"partial_success":{"rejected_data_points":"5","error_message":"x"}}"#,
                (5, "x"),
            ),
            (
                r#"{"partialSuccess":{"rejectedProfiles":"6","more":[1]},"other":null}"#,
                (6, ""),
            ),
            (
                r#"{"partialSuccess":{"errorMessage":"a warning"}}"#,
                (0, "a warning"),
            ),
            (r#"{"partialSuccess":{"rejectedSpans":"-3"}}"#, (0, "")),
            (r#"{"partialSuccess":{"rejectedSpans":1.5}}"#, (0, "")),
            (r#"{"partialSuccess":null}"#, (0, "")),
            (r#"{"partialSuccess":[]}"#, (0, "")),
            ("{}", (0, "")),
            ("[]", (0, "")),
            ("", (0, "")),
            ("{", (0, "")),
            ("\u{feff}{}", (0, "")),
        ] {
            let (rejected, message) = partial_success(body.as_bytes());
            assert_eq!((rejected, &*message), expected, "spec 12, spec 6: {body}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(partial_success(deep.as_bytes()), (0, String::new()), "spec 52");
        let long = alloc::format!("[{}0]", "0,".repeat(PARSED_BYTES_MAX));
        assert_eq!(partial_success(long.as_bytes()), (0, String::new()), "spec 52");
    }

    #[test]
    fn a_status_gives_its_words_and_its_wait() {
        let with_delay = |delay: &str| {
            let body = alloc::format!(
                r#"{{"code":14,"message":"busy","details":[{{"@type":"x/google.rpc.Help"}},
                {{"@type":"type.googleapis.com/google.rpc.RetryInfo"{delay}}}]}}"#
            );
            status(body.as_bytes()).expect("a status").retry_after
        };
        for (delay, expected) in [
            (r#","retryDelay":"1.5s""#, Duration::from_millis(1_500)),
            (r#","retry_delay":"2s""#, Duration::from_secs(2)),
            (r#","retryDelay":"0.000000001s""#, Duration::from_nanos(1)),
            (r#","retryDelay":"-4s""#, Duration::ZERO),
            (
                r#","retryDelay":"99999999999999999999s""#,
                Duration::from_secs(u64::MAX),
            ),
            (r#","retryDelay":7"#, Duration::ZERO),
            ("", Duration::ZERO),
        ] {
            assert_eq!(with_delay(delay), Some(expected), "spec 18: {delay}");
        }
        for garbage in ["s", "1", "1.s.s", ".5s", "1.0000000001s", "1e3s", "+1s"] {
            assert_eq!(duration(garbage), None, "{garbage}");
        }
        let plain = status(br#"{"message":"no such tenant"}"#).expect("a message is enough");
        assert_eq!((&*plain.message, plain.retry_after), ("no such tenant", None));
        for other in [
            &b"{}"[..],
            b"[]",
            br#"{"error":"x"}"#,
            br#"{"message":1}"#,
            b"nonsense",
        ] {
            assert_eq!(status(other), None, "it is quoted as it is");
        }
    }
}
