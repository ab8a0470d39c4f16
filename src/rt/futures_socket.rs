//! Sockets that speak the traits of `futures-io`.

use super::Socket;
use core::pin::Pin;
use core::task::{Context, Poll};
use futures_io::{AsyncRead, AsyncWrite};
use std::io::{self, IoSlice};

/// A socket with the traits of `futures-io`. What was written is flushed before the next read, for sockets that buffer.
#[derive(Debug)]
pub struct FuturesSocket<T> {
    io: T,
    is_flushed: bool,
}

impl<T> FuturesSocket<T> {
    pub(super) fn new(io: T) -> Self {
        Self { io, is_flushed: true }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Socket for FuturesSocket<T> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if !self.is_flushed {
            self.is_flushed = Pin::new(&mut self.io).poll_flush(cx)?.is_ready();
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.is_flushed = false;
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}
