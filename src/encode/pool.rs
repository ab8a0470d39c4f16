//! Chunks of memory that requests are written into, and the pool that takes them back.

use super::request::Signal;
use super::state::State;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::sync::atomic::{AtomicUsize, Ordering};

/// The smallest chunk in bytes, where nothing is known of how much is to come.
pub(crate) const CHUNK_BYTES_MIN: usize = 4 * 1024;
/// The smallest chunk in bytes, where the last request needed no more.
const HINT_BYTES_MIN: usize = 1024;
/// The largest chunk in bytes.
pub(crate) const CHUNK_BYTES_MAX: usize = 1024 * 1024;
/// What a pool keeps of idle chunks, in bytes.
#[cfg(feature = "std")]
const IDLE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How many idle batches a pool keeps.
#[cfg(feature = "std")]
const IDLE_STATES_MAX: usize = 16;

/// Idle chunks and batches of one resource.
///
/// Without feature `std` there is no lock to share it under: chunks are then freed instead of kept.
#[derive(Default)]
pub(crate) struct Pool {
    /// Size of the first chunk of the next batch of each signal: what its last request needed.
    hints: [AtomicUsize; Signal::ALL.len()],
    #[cfg(feature = "std")]
    idle: std::sync::Mutex<Idle>,
}

#[cfg(feature = "std")]
#[derive(Default)]
struct Idle {
    chunks: Vec<Vec<u8>>,
    bytes: usize,
    #[expect(clippy::vec_box, reason = "they are moved between batches as they are")]
    states: Vec<Box<State>>,
}

impl Pool {
    /// The size that the first chunk of a batch should have.
    pub(crate) fn first_chunk_len(&self, signal: Signal) -> usize {
        match self.hints[signal.index()].load(Ordering::Relaxed) {
            0 => CHUNK_BYTES_MIN,
            hint => hint,
        }
    }

    /// Learns how much a request took.
    pub(crate) fn note_request_len(&self, signal: Signal, len: usize) {
        // A sixteenth on top: the next batch of the same kind is to fit as well.
        let wanted = (len + len / 16).clamp(HINT_BYTES_MIN, CHUNK_BYTES_MAX);
        // Few sizes, so that chunks fit again, and little more than is needed, since requests may wait in their chunks.
        let step = wanted.next_power_of_two() / 16;
        self.hints[signal.index()].store(wanted.next_multiple_of(step), Ordering::Relaxed);
    }

    /// A chunk of at least `len` bytes, all of them initialised.
    pub(crate) fn take(&self, len: usize) -> Vec<u8> {
        #[cfg(feature = "std")]
        {
            let mut idle = self.idle();
            // One that is much larger would be given back when the request is made, with the bytes copied out of it.
            let fit = idle
                .chunks
                .iter()
                .rposition(|chunk| (len..=len + len / 16).contains(&chunk.len()));
            if let Some(at) = fit {
                let chunk = idle.chunks.swap_remove(at);
                idle.bytes -= chunk.len();
                return chunk;
            }
        }
        vec![0; len]
    }

    /// Takes a chunk back.
    pub(crate) fn put(&self, chunk: Vec<u8>) {
        #[cfg(feature = "std")]
        if !chunk.is_empty() {
            let mut idle = self.idle();
            let mut freed = Vec::new();
            // The oldest goes first: sizes that are no longer asked for do not stay for ever.
            while idle.bytes + chunk.len() > IDLE_BYTES_MAX && !idle.chunks.is_empty() {
                let oldest = idle.chunks.remove(0);
                idle.bytes -= oldest.len();
                freed.push(oldest);
            }
            if chunk.len() <= IDLE_BYTES_MAX {
                idle.bytes += chunk.len();
                idle.chunks.push(chunk);
            }
            drop(idle);
        }
        #[cfg(not(feature = "std"))]
        drop(chunk);
    }

    /// A batch's state, empty.
    pub(crate) fn take_state(self: &Arc<Self>, signal: Signal) -> Box<State> {
        #[cfg(feature = "std")]
        {
            let state = self.idle().states.pop();
            if let Some(mut state) = state {
                state.attach(self, signal);
                return state;
            }
        }
        let mut state = Box::<State>::default();
        state.attach(self, signal);
        state
    }

    /// Takes a batch's state back; it must be reset and detached.
    pub(crate) fn put_state(&self, state: Box<State>) {
        #[cfg(feature = "std")]
        {
            let mut idle = self.idle();
            if idle.states.len() < IDLE_STATES_MAX {
                idle.states.push(state);
            }
        }
        #[cfg(not(feature = "std"))]
        drop(state);
    }

    #[cfg(feature = "std")]
    fn idle(&self) -> std::sync::MutexGuard<'_, Idle> {
        self.idle
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Makes a chunk shared; it goes back to the pool when the last view of it is gone.
pub(crate) fn freeze(chunk: Vec<u8>, pool: Option<&Arc<Pool>>) -> Bytes {
    match pool {
        Some(pool) => Bytes::from_owner(Frozen {
            chunk,
            pool: pool.clone(),
        }),
        None => Bytes::from(chunk),
    }
}

struct Frozen {
    chunk: Vec<u8>,
    pool: Arc<Pool>,
}

impl AsRef<[u8]> for Frozen {
    fn as_ref(&self) -> &[u8] {
        &self.chunk
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.pool.put(core::mem::take(&mut self.chunk));
    }
}
