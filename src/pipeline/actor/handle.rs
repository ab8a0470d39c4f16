//! What programs send to an actor with, and what they wait with.

use super::desk::{ActorStats, Answer, Desk, Message};
use crate::encode::Request;
use crate::error::{Error, Kind};
use crate::outcome::Outcome;
use crate::pipeline::park::{self, Limit};
use crate::pipeline::queue::{Place, Refused, Weight};
use alloc::sync::Arc;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use core::time::Duration;
use futures_channel::oneshot;

pub(super) const GONE: &str =
    "the actor has ended: it was shut down, or its future was dropped; make a new one to export on";
pub(super) const FORKED: &str = "the actor was made before a fork, and belongs to the parent process; make a new one in the child, \
                                  on a new exporter";
const TOO_LARGE: &str = "the request is larger than the whole mailbox; raise ActorConfig::with_mailbox_bytes_max, or send smaller ones";

/// Sends to an [`ExporterActor`](super::ExporterActor), from any task or thread. Clones send to the same.
///
/// The actor ends once the last handle is gone and everything sent before is settled. Without an actor every call
/// ends in an error at once. A child of `fork` has no actor: there every call ends in an error too, and the account is empty.
#[derive(Clone)]
pub struct ExporterHandle {
    desk: Arc<Desk>,
    _last: Arc<Last>,
}

/// Closes the mailbox with the last handle.
struct Last(Arc<Desk>);

impl Drop for Last {
    fn drop(&mut self) {
        if !self.0.origin.is_foreign() {
            self.0.mailbox.close();
        }
    }
}

impl ExporterHandle {
    pub(super) fn new(desk: Arc<Desk>) -> Self {
        Self {
            _last: Arc::new(Last(desk.clone())),
            desk,
        }
    }

    /// Exports a request and gives the verdict, as [`Exporter::export`](crate::Exporter::export) does. It waits for room in the
    /// mailbox, behind those who wait already.
    ///
    /// # Errors
    ///
    /// Those of the export. A shutdown error, when the actor has ended, or ends before the export has begun; one whose
    /// [`is_too_large`](Error::is_too_large) is true, when the request is larger than the mailbox.
    ///
    /// # Cancel safety
    ///
    /// Dropped before the mailbox has taken the request, it has sent nothing, nothing is counted, and whoever waits behind takes
    /// the turn. Dropped after that, the export goes on and is counted as any other; its answer is counted as dropped. A
    /// future that waits for room and is kept but not polled holds up those behind it.
    pub fn export(&self, request: Request) -> ActorAnswer {
        let (answer, receiver) = oneshot::channel();
        ActorAnswer(Sending::new(self, Message::Export(request, answer), receiver))
    }

    /// Sends a request without waiting for room. Whoever does not care for the answer drops it: the export goes on.
    ///
    /// # Errors
    ///
    /// The mailbox is full, or closed, or smaller than the request, which is in the error then. Nothing is counted.
    pub fn try_export(&self, request: Request) -> Result<ActorAnswer, TryExportError> {
        let (answer, receiver) = oneshot::channel();
        let message = Message::Export(request, answer);
        let weight = message.weight();
        if self.desk.origin.is_foreign() {
            return Err(TryExportError::of(Refused::Closed(message)));
        }
        match self.desk.mailbox.try_push(message, weight) {
            Ok(()) => Ok(ActorAnswer(Sending::sent(self, receiver))),
            Err(refused) => Err(TryExportError::of(refused)),
        }
    }

    /// As [`export`](Self::export), blocking the thread, for `timeout` at most. Not to be called on the thread that runs the actor.
    ///
    /// # Errors
    ///
    /// As [`export`](Self::export). A timeout error once the time is over: if the mailbox has taken the request by then, the export
    /// goes on and is counted.
    pub fn export_blocking(&self, request: Request, timeout: Duration) -> Result<Outcome, Error> {
        let mut answer = self.export(request);
        let waited = park::wait(Pin::new(&mut answer), Some(&Limit::after(timeout)));
        waited.unwrap_or_else(|| {
            let text = match answer.0.is_sent() {
                true => "no answer within the time to wait: the export goes on, and its verdict is counted",
                false => {
                    "the actor's mailbox stayed full for as long as the export might wait; nothing was sent"
                }
            };
            Err(Error::new(Kind::Timeout, text))
        })
    }

    /// Is ready once every export sent before it has its verdict. It takes a place in the mailbox, and waits for that like an export.
    ///
    /// # Errors
    ///
    /// A shutdown error, when the actor has ended, or ends before.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing but who waits.
    pub fn flush(&self) -> ActorFlush {
        let (answer, receiver) = oneshot::channel();
        ActorFlush(Sending::new(self, Message::Flush(answer), receiver))
    }

    /// Ends the actor: nothing is taken any more, what was sent has until `timeout` from when the actor sees this, and what has no
    /// verdict then is cancelled. It begins at once, also when the future is never polled, which gives the closed account.
    ///
    /// Called again, the earlier end counts; after the end it is ready at once. The exporter goes on.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing but who waits.
    pub fn shutdown(&self, timeout: Duration) -> ActorShutdown {
        self.desk.shut_down(timeout);
        ActorShutdown {
            desk: self.desk.clone(),
            place: None,
        }
    }

    /// The account at this moment, also of an actor that has ended.
    pub fn stats(&self) -> ActorStats {
        self.desk.stats()
    }

    /// Whether it takes nothing any more: it was shut down, or its actor has ended.
    pub fn is_closed(&self) -> bool {
        self.desk.origin.is_foreign() || self.desk.mailbox.is_closed()
    }
}

impl fmt::Debug for ExporterHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExporterHandle")
            .field("stats", &self.stats())
            .field("is_closed", &self.is_closed())
            .finish()
    }
}

/// The verdict of an export by an actor; see [`ExporterHandle::export`]. Polled again after it was ready, it gives an error.
#[must_use = "an export is sent only once this is awaited, unless it comes from `try_export`"]
pub struct ActorAnswer(Sending<Answer>);

/// The end of everything sent before; see [`ExporterHandle::flush`].
#[must_use = "a flush begins once it is awaited"]
pub struct ActorFlush(Sending<()>);

/// The end of an actor; see [`ExporterHandle::shutdown`].
#[must_use = "a shutdown gives its account only to whoever awaits it"]
pub struct ActorShutdown {
    desk: Arc<Desk>,
    place: Option<Place>,
}

/// A message on its way into the mailbox, and the answer on its way back.
struct Sending<T> {
    desk: Arc<Desk>,
    /// Until the mailbox has the message, with the place in the line. The handle keeps the mailbox open.
    unsent: Option<(ExporterHandle, Option<Message>, Weight)>,
    place: Option<Place>,
    answer: oneshot::Receiver<T>,
}

impl<T> Sending<T> {
    fn new(handle: &ExporterHandle, message: Message, answer: oneshot::Receiver<T>) -> Self {
        let weight = message.weight();
        Self {
            desk: handle.desk.clone(),
            unsent: Some((handle.clone(), Some(message), weight)),
            place: None,
            answer,
        }
    }

    fn sent(handle: &ExporterHandle, answer: oneshot::Receiver<T>) -> Self {
        Self {
            desk: handle.desk.clone(),
            unsent: None,
            place: None,
            answer,
        }
    }

    fn is_sent(&self) -> bool {
        self.unsent.is_none()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, Error>> {
        if self.desk.origin.is_foreign() {
            return Poll::Ready(Err(Error::new(Kind::Shutdown, FORKED)));
        }
        if let Some((_, message, weight)) = &mut self.unsent {
            let pushed = ready!(self.desk.mailbox.poll_push(cx, &mut self.place, message, *weight));
            self.unsent = None;
            if let Err(refused) = pushed {
                return Poll::Ready(Err(TryExportError::of(refused).into()));
            }
        }
        let answer = Pin::new(&mut self.answer).poll(cx);
        answer.map_err(|oneshot::Canceled| Error::new(Kind::Shutdown, GONE))
    }
}

impl<T> Drop for Sending<T> {
    fn drop(&mut self) {
        if self.unsent.is_some() && !self.desk.origin.is_foreign() {
            self.desk.mailbox.forget_push(&mut self.place);
        }
    }
}

impl Future for ActorAnswer {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        self.0.poll(cx).map(|answer| answer.and_then(|verdict| verdict))
    }
}

impl Future for ActorFlush {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(cx)
    }
}

impl Future for ActorShutdown {
    type Output = ActorStats;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<ActorStats> {
        let this = &mut *self;
        if this.desk.origin.is_foreign() {
            return Poll::Ready(ActorStats::default());
        }
        // Before the look, so that an end after it finds this waker.
        this.desk.ending.stand(&mut this.place, cx.waker());
        if !this.desk.is_over() {
            return Poll::Pending;
        }
        this.desk.ending.leave(&mut this.place);
        Poll::Ready(this.desk.stats())
    }
}

impl Drop for ActorShutdown {
    fn drop(&mut self) {
        if !self.desk.origin.is_foreign() {
            self.desk.ending.leave(&mut self.place);
        }
    }
}

/// Why an actor's mailbox did not take a request.
pub struct TryExportError {
    why: Why,
    request: Option<Request>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Full,
    TooLarge,
    Closed,
}

impl TryExportError {
    fn of(refused: Refused<Message>) -> Self {
        let (why, message) = match refused {
            Refused::Full(message) => (Why::Full, message),
            Refused::TooLarge(message) => (Why::TooLarge, message),
            Refused::Closed(message) => (Why::Closed, message),
        };
        let request = match message {
            Message::Export(request, _) => Some(request),
            Message::Flush(_) => None,
        };
        Self { why, request }
    }

    /// The request that was not taken.
    pub fn into_request(self) -> Option<Request> {
        self.request
    }

    /// Whether there was no room: the same may be taken later.
    pub fn is_full(&self) -> bool {
        self.why == Why::Full
    }

    /// Whether the actor has ended, or was told to.
    pub fn is_closed(&self) -> bool {
        self.why == Why::Closed
    }

    /// Whether the request is larger than the whole mailbox.
    pub fn is_too_large(&self) -> bool {
        self.why == Why::TooLarge
    }
}

impl fmt::Display for TryExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.why {
            Why::Full => {
                "the actor's mailbox is full; wait for room with export, or raise ActorConfig::with_mailbox"
            }
            Why::TooLarge => TOO_LARGE,
            Why::Closed => GONE,
        })
    }
}

impl fmt::Debug for TryExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryExportError")
            .field("why", &self.why)
            .finish_non_exhaustive()
    }
}

impl core::error::Error for TryExportError {}

impl From<TryExportError> for Error {
    fn from(error: TryExportError) -> Self {
        let kind = match error.why {
            Why::Full => Kind::MemoryLimit,
            Why::TooLarge => Kind::TooLarge,
            Why::Closed => Kind::Shutdown,
        };
        Self::new(kind, alloc::format!("{error}"))
    }
}
