//! Where encoded bytes go: chunks of own bytes, with foreign ones referenced between them.
//!
//! Bytes are written forwards. A message whose length is not known yet gets a slot of a guessed width for it, a
//! [`Frame`]; closing the frame patches the slot. Only where the guess was wrong are bytes moved, and only within the
//! open piece: where that would be far, or the message spans several pieces, the list of pieces is split at the slot
//! instead, and the length written elsewhere.

use super::pool::{self, CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, Pool};
use super::request::Signal;
use super::wire::{self, VARINT_BYTES_MAX};
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;

/// Longest body in bytes that is moved to make room for its length.
const MOVE_BYTES_MAX: usize = 32 * 1024;
/// Room kept free in a chunk so that lengths can grow in place.
const SLACK_BYTES: usize = 16;

/// A part of the encoded message, in order.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Bytes `start..end` of a chunk.
    Own { chunk: u32, start: u32, end: u32 },
    /// Bytes of somebody else.
    Shared(Bytes),
}

/// A message that is being written: the slot for its length, and where its body began.
#[derive(Clone, Copy)]
#[must_use = "a frame that is not closed leaves its length unwritten"]
pub(crate) struct Frame {
    /// Offset of the slot in the chunk that was current.
    at: u32,
    /// Width of the slot in bytes.
    width: u32,
    /// Index that the piece holding the slot has or will have.
    piece: usize,
    /// Bytes written before the body.
    body: usize,
}

/// A state of the sink to go back to.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    pieces: usize,
    chunk: usize,
    pos: usize,
    start: usize,
    sealed: usize,
    depth: u32,
}

impl Mark {
    /// Frames that were open.
    pub(crate) fn depth(self) -> u32 {
        self.depth
    }
}

/// The writer of bytes.
#[derive(Default)]
pub(crate) struct Sink {
    /// The current chunk; all of it is initialised.
    buf: Vec<u8>,
    /// Bytes of it that are written.
    pos: usize,
    /// Where the open piece began.
    start: usize,
    /// Bytes in closed pieces.
    sealed: usize,
    pieces: Vec<Piece>,
    /// Chunks before the current one, whose number is the length of this list.
    full: Vec<Vec<u8>>,
    /// Frames that are open.
    depth: u32,
    /// Size of the next chunk.
    next_len: usize,
    /// The pool, and what the chunks taken from it are for.
    pool: Option<(Arc<Pool>, Signal)>,
}

impl Sink {
    /// Takes chunks for a request of this signal from this pool from now on; without a pool they are plainly allocated.
    pub(crate) fn attach(&mut self, pool: Arc<Pool>, signal: Signal) {
        self.next_len = pool.first_chunk_len(signal);
        self.pool = Some((pool, signal));
    }

    /// Sets the size of the next chunk.
    pub(crate) fn expect_len(&mut self, len: usize) {
        self.next_len = len.clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
    }

    /// Bytes written so far, foreign ones included.
    #[inline]
    pub(crate) fn total(&self) -> usize {
        self.sealed + (self.pos - self.start)
    }

    /// Frames that are open.
    pub(crate) fn depth(&self) -> u32 {
        self.depth
    }

    /// Room for `len` contiguous bytes; [`advance`](Self::advance) says how many of them were written.
    #[inline]
    pub(crate) fn window(&mut self, len: usize) -> &mut [u8] {
        if self.buf.len() - self.pos < len + SLACK_BYTES {
            self.rotate(len);
        }
        &mut self.buf[self.pos..self.pos + len]
    }

    /// Keeps the first bytes of the last window.
    #[inline]
    pub(crate) fn advance(&mut self, len: usize) {
        self.pos += len;
    }

    /// Writes an array of fixed length.
    #[inline]
    pub(crate) fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        if let Some(to) = self.window(N).first_chunk_mut::<N>() {
            *to = bytes;
        }
        self.advance(N);
    }

    /// Writes a varint.
    #[inline]
    pub(crate) fn varint(&mut self, value: u64) {
        let len = wire::put_varint(self.window(VARINT_BYTES_MAX), value);
        self.advance(len);
    }

    /// Copies bytes of any length.
    #[inline]
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        if self.buf.len() - self.pos < bytes.len() + SLACK_BYTES {
            self.bytes_across_chunks(bytes);
        } else {
            wire::copy(&mut self.buf[self.pos..], bytes);
            self.pos += bytes.len();
        }
    }

    /// Puts foreign bytes here without copying them.
    pub(crate) fn shared(&mut self, bytes: Bytes) {
        self.seal();
        self.sealed += bytes.len();
        self.pieces.push(Piece::Shared(bytes));
    }

    /// Starts a message in a field whose key takes one byte, guessing that its length will take `width`.
    #[inline]
    pub(crate) fn open(&mut self, key: u8, width: usize) -> Frame {
        self.window(1 + width)[0] = key;
        self.advance(1 + width);
        self.depth += 1;
        Frame {
            at: (self.pos - width) as u32,
            width: width as u32,
            piece: self.pieces.len(),
            body: self.total(),
        }
    }

    /// Ends a message and returns the width that its length took.
    #[inline]
    pub(crate) fn close(&mut self, frame: Frame) -> usize {
        self.depth -= 1;
        let len = self.total() - frame.body;
        if frame.piece == self.pieces.len() {
            let at = frame.at as usize;
            if frame.width == 1 && len < 1 << 7 {
                self.buf[at] = len as u8;
                return 1;
            }
            if frame.width == 2 && (1 << 7..1 << 14).contains(&len) {
                self.buf[at..at + 2].copy_from_slice(&[len as u8 | 0x80, (len >> 7) as u8]);
                return 2;
            }
        }
        self.close_slowly(frame, len)
    }

    /// Where the sink stands.
    #[inline]
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            pieces: self.pieces.len(),
            chunk: self.full.len(),
            pos: self.pos,
            start: self.start,
            sealed: self.sealed,
            depth: self.depth,
        }
    }

    /// Forgets what was written since the mark, which must not be inside of a frame closed since.
    pub(crate) fn roll_back(&mut self, mark: Mark) {
        self.pieces.truncate(mark.pieces);
        self.sealed = mark.sealed;
        self.depth = mark.depth;
        if self.full.len() == mark.chunk {
            self.pos = mark.pos;
            self.start = mark.start;
        } else {
            // The piece that was open then lies in an earlier chunk now; the current one goes on from here.
            self.push_own(mark.chunk, mark.start, mark.pos);
            self.start = self.pos;
        }
    }

    /// Ends the open piece and returns how many pieces there are.
    pub(crate) fn seal(&mut self) -> usize {
        let (start, end) = (self.start, self.pos);
        self.start = end;
        self.push_own(self.full.len(), start, end);
        self.pieces.len()
    }

    /// Whether nothing was ever written.
    pub(crate) fn is_pristine(&self) -> bool {
        self.full.is_empty() && self.pieces.is_empty() && self.pos == 0
    }

    /// Leaves a hole before the first bytes, to be filled by [`fill_hole`](Self::fill_hole).
    pub(crate) fn leave_hole(&mut self, len: usize) {
        self.window(len);
        self.pos += len;
        self.start = self.pos;
    }

    /// Writes bytes right before a piece, which must begin where the hole in the first chunk ends.
    ///
    /// Returns whether they fit.
    pub(crate) fn fill_hole(&mut self, piece: usize, hole_len: usize, bytes: &[u8]) -> bool {
        let Some(Piece::Own { chunk: 0, start, .. }) = self.pieces.get_mut(piece) else {
            return false;
        };
        let end = *start as usize;
        if end != hole_len || bytes.len() > end {
            return false;
        }
        *start -= bytes.len() as u32;
        self.sealed += bytes.len();
        self.chunk_mut(0)[end - bytes.len()..end].copy_from_slice(bytes);
        true
    }

    /// Copies everything out of the sink.
    pub(crate) fn copy_to(mut self, to: &mut Vec<u8>) {
        let beginning = Mark {
            pieces: 0,
            chunk: 0,
            pos: 0,
            start: 0,
            sealed: 0,
            depth: 0,
        };
        self.copy_since(beginning, to);
    }

    /// Copies everything since the mark out of the sink.
    pub(crate) fn copy_since(&mut self, mark: Mark, to: &mut Vec<u8>) {
        self.seal();
        // What was written before the mark is sealed along with it: skip so many bytes.
        let mut skip = mark.pos - mark.start;
        for piece in &self.pieces[mark.pieces..] {
            let bytes = match piece {
                Piece::Own { chunk, start, end } => &self.chunk(*chunk)[*start as usize..*end as usize],
                Piece::Shared(bytes) => bytes,
            };
            let skipped = skip.min(bytes.len());
            skip -= skipped;
            to.extend_from_slice(&bytes[skipped..]);
        }
    }

    /// Makes all chunks shared and hands them out, for the pieces to point into. What fills less than a quarter of the last one is
    /// copied: a small request must not hold a large chunk while it waits.
    pub(crate) fn freeze(&mut self, chunks: &mut Vec<Bytes>) {
        self.seal();
        let buf = core::mem::take(&mut self.buf);
        let used = self.pos;
        let pool = self.pool.as_ref().map(|(pool, _)| pool);
        chunks.extend(self.full.drain(..).map(|chunk| pool::freeze(chunk, pool)));
        if buf.len() - used > used / 3 {
            // A request that waits must not hold far more memory than it counts for.
            chunks.push(Bytes::copy_from_slice(&buf[..used]));
            if let Some(pool) = pool {
                pool.put(buf);
            }
        } else if !buf.is_empty() {
            chunks.push(pool::freeze(buf, pool));
        }
    }

    /// The pieces, in the order of writing.
    pub(crate) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Goes back to the beginning, keeping the memory of its lists.
    pub(crate) fn reset(&mut self) {
        self.pieces.clear();
        if let Some((pool, _)) = &self.pool {
            for chunk in self.full.drain(..) {
                pool.put(chunk);
            }
        }
        self.full.clear();
        (self.pos, self.start, self.sealed, self.depth) = (0, 0, 0, 0);
        if let Some((pool, signal)) = &self.pool {
            self.next_len = pool.first_chunk_len(*signal);
        }
    }

    /// Gives its chunks back and forgets the pool.
    pub(crate) fn detach(&mut self) {
        self.reset();
        let buf = core::mem::take(&mut self.buf);
        if let Some((pool, _)) = self.pool.take() {
            pool.put(buf);
        }
    }

    /// Keeps room for so many entries in its lists, and frees the rest.
    pub(crate) fn shrink_lists(&mut self, entries: usize) {
        self.pieces.shrink_to(entries);
        self.full.shrink_to(entries);
    }

    #[cold]
    #[inline(never)]
    fn rotate(&mut self, len: usize) {
        self.seal();
        let wanted = self.next_len.max(len + SLACK_BYTES);
        self.next_len = (self.next_len * 2).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
        let chunk = match &self.pool {
            Some((pool, _)) => pool.take(wanted),
            None => alloc::vec![0; wanted],
        };
        let full = core::mem::replace(&mut self.buf, chunk);
        if !full.is_empty() {
            self.full.push(full);
        }
        (self.pos, self.start) = (0, 0);
    }

    #[cold]
    #[inline(never)]
    fn bytes_across_chunks(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = (self.buf.len() - self.pos).saturating_sub(SLACK_BYTES);
            if room == 0 {
                self.rotate(1);
                continue;
            }
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            wire::copy(&mut self.buf[self.pos..], now);
            self.pos += now.len();
            bytes = later;
        }
    }

    #[cold]
    #[inline(never)]
    fn close_slowly(&mut self, frame: Frame, len: usize) -> usize {
        let mut length = [0; VARINT_BYTES_MAX];
        let need = wire::put_varint(&mut length, len as u64);
        let length = &length[..need];
        let (at, width) = (frame.at as usize, frame.width as usize);
        if frame.piece == self.pieces.len() {
            let body = at + width..self.pos;
            let end = at + need + body.len();
            if need == width || (body.len() <= MOVE_BYTES_MAX && end <= self.buf.len()) {
                if need != width {
                    self.buf.copy_within(body, at + need);
                }
                self.buf[at..at + need].copy_from_slice(length);
                self.pos = end;
                return need;
            }
            self.seal();
        }
        let Piece::Own { chunk, start, end } = self.pieces[frame.piece] else {
            unreachable!("the slot was written into this piece");
        };
        if need <= width {
            // Right-aligned; the piece is split where a hole remains.
            let aligned = at + width - need;
            self.chunk_mut(chunk)[aligned..aligned + need].copy_from_slice(length);
            if need < width {
                self.pieces[frame.piece] = Piece::Own {
                    chunk,
                    start,
                    end: at as u32,
                };
                self.pieces.insert(
                    frame.piece + 1,
                    Piece::Own {
                        chunk,
                        start: aligned as u32,
                        end,
                    },
                );
                self.sealed -= width - need;
            }
            return need;
        }
        self.seal();
        self.window(need).copy_from_slice(length);
        let written = self.pos as u32;
        self.pos += need;
        self.start = self.pos;
        let length = Piece::Own {
            chunk: self.full.len() as u32,
            start: written,
            end: self.pos as u32,
        };
        let rest = Piece::Own {
            chunk,
            start: (at + width) as u32,
            end,
        };
        self.pieces[frame.piece] = Piece::Own {
            chunk,
            start,
            end: at as u32,
        };
        self.pieces
            .splice(frame.piece + 1..frame.piece + 1, [length, rest]);
        self.sealed += need - width;
        need
    }

    fn push_own(&mut self, chunk: usize, start: usize, end: usize) {
        if end > start {
            self.sealed += end - start;
            self.pieces.push(Piece::Own {
                chunk: chunk as u32,
                start: start as u32,
                end: end as u32,
            });
        }
    }

    fn chunk(&self, chunk: u32) -> &[u8] {
        self.full.get(chunk as usize).unwrap_or(&self.buf)
    }

    fn chunk_mut(&mut self, chunk: u32) -> &mut [u8] {
        self.full.get_mut(chunk as usize).unwrap_or(&mut self.buf)
    }
}
