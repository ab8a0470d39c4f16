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

/// One of two kinds of socket.
#[derive(Debug)]
pub enum Either<T, U> {
    /// The one.
    First(T),
    /// The other.
    Second(U),
}

impl<T: AsyncRead + Unpin, U: AsyncRead + Unpin> AsyncRead for Either<T, U> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::First(io) => Pin::new(io).poll_read(cx, buf),
            Self::Second(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl<T: AsyncWrite + Unpin, U: AsyncWrite + Unpin> AsyncWrite for Either<T, U> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::First(io) => Pin::new(io).poll_write(cx, buf),
            Self::Second(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::First(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Self::Second(io) => Pin::new(io).poll_write_vectored(cx, bufs),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::First(io) => Pin::new(io).poll_flush(cx),
            Self::Second(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::First(io) => Pin::new(io).poll_close(cx),
            Self::Second(io) => Pin::new(io).poll_close(cx),
        }
    }
}
