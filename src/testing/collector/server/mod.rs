//! The collector's thread: sockets, `poll(2)` and a clock around the sessions.

use super::builder::{Builder, Settings};
use super::handle::Accepting;
use super::inbox::Inbox;
use super::session::{Fate, ServerSession};
use crate::time::Instant;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddr};
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use rustix::event::{PollFd, PollFlags, Timespec};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc;
use tracing::dispatcher::{self, DefaultGuard, Dispatch};
use tracing::level_filters::LevelFilter;

/// What the user asks of the thread; the sender is told when it is done.
pub(super) struct Command {
    pub(super) order: Order,
    pub(super) done: mpsc::SyncSender<io::Result<()>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    Pause(bool),
    Accept(Accepting),
    Kill,
    Drain,
    Stop,
}

/// Everything the thread owns.
pub(super) struct Server {
    addr: SocketAddr,
    listener: Option<TcpListener>,
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

struct Connection {
    socket: TcpStream,
    session: ServerSession,
    egress: Vec<u8>,
    /// Bytes of `egress` that the socket has taken.
    written: usize,
    stage: Stage,
}

#[derive(Clone, Copy)]
enum Stage {
    Serving,
    /// What is left is written, then our side is shut, then what the client still sends is thrown away: closing with
    /// unread bytes would reset the connection and with it bytes that the client has not read.
    Closing {
        until: Instant,
        is_shut: bool,
    },
    Over,
}

/// Unwritten bytes above which a connection is not read: the answers to a flood must not pile up.
const EGRESS_BYTES_MAX: usize = 1 << 20;
/// Reads of one connection before others have their turn.
const READS_MAX: usize = 16;
const READ_BYTES: usize = 64 << 10;
const LINGER: Duration = Duration::from_secs(1);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
        listener: TcpListener,
        wake: UdpSocket,
        commands: mpsc::Receiver<Command>,
        open: Arc<AtomicUsize>,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self {
            addr: listener.local_addr()?,
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
        })
    }

    /// Serves until it is told to stop or its user is gone.
    pub(super) fn run(mut self) {
        loop {
            let Ok(ready) = self.wait() else { return };
            let _silence = silence();
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
            self.connections
                .retain(|connection| !matches!(connection.stage, Stage::Over));
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
                fds.push(PollFd::new(&connection.socket, connection.interest()));
                until = [until, connection.timeout()].into_iter().flatten().min();
            }
            if let (Some(listener), None) = (&self.listener, self.accept_again) {
                fds.push(PollFd::new(listener, PollFlags::IN));
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
            Order::Kill => {
                self.connections
                    .drain(..)
                    .for_each(|connection| connection.abort());
                self.count_open();
            }
            Order::Drain => {
                for connection in &mut self.connections {
                    connection.session.drain(now);
                    connection.flush(now);
                }
            }
            Order::Accept(accepting) => {
                if accepting == Accepting::Refuse {
                    self.listener = None;
                } else if self.listener.is_none() {
                    let listener = TcpListener::bind(self.addr)?;
                    listener.set_nonblocking(true)?;
                    self.listener = Some(listener);
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
                Ok((socket, _)) => socket,
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
            // A connection that cannot be set up is as good as closed.
            let set_up = socket
                .set_nonblocking(true)
                .and_then(|()| socket.set_nodelay(true));
            if set_up.is_err() {
                continue;
            }
            let session = ServerSession::new(self.next_number, self.settings.clone(), self.inbox.clone());
            self.next_number += 1;
            let mut connection = Connection {
                socket,
                session,
                egress: Vec::new(),
                written: 0,
                stage: Stage::Serving,
            };
            connection.session.handle_input(now, &[]);
            connection.flush(now);
            self.connections.push(connection);
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

impl Connection {
    fn unwritten_bytes(&self) -> usize {
        self.egress.len() - self.written
    }

    fn interest(&self) -> PollFlags {
        let reads = match self.stage {
            Stage::Serving => self.unwritten_bytes() <= EGRESS_BYTES_MAX,
            Stage::Closing { is_shut, .. } => is_shut,
            Stage::Over => false,
        };
        let mut interest = PollFlags::empty();
        interest.set(PollFlags::IN, reads);
        interest.set(PollFlags::OUT, self.unwritten_bytes() > 0);
        interest
    }

    fn timeout(&self) -> Option<Instant> {
        match self.stage {
            Stage::Serving => self.session.poll_timeout(),
            Stage::Closing { until, .. } => Some(until),
            Stage::Over => None,
        }
    }

    fn serve(&mut self, now: Instant, events: PollFlags, buffer: &mut [u8]) {
        let is_readable = events.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR);
        match self.stage {
            Stage::Serving => {
                if self.session.poll_timeout().is_some_and(|at| at <= now) {
                    self.session.handle_timeout(now);
                }
                if is_readable {
                    self.read(now, buffer);
                }
            }
            Stage::Closing { until, is_shut } => {
                if until <= now || (is_shut && is_readable && self.discard(buffer)) {
                    self.stage = Stage::Over;
                }
            }
            Stage::Over => {}
        }
        self.flush(now);
    }

    fn read(&mut self, now: Instant, buffer: &mut [u8]) {
        for _ in 0..READS_MAX {
            if self.session.fate() != Fate::Open || self.unwritten_bytes() > EGRESS_BYTES_MAX {
                return;
            }
            match self.socket.read(buffer) {
                Ok(0) => return self.session.handle_eof(now),
                Ok(count) => {
                    self.session.handle_input(now, &buffer[..count]);
                    self.take_egress();
                    if count < buffer.len() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.session.handle_eof(now);
                    self.stage = Stage::Over;
                    return;
                }
            }
        }
    }

    fn take_egress(&mut self) {
        while let Some(bytes) = self.session.poll_transmit() {
            if self.unwritten_bytes() == 0 {
                self.egress = bytes;
                self.written = 0;
            } else {
                self.egress.extend_from_slice(&bytes);
            }
        }
    }

    /// Writes what the socket takes, and acts on the session's fate.
    fn flush(&mut self, now: Instant) {
        self.take_egress();
        match (self.stage, self.session.fate()) {
            (Stage::Over, _) => return,
            (_, Fate::Aborted) => {
                reset_on_close(&self.socket);
                self.stage = Stage::Over;
                return;
            }
            (Stage::Serving, Fate::Closed) => {
                let until = now + LINGER;
                self.stage = Stage::Closing {
                    until,
                    is_shut: false,
                };
            }
            _ => {}
        }
        while self.unwritten_bytes() > 0 {
            match self.socket.write(&self.egress[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.session.handle_eof(now);
                    self.stage = Stage::Over;
                    return;
                }
            }
        }
        if let Stage::Closing {
            until,
            is_shut: false,
        } = self.stage
        {
            // Fails only where the client has gone already.
            self.stage = match self.socket.shutdown(Shutdown::Write) {
                Ok(()) => Stage::Closing { until, is_shut: true },
                Err(_) => Stage::Over,
            };
        }
    }

    /// Throws input away; tells whether the client has closed.
    fn discard(&mut self, buffer: &mut [u8]) -> bool {
        for _ in 0..READS_MAX {
            match self.socket.read(buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return true,
            }
        }
        false
    }

    fn abort(self) {
        reset_on_close(&self.socket);
    }
}

/// Lets the socket be closed with RST. Where the system will not, it is closed with FIN.
fn reset_on_close(socket: &TcpStream) {
    let _ = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

fn timespec(duration: Duration) -> Timespec {
    // `poll(2)` counts milliseconds on some systems: an hour is as good as for ever.
    let duration = duration.min(Duration::from_secs(3600));
    Timespec::try_from(duration).expect("an hour fits")
}

/// Keeps what `h2` says on this thread from the application's subscriber: one that exports its own spans to this
/// collector would never come to rest. Below DEBUG `h2` says nothing.
fn silence() -> Option<DefaultGuard> {
    (LevelFilter::current() >= LevelFilter::DEBUG).then(|| dispatcher::set_default(&Dispatch::none()))
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
