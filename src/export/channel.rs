//! An engine with its sockets and its timer behind a lock, pumped by whichever future is polled.

mod held;
mod mailbox;

use self::held::{After, Core, Slot};
pub(crate) use self::mailbox::Offer;
use super::drive::{ExportId, Fact};
use super::engine::Engine;
use super::machine::ExportState;
use super::managed::Managed;
use super::origin::Origin;
use super::prepare::Preparer;
use super::sync::lock;
use super::waiters::{Hub, Key};
use crate::config::{Config, ConfigReport};
use crate::credentials::Authorization;
use crate::encode::{Request, Signal};
use crate::error::Error;
use crate::observe::{EventKind, Observer, SelfMetrics, Transition};
use crate::outcome::{DropReason, Outcome};
use crate::rt::Runtime;
use crate::stats::Stats;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Poll, Waker};
use core::time::Duration;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};

/// Rounds of work in one poll before it yields, so that a busy peer cannot hold an executor's thread.
const ROUNDS_MAX: usize = 64;

/// The verdict of an export.
pub(crate) type Verdict = Result<Outcome, Error>;

/// What exporters, futures and the driver share.
pub(crate) struct Channel<R: Runtime> {
    /// In another process nothing but this may be touched: no lock, no socket, no timer.
    pub(crate) origin: Origin,
    pub(crate) hub: Arc<Hub>,
    core: Mutex<Core<R>>,
    /// Outside the lock, since what it does takes time.
    preparer: Preparer,
    /// Outside the lock, since it is foreign.
    observer: Observer,
    /// What another process counted: nothing.
    uncounted: SelfMetrics,
    /// Somebody tells the observer of events: one at a time, so that it hears them in their order.
    is_telling: AtomicBool,
    /// What libraries tell of their work is kept from the application's telemetry.
    #[cfg(feature = "http2")]
    is_quiet: bool,
}

impl<R: Runtime> Channel<R> {
    pub(crate) fn new(config: Config, runtime: R) -> Result<Self, Error> {
        let resolver = config.resolver();
        let observer = config.observer().clone();
        let engine = Engine::new(config, runtime.seed())?;
        let hub = Arc::new(Hub::new());
        Ok(Self {
            origin: Origin::here(),
            preparer: engine.preparer(),
            observer,
            uncounted: engine.self_metrics(),
            is_telling: AtomicBool::new(false),
            #[cfg(feature = "http2")]
            is_quiet: engine.settings().isolate_tracing,
            core: Mutex::new(Core::new(engine, runtime, resolver, Waker::from(hub.clone()))),
            hub,
        })
    }

    /// The runtime; none in another process.
    pub(crate) fn runtime(&self) -> Option<R> {
        (!self.origin.is_foreign()).then(|| lock(&self.core).runtime.clone())
    }

    /// Whether a signal goes out over gRPC, and the largest request of it that is worth gathering.
    pub(crate) fn limits(&self, signal: Signal) -> (bool, usize) {
        self.preparer.limits(signal)
    }

    /// The time of an export of a signal, with its retries.
    #[cfg(feature = "opentelemetry_0_33")]
    pub(crate) fn timeout(&self, signal: Signal) -> Duration {
        self.preparer.timeout(signal)
    }

    /// Accepts an export; its deadline runs from here, and it begins with the next pump, whoever pumps. In another process
    /// it is not accepted.
    pub(crate) fn submit(&self, request: Request) -> Option<(ExportId, R)> {
        let slot = Slot::Own {
            key: None,
            verdict: None,
        };
        let accepted = self.submit_as(slot, request, None)?;
        self.hub.wake_driver();
        Some(accepted)
    }

    fn submit_as(&self, slot: Slot, request: Request, managed: Option<Managed>) -> Option<(ExportId, R)> {
        if self.origin.is_foreign() {
            self.origin.refuse(&request);
            return None;
        }
        let is_long = self.preparer.has_work(&request);
        let begun = is_long.then(|| lock(&self.core).runtime.now());
        let prepared = self.preparer.prepare(request);
        let mut core = lock(&self.core);
        let now = core.runtime.now();
        let id = core
            .engine
            .submit_prepared(now, begun.unwrap_or(now), prepared, managed);
        core.has_submitted = true;
        core.exports.insert(id, slot);
        Some((id, core.runtime.clone()))
    }

    pub(crate) fn state(&self, id: ExportId) -> ExportState {
        if self.origin.is_foreign() {
            return ExportState::Done;
        }
        lock(&self.core).engine.state(id).unwrap_or(ExportState::Done)
    }

    pub(crate) fn stats(&self) -> Stats {
        if self.origin.is_foreign() {
            return self.origin.stats();
        }
        lock(&self.core).engine.stats()
    }

    pub(crate) fn self_metrics(&self) -> SelfMetrics {
        if self.origin.is_foreign() {
            return self.uncounted.clone();
        }
        lock(&self.core).engine.self_metrics()
    }

    /// Tells what became of the configuration.
    pub(crate) fn tell_config(&self, report: &ConfigReport) {
        self.hold(None, |core, _| {
            // Where an observer is set, the engine has told when it was made.
            if !self.observer.is_set() {
                core.engine.tell_config(report);
            }
        });
    }

    /// Tells of something that happened to `items` in a layer above, under the same limit as what the engine tells. Whether it
    /// was told.
    pub(crate) fn tell(
        &self,
        endpoint: Option<&Arc<str>>,
        kind: EventKind,
        items: u64,
        make: impl FnOnce() -> Transition<'static>,
    ) -> bool {
        if self.origin.is_foreign() {
            return false;
        }
        self.hold(None, |core, _| {
            let now = core.runtime.now();
            core.engine.tell(now, endpoint, kind, items, make)
        })
    }

    /// Has the next event of a kind told whenever it comes.
    pub(crate) fn release(&self, endpoint: Option<&Arc<str>>, kind: EventKind) {
        if !self.origin.is_foreign() {
            lock(&self.core).engine.release(endpoint, kind);
        }
    }

    /// How errors name the endpoint of a signal, or that of all of them, where there is one.
    pub(crate) fn name_of(&self, signal: Option<Signal>) -> Option<Arc<str>> {
        if self.origin.is_foreign() {
            return None;
        }
        lock(&self.core).engine.name_of(signal).cloned()
    }

    /// Items that another account books were lost. Whether there is an outage that tells it with its end.
    pub(crate) fn note_loss(
        &self,
        signal: Signal,
        reason: Option<DropReason>,
        dropped: u64,
        unknown: u64,
    ) -> bool {
        if self.origin.is_foreign() {
            return false;
        }
        lock(&self.core)
            .engine
            .note_loss(signal, reason, dropped, unknown)
    }

    /// Pumps, and returns the verdict of `id` once it is there. `key` is the caller's place among the waiters, where it
    /// has registered its waker already.
    pub(crate) fn poll_export(&self, id: ExportId, key: Option<Key>) -> Poll<Verdict> {
        self.pump(None, |core| {
            let Slot::Own { key: place, verdict } = core.exports.get_mut(&id)? else {
                return None;
            };
            *place = key;
            let verdict = verdict.take()?;
            core.exports.remove(&id);
            Some(verdict)
        })
    }

    /// Pumps for everyone, until the channel is closed.
    pub(crate) fn poll_driver(&self) -> Poll<()> {
        self.pump(None, |core| core.is_closed.then_some(()))
    }

    /// Refuses further exports; those under way have `timeout` from now.
    pub(crate) fn close(&self, timeout: Duration) {
        if self.origin.is_foreign() {
            return;
        }
        {
            let mut core = lock(&self.core);
            let now = core.runtime.now();
            let at = now + timeout;
            core.engine.handle(now, Fact::Drain);
            core.shutdown_at = Some(core.shutdown_at.map_or(at, |earlier| earlier.min(at)));
        }
        self.hub.wake_pumpers();
    }

    /// Pumps until every export has its verdict and every connection is closed.
    pub(crate) fn poll_closed(&self) -> Poll<Stats> {
        self.pump(None, |core| core.is_closed.then(|| core.engine.stats()))
    }

    /// Nobody waits for the export any more: it is cancelled, and what that gives to write is written as far as the
    /// sockets take it.
    pub(crate) fn abandon(&self, id: ExportId) {
        if self.origin.is_foreign() {
            return;
        }
        self.hold(None, |core, after| {
            if let Some(Slot::Own { verdict: None, .. }) = core.exports.remove(&id) {
                self.cancel_held(core, after, id);
                core.check_closed(after);
            }
        });
    }

    fn cancel_held(&self, core: &mut Core<R>, after: &mut After<R>, id: ExportId) {
        let now = core.runtime.now();
        core.engine.handle(now, Fact::Cancel(id));
        core.settle(after);
        if core.act(after) {
            core.write_all();
            // What else it set in motion is for those who stay.
            self.hub.notify();
        }
    }

    /// Moves facts and actions between the engine and the runtime until nothing moves or the budget is spent. `done` is
    /// asked before and after.
    ///
    /// The future under `own` is polled until it finds nothing: a verdict that is its own need not wake it.
    fn pump<T>(&self, own: Option<Key>, mut done: impl FnMut(&mut Core<R>) -> Option<T>) -> Poll<T> {
        let result = self.hold(own, |core, after| {
            let mut result = done(core);
            let mut rounds = 0;
            // A verdict that was there already was left by a pump that ran to its end. One that comes now does not end
            // this pump: whoever leaves must leave every socket and the timer watched for the others.
            while !was_done(&result, rounds) {
                let has_moved = core.turn(after);
                if result.is_none() {
                    result = done(core);
                }
                rounds += 1;
                if rounds == ROUNDS_MAX {
                    // More may be waiting: come back after the executor's other tasks had their turn.
                    self.hub.notify();
                    break;
                }
                if !has_moved && !self.hub.take_woken() {
                    break;
                }
            }
            result
        });
        result.map_or(Poll::Pending, Poll::Ready)
    }

    /// Runs `work` with the channel held, and asks for the credentials that it wants once the channel was released. A panic
    /// goes on to the caller.
    fn hold<T>(&self, own: Option<Key>, work: impl FnOnce(&mut Core<R>, &mut After<R>) -> T) -> T {
        let (result, unauthorized) = self.hold_once(own, work);
        self.authorize(unauthorized);
        result.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Asks for credentials, which is foreign code, and lets the exports go on with what it gives.
    fn authorize(&self, mut unauthorized: Vec<(ExportId, Authorization)>) {
        while !unauthorized.is_empty() {
            let ask = |(id, authorization): (ExportId, Authorization)| (id, authorization.ask());
            let answers: Vec<_> = unauthorized.into_iter().map(ask).collect();
            let result;
            (result, unauthorized) = self.hold_once(None, |core, after| {
                for (id, answer) in &answers {
                    let now = core.runtime.now();
                    match answer {
                        Ok(headers) => core.engine.handle(now, Fact::Authorized(*id, headers)),
                        Err(why) => core.engine.handle(now, Fact::AuthorizeFailed(*id, why)),
                    }
                }
                core.settle(after);
                core.act(after);
                core.write_all();
                core.check_closed(after);
                // What is set in motion, a connect or a write that did not end, is for those who pump.
                self.hub.notify();
            });
            result.unwrap_or_else(|panic| resume_unwind(panic));
        }
    }

    /// Runs `work` with the channel held; wakes are kept back until it was released. A panic in it keeps no other future
    /// from being woken.
    fn hold_once<T>(
        &self,
        own: Option<Key>,
        work: impl FnOnce(&mut Core<R>, &mut After<R>) -> T,
    ) -> (std::thread::Result<T>, Vec<(ExportId, Authorization)>) {
        let mut after = After::new();
        let (result, must_wake, has_events) = {
            let mut core = lock(&self.core);
            core.engine.observe(self.observer.is_listening());
            self.hub.begin_pump();
            // A subscriber that heard the runtime's libraries now, and exported that, would wait for this very lock.
            #[cfg(feature = "http2")]
            let _guard = crate::protocol::quiet(self.is_quiet);
            let result = catch_unwind(AssertUnwindSafe(|| work(&mut core, &mut after)));
            (result, self.hub.end_pump(), core.engine.has_events())
        };
        let unauthorized = core::mem::take(&mut after.unauthorized);
        self.finish(after, own, must_wake || result.is_err(), has_events);
        (result, unauthorized)
    }

    fn finish(&self, after: After<R>, own: Option<Key>, must_wake: bool, has_events: bool) {
        let After {
            settled,
            discarded,
            is_closed,
            unauthorized: _,
        } = after;
        {
            // To wake a task may be to write to a reactor.
            #[cfg(feature = "http2")]
            let _guard = crate::protocol::quiet(self.is_quiet);
            settled
                .into_iter()
                .filter(|key| Some(*key) != own)
                .for_each(|key| self.hub.wake_one(key));
            if is_closed {
                self.hub.wake_all();
            } else if must_wake {
                self.hub.wake_pumpers();
            }
        }
        if has_events {
            self.tell_observer();
        }
        // Last: what is dropped is foreign and may panic.
        #[cfg(feature = "http2")]
        let _guard = crate::protocol::quiet(self.is_quiet);
        drop(discarded);
    }

    /// Tells the observer of every event that waits, with the channel released, unless somebody is about it: another thread, or
    /// the observer itself, which has called back.
    fn tell_observer(&self) {
        while !self.is_telling.swap(true, Ordering::Acquire) {
            loop {
                let event = lock(&self.core).engine.poll_event();
                let Some(event) = event else { break };
                self.observer.tell(event);
            }
            self.is_telling.store(false, Ordering::Release);
            // Whoever made an event meanwhile has left it to this one.
            if !lock(&self.core).engine.has_events() {
                return;
            }
        }
    }
}

impl<R: Runtime> Drop for Channel<R> {
    /// In another process the sockets and the timer are left as they are: to close one in order would take it out of a
    /// readiness queue, or lock a runtime's list, that the parent process goes on with.
    fn drop(&mut self) {
        if self.origin.is_foreign() {
            let core = self.core.get_mut().unwrap_or_else(PoisonError::into_inner);
            core::mem::take(&mut core.links)
                .into_iter()
                .for_each(core::mem::forget);
            core::mem::forget(core.timer.take());
        }
    }
}

/// Whether there was nothing to pump for in the first place.
fn was_done<T>(result: &Option<T>, rounds: usize) -> bool {
    rounds == 0 && result.is_some()
}
