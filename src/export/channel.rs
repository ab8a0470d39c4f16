//! An engine with its sockets and its timer behind a lock, pumped by whichever future is polled.

use super::drive::{Action, ConnId, ExportId, Fact};
use super::engine::Engine;
use super::few::Few;
use super::flight::MailboxId;
use super::link::{Link, guarded, guarded_poll};
use super::machine::ExportState;
use super::managed::Managed;
use super::origin::Origin;
use super::prepare::{Prepared, Preparer};
use super::sync::lock;
use super::waiters::{Hub, Key};
use crate::config::{Config, ConfigReport};
use crate::credentials::Authorization;
use crate::encode::{Request, Signal};
use crate::endpoint::Name;
use crate::error::Error;
use crate::observe::{EventKind, Observer, SelfMetrics, Transition};
use crate::outcome::{DropReason, Outcome};
use crate::rt::{Resolve, Resolver, Runtime, Timer};
use crate::stats::Stats;
use crate::time::Instant;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};

/// Rounds of work in one poll before it yields, so that a busy peer cannot hold an executor's thread.
const ROUNDS_MAX: usize = 64;
/// Bytes read from a socket at a time.
const READ_BYTES: usize = 16 << 10;
/// Lookups of one name that may run at a time. One that was given up runs on, and holds a thread until the system's resolver
/// lets it go; while that many hang, a further one would hang too.
const LOOKUPS_MAX: usize = 4;

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

struct Core<R: Runtime> {
    engine: Engine,
    runtime: R,
    resolver: Option<Resolver>,
    /// The names that were looked up, each held by each of its lookups that runs. There are as many as destinations.
    lookups: Vec<(Name, Arc<()>)>,
    links: Vec<(ConnId, Link<R>)>,
    /// Gone only from a channel that is dropped in another process.
    timer: Option<R::Timer>,
    exports: HashMap<ExportId, Slot>,
    mailboxes: HashMap<MailboxId, Mailbox>,
    mailboxes_opened: u64,
    /// Exports were submitted since the engine was last told the time, and are to begin.
    has_submitted: bool,
    /// The hub's waker, which is all that sockets and timers see.
    waker: Waker,
    read_buffer: Box<[u8]>,
    /// When what is under way is to be dropped, once a shutdown was asked for.
    shutdown_at: Option<Instant>,
    is_closed: bool,
    /// Why the runtime can serve no more, once it cannot.
    gone: Option<String>,
}

/// What the channel keeps of one export.
enum Slot {
    /// It has a future.
    Own {
        /// The future's place among the waiters, once it was polled.
        key: Option<Key>,
        verdict: Option<Verdict>,
    },
    /// Its verdict goes there.
    Mailed(MailboxId),
}

/// The verdicts of the exports of one owner.
#[derive(Default)]
struct Mailbox {
    /// The owner's place among the waiters, once it was polled.
    key: Option<Key>,
    verdicts: VecDeque<(ExportId, Verdict)>,
}

/// What a pump leaves to be done after the channel's lock was released.
struct After<R: Runtime> {
    /// Futures whose verdict is there.
    settled: Few<Key>,
    /// Exports whose credentials are to be asked for.
    unauthorized: Vec<(ExportId, Authorization)>,
    /// Sockets and futures of the runtime that are of no use any more.
    discarded: Vec<Link<R>>,
    /// The channel was closed, which the driver and every shutdown wait for.
    is_closed: bool,
}

/// A request that is submitted if there is room for it.
pub(crate) enum Offer {
    /// It was not tried yet.
    New(Request),
    /// There was no room before; it is ready to be sent.
    Held(Box<Prepared>),
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
            core: Mutex::new(Core {
                engine,
                timer: Some(runtime.timer()),
                runtime,
                resolver,
                lookups: Vec::new(),
                links: Vec::new(),
                exports: HashMap::new(),
                mailboxes: HashMap::new(),
                mailboxes_opened: 0,
                has_submitted: false,
                waker: Waker::from(hub.clone()),
                read_buffer: alloc::vec![0; READ_BYTES].into(),
                shutdown_at: None,
                is_closed: false,
                gone: None,
            }),
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

    /// As [`submit`](Self::submit), the verdict going to a mailbox. `key` is the place of its owner among the waiters, who
    /// need not be woken.
    pub(crate) fn submit_to(
        &self,
        mailbox: MailboxId,
        key: Option<Key>,
        request: Request,
        managed: Option<Managed>,
    ) -> Option<ExportId> {
        let (id, _) = self.submit_as(Slot::Mailed(mailbox), request, managed)?;
        self.hub.wake_other_driver(key);
        Some(id)
    }

    /// As [`submit_to`](Self::submit_to), unless the request would be refused for what other exports hold: it comes back then, as
    /// it was made ready.
    pub(crate) fn try_submit_to(
        &self,
        mailbox: MailboxId,
        key: Option<Key>,
        offer: Offer,
    ) -> Result<Option<ExportId>, Box<Prepared>> {
        if self.origin.is_foreign() {
            match offer {
                Offer::New(request) => self.origin.refuse(&request),
                Offer::Held(prepared) => self.origin.refuse(&prepared.request),
            }
            return Ok(None);
        }
        let (prepared, begun) = match offer {
            Offer::New(request) => {
                let is_long = self.preparer.has_work(&request);
                let begun = is_long.then(|| lock(&self.core).runtime.now());
                (self.preparer.prepare(request), begun)
            }
            // Its deadline runs from now: it has waited for room, as its source has.
            Offer::Held(prepared) => (*prepared, None),
        };
        let id = {
            let mut core = lock(&self.core);
            if core.engine.must_wait(&prepared) {
                return Err(Box::new(prepared));
            }
            let now = core.runtime.now();
            let begun = begun.unwrap_or(now);
            let id = core.engine.submit_prepared(now, begun, prepared, None);
            core.has_submitted = true;
            core.exports.insert(id, Slot::Mailed(mailbox));
            id
        };
        self.hub.wake_other_driver(key);
        Ok(Some(id))
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

    /// A place for the verdicts of one owner.
    pub(crate) fn open_mailbox(&self) -> MailboxId {
        if self.origin.is_foreign() {
            return MailboxId(0);
        }
        let mut core = lock(&self.core);
        core.mailboxes_opened += 1;
        let id = MailboxId(core.mailboxes_opened);
        core.mailboxes.insert(id, Mailbox::default());
        id
    }

    /// Cancels what was submitted to a mailbox, and forgets it.
    pub(crate) fn close_mailbox(&self, mailbox: MailboxId) {
        let of_mailbox = |(id, slot): (&ExportId, &Slot)| {
            matches!(slot, Slot::Mailed(other) if *other == mailbox).then_some(*id)
        };
        let verdicts = self.hold(None, |core, after| {
            let mut left: Vec<ExportId> = core.exports.iter().filter_map(of_mailbox).collect();
            // The newest first: the place of one that is gone is not for another that goes as well.
            left.sort_unstable_by(|one, other| other.cmp(one));
            let verdicts = core.mailboxes.remove(&mailbox);
            for id in left {
                core.exports.remove(&id);
                self.cancel_held(core, after, id);
            }
            core.check_closed(after);
            verdicts
        });
        drop(verdicts);
    }

    /// Cancels an export, and takes its verdict out of the mailbox.
    pub(crate) fn cancel(&self, mailbox: MailboxId, id: ExportId) -> Option<Verdict> {
        self.hold(None, |core, after| {
            self.cancel_held(core, after, id);
            core.check_closed(after);
            let verdicts = &mut core.mailboxes.get_mut(&mailbox)?.verdicts;
            let at = verdicts.iter().rposition(|(settled, _)| *settled == id)?;
            verdicts.remove(at).map(|(_, verdict)| verdict)
        })
    }

    /// Pumps, and moves the verdicts of a mailbox into `verdicts`, which is empty. `key` is its owner's place among the
    /// waiters, where the waker is registered already.
    pub(crate) fn poll_mailbox(
        &self,
        mailbox: MailboxId,
        key: Option<Key>,
        verdicts: &mut VecDeque<(ExportId, Verdict)>,
    ) {
        let _ = self.pump(key, |core| {
            let mailbox = core.mailboxes.get_mut(&mailbox)?;
            mailbox.key = key;
            core::mem::swap(verdicts, &mut mailbox.verdicts);
            (!verdicts.is_empty()).then_some(())
        });
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

impl<R: Runtime> After<R> {
    fn new() -> Self {
        Self {
            settled: Few::new(),
            unauthorized: Vec::new(),
            discarded: Vec::new(),
            is_closed: false,
        }
    }
}

impl<R: Runtime> Core<R> {
    /// One round: facts in, actions out, then the timer. Whether anything moved.
    ///
    /// Reading comes first: a connection that the peer has closed while nobody pumped is noticed before a request that was
    /// just submitted goes into it.
    fn turn(&mut self, after: &mut After<R>) -> bool {
        let mut has_moved = self.read_all(after);
        if core::mem::take(&mut self.has_submitted) {
            self.engine.handle(self.runtime.now(), Fact::Timeout);
            has_moved = true;
        }
        has_moved |= self.act(after);
        has_moved |= self.connect_all(after);
        has_moved |= self.write_all();
        has_moved |= self.check_time(after);
        self.settle(after);
        self.check_closed(after);
        has_moved
    }

    /// Carries out the engine's actions.
    fn act(&mut self, after: &mut After<R>) -> bool {
        let mut has_acted = false;
        while let Some(action) = self.engine.poll_action() {
            has_acted = true;
            match action {
                Action::Resolve(conn, name) => match self.resolve(name) {
                    Ok(resolving) => self.put(conn, Link::resolving(resolving), after),
                    Err(error) => {
                        let (now, why) = (self.runtime.now(), error.to_string());
                        self.engine.handle(now, Fact::ResolveFailed(conn, &why));
                    }
                },
                Action::Connect(conn, target) => match guarded(|| Ok(self.runtime.connect(&target))) {
                    Ok(connecting) => self.put(conn, Link::connecting(connecting), after),
                    Err(error) => {
                        let (now, why) = (self.runtime.now(), error.to_string());
                        self.engine.handle(now, Fact::ConnectFailed(conn, &why));
                    }
                },
                Action::Transmit(conn, chunks) => {
                    if let Some((_, link)) = self.links.iter_mut().find(|(id, _)| *id == conn) {
                        link.queue(chunks);
                    }
                }
                Action::Close(conn) => {
                    if let Some(at) = self.links.iter().position(|(id, _)| *id == conn) {
                        after.discarded.push(self.links.swap_remove(at).1);
                    }
                }
                Action::Authorize(id, authorization) => after.unauthorized.push((id, authorization)),
            }
        }
        has_acted
    }

    fn resolve(&mut self, name: Name) -> io::Result<R::Resolving> {
        let at = self.lookups.iter().position(|(known, _)| *known == name);
        let at = at.unwrap_or_else(|| {
            self.lookups.push((name.clone(), Arc::new(())));
            self.lookups.len() - 1
        });
        let running = &self.lookups[at].1;
        if Arc::strong_count(running) > LOOKUPS_MAX {
            return Err(io::Error::other(format!(
                "{LOOKUPS_MAX} earlier lookups have not ended"
            )));
        }
        let query = Resolve::new(name, self.resolver.clone(), running);
        guarded(|| Ok(self.runtime.resolve(query)))
    }

    fn put(&mut self, conn: ConnId, link: Link<R>, after: &mut After<R>) {
        match self.links.iter_mut().find(|(id, _)| *id == conn) {
            Some((_, place)) => after.discarded.push(core::mem::replace(place, link)),
            None => self.links.push((conn, link)),
        }
    }

    /// Asks after names and sockets that are on their way.
    fn connect_all(&mut self, after: &mut After<R>) -> bool {
        let Self {
            engine,
            runtime,
            links,
            waker,
            ..
        } = self;
        let cx = &mut Context::from_waker(waker);
        let mut has_moved = false;
        for (conn, link) in links.iter_mut() {
            if let Poll::Ready(resolved) = link.poll_resolved(cx) {
                has_moved = true;
                match resolved {
                    Ok(addresses) => engine.handle(runtime.now(), Fact::Resolved(*conn, &addresses)),
                    Err(error) => {
                        engine.handle(runtime.now(), Fact::ResolveFailed(*conn, &error.to_string()));
                    }
                }
            } else if let Poll::Ready(connected) = link.poll_connected(cx) {
                has_moved = true;
                match connected {
                    Ok(open) => {
                        after.discarded.push(core::mem::replace(link, open));
                        engine.handle(runtime.now(), Fact::Connected(*conn));
                    }
                    Err(error) => {
                        engine.handle(runtime.now(), Fact::ConnectFailed(*conn, &error.to_string()));
                    }
                }
            }
        }
        if has_moved {
            self.act(after);
        }
        has_moved
    }

    /// Writes what is queued, as much as each socket takes.
    fn write_all(&mut self) -> bool {
        let Self {
            engine,
            runtime,
            links,
            waker,
            ..
        } = self;
        let cx = &mut Context::from_waker(waker);
        let mut has_moved = false;
        for (conn, link) in links.iter_mut() {
            if let Poll::Ready(count) = link.poll_write(cx) {
                has_moved = true;
                engine.handle(runtime.now(), Fact::Sent(*conn, count));
            }
        }
        has_moved
    }

    /// Reads what each socket has, one buffer at a time, and lets the engine act between two of them.
    fn read_all(&mut self, after: &mut After<R>) -> bool {
        let mut has_moved = false;
        let mut index = 0;
        while index < self.links.len() {
            let Self {
                engine,
                runtime,
                links,
                waker,
                read_buffer,
                ..
            } = self;
            let cx = &mut Context::from_waker(waker);
            let (conn, link) = &mut links[index];
            let conn = *conn;
            match link.poll_read(cx, read_buffer) {
                Poll::Ready(Ok(0)) => engine.handle(runtime.now(), Fact::Eof(conn)),
                Poll::Ready(Ok(count)) => {
                    engine.handle(runtime.now(), Fact::Input(conn, &read_buffer[..count]));
                }
                Poll::Ready(Err(error)) => {
                    engine.handle(runtime.now(), Fact::Failed(conn, &error.to_string()));
                }
                Poll::Pending => {
                    index += 1;
                    continue;
                }
            }
            has_moved = true;
            self.act(after);
            // The action may have closed this link and put another in its place; that one waits for the next round.
            index += 1;
        }
        has_moved
    }

    /// Tells the engine the time when something is due, and sets the timer for what is due next.
    fn check_time(&mut self, after: &mut After<R>) -> bool {
        let next = [self.engine.poll_timeout(), self.shutdown_at]
            .into_iter()
            .flatten()
            .min();
        let Some(next) = next else { return false };
        let now = self.runtime.now();
        if next > now {
            let cx = &mut Context::from_waker(&self.waker);
            let Some(timer) = &mut self.timer else {
                return false;
            };
            match guarded_poll(|| timer.poll_at(cx, next)) {
                // It may have become due while the timer was set, or an early timer fired: look again.
                Poll::Ready(Ok(())) => return true,
                Poll::Pending => return false,
                Poll::Ready(Err(error)) => {
                    self.lose_runtime(now, format!("the runtime is gone: {error}"), after);
                    return true;
                }
            }
        }
        if self.shutdown_at.is_some_and(|at| at <= now) {
            self.shutdown_at = None;
            self.engine.handle(now, Fact::Shutdown);
        } else {
            self.engine.handle(now, Fact::Timeout);
        }
        self.act(after);
        true
    }

    /// Settles everything: without a timer no deadline can be kept.
    fn lose_runtime(&mut self, now: Instant, reason: String, after: &mut After<R>) {
        self.gone = Some(reason);
        self.engine.handle(now, Fact::Shutdown);
        self.shutdown_at = None;
        self.settle(after);
        self.act(after);
        after.discarded.extend(self.links.drain(..).map(|(_, link)| link));
    }

    /// Hands the engine's verdicts to their futures.
    fn settle(&mut self, after: &mut After<R>) {
        while let Some((id, verdict)) = self.engine.poll_outcome() {
            let verdict = match &self.gone {
                Some(reason) => verdict.map_err(|error| error.into_runtime_gone(reason)),
                None => verdict,
            };
            match self.exports.get_mut(&id) {
                Some(Slot::Own { key, verdict: place }) => {
                    *place = Some(verdict);
                    after.settled.extend(*key);
                }
                Some(Slot::Mailed(mailbox)) => {
                    let mailbox = self.mailboxes.get_mut(mailbox);
                    self.exports.remove(&id);
                    if let Some(mailbox) = mailbox {
                        mailbox.verdicts.push_back((id, verdict));
                        after.settled.extend(mailbox.key);
                    }
                }
                None => {}
            }
        }
    }

    /// Ends a shutdown early when nothing is under way any more.
    fn check_closed(&mut self, after: &mut After<R>) {
        if self.is_closed || !self.engine.is_draining() || !self.engine.is_idle() {
            return;
        }
        self.is_closed = true;
        after.is_closed = true;
        if self.shutdown_at.take().is_some() {
            let now = self.runtime.now();
            self.engine.handle(now, Fact::Shutdown);
            self.act(after);
        }
    }
}
