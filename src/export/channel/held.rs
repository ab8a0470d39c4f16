//! What is behind a channel's lock: the engine, its sockets and its timer, moved round by round.

use super::Verdict;
use super::mailbox::Mailbox;
use crate::credentials::Authorization;
use crate::endpoint::Name;
use crate::export::drive::{Action, ConnId, ExportId, Fact};
use crate::export::engine::Engine;
use crate::export::few::Few;
use crate::export::flight::MailboxId;
use crate::export::link::{Link, guarded, guarded_poll};
use crate::export::waiters::Key;
use crate::rt::{Resolve, Resolver, Runtime, Timer};
use crate::time::Instant;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::task::{Context, Poll, Waker};
use std::collections::HashMap;
use std::io;

/// Bytes read from a socket at a time.
const READ_BYTES: usize = 16 << 10;
/// Lookups of one name that may run at a time. One that was given up runs on, and holds a thread until the system's resolver
/// lets it go; while that many hang, a further one would hang too.
const LOOKUPS_MAX: usize = 4;

pub(super) struct Core<R: Runtime> {
    pub(super) engine: Engine,
    pub(super) runtime: R,
    pub(super) resolver: Option<Resolver>,
    /// The names that were looked up, each held by each of its lookups that runs. There are as many as destinations.
    pub(super) lookups: Vec<(Name, Arc<()>)>,
    pub(super) links: Vec<(ConnId, Link<R>)>,
    /// Gone only from a channel that is dropped in another process.
    pub(super) timer: Option<R::Timer>,
    pub(super) exports: HashMap<ExportId, Slot>,
    pub(super) mailboxes: HashMap<MailboxId, Mailbox>,
    pub(super) mailboxes_opened: u64,
    /// Exports were submitted since the engine was last told the time, and are to begin.
    pub(super) has_submitted: bool,
    /// The hub's waker, which is all that sockets and timers see.
    pub(super) waker: Waker,
    pub(super) read_buffer: Box<[u8]>,
    /// When what is under way is to be dropped, once a shutdown was asked for.
    pub(super) shutdown_at: Option<Instant>,
    pub(super) is_closed: bool,
    /// Why the runtime can serve no more, once it cannot.
    pub(super) gone: Option<String>,
}

/// What the channel keeps of one export.
pub(super) enum Slot {
    /// It has a future.
    Own {
        /// The future's place among the waiters, once it was polled.
        key: Option<Key>,
        verdict: Option<Verdict>,
    },
    /// Its verdict goes there.
    Mailed(MailboxId),
}

/// What a pump leaves to be done after the channel's lock was released.
pub(super) struct After<R: Runtime> {
    /// Futures whose verdict is there.
    pub(super) settled: Few<Key>,
    /// Exports whose credentials are to be asked for.
    pub(super) unauthorized: Vec<(ExportId, Authorization)>,
    /// Sockets and futures of the runtime that are of no use any more.
    pub(super) discarded: Vec<Link<R>>,
    /// The channel was closed, which the driver and every shutdown wait for.
    pub(super) is_closed: bool,
}

impl<R: Runtime> After<R> {
    pub(super) fn new() -> Self {
        Self {
            settled: Few::new(),
            unauthorized: Vec::new(),
            discarded: Vec::new(),
            is_closed: false,
        }
    }
}

impl<R: Runtime> Core<R> {
    /// `waker` is the hub's.
    pub(super) fn new(engine: Engine, runtime: R, resolver: Option<Resolver>, waker: Waker) -> Self {
        Self {
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
            waker,
            read_buffer: alloc::vec![0; READ_BYTES].into(),
            shutdown_at: None,
            is_closed: false,
            gone: None,
        }
    }

    /// One round: facts in, actions out, then the timer. Whether anything moved.
    ///
    /// Reading comes first: a connection that the peer has closed while nobody pumped is noticed before a request that was
    /// just submitted goes into it.
    pub(super) fn turn(&mut self, after: &mut After<R>) -> bool {
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
    pub(super) fn act(&mut self, after: &mut After<R>) -> bool {
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
    pub(super) fn write_all(&mut self) -> bool {
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
    pub(super) fn settle(&mut self, after: &mut After<R>) {
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
    pub(super) fn check_closed(&mut self, after: &mut After<R>) {
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
