//! A runtime whose peer moves only in the instant after a read found nothing and before it says so.
//!
//! Each event thus falls between the look at the socket and the return of `Pending`, where a careless future would miss
//! it and sleep until its deadline.

use core::future::Future;
use core::net::SocketAddr;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use otlp_embed::endpoint::Target;
use otlp_embed::rt::{Resolve, Runtime, Socket};
use otlp_embed::testing::Collector;
use otlp_embed::testing::collector::{Builder, ServerSession};
use otlp_embed::time::Instant;
use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Bytes that the peer says at a time.
const CHUNK: usize = 9;

#[derive(Clone)]
pub struct Interposed<R> {
    inner: R,
    peer: Arc<Mutex<Peer>>,
}

pub struct Peer {
    pub builder: Builder,
    /// How often a read found nothing.
    pub steps: usize,
    listener: TcpListener,
    connections: Vec<(TcpStream, ServerSession, VecDeque<u8>)>,
}

impl<R> Interposed<R> {
    pub fn new(inner: R) -> (Self, Arc<Mutex<Peer>>, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("it is bound");
        let peer = Peer {
            builder: Collector::builder(),
            steps: 0,
            listener,
            connections: Vec::new(),
        };
        let peer = Arc::new(Mutex::new(peer));
        (
            Self {
                inner,
                peer: peer.clone(),
            },
            peer,
            address,
        )
    }
}

impl Peer {
    fn step(&mut self) {
        self.steps += 1;
        while let Ok((stream, _)) = self.listener.accept() {
            stream.set_nonblocking(true).expect("a socket");
            stream.set_nodelay(true).expect("a socket");
            let number = self.connections.len() as u64;
            self.connections
                .push((stream, self.builder.session(number), VecDeque::new()));
        }
        for (stream, session, egress) in &mut self.connections {
            let mut buffer = [0; 4096];
            loop {
                match stream.read(&mut buffer) {
                    Ok(count) if count > 0 => session.handle_input(Instant::ZERO, &buffer[..count]),
                    _ => break,
                }
            }
            session.handle_input(Instant::ZERO, &[]);
            while let Some(bytes) = session.poll_transmit() {
                egress.extend(bytes);
            }
            let chunk: Vec<u8> = egress.drain(..egress.len().min(CHUNK)).collect();
            // The exporter may have closed it meanwhile.
            let _ = stream.write_all(&chunk);
        }
    }
}

impl<R: Runtime> Runtime for Interposed<R> {
    type Io = InterposedIo<R::Io>;
    type Timer = R::Timer;
    type Connecting = InterposedConnecting<R::Connecting>;
    type Resolving = R::Resolving;

    fn now(&self) -> Instant {
        self.inner.now()
    }

    fn connect(&self, target: &Target) -> Self::Connecting {
        InterposedConnecting {
            inner: Box::pin(self.inner.connect(target)),
            peer: self.peer.clone(),
        }
    }

    fn resolve(&self, query: Resolve) -> Self::Resolving {
        self.inner.resolve(query)
    }

    fn timer(&self) -> Self::Timer {
        self.inner.timer()
    }

    fn drive<T>(&self, cx: &mut Context<'_>, poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        self.inner.drive(cx, poll)
    }
}

pub struct InterposedConnecting<F> {
    inner: Pin<Box<F>>,
    peer: Arc<Mutex<Peer>>,
}

impl<F: Future<Output = io::Result<T>>, T> Future for InterposedConnecting<F> {
    type Output = io::Result<InterposedIo<T>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let inner = ready!(self.inner.as_mut().poll(cx))?;
        Poll::Ready(Ok(InterposedIo {
            inner,
            peer: self.peer.clone(),
        }))
    }
}

pub struct InterposedIo<T> {
    inner: T,
    peer: Arc<Mutex<Peer>>,
}

impl<T: Socket> Socket for InterposedIo<T> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = self.inner.poll_read(cx, buf);
        if read.is_pending() {
            self.peer.lock().expect("no step panics").step();
        }
        read
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.inner.poll_write(cx, bufs)
    }
}
