//! The collector's thread: sockets, `poll(2)` and a clock around the sessions.

mod connection;
mod socket;

use super::builder::{Builder, Settings};
use super::handle::Accepting;
use super::inbox::Inbox;
use super::session::ServerSession;
use crate::time::Instant;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use connection::Connection;
use core::net::Ipv4Addr;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use rustix::event::{PollFd, PollFlags, Timespec};
pub(super) use socket::Address;
use socket::Listener;
use std::io;
use std::net::UdpSocket;
use std::sync::mpsc;

/// What the user asks of the thread; the sender is told when it is done.
pub(super) struct Command {
    pub(super) order: Order,
    pub(super) done: mpsc::SyncSender<io::Result<()>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    Pause(bool),
    Accept(Accepting),
    /// Tears down this share of the connections, those first that were accepted first.
    Kill(f64),
    Drain,
    Stop,
}

/// Everything the thread owns.
pub(super) struct Server {
    addr: Address,
    listener: Option<Listener>,
    accepting: Accepting,
    /// When to accept again after the system had no socket to give.
    accept_again: Option<Instant>,
    is_paused: bool,
    wake: UdpSocket,
    commands: mpsc::Receiver<Command>,
    settings: Settings,
    inbox: Inbox,
    connections_max: usize,
    connections: Vec<Connection>,
    /// How many there are, for the user.
    open: Arc<AtomicUsize>,
    next_number: u64,
    clock: Clock,
    buffer: Box<[u8]>,
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What a client in a hurry writes at a time comes in one or two reads.
const READ_BYTES: usize = 256 << 10;

/// A socket that wakes the thread when something is sent to it. Connected to itself, so that nobody else can.
pub(super) fn wake_socket() -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(socket.local_addr()?)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

impl Server {
    pub(super) fn new(
        builder: Builder,
        addr: Address,
        listener: Listener,
        wake: UdpSocket,
        commands: mpsc::Receiver<Command>,
        open: Arc<AtomicUsize>,
    ) -> Self {
        Self {
            addr,
            listener: Some(listener),
            accepting: Accepting::Serve,
            accept_again: None,
            is_paused: false,
            wake,
            commands,
            settings: builder.protocol,
            inbox: builder.inbox,
            connections_max: builder.connections_max,
            connections: Vec::new(),
            open,
            next_number: 0,
            clock: Clock::start(),
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
        }
    }

    /// Serves until it is told to stop or its user is gone.
    pub(super) fn run(mut self) {
        loop {
            let Ok(ready) = self.wait() else { return };
            // An application that exports its own spans to this collector would never come to rest.
            let _quiet = crate::protocol::quiet(true);
            if ready.wake && !self.obey() {
                return;
            }
            if self.is_paused {
                continue;
            }
            let now = self.clock.now();
            for (connection, events) in self.connections.iter_mut().zip(ready.connections) {
                connection.serve(now, events, &mut self.buffer);
            }
            if ready.listener {
                self.accept(now);
            }
            self.connections.retain(|connection| !connection.is_over());
            self.count_open();
        }
    }

    fn count_open(&self) {
        self.open.store(self.connections.len(), Ordering::Release);
    }

    /// Blocks until a socket is ready or a timeout is due.
    fn wait(&mut self) -> io::Result<Ready> {
        let mut fds = Vec::with_capacity(2 + self.connections.len());
        fds.push(PollFd::new(&self.wake, PollFlags::IN));
        let mut has_listener = false;
        let mut until = None;
        let now = self.clock.now();
        if !self.is_paused {
            self.accept_again = self.accept_again.filter(|at| *at > now);
            until = self.accept_again;
            for connection in &self.connections {
                fds.push(connection.socket().poll_fd(connection.interest()));
                until = [until, connection.timeout()].into_iter().flatten().min();
            }
            if let (Some(listener), None) = (&self.listener, self.accept_again) {
                fds.push(listener.poll_fd(PollFlags::IN));
                has_listener = true;
            }
        }
        let timeout = until.map(|until| timespec(until.since(now)));
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut events = fds.iter().map(PollFd::revents);
        let wake = events.next().is_some_and(|events| !events.is_empty());
        let mut connections: Vec<_> = events.collect();
        let listener = has_listener && connections.pop().is_some_and(|events| !events.is_empty());
        Ok(Ready {
            wake,
            listener,
            connections,
        })
    }

    /// Does what the user asked for; tells whether to go on.
    fn obey(&mut self) -> bool {
        let mut byte = [0];
        while self.wake.recv(&mut byte).is_ok() {}
        loop {
            match self.commands.try_recv() {
                Ok(Command {
                    order: Order::Stop, ..
                })
                | Err(mpsc::TryRecvError::Disconnected) => return false,
                Err(mpsc::TryRecvError::Empty) => return true,
                Ok(Command { order, done }) => {
                    // A user who does not wait is none to tell.
                    let _ = done.try_send(self.execute(order));
                }
            }
        }
    }

    fn execute(&mut self, order: Order) -> io::Result<()> {
        let now = self.clock.now();
        match order {
            Order::Stop => {}
            Order::Pause(is_paused) => self.is_paused = is_paused,
            Order::Kill(share) => {
                let count = self.connections.len();
                // Casts of floats saturate.
                let dead = ((count as f64 * share).ceil() as usize).min(count);
                self.connections
                    .drain(..dead)
                    .for_each(|connection| connection.abort());
                self.count_open();
            }
            Order::Drain => {
                for connection in &mut self.connections {
                    connection.drain(now);
                }
            }
            Order::Accept(accepting) => {
                if accepting == Accepting::Refuse {
                    self.listener = None;
                } else if self.listener.is_none() {
                    // The path of a Unix socket stays when nobody listens on it any more.
                    self.addr.vacate();
                    self.listener = Some(self.addr.listen()?);
                }
                self.accepting = accepting;
            }
        }
        Ok(())
    }

    fn accept(&mut self, now: Instant) {
        let Some(listener) = &self.listener else { return };
        loop {
            let socket = match listener.accept() {
                Ok(socket) => socket,
                Err(error) => {
                    use io::ErrorKind::{ConnectionAborted, Interrupted, WouldBlock};
                    match error.kind() {
                        Interrupted | ConnectionAborted => continue,
                        WouldBlock => {}
                        _ => self.accept_again = Some(now + ACCEPT_PAUSE),
                    }
                    return;
                }
            };
            if self.accepting == Accepting::CloseAtOnce || self.connections.len() >= self.connections_max {
                continue;
            }
            let session = ServerSession::new(self.next_number, self.settings.clone(), self.inbox.clone());
            self.next_number += 1;
            self.connections.push(Connection::new(now, socket, session));
        }
    }
}

/// What `poll(2)` found.
struct Ready {
    wake: bool,
    listener: bool,
    /// In the order of the connections; none while paused.
    connections: Vec<PollFlags>,
}

fn timespec(duration: Duration) -> Timespec {
    // `poll(2)` counts milliseconds on some systems: an hour is as good as for ever.
    let duration = duration.min(Duration::from_secs(3600));
    Timespec::try_from(duration).expect("an hour fits")
}

/// The collector's own clock: it serves real sockets, so that no virtual time can be its measure.
struct Clock(std::time::Instant);

impl Clock {
    #[allow(
        clippy::disallowed_methods,
        reason = "the shell of the collector is where its time comes from"
    )]
    fn start() -> Self {
        Self(std::time::Instant::now())
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "the shell of the collector is where its time comes from"
    )]
    fn now(&self) -> Instant {
        Instant::ZERO + self.0.elapsed()
    }
}
