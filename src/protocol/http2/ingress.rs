//! The way from the socket to `h2`.
//!
//! Owns the bytes that `h2` has not read. It reads the frame heads as they pass, so that the session learns what `h2`
//! does not tell: which streams have news, what a GOAWAY said, whether the peer speaks HTTP/2 at all. DATA frames that
//! say nothing are left out, since `h2` gives a connection up after a hundred of them.

use super::frames::{HEAD_LEN, Head, HeadBuffer, Kind, PAYLOAD_MAX};
use crate::protocol::Failure;
use alloc::format;
use alloc::vec::Vec;
use bytes::{Buf, BytesMut};

/// Bytes that `h2` may leave unread. It stops reading only while the socket takes nothing of what it has to answer.
const UNREAD_MAX: usize = 1 << 20;

/// Bytes of a GOAWAY's debug data that are kept.
const DEBUG_DATA_MAX: usize = 256;

/// Bytes of a first line that are waited for and quoted.
const FIRST_LINE_MAX: usize = 64;

/// What the peer said in a GOAWAY frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GoAway {
    /// Streams above this one were not processed.
    pub last_stream: u32,
    /// The error code.
    pub code: u32,
    /// The debug data, cut off where it is long.
    pub debug_data: Vec<u8>,
}

/// The peer does not speak HTTP/2; the bytes it began with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NotHttp2(Vec<u8>);

/// Bytes on their way in.
pub(super) struct Ingress {
    unread: BytesMut,
    /// Bytes that `h2` may still read in this round.
    granted: usize,
    phase: Phase,
    head: HeadBuffer,
    goaway: Vec<u8>,
    blank_frames: u32,
    is_ended: bool,
}

enum Phase {
    /// The first bytes of the connection, kept until they tell what the peer speaks.
    First(Vec<u8>),
    /// A frame head.
    Head,
    /// A payload with so many bytes to come.
    Payload(Head, usize),
}

impl Ingress {
    pub(super) fn new() -> Self {
        Self {
            unread: BytesMut::new(),
            granted: 0,
            phase: Phase::First(Vec::new()),
            head: HeadBuffer::default(),
            goaway: Vec::new(),
            blank_frames: 0,
            is_ended: false,
        }
    }

    /// Takes bytes from the socket; `frame` is called with each frame that is complete, and for a GOAWAY with what it says.
    pub(super) fn feed(
        &mut self,
        input: &[u8],
        mut frame: impl FnMut(&Head, Option<GoAway>),
    ) -> Result<(), NotHttp2> {
        let kept;
        let mut input = input;
        if let Phase::First(first) = &mut self.phase {
            first.extend_from_slice(input);
            if !is_http2(first, false)? {
                return Ok(());
            }
            kept = core::mem::take(first);
            input = &kept;
            self.phase = Phase::Head;
        }
        while !input.is_empty() {
            self.step(&mut input, &mut frame);
        }
        Ok(())
    }

    /// The peer sends nothing more.
    pub(super) fn end(&mut self) -> Result<(), NotHttp2> {
        self.is_ended = true;
        match &self.phase {
            Phase::First(first) if !first.is_empty() => is_http2(first, true).map(drop),
            _ => Ok(()),
        }
    }

    /// Lets `h2` read up to `count` bytes more.
    pub(super) fn grant(&mut self, count: usize) {
        self.granted = count;
    }

    /// Moves bytes to `h2`: as many as were granted; `None` when there is nothing to read now.
    pub(super) fn read(&mut self, max: usize, put: impl FnOnce(&[u8])) -> Option<usize> {
        if self.unread.is_empty() {
            return self.is_ended.then_some(0);
        }
        let count = self.unread.len().min(self.granted).min(max);
        if count == 0 {
            return None;
        }
        put(&self.unread[..count]);
        self.unread.advance(count);
        self.granted -= count;
        Some(count)
    }

    /// Bytes that `h2` has not read.
    pub(super) fn unread_len(&self) -> usize {
        self.unread.len()
    }

    /// Whether more is unread than a peer that takes answers can bring about.
    pub(super) fn is_overfull(&self) -> bool {
        self.unread.len() > UNREAD_MAX
    }

    /// DATA frames of nothing but padding that `h2` was shown.
    pub(super) const fn blank_frames(&self) -> u32 {
        self.blank_frames
    }

    /// Whether not even the first frame came.
    pub(super) const fn is_silent(&self) -> bool {
        matches!(self.phase, Phase::First(_))
    }

    fn step(&mut self, input: &mut &[u8], frame: &mut impl FnMut(&Head, Option<GoAway>)) {
        match &mut self.phase {
            Phase::First(_) | Phase::Head => {
                let Some(bytes) = self.head.take(input) else {
                    return;
                };
                let head = Head::parse(&bytes);
                // An even number is never a stream of ours: `h2` is to find that out.
                if !(head.is_empty_data() && head.stream % 2 == 1) {
                    self.unread.extend_from_slice(&bytes);
                }
                if head.len == 0 {
                    self.phase = Phase::Head;
                    frame(&head, None);
                } else {
                    self.phase = Phase::Payload(head, head.len);
                }
            }
            Phase::Payload(head, left) => {
                let (now, rest) = input.split_at(input.len().min(*left));
                *input = rest;
                if *left == head.len && head.is_blank(now) {
                    self.blank_frames = self.blank_frames.saturating_add(1);
                }
                *left -= now.len();
                self.unread.extend_from_slice(now);
                if head.kind == Kind::GoAway {
                    let room = 8 + DEBUG_DATA_MAX - self.goaway.len();
                    self.goaway.extend_from_slice(&now[..now.len().min(room)]);
                }
                if *left == 0 {
                    let head = *head;
                    self.phase = Phase::Head;
                    let goaway = parse_goaway(&core::mem::take(&mut self.goaway));
                    frame(&head, goaway);
                }
            }
        }
    }
}

impl NotHttp2 {
    /// In words. It may be mended by another attempt when a proxy answers in place of a peer that is away.
    pub(super) fn failure(&self, is_grpc: bool) -> Failure {
        const WHAT: &str = "the peer at the endpoint does not speak HTTP/2";
        let line = self
            .0
            .split(|b| matches!(b, b'\r' | b'\n'))
            .next()
            .unwrap_or_default();
        let line = line.escape_ascii();
        match &*self.0 {
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', _, b' ', status @ ..] => {
                let failure = if matches!(status.get(..3), Some(b"429" | b"502" | b"503" | b"504")) {
                    Failure::retryable
                } else {
                    Failure::fatal
                };
                let advice = if is_grpc {
                    "; OTLP over gRPC is usually served on port 4317"
                } else {
                    ""
                };
                failure(format!("{WHAT} (it answered HTTP/1.1: \"{line}\"){advice}"))
            }
            [0x15 | 0x16, 3, ..] => Failure::fatal(format!("{WHAT} in plain text (it answered in TLS)")),
            _ => Failure::fatal(format!("{WHAT} (it began with \"{line}\")")),
        }
    }
}

/// Whether the first bytes of a connection begin an HTTP/2 frame; `false` while that cannot be told.
fn is_http2(first: &[u8], is_all: bool) -> Result<bool, NotHttp2> {
    const HTTP1: &[u8] = b"HTTP/";
    if first.starts_with(HTTP1) || (HTTP1.starts_with(first) && is_all) {
        let is_line = first.contains(&b'\n') || first.len() >= FIRST_LINE_MAX || is_all;
        return if is_line {
            Err(NotHttp2(first[..first.len().min(FIRST_LINE_MAX)].to_vec()))
        } else {
            Ok(false)
        };
    }
    if HTTP1.starts_with(first) {
        return Ok(false);
    }
    // An alert of TLS is shorter than a frame head, and what sent it says no more.
    if matches!(first, [0x15 | 0x16, 3, ..]) {
        return Err(NotHttp2(first[..first.len().min(FIRST_LINE_MAX)].to_vec()));
    }
    let Some(head) = first.first_chunk::<HEAD_LEN>() else {
        return Ok(false);
    };
    let head = Head::parse(head);
    // The first frame of a server is a SETTINGS frame (RFC 9113, section 3.4).
    if head.len > PAYLOAD_MAX || head.kind != Kind::Settings {
        return Err(NotHttp2(first[..first.len().min(FIRST_LINE_MAX)].to_vec()));
    }
    Ok(true)
}

fn parse_goaway(payload: &[u8]) -> Option<GoAway> {
    let (fixed, debug_data) = payload.split_first_chunk::<8>()?;
    let [a, b, c, d, e, f, g, h] = *fixed;
    Some(GoAway {
        last_stream: u32::from_be_bytes([a, b, c, d]) & (u32::MAX >> 1),
        code: u32::from_be_bytes([e, f, g, h]),
        debug_data: debug_data.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn feed_cut(bytes: &[u8], size: usize) -> (Vec<Head>, Vec<GoAway>, Vec<u8>, Result<(), NotHttp2>) {
        let mut ingress = Ingress::new();
        let (mut heads, mut goaways) = (Vec::new(), Vec::new());
        let mut result = Ok(());
        for chunk in bytes.chunks(size) {
            result = result.and(ingress.feed(chunk, |head, goaway| {
                heads.push(*head);
                goaways.extend(goaway);
            }));
        }
        (heads, goaways, ingress.unread.to_vec(), result)
    }

    #[test]
    fn frames_are_seen_however_they_are_cut() {
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        let empty = [0, 0, 0, 0, 0, 0, 0, 0, 1];
        let mut goaway = vec![0, 0, 11, 7, 0, 0, 0, 0, 0];
        goaway.extend_from_slice(&[0x80, 0, 0, 5, 0, 0, 0, 11]);
        goaway.extend_from_slice(b"bye");
        let all = [&settings[..], &empty, &goaway].concat();
        for size in 1..=all.len() {
            let (heads, goaways, unread, result) = feed_cut(&all, size);
            assert_eq!(result, Ok(()));
            let kinds: Vec<Kind> = heads.iter().map(|head| head.kind).collect();
            assert_eq!(kinds, [Kind::Settings, Kind::Data, Kind::GoAway], "cut by {size}");
            let said = GoAway {
                last_stream: 5,
                code: 11,
                debug_data: b"bye".to_vec(),
            };
            assert_eq!(goaways, [said]);
            assert_eq!(
                unread,
                [&settings[..], &goaway].concat(),
                "the empty DATA frame is left out"
            );
        }
    }

    #[test]
    fn another_protocol_is_named_however_it_is_cut() {
        for (bytes, words, is_retryable) in [
            (
                &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
                "HTTP/1.1 400 Bad Request\"",
                false,
            ),
            (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "503", true),
            (b"SSH-2.0-OpenSSH_9.6\r\n", "SSH-2.0-", false),
            (&[0x15, 3, 1, 0, 2, 2, 10, 0, 0, 0, 0], "TLS", false),
        ] {
            for size in 1..=bytes.len() {
                let (_, _, unread, result) = feed_cut(bytes, size);
                let failure = result.expect_err(words).failure(true);
                let text = failure.message;
                assert!(
                    text.contains(words) && text.contains("does not speak HTTP/2"),
                    "{text}"
                );
                assert_eq!((failure.is_retryable, unread.len()), (is_retryable, 0), "{text}");
            }
        }
    }
}
