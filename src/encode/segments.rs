//! The pieces of a request as shared bytes.

use super::sink::Piece;
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Range;

/// Turns pieces into segments, adjacent ones into one.
pub(crate) struct Segments<'a> {
    pub(crate) chunks: &'a [Bytes],
    pub(crate) own: Option<(u32, Range<usize>)>,
    pub(crate) done: Vec<Bytes>,
}

impl Segments<'_> {
    pub(crate) fn push(&mut self, piece: &Piece) {
        match (piece, &mut self.own) {
            (Piece::Own { start, end, .. }, _) if start == end => {}
            (Piece::Own { chunk, start, end }, Some((current, range)))
                if chunk == current && *start as usize == range.end =>
            {
                range.end = *end as usize;
            }
            (Piece::Own { chunk, start, end }, _) => {
                self.flush();
                self.own = Some((*chunk, *start as usize..*end as usize));
            }
            (Piece::Shared(bytes), _) => {
                self.flush();
                self.done.push(bytes.clone());
            }
        }
    }

    pub(crate) fn finish(mut self) -> Vec<Bytes> {
        self.flush();
        self.done
    }

    fn flush(&mut self) {
        if let Some((chunk, range)) = self.own.take() {
            self.done.push(self.chunks[chunk as usize].slice(range));
        }
    }
}
