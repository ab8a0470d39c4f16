//! The exporter's end of a connection, and of an attempt at one.

use super::Shared;
use super::state::End;
use crate::rt;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::{Buf, Bytes};
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::io::{self, IoSlice};

/// An attempt to connect on a [`Network`](super::Network).
pub struct Connecting {
    shared: Arc<Shared>,
    /// Nothing once it has ended.
    dial: Option<u64>,
    refusal: Option<io::Error>,
}

impl Connecting {
    pub(super) fn new(shared: Arc<Shared>, dial: u64) -> Self {
        Self {
            shared,
            dial: Some(dial),
            refusal: None,
        }
    }

    pub(super) fn refused(shared: Arc<Shared>, refusal: io::Error) -> Self {
        Self {
            shared,
            dial: None,
            refusal: Some(refusal),
        }
    }
}

/// Polled again after it was ready, it is pending for ever.
impl Future for Connecting {
    type Output = io::Result<NetworkSocket>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(refusal) = self.refusal.take() {
            return Poll::Ready(Err(refusal));
        }
        let Some(id) = self.dial else { return Poll::Pending };
        let waker = cx.waker().clone();
        let mut state = self.shared.lock();
        let Some(dial) = state.dials.get_mut(&id) else {
            return Poll::Pending;
        };
        let Some(result) = dial.result.take() else {
            let old = dial.waker.replace(waker);
            drop(state);
            drop(old);
            return Poll::Pending;
        };
        state.dials.remove(&id);
        drop(state);
        self.dial = None;
        let shared = self.shared.clone();
        Poll::Ready(result.map(|id| NetworkSocket { shared, id }))
    }
}

/// The collector learns that nobody waits for the connection.
impl Drop for Connecting {
    fn drop(&mut self) {
        let Some(id) = self.dial.take() else { return };
        let now = self.shared.clock.now();
        let mut state = self.shared.lock();
        let dial = state.dials.remove(&id);
        if let Some(Ok(connection)) = dial.as_ref().and_then(|dial| dial.result.as_ref()) {
            // Nobody has read or written yet, so nobody waits.
            state.hang_up(now, *connection);
        }
        drop(state);
        drop(dial);
        self.shared.clock.poke();
    }
}

impl fmt::Debug for Connecting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connecting").finish_non_exhaustive()
    }
}

/// A connected socket on a [`Network`](super::Network); dropping it closes the connection.
pub struct NetworkSocket {
    shared: Arc<Shared>,
    id: u64,
}

impl rt::Socket for NetworkSocket {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let waker = cx.waker().clone();
        let mut state = self.shared.lock();
        let Some(connection) = state.connections.get_mut(&self.id) else {
            return Poll::Ready(Err(reset()));
        };
        let mut count = 0;
        while let Some(bytes) = connection.arrived.front_mut() {
            let taken = bytes.len().min(buf.len() - count);
            if taken == 0 {
                break;
            }
            buf[count..count + taken].copy_from_slice(&bytes[..taken]);
            bytes.advance(taken);
            count += taken;
            if bytes.is_empty() {
                connection.arrived.pop_front();
            }
        }
        connection.arrived_bytes -= count;
        if count > 0 || buf.is_empty() {
            drop(state);
            self.shared.clock.poke();
            return Poll::Ready(Ok(count));
        }
        match connection.socket {
            End::Open => {
                let old = connection.reader.replace(waker);
                drop(state);
                drop(old);
                Poll::Pending
            }
            End::Eof | End::Dropped => Poll::Ready(Ok(0)),
            End::Reset => Poll::Ready(Err(reset())),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let waker = cx.waker().clone();
        let now = self.shared.clock.now();
        let mut state = self.shared.lock();
        let room = state.room_up(self.id);
        let Some(connection) = state.connections.get_mut(&self.id) else {
            return Poll::Ready(Err(reset()));
        };
        if connection.socket == End::Reset {
            return Poll::Ready(Err(reset()));
        }
        let mut taken = Vec::new();
        for buf in bufs {
            let count = buf.len().min(room - taken.len());
            taken.extend_from_slice(&buf[..count]);
        }
        if taken.is_empty() && bufs.iter().any(|buf| !buf.is_empty()) {
            let old = connection.writer.replace(waker);
            drop(state);
            drop(old);
            return Poll::Pending;
        }
        let count = taken.len();
        state.send_up(now, self.id, Bytes::from(taken));
        drop(state);
        self.shared.clock.poke();
        Poll::Ready(Ok(count))
    }
}

impl Drop for NetworkSocket {
    fn drop(&mut self) {
        let now = self.shared.clock.now();
        let wakers = self.shared.lock().hang_up(now, self.id);
        drop(wakers);
        self.shared.clock.poke();
    }
}

impl fmt::Debug for NetworkSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetworkSocket")
            .field("connection", &self.id)
            .finish_non_exhaustive()
    }
}

fn reset() -> io::Error {
    let text = "connection reset by the simulated network";
    io::Error::new(io::ErrorKind::ConnectionReset, text)
}
