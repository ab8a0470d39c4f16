//! One connection of the collector: a socket, a session, and what the socket has not taken yet.

use super::socket::Socket;
use crate::testing::collector::session::{Fate, ServerSession};
use crate::time::Instant;
use alloc::vec::Vec;
use core::time::Duration;
use rustix::event::PollFlags;
use std::io::{self, Read, Write};

/// A connection that is served.
pub(super) struct Connection {
    socket: Socket,
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

/// Unwritten bytes above which a connection is neither read nor given the time: answers must not pile up.
const EGRESS_BYTES_MAX: usize = 1 << 20;
/// Reads of one connection before others have their turn.
const READS_MAX: usize = 16;
const LINGER: Duration = Duration::from_secs(1);

impl Connection {
    /// Begins to serve.
    pub(super) fn new(now: Instant, socket: Socket, session: ServerSession) -> Self {
        let mut connection = Self {
            socket,
            session,
            egress: Vec::new(),
            written: 0,
            stage: Stage::Serving,
        };
        connection.session.handle_input(now, &[]);
        connection.flush(now);
        connection
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    pub(super) fn drain(&mut self, now: Instant) {
        self.session.drain(now);
        self.flush(now);
    }

    fn is_held_back(&self) -> bool {
        self.unwritten_bytes() > EGRESS_BYTES_MAX
    }

    fn unwritten_bytes(&self) -> usize {
        self.egress.len() - self.written
    }

    pub(super) fn interest(&self) -> PollFlags {
        let reads = match self.stage {
            Stage::Serving => !self.is_held_back(),
            Stage::Closing { is_shut, .. } => is_shut,
            Stage::Over => false,
        };
        let mut interest = PollFlags::empty();
        interest.set(PollFlags::IN, reads);
        interest.set(PollFlags::OUT, self.unwritten_bytes() > 0);
        interest
    }

    /// When to serve it although nothing has come.
    pub(super) fn timeout(&self) -> Option<Instant> {
        match self.stage {
            Stage::Serving if self.is_held_back() => None,
            Stage::Serving => self.session.poll_timeout(),
            Stage::Closing { until, .. } => Some(until),
            Stage::Over => None,
        }
    }

    pub(super) fn serve(&mut self, now: Instant, events: PollFlags, buffer: &mut [u8]) {
        let is_readable = events.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR);
        match self.stage {
            Stage::Serving => {
                let is_due = self.session.poll_timeout().is_some_and(|at| at <= now);
                if is_due && !self.is_held_back() {
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
            if self.session.fate() != Fate::Open || self.is_held_back() {
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
                self.socket.reset_on_close();
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
            self.stage = match self.socket.shut_down() {
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

    /// Closes it with RST.
    pub(super) fn abort(self) {
        self.socket.reset_on_close();
    }
}
