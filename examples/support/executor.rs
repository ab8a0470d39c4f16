//! An executor and a reactor written by hand: one thread, a queue of tasks, raw non-blocking sockets and `poll(2)`.
//!
//! It shows what an exporter asks of a program that has an event loop of its own: [`Handle`] implements
//! [`Runtime`] with types that never leave their thread.

#![allow(clippy::disallowed_methods, reason = "a runtime is where clocks are read")]

use core::cell::{Cell, RefCell};
use core::future::Future;
use core::net::SocketAddr;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use otlp_embed::endpoint::Target;
use otlp_embed::rt::{Resolve, Runtime, Socket, Timer};
use otlp_embed::time::Instant;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketType};
use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Wake;

/// The event loop: tasks that are ready, and what the others wait for.
#[derive(Clone)]
pub struct Handle(Rc<Loop>);

type Task = Pin<Box<dyn Future<Output = ()>>>;

struct Loop {
    zero: std::time::Instant,
    /// By number; the place of a task that has ended stays empty.
    tasks: RefCell<Vec<Option<Task>>>,
    ready: Arc<Ready>,
    bell: UnixStream,
    waits: RefCell<Vec<Wait>>,
    tokens: Cell<u64>,
}

/// Numbers of tasks to poll. Other threads may add to it, and ring the bell that ends a `poll(2)`.
struct Ready {
    queue: Mutex<VecDeque<usize>>,
    rope: UnixStream,
}

struct TaskWaker {
    task: usize,
    ready: Arc<Ready>,
}

enum Wait {
    Socket {
        token: u64,
        stream: Rc<TcpStream>,
        flags: PollFlags,
        waker: Waker,
    },
    Time {
        token: u64,
        at: Instant,
        waker: Waker,
    },
}

impl Ready {
    fn push(&self, task: usize) {
        self.lock().push_back(task);
        // Full means that it rings already.
        let _ = (&self.rope).write(&[1]);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<usize>> {
        self.queue.lock().expect("nothing panics under the lock")
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.ready.push(self.task);
    }
}

impl Handle {
    /// A loop without tasks.
    pub fn new() -> io::Result<Self> {
        let (bell, rope) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        rope.set_nonblocking(true)?;
        Ok(Self(Rc::new(Loop {
            zero: std::time::Instant::now(),
            tasks: RefCell::default(),
            ready: Arc::new(Ready {
                queue: Mutex::default(),
                rope,
            }),
            bell,
            waits: RefCell::default(),
            tokens: Cell::new(0),
        })))
    }

    /// Adds a task.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let mut tasks = self.0.tasks.borrow_mut();
        tasks.push(Some(Box::pin(task)));
        self.0.ready.push(tasks.len() - 1);
    }

    /// Runs the loop until `future` is ready; other tasks run along.
    pub fn block_on<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> T {
        let output = Rc::new(RefCell::new(None));
        let slot = output.clone();
        self.spawn(async move {
            let value = future.await;
            *slot.borrow_mut() = Some(value);
        });
        loop {
            self.run_ready();
            if let Some(value) = output.borrow_mut().take() {
                return value;
            }
            self.wait();
        }
    }

    /// Polls each task that is ready once. One that wakes itself comes again after the sockets had their turn.
    fn run_ready(&self) {
        let ready = core::mem::take(&mut *self.0.ready.lock());
        for number in ready {
            // A task that was woken twice may have ended in between.
            let Some(mut task) = self.0.tasks.borrow_mut()[number].take() else {
                continue;
            };
            let waker = Waker::from(Arc::new(TaskWaker {
                task: number,
                ready: self.0.ready.clone(),
            }));
            if task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
                self.0.tasks.borrow_mut()[number] = Some(task);
            }
        }
    }

    /// One `poll(2)` over everything that tasks wait for.
    fn wait(&self) {
        let waits = self.0.waits.take();
        let mut fds = vec![PollFd::new(&self.0.bell, PollFlags::IN)];
        let mut until = None::<Instant>;
        for wait in &waits {
            match wait {
                Wait::Socket { stream, flags, .. } => fds.push(PollFd::new(stream, *flags)),
                Wait::Time { at, .. } => until = Some(until.map_or(*at, |earlier| earlier.min(*at))),
            }
        }
        let timeout = until.map(|at| {
            let left = at.since(self.now());
            Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: left.subsec_nanos().into(),
            }
        });
        // A signal may end it early: the tasks then find nothing new.
        let _ = poll(&mut fds, timeout.as_ref());
        let _ = (&self.0.bell).read(&mut [0; 64]);
        let mut seen = fds[1..]
            .iter()
            .map(|fd| !fd.revents().is_empty())
            .collect::<Vec<_>>()
            .into_iter();
        drop(fds);
        let now = self.now();
        for wait in waits {
            let is_due = match &wait {
                Wait::Socket { .. } => seen.next().unwrap_or(true),
                Wait::Time { at, .. } => *at <= now,
            };
            match wait {
                Wait::Socket { waker, .. } | Wait::Time { waker, .. } if is_due => waker.wake(),
                wait => self.0.waits.borrow_mut().push(wait),
            }
        }
    }

    fn token(&self) -> u64 {
        self.0.tokens.set(self.0.tokens.get() + 1);
        self.0.tokens.get()
    }

    fn forget(&self, token: u64) {
        self.0.waits.borrow_mut().retain(|wait| wait.token() != token);
    }

    fn await_socket(&self, token: u64, stream: &Rc<TcpStream>, flags: PollFlags, cx: &Context<'_>) {
        let mut waits = self.0.waits.borrow_mut();
        waits.retain(
            |wait| !matches!(wait, Wait::Socket { token: t, flags: f, .. } if *t == token && *f == flags),
        );
        waits.push(Wait::Socket {
            token,
            stream: stream.clone(),
            flags,
            waker: cx.waker().clone(),
        });
    }
}

impl Wait {
    fn token(&self) -> u64 {
        match self {
            Self::Socket { token, .. } | Self::Time { token, .. } => *token,
        }
    }
}

impl Runtime for Handle {
    type Io = LoopSocket;
    type Timer = LoopTimer;
    type Connecting = LoopConnecting;
    type Resolving = core::future::Ready<io::Result<Vec<SocketAddr>>>;

    fn now(&self) -> Instant {
        Instant::ZERO + self.0.zero.elapsed()
    }

    fn connect(&self, target: &Target) -> LoopConnecting {
        let socket = match target {
            Target::Tcp(address) => begin_connect(*address),
            Target::Unix(path) => connect_unix(path),
            other => Err(io::Error::other(format!("no way to connect to {other}"))),
        };
        LoopConnecting(
            socket
                .map(|stream| LoopSocket {
                    stream: Rc::new(stream),
                    token: self.token(),
                    handle: self.clone(),
                })
                .map_err(Some),
        )
    }

    /// Blocks the loop for as long as the system's resolver takes; a program that minds asks a thread.
    fn resolve(&self, query: Resolve) -> Self::Resolving {
        core::future::ready(query.run())
    }

    fn timer(&self) -> LoopTimer {
        LoopTimer {
            token: self.token(),
            handle: self.clone(),
        }
    }
}

/// A raw non-blocking socket.
pub struct LoopSocket {
    stream: Rc<TcpStream>,
    token: u64,
    handle: Handle,
}

impl LoopSocket {
    fn attempt(
        &self,
        cx: &Context<'_>,
        flags: PollFlags,
        io: impl FnOnce(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        match io(&self.stream) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                self.handle.await_socket(self.token, &self.stream, flags, cx);
                Poll::Pending
            }
            result => Poll::Ready(result),
        }
    }
}

impl Socket for LoopSocket {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.attempt(cx, PollFlags::IN, |mut stream| stream.read(buf))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.attempt(cx, PollFlags::OUT, |mut stream| stream.write_vectored(bufs))
    }
}

impl Drop for LoopSocket {
    fn drop(&mut self) {
        self.handle.forget(self.token);
    }
}

/// A socket on its way, or why there is none.
pub struct LoopConnecting(Result<LoopSocket, Option<io::Error>>);

impl Future for LoopConnecting {
    type Output = io::Result<LoopSocket>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let socket = match &mut self.0 {
            Ok(socket) => socket,
            Err(error) => {
                return error
                    .take()
                    .map_or(Poll::Pending, |error| Poll::Ready(Err(error)));
            }
        };
        if let Some(error) = socket.stream.take_error()? {
            return Poll::Ready(Err(error));
        }
        if rustix::net::getpeername(&socket.stream).is_err() {
            socket
                .handle
                .await_socket(socket.token, &socket.stream, PollFlags::OUT, cx);
            return Poll::Pending;
        }
        core::mem::replace(&mut self.0, Err(None)).map_or(Poll::Pending, |socket| Poll::Ready(Ok(socket)))
    }
}

fn begin_connect(address: SocketAddr) -> io::Result<TcpStream> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let stream = TcpStream::from(rustix::net::socket(family, SocketType::STREAM, None)?);
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    match rustix::net::connect(&stream, &address) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(stream),
        Err(error) => Err(error.into()),
    }
}

/// Such a connect does not wait. std reads and writes any stream socket through `TcpStream`.
fn connect_unix(path: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::from(OwnedFd::from(UnixStream::connect(path)?));
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// A timer of the loop.
pub struct LoopTimer {
    token: u64,
    handle: Handle,
}

impl Timer for LoopTimer {
    fn poll_at(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<io::Result<()>> {
        self.handle.forget(self.token);
        if self.handle.now() >= at {
            return Poll::Ready(Ok(()));
        }
        self.handle.0.waits.borrow_mut().push(Wait::Time {
            token: self.token,
            at,
            waker: cx.waker().clone(),
        });
        Poll::Pending
    }
}

impl Drop for LoopTimer {
    fn drop(&mut self) {
        self.handle.forget(self.token);
    }
}

/// Lets `duration` pass without blocking the loop.
#[allow(dead_code, reason = "not every program that uses this loop sleeps")]
pub async fn sleep(handle: &Handle, duration: Duration) {
    let mut timer = handle.timer();
    let at = handle.now() + duration;
    // A timer of the loop never fails.
    let _ = core::future::poll_fn(|cx| timer.poll_at(cx, at)).await;
}
