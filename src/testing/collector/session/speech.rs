//! A body that is said piece by piece, at its own pace.

use crate::testing::collector::answer::RawAnswer;
use crate::time::Instant;
use alloc::collections::VecDeque;
use bytes::Bytes;
use core::time::Duration;

/// What is still to be said of a body.
pub(super) struct Speech {
    pieces: VecDeque<Bytes>,
    is_endless: bool,
    pace: Duration,
    due: Instant,
}

impl Speech {
    /// The body of this answer, its first piece due at once.
    pub(super) fn new(now: Instant, raw: &mut RawAnswer) -> Self {
        Self {
            pieces: core::mem::take(&mut raw.data).into(),
            is_endless: raw.is_endless,
            pace: raw.pace,
            due: now,
        }
    }

    /// The next piece, where it is due.
    pub(super) fn next(&mut self, now: Instant) -> Option<Bytes> {
        if self.due > now {
            return None;
        }
        let piece = self.pieces.pop_front()?;
        if self.is_endless && self.pieces.is_empty() {
            self.pieces.push_back(piece.clone());
        }
        // Pieces that were missed while nobody read are not made up for.
        if !self.pace.is_zero() {
            self.due = now + self.pace;
        }
        Some(piece)
    }

    /// Whether everything is said.
    pub(super) fn is_over(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether it will ever be.
    pub(super) fn is_endless(&self) -> bool {
        self.is_endless
    }

    /// When the next piece is due; nothing when there is none.
    pub(super) fn due(&self) -> Option<Instant> {
        (!self.is_over()).then_some(self.due)
    }
}
