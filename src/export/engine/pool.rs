//! The connections of a lane beside one another: which one is next, which one is left.

use super::Engine;
use super::connections::{Conn, Leaving, Phase};
use crate::protocol::Connection;
use crate::time::Instant;
use core::time::Duration;

/// How long an idle connection is kept beside another one that takes calls: about as long as peers keep theirs.
const IDLE: Duration = Duration::from_secs(90);

impl<P: Connection> Engine<P> {
    /// The connection for the next call: the one that was used last, so that the others may become idle, and one that the
    /// peer has closed is met late.
    pub(super) fn free_connection(&self, lane: usize) -> Option<usize> {
        let free = self.conns.iter().enumerate();
        let free = free.filter(|(_, conn)| conn.lane == lane && conn.can_start());
        let used_at = |conn: &Conn<P>| match &conn.phase {
            Phase::Open(open) => open.used_at,
            _ => Instant::ZERO,
        };
        free.max_by_key(|(_, conn)| (used_at(conn), conn.id))
            .map(|(at, _)| at)
    }

    /// When the next idle connection is closed: one is kept.
    pub(super) fn idle_until(&self, lane: usize) -> Option<Instant> {
        let usable = self.conns_of(lane).filter(|conn| conn.is_ready()).count();
        let idle = self.conns_of(lane).filter_map(Conn::idle_since);
        idle.min().filter(|_| usable > 1).map(|since| since + IDLE)
    }

    /// Leaves connections that were idle for too long beside another.
    pub(super) fn fire_idle(&mut self, lane: usize) {
        while let Some(at) = self.idle_until(lane) {
            let oldest = self.conns.iter_mut().filter(|conn| conn.lane == lane);
            let oldest = oldest.filter(|conn| conn.idle_since().is_some_and(|since| since + IDLE == at));
            match oldest.last().map(|conn| &mut conn.phase) {
                Some(Phase::Open(open)) if at <= self.now => open.leaving = Some(Leaving::Idle),
                _ => return,
            }
        }
    }

    /// Leaves every idle connection of a lane: the one used last was closed by the peer, so these are, too.
    pub(super) fn leave_idle(&mut self, lane: usize) {
        for conn in self.conns.iter_mut().filter(|conn| conn.lane == lane) {
            if let (Some(_), Phase::Open(open)) = (conn.idle_since(), &mut conn.phase) {
                open.leaving = Some(Leaving::Stale);
            }
        }
    }

    /// Leaves connections whose time is over, which is found out late where nobody drives the engine in between.
    pub(super) fn fire_upkeep(&mut self) {
        let now = self.now;
        for conn in &mut self.conns {
            if let Phase::Open(open) = &mut conn.phase {
                open.fire_age(now);
            }
        }
        (0..self.lanes.len()).for_each(|lane| self.fire_idle(lane));
    }
}
