//! Families: exports that are sent in several parts, each with a machine of its own, and have one outcome.

use super::Engine;
use crate::error::Error;
use crate::export::machine::{LastFailure, Machine, Next, Verdict};
use crate::export::prepare::{Part, Refused};
use crate::export::{ExportId, Managed, Remainder};
use crate::observe::{End, ErrorType};
use crate::outcome::{DropReason, ItemCounts, Outcome};
use crate::protocol::Connection;
use crate::time::Instant;
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

/// Bytes of the parts' messages that go into the outcome.
const MESSAGE_BYTES_MAX: usize = 4_096;

/// An export in parts.
pub(super) struct Family {
    deadline: Instant,
    /// The parts without a verdict.
    live: BTreeSet<ExportId>,
    /// Parts with a verdict, and those of them that failed.
    settled: u64,
    failed: u64,
    counts: ItemCounts,
    /// Of the part that took most.
    attempts: u32,
    messages: String,
    /// The first failure, or the first that left something: it tells what to expect of that.
    error: Option<Error>,
    /// Whether there was another failure before that one.
    is_later: bool,
    /// Why items were dropped, the first that was.
    drop_reason: Option<DropReason>,
    /// What managed parts left.
    remainder: Option<Remainder>,
}

impl Family {
    fn new(deadline: Instant) -> Self {
        Self {
            deadline,
            live: BTreeSet::new(),
            settled: 0,
            failed: 0,
            counts: ItemCounts::default(),
            attempts: 0,
            messages: String::new(),
            error: None,
            is_later: false,
            drop_reason: None,
            remainder: None,
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The parts without a verdict.
    pub(super) fn live(&self) -> impl Iterator<Item = ExportId> + '_ {
        self.live.iter().copied()
    }

    /// The sum of the parts' verdicts: success if all succeeded, else the first failure.
    pub(super) fn into_verdict(self) -> Verdict {
        match self.error {
            Some(error) => {
                let which = if self.is_later {
                    "the first that may pass"
                } else {
                    "the first"
                };
                let parts = (self.failed, self.settled);
                let mut error = error.into_whole(parts, which, self.counts, self.attempts);
                if let (Some(reason), None) = (self.drop_reason, error.drop_reason()) {
                    error = error.with_drop_reason(reason);
                }
                Err(match self.remainder {
                    Some(remainder) => error.with_remainder(remainder.joined(), self.counts),
                    None => error,
                })
            }
            None => Ok(Outcome {
                counts: self.counts,
                message: (!self.messages.is_empty()).then(|| Box::from(self.messages)),
                attempts: self.attempts,
            }),
        }
    }

    fn add(&mut self, verdict: Verdict) {
        self.settled += 1;
        match verdict {
            Ok(outcome) => {
                self.counts += outcome.counts;
                self.attempts = self.attempts.max(outcome.attempts);
                if let Some(message) = outcome.message() {
                    self.add_message(message);
                }
            }
            Err(mut error) => {
                self.failed += 1;
                self.counts += error.counts();
                self.attempts = self.attempts.max(error.attempts());
                self.drop_reason = self.drop_reason.or(error.drop_reason());
                match (&mut self.remainder, error.take_remainder()) {
                    (Some(all), Some(more)) => all.add(more),
                    (None, Some(first)) => {
                        self.remainder = Some(first);
                        self.is_later = self.error.replace(error).is_some();
                    }
                    (_, None) => {
                        self.error.get_or_insert(error);
                    }
                }
            }
        }
    }

    /// Adds what a collector said, once.
    fn add_message(&mut self, message: &str) {
        let mut said = self.messages.split('\n');
        if said.any(|earlier| earlier == message) || self.messages.len() + message.len() > MESSAGE_BYTES_MAX {
            return;
        }
        if !self.messages.is_empty() {
            self.messages.push('\n');
        }
        self.messages.push_str(message);
    }
}

impl<P: Connection> Engine<P> {
    /// Takes an export in parts.
    pub(super) fn submit_family(
        &mut self,
        id: ExportId,
        parts: Vec<Result<Part, Refused>>,
        begun: Instant,
        timeout: Duration,
        managed: Option<Managed>,
    ) {
        let deadline = begun + timeout;
        let mut family = Family::new(deadline);
        let mut members = Vec::with_capacity(parts.len());
        for part in parts {
            let machine = match part {
                Ok(part) => {
                    let mut machine = Machine::new(part, begun, timeout).with_managed(managed);
                    if deadline <= self.now && begun < self.now {
                        machine.explain(Some(LastFailure::pending(
                            "making the request ready took all of its time",
                            "give the export more, or send smaller batches",
                        )));
                    }
                    machine
                }
                Err(Refused { request, error }) => {
                    let mut machine =
                        Machine::new(Part::plain(request), begun, timeout).with_managed(managed);
                    machine.refuse(Err(error));
                    machine
                }
            };
            members.push(self.join(id, &mut family, machine));
        }
        self.surplus += (members.len() as u64).saturating_sub(1);
        self.families.insert(id, family);
        self.settle_refused(&members);
        self.catch_up();
        self.admit_all(&members);
    }

    /// Sends an export that was refused for its size once more, in parts of at most so many bytes; where it has no parts, the
    /// refusal stands.
    pub(super) fn split(&mut self, id: ExportId, bytes_max: usize) {
        self.account_attempt(id);
        let endpoint = self.endpoint_name(id);
        let Some(machine) = self.exports.get_mut(&id) else {
            return;
        };
        let signal = machine.signal();
        let mut parts = Vec::new();
        if let Some(request) = machine.request() {
            parts = self.preparer.make(request, bytes_max);
        }
        if parts.len() < 2 {
            machine.give_up_refused(&endpoint);
            return self.settle(id);
        }
        self.preparer.learn(signal, bytes_max);
        self.stats.splits += 1;
        self.replace(id, parts);
    }

    /// Parts take the place of an export, or of a part of one, that is in `Init`.
    fn replace(&mut self, id: ExportId, parts: Vec<Result<Part, Refused>>) {
        let Some(whole) = self.exports.remove(&id) else {
            return;
        };
        self.deadlines.remove(&(whole.deadline(), id));
        if !whole.is_managed() {
            self.stats.in_flight -= whole.items();
            self.stats.accepted -= whole.items();
            self.meter.undo(whole.signal(), whole.items());
        }
        self.stats.bytes_in_flight -= whole.held_bytes() as u64;
        let family_id = whole.family().unwrap_or(id);
        let mut family = match self.families.remove(&family_id) {
            Some(mut family) => {
                family.live.remove(&id);
                family
            }
            None => Family::new(whole.deadline()),
        };
        let mut members = Vec::with_capacity(parts.len());
        for part in parts {
            let machine = match part {
                Ok(part) => Machine::part_of(&whole, part, self.now),
                Err(Refused { request, error }) => {
                    let mut machine = Machine::part_of(&whole, Part::plain(request), self.now);
                    machine.refuse(Err(error));
                    machine
                }
            };
            members.push(self.join(family_id, &mut family, machine));
        }
        self.surplus += members.len() as u64 - 1;
        self.families.insert(family_id, family);
        self.settle_refused(&members);
        self.admit_all(&members);
    }

    fn join(&mut self, id: ExportId, family: &mut Family, mut machine: Machine) -> ExportId {
        let member = ExportId(self.next_number());
        machine.join(id);
        self.account_submitted(&machine);
        self.deadlines.insert((machine.deadline(), member));
        self.exports.insert(member, machine);
        family.live.insert(member);
        member
    }

    /// Books the members that are not to be sent.
    fn settle_refused(&mut self, members: &[ExportId]) {
        for &id in members {
            if self
                .exports
                .get(&id)
                .is_some_and(|machine| machine.verdict().is_some())
            {
                self.settle(id);
            }
        }
    }

    /// Lets the other members begin.
    fn admit_all(&mut self, members: &[ExportId]) {
        members.iter().for_each(|&id| self.admit(id));
    }

    /// A part was booked: its verdict goes to its export, which is settled with the last one.
    pub(super) fn settle_part(&mut self, family_id: ExportId, id: ExportId) {
        let Some(verdict) = self.exports.remove(&id).and_then(Machine::into_verdict) else {
            return;
        };
        let Some(family) = self.families.get_mut(&family_id) else {
            return;
        };
        family.live.remove(&id);
        family.add(verdict);
        if family.live.is_empty() {
            self.stats.exports_in_flight -= 1;
            self.settled.push_back(family_id);
        } else {
            self.surplus -= 1;
        }
    }

    /// How an export in parts ended, once all of them have: its error is that of the first part that failed, its answer that of
    /// the last.
    pub(super) fn family_end(&self, id: ExportId, last: End) -> Option<End> {
        let family = self.families.get(&id)?;
        let rejected = (family.counts.rejected > 0).then_some(ErrorType::REJECTED);
        family.live.is_empty().then(|| End {
            error: family.error.as_ref().map(ErrorType::of).or(rejected),
            response: last.response,
        })
    }

    /// Ends an export from this side, with all its parts.
    pub(super) fn abandon_all(&mut self, id: ExportId, end: fn(&mut Machine, &Arc<str>) -> Next) {
        match self.families.get(&id) {
            Some(family) => {
                let live: Vec<ExportId> = family.live().collect();
                live.into_iter().for_each(|part| self.abandon(part, end));
            }
            None => self.abandon(id, end),
        }
    }
}
