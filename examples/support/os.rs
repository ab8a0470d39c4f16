//! What a hand-driven engine needs of the operating system: a clock, sockets, and a wait for both.

use bytes::{Buf, Bytes};
use otlp_embed::endpoint::Target;
use otlp_embed::time::Instant;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A clock that never runs back. Its zero is its making.
#[derive(Clone, Copy)]
pub struct Clock(std::time::Instant);

#[allow(
    clippy::disallowed_methods,
    reason = "a program reads the clock for the engine"
)]
impl Clock {
    /// Starts the clock.
    pub fn start() -> Self {
        Self(std::time::Instant::now())
    }

    /// The time in the engine's terms.
    pub fn now(self) -> Instant {
        Instant::ZERO + self.0.elapsed()
    }
}

/// A non-blocking socket of std, with a queue of what it has still to take.
pub struct Link {
    stream: TcpStream,
    queue: VecDeque<Bytes>,
    /// Why the socket takes nothing more. What the peer had sent before may hold an answer and is read first.
    write_error: Option<io::Error>,
    /// Set with the end or the failure, which are told once.
    has_ended: bool,
}

/// What a socket gave.
pub enum Read<'a> {
    /// Nothing at the moment.
    Nothing,
    /// Bytes.
    Bytes(&'a [u8]),
    /// The peer's orderly end.
    Eof,
    /// A failure.
    Failed(io::Error),
}

impl Link {
    /// Opens a socket, blocking for `timeout` at most.
    pub fn connect(target: &Target, timeout: Duration) -> io::Result<Self> {
        let stream = match target {
            Target::Tcp(address) => {
                // std refuses a timeout of zero.
                let stream = TcpStream::connect_timeout(address, timeout.max(Duration::from_millis(1)))?;
                stream.set_nodelay(true)?;
                stream
            }
            // std reads and writes any stream socket through `TcpStream`.
            Target::Unix(path) => TcpStream::from(OwnedFd::from(UnixStream::connect(&**path)?)),
            other => return Err(io::Error::other(format!("no way to connect to {other}"))),
        };
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            queue: VecDeque::new(),
            write_error: None,
            has_ended: false,
        })
    }

    /// Adds bytes to be written after all others.
    pub fn queue(&mut self, bytes: Vec<Bytes>) {
        self.queue.extend(bytes);
    }

    /// Writes what the socket takes, and returns how many bytes that was.
    pub fn write(&mut self) -> usize {
        let mut sent = 0;
        while let (Some(bytes), None) = (self.queue.front_mut(), &self.write_error) {
            if bytes.is_empty() {
                self.queue.pop_front();
                continue;
            }
            match self.stream.write(bytes) {
                Ok(0) => self.write_error = Some(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    bytes.advance(count);
                    sent += count;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.write_error = Some(error),
            }
        }
        sent
    }

    /// Reads what the socket has, as far as it fits into the buffer.
    pub fn read<'a>(&mut self, buffer: &'a mut [u8]) -> Read<'a> {
        if self.has_ended {
            return Read::Nothing;
        }
        let read = match self.stream.read(buffer) {
            Ok(0) => Read::Eof,
            Ok(count) => Read::Bytes(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Read::Nothing,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.write_error.take().map_or(Read::Nothing, Read::Failed)
            }
            Err(error) => Read::Failed(error),
        };
        self.has_ended = matches!(read, Read::Eof | Read::Failed(_));
        read
    }

    /// What is worth waiting for.
    fn interest(&self) -> PollFlags {
        match (&self.write_error, self.queue.is_empty()) {
            (None, false) => PollFlags::IN | PollFlags::OUT,
            _ => PollFlags::IN,
        }
    }
}

/// Waits until one of the sockets has something, or takes something, or `timeout` has passed.
pub fn wait<'a>(links: impl Iterator<Item = &'a Link>, timeout: Option<Duration>) -> io::Result<()> {
    let mut fds: Vec<_> = links
        .filter(|link| !link.has_ended)
        .map(|link| PollFd::new(&link.stream, link.interest()))
        .collect();
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    match poll(&mut fds, timeout.as_ref()) {
        // A signal ends the wait early, and there is nothing to do.
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
