//! Any `futures-io` socket with any sleep: async-std, and executors of one's own.

use super::clock::Clock;
use super::futures_socket::{Either, FuturesSocket};
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
use std::path::PathBuf;

/// A runtime made of a function that connects and a function that sleeps (feature `futures-io`).
///
/// Names are resolved on the thread pool of the `blocking` crate. Unix domain sockets take a second function that
/// connects, [`with_unix`](Self::with_unix).
///
/// ```
/// use otlp_embed::rt::FuturesIo;
///
/// let async_std = FuturesIo::new(async_std::net::TcpStream::connect, async_std::task::sleep);
/// # #[cfg(unix)]
/// let async_std = async_std.with_unix(async_std::os::unix::net::UnixStream::connect);
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

    /// Takes a function that opens the Unix domain socket at a path, as it stands in the endpoint. Without it, such an
    /// endpoint cannot be connected to.
    pub fn with_unix<U, UF, T>(self, connect: U) -> FuturesIo<WithUnix<C, U>, S>
    where
        U: Fn(PathBuf) -> UF + Clone,
        UF: Future<Output = io::Result<T>>,
        T: AsyncRead + AsyncWrite + Unpin,
    {
        FuturesIo {
            connect: WithUnix {
                tcp: self.connect,
                unix: connect,
            },
            sleep: self.sleep,
            clock: self.clock,
        }
    }
}

impl<C, S, SF> Runtime for FuturesIo<C, S>
where
    C: Connect + Clone,
    S: Fn(Duration) -> SF + Clone,
    SF: Future,
{
    type Io = FuturesSocket<C::Io>;
    type Timer = SleepTimer<S, SF>;
    type Connecting = Wrapped<C::Connecting>;
    type Resolving = super::pool::Resolving;

    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn connect(&self, target: &Target) -> Self::Connecting {
        Wrapped(self.connect.connect(target))
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

/// What opens a socket to a target: a function of an address, or [`WithUnix`].
///
/// The trait is sealed: implementations live in this crate.
pub trait Connect: sealed::Sealed {
    /// The socket.
    type Io: AsyncRead + AsyncWrite + Unpin;
    /// Its opening.
    type Connecting: Future<Output = io::Result<Self::Io>> + Unpin;

    /// Begins to open a socket.
    fn connect(&self, target: &Target) -> Self::Connecting;
}

mod sealed {
    pub trait Sealed {}
}

impl<C, CF, T> sealed::Sealed for C
where
    C: Fn(SocketAddr) -> CF,
    CF: Future<Output = io::Result<T>>,
{
}

impl<C, CF, T> Connect for C
where
    C: Fn(SocketAddr) -> CF,
    CF: Future<Output = io::Result<T>>,
    T: AsyncRead + AsyncWrite + Unpin,
{
    type Io = T;
    type Connecting = Opening<CF>;

    fn connect(&self, target: &Target) -> Opening<CF> {
        Opening(match target {
            Target::Tcp(address) => Some(Box::pin(self(*address))),
            Target::Unix(_) => None,
        })
    }
}

/// A function that opens TCP sockets and one that opens Unix domain sockets.
#[derive(Clone, Debug)]
pub struct WithUnix<C, U> {
    tcp: C,
    unix: U,
}

impl<C, U> sealed::Sealed for WithUnix<C, U> {}

impl<C, U, UF, T> Connect for WithUnix<C, U>
where
    C: Connect,
    U: Fn(PathBuf) -> UF,
    UF: Future<Output = io::Result<T>>,
    T: AsyncRead + AsyncWrite + Unpin,
{
    type Io = Either<C::Io, T>;
    type Connecting = OpeningEither<C::Connecting, UF>;

    fn connect(&self, target: &Target) -> Self::Connecting {
        match target {
            Target::Unix(path) => {
                let path = PathBuf::from(path.as_ref());
                OpeningEither::Unix(Box::pin((self.unix)(path)))
            }
            Target::Tcp(_) => OpeningEither::Tcp(self.tcp.connect(target)),
        }
    }
}

/// The opening of a TCP socket; nothing for a target of another kind.
pub struct Opening<F>(Option<Pin<Box<F>>>);

impl<F: Future<Output = io::Result<T>>, T> Future for Opening<F> {
    type Output = io::Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Some(opening) => opening.as_mut().poll(cx),
            None => {
                let text = "this runtime was given no way to a Unix domain socket; call FuturesIo::with_unix";
                Poll::Ready(Err(io::Error::new(io::ErrorKind::Unsupported, text)))
            }
        }
    }
}

/// The opening of a socket of either kind.
pub enum OpeningEither<C, UF> {
    /// By the function of an address.
    Tcp(C),
    /// By the function of a path.
    Unix(Pin<Box<UF>>),
}

impl<C, UF, T, U> Future for OpeningEither<C, UF>
where
    C: Future<Output = io::Result<T>> + Unpin,
    UF: Future<Output = io::Result<U>>,
{
    type Output = io::Result<Either<T, U>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Tcp(opening) => Pin::new(opening).poll(cx).map_ok(Either::First),
            Self::Unix(opening) => opening.as_mut().poll(cx).map_ok(Either::Second),
        }
    }
}

/// The opening of a socket.
pub struct Wrapped<F>(F);

impl<F: Future<Output = io::Result<T>> + Unpin, T> Future for Wrapped<F> {
    type Output = io::Result<FuturesSocket<T>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map_ok(FuturesSocket::new)
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
