//! The lanes of a leg: which may be exported, and when one is to be looked at again.

use super::{LaneState, Leg, Shared, earlier};
use crate::encode::Signal;
use crate::pipeline::delivery::OpenKey;
use crate::pipeline::queue::buffer::LaneId;
use crate::time::Instant;

/// The lanes.
impl Leg {
    pub(super) fn lane(&mut self, key: &OpenKey) -> LaneId {
        let lane = self.buffer.lane(key, key.signal);
        if lane.index() >= self.lanes.len() {
            self.lanes.resize_with(lane.index() + 1, LaneState::default);
        }
        lane
    }

    /// Follows a change of a lane: whether it is ready, and when it is to be looked at again.
    pub(super) fn refresh(&mut self, shared: &Shared, lane: LaneId) {
        let (ready, timer) = self.judge(shared, lane);
        let is_idle = self.buffer.front(lane).is_none();
        let state = &mut self.lanes[lane.index()];
        if state.ready != ready {
            if let Some(seq) = state.ready {
                self.ready.remove(&(seq, lane));
            }
            if let Some(seq) = ready {
                self.ready.insert((seq, lane));
            }
            state.ready = ready;
        }
        if state.timer != timer {
            if let Some(at) = state.timer {
                self.timers.remove(&(at, lane));
            }
            if let Some(at) = timer {
                self.timers.insert((at, lane));
            }
            state.timer = timer;
        }
        if is_idle && state.in_flight == 0 {
            *state = LaneState::default();
            self.buffer.release(lane);
        } else {
            state.unseen = state.unseen.min(self.buffer.lane_sums(lane).2);
        }
    }

    pub(super) fn judge(&self, shared: &Shared, lane: LaneId) -> (Option<u64>, Option<Instant>) {
        let Some(first) = self.buffer.front(lane) else {
            return (None, None);
        };
        let expiry = first.value.admitted.map(|at| at + shared.config.max_elapsed);
        let aged = first.value.admitted.map(|at| at + shared.config.batch.age_max);
        let (items, bytes, _) = self.buffer.lane_sums(lane);
        let bounds = self.batch_bounds(self.buffer.signal(lane));
        let is_due = first.value.returned_by.is_some()
            || first.seq <= shared.forced
            || items >= bounds.0
            || bytes >= bounds.1
            || aged.is_some_and(|at| at <= shared.now);
        if !is_due {
            return (None, earlier(aged, expiry));
        }
        match self
            .endpoints
            .held_until(shared.now, &self.lanes[lane.index()].holds)
        {
            Some(until) => (None, earlier(Some(until), expiry)),
            None => (Some(first.seq), expiry),
        }
    }

    /// Entries, items and bytes at the head of a lane that make one batch.
    pub(super) fn peek(&self, lane: LaneId) -> (usize, u64, u64) {
        let signal = self.buffer.signal(lane);
        let bounds = self.batch_bounds(signal);
        let mut entries = self.buffer.entries(lane);
        let first = entries.next().expect("a ready lane holds something");
        let (mut count, mut items, mut bytes) = (1, first.items, first.bytes);
        // One dictionary a message: profiles cannot be joined. What came back goes as it is.
        if signal == Signal::Profiles || first.value.returned_by.is_some() {
            return (count, items, bytes);
        }
        for entry in entries {
            let is_other = entry.value.returned_by.is_some() || entry.value.epoch != first.value.epoch;
            if is_other || items + entry.items > bounds.0 || bytes + entry.bytes > bounds.1 {
                break;
            }
            count += 1;
            items += entry.items;
            bytes += entry.bytes;
        }
        (count, items, bytes)
    }

    pub(super) fn is_expired(&self, shared: &Shared, lane: LaneId) -> bool {
        let admitted = self.buffer.front(lane).and_then(|entry| entry.value.admitted);
        admitted.is_some_and(|at| at + shared.config.max_elapsed <= shared.now)
    }
}
