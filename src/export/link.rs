//! The runtime's side of one connection: a name on its way, a socket on its way, or an open socket.

use crate::foreign::shield;
use crate::rt::{Runtime, Socket};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use bytes::{Buf, Bytes};
use core::future::Future;
use core::net::SocketAddr;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::io::{self, IoSlice};

/// Slices handed to a socket at a time: what Linux takes is 1024, what pays ends far below.
const SLICES_MAX: usize = 64;

pub(crate) enum Link<R: Runtime> {
    /// The resolver was asked.
    Resolving(Pin<Box<R::Resolving>>),
    /// A socket is being opened.
    Connecting(Pin<Box<R::Connecting>>),
    /// The socket is open.
    Open(Open<R::Io>),
    /// The last step was reported to the engine, which has not said yet what comes next.
    Idle,
}

pub(crate) struct Open<Io> {
    io: Io,
    /// What the socket has still to take.
    queue: VecDeque<Bytes>,
    /// Cleared at the end of input or a failure, which are reported once.
    is_readable: bool,
    /// A failed write, kept until what the peer had sent before is read: it may hold the answer.
    write_error: Option<io::Error>,
}

impl<R: Runtime> Link<R> {
    pub(crate) fn resolving(resolving: R::Resolving) -> Self {
        Self::Resolving(Box::pin(resolving))
    }

    pub(crate) fn connecting(connecting: R::Connecting) -> Self {
        Self::Connecting(Box::pin(connecting))
    }

    /// The addresses, once; a link that is not resolving is never ready.
    pub(crate) fn poll_resolved(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Vec<SocketAddr>>> {
        let Self::Resolving(resolving) = self else {
            return Poll::Pending;
        };
        let resolved = guarded_poll(|| resolving.as_mut().poll(cx));
        if resolved.is_ready() {
            *self = Self::Idle;
        }
        resolved
    }

    /// The open link that takes this one's place, once; a link that is not connecting is never ready.
    pub(crate) fn poll_connected(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Self>> {
        let Self::Connecting(connecting) = self else {
            return Poll::Pending;
        };
        let connected = guarded_poll(|| connecting.as_mut().poll(cx));
        if let Poll::Ready(Err(_)) = connected {
            *self = Self::Idle;
        }
        connected.map_ok(|io| {
            Self::Open(Open {
                io,
                queue: VecDeque::new(),
                is_readable: true,
                write_error: None,
            })
        })
    }

    /// Queues bytes for the socket.
    pub(crate) fn queue(&mut self, chunks: Vec<Bytes>) {
        if let Self::Open(
            open @ Open {
                write_error: None, ..
            },
        ) = self
        {
            open.queue
                .extend(chunks.into_iter().filter(|chunk| !chunk.is_empty()));
        }
    }

    /// Writes queued bytes and returns how many the socket took; pending while there is nothing to write. A failure is
    /// told by the next read.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        match self {
            Self::Open(open) => open.poll_write(cx),
            _ => Poll::Pending,
        }
    }

    /// Reads; the end of input and a failure are told once.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Open(open) if open.is_readable => open.poll_read(cx, buffer),
            _ => Poll::Pending,
        }
    }
}

impl<Io: Socket> Open<Io> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = match (
            guarded_poll(|| self.io.poll_read(cx, buffer)),
            self.write_error.take(),
        ) {
            (Poll::Pending, Some(error)) => Poll::Ready(Err(error)),
            (read, error) => {
                self.write_error = error;
                read
            }
        };
        if matches!(read, Poll::Ready(Ok(0) | Err(_))) {
            self.is_readable = false;
        }
        read
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        if self.queue.is_empty() {
            return Poll::Pending;
        }
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut count = 0;
        for (slice, chunk) in slices.iter_mut().zip(&self.queue) {
            *slice = IoSlice::new(chunk);
            count += 1;
        }
        let error = match guarded_poll(|| self.io.poll_write(cx, &slices[..count])) {
            Poll::Ready(Ok(0)) => io::ErrorKind::WriteZero.into(),
            Poll::Ready(Ok(written)) => {
                self.advance(written);
                return Poll::Ready(written);
            }
            Poll::Ready(Err(error)) => error,
            Poll::Pending => return Poll::Pending,
        };
        self.write_error = Some(error);
        self.queue.clear();
        Poll::Pending
    }

    fn advance(&mut self, mut count: usize) {
        while count > 0 {
            let Some(chunk) = self.queue.front_mut() else {
                return;
            };
            if count < chunk.len() {
                chunk.advance(count);
                return;
            }
            count -= chunk.len();
            self.queue.pop_front();
        }
    }
}

/// Calls the runtime's code. Its panic is a failure of what was asked for, which is not asked again; let through, it would
/// come back at the next poll of every other export.
pub(super) fn guarded<T>(call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    shield(call).unwrap_or_else(|| Err(panicked()))
}

/// As [`guarded`], for what is polled.
pub(super) fn guarded_poll<T>(poll: impl FnOnce() -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
    shield(poll).unwrap_or_else(|| Poll::Ready(Err(panicked())))
}

fn panicked() -> io::Error {
    io::Error::other("the runtime panicked")
}
