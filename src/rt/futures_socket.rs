//! Sockets that speak the traits of `futures-io`.

use super::Socket;
use core::pin::Pin;
use core::task::{Context, Poll};
use futures_io::{AsyncRead, AsyncWrite};
use std::io::{self, IoSlice};

/// A socket with the traits of `futures-io`.
#[derive(Debug)]
pub struct FuturesSocket<T>(pub(super) T);

impl<T: AsyncRead + AsyncWrite + Unpin> Socket for FuturesSocket<T> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }
}
