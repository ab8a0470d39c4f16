//! Many exports over few connections, without I/O.
//!
//! Owns the exports without a verdict, the queue of those that wait for a connection, the connections themselves and
//! the account. It is fed with facts by a shell and answers with actions and outcomes; it never blocks, sleeps or reads
//! a clock.

mod account;
mod authorize;
mod calls;
mod connections;
mod dial;
mod families;
mod lane;
mod observe;
mod outage;
mod pool;
mod timers;

use super::machine::{ExportState, Machine, Verdict};
use super::prepare::{Part, Parts, Prepared, Preparer};
use super::{Action, ExportId, Fact, Managed};
use crate::config::{Config, Settings};
use crate::encode::{Request, Signal};
use crate::error::{Error, Kind};
use crate::observe::{Events, Meter};
use crate::outcome::{DropReason, ItemCounts, Outcome};
use crate::protocol::{self, Connection};
use crate::stats::Stats;
use crate::time::{Deadline, Instant};
use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use connections::Conn;
use families::Family;
use fastrand::Rng;
use lane::LaneState;

/// The whole exporter as a deterministic machine: every export, every connection, every retry, and no I/O.
///
/// It is driven by facts that carry the time, and its randomness is its seed: the same facts in the same order give the
/// same actions, outcomes and account. How it is driven is written at the [module](super).
///
/// Every export that is submitted gets exactly one outcome from [`poll_outcome`](Self::poll_outcome), a cancelled one
/// included. One fact costs time in proportion to what it changes: the exports that it starts, ends or wakes, each in
/// logarithmic time of the exports without a verdict.
///
/// A time that runs backwards is read as the latest time seen.
pub struct Engine<P: Connection = protocol::Default> {
    settings: Arc<Settings>,
    preparer: Preparer,
    rng: Rng,
    now: Instant,
    intake: Intake,
    next_id: u64,
    /// Every export whose outcome has not been taken, or the parts of one that was split, under ids of their own.
    exports: BTreeMap<ExportId, Machine>,
    /// The exports that were split and whose outcome has not been taken.
    families: BTreeMap<ExportId, Family>,
    /// Parts without a verdict, beyond one an export.
    surplus: u64,
    /// The exports in `Init` whose credentials were asked for.
    authorizing: BTreeSet<ExportId>,
    /// The deadlines of the exports without a verdict.
    deadlines: BTreeSet<(Instant, ExportId)>,
    /// The gates of the exports in `Init`.
    gates: BTreeSet<(Instant, ExportId)>,
    /// The destinations, as in the settings.
    lanes: Vec<LaneState>,
    /// The exports that have their verdict, in its order.
    settled: VecDeque<ExportId>,
    /// The connections of all lanes.
    conns: Vec<Conn<P>>,
    actions: VecDeque<Action>,
    stats: Stats,
    /// What whoever runs the program is to know.
    events: Events,
    /// The account of the self-metrics.
    meter: Meter,
}

/// Which exports are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Intake {
    /// All.
    Open,
    /// None; those without a verdict go on.
    Draining,
    /// None, and none is left.
    Shut,
}

impl<P: Connection> Engine<P> {
    /// An engine with no connection yet. `seed` is all its randomness: the jitter of its waits.
    ///
    /// # Errors
    ///
    /// A misuse error that names the setting that cannot work.
    pub fn new(config: Config, seed: u64) -> Result<Self, Error> {
        let mut engine = Self::with_settings(config.settings()?, seed);
        if config.observer().is_set() {
            engine.observe(true);
            engine.tell_config(&config.report());
        }
        Ok(engine)
    }

    /// As [`new`](Self::new), with settings that were checked.
    #[doc(hidden)]
    pub fn with_settings(settings: Settings, seed: u64) -> Self {
        let settings = Arc::new(settings);
        Self {
            preparer: Preparer::new(settings.clone()),
            lanes: settings.lanes.iter().map(LaneState::new).collect(),
            settings,
            rng: Rng::with_seed(seed),
            now: Instant::ZERO,
            intake: Intake::Open,
            next_id: 0,
            exports: BTreeMap::new(),
            families: BTreeMap::new(),
            surplus: 0,
            authorizing: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            gates: BTreeSet::new(),
            settled: VecDeque::new(),
            conns: Vec::new(),
            actions: VecDeque::new(),
            stats: Stats::default(),
            events: Events::new(),
            meter: Meter::default(),
        }
    }

    /// Takes an export. Its deadline runs from `now`.
    ///
    /// A request without items, or without bytes, succeeds at once and is not sent (OTLP specification, "Send no empty
    /// envelopes"). A request that does not fit under the memory limit beside the exports without a verdict, or not even
    /// alone, and every request after a shutdown, fails at once. The outcome comes from
    /// [`poll_outcome`](Self::poll_outcome) in each case.
    ///
    /// A request that is larger than the settings allow, or than the collector was found to take, is sent in parts, which
    /// have one outcome: the sum of theirs. A single record that is larger than the settings allow is dropped.
    pub fn submit(&mut self, now: Instant, request: Request) -> ExportId {
        let prepared = self.preparer.prepare(request);
        self.advance_clock(now);
        self.submit_now(prepared, None)
    }

    /// As [`submit`](Self::submit), for somebody who keeps the account of the items.
    #[doc(hidden)]
    pub fn submit_managed(&mut self, now: Instant, request: Request, managed: Managed) -> ExportId {
        let prepared = self.preparer.prepare(request);
        self.advance_clock(now);
        self.submit_now(prepared, Some(managed))
    }

    fn submit_now(&mut self, prepared: Prepared, managed: Option<Managed>) -> ExportId {
        let id = self.submit_prepared(self.now, self.now, prepared, managed);
        self.pump();
        self.check();
        id
    }

    /// Takes an export that was made ready elsewhere, by this engine's own preparer. Its deadline runs from when that was
    /// begun. It is not begun before the next fact: one that is cancelled before that was not sent.
    pub(crate) fn submit_prepared(
        &mut self,
        now: Instant,
        begun: Instant,
        prepared: Prepared,
        managed: Option<Managed>,
    ) -> ExportId {
        self.advance_clock(now);
        let id = ExportId(self.next_number());
        let refusal = self.refusal(&prepared);
        if let Some((_, DropReason::MemoryLimit)) = &refusal {
            self.tell_budget(prepared.request.signal(), prepared.request.items());
        }
        let Prepared { request, parts } = prepared;
        let timeout = request
            .timeout()
            .unwrap_or(self.settings.route(request.signal()).timeout);
        self.stats.exports_in_flight += 1;
        match parts {
            Parts::Many(parts) if refusal.is_none() => {
                self.submit_family(id, parts, begun, timeout, managed);
            }
            Parts::One(part) => {
                let machine = Machine::new(part, begun, timeout).with_managed(managed);
                self.submit_part(id, machine, refusal);
            }
            Parts::Many(_) => {
                let machine = Machine::new(Part::plain(request), begun, timeout).with_managed(managed);
                self.submit_part(id, machine, refusal);
            }
        }
        self.check();
        id
    }

    fn submit_part(&mut self, id: ExportId, mut machine: Machine, refusal: Option<(Error, DropReason)>) {
        self.account_submitted(&machine);
        if let Some(verdict) = decided(refusal, machine.items()) {
            machine.refuse(verdict);
        }
        let is_settled = machine.state() == ExportState::Done;
        self.deadlines.insert((machine.deadline(), id));
        self.exports.insert(id, machine);
        if is_settled {
            self.settle(id);
        } else {
            self.catch_up();
            self.admit(id);
        }
    }

    /// Takes a fact. A fact about a connection that was closed, or out of its order, is ignored.
    pub fn handle(&mut self, now: Instant, fact: Fact<'_>) {
        self.advance_clock(now);
        if let Fact::Authorized(..) = fact {
            self.catch_up();
        }
        match fact {
            Fact::Resolved(conn, addresses) => self.handle_resolved(conn, addresses),
            Fact::ResolveFailed(conn, why) => self.handle_resolve_failed(conn, why),
            Fact::Connected(conn) => self.handle_connected(conn),
            Fact::ConnectFailed(conn, why) => self.handle_connect_failed(conn, why),
            Fact::Input(conn, bytes) => self.handle_input(conn, bytes),
            Fact::Sent(conn, count) => self.handle_sent(conn, count),
            Fact::Eof(conn) => self.handle_gone(conn, "the collector closed the connection"),
            Fact::Failed(conn, why) => self.handle_gone(conn, why),
            Fact::Timeout => {}
            Fact::Authorized(id, headers) => self.handle_authorized(id, headers),
            Fact::AuthorizeFailed(id, why) => self.handle_not_authorized(id, why.clone()),
            Fact::Cancel(id) => self.abandon_all(id, Machine::cancel),
            Fact::Drain => self.intake = self.intake.max(Intake::Draining),
            Fact::Shutdown => self.handle_shutdown(),
        }
        self.pump();
        self.fire_timers();
        self.check();
    }

    /// What the shell has to do, in order.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Fact::Timeout`] is due; `None` while nothing but facts can change anything.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_deadline().map(|deadline| deadline.at)
    }

    /// What is due next, and when.
    pub fn next_deadline(&self) -> Option<Deadline> {
        self.earliest()
    }

    /// The verdict of an export, in the order in which they were reached. The export is forgotten with it.
    pub fn poll_outcome(&mut self) -> Option<(ExportId, Result<Outcome, Error>)> {
        let id = self.settled.pop_front()?;
        if let Some(family) = self.families.remove(&id) {
            return Some((id, family.into_verdict()));
        }
        let verdict = self.exports.remove(&id)?.into_verdict()?;
        Some((id, verdict))
    }

    /// The account at this moment.
    pub fn stats(&self) -> Stats {
        let failing = self.lanes.iter().filter_map(|lane| lane.health.failing_since());
        Stats {
            outage_since: failing.min(),
            ..self.stats.clone()
        }
    }

    /// Where an export is, or the part of it that has come least far; `None` once its outcome was taken.
    pub fn state(&self, id: ExportId) -> Option<ExportState> {
        if let Some(family) = self.families.get(&id) {
            let states = family
                .live()
                .filter_map(|part| Some(self.exports.get(&part)?.state()));
            return Some(states.min().unwrap_or(ExportState::Done));
        }
        self.exports.get(&id).map(Machine::state)
    }

    /// When the time of an export is over; `None` once its outcome was taken.
    pub fn deadline(&self, id: ExportId) -> Option<Instant> {
        if let Some(family) = self.families.get(&id) {
            return Some(family.deadline());
        }
        self.exports.get(&id).map(Machine::deadline)
    }

    /// The settings in use.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What makes requests ready for this engine, outside of its lock.
    #[cfg(feature = "std")]
    pub(crate) fn preparer(&self) -> Preparer {
        self.preparer.clone()
    }

    /// The largest request of a signal that is sent in one part: what the settings allow, or less once the collector has
    /// refused that.
    pub fn request_bytes_max(&self, signal: Signal) -> usize {
        self.preparer.request_bytes_max(signal)
    }

    /// Whether every export has its verdict and nothing is left to poll.
    pub fn is_idle(&self) -> bool {
        self.exports.is_empty() && self.families.is_empty() && self.actions.is_empty()
    }

    /// Whether [`Fact::Drain`] or [`Fact::Shutdown`] was taken: no further export is accepted.
    pub fn is_draining(&self) -> bool {
        self.intake != Intake::Open
    }

    fn advance_clock(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// A number for an export, a connection or a call, never used twice.
    fn next_number(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Whether a request would be refused for what other exports hold: the same may be taken later.
    #[cfg(feature = "std")]
    pub(crate) fn must_wait(&self, prepared: &Prepared) -> bool {
        let limit = self.settings.memory_limit_bytes as u64;
        let len = prepared.held_bytes() as u64;
        let fits_alone = len <= limit && !self.is_draining();
        fits_alone && len > limit.saturating_sub(self.stats.bytes_in_flight)
    }

    /// Why a request cannot be taken at all.
    fn refusal(&self, prepared: &Prepared) -> Option<(Error, DropReason)> {
        let endpoint = &self.settings.route(prepared.request.signal()).endpoint_name;
        let refuse = |kind, text| Error::new(kind, text).with_endpoint(endpoint.clone());
        if self.is_draining() {
            let text = "the exporter was shut down before this export; submit exports before the shutdown";
            return Some((refuse(Kind::Shutdown, text.to_owned()), DropReason::Shutdown));
        }
        let limit = self.settings.memory_limit_bytes as u64;
        let (len, held) = (prepared.held_bytes() as u64, self.stats.bytes_in_flight);
        if len > limit {
            let text = format!(
                "a request of {len} bytes is larger than the memory limit of {limit} bytes by itself; split it, or raise \
                 with_memory_limit"
            );
            return Some((refuse(Kind::Misuse, text), DropReason::MemoryLimit));
        }
        if len > limit.saturating_sub(held) {
            let text = format!(
                "a request of {len} bytes does not fit under the memory limit of {limit} bytes beside the {held} bytes of \
                 {} exports without a verdict; submit later, or raise with_memory_limit",
                self.stats.exports_in_flight
            );
            return Some((refuse(Kind::MemoryLimit, text), DropReason::MemoryLimit));
        }
        None
    }

    /// Does what has become possible: starts calls, opens connections, moves bytes and events, until nothing moves.
    ///
    /// It ends: each round after the first needs a call that ended, and an export whose call ended either settles, waits
    /// for its gate, which only a fact opens, or spends its one resend without backoff.
    fn pump(&mut self) {
        loop {
            self.start_calls();
            self.drain_sessions();
            self.reap();
            self.dial();
            if !self.can_move() {
                return;
            }
        }
    }

    fn handle_shutdown(&mut self) {
        self.intake = Intake::Shut;
        let live: Vec<ExportId> = self.deadlines.iter().map(|&(_, id)| id).collect();
        for id in live {
            self.abandon(id, Machine::shut_down);
        }
        self.close_all();
        self.finish_outages();
    }

    /// The law of conservation, in builds with debug assertions.
    fn check(&self) {
        debug_assert!(self.stats.is_conserved(), "{:?}", self.stats);
        debug_assert_eq!(
            self.stats.exports_in_flight + self.surplus,
            self.deadlines.len() as u64,
            "an export without a verdict has a deadline, as has each of its parts"
        );
    }
}

/// The verdict of an export that needs no attempt: it was refused, or has nothing to send.
fn decided(refusal: Option<(Error, DropReason)>, items: u64) -> Option<Verdict> {
    let mut counts = ItemCounts::default();
    match refusal {
        Some((error, _)) if items == 0 => Some(Err(error)),
        Some((error, reason)) => {
            counts.dropped = items;
            Some(Err(error.with_counts(counts).with_drop_reason(reason)))
        }
        None if items == 0 => Some(Ok(Outcome {
            counts,
            message: None,
            attempts: 0,
        })),
        None => None,
    }
}
