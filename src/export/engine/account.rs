//! The account: every item is booked when it comes, and once more when its export is settled.

use super::Engine;
use crate::export::ExportId;
use crate::export::machine::Machine;
use crate::observe::End;
use crate::outcome::{DropReason, ItemCounts, Outcome};
use crate::protocol::Connection;
use crate::stats::Stats;
use alloc::borrow::ToOwned;
use alloc::string::ToString;

impl<P: Connection> Engine<P> {
    pub(super) fn account_submitted(&mut self, machine: &Machine) {
        let stats = &mut self.stats;
        if !machine.is_managed() {
            stats.accepted += machine.items();
            stats.in_flight += machine.items();
            self.meter.begin(machine.signal(), machine.items());
        }
        stats.bytes_in_flight += machine.held_bytes() as u64;
    }

    /// Books what an attempt that failed or ended leaves behind.
    pub(super) fn account_attempt(&mut self, id: ExportId) {
        let Some(machine) = self.exports.get_mut(&id) else {
            return;
        };
        self.stats.possible_duplicates += machine.take_duplicates();
        if let (None, Some(failure)) = (machine.verdict(), machine.last_failure()) {
            self.stats.last_error = Some((**failure.message()).to_owned());
        }
    }

    /// Books an export that has just reached its verdict, and queues its outcome; that of a part goes to its export.
    pub(super) fn settle(&mut self, id: ExportId) {
        self.account_attempt(id);
        let Some(machine) = self.exports.get(&id) else {
            return;
        };
        let (Some(verdict), true) = (
            machine.verdict(),
            self.deadlines.remove(&(machine.deadline(), id)),
        ) else {
            return;
        };
        let (counts, reason) = match verdict {
            Ok(outcome) => (Outcome::counts(outcome), None),
            Err(error) => (error.counts(), error.drop_reason()),
        };
        let stats = &mut self.stats;
        stats.bytes_in_flight -= machine.held_bytes() as u64;
        let (signal, is_managed) = (machine.signal(), machine.is_managed());
        if !is_managed {
            stats.in_flight -= machine.items();
            book(stats, counts, reason);
            self.meter.end(signal, machine.items(), verdict);
        }
        match verdict {
            Err(error) if !error.is_cancelled() => stats.last_error = Some(error.to_string()),
            _ => {}
        }
        let (family, took) = (machine.family(), self.now - machine.begun());
        let end = End::of(verdict, machine.response());
        self.tell_verdict(id);
        match family {
            Some(family) => {
                self.settle_part(family, id);
                if let Some(end) = self.family_end(family, end) {
                    self.meter.time(signal, end, took);
                }
            }
            None => {
                self.meter.time(signal, end, took);
                self.stats.exports_in_flight -= 1;
                self.settled.push_back(id);
            }
        }
    }
}

fn book(stats: &mut Stats, counts: ItemCounts, reason: Option<DropReason>) {
    let ItemCounts {
        delivered,
        rejected,
        dropped,
        unknown,
    } = counts;
    stats.delivered += delivered;
    stats.rejected += rejected;
    stats.unknown += unknown;
    if let Some(reason) = reason {
        stats.dropped[reason.index()] += dropped;
    }
}
