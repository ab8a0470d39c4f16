//! tokio: its sockets, its timers, its blocking pool for names.

use super::{Resolve, Runtime, Socket, Timer};
use crate::endpoint::Target;
use crate::error::{Error, Kind};
use crate::foreign::shield;
use crate::time::Instant;
use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;
use core::future::Future;
use core::net::SocketAddr;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::io::{self, IoSlice};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::Sleep;

/// A tokio runtime with its I/O and time drivers on (feature `tokio`).
///
/// The runtime is captured when this is made, so that the exporter's futures may be polled anywhere, also outside any
/// runtime. Names are resolved on its blocking pool. Sockets and deadlines work only while that runtime is driven: one
/// of the flavour `current_thread` stands still outside `block_on`. After it is gone, exports end in an error whose
/// [`is_runtime_gone`](crate::Error::is_runtime_gone) is true.
///
/// # Panics
///
/// tokio reports a missing driver and an ended runtime by panicking. The adapter turns that panic into the error; the
/// panic hook still runs, and a program built with `panic = "abort"` ends. Build the runtime with `enable_all()`, and shut
/// the exporter down before its runtime.
#[derive(Clone, Debug)]
pub struct Tokio {
    handle: Handle,
    /// The zero of the clock: tokio's, which a test may have paused.
    zero: tokio::time::Instant,
}

impl Tokio {
    /// The runtime that the caller runs in.
    ///
    /// # Errors
    ///
    /// The caller runs in no tokio runtime, or its runtime lacks the time or the I/O driver.
    pub fn current() -> Result<Self, Error> {
        let handle = Handle::try_current().map_err(|error| {
            let message = "rt::Tokio::current was called outside a tokio runtime; call it in one, pass a handle with \
                 rt::Tokio::with_handle, or use rt::Blocking, which needs no runtime";
            Error::new(Kind::Runtime, message).with_source(error)
        })?;
        Self::with_handle(handle)
    }

    /// The runtime behind a handle.
    ///
    /// # Errors
    ///
    /// The runtime lacks the time or the I/O driver.
    pub fn with_handle(handle: Handle) -> Result<Self, Error> {
        let zero = tokio_now(&handle);
        let tokio = Self { handle, zero };
        let refuse = |what: &str| {
            let text = format!("the tokio runtime has no {what}; build it with enable_all()");
            Err(Error::new(Kind::Runtime, text))
        };
        if tokio.sleep_until(Instant::ZERO).is_err() {
            return refuse("time driver, so no deadline could be kept");
        }
        if !tokio.has_io() {
            return refuse("I/O driver, so no socket could be opened");
        }
        Ok(tokio)
    }

    /// Whether the runtime serves sockets; tokio panics where it does not. Where the system has no socket to give, the
    /// first export finds out.
    fn has_io(&self) -> bool {
        let probe = || -> io::Result<()> {
            let socket = std::net::UdpSocket::bind((core::net::Ipv4Addr::LOCALHOST, 0))?;
            socket.set_nonblocking(true)?;
            tokio::net::UdpSocket::from_std(socket).map(drop)
        };
        let _entered = self.handle.enter();
        shield(probe).is_some()
    }

    /// The same point in time on tokio's clock; `None` when that clock does not reach so far.
    fn to_tokio(&self, at: Instant) -> Option<tokio::time::Instant> {
        self.zero.checked_add(Duration::from_nanos(at.as_nanos()))
    }

    /// A sleep on the captured runtime; tokio panics where it has no time driver.
    fn sleep_until(&self, at: Instant) -> io::Result<Pin<Box<Sleep>>> {
        let _entered = self.handle.enter();
        let sleep = || match self.to_tokio(at) {
            Some(at) => Box::pin(tokio::time::sleep_until(at)),
            None => Box::pin(tokio::time::sleep(Duration::MAX)),
        };
        shield(sleep).ok_or_else(|| io::Error::other("tokio has no time driver"))
    }
}

/// The time on the clock of a runtime, which its test may have paused.
fn tokio_now(handle: &Handle) -> tokio::time::Instant {
    let _entered = handle.enter();
    tokio::time::Instant::now()
}

impl Runtime for Tokio {
    type Io = TokioSocket;
    type Timer = TokioTimer;
    type Connecting = Entered<io::Result<TokioSocket>>;
    type Resolving = Entered<io::Result<Vec<SocketAddr>>>;

    fn now(&self) -> Instant {
        Instant::ZERO + (tokio_now(&self.handle) - self.zero)
    }

    fn connect(&self, target: &Target) -> Self::Connecting {
        let target = target.clone();
        Entered::new(&self.handle, async move {
            Ok(TokioSocket(match target {
                Target::Tcp(address) => {
                    let stream = TcpStream::connect(address).await?;
                    stream.set_nodelay(true)?;
                    Stream::Tcp(stream)
                }
                #[cfg(unix)]
                Target::Unix(path) => {
                    Stream::Unix(tokio::net::UnixStream::from_std(super::unix::connect(&path)?)?)
                }
                #[cfg(not(unix))]
                Target::Unix(_) => return Err(super::no_unix_sockets()),
            }))
        })
    }

    fn resolve(&self, query: Resolve) -> Self::Resolving {
        let handle = self.handle.clone();
        Entered::new(&self.handle, async move {
            handle
                .spawn_blocking(move || query.run())
                .await
                .map_err(io::Error::other)?
        })
    }

    fn timer(&self) -> TokioTimer {
        TokioTimer {
            tokio: self.clone(),
            sleep: None,
        }
    }
}

/// A future that is polled inside the captured runtime, and whose panic at the end of that runtime is an error.
pub struct Entered<T> {
    handle: Handle,
    future: Pin<Box<dyn Future<Output = T> + Send>>,
}

impl<T> Entered<T> {
    fn new(handle: &Handle, future: impl Future<Output = T> + Send + 'static) -> Self {
        Self {
            handle: handle.clone(),
            future: Box::pin(future),
        }
    }
}

impl<T> Future for Entered<io::Result<T>> {
    type Output = io::Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let _entered = this.handle.enter();
        shield(|| this.future.as_mut().poll(cx)).unwrap_or_else(|| {
            Poll::Ready(Err(io::Error::other(
                "the tokio runtime is gone or has no I/O driver",
            )))
        })
    }
}

/// A socket of tokio.
#[derive(Debug)]
pub struct TokioSocket(Stream);

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(tokio::net::UnixStream),
}

impl Socket for TokioSocket {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(buf);
        let read = match &mut self.0 {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, &mut buf),
            #[cfg(unix)]
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, &mut buf),
        };
        read.map_ok(|()| buf.filled().len())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Stream::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            #[cfg(unix)]
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }
}

/// A timer of tokio.
pub struct TokioTimer {
    tokio: Tokio,
    sleep: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Timer for TokioTimer {
    fn poll_at(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<io::Result<()>> {
        let (set_to, sleep) = match &mut self.sleep {
            Some(set) => set,
            None => {
                let sleep = self.tokio.sleep_until(at)?;
                self.sleep.insert((at, sleep))
            }
        };
        if *set_to != at {
            match self.tokio.to_tokio(at) {
                Some(time) => sleep.as_mut().reset(time),
                None => return Poll::Pending,
            }
            *set_to = at;
        }
        // tokio panics when a sleep is polled after its runtime has ended.
        shield(|| sleep.as_mut().poll(cx))
            .map(|poll| poll.map(Ok))
            .unwrap_or_else(|| {
                Poll::Ready(Err(io::Error::other(
                    "the tokio runtime has ended; shut the exporter down before its runtime",
                )))
            })
    }
}
