//! smol, and every executor: sockets and timers of `async-io`, which brings its own reactor.

use super::clock::Clock;
use super::futures_socket::{Either, FuturesSocket};
use super::{Resolve, Runtime, Socket, Timer};
use crate::endpoint::Target;
use crate::time::Instant;
use alloc::boxed::Box;
use async_io::Async;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::io::{self, IoSlice};
use std::net::TcpStream;

/// Sockets and timers of `async-io`, the reactor under smol, which works under any executor (feature `smol`).
///
/// `async-io` starts one thread for its reactor and polls it from threads in `async_io::block_on`. Names are resolved on
/// the thread pool of the `blocking` crate.
///
/// # Applications that export their own `tracing`
///
/// What `async-io` and `polling` tell `tracing` on the thread of an export is kept away
/// ([`Config::with_tracing_isolated`](crate::Config::with_tracing_isolated)). What they tell on the reactor's own thread is not in
/// this crate's hands: with their feature `tracing` on, which it is not by default, a subscriber at `TRACE` hears of every wait
/// for a socket, those of its own exports too, and each export makes the next. Leave the targets `async_io` and `polling` out of
/// what is exported then.
#[derive(Clone, Copy, Debug)]
pub struct Smol {
    clock: Clock,
}

impl Smol {
    /// The process's `async-io` reactor.
    pub fn new() -> Self {
        Self {
            clock: Clock::start(),
        }
    }
}

impl Default for Smol {
    fn default() -> Self {
        Self::new()
    }
}

impl Runtime for Smol {
    type Io = SmolSocket;
    type Timer = SmolTimer;
    type Connecting = SmolConnecting;
    type Resolving = super::pool::Resolving;

    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn connect(&self, target: &Target) -> SmolConnecting {
        SmolConnecting(Box::pin(connect(target.clone())))
    }

    fn resolve(&self, query: Resolve) -> Self::Resolving {
        super::pool::resolve(query)
    }

    fn timer(&self) -> SmolTimer {
        SmolTimer {
            clock: self.clock,
            timer: async_io::Timer::never(),
            set_to: None,
        }
    }
}

/// A socket of `async-io`.
#[derive(Debug)]
pub struct SmolSocket(FuturesSocket<Stream>);

#[cfg(unix)]
type Stream = Either<Async<TcpStream>, Async<std::os::unix::net::UnixStream>>;
/// There is no other kind to be had.
#[cfg(not(unix))]
type Stream = Either<Async<TcpStream>, Async<TcpStream>>;

impl Socket for SmolSocket {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.0.poll_read(cx, buf)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, bufs)
    }
}

/// The opening of a socket.
pub struct SmolConnecting(Pin<Box<dyn Future<Output = io::Result<SmolSocket>> + Send>>);

async fn connect(target: Target) -> io::Result<SmolSocket> {
    let stream = match target {
        Target::Tcp(address) => {
            let stream = Async::<TcpStream>::connect(address).await?;
            stream.get_ref().set_nodelay(true)?;
            Either::First(stream)
        }
        #[cfg(unix)]
        Target::Unix(path) => Either::Second(Async::new(super::unix::connect(&path)?)?),
        #[cfg(not(unix))]
        Target::Unix(_) => return Err(super::no_unix_sockets()),
    };
    Ok(SmolSocket(FuturesSocket::new(stream)))
}

impl Future for SmolConnecting {
    type Output = io::Result<SmolSocket>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

/// A timer of `async-io`.
#[derive(Debug)]
pub struct SmolTimer {
    clock: Clock,
    timer: async_io::Timer,
    set_to: Option<Instant>,
}

impl Timer for SmolTimer {
    fn poll_at(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<io::Result<()>> {
        if self.set_to != Some(at) {
            self.set_to = Some(at);
            match self.clock.to_std(at) {
                Some(at) => self.timer.set_at(at),
                None => self.timer = async_io::Timer::never(),
            }
        }
        let fired = Pin::new(&mut self.timer).poll(cx);
        if fired.is_ready() {
            // A timer fires once: it has to be set again even for the same time.
            self.set_to = None;
        }
        fired.map(|_| Ok(()))
    }
}
