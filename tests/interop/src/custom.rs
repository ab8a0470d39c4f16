//! A runtime that is no adapter of the crate: one thread, an executor and a reactor over `poll(2)`, nothing `Send`.
//!
//! It shows all that a runtime of one's own has to bring, and that the exporter asks for no more.

use otlp_embed::endpoint::Target;
use otlp_embed::rt::{Resolve, Runtime, Socket, Timer};
use otlp_embed::time::Instant;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::{Future, Ready, ready};
use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// The runtime. Clones are the same one.
#[derive(Clone)]
pub struct OneThread {
    began: std::time::Instant,
    waits: Rc<RefCell<Waits>>,
}

/// What the thread sleeps for.
#[derive(Default)]
struct Waits {
    next_key: u64,
    sockets: BTreeMap<(u64, Direction), (Rc<TcpStream>, Waker)>,
    timers: BTreeMap<u64, (Instant, Waker)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Direction {
    Read,
    Write,
}

/// A task's waker: it notes that the task is to be polled.
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl OneThread {
    /// A runtime without tasks.
    pub fn new() -> Self {
        Self {
            // The clock of the runtime, which is what a runtime is for.
            #[allow(clippy::disallowed_methods)]
            began: std::time::Instant::now(),
            waits: Rc::default(),
        }
    }

    /// Runs futures side by side to their ends and gives their results in their order.
    pub fn run<F: Future>(&self, futures: Vec<F>) -> Vec<F::Output> {
        let mut tasks: Vec<_> = futures
            .into_iter()
            .map(|future| (Box::pin(future), Arc::new(Flag(AtomicBool::new(true))), None))
            .collect();
        loop {
            let mut is_idle = true;
            for (future, flag, result) in &mut tasks {
                if result.is_none() && flag.0.swap(false, Ordering::Relaxed) {
                    is_idle = false;
                    let waker = Waker::from(flag.clone());
                    if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                        *result = Some(value);
                    }
                }
            }
            if tasks.iter().all(|(_, _, result)| result.is_some()) {
                return tasks.into_iter().filter_map(|(_, _, result)| result).collect();
            }
            if is_idle {
                self.sleep();
            }
        }
    }

    /// Sleeps until a socket is ready or a timer is due, then wakes whoever waits for it.
    fn sleep(&self) {
        let due = {
            let waits = self.waits.borrow();
            let timeout = waits.timers.values().map(|(at, _)| at.since(self.now())).min();
            assert!(
                timeout.is_some() || !waits.sockets.is_empty(),
                "every task waits, and for nothing that could come"
            );
            let timeout = timeout.map(|left| Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: left.subsec_nanos().into(),
            });
            let mut polled: Vec<_> = waits
                .sockets
                .iter()
                .map(|((_, direction), (stream, _))| {
                    let flags = match direction {
                        Direction::Read => PollFlags::IN,
                        Direction::Write => PollFlags::OUT,
                    };
                    PollFd::new(&**stream, flags)
                })
                .collect();
            match rustix::event::poll(&mut polled, timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("poll(2) refuses sockets that are open: {error}"),
            }
            let ready = polled.iter().map(|fd| !fd.revents().is_empty());
            let keys = waits.sockets.keys().copied();
            keys.zip(ready)
                .filter(|(_, ready)| *ready)
                .map(|(key, _)| key)
                .collect::<Vec<_>>()
        };
        // Woken without the borrow: what a waker does is not this runtime's business.
        for waker in self.take_due(&due) {
            waker.wake();
        }
    }

    fn take_due(&self, sockets: &[(u64, Direction)]) -> Vec<Waker> {
        let now = self.now();
        let mut waits = self.waits.borrow_mut();
        let mut wakers: Vec<_> = sockets
            .iter()
            .filter_map(|key| waits.sockets.remove(key).map(|(_, waker)| waker))
            .collect();
        waits.timers.retain(|_, (at, waker)| {
            let is_due = *at <= now;
            if is_due {
                wakers.push(waker.clone());
            }
            !is_due
        });
        wakers
    }

    fn key(&self) -> u64 {
        let mut waits = self.waits.borrow_mut();
        waits.next_key += 1;
        waits.next_key
    }
}

impl Runtime for OneThread {
    type Io = Stream;
    type Timer = Alarm;
    type Connecting = Connecting;
    type Resolving = Ready<io::Result<Vec<SocketAddr>>>;

    fn now(&self) -> Instant {
        let elapsed = {
            #[allow(clippy::disallowed_methods)]
            self.began.elapsed()
        };
        Instant::ZERO + elapsed
    }

    fn connect(&self, target: &Target) -> Connecting {
        Connecting(Some(begin_connect(target).map(|stream| Stream {
            stream: Rc::new(stream),
            key: self.key(),
            runtime: self.clone(),
        })))
    }

    fn resolve(&self, query: Resolve) -> Self::Resolving {
        // It blocks the only thread, which is fit for a test on literal addresses alone.
        ready(query.run())
    }

    fn timer(&self) -> Alarm {
        Alarm {
            key: self.key(),
            runtime: self.clone(),
        }
    }
}

/// A non-blocking socket whose connect has begun.
fn begin_connect(target: &Target) -> io::Result<TcpStream> {
    let Target::Tcp(address) = target else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, address) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket.into()),
        Err(error) => Err(error.into()),
    }
}

/// The opening of a socket.
pub struct Connecting(Option<io::Result<Stream>>);

impl Future for Connecting {
    type Output = io::Result<Stream>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let stream = match self.0.take().expect("a future is not polled after its end") {
            Ok(stream) => stream,
            Err(error) => return Poll::Ready(Err(error)),
        };
        if let Some(error) = stream.stream.take_error()? {
            return Poll::Ready(Err(error));
        }
        match stream.stream.peer_addr() {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                stream.wait(Direction::Write, cx);
                self.0 = Some(Ok(stream));
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error)),
            Ok(_) => Poll::Ready(Ok(stream)),
        }
    }
}

/// A non-blocking socket.
pub struct Stream {
    stream: Rc<TcpStream>,
    key: u64,
    runtime: OneThread,
}

impl Stream {
    fn wait(&self, direction: Direction, cx: &Context<'_>) {
        let wait = (self.stream.clone(), cx.waker().clone());
        self.runtime
            .waits
            .borrow_mut()
            .sockets
            .insert((self.key, direction), wait);
    }

    fn attempt(
        &self,
        cx: &Context<'_>,
        direction: Direction,
        mut io: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            match io(&self.stream) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(direction, cx);
                    return Poll::Pending;
                }
                done => return Poll::Ready(done),
            }
        }
    }
}

impl Socket for Stream {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.attempt(cx, Direction::Read, |mut stream| stream.read(buf))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.attempt(cx, Direction::Write, |mut stream| stream.write_vectored(bufs))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut waits = self.runtime.waits.borrow_mut();
        waits.sockets.remove(&(self.key, Direction::Read));
        waits.sockets.remove(&(self.key, Direction::Write));
    }
}

/// A timer that can be set again.
pub struct Alarm {
    key: u64,
    runtime: OneThread,
}

impl Timer for Alarm {
    fn poll_at(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<io::Result<()>> {
        let mut waits = self.runtime.waits.borrow_mut();
        if self.runtime.now() >= at {
            waits.timers.remove(&self.key);
            return Poll::Ready(Ok(()));
        }
        waits.timers.insert(self.key, (at, cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.runtime.waits.borrow_mut().timers.remove(&self.key);
    }
}
