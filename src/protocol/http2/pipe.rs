//! The in-memory socket that `h2` reads and writes.
//!
//! Owns nothing but the coupling of [`Ingress`] and [`Egress`] to tokio's I/O traits. It is never woken: the session
//! polls `h2` after every fact that can have moved bytes.

use super::egress::Egress;
use super::ingress::Ingress;
use alloc::sync::Arc;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::io::{self, IoSlice};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Both directions of one connection.
pub(super) struct Wire {
    pub ingress: Ingress,
    pub egress: Egress,
}

/// A handle on a [`Wire`], one for `h2` and one for the session. The lock is never contended.
#[derive(Clone)]
pub(super) struct Pipe(Arc<Mutex<Wire>>);

impl Pipe {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Wire {
            ingress: Ingress::new(),
            egress: Egress::new(),
        })))
    }

    pub(super) fn wire(&self) -> MutexGuard<'_, Wire> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let egress = &mut self.wire().egress;
        if !egress.poll_room() {
            return Poll::Pending;
        }
        let mut count = 0;
        for buf in bufs {
            if egress.write(buf).is_err() {
                return Poll::Ready(Err(io::Error::other("a DATA frame without a request")));
            }
            count += buf.len();
        }
        Poll::Ready(Ok(count))
    }
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let room = buf.remaining();
        match self.wire().ingress.read(room, |bytes| buf.put_slice(bytes)) {
            Some(_) => Poll::Ready(Ok(())),
            None => Poll::Pending,
        }
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.write(&[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(bufs)
    }

    /// It does, so that `h2` hands payloads over beside their heads.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
