//! One answer, from its status to the end of its body.

use super::words;
use crate::code::Code;
use crate::config::Protocol;
use crate::policy::retry_after;
use crate::protocol::Answer;
use crate::protocol::decoding::{Coding, Unreadable};
use crate::protocol::status::{TooLarge, code_of_http};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

/// Characters of a `Location` that are kept.
const LOCATION_CHARS_MAX: usize = 1_024;

/// An answer that is being read.
pub(in crate::protocol) struct Reply {
    status: u16,
    reason: String,
    form: Form,
    coding: Coding,
    retry_after: Option<Duration>,
    location: Option<String>,
    body: Vec<u8>,
    /// Bytes that came.
    total: usize,
    len_max: usize,
}

/// What a body is written in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Messages of OTLP and of `google.rpc` in protobuf.
    Protobuf,
    /// The same in JSON.
    Json,
    /// Anything else; what it is called.
    Foreign(String),
}

impl Reply {
    /// Begins with the head of the answer to a request in the form of `protocol`; its message may be `len_max` bytes long.
    pub(in crate::protocol) fn new<'a>(
        status: u16,
        reason: &str,
        fields: impl Iterator<Item = (&'a str, &'a [u8])>,
        protocol: Protocol,
        len_max: usize,
    ) -> Self {
        let (mut content_type, mut coding): (&[u8], &[u8]) = (b"", b"");
        let (mut wait, mut date, mut location) = (None, None, None);
        for (name, value) in fields {
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            if is("content-type") {
                content_type = value;
            } else if is("content-encoding") {
                coding = value;
            } else if is("retry-after") {
                wait = Some(value);
            } else if is("date") {
                date = Some(value);
            } else if is("location") {
                location = Some(value);
            }
        }
        Self {
            status,
            reason: words::printable(reason.trim(), words::QUOTE_CHARS_MAX),
            form: Form::of(content_type, protocol),
            coding: Coding::new(coding),
            retry_after: wait.and_then(|wait| retry_after(wait, date)),
            location: location
                .map(|location| words::printable(&String::from_utf8_lossy(location), LOCATION_CHARS_MAX)),
            body: Vec::new(),
            total: 0,
            len_max,
        }
    }

    /// Takes bytes of the body.
    ///
    /// # Errors
    ///
    /// When the answer is larger than allowed.
    pub(in crate::protocol) fn take(&mut self, bytes: &[u8]) -> Result<(), TooLarge> {
        self.total = self.total.saturating_add(bytes.len());
        if self.total > self.len_max {
            return Err(TooLarge);
        }
        self.body.extend_from_slice(bytes);
        Ok(())
    }

    /// Bytes of the body that are held.
    #[cfg(feature = "http2")]
    pub(in crate::protocol) fn held(&self) -> usize {
        self.body.len()
    }

    /// The HTTP status.
    pub(in crate::protocol) const fn status(&self) -> u16 {
        self.status
    }

    /// The answer, now that nothing more of it comes or can be read: the status stands whatever became of the body.
    /// `items` is the most that can have been refused.
    ///
    /// # Errors
    ///
    /// When the answer is larger than allowed, decompressed.
    pub(in crate::protocol) fn finish(self, items: u64) -> Result<Answer, TooLarge> {
        let is_success = matches!(self.status, 200..=299);
        let body = match self.coding.read(self.body, self.len_max) {
            Err(Unreadable::TooLarge) => return Err(TooLarge),
            Err(Unreadable::Odd(why)) => Err(why),
            Ok(body) => Ok(body),
        };
        let mut answer = Answer {
            code: code_of(self.status),
            message: String::new(),
            rejected: 0,
            retry_after: None,
            http_status: (self.status != 200).then_some(self.status),
            is_http: true,
            location: None,
        };
        if is_success {
            if let Ok(body) = body {
                let (rejected, message) = words::partial_success(&self.form, &body);
                answer.rejected = rejected.min(items);
                answer.message = message;
            }
            return Ok(answer);
        }
        let said = match body {
            Ok(body) => words::failure(&self.form, &body),
            Err(why) => words::Said {
                message: alloc::format!("its body cannot be read, since {why}"),
                retry_after: None,
            },
        };
        answer.message = match (&*self.reason, &*said.message) {
            (reason, "") => reason.into(),
            ("", message) => message.into(),
            (reason, message) => alloc::format!("{reason}: {message}"),
        };
        // Elsewhere a hint must not make an answer that is final look like throttling.
        if answer.code == Code::UNAVAILABLE {
            answer.retry_after = self.retry_after.or(said.retry_after);
        }
        if matches!(self.status, 300..=399) {
            answer.location = self.location;
        }
        Ok(answer)
    }
}

impl Form {
    fn of(content_type: &[u8], protocol: Protocol) -> Self {
        let essence = content_type
            .split(|byte| *byte == b';')
            .next()
            .unwrap_or_default();
        let essence = essence.trim_ascii();
        let is = |known: &[u8]| essence.eq_ignore_ascii_case(known);
        if is(b"application/x-protobuf") || is(b"application/protobuf") {
            Self::Protobuf
        } else if is(b"application/json") {
            Self::Json
        } else if !essence.is_empty() {
            Self::Foreign(words::printable(
                &String::from_utf8_lossy(essence),
                words::QUOTE_CHARS_MAX,
            ))
        } else if protocol == Protocol::HttpJson {
            Self::Json
        } else {
            Self::Protobuf
        }
    }
}

/// The code that stands for an HTTP status: what is worth another attempt is UNAVAILABLE, and nothing else is (OTLP
/// specification, "OTLP/HTTP Response").
fn code_of(status: u16) -> Code {
    match status {
        200..=299 => Code::OK,
        413 => Code::RESOURCE_EXHAUSTED,
        _ => code_of_http(status),
    }
}
