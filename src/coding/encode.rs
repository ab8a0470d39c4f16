//! Compression in chunks, with encoders that are used again.

use crate::encode::Body;
use alloc::vec::Vec;
use bytes::Bytes;
use std::sync::{Mutex, PoisonError};

/// The size of a chunk of compressed bytes.
const CHUNK_BYTES: usize = 16 << 10;
/// The smallest chunk: what is compressed to less wastes the rest only until it is cut off.
const CHUNK_BYTES_MIN: usize = 512;
/// Idle encoders that are kept of each kind, for the whole process. One holds up to about a MiB.
const IDLE_MAX: usize = 2;

/// One kind of encoder, which can be used again.
pub(super) trait Encode: Sized {
    /// One that was never used.
    fn create() -> Self;

    /// Makes it ready for a message of `len` bytes, whatever was done with it before.
    fn begin(&mut self, len: usize);

    /// Takes input and fills the spare capacity of `out`; the count of bytes taken.
    fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> usize;

    /// Fills the spare capacity of `out` with the end of the message; whether it is complete.
    fn finish(&mut self, out: &mut Vec<u8>) -> bool;
}

/// Encoders that nobody uses.
pub(super) struct Idle<E>(Mutex<Vec<E>>);

impl<E> Idle<E> {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    fn take(&self) -> Option<E> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn put(&self, encoder: E) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rejected = if idle.len() < IDLE_MAX {
            idle.push(encoder);
            None
        } else {
            Some(encoder)
        };
        drop(idle);
        drop(rejected);
    }
}

/// Compresses all pieces of a body into one stream.
pub(super) fn compress<E: Encode>(idle: &Idle<E>, body: &Body) -> Body {
    let mut encoder = idle.take().unwrap_or_else(E::create);
    encoder.begin(body.len());
    let mut chunks = Chunks {
        full: Vec::new(),
        // Telemetry shrinks to a fifth or less as a rule.
        open: Vec::with_capacity((body.len() / 4).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES)),
    };
    for segment in body.segments() {
        let mut rest = &segment[..];
        while !rest.is_empty() {
            let taken = encoder.push(rest, chunks.room());
            rest = &rest[taken..];
        }
    }
    while !encoder.finish(chunks.room()) {}
    idle.put(encoder);
    Body::new(chunks.finish())
}

/// Compressed bytes.
struct Chunks {
    full: Vec<Bytes>,
    open: Vec<u8>,
}

impl Chunks {
    /// The chunk that has room.
    fn room(&mut self) -> &mut Vec<u8> {
        if self.open.len() == self.open.capacity() {
            let full = core::mem::replace(&mut self.open, Vec::with_capacity(CHUNK_BYTES));
            self.full.push(full.into());
        }
        &mut self.open
    }

    fn finish(mut self) -> Vec<Bytes> {
        if !self.open.is_empty() {
            // What is counted against the memory limit is the length.
            self.open.shrink_to_fit();
            self.full.push(self.open.into());
        }
        self.full
    }
}
