//! Plain threads: sockets of std, waited for with `poll(2)`.

use super::reactor::{Direction, Parker, Reactor, Token};
use super::stream::Stream;
use super::{Resolve, Runtime, Socket, Timer};
use crate::endpoint::Target;
use crate::error::{Error, Kind};
use crate::export::lock;
use crate::time::Instant;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::Future;
use core::net::SocketAddr;
use core::pin::Pin;
use core::task::{Context, Poll};
use futures_util::task::AtomicWaker;
use rustix::net::{AddressFamily, SocketType};
use std::io::{self, IoSlice};
use std::net::TcpStream;
use std::sync::Mutex;

/// A runtime for threads without an executor, on Unix.
///
/// A future of an exporter on this runtime blocks its thread when it is polled, and is ready at its first poll: call
/// `wait()`, or poll it in any `block_on`. Any number of threads share an exporter: one of them waits for the sockets
/// and the others for it, each until its own deadline.
///
/// It belongs to the process that made it: in a child of `fork(2)` make a new one.
///
/// It starts no thread, except one for each name that is resolved, which is left behind when the deadline passes.
#[derive(Clone, Debug)]
pub struct Blocking {
    reactor: Arc<Reactor>,
}

impl Blocking {
    /// A runtime of its own; exporters may share it.
    ///
    /// # Errors
    ///
    /// The process can open no further socket.
    pub fn new() -> Result<Self, Error> {
        let reactor = Reactor::new().map_err(|error| {
            Error::new(
                Kind::Runtime,
                "rt::Blocking::new: the process can open no pair of sockets",
            )
            .with_source(error)
        })?;
        Ok(Self {
            reactor: Arc::new(reactor),
        })
    }
}

impl Runtime for Blocking {
    type Io = BlockingSocket;
    type Timer = BlockingTimer;
    type Connecting = BlockingConnecting;
    type Resolving = BlockingResolving;

    fn now(&self) -> Instant {
        self.reactor.clock.now()
    }

    fn connect(&self, target: &Target) -> BlockingConnecting {
        BlockingConnecting {
            reactor: self.reactor.clone(),
            state: Connecting::Begin(target.clone()),
        }
    }

    fn resolve(&self, query: Resolve) -> BlockingResolving {
        BlockingResolving::start(query)
    }

    fn timer(&self) -> BlockingTimer {
        BlockingTimer {
            token: self.reactor.timer(),
            reactor: self.reactor.clone(),
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.reactor, &other.reactor)
    }

    fn drive<T>(&self, _: &mut Context<'_>, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        Poll::Ready(Parker::run(&self.reactor, |waker| {
            poll(&mut Context::from_waker(waker))
        }))
    }
}

/// A socket of std, non-blocking.
#[derive(Debug)]
pub struct BlockingSocket {
    stream: Arc<Stream>,
    token: Token,
    reactor: Arc<Reactor>,
}

impl BlockingSocket {
    /// Tries `io` while the socket is worth a try. What took or gave less than `wanted` has exhausted the socket.
    fn attempt(
        &self,
        cx: &mut Context<'_>,
        direction: Direction,
        wanted: usize,
        mut io: impl FnMut(&Stream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        while self.reactor.is_ready(self.token, direction, cx.waker()) {
            match io(&self.stream) {
                Ok(count) => {
                    if 0 < count && count < wanted {
                        self.reactor.exhausted(self.token, direction);
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.reactor.exhausted(self.token, direction);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Pending
    }
}

impl Socket for BlockingSocket {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.attempt(cx, Direction::Read, buf.len(), |stream| stream.read(buf))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let wanted = bufs.iter().map(|buf| buf.len()).sum();
        self.attempt(cx, Direction::Write, wanted, |stream| stream.write_vectored(bufs))
    }
}

impl Drop for BlockingSocket {
    fn drop(&mut self) {
        self.reactor.remove(self.token);
    }
}

/// A timer of the reactor.
#[derive(Debug)]
pub struct BlockingTimer {
    token: Token,
    reactor: Arc<Reactor>,
}

impl Timer for BlockingTimer {
    fn poll_at(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<io::Result<()>> {
        self.reactor.check()?;
        if self.reactor.clock.now() >= at {
            return Poll::Ready(Ok(()));
        }
        self.reactor.set_timer(self.token, at, cx.waker());
        Poll::Pending
    }
}

impl Drop for BlockingTimer {
    fn drop(&mut self) {
        self.reactor.remove(self.token);
    }
}

/// The opening of a socket.
#[derive(Debug)]
pub struct BlockingConnecting {
    reactor: Arc<Reactor>,
    state: Connecting,
}

#[derive(Debug)]
enum Connecting {
    Begin(Target),
    Waiting(BlockingSocket),
    Done,
}

impl Future for BlockingConnecting {
    type Output = io::Result<BlockingSocket>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Connecting::Begin(target) = &this.state {
            this.reactor.check()?;
            let stream = Arc::new(begin_connect(target)?);
            let token = this.reactor.insert(stream.clone(), false);
            this.state = Connecting::Waiting(BlockingSocket {
                stream,
                token,
                reactor: this.reactor.clone(),
            });
        }
        match core::mem::replace(&mut this.state, Connecting::Done) {
            Connecting::Waiting(socket)
                if !this.reactor.is_ready(socket.token, Direction::Write, cx.waker()) =>
            {
                this.state = Connecting::Waiting(socket);
                Poll::Pending
            }
            Connecting::Waiting(socket) => {
                socket.stream.finish_connect()?;
                Poll::Ready(Ok(socket))
            }
            Connecting::Begin(_) | Connecting::Done => Poll::Pending,
        }
    }
}

/// Starts to connect without waiting; the socket is writable once it is known how that went.
fn begin_connect(target: &Target) -> io::Result<Stream> {
    let address = match target {
        Target::Tcp(address) => address,
        Target::Unix(path) => return super::unix::connect(path).map(Stream::Unix),
    };
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let fd = rustix::net::socket(family, SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
    let stream = TcpStream::from(fd);
    stream.set_nonblocking(true)?;
    match rustix::net::connect(&stream, address) {
        // A connect that a signal interrupted goes on like any other.
        Ok(()) | Err(rustix::io::Errno::INPROGRESS | rustix::io::Errno::INTR) => Ok(Stream::Tcp(stream)),
        Err(error) => Err(error.into()),
    }
}

/// A name being resolved on a thread of its own.
#[derive(Debug)]
pub struct BlockingResolving {
    answer: Arc<Answer>,
}

#[derive(Debug, Default)]
struct Answer {
    addresses: Mutex<Option<io::Result<Vec<SocketAddr>>>>,
    waker: AtomicWaker,
}

impl BlockingResolving {
    fn start(query: Resolve) -> Self {
        let answer = Arc::new(Answer::default());
        let shared = answer.clone();
        let run = move || {
            let addresses = query.run();
            *lock(&shared.addresses) = Some(addresses);
            shared.waker.wake();
        };
        if let Err(error) = std::thread::Builder::new().name("otlp-resolve".into()).spawn(run) {
            *lock(&answer.addresses) = Some(Err(error));
        }
        Self { answer }
    }
}

impl Future for BlockingResolving {
    type Output = io::Result<Vec<SocketAddr>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Before the look, so that an answer after the look finds it.
        self.answer.waker.register(cx.waker());
        lock(&self.answer.addresses)
            .take()
            .map_or(Poll::Pending, Poll::Ready)
    }
}
