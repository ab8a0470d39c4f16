//! A runtime without any reactor: each event wakes once, in the gap, and never again.

use core::cell::RefCell;
use core::future::{Future, Ready, ready};
use core::net::SocketAddr;
use core::task::{Context, Poll, Waker};
use otlp_embed::endpoint::Target;
use otlp_embed::rt::{Resolve, Runtime, Socket, Timer};
use otlp_embed::testing::Collector;
use otlp_embed::testing::collector::{Builder, ServerSession};
use otlp_embed::time::Instant;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;

/// Bytes that the peer says at a time.
const CHUNK: usize = 9;

#[derive(Clone)]
pub struct InMemory(Rc<RefCell<Builder>>);

impl InMemory {
    pub fn new() -> Self {
        Self(Rc::new(RefCell::new(Collector::builder())))
    }
}

/// Runs `future`, which must not wait unless its waker has fired.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    struct Flag(AtomicBool);
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let flag = Arc::new(Flag(AtomicBool::new(false)));
    let waker = Waker::from(flag.clone());
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        assert!(
            flag.0.swap(false, Ordering::SeqCst),
            "the future sleeps and nothing will ever wake it"
        );
    }
}

impl Runtime for InMemory {
    type Io = Pipe;
    type Timer = Never;
    type Connecting = Ready<io::Result<Pipe>>;
    type Resolving = Ready<io::Result<Vec<SocketAddr>>>;

    fn now(&self) -> Instant {
        Instant::ZERO
    }

    fn connect(&self, _: &Target) -> Self::Connecting {
        let session = self.0.borrow().session(1);
        ready(Ok(Pipe {
            session,
            egress: VecDeque::new(),
            ready: 0,
            waker: None,
        }))
    }

    fn resolve(&self, _: Resolve) -> Self::Resolving {
        ready(Err(io::ErrorKind::Unsupported.into()))
    }

    fn timer(&self) -> Never {
        Never
    }
}

/// The end of a connection to a collector in memory.
pub struct Pipe {
    session: ServerSession,
    egress: VecDeque<u8>,
    /// Bytes that may be read; the rest has not arrived.
    ready: usize,
    waker: Option<Waker>,
}

impl Socket for Pipe {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.ready == 0 {
            self.waker = Some(cx.waker().clone());
            self.session.handle_input(Instant::ZERO, &[]);
            while let Some(bytes) = self.session.poll_transmit() {
                self.egress.extend(bytes);
            }
            // Here, in the gap, the next bytes arrive.
            self.ready = self.egress.len().min(CHUNK);
            if self.ready > 0 {
                self.waker.take().expect("just set").wake();
            }
            return Poll::Pending;
        }
        let count = self.ready.min(buf.len());
        self.ready -= count;
        for (place, byte) in buf.iter_mut().zip(self.egress.drain(..count)) {
            *place = byte;
        }
        Poll::Ready(Ok(count))
    }

    fn poll_write(&mut self, _: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        bufs.iter()
            .for_each(|buf| self.session.handle_input(Instant::ZERO, buf));
        Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()))
    }
}

/// A timer that never fires: no deadline comes to the help of a lost event.
pub struct Never;

impl Timer for Never {
    fn poll_at(&mut self, _: &mut Context<'_>, _: Instant) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}
