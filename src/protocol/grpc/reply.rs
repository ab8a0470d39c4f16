//! One answer, from its head to its trailers.

use super::message::MessageReader;
use super::status::{Status, describe_http};
use crate::code::Code;
use crate::protocol::Answer;
use crate::protocol::decoding::Unreadable;
use crate::protocol::status::{TooLarge, bounded, code_of_http, partial_success};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, Response, StatusCode};

/// Bytes of a body that is no gRPC which are quoted.
const QUOTE_LEN_MAX: usize = 200;

/// An answer that is being read.
pub(in crate::protocol) struct Reply {
    http: StatusCode,
    /// The status in the head, when it stands there: an answer without a body, or a peer that sends it early.
    early: Option<Status>,
    /// What the head says about an answer that is no gRPC.
    foreign: Option<Box<Foreign>>,
    message: MessageReader,
    total: usize,
    len_max: usize,
}

/// An answer of something that does not speak gRPC.
struct Foreign {
    content_type: String,
    location: Option<String>,
    quote: alloc::vec::Vec<u8>,
}

impl Reply {
    /// Begins with the head of the answer; its message may be `len_max` bytes long.
    pub(in crate::protocol) fn new<B>(head: &Response<B>, len_max: usize) -> Self {
        let headers = head.headers();
        let content_type = headers
            .get(CONTENT_TYPE)
            .map_or(&b""[..], |value| value.as_bytes());
        let is_grpc = head.status() == StatusCode::OK
            && (content_type.is_empty() || content_type.starts_with(b"application/grpc"));
        Self {
            http: head.status(),
            early: Status::of(headers),
            foreign: (!is_grpc).then(|| {
                Box::new(Foreign {
                    content_type: bounded(&String::from_utf8_lossy(content_type)),
                    location: headers
                        .get(LOCATION)
                        .map(|value| bounded(&String::from_utf8_lossy(value.as_bytes()))),
                    quote: alloc::vec::Vec::new(),
                })
            }),
            message: MessageReader::new(
                headers
                    .get("grpc-encoding")
                    .map_or(&b""[..], |value| value.as_bytes()),
            ),
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
        let Some(foreign) = &mut self.foreign else {
            return self.message.take(bytes, self.len_max);
        };
        self.total = self.total.saturating_add(bytes.len());
        let room = QUOTE_LEN_MAX - foreign.quote.len();
        foreign.quote.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if self.total > self.len_max {
            Err(TooLarge)
        } else {
            Ok(())
        }
    }

    /// Whether the head carried a status, so that the answer stands whatever becomes of the rest.
    pub(in crate::protocol) const fn has_status(&self) -> bool {
        self.early.is_some()
    }

    /// Bytes of the body that are held.
    pub(in crate::protocol) fn held(&self) -> usize {
        self.message.held()
    }

    /// The answer, now that nothing more comes. `items` is the most that can have been refused.
    ///
    /// # Errors
    ///
    /// When the message is larger than allowed, decompressed.
    pub(in crate::protocol) fn finish(
        self,
        trailers: Option<&HeaderMap>,
        items: u64,
    ) -> Result<Answer, TooLarge> {
        let http_status = (self.http != StatusCode::OK).then_some(self.http.as_u16());
        let answer = |code, message, retry_after| Answer {
            code,
            message,
            rejected: 0,
            retry_after,
            http_status,
            is_http: false,
            location: None,
        };
        let Some(status) = trailers.and_then(Status::of).or(self.early) else {
            let code = code_of_http(self.http.as_u16());
            return Ok(answer(code, describe(self.http, self.foreign.as_deref()), None));
        };
        Ok(match status.code {
            Some(Code::OK) => {
                let (rejected, message) = match self.message.finish(self.len_max) {
                    Ok(message) => partial_success(&message),
                    Err(Unreadable::TooLarge) => return Err(TooLarge),
                    Err(Unreadable::Odd(_)) => (0, String::new()),
                };
                Answer {
                    rejected: rejected.min(items),
                    ..answer(Code::OK, bounded(&message), None)
                }
            }
            Some(code) => answer(code, status.message, status.retry_after),
            None => {
                let separator = if status.message.is_empty() { "" } else { "; " };
                let text = format!(
                    "the answer's grpc-status is no number{separator}{}",
                    status.message
                );
                answer(Code::UNKNOWN, text, status.retry_after)
            }
        })
    }
}

/// An answer without a gRPC status, in words.
fn describe(http: StatusCode, foreign: Option<&Foreign>) -> String {
    let Some(foreign) = foreign else {
        return "the answer carries no grpc-status".into();
    };
    let mut words = format!("HTTP {} without a grpc-status", describe_http(http));
    if !foreign.content_type.is_empty() {
        words += &format!(", content-type {:?}", foreign.content_type);
    }
    if let Some(location) = &foreign.location {
        words += &format!(", location {location:?}: redirects are not followed, set the endpoint itself");
    }
    let quote = String::from_utf8_lossy(&foreign.quote);
    if !quote.trim().is_empty() {
        words += &format!(": {}", quote.trim().escape_debug());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use core::time::Duration;

    fn reply(status: u16, headers: &[(&'static str, &'static str)]) -> Reply {
        let mut head = Response::builder().status(status);
        for (name, value) in headers {
            head = head.header(*name, *value);
        }
        Reply::new(&head.body(()).expect("a head"), 1_000)
    }

    fn trailers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| {
                let name = http::HeaderName::from_static(name);
                (name, http::HeaderValue::from_static(value))
            })
            .collect()
    }

    const GRPC: (&str, &str) = ("content-type", "application/grpc+proto");

    #[test]
    fn an_odd_body_does_not_undo_success() {
        let ok = trailers(&[("grpc-status", "0")]);
        for body in [
            &b""[..],
            &[1, 0, 0, 0, 1, 9],
            &[0, 0, 0, 0, 9, 1],
            &[0, 0, 0, 0, 2, 0xff, 0xff],
            &[0, 0],
        ] {
            let mut reply = reply(200, &[GRPC]);
            reply.take(body).expect("small");
            let answer = reply.finish(Some(&ok), 5).expect("small");
            assert_eq!((answer.code, answer.rejected), (Code::OK, 0), "spec 53: {body:?}");
            assert_eq!(answer.message, "", "spec 53: {body:?}");
        }
    }

    #[test]
    fn more_cannot_be_refused_than_was_sent() {
        let mut reply = reply(200, &[GRPC]);
        reply
            .take(&[0, 0, 0, 0, 7, 0x0a, 5, 8, 100, 0x12, 1, b'x'])
            .expect("small");
        let answer = reply
            .finish(Some(&trailers(&[("grpc-status", "0")])), 5)
            .expect("small");
        assert_eq!((answer.rejected, &*answer.message), (5, "x"), "spec 12");
    }

    #[test]
    fn an_answer_without_status_is_judged_by_http() {
        let mut html = reply(404, &[("content-type", "text/html")]);
        html.take(b"<h1>Not\nhere</h1>").expect("small");
        let answer = html.finish(None, 1).expect("small");
        assert_eq!(answer.code, Code::UNIMPLEMENTED, "spec 45");
        assert_eq!(answer.http_status, Some(404));
        assert!(
            answer.message.contains("text/html") && answer.message.contains("Not\\nhere"),
            "{}",
            answer.message
        );

        let redirect = reply(302, &[("location", "https://other/")])
            .finish(None, 1)
            .expect("small");
        assert_eq!(redirect.code, Code::UNKNOWN, "spec 45");
        assert!(redirect.message.contains("https://other/"), "spec 53");

        let bare = reply(200, &[GRPC]).finish(None, 1).expect("small");
        assert_eq!((bare.code, bare.http_status), (Code::UNKNOWN, None), "spec 45");
    }

    #[test]
    fn trailers_win_over_the_head() {
        let early = reply(200, &[GRPC, ("grpc-status", "14"), ("grpc-message", "a%20b")]);
        assert!(early.has_status());
        let answer = early.finish(None, 1).expect("small");
        assert_eq!(
            (answer.code, &*answer.message),
            (Code::UNAVAILABLE, "a b"),
            "spec 48"
        );

        let late = reply(200, &[GRPC, ("grpc-status", "14")]);
        let answer = late
            .finish(Some(&trailers(&[("grpc-status", "x"), ("grpc-message", "m")])), 1)
            .expect("small");
        assert_eq!(answer.code, Code::UNKNOWN);
        assert!(answer.message.ends_with("; m"), "{}", answer.message);
    }

    #[test]
    fn throttling_reaches_the_answer() {
        let fields = [
            ("grpc-status", "8"),
            (
                "grpc-status-details-bin",
                "Gi4KKHR5cGUuZ29vZ2xlYXBpcy5jb20vZ29vZ2xlLnJwYy5SZXRyeUluZm8SAgoA",
            ),
        ];
        let answer = reply(200, &[GRPC])
            .finish(Some(&trailers(&fields)), 1)
            .expect("small");
        assert_eq!(answer.retry_after, Some(Duration::ZERO), "spec 16");
        let limits: Vec<_> = [999, 1].iter().map(|len| alloc::vec![0; *len]).collect();
        let mut page = reply(500, &[]);
        assert_eq!(page.take(&limits[0]), Ok(()));
        assert_eq!(page.take(&limits[1]), Ok(()));
        assert_eq!(page.take(&limits[1]), Err(TooLarge), "spec 4");
    }
}
