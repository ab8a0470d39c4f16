//! A runtime whose peer moves when the test says so, and which fails as the test asks.

use core::cell::{Cell, RefCell};
use core::future::{Future, Ready, ready};
use core::net::SocketAddr;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use otlp_embed::endpoint::Target;
use otlp_embed::rt::{Resolve, Runtime, Socket, Timer};
use otlp_embed::testing::Collector;
use otlp_embed::testing::collector::{Builder, ServerSession};
use otlp_embed::time::Instant;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;

/// Where the runtime panics, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Panic {
    Connect,
    Connecting,
    Read,
    Write,
    Timer,
}

/// Bytes that the peer says at a time.
const CHUNK: usize = 9;

#[derive(Clone)]
pub struct Manual(Rc<Shared>);

struct Shared {
    builder: RefCell<Builder>,
    peers: RefCell<Vec<Peer>>,
    /// Sockets open, or are refused.
    connects: Cell<bool>,
    /// The next read finds nothing, and the peer's bytes arrive before it says so.
    arrives_in_gap: Cell<bool>,
    panics: Cell<Option<Panic>>,
}

struct Peer {
    session: ServerSession,
    /// What the peer has said.
    ingress: VecDeque<u8>,
    /// How many bytes of it may be read; the rest has not arrived.
    arrived: usize,
    waker: Option<Waker>,
}

impl Manual {
    pub fn new() -> Self {
        Self(Rc::new(Shared {
            builder: RefCell::new(Collector::builder()),
            peers: RefCell::default(),
            connects: Cell::new(true),
            arrives_in_gap: Cell::new(false),
            panics: Cell::new(None),
        }))
    }

    /// Every socket is refused from now on.
    pub fn refuse_to_connect(&self) {
        self.0.connects.set(false);
    }

    pub fn panic_next(&self, place: Panic) {
        self.0.panics.set(Some(place));
    }

    /// The peer's next bytes arrive in the gap of the next read.
    pub fn arrive_in_gap(&self) {
        self.0.arrives_in_gap.set(true);
    }

    /// Some bytes of every peer arrive, and wake who waits for them.
    pub fn step(&self) {
        let wakers: Vec<Waker> = self
            .0
            .peers
            .borrow_mut()
            .iter_mut()
            .filter_map(|peer| peer.step(CHUNK))
            .collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    fn panic_at(&self, place: Panic) {
        if self.0.panics.get() == Some(place) {
            self.0.panics.set(None);
            panic!("a runtime that panics at {place:?}");
        }
    }
}

impl Peer {
    fn step(&mut self, bytes_max: usize) -> Option<Waker> {
        self.session.handle_input(Instant::ZERO, &[]);
        while let Some(bytes) = self.session.poll_transmit() {
            self.ingress.extend(bytes);
        }
        let count = bytes_max.min(self.ingress.len() - self.arrived);
        self.arrived += count;
        self.waker.take_if(|_| count > 0)
    }
}

impl Runtime for Manual {
    type Io = Pipe;
    type Timer = Never;
    type Connecting = Connecting;
    type Resolving = Ready<io::Result<Vec<SocketAddr>>>;

    fn now(&self) -> Instant {
        Instant::ZERO
    }

    fn connect(&self, _: &Target) -> Connecting {
        self.panic_at(Panic::Connect);
        Connecting(self.clone())
    }

    fn resolve(&self, _: Resolve) -> Self::Resolving {
        ready(Err(io::ErrorKind::Unsupported.into()))
    }

    fn timer(&self) -> Never {
        Never(self.clone())
    }
}

pub struct Connecting(Manual);

impl Future for Connecting {
    type Output = io::Result<Pipe>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.panic_at(Panic::Connecting);
        if !self.0.0.connects.get() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into()));
        }
        let mut peers = self.0.0.peers.borrow_mut();
        let session = self.0.0.builder.borrow().session(peers.len() as u64);
        peers.push(Peer {
            session,
            ingress: VecDeque::new(),
            arrived: 0,
            waker: None,
        });
        Poll::Ready(Ok(Pipe {
            runtime: self.0.clone(),
            index: peers.len() - 1,
        }))
    }
}

pub struct Pipe {
    runtime: Manual,
    index: usize,
}

impl Socket for Pipe {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.runtime.panic_at(Panic::Read);
        let mut peers = self.runtime.0.peers.borrow_mut();
        let peer = &mut peers[self.index];
        if peer.arrived == 0 {
            peer.waker = Some(cx.waker().clone());
            if self.runtime.0.arrives_in_gap.take() {
                peer.step(usize::MAX)
                    .expect("the peer has something to say")
                    .wake();
            }
            return Poll::Pending;
        }
        let count = peer.arrived.min(buf.len());
        peer.arrived -= count;
        for (place, byte) in buf.iter_mut().zip(peer.ingress.drain(..count)) {
            *place = byte;
        }
        Poll::Ready(Ok(count))
    }

    fn poll_write(&mut self, _: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.runtime.panic_at(Panic::Write);
        let mut peers = self.runtime.0.peers.borrow_mut();
        bufs.iter()
            .for_each(|buf| peers[self.index].session.handle_input(Instant::ZERO, buf));
        Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()))
    }
}

/// A timer that never fires: no deadline comes to the help of a lost event.
pub struct Never(Manual);

impl Timer for Never {
    fn poll_at(&mut self, _: &mut Context<'_>, _: Instant) -> Poll<io::Result<()>> {
        self.0.panic_at(Panic::Timer);
        Poll::Pending
    }
}

/// A task that tells whether it was woken.
pub struct Task<F> {
    future: Pin<Box<F>>,
    flag: Arc<Flag>,
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl<F: Future> Task<F> {
    pub fn new(future: F) -> Self {
        Self {
            future: Box::pin(future),
            flag: Arc::new(Flag(AtomicBool::new(false))),
        }
    }

    pub fn poll(&mut self) -> Poll<F::Output> {
        let waker = Waker::from(self.flag.clone());
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    /// Whether it was woken since the last question.
    pub fn was_woken(&self) -> bool {
        self.flag.0.swap(false, Ordering::SeqCst)
    }
}
