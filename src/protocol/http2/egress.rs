//! The way from `h2` to the socket.
//!
//! Owns the bytes that wait for the socket. It reads the frame heads that `h2` writes, puts the request's own bytes in
//! place of the stand-ins, and remembers where in the outgoing stream each request ends, so that the socket's progress
//! tells exactly which requests it has taken whole. Never holds more than a bounded count of bytes that are not sent.

use super::frames::{END_STREAM, FLAGS_AT, HEAD_LEN, Head, HeadBuffer, Kind, PREFACE_LEN};
use super::payload::Upload;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use bytes::{Bytes, BytesMut};

/// Bytes handed to the socket and not taken yet, above which `h2` has to wait. The last write may pass it by two frames.
const OUTSTANDING_MAX: u64 = 1 << 20;

/// Payloads up to this length are copied beside their frame head, since a slice of their own would cost more.
const COPIED_MAX: usize = 247;

/// Room for the pieces of frames without a request.
const PIECES_AT_ONCE: usize = 4;

/// Room for the pieces of a request that is made in advance; more grow as they come.
const PIECES_AHEAD_MAX: usize = 256;

/// Room for frame heads and header blocks.
const TAIL_CAPACITY: usize = 1_024;

/// `h2` wrote something that it should never write.
#[derive(Debug)]
pub(super) struct Misframed;

/// Bytes on their way out.
pub(super) struct Egress {
    phase: Phase,
    head: HeadBuffer,
    /// Pieces for the socket, before `tail`.
    ready: Vec<Bytes>,
    /// Bytes copied from `h2`, after `ready`.
    tail: BytesMut,
    /// Bytes that came out of `h2` since the connection was opened, with the payloads put in place.
    produced: u64,
    /// Bytes that the socket took since the connection was opened.
    sent: u64,
    /// Requests of which something is still to go out, by stream.
    uploads: VecDeque<Upload>,
    /// Where requests end in the outgoing stream, and on which streams.
    ends: VecDeque<(u64, u32)>,
    is_blocked: bool,
    is_discarding: bool,
}

/// What the next byte from `h2` belongs to.
enum Phase {
    /// The connection preface, with so many bytes to come.
    Preface(usize),
    /// A frame head.
    Head,
    /// A payload that goes out as it is, with so many bytes to come.
    Copy(usize),
    /// A stand-in whose real bytes went out with its head, with so many bytes to come.
    Discard(usize),
}

impl Egress {
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Preface(PREFACE_LEN),
            head: HeadBuffer::default(),
            ready: Vec::new(),
            tail: BytesMut::with_capacity(TAIL_CAPACITY),
            produced: 0,
            sent: 0,
            uploads: VecDeque::new(),
            ends: VecDeque::new(),
            is_blocked: false,
            is_discarding: false,
        }
    }

    /// Whether `h2` may write now. A refusal is remembered until the next write that is taken.
    pub(super) fn poll_room(&mut self) -> bool {
        self.is_blocked = !self.is_discarding && self.produced - self.sent >= OUTSTANDING_MAX;
        !self.is_blocked
    }

    /// Whether `h2` was refused a write and holds frames back.
    pub(super) const fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    /// Takes every further byte and forgets it: the socket is gone.
    pub(super) fn discard(&mut self) {
        self.is_discarding = true;
        self.ready.clear();
        self.tail.clear();
        self.ends.clear();
    }

    /// Bytes that came from `h2`, ever.
    pub(super) const fn produced(&self) -> u64 {
        self.produced
    }

    /// Bytes that the socket took, ever.
    pub(super) const fn taken(&self) -> u64 {
        self.sent
    }

    /// Announces a request before `h2` hears of it. Streams come in ascending order.
    pub(super) fn add_upload(&mut self, upload: Upload) {
        self.uploads.push_back(upload);
    }

    /// The call on `stream` is over. Its bytes are kept for the frame that `h2` may be writing. Whether something of the
    /// request was still to go out.
    pub(super) fn abandon(&mut self, stream: u32) -> bool {
        let Ok(at) = self.upload_at(stream) else {
            return false;
        };
        self.uploads[at].is_abandoned = true;
        true
    }

    /// As [`abandon`](Self::abandon), for a stream that is reset: a frame that `h2` holds ready does not end the request,
    /// which was told not to have arrived.
    pub(super) fn revoke(&mut self, stream: u32) {
        if let Ok(at) = self.upload_at(stream) {
            self.uploads[at].is_abandoned = true;
            self.uploads[at].is_endless = true;
        }
    }

    /// Drops what was abandoned, when `h2` has written everything it had.
    pub(super) fn drop_abandoned(&mut self) {
        if !self.is_blocked && self.uploads.iter().any(|upload| upload.is_abandoned) {
            self.uploads.retain(|upload| !upload.is_abandoned);
        }
    }

    /// Drops every request: `h2` is gone.
    pub(super) fn drop_uploads(&mut self) {
        self.uploads.clear();
        self.ends.clear();
    }

    /// Takes bytes from `h2`.
    pub(super) fn write(&mut self, mut input: &[u8]) -> Result<(), Misframed> {
        while !input.is_empty() {
            match &mut self.phase {
                Phase::Head => {
                    if let Some(bytes) = self.head.take(&mut input) {
                        self.begin_frame(&bytes)?;
                    }
                }
                Phase::Preface(left) | Phase::Copy(left) => {
                    let (now, rest) = input.split_at(input.len().min(*left));
                    *left -= now.len();
                    if *left == 0 {
                        self.phase = Phase::Head;
                    }
                    input = rest;
                    self.copy(now);
                }
                Phase::Discard(left) => {
                    let count = input.len().min(*left);
                    *left -= count;
                    if *left == 0 {
                        self.phase = Phase::Head;
                    }
                    input = &input[count..];
                }
            }
        }
        Ok(())
    }

    /// Everything that waits for the socket.
    pub(super) fn take(&mut self) -> Option<Vec<Bytes>> {
        self.flush_tail();
        if self.ready.is_empty() {
            return None;
        }
        Some(core::mem::take(&mut self.ready))
    }

    /// The socket took `count` bytes: calls `whole` with the stream of every request that it has now taken whole.
    pub(super) fn handle_sent(&mut self, count: usize, mut whole: impl FnMut(u32)) {
        self.sent = self.produced.min(self.sent.saturating_add(count as u64));
        while let Some(&(end, stream)) = self.ends.front() {
            if end > self.sent {
                break;
            }
            self.ends.pop_front();
            whole(stream);
        }
    }

    /// Whether the end of the request on `stream` waits for the socket.
    pub(super) fn is_whole(&self, stream: u32) -> bool {
        self.ends.iter().any(|&(_, known)| known == stream)
    }

    fn begin_frame(&mut self, bytes: &[u8; HEAD_LEN]) -> Result<(), Misframed> {
        let mut head = Head::parse(bytes);
        let mut bytes = *bytes;
        if head.kind == Kind::Data && head.ends_stream() {
            let at = self.upload_at(head.stream).map_err(|_| Misframed)?;
            if self.uploads[at].is_endless {
                head.flags &= !END_STREAM;
                bytes[FLAGS_AT] = head.flags;
            }
        }
        self.copy(&bytes);
        if head.kind != Kind::Data {
            self.phase = if head.len == 0 {
                Phase::Head
            } else {
                Phase::Copy(head.len)
            };
            return Ok(());
        }
        self.substitute(&head)?;
        self.phase = if head.len == 0 {
            Phase::Head
        } else {
            Phase::Discard(head.len)
        };
        Ok(())
    }

    /// Puts the request's bytes behind the head of their DATA frame.
    fn substitute(&mut self, head: &Head) -> Result<(), Misframed> {
        let at = self.upload_at(head.stream).map_err(|_| Misframed)?;
        let mut upload = self.uploads.remove(at).ok_or(Misframed)?;
        if head.len > COPIED_MAX && self.ready.capacity() <= PIECES_AT_ONCE {
            // What `h2` can write now is most of the request: one allocation holds it.
            self.ready.reserve(upload.pieces(head.len).min(PIECES_AHEAD_MAX));
        }
        let prefix = upload.take_prefix(head.len);
        let mut left = head.len - prefix.len();
        self.copy(prefix);
        while left > 0 {
            let piece = upload.take_piece(left).ok_or(Misframed)?;
            left -= piece.len();
            if head.len <= COPIED_MAX {
                self.copy(&piece);
            } else {
                self.share(piece);
            }
        }
        if head.ends_stream() {
            if !upload.is_abandoned && !self.is_discarding {
                self.ends.push_back((self.produced, head.stream));
            }
        } else {
            self.uploads.insert(at, upload);
        }
        Ok(())
    }

    fn upload_at(&self, stream: u32) -> Result<usize, usize> {
        self.uploads.binary_search_by_key(&stream, |upload| upload.stream)
    }

    fn copy(&mut self, bytes: &[u8]) {
        if self.is_discarding {
            return;
        }
        self.produced += bytes.len() as u64;
        if self.tail.capacity() - self.tail.len() < bytes.len() {
            self.tail.reserve(bytes.len().max(TAIL_CAPACITY));
        }
        self.tail.extend_from_slice(bytes);
    }

    fn share(&mut self, piece: Bytes) {
        if self.is_discarding {
            return;
        }
        self.flush_tail();
        self.produced += piece.len() as u64;
        self.ready.push(piece);
    }

    fn flush_tail(&mut self) {
        if !self.tail.is_empty() {
            if self.ready.capacity() == 0 {
                self.ready.reserve(PIECES_AT_ONCE);
            }
            self.ready.push(self.tail.split().freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::{Request, Signal};
    use alloc::vec;

    fn opened() -> Egress {
        let mut egress = Egress::new();
        egress.write(&[b'p'; PREFACE_LEN]).expect("a preface");
        egress
    }

    fn data_head(len: u32, flags: u8, stream: u32) -> Vec<u8> {
        let mut head = len.to_be_bytes()[1..].to_vec();
        head.extend_from_slice(&[0, flags]);
        head.extend_from_slice(&stream.to_be_bytes());
        head
    }

    #[test]
    fn a_request_is_whole_when_its_last_byte_is_sent() {
        let mut egress = opened();
        let body = Bytes::from(vec![7; 1_000]);
        let request = Request::from_segments(Signal::Traces, 1, vec![body.clone()]);
        egress.add_upload(Upload::new(1, request.body(), Some([0, 0, 0, 3, 0xe8])));
        for (len, flags) in [(505, 0), (500, 1)] {
            let mut frame = data_head(len, flags, 1);
            frame.resize(9 + len as usize, 0);
            for byte in frame.chunks(7) {
                egress.write(byte).expect("a frame");
            }
        }
        let pieces = egress.take().expect("bytes wait");
        let total: usize = pieces.iter().map(Bytes::len).sum();
        assert_eq!(total, PREFACE_LEN + 2 * HEAD_LEN + 5 + 1_000);
        let range = body.as_ptr_range();
        let shared: usize = pieces
            .iter()
            .filter(|piece| range.contains(&piece.as_ptr()))
            .map(Bytes::len)
            .sum();
        assert_eq!(shared, 1_000, "no byte of the request is copied");
        let mut whole = Vec::new();
        egress.handle_sent(total - 1, |stream| whole.push(stream));
        assert!(whole.is_empty());
        egress.handle_sent(1, |stream| whole.push(stream));
        assert_eq!(whole, [1]);
    }

    #[test]
    fn data_of_an_unknown_stream_is_refused() {
        let mut egress = opened();
        assert!(egress.write(&data_head(1, 0, 5)).is_err());
    }

    #[test]
    fn an_abandoned_request_still_fills_its_frame() {
        let mut egress = opened();
        let request = Request::from_segments(Signal::Traces, 1, vec![Bytes::from(vec![7; 500])]);
        egress.add_upload(Upload::new(1, request.body(), Some([0, 0, 0, 1, 0xf4])));
        egress.abandon(1);
        let mut frame = data_head(505, 1, 1);
        frame.resize(9 + 505, 0);
        egress.write(&frame).expect("the bytes are still there");
        egress.drop_abandoned();
        egress.take();
        let mut whole = 0;
        egress.handle_sent(usize::MAX, |_| whole += 1);
        assert_eq!(whole, 0, "nobody asks about it any more");
    }
}
