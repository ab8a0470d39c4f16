//! Any `futures-io` socket with any sleep: async-std, and executors of one's own.

use super::clock::Clock;
use super::futures_socket::FuturesSocket;
use super::{Resolve, Runtime, Timer};
use crate::endpoint::Target;
use crate::time::Instant;
use alloc::boxed::Box;
use core::future::Future;
use core::net::SocketAddr;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use futures_io::{AsyncRead, AsyncWrite};
use std::io;

/// A runtime made of a function that connects and a function that sleeps (feature `futures-io`).
///
/// Names are resolved on the thread pool of the `blocking` crate.
///
/// ```
/// use otlp_embed::rt::FuturesIo;
///
/// let async_std = FuturesIo::new(async_std::net::TcpStream::connect, async_std::task::sleep);
/// ```
#[derive(Clone, Debug)]
pub struct FuturesIo<C, S> {
    connect: C,
    sleep: S,
    clock: Clock,
}

impl<C, S> FuturesIo<C, S> {
    /// Takes `connect`, which opens a socket to an address, and `sleep`, whose future is ready after a duration.
    pub fn new<CF, T, SF>(connect: C, sleep: S) -> Self
    where
        C: Fn(SocketAddr) -> CF + Clone,
        CF: Future<Output = io::Result<T>>,
        T: AsyncRead + AsyncWrite + Unpin,
        S: Fn(Duration) -> SF + Clone,
        SF: Future,
    {
        Self {
            connect,
            sleep,
            clock: Clock::start(),
        }
    }
}

impl<C, CF, T, S, SF> Runtime for FuturesIo<C, S>
where
    C: Fn(SocketAddr) -> CF + Clone,
    CF: Future<Output = io::Result<T>>,
    T: AsyncRead + AsyncWrite + Unpin,
    S: Fn(Duration) -> SF + Clone,
    SF: Future,
{
    type Io = FuturesSocket<T>;
    type Timer = SleepTimer<S, SF>;
    type Connecting = Wrapped<CF>;
    type Resolving = super::pool::Resolving;

    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn connect(&self, target: &Target) -> Self::Connecting {
        let Target::Tcp(address) = *target;
        Wrapped(Box::pin((self.connect)(address)))
    }

    fn resolve(&self, query: Resolve) -> Self::Resolving {
        super::pool::resolve(query)
    }

    fn timer(&self) -> Self::Timer {
        SleepTimer {
            sleep: self.sleep.clone(),
            clock: self.clock,
            running: None,
        }
    }
}

/// The opening of a socket.
pub struct Wrapped<F>(Pin<Box<F>>);

impl<F: Future<Output = io::Result<T>>, T> Future for Wrapped<F> {
    type Output = io::Result<FuturesSocket<T>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx).map_ok(FuturesSocket::new)
    }
}

/// A timer made of sleeps. A sleep that is due too early is left running, and followed by another when it ends: an
/// exporter's deadlines mostly move later.
pub struct SleepTimer<S, SF> {
    sleep: S,
    clock: Clock,
    running: Option<(Instant, Pin<Box<SF>>)>,
}

impl<S: Fn(Duration) -> SF, SF: Future> Timer for SleepTimer<S, SF> {
    fn poll_at(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<io::Result<()>> {
        loop {
            let now = self.clock.now();
            if now >= at {
                return Poll::Ready(Ok(()));
            }
            let running = match &mut self.running {
                Some((due, running)) if *due <= at => running,
                _ => &mut self.running.insert((at, Box::pin((self.sleep)(at.since(now))))).1,
            };
            if running.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.running = None;
        }
    }
}
