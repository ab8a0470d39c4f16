//! The two directions of one connection in memory, in the shape that `h2` wants.

use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::{Buf, BytesMut};
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One end of it is held by the session, the other by `h2`.
///
/// Writing never waits, so that every poll of `h2` ends at the boundary of a frame; the session's owner bounds what
/// piles up by handing in no more input.
#[derive(Clone, Debug, Default)]
pub(super) struct Pipe(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    ingress: BytesMut,
    is_eof: bool,
    egress: Vec<u8>,
    /// Whether nothing more is to go out.
    is_ended: bool,
    reader: Option<Waker>,
}

impl Pipe {
    pub(super) fn push(&self, bytes: &[u8]) {
        let mut state = self.lock();
        state.ingress.extend_from_slice(bytes);
        wake(state);
    }

    pub(super) fn push_eof(&self) {
        let mut state = self.lock();
        state.is_eof = true;
        wake(state);
    }

    /// Adds bytes to what goes out.
    pub(super) fn write(&self, bytes: &[u8]) {
        let mut state = self.lock();
        if !state.is_ended {
            state.egress.extend_from_slice(bytes);
        }
    }

    /// Bytes that are to go out.
    pub(super) fn egress_bytes(&self) -> usize {
        self.lock().egress.len()
    }

    /// Lets so many bytes of what is to go out do so, and no more after them.
    pub(super) fn end_after(&self, bytes: usize) {
        let mut state = self.lock();
        state.egress.truncate(bytes);
        state.is_ended = true;
    }

    pub(super) fn take_egress(&self) -> Vec<u8> {
        core::mem::take(&mut self.lock().egress)
    }

    pub(super) fn has_egress(&self) -> bool {
        !self.lock().egress.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let reader = state.reader.take();
    drop(state);
    if let Some(reader) = reader {
        reader.wake();
    }
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        if state.ingress.is_empty() && !state.is_eof {
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = state.ingress.len().min(buf.remaining());
        buf.put_slice(&state.ingress[..count]);
        state.ingress.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.write(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
