//! Pings that notice a dead connection (gRPC, "Client-side Keepalive").
//!
//! Owns the time since the peer's last byte. Never closes anything: it tells when to ping and when the peer is gone.

use crate::config::Keepalive;
use crate::time::Instant;
use core::time::Duration;
use h2::{Ping, PingPong};

/// The pings of one connection.
pub(super) struct Pinger {
    settings: Keepalive,
    pings: PingPong,
    /// When the peer was heard last.
    heard_at: Instant,
    waiting: Option<Waiting>,
    /// The peer has asked for fewer pings, which is told once.
    is_calmed: bool,
}

/// A ping was sent, and nothing was heard since.
struct Waiting {
    /// From when the peer's time runs: while the ping waits for the socket, from the last byte that the socket took.
    since: Instant,
    /// The count of bytes of the connection up to the end of the ping, once it is known.
    end: Option<u64>,
    /// The socket has taken the ping.
    is_sent: bool,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing.
    Nothing,
    /// A ping was handed to `h2`, which has to be driven.
    Ping,
    /// The peer did not answer for this long.
    Dead(Duration),
}

impl Pinger {
    pub(super) fn new(settings: Keepalive, pings: PingPong, now: Instant) -> Self {
        Self {
            settings,
            pings,
            heard_at: now,
            waiting: None,
            is_calmed: false,
        }
    }

    /// The peer said something, whatever it was: it is alive.
    pub(super) fn handle_heard(&mut self, now: Instant) {
        self.heard_at = now;
        self.waiting = None;
    }

    /// The socket took bytes, `taken` of the connection's in all.
    pub(super) fn handle_sent(&mut self, now: Instant, taken: u64) {
        if let Some(waiting) = self.waiting.as_mut().filter(|waiting| !waiting.is_sent) {
            waiting.since = now;
            waiting.is_sent = waiting.end.is_some_and(|end| taken >= end);
        }
    }

    /// `h2` has written everything that it had, `produced` bytes in all.
    pub(super) fn handle_written(&mut self, produced: u64) {
        if let Some(waiting) = &mut self.waiting {
            waiting.end.get_or_insert(produced);
        }
    }

    /// Whether the peer asks for fewer pings for the first time, where that is what its GOAWAY says.
    pub(super) fn handle_goaway(&mut self, code: u32, debug_data: &[u8]) -> bool {
        let is_asked = code == u32::from(h2::Reason::ENHANCE_YOUR_CALM) && debug_data == b"too_many_pings";
        is_asked && !core::mem::replace(&mut self.is_calmed, true)
    }

    /// When [`fire`](Self::fire) is due.
    pub(super) fn due(&self, has_calls: bool) -> Option<Instant> {
        match &self.waiting {
            Some(waiting) => Some(waiting.since + self.settings.timeout),
            None if has_calls || self.settings.while_idle => Some(self.heard_at + self.settings.interval),
            None => None,
        }
    }

    /// Does what is due.
    pub(super) fn fire(&mut self, now: Instant, has_calls: bool) -> Due {
        if self.due(has_calls).is_none_or(|at| at > now) {
            return Due::Nothing;
        }
        if self.waiting.is_some() {
            return Due::Dead(self.settings.timeout);
        }
        // An earlier ping's answer that came is acknowledged; one that has not come yet will do as this one's.
        let _ = self.pings.poll_pong(&mut super::link::context());
        let is_earlier = self.pings.send_ping(Ping::opaque()).is_err();
        self.waiting = Some(Waiting {
            since: now,
            end: is_earlier.then_some(0),
            is_sent: is_earlier,
        });
        Due::Ping
    }
}
