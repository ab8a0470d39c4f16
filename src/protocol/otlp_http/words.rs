//! What the body of an answer says.

use super::reply::Form;
use crate::pb::rpc;
use crate::protocol::status::{MESSAGE_CHARS_MAX, partial_success as partial_success_of, retry_info};
use alloc::format;
use alloc::string::String;
use core::time::Duration;
use prost::Message;

/// Characters of a body in a form of its own that are quoted.
pub(super) const QUOTE_CHARS_MAX: usize = 200;

/// Bytes of a failure's body that are parsed: a parsed message takes many times its length. Longer ones are quoted.
pub(super) const PARSED_BYTES_MAX: usize = 256 << 10;

/// What the body of a failure says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// The peer's words, printable and bounded.
    pub message: String,
    /// The wait that a `RetryInfo` asks for.
    pub retry_after: Option<Duration>,
}

/// Items refused and the peer's words. A body that cannot be read refuses nothing: it was a success.
pub(super) fn partial_success(form: &Form, body: &[u8]) -> (u64, String) {
    let (rejected, message) = match form {
        Form::Protobuf => partial_success_of(body),
        #[cfg(feature = "json")]
        Form::Json => super::json::partial_success(body),
        #[cfg(not(feature = "json"))]
        Form::Json => return (0, String::new()),
        Form::Foreign(_) => return (0, String::new()),
    };
    (rejected, printable(&message, MESSAGE_CHARS_MAX))
}

/// Reads the body of a failure: a `google.rpc.Status` where it is one, or else the beginning as it is. Its code does not
/// matter (OTLP specification, "Failures").
pub(super) fn failure(form: &Form, body: &[u8]) -> Said {
    if body.is_empty() {
        return Said::default();
    }
    let status = match form {
        _ if body.len() > PARSED_BYTES_MAX => None,
        Form::Protobuf => rpc::Status::decode(body)
            .ok()
            // Text may look like a message of nothing but unknown fields.
            .filter(|status| *status != rpc::Status::default())
            .map(|status| Said {
                retry_after: retry_info(&status),
                message: status.message,
            }),
        #[cfg(feature = "json")]
        Form::Json => super::json::status(body),
        #[cfg(not(feature = "json"))]
        Form::Json => None,
        Form::Foreign(_) => None,
    };
    match status {
        Some(said) => Said {
            message: printable(&said.message, MESSAGE_CHARS_MAX),
            ..said
        },
        None => Said {
            message: quote(form, body),
            retry_after: None,
        },
    }
}

/// The beginning of a body that is no message of ours.
fn quote(form: &Form, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * QUOTE_CHARS_MAX)]);
    let text = printable(text.trim(), QUOTE_CHARS_MAX);
    match form {
        Form::Foreign(name) => format!("{text} ({name})"),
        Form::Protobuf | Form::Json => text,
    }
}

/// The peer's text in one line and no longer than that.
pub(super) fn printable(text: &str, chars_max: usize) -> String {
    let mut line = String::new();
    for char in text.chars().take(chars_max) {
        if char.is_control() || matches!(char, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}') {
            line.extend(char.escape_default());
        } else {
            line.push(char);
        }
    }
    line
}
