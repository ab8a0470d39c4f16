//! One call: its request on the way out, and the reading of its answer.

use super::chunks::Step;
use super::reader::{BadHead, BodyReader, HeadReader, describe_foreign};
use super::upload::Upload;
use crate::config::Protocol;
use crate::protocol::otlp_http::Reply;
use crate::protocol::{CallId, Failure};
use crate::time::Instant;
use alloc::format;
use alloc::string::String;

/// A call that is under way.
pub(super) struct Call {
    pub id: CallId,
    pub deadline: Instant,
    /// Items in the request.
    pub items: u64,
    /// The form of the request, and of an answer that does not name its own.
    pub protocol: Protocol,
    pub upload: Upload,
    /// Whether the socket has taken the whole request.
    pub is_sent: bool,
    /// Bytes of the connection that the socket had taken before the request.
    pub sent_before: u64,
    /// Whether an answer came on the connection before.
    pub is_later: bool,
    pub answer: Answering,
    /// Why the connection takes no further call behind this one, if so.
    pub last: Option<&'static str>,
    /// Seconds that the peer keeps an idle connection, where it says so.
    pub idle_seconds: Option<u64>,
}

/// How far the answer is.
///
/// ```text
/// Head ──(final head)──> Body ──(end of the body)──> read
///  └ ^                    └──────(broken body)─────────^
///  (1xx)
/// ```
pub(super) enum Answering {
    /// No final head came.
    Head(HeadReader),
    /// The body is coming in.
    Body(Reply, BodyReader),
}

/// What came of some input.
pub(super) enum Reading {
    /// More is to come.
    More,
    /// The answer is there in whole.
    Done,
    /// The answer's status stands, yet its end cannot be told, for the reason in words.
    Cut(&'static str),
    /// The peer closed a connection that was idle for too long, and had not seen the request.
    TooIdle,
    /// The peer does not speak HTTP/1.
    Foreign(String),
    /// No answer that can be read; the request may have been processed.
    Unreadable(Failure),
}

impl Call {
    /// Takes bytes of the answer off the front of `input`.
    pub(super) fn read(&mut self, input: &mut &[u8], len_max: usize) -> Reading {
        loop {
            match &mut self.answer {
                Answering::Head(reader) => {
                    let protocol = self.protocol;
                    let read = reader.read(input, |head, reason, fields| {
                        let fields = fields.iter().map(|field| (field.name, field.value));
                        let reply = Reply::new(head.status, reason, fields, protocol, len_max);
                        (head, reply)
                    });
                    let (head, reply) = match read {
                        Ok(Some(read)) => read,
                        Ok(None) => return Reading::More,
                        Err(bad) => return self.bad_head(bad),
                    };
                    if head.status == 408 && head.is_last && self.is_later {
                        return Reading::TooIdle;
                    }
                    if head.is_last {
                        self.last = Some("the peer closes the connection behind its answer");
                    }
                    self.idle_seconds = head.idle_seconds;
                    match BodyReader::new(head.framing) {
                        Ok(body) => self.answer = Answering::Body(reply, body),
                        Err(why) => {
                            self.answer = Answering::Body(reply, BodyReader::UntilClose);
                            return Reading::Cut(why);
                        }
                    }
                }
                Answering::Body(reply, body) => return read_body(reply, body, input, len_max),
            }
        }
    }

    /// Whether more of the request is to be handed out. Once a failure is told, the peer does not want the rest.
    pub(super) fn wants_more(&self) -> bool {
        !self.upload.is_whole()
            && match &self.answer {
                Answering::Head(_) => true,
                Answering::Body(reply, _) => matches!(reply.status(), 200..=299),
            }
    }

    fn bad_head(&self, bad: BadHead) -> Reading {
        match bad {
            BadHead::Foreign(first) if !self.is_later => Reading::Foreign(describe_foreign(&first)),
            BadHead::Foreign(_) => Reading::Unreadable(Failure::fatal(
                "the answer breaks HTTP/1.1: it begins with no status line",
            )),
            BadHead::Broken(why) => {
                Reading::Unreadable(Failure::fatal(format!("the answer breaks HTTP/1.1: {why}")))
            }
        }
    }
}

fn read_body(reply: &mut Reply, body: &mut BodyReader, input: &mut &[u8], len_max: usize) -> Reading {
    loop {
        let (data, is_done) = match body {
            BodyReader::Length(left) => {
                if *left > len_max as u64 {
                    return Reading::Unreadable(too_large(reply));
                }
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= count as u64;
                (take(input, count), *left == 0)
            }
            BodyReader::UntilClose => (take(input, input.len()), false),
            BodyReader::Chunked(chunks) => match chunks.step(input) {
                Ok(Step::Data(data)) => (data, false),
                Ok(Step::Done) => (&b""[..], true),
                Ok(Step::More) => return Reading::More,
                Err(why) => return Reading::Cut(why),
            },
        };
        if reply.take(data).is_err() {
            return Reading::Unreadable(too_large(reply));
        }
        if is_done {
            return Reading::Done;
        }
        if input.is_empty() {
            return Reading::More;
        }
    }
}

/// The end of a call whose answer is larger than allowed: final, whatever its status (OTLP specification, response size
/// limit).
pub(super) fn too_large(reply: &Reply) -> Failure {
    Failure::fatal(format!(
        "the answer (HTTP {}) is larger than the response size limit",
        reply.status()
    ))
}

fn take<'a>(input: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(count);
    *input = rest;
    taken
}
