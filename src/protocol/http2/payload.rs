//! What goes into the DATA frames of a request.
//!
//! `h2` is given a [`Payload`], a stand-in of the right length; it decides how many bytes go into which frame. The real
//! bytes are in an [`Upload`], which the egress cuts along the frame heads that `h2` writes. No byte of a request is
//! copied on its way.

use crate::encode::Body;
use crate::protocol::grpc::PREFIX_LEN;
use bytes::{Buf, Bytes};

/// What a stand-in shows of itself at a time: a DATA frame of the usual largest size.
static STAND_IN: [u8; 16_384] = [0; 16_384];

/// A stand-in for the bytes of a request: as long, with no content.
pub(super) struct Payload {
    remaining: usize,
}

impl Payload {
    pub(super) const fn new(len: usize) -> Self {
        Self { remaining: len }
    }
}

impl Buf for Payload {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        &STAND_IN[..self.remaining.min(STAND_IN.len())]
    }

    fn advance(&mut self, count: usize) {
        assert!(count <= self.remaining, "a stand-in is advanced past its end");
        self.remaining -= count;
    }
}

/// The bytes of one request that have not gone into a DATA frame yet.
pub(super) struct Upload {
    /// The stream they go out on.
    pub stream: u32,
    /// The call is over: the bytes stay only for a frame that `h2` may be in the middle of.
    pub is_abandoned: bool,
    /// The request is never to arrive whole: its stream is reset, and no frame ends it any more.
    pub is_endless: bool,
    prefix: [u8; PREFIX_LEN],
    prefix_taken: usize,
    current: Bytes,
    body: Body,
    /// The segment of the body that comes after `current`.
    next: usize,
}

impl Upload {
    /// `body` behind the prefix of gRPC, or with none in front of it.
    pub(super) fn new(stream: u32, body: &Body, prefix: Option<[u8; PREFIX_LEN]>) -> Self {
        Self {
            stream,
            is_abandoned: false,
            is_endless: false,
            prefix: prefix.unwrap_or_default(),
            prefix_taken: if prefix.is_some() { 0 } else { PREFIX_LEN },
            current: Bytes::new(),
            body: body.clone(),
            next: 0,
        }
    }

    /// Takes up to `count` bytes of the prefix.
    pub(super) fn take_prefix(&mut self, count: usize) -> &[u8] {
        let start = self.prefix_taken;
        self.prefix_taken = PREFIX_LEN.min(start.saturating_add(count));
        &self.prefix[start..self.prefix_taken]
    }

    /// At most about how many pieces go to the socket when the rest goes out in frames of `frame_len` bytes, with their
    /// heads.
    pub(super) fn pieces(&self, frame_len: usize) -> usize {
        let segments = self.body.segments().len() - self.next;
        // A frame boundary cuts a segment in two and puts a head between the halves.
        2 * (self.body.len() / frame_len.max(1) + 1) + segments + 1
    }

    /// Takes up to `count` bytes of the message in one piece; `None` when there are no more.
    pub(super) fn take_piece(&mut self, count: usize) -> Option<Bytes> {
        while self.current.is_empty() {
            self.current = self.body.segments().get(self.next)?.clone();
            self.next += 1;
        }
        let count = count.min(self.current.len());
        Some(self.current.split_to(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn pieces_share_the_memory_of_the_request() {
        let segments = vec![
            Bytes::from_static(b"abc"),
            Bytes::new(),
            Bytes::from_static(b"defg"),
        ];
        let body = Body::new(segments.clone());
        let mut upload = Upload::new(1, &body, Some([0, 0, 0, 0, 7]));
        assert_eq!(upload.take_prefix(2), [0, 0]);
        assert_eq!(upload.take_prefix(100), [0, 0, 7]);
        assert!(upload.take_prefix(100).is_empty());
        let first = upload.take_piece(2).expect("bytes are left");
        assert_eq!(first.as_ptr(), segments[0].as_ptr());
        assert_eq!(upload.take_piece(9).as_deref(), Some(&b"c"[..]));
        assert_eq!(upload.take_piece(9).as_deref(), Some(&b"defg"[..]));
        assert_eq!(upload.take_piece(9), None);
    }

    #[test]
    fn a_stand_in_is_as_long_as_it_says() {
        let mut payload = Payload::new(40_000);
        let mut seen = 0;
        while payload.has_remaining() {
            let len = payload.chunk().len();
            seen += len;
            payload.advance(len);
        }
        assert_eq!(seen, 40_000);
    }
}
