//! An exporter behind a mailbox: any number of handles, one actor that exports what they send and answers.

mod config;
mod desk;
mod handle;

pub use config::ActorConfig;
pub use desk::ActorStats;
pub use handle::{ActorAnswer, ActorFlush, ActorShutdown, ExporterHandle, TryExportError};

use super::exports::{Ended, Exports, poll_time};
use super::queue::Place;
use crate::error::{Error, Kind};
use crate::export::Exporter;
use crate::foreign::shield;
use crate::outcome::{DropReason, ItemCounts};
use crate::rt::Runtime;
use crate::time::Instant;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use desk::{AnswerSender, Desk, FlushSender, Message};
use futures_core::FusedFuture;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Messages and verdicts in one poll before it yields.
const STEPS_MAX: usize = 256;

/// Exports what its handles send, many exports at a time, and answers each.
///
/// It is a future to be run anywhere, by awaiting it or by [`run`](Self::run); nothing is exported unless it is. Its handles clone,
/// and may be used from tasks and threads alike. The mailbox is bounded in messages and bytes
/// ([`ActorConfig`]); whoever exports waits for room, in the order of coming. The actor takes from the mailbox while fewer than
/// [`concurrency_max`](ActorConfig::with_concurrency_max) exports run and the exporter's memory limit has room beside them; memory that
/// others hold is not waited for.
///
/// It ends, with its account, after a [`shutdown`](ExporterHandle::shutdown), or when its last handle is gone and everything that
/// was sent is settled. The exporter is not shut down with it. Polled again after its end, it gives the same account.
///
/// ```no_run
/// use otlp_embed::pipeline::{ActorConfig, ExporterActor};
/// use otlp_embed::{Config, Request, rt};
/// use std::time::Duration;
///
/// # async fn run(request: Request) -> Result<(), otlp_embed::Error> {
/// let exporter = Config::new().build(rt::Tokio::current()?)?;
/// let (handle, actor) = ExporterActor::new(&exporter, ActorConfig::new())?;
/// tokio::spawn(actor.run());
/// let outcome = handle.export(request).await?;
/// println!("{} delivered; {}", outcome.delivered(), handle.stats());
/// handle.shutdown(Duration::from_secs(5)).await;
/// # Ok(())
/// # }
/// ```
///
/// # Cancel safety
///
/// Dropping it at any time ends it: whoever waits for room, for an answer, for a flush or for its end gets an error at once, as does
/// whoever comes later. Exports in flight are cancelled; everything is counted. A panic while it is polled, which can only be that
/// of foreign code such as a runtime's, ends it likewise. One that is kept but not polled keeps them waiting.
#[must_use = "nothing is exported unless the actor is run"]
pub struct ExporterActor<R: Runtime> {
    exports: Exports<R>,
    timer: R::Timer,
    concurrency_max: usize,
    desk: Arc<Desk>,
    place: Option<Place>,
    /// Who waits for each export.
    waiting: BTreeMap<u64, AnswerSender>,
    /// Flushes in the order of their coming, each with the number of the first export after it.
    flushes: VecDeque<(u64, FlushSender)>,
    /// The number of the next export.
    next: u64,
    /// When what is left is given up.
    until: Option<Instant>,
    /// The mailbox is closed and empty.
    is_drained: bool,
    is_over: bool,
}

// Nothing in it is pinned in place.
impl<R: Runtime> Unpin for ExporterActor<R> {}

impl<R: Runtime> ExporterActor<R> {
    /// An actor on this exporter, and its first handle.
    ///
    /// # Errors
    ///
    /// A misuse error that names the setting that cannot work. In a child of the exporter's process, an error that says so.
    pub fn new(exporter: &Exporter<R>, config: ActorConfig) -> Result<(ExporterHandle, Self), Error> {
        config.check()?;
        let exports = Exports::new(exporter, "ExporterActor::new")?;
        let desk = Arc::new(Desk::new(&config));
        let handle = ExporterHandle::new(desk.clone());
        let actor = Self {
            timer: exports.runtime().timer(),
            exports,
            concurrency_max: config.concurrency_max,
            desk,
            place: None,
            waiting: BTreeMap::new(),
            flushes: VecDeque::new(),
            next: 0,
            until: None,
            is_drained: false,
            is_over: false,
        };
        Ok((handle, actor))
    }

    /// Runs it until it ends: the same as awaiting it. On [`rt::Blocking`](crate::rt::Blocking) it blocks the thread that polls it.
    pub async fn run(self) -> ActorStats {
        self.await
    }

    /// Works until nothing moves, the budget is spent or the end has come.
    fn work(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Before anything is looked at: a wake after the look then finds this waker.
        self.desk.register(cx.waker());
        let mut steps = 0;
        loop {
            let mut has_moved = false;
            if let Some(timeout) = self.desk.take_deadline() {
                let until = self.exports.runtime().now() + timeout;
                self.until = Some(self.until.map_or(until, |earlier| earlier.min(until)));
            }
            while let Poll::Ready(ended) = self.exports.poll(cx) {
                has_moved = true;
                steps += 1;
                self.settle(ended);
            }
            while steps < STEPS_MAX && !self.is_drained && self.has_room() {
                let Poll::Ready(message) = self.desk.mailbox.poll_pop(cx, &mut self.place) else {
                    break;
                };
                has_moved = true;
                steps += 1;
                self.take(message);
            }
            self.answer_flushes();
            if self.is_drained && self.exports.is_empty() {
                return Poll::Ready(());
            }
            if let Some(until) = self.until {
                let is_over = self.exports.runtime().now() >= until;
                if is_over || poll_time(&mut self.timer, cx, until).is_ready() {
                    return Poll::Ready(());
                }
            }
            if !has_moved {
                return Poll::Pending;
            }
            if steps >= STEPS_MAX {
                // More may be waiting: come back after the executor's other tasks had their turn.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    fn has_room(&self) -> bool {
        self.exports.len() < self.concurrency_max && !self.exports.is_held_up()
    }

    fn take(&mut self, message: Option<Message>) {
        match message {
            Some(Message::Export(request, answer)) => {
                self.desk.begin();
                let id = self.exports.submit(request);
                self.waiting.insert(id, answer);
                self.next = id + 1;
            }
            Some(Message::Flush(answer)) => {
                self.desk.take_flush();
                self.flushes.push_back((self.next, answer));
            }
            None => self.is_drained = true,
        }
    }

    fn settle(&mut self, ended: Ended) {
        let answer = self.waiting.remove(&ended.id);
        self.desk.end(&ended);
        if let Some(answer) = answer {
            self.desk.answer(answer, ended.result);
        }
    }

    /// Answers the flushes before which every export has its verdict.
    fn answer_flushes(&mut self) {
        let oldest = self.waiting.keys().next().copied().unwrap_or(u64::MAX);
        while self.flushes.front().is_some_and(|(before, _)| *before <= oldest) {
            if let Some((_, answer)) = self.flushes.pop_front() {
                self.desk.count_flush();
                // The wake is the waiting future's own code.
                shield(|| answer.send(()).is_ok());
            }
        }
    }

    /// Closes the account: everybody who waits is answered.
    fn end(&mut self) {
        if self.is_over {
            return;
        }
        self.is_over = true;
        if self.exports.is_foreign() {
            // Whoever waits in this process asks for itself where it belongs. The parent's wakers are left alone.
            core::mem::forget(core::mem::take(&mut self.waiting));
            core::mem::forget(core::mem::take(&mut self.flushes));
            self.exports.close(drop);
            return;
        }
        // First, so that nothing comes in any more.
        self.desk.mailbox.close();
        self.desk.mailbox.forget_pop(&mut self.place);
        let mut given_up = alloc::vec::Vec::new();
        self.exports.close(|ended| given_up.push(ended));
        given_up.into_iter().for_each(|ended| self.settle(ended));
        while let Some(message) = self.desk.mailbox.try_pop() {
            match message {
                Message::Export(request, answer) => {
                    self.desk.begin();
                    self.desk.give_up(request.items());
                    self.desk.answer(answer, Err(gone(request.items())));
                }
                Message::Flush(answer) => {
                    self.desk.take_flush();
                    self.flushes.push_back((u64::MAX, answer));
                }
            }
        }
        for (_, answer) in core::mem::take(&mut self.flushes) {
            self.desk.count_flush();
            shield(|| drop(answer));
        }
        self.desk.close();
    }
}

/// What whoever waits for an export gets when the actor has ended before it began.
fn gone(items: u64) -> Error {
    let counts = ItemCounts {
        dropped: items,
        ..ItemCounts::default()
    };
    Error::new(Kind::Shutdown, handle::GONE)
        .with_counts(counts)
        .with_drop_reason(DropReason::Shutdown)
}

impl<R: Runtime> Future for ExporterActor<R> {
    type Output = ActorStats;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<ActorStats> {
        let this = self.get_mut();
        if this.is_over {
            return Poll::Ready(this.desk.stats());
        }
        if !this.exports.is_foreign() {
            let runtime = this.exports.runtime().clone();
            // Foreign code that panics under it must not leave anybody waiting.
            let work = AssertUnwindSafe(|| runtime.drive(cx, |cx| this.work(cx)));
            match catch_unwind(work) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(())) => {}
                Err(panic) => {
                    this.end();
                    resume_unwind(panic);
                }
            }
        }
        this.end();
        Poll::Ready(this.desk.stats())
    }
}

impl<R: Runtime> FusedFuture for ExporterActor<R> {
    fn is_terminated(&self) -> bool {
        self.is_over
    }
}

impl<R: Runtime> Drop for ExporterActor<R> {
    fn drop(&mut self) {
        self.end();
    }
}

impl<R: Runtime> fmt::Debug for ExporterActor<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExporterActor")
            .field("stats", &self.desk.stats())
            .finish_non_exhaustive()
    }
}
