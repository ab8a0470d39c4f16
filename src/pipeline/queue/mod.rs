//! Queues: the public [`ExportQueue`], and what bounds everything that waits in a pipeline.
//!
//! Owns bounds, overflow and the lines of those who wait. Never exports, never reads a clock of its own but for the
//! timeouts of blocked threads.

mod bounded;
pub(crate) mod buffer;
mod line;

pub(crate) use bounded::{Bounded, Refused, Weight};
pub(crate) use line::{Line, Place, wake};

use super::config::{Overflow, QueueConfig};
use super::park::{self, Limit};
use crate::encode::Request;
use crate::error::Error;
use crate::outcome::DropReason;
use alloc::sync::Arc;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::sync::atomic::{AtomicU64, Ordering};
use core::task::{Context, Poll};
use core::time::Duration;

/// A bounded queue of requests between producers and whoever exports them: threads and tasks alike. Clones share it.
///
/// Its bounds, in items and in bytes of encoded messages, are never passed. What it does when they are reached is a
/// choice of each signal's: see [`Overflow`]. A [pipeline](super::Pipeline) has a queue of its own; this one is for
/// programs that arrange their exports themselves.
///
/// Producers that wait are served in the order of their coming, and so are consumers.
///
/// ```
/// use otlp_embed::pipeline::{ExportQueue, Overflow, QueueConfig};
/// use otlp_embed::{Resource, TraceBatch};
/// # fn main() -> Result<(), otlp_embed::Error> {
/// let queue = ExportQueue::new(QueueConfig::new().with_overflow(Overflow::Block))?;
/// let mut batch = TraceBatch::new(&Resource::new());
/// batch.span([1; 16], [2; 8], "work").times(1..2).end();
/// queue.try_push(batch.finish())?;
/// assert_eq!(queue.stats().items_buffered, 1);
/// assert_eq!(queue.try_pop().expect("it was pushed").items(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ExportQueue {
    shared: Arc<Shared>,
}

struct Shared {
    config: QueueConfig,
    requests: Bounded<Request>,
    /// Items given up here, by reason.
    dropped: [AtomicU64; DropReason::ALL.len()],
}

/// What an [`ExportQueue`] holds and what became of the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStats {
    /// Items that were taken out.
    pub popped: u64,
    /// Items that are queued.
    pub items_buffered: u64,
    /// Bytes of the encoded messages that are queued.
    pub bytes_buffered: usize,
    /// Requests that are queued.
    pub requests_buffered: usize,
    /// Items given up here, by [`DropReason::index`].
    pub dropped: [u64; DropReason::ALL.len()],
}

impl QueueStats {
    /// Items given up for `reason`.
    pub const fn dropped_for(&self, reason: DropReason) -> u64 {
        self.dropped[reason.index()]
    }

    /// Items given up for any reason.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().sum()
    }
}

impl ExportQueue {
    /// An empty queue.
    ///
    /// # Errors
    ///
    /// A misuse error that names the setter: a bound is zero.
    pub fn new(config: QueueConfig) -> Result<Self, Error> {
        config.check()?;
        Ok(Self {
            shared: Arc::new(Shared {
                requests: Bounded::new(config.items_max, config.bytes_max),
                config,
                dropped: Default::default(),
            }),
        })
    }

    /// Queues a request without ever waiting. An empty one is taken and forgotten: it is never sent.
    ///
    /// # Errors
    ///
    /// [`PushError`] says why it was not queued. Where the queue is full under [`Overflow::Block`], or closed, the request
    /// comes back in it; otherwise it was dropped and counted.
    pub fn try_push(&self, request: Request) -> Result<(), PushError> {
        let weight = weigh(&request);
        if request.is_empty() {
            return Ok(());
        }
        match self.shared.config.overflow(request.signal()) {
            Overflow::DropOldest => match self.shared.requests.push_evicting(request, weight) {
                Ok(evicted) => {
                    for (_, weight) in &evicted {
                        self.count_dropped(DropReason::Evicted, weight.items);
                    }
                    Ok(())
                }
                Err(refused) => Err(self.refuse(refused)),
            },
            Overflow::DropNewest | Overflow::Block => self
                .shared
                .requests
                .try_push(request, weight)
                .map_err(|refused| self.refuse(refused)),
        }
    }

    /// Queues a request. Under [`Overflow::Block`] it waits for room, behind those who wait already; otherwise it is ready
    /// at once.
    ///
    /// # Errors
    ///
    /// As [`try_push`](Self::try_push), but for the wait.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before it is ready leaves the request out of the queue and of its counts; whoever waits behind
    /// takes the turn. A future that is kept but not polled holds up those behind it.
    pub fn push(&self, request: Request) -> Push {
        Push {
            queue: self.clone(),
            weight: weigh(&request),
            request: Some(request),
            place: None,
        }
    }

    /// As [`push`](Self::push), blocking the thread, for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push); when the time was over, the request comes back and nothing is counted.
    pub fn push_blocking(&self, request: Request, timeout: Duration) -> Result<(), PushError> {
        let mut push = self.push(request);
        park::wait(Pin::new(&mut push), Some(&Limit::after(timeout))).unwrap_or_else(|| {
            Err(PushError {
                kind: PushErrorKind::TimedOut,
                request: push.request.take(),
            })
        })
    }

    /// Takes the oldest request, if there is one.
    pub fn try_pop(&self) -> Option<Request> {
        self.shared.requests.try_pop()
    }

    /// Takes the oldest request as soon as there is one; `None` once the queue is closed and empty.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before it is ready takes nothing; whoever waits behind takes the turn.
    pub fn pop(&self) -> Pop {
        Pop {
            queue: self.clone(),
            place: None,
        }
    }

    /// As [`pop`](Self::pop), blocking the thread, for `timeout` at most; `None` also when the time was over.
    pub fn pop_blocking(&self, timeout: Duration) -> Option<Request> {
        park::wait(Pin::new(&mut self.pop()), Some(&Limit::after(timeout))).flatten()
    }

    /// Refuses further requests. Producers that wait get an error, and those queued can still be taken.
    pub fn close(&self) {
        self.shared.requests.close();
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.shared.requests.is_closed()
    }

    /// What it holds, and what became of the rest.
    pub fn stats(&self) -> QueueStats {
        let size = self.shared.requests.size();
        QueueStats {
            popped: size.popped,
            items_buffered: size.items,
            bytes_buffered: size.bytes,
            requests_buffered: size.values,
            dropped: core::array::from_fn(|reason| self.shared.dropped[reason].load(Ordering::Relaxed)),
        }
    }

    /// Books what the queue refused, as its signal's overflow wants it.
    fn refuse(&self, refused: Refused<Request>) -> PushError {
        let (kind, request) = match refused {
            Refused::Closed(request) => (PushErrorKind::Closed, Some(request)),
            Refused::TooLarge(request) => {
                self.count_dropped(DropReason::TooLarge, request.items());
                (PushErrorKind::TooLarge, None)
            }
            Refused::Full(request) => match self.shared.config.overflow(request.signal()) {
                Overflow::Block => (PushErrorKind::Full, Some(request)),
                Overflow::DropNewest | Overflow::DropOldest => {
                    self.count_dropped(DropReason::QueueFull, request.items());
                    (PushErrorKind::Dropped, None)
                }
            },
        };
        PushError { kind, request }
    }

    fn count_dropped(&self, reason: DropReason, items: u64) {
        self.shared.dropped[reason.index()].fetch_add(items, Ordering::Relaxed);
    }
}

impl fmt::Debug for ExportQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExportQueue")
            .field("config", &self.shared.config)
            .field("stats", &self.stats())
            .finish()
    }
}

fn weigh(request: &Request) -> Weight {
    Weight {
        class: request.signal().index(),
        items: request.items(),
        bytes: request.encoded_len(),
    }
}

/// A request on its way into an [`ExportQueue`]; see [`ExportQueue::push`].
#[must_use = "nothing is queued unless it is awaited"]
pub struct Push {
    queue: ExportQueue,
    request: Option<Request>,
    weight: Weight,
    place: Option<Place>,
}

impl Future for Push {
    type Output = Result<(), PushError>;

    /// Ready with success where it is polled again after it was ready.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(request) = &this.request else {
            return Poll::Ready(Ok(()));
        };
        if request.is_empty() || this.queue.shared.config.overflow(request.signal()) != Overflow::Block {
            let request = this.request.take();
            return Poll::Ready(request.map_or(Ok(()), |request| this.queue.try_push(request)));
        }
        let requests = &this.queue.shared.requests;
        requests
            .poll_push(cx, &mut this.place, &mut this.request, this.weight)
            .map_err(|refused| this.queue.refuse(refused))
    }
}

impl Drop for Push {
    fn drop(&mut self) {
        self.queue.shared.requests.forget_push(&mut self.place);
    }
}

/// A request on its way out of an [`ExportQueue`]; see [`ExportQueue::pop`].
#[must_use = "nothing is taken unless it is awaited"]
pub struct Pop {
    queue: ExportQueue,
    place: Option<Place>,
}

impl Future for Pop {
    type Output = Option<Request>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.queue.shared.requests.poll_pop(cx, &mut this.place)
    }
}

impl Drop for Pop {
    fn drop(&mut self) {
        self.queue.shared.requests.forget_pop(&mut self.place);
    }
}

/// Why a request was not queued.
pub struct PushError {
    kind: PushErrorKind,
    request: Option<Request>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PushErrorKind {
    Full,
    Dropped,
    TooLarge,
    TimedOut,
    Closed,
}

impl PushError {
    /// The request, where it was not dropped.
    pub fn into_request(self) -> Option<Request> {
        self.request
    }

    /// Whether there was no room: the same push may succeed later.
    pub fn is_full(&self) -> bool {
        matches!(
            self.kind,
            PushErrorKind::Full | PushErrorKind::Dropped | PushErrorKind::TimedOut
        )
    }

    /// Whether the queue was closed.
    pub fn is_closed(&self) -> bool {
        self.kind == PushErrorKind::Closed
    }

    /// Whether the request is larger than the whole queue.
    pub fn is_too_large(&self) -> bool {
        self.kind == PushErrorKind::TooLarge
    }

    /// Whether the time that the push was given was over.
    pub fn is_timeout(&self) -> bool {
        self.kind == PushErrorKind::TimedOut
    }
}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            PushErrorKind::Full => "the queue is full; wait for room with push, or raise its bounds",
            PushErrorKind::Dropped => {
                "the queue is full and the request was dropped; raise its bounds, or choose Overflow::Block to wait"
            }
            PushErrorKind::TooLarge => {
                "the request is larger than the whole queue and was dropped; raise its bounds, or push smaller ones"
            }
            PushErrorKind::TimedOut => "the queue stayed full for as long as the push might take",
            PushErrorKind::Closed => "the queue is closed",
        })
    }
}

impl fmt::Debug for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushError")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl core::error::Error for PushError {}

/// What an error of the crate says of it.
impl From<PushError> for Error {
    fn from(error: PushError) -> Self {
        use crate::error::Kind;
        let kind = match error.kind {
            PushErrorKind::Full | PushErrorKind::Dropped => Kind::MemoryLimit,
            PushErrorKind::TimedOut => Kind::Timeout,
            PushErrorKind::TooLarge => Kind::TooLarge,
            PushErrorKind::Closed => Kind::Shutdown,
        };
        Self::new(kind, alloc::format!("{error}"))
    }
}
