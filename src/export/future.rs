//! The futures of an exporter: one export, the optional driver, the shutdown.

use super::channel::Channel;
use super::companion::Companions;
use super::drive::ExportId;
use super::exporter::whole_stats;
use super::machine::ExportState;
use super::origin::Origin;
use super::waiters::Key;
use crate::error::Error;
use crate::outcome::Outcome;
use crate::rt::{Runtime, Timer};
use crate::stats::Report;
use crate::time::Instant;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::task::{Context, Poll, ready};
use core::time::Duration;
use futures_channel::oneshot;
use futures_core::FusedFuture;

/// How long a shutdown whose time is over waits for its pipelines to close their accounts.
const GRACE: Duration = Duration::from_millis(100);

pin_project_lite::pin_project! {
    /// One export on its way to its verdict.
    ///
    /// It is the shell of a state machine: `Init` → `Connecting` → `Sending` → `WaitingResponse` → `Done`, which
    /// [`state`](Self::state) shows. It spawns nothing. Whichever future of an exporter is polled moves all of them, and
    /// each is woken when its own verdict is there.
    ///
    /// The result is an [`Outcome`] when the collector accepted the request, in whole or in part, and an [`Error`]
    /// otherwise; both tell where every item ended up. Polled again after that, it gives a misuse error.
    ///
    /// # Cancel safety
    ///
    /// Dropping it at any time cancels the export: its stream is reset, its items are accounted for as dropped or, when
    /// the socket had taken the whole request, as unknown. The exporter and all other exports go on.
    #[must_use = "an export makes progress only while it is awaited; dropping it cancels it"]
    pub struct OtlpExportFuture<R: Runtime> {
        channel: Arc<Channel<R>>,
        // None where it was made in another process than its exporter.
        accepted: Option<(ExportId, R)>,
        items: u64,
        key: Option<Key>,
        is_done: bool,
        #[pin]
        _pinned: core::marker::PhantomPinned,
    }

    impl<R: Runtime> PinnedDrop for OtlpExportFuture<R> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if this.channel.origin.is_foreign() {
                return;
            }
            if let Some(key) = this.key.take() {
                this.channel.hub.remove(key);
            }
            if let (false, Some((id, _))) = (*this.is_done, &*this.accepted) {
                this.channel.abandon(*id);
            }
        }
    }
}

impl<R: Runtime> OtlpExportFuture<R> {
    pub(super) fn new(channel: Arc<Channel<R>>, accepted: Option<(ExportId, R)>, items: u64) -> Self {
        Self {
            channel,
            accepted,
            items,
            key: None,
            is_done: false,
            _pinned: core::marker::PhantomPinned,
        }
    }

    /// The state that the export is in.
    pub fn state(&self) -> ExportState {
        match &self.accepted {
            Some((id, _)) if !self.is_done => self.channel.state(*id),
            _ => ExportState::Done,
        }
    }
}

impl<R: Runtime> Future for OtlpExportFuture<R> {
    type Output = Result<Outcome, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if *this.is_done {
            return Poll::Ready(Err(Error::misuse(
                "the export was polled again after it had given its verdict",
            )));
        }
        let accepted = this
            .accepted
            .as_ref()
            .filter(|_| !this.channel.origin.is_foreign());
        let Some((id, runtime)) = accepted else {
            *this.is_done = true;
            return Poll::Ready(Err(Origin::error(*this.items)));
        };
        let verdict = runtime.drive(cx, |cx| {
            // Before anything is looked at: an event after the look then finds this waker.
            this.channel.hub.register(this.key, cx.waker());
            this.channel.poll_export(*id, *this.key)
        });
        if verdict.is_ready() {
            *this.is_done = true;
            if let Some(key) = this.key.take() {
                this.channel.hub.remove(key);
            }
        }
        verdict
    }
}

impl<R: Runtime> FusedFuture for OtlpExportFuture<R> {
    fn is_terminated(&self) -> bool {
        self.is_done
    }
}

impl<R: Runtime> fmt::Debug for OtlpExportFuture<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtlpExportFuture")
            .field("id", &self.accepted.as_ref().map(|(id, _)| id))
            .field("state", &self.state())
            .finish()
    }
}

/// Upkeep of an exporter, to be run anywhere; see [`Exporter::driver`](super::Exporter::driver).
#[must_use = "a driver does nothing unless it is awaited"]
pub struct Driver<R: Runtime> {
    channel: Weak<Channel<R>>,
    exporters: Arc<AtomicUsize>,
    hub: Arc<super::waiters::Hub>,
    origin: Origin,
    key: Option<Key>,
}

impl<R: Runtime> Driver<R> {
    pub(super) fn new(channel: &Arc<Channel<R>>, exporters: Arc<AtomicUsize>) -> Self {
        Self {
            channel: Arc::downgrade(channel),
            exporters,
            hub: channel.hub.clone(),
            origin: Origin::here(),
            key: None,
        }
    }

    fn leave(&mut self) {
        if let Some(key) = self.key.take() {
            if !self.origin.is_foreign() {
                self.hub.remove(key);
            }
        }
    }
}

impl<R: Runtime> Future for Driver<R> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        // None without an exporter, or in another process.
        let Some(runtime) = this.channel.upgrade().and_then(|channel| channel.runtime()) else {
            this.leave();
            return Poll::Ready(());
        };
        let ended = runtime.drive(cx, |cx| {
            this.hub.register(&mut this.key, cx.waker());
            if let Some(key) = this.key {
                this.hub.make_driver(key);
            }
            // Held only while it is pumped: the driver keeps no channel alive.
            match this.channel.upgrade() {
                Some(channel) if this.exporters.load(Ordering::Acquire) > 0 => channel.poll_driver(),
                _ => Poll::Ready(()),
            }
        });
        if ended.is_ready() {
            this.leave();
        }
        ended
    }
}

impl<R: Runtime> Drop for Driver<R> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The end of an exporter; see [`Exporter::shutdown`](super::Exporter::shutdown).
///
/// # Cancel safety
///
/// Dropping it leaves the exporter closed to new exports, or its pipelines closed where it has any; those under way keep
/// the time that the shutdown gave them, as long as any future of the exporter is polled.
#[must_use = "a shutdown waits for exports under way only while it is awaited"]
pub struct Shutdown<R: Runtime> {
    channel: Arc<Channel<R>>,
    companions: Arc<Companions>,
    /// The pipelines, where there are any.
    waiting: Option<Waiting<R>>,
    key: Option<Key>,
}

/// Pipelines that are to end within a time.
struct Waiting<R: Runtime> {
    pipelines: Vec<oneshot::Receiver<Report>>,
    at: Instant,
    timer: R::Timer,
}

impl<R: Runtime> Waiting<R> {
    /// Ready when they have ended, or it is too late.
    fn poll(&mut self, until: Instant, cx: &mut Context<'_>) -> Poll<()> {
        self.pipelines
            .retain_mut(|pipeline| Pin::new(pipeline).poll(cx).is_pending());
        if self.pipelines.is_empty() {
            return Poll::Ready(());
        }
        // A runtime that is gone counts as a time that is over.
        self.timer.poll_at(cx, until).map(drop)
    }
}

// Nothing in it is pinned in place.
impl<R: Runtime> Unpin for Shutdown<R> {}

impl<R: Runtime> Shutdown<R> {
    pub(super) fn new(channel: Arc<Channel<R>>, companions: Arc<Companions>, timeout: Duration) -> Self {
        let runtime = channel.runtime();
        let pipelines = match &runtime {
            Some(_) => companions.close(timeout),
            // In another process they are the parent's.
            None => Vec::new(),
        };
        // Without any the end begins here, also when this is never polled.
        let waiting = match runtime {
            Some(runtime) if !pipelines.is_empty() => Some(Waiting {
                at: runtime.now() + timeout,
                timer: runtime.timer(),
                pipelines,
            }),
            _ => {
                channel.close(timeout);
                None
            }
        };
        Self {
            channel,
            companions,
            waiting,
            key: None,
        }
    }
}

impl<R: Runtime> Future for Shutdown<R> {
    type Output = Report;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Report> {
        let this = &mut *self;
        let Some(runtime) = this.channel.runtime() else {
            let stats = this.channel.stats();
            return Poll::Ready(Report { stats });
        };
        runtime.drive(cx, |cx| {
            if let (None, Some(waiting)) = (this.key, &mut this.waiting) {
                ready!(waiting.poll(waiting.at, cx));
                this.channel.close(waiting.at.since(runtime.now()));
            }
            this.channel.hub.register(&mut this.key, cx.waker());
            ready!(this.channel.poll_closed());
            // They learn now that nothing is exported any more, and close their accounts at their next poll.
            if let Some(waiting) = &mut this.waiting {
                ready!(waiting.poll(waiting.at + GRACE, cx));
            }
            Poll::Ready(Report {
                stats: whole_stats(&this.channel, &this.companions),
            })
        })
    }
}

impl<R: Runtime> Drop for Shutdown<R> {
    fn drop(&mut self) {
        if self.channel.origin.is_foreign() {
            return;
        }
        if let Some(key) = self.key.take() {
            self.channel.hub.remove(key);
        }
    }
}
