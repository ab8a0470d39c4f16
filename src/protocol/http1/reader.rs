//! The reading of an answer's head, and what it says about the body (RFC 9112, sections 4 to 6).

use super::chunks::Chunks;
use alloc::string::String;
use alloc::vec::Vec;
use httparse::{EMPTY_HEADER, Header, Status};

/// Bytes of the head of an answer, those of interim answers before it included.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Header fields of one head.
const FIELDS_MAX: usize = 128;

/// Interim answers before the final one.
const INTERIM_MAX: usize = 32;

/// What every answer of HTTP/1 begins with.
const START: &[u8] = b"HTTP/1.";

/// Bytes after which it shows what a peer speaks that is not HTTP/1: the head of an HTTP/2 frame.
const FOREIGN_LEN: usize = 9;

/// Collects the head of an answer, however it is cut.
#[derive(Default)]
pub(super) struct HeadReader {
    bytes: Vec<u8>,
    /// Up to where no end of the head was found.
    scanned: usize,
    /// Bytes of interim answers.
    passed: usize,
    interim: usize,
}

/// Why no head could be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadHead {
    /// The peer does not speak HTTP/1; what it began with.
    Foreign(Vec<u8>),
    /// The head breaks HTTP/1.1; in words.
    Broken(&'static str),
}

/// What a head says, beside what its fields say to OTLP.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub status: u16,
    pub framing: Framing,
    /// Whether the peer closes the connection behind this answer.
    pub is_last: bool,
    /// Seconds that the peer keeps an idle connection, where it says so.
    pub idle_seconds: Option<u64>,
}

/// Where a body ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// After the last chunk.
    Chunked,
    /// With the connection.
    UntilClose,
    /// It cannot be told, for the reason in words.
    Unclear(&'static str),
}

/// A body that is being read.
pub(super) enum BodyReader {
    Length(u64),
    Chunked(Chunks),
    UntilClose,
}

impl HeadReader {
    /// Whether not a byte of an answer came.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.passed == 0
    }

    /// Takes bytes of a head off the front of `input`. The first final head is shown to `done`, with its reason phrase and
    /// fields; what that returns comes back.
    pub(super) fn read<T>(
        &mut self,
        input: &mut &[u8],
        mut done: impl FnMut(Head, &str, &[Header<'_>]) -> T,
    ) -> Result<Option<T>, BadHead> {
        while !input.is_empty() {
            let room = HEAD_BYTES_MAX - self.passed - self.bytes.len();
            let (now, rest) = input.split_at(input.len().min(room));
            self.bytes.extend_from_slice(now);
            self.check_start(false)?;
            let Some(end) = self.end() else {
                *input = rest;
                if self.passed + self.bytes.len() == HEAD_BYTES_MAX {
                    return Err(BadHead::Broken("its head is larger than 64 KiB"));
                }
                continue;
            };
            // What lies behind the head goes back to the input.
            let behind = self.bytes.len() - end;
            *input = &input[now.len() - behind..];
            self.bytes.truncate(end);
            if let Some(result) = self.parse(&mut done)? {
                return Ok(Some(result));
            }
            self.passed += end;
            self.bytes.clear();
            self.scanned = 0;
            self.interim += 1;
            if self.interim > INTERIM_MAX {
                return Err(BadHead::Broken("it has too many interim answers before it"));
            }
        }
        Ok(None)
    }

    /// The peer sends nothing more.
    pub(super) fn end_of_input(&self) -> Result<(), BadHead> {
        self.check_start(true)
    }

    /// Whether the peer speaks HTTP/1, as far as can be told.
    fn check_start(&self, is_all: bool) -> Result<(), BadHead> {
        let start = &self.bytes[..self.bytes.len().min(START.len())];
        if START.starts_with(start) {
            return Ok(());
        }
        // A binary protocol shows itself with its first frame.
        if !is_all && self.bytes[0] == 0 && self.bytes.len() < FOREIGN_LEN {
            return Ok(());
        }
        Err(BadHead::Foreign(self.bytes[..self.bytes.len().min(64)].to_vec()))
    }

    /// Where the head ends, once it does.
    fn end(&mut self) -> Option<usize> {
        let bytes = &self.bytes;
        let mut at = self.scanned;
        while let Some(found) = bytes[at..].iter().position(|byte| *byte == b'\n') {
            at += found + 1;
            match bytes[at..] {
                [b'\n', ..] => return Some(at + 1),
                [b'\r', b'\n', ..] => return Some(at + 2),
                [] | [b'\r'] => {
                    self.scanned = at - 1;
                    return None;
                }
                _ => {}
            }
        }
        self.scanned = bytes.len();
        None
    }

    /// Reads a whole head; `None` for an interim answer.
    fn parse<T>(&self, done: impl FnOnce(Head, &str, &[Header<'_>]) -> T) -> Result<Option<T>, BadHead> {
        let mut fields = [EMPTY_HEADER; FIELDS_MAX];
        let mut response = httparse::Response::new(&mut fields);
        match response.parse(&self.bytes) {
            Ok(Status::Complete(len)) if len == self.bytes.len() => {}
            Ok(_) => return Err(BadHead::Broken("its head is malformed")),
            Err(error) => return Err(BadHead::Broken(describe(error))),
        }
        let (Some(status), Some(version)) = (response.code, response.version) else {
            return Err(BadHead::Broken("its head has no status"));
        };
        match status {
            101 => return Err(BadHead::Broken("it switches to a protocol that nobody asked for")),
            100..=199 => return Ok(None),
            0..=99 => return Err(BadHead::Broken("its status is no HTTP status")),
            _ => {}
        }
        let head = Head::new(status, version, response.headers);
        Ok(Some(done(
            head,
            response.reason.unwrap_or_default(),
            response.headers,
        )))
    }
}

impl Head {
    fn new(status: u16, version: u8, fields: &[Header<'_>]) -> Self {
        let framing = Framing::of(status, version, fields);
        let (mut closes, mut keeps) = (false, false);
        for token in values(fields, "connection").flat_map(tokens) {
            closes |= token.eq_ignore_ascii_case(b"close");
            keeps |= token.eq_ignore_ascii_case(b"keep-alive");
        }
        let is_open_ended = matches!(framing, Framing::UntilClose | Framing::Unclear(_));
        Self {
            status,
            is_last: closes || is_open_ended || (version == 0 && !keeps),
            framing,
            idle_seconds: values(fields, "keep-alive").flat_map(tokens).find_map(|token| {
                let (name, value) = token.split_at_checked(8)?;
                let is_timeout = name.eq_ignore_ascii_case(b"timeout=");
                is_timeout.then(|| parse_length(value)).flatten()
            }),
        }
    }
}

impl Framing {
    /// How the body is framed (RFC 9112, section 6.3).
    fn of(status: u16, version: u8, fields: &[Header<'_>]) -> Self {
        if matches!(status, 204 | 304) {
            return Self::Length(0);
        }
        let mut length = None;
        for value in values(fields, "content-length").flat_map(tokens) {
            match (parse_length(value), length) {
                (Some(len), None) => length = Some(len),
                (Some(len), Some(known)) if len == known => {}
                (Some(_), Some(_)) => return Self::Unclear("its lengths contradict each other"),
                (None, _) => return Self::Unclear("its length is no number"),
            }
        }
        let mut codings = values(fields, "transfer-encoding").flat_map(tokens);
        match (codings.next(), length) {
            (None, Some(length)) => Self::Length(length),
            (None, None) if values(fields, "content-length").next().is_some() => {
                Self::Unclear("its length is no number")
            }
            (None, None) if values(fields, "transfer-encoding").next().is_some() => {
                Self::Unclear("its transfer coding has no name")
            }
            (None, None) => Self::UntilClose,
            (Some(_), Some(_)) => Self::Unclear("it has both a length and a transfer coding"),
            (Some(_), None) if version == 0 => Self::Unclear("it has a transfer coding in HTTP/1.0"),
            (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") && codings.next().is_none() => {
                Self::Chunked
            }
            (Some(_), None) => Self::Unclear("its transfer coding was not asked for"),
        }
    }
}

impl BodyReader {
    /// The reader of a body, or in words why there can be none.
    pub(super) fn new(framing: Framing) -> Result<Self, &'static str> {
        match framing {
            Framing::Length(len) => Ok(Self::Length(len)),
            Framing::Chunked => Ok(Self::Chunked(Chunks::new())),
            Framing::UntilClose => Ok(Self::UntilClose),
            Framing::Unclear(why) => Err(why),
        }
    }
}

/// The values of every field of that name.
fn values<'a>(fields: &'a [Header<'a>], name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    fields
        .iter()
        .filter(move |field| field.name.eq_ignore_ascii_case(name))
        .map(|field| field.value)
}

/// The members of a list.
fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.is_empty())
}

fn parse_length(value: &[u8]) -> Option<u64> {
    let digits = core::str::from_utf8(value).ok()?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

fn describe(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::TooManyHeaders => "its head has more than 128 fields",
        httparse::Error::Status => "its status line is malformed",
        httparse::Error::Version => "its version of HTTP is not known",
        _ => "its head is malformed",
    }
}

/// What a peer speaks instead of HTTP/1, in words, and what to do about it.
pub(super) fn describe_foreign(first: &[u8]) -> String {
    const WHAT: &str = "the peer at the endpoint does not speak HTTP/1.1";
    match first {
        // The first frame of an HTTP/2 server: SETTINGS, or GOAWAY when it did not like ours.
        [0, _, _, 4 | 7, 0, 0, 0, 0, 0, ..] => alloc::format!(
            "{WHAT} (it answered in HTTP/2, as a gRPC receiver does): use the protocol grpc, or the endpoint of an \
             OTLP/HTTP receiver, usually on port 4318"
        ),
        [0x15 | 0x16, 3, ..] => {
            alloc::format!("{WHAT} in plain text (it answered in TLS): use an https endpoint")
        }
        _ => {
            let line = first
                .split(|byte| matches!(byte, b'\r' | b'\n'))
                .next()
                .unwrap_or_default();
            alloc::format!("{WHAT} (it began with \"{}\")", line.escape_ascii())
        }
    }
}
