//! The exports of a leg: from a lane to an endpoint, and back or to the account.

use super::{InFlight, Leg, Queued, Shared, dropped, unknown};
use crate::encode::{Request, Signal};
use crate::observe::ErrorType;
use crate::outcome::{DropReason, ItemCounts};
use crate::pipeline::delivery::endpoint::{Hold, Taken};
use crate::pipeline::delivery::types::{BatchId, DeliveryAction};
use crate::pipeline::delivery::verdict::ExportVerdict;
use crate::pipeline::queue::buffer::{Entry, LaneId};
use crate::time::Instant;
use alloc::vec::Vec;
use core::time::Duration;

/// Exports and their ends.
impl Leg {
    pub(super) fn export(&mut self, shared: &mut Shared, lane: LaneId, count: usize, taken: Taken) {
        let first = self.buffer.pop_front(lane).expect("a ready lane holds something");
        let (mut items, mut bytes) = (first.items, first.bytes);
        let Queued {
            request,
            epoch,
            admitted,
            unanswered,
            returned_by,
        } = first.value;
        let request = if count == 1 {
            request
        } else {
            let mut requests = Vec::with_capacity(count);
            requests.push(request);
            for _ in 1..count {
                let entry = self.buffer.pop_front(lane).expect("as many as were counted");
                items += entry.items;
                bytes += entry.bytes;
                requests.push(entry.value.request);
            }
            Request::join(&requests).expect("a lane is of one signal, one set of headers and one time")
        };
        self.endpoints
            .measure_begin(request.signal(), items, returned_by, taken.endpoint);
        let batch = shared.next_batch();
        let flight = InFlight {
            signal: request.signal(),
            leg: self.index,
            endpoint: taken.endpoint,
            batch,
            lane,
            seq: first.seq,
            items,
            bytes,
            epoch,
            admitted: admitted.unwrap_or(shared.now),
            unanswered,
            permit: taken.permit,
            submitted: shared.now,
        };
        shared.actions.push_back(DeliveryAction::Export {
            batch,
            leg: self.index,
            endpoint: taken.endpoint,
            request,
            unanswered,
        });
        self.account.in_flight += items;
        self.account.in_flight_bytes += bytes;
        self.account.exports_in_flight += 1;
        self.account.batches += 1;
        if unanswered {
            self.account.possible_duplicates += items;
        }
        self.lanes[lane.index()].in_flight += 1;
        shared.in_flight.insert(batch, flight);
        self.refresh(shared, lane);
    }

    /// Takes an export out of what is in flight.
    pub(super) fn land(&mut self, flight: &InFlight) {
        self.account.in_flight -= flight.items;
        self.account.in_flight_bytes -= flight.bytes;
        self.account.exports_in_flight -= 1;
        self.lanes[flight.lane.index()].in_flight -= 1;
    }

    /// What is left of an export goes back to the head of its lane, or is given up.
    pub(super) fn come_back(
        &mut self,
        shared: &mut Shared,
        flight: &InFlight,
        verdict: &ExportVerdict,
        request: Request,
    ) {
        let entry = Entry {
            seq: flight.seq,
            items: request.items(),
            bytes: request.encoded_len() as u64,
            value: Queued {
                request,
                epoch: flight.epoch,
                admitted: Some(flight.admitted),
                unanswered: verdict.unanswered || flight.unanswered,
                returned_by: Some(flight.endpoint),
            },
        };
        if let Some(reason) = shared.over {
            return self.give_up(shared, entry, reason);
        }
        if self.is_gone {
            return self.give_up(shared, entry, DropReason::Shutdown);
        }
        if flight.admitted + shared.config.max_elapsed <= shared.now {
            return self.give_up(shared, entry, DropReason::Expired);
        }
        self.buffer.push_front(flight.lane, entry);
    }

    /// Keeps the lane off the endpoint that just failed it.
    pub(super) fn hold(&mut self, shared: &mut Shared, flight: &InFlight, retry_after: Option<Duration>) {
        let now = shared.now;
        let holds = &mut self.lanes[flight.lane.index()].holds;
        let at = match holds.iter().position(|hold| hold.endpoint == flight.endpoint) {
            Some(at) => at,
            None => {
                holds.push(Hold {
                    endpoint: flight.endpoint,
                    failures: 0,
                    since: BatchId(0),
                    until: now,
                    asked_until: now,
                });
                holds.len() - 1
            }
        };
        let hold = &mut holds[at];
        // Exports that were under way together fail together: that is one failure.
        if hold.failures == 0 || flight.batch > hold.since {
            hold.failures = hold.failures.saturating_add(1);
            hold.since = BatchId(shared.batches);
        }
        let wait = shared
            .config
            .retry
            .backoff(hold.failures, retry_after, &mut shared.rng);
        // Nothing in the lane lives longer than that: a wait without end would drop all that comes, collector up or not.
        let wait = wait.min(shared.config.max_elapsed);
        hold.until = hold.until.max(now + wait);
        if retry_after.is_some() {
            hold.asked_until = hold.until;
        }
    }

    /// An export of the lane ended well: the endpoint may have the next, but for a wait that the collector asked for.
    pub(super) fn release_hold(&mut self, now: Instant, flight: &InFlight) {
        let holds = &mut self.lanes[flight.lane.index()].holds;
        holds.retain_mut(|hold| {
            if hold.endpoint != flight.endpoint {
                return true;
            }
            hold.until = hold.asked_until;
            hold.until > now
        });
    }

    /// Settles an entry that was taken out of the queue and is not exported again.
    pub(super) fn give_up(&mut self, shared: &mut Shared, entry: Entry<Queued>, reason: DropReason) {
        // In the child of a fork it is the parent that knows what was sent.
        let is_unknown = entry.value.unanswered && reason != DropReason::Forked;
        let counts = match is_unknown {
            true => unknown(entry.items),
            false => dropped(entry.items),
        };
        let signal = entry.value.request.signal();
        // What was never exported is no exporter's matter.
        if let Some(meter) = entry
            .value
            .returned_by
            .and_then(|at| self.endpoints.meter_mut(at))
        {
            meter.undo(signal, entry.items);
            meter.count(signal, counts, ErrorType::given_up(reason));
        }
        self.settle(shared, signal, entry.value.epoch, counts, reason);
        shared.garbage.requests.push(entry.value.request);
    }

    pub(super) fn settle(
        &mut self,
        shared: &mut Shared,
        signal: Signal,
        epoch: u64,
        counts: ItemCounts,
        reason: DropReason,
    ) {
        let account = &mut self.account;
        account.delivered += counts.delivered;
        account.rejected += counts.rejected;
        account.unknown += counts.unknown;
        account.dropped[reason.index()] += counts.dropped;
        self.lost.add(signal, reason, counts);
        #[cfg(feature = "opentelemetry_0_33")]
        {
            self.losses[signal.index()] += ItemCounts {
                delivered: 0,
                ..counts
            };
        }
        shared.epochs.settle(epoch, counts);
    }

    /// Items of an export are settled, which its endpoint counts.
    pub(super) fn measure_end(&mut self, flight: &InFlight, items: u64, counts: ItemCounts, why: ErrorType) {
        if let Some(meter) = self.endpoints.meter_mut(flight.endpoint) {
            meter.undo(flight.signal, items);
            meter.count(flight.signal, counts, why);
        }
    }

    /// Items were lost to a full queue: the driver is asked to tell it, once until there is room again.
    pub(super) fn overflow(&mut self, shared: &mut Shared, signal: Signal) {
        shared.overflows |= !core::mem::replace(&mut self.overflowing[signal.index()], true);
    }
}
