//! Readiness of sockets and timers for threads without an executor: one thread leads, the others follow.
//!
//! The leader waits in `poll(2)`, holding no lock. Followers are parked. Whoever is woken polls its own future again;
//! a leader whose future is ready hands over to a follower.

use super::clock::Clock;
use super::stream::Stream;
use crate::export::{FEW, Few, Origin};
use crate::time::Instant;
use alloc::sync::Arc;
use alloc::task::Wake;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::Waker;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard};
use std::thread::Thread;

/// The direction in which a socket is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Read,
    Write,
}

/// One socket or timer of the reactor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token(u64);

#[derive(Debug)]
pub(super) struct Reactor {
    pub(super) clock: Clock,
    /// In another process, the bell is the parent's and the lock may be held by a thread that does not exist.
    origin: Origin,
    state: Mutex<State>,
    /// The leader polls this end; a byte in it calls the leader back.
    bell: UnixStream,
    rope: UnixStream,
}

#[derive(Debug, Default)]
struct State {
    tokens: u64,
    sources: Vec<Source>,
    timers: Vec<Alarm>,
    /// The thread in `poll(2)` and the time at which it comes back by itself.
    leader: Option<(Arc<Parker>, Instant)>,
    /// A byte is in the bell.
    is_rung: bool,
    followers: Vec<Arc<Parker>>,
}

#[derive(Debug)]
struct Source {
    token: Token,
    stream: Arc<Stream>,
    reader: Interest,
    writer: Interest,
}

#[derive(Debug)]
struct Interest {
    /// Worth a try: cleared when the socket had nothing, set when `poll(2)` saw it ready.
    is_ready: bool,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Alarm {
    token: Token,
    at: Instant,
    waker: Waker,
}

/// One thread that waits for its future.
#[derive(Debug)]
pub(super) struct Parker {
    thread: Thread,
    /// Its future was woken, or it is to lead.
    is_notified: AtomicBool,
    reactor: Arc<Reactor>,
}

impl Reactor {
    pub(super) fn new() -> io::Result<Self> {
        let (bell, rope) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        rope.set_nonblocking(true)?;
        Ok(Self {
            clock: Clock::start(),
            origin: Origin::here(),
            state: Mutex::default(),
            bell,
            rope,
        })
    }

    /// # Errors
    ///
    /// This is a child of the process that made the reactor, which serves nobody here.
    pub(super) fn check(&self) -> io::Result<()> {
        if !self.origin.is_foreign() {
            return Ok(());
        }
        Err(io::Error::other(
            "this rt::Blocking was made before a fork and belongs to the parent process; make a new one in the child",
        ))
    }

    /// Watches a non-blocking socket until it is removed.
    pub(super) fn insert(&self, stream: Arc<Stream>, is_ready: bool) -> Token {
        let mut state = self.lock();
        let token = state.token();
        let interest = || Interest {
            is_ready,
            waker: None,
        };
        state.sources.push(Source {
            token,
            stream,
            reader: interest(),
            writer: interest(),
        });
        token
    }

    /// Forgets a socket or a timer.
    pub(super) fn remove(&self, token: Token) {
        if self.origin.is_foreign() {
            return;
        }
        let mut state = self.lock();
        state.timers.retain(|alarm| alarm.token != token);
        if let Some(at) = state.sources.iter().position(|source| source.token == token) {
            let source = state.sources.swap_remove(at);
            // Beside its owner and this list, only a leader that waits for the socket holds it, and would keep it open
            // until it comes back.
            if Arc::strong_count(&source.stream) > 2 {
                self.recall(&mut state);
            }
        }
    }

    /// A token for a timer.
    pub(super) fn timer(&self) -> Token {
        if self.origin.is_foreign() {
            return Token(0);
        }
        self.lock().token()
    }

    /// Whether a socket is worth a try; if it is not, `waker` is woken when it is.
    pub(super) fn is_ready(&self, token: Token, direction: Direction, waker: &Waker) -> bool {
        let mut state = self.lock();
        let Some(interest) = state.interest(token, direction) else {
            return true;
        };
        if interest.is_ready {
            return true;
        }
        let is_new = interest.waker.replace(waker.clone()).is_none();
        if is_new {
            self.recall(&mut state);
        }
        false
    }

    /// A try found nothing more to do in this direction.
    pub(super) fn exhausted(&self, token: Token, direction: Direction) {
        if let Some(interest) = self.lock().interest(token, direction) {
            interest.is_ready = false;
        }
    }

    /// Sets a timer that is not due yet.
    pub(super) fn set_timer(&self, token: Token, at: Instant, waker: &Waker) {
        let mut state = self.lock();
        match state.timers.iter_mut().find(|alarm| alarm.token == token) {
            Some(alarm) => {
                alarm.at = at;
                alarm.waker.clone_from(waker);
            }
            None => state.timers.push(Alarm {
                token,
                at,
                waker: waker.clone(),
            }),
        }
        if state.leader.as_ref().is_some_and(|(_, until)| at < *until) {
            self.recall(&mut state);
        }
    }

    /// Blocks until the thread of `parker` was woken, or has led through one wait.
    fn block(&self, parker: &Arc<Parker>) {
        if self.origin.is_foreign() {
            // Whatever is waited for has failed, or is about to be found to have.
            std::thread::yield_now();
            return;
        }
        let mut state = self.lock();
        while !parker.is_notified.load(Ordering::SeqCst) {
            if state.leader.is_none() {
                self.lead(state, parker);
                return;
            }
            state.followers.push(parker.clone());
            drop(state);
            while !parker.is_notified.load(Ordering::SeqCst) {
                std::thread::park();
            }
            state = self.lock();
            state.followers.retain(|follower| !Arc::ptr_eq(follower, parker));
        }
    }

    /// Waits in `poll(2)` once, without the lock, then wakes whoever waits for what was ready.
    fn lead(&self, mut state: MutexGuard<'_, State>, parker: &Arc<Parker>) {
        let until = state
            .timers
            .iter()
            .map(|alarm| alarm.at)
            .min()
            .unwrap_or(Instant::MAX);
        state.leader = Some((parker.clone(), until));
        let watched: Few<_> = state
            .sources
            .iter()
            .map(|source| (source.token, source.stream.clone(), source.flags()))
            .filter(|(_, _, flags)| !flags.is_empty())
            .collect();
        drop(state);

        // The bell comes first. It also fills the places that no socket takes.
        let bell = || PollFd::new(&self.bell, PollFlags::IN);
        let mut few: [_; 1 + FEW] = core::array::from_fn(|_| bell());
        let mut many = Vec::new();
        let fds = match few.get_mut(..1 + watched.len()) {
            Some(fds) => fds,
            None => {
                many.resize_with(1 + watched.len(), bell);
                &mut many[..]
            }
        };
        for (fd, (_, stream, flags)) in fds[1..].iter_mut().zip(watched.iter()) {
            *fd = PollFd::new(&**stream, *flags);
        }
        let left = until.since(self.clock.now());
        let timeout = (until != Instant::MAX).then(|| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        // A failure (an interrupted call, no memory) is as good as a wait that found nothing: every future is polled
        // again and comes back.
        let _ = poll(fds, timeout.as_ref());

        let mut woken = Few::new();
        let mut state = self.lock();
        for ((token, _, _), fd) in watched.iter().zip(&fds[1..]) {
            state.dispatch(*token, fd.revents(), &mut woken);
        }
        let now = self.clock.now();
        for alarm in state.timers.extract_if_due(now) {
            woken.push(alarm.waker);
        }
        if core::mem::take(&mut state.is_rung) {
            let _ = (&self.bell).read(&mut [0; 8]);
        }
        state.leader = None;
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Calls the leader back from its wait, to wait for something else.
    fn recall(&self, state: &mut State) {
        if state.leader.is_some() && !core::mem::replace(&mut state.is_rung, true) {
            // Full means that it rings already.
            let _ = (&self.rope).write(&[1]);
        }
    }

    /// One follower takes over, if nobody leads.
    fn hand_over(&self) {
        if self.origin.is_foreign() {
            return;
        }
        let mut state = self.lock();
        if state.leader.is_some() {
            return;
        }
        let follower = state.followers.pop();
        drop(state);
        if let Some(follower) = follower {
            follower.is_notified.store(true, Ordering::SeqCst);
            follower.thread.unpark();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        crate::export::lock(&self.state)
    }
}

impl Parker {
    /// Polls until ready, blocking the thread in between.
    pub(super) fn run<T>(reactor: &Arc<Reactor>, mut poll: impl FnMut(&Waker) -> core::task::Poll<T>) -> T {
        let parker = Arc::new(Self {
            thread: std::thread::current(),
            is_notified: AtomicBool::new(false),
            reactor: reactor.clone(),
        });
        // Also when `poll` panics: the others must not be left without a leader.
        let _leaving = Leaving(reactor);
        let waker = Waker::from(parker.clone());
        loop {
            parker.is_notified.store(false, Ordering::SeqCst);
            if let core::task::Poll::Ready(value) = poll(&waker) {
                return value;
            }
            reactor.block(&parker);
        }
    }
}

struct Leaving<'a>(&'a Reactor);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.hand_over();
    }
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_notified.swap(true, Ordering::SeqCst) {
            return;
        }
        self.thread.unpark();
        if self.reactor.origin.is_foreign() {
            return;
        }
        let mut state = self.reactor.lock();
        if state
            .leader
            .as_ref()
            .is_some_and(|(leader, _)| Arc::ptr_eq(leader, self))
        {
            self.reactor.recall(&mut state);
        }
    }
}

impl State {
    fn token(&mut self) -> Token {
        self.tokens += 1;
        Token(self.tokens)
    }

    fn interest(&mut self, token: Token, direction: Direction) -> Option<&mut Interest> {
        let source = self.sources.iter_mut().find(|source| source.token == token)?;
        Some(match direction {
            Direction::Read => &mut source.reader,
            Direction::Write => &mut source.writer,
        })
    }

    fn dispatch(&mut self, token: Token, seen: PollFlags, woken: &mut Few<Waker>) {
        let failed = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
        for (direction, flag) in [
            (Direction::Read, PollFlags::IN),
            (Direction::Write, PollFlags::OUT),
        ] {
            if !seen.intersects(flag | failed) {
                continue;
            }
            if let Some(interest) = self.interest(token, direction) {
                interest.is_ready = true;
                woken.extend(interest.waker.take());
            }
        }
    }
}

impl Source {
    fn flags(&self) -> PollFlags {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, self.reader.waker.is_some());
        flags.set(PollFlags::OUT, self.writer.waker.is_some());
        flags
    }
}

/// Takes the alarms that are due out of a list.
trait ExtractDue {
    fn extract_if_due(&mut self, now: Instant) -> impl Iterator<Item = Alarm> + '_;
}

impl ExtractDue for Vec<Alarm> {
    fn extract_if_due(&mut self, now: Instant) -> impl Iterator<Item = Alarm> + '_ {
        core::iter::from_fn(move || {
            let due = self.iter().position(|alarm| alarm.at <= now)?;
            Some(self.swap_remove(due))
        })
    }
}
