//! Lanes: what the engine keeps of each destination. A lane that is down delays no other.

use super::Engine;
use super::connections::Conn;
use super::dial::Dialer;
use super::outage::Health;
use crate::config::Lane;
use crate::endpoint::Scheme;
use crate::export::ExportId;
use crate::protocol::Connection;
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use core::time::Duration;

/// One destination at work.
pub(super) struct LaneState {
    /// The exports in `Connecting`, the oldest first: it has waited longest and its deadline is nearest.
    pub(super) waiting: BTreeSet<ExportId>,
    pub(super) dialer: Dialer,
    pub(super) health: Health,
    /// Whether its connections carry many calls at a time: what the latest one showed, before that what one may.
    pub(super) is_multiplexed: bool,
}

impl LaneState {
    pub(super) fn new(lane: &Lane) -> Self {
        let may_negotiate = lane.endpoint.scheme() == Scheme::Https && cfg!(feature = "http2");
        Self {
            waiting: BTreeSet::new(),
            dialer: Dialer::default(),
            health: Health::default(),
            is_multiplexed: lane.is_grpc || may_negotiate,
        }
    }
}

impl<P: Connection> Engine<P> {
    /// The destination of an export, until its outcome is taken.
    pub(super) fn lane_of(&self, id: ExportId) -> Option<usize> {
        let machine = self.exports.get(&id)?;
        Some(self.settings.route(machine.signal()).lane)
    }

    /// The endpoint of an export as its errors name it.
    pub(super) fn endpoint_name(&self, id: ExportId) -> Arc<str> {
        let route = match self.exports.get(&id) {
            Some(machine) => self.settings.route(machine.signal()),
            None => &self.settings.routes[0],
        };
        route.endpoint_name.clone()
    }

    pub(super) fn conns_of(&self, lane: usize) -> impl Iterator<Item = &Conn<P>> {
        self.conns.iter().filter(move |conn| conn.lane == lane)
    }

    /// Connections of a lane that may take calls at the same time. One that multiplexes is enough.
    pub(super) fn connections_max(&self, lane: usize) -> usize {
        if self.lanes[lane].is_multiplexed {
            1
        } else {
            self.settings.lanes[lane].http1_connections_max.max(1)
        }
    }

    /// The longest time of an export that goes there.
    pub(super) fn lane_timeout(&self, lane: usize) -> Duration {
        let routes = self.settings.routes.iter().filter(|route| route.lane == lane);
        routes.map(|route| route.timeout).max().unwrap_or_default()
    }
}
