//! One export, from its submission to its verdict.
//!
//! Owns the states of the export, the count of its attempts, the knowledge of whether the collector may have processed
//! it, and the words of its verdict. Never touches a connection: the engine tells it what became of each attempt.

mod size;
mod state;
#[cfg(test)]
mod tests;
mod verdict;

use super::prepare::{CAP_BYTES_MIN, Part};
use super::{ConnId, ExportId};
use crate::code::Code;
use crate::credentials::CredentialHeaders;
use crate::encode::{Body, Request, Signal};
use crate::error::Error;
use crate::export::{Managed, Remainder};
use crate::observe::Response;
use crate::outcome::{DropReason, ItemCounts, Outcome};
use crate::policy::{self, Class, RetryPolicy};
use crate::protocol::{Answer, CallEnd, CallId, Failure};
use crate::time::Instant;
use alloc::sync::Arc;
use core::fmt;
use core::mem;
use core::time::Duration;
use fastrand::Rng;
use size::SizeRefusal;
use state::{Event, State};
use verdict::Fate;
pub(crate) use verdict::{LastFailure, Span};

/// What came of an export.
pub(crate) type Verdict = Result<Outcome, Error>;

/// Where an export is.
///
/// A retryable failure leads from any state but [`Done`](Self::Done) back to [`Init`](Self::Init); the deadline leads to
/// `Done` from everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExportState {
    /// Waits until it may make its next attempt: for its backoff, for the endpoint's, or for credentials.
    Init,
    /// Waits for a connection with room for it: name resolution, connecting, other calls under way.
    Connecting,
    /// Its request is on the way into the socket.
    Sending,
    /// The socket has taken the whole request; the answer is awaited.
    WaitingResponse,
    /// It has its verdict.
    Done,
}

impl ExportState {
    /// Every state, in order.
    pub const ALL: [Self; 5] = [
        Self::Init,
        Self::Connecting,
        Self::Sending,
        Self::WaitingResponse,
        Self::Done,
    ];
}

impl fmt::Display for ExportState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Init => "Init",
            Self::Connecting => "Connecting",
            Self::Sending => "Sending",
            Self::WaitingResponse => "WaitingResponse",
            Self::Done => "Done",
        })
    }
}

/// Resends at once, without backoff, of a call that the collector certainly did not process. A later one waits, so that
/// a server which refuses everything is not hammered.
const FREE_RESENDS: u8 = 1;

/// How often one export is split after refusals that name no size. Each halves it: a collector that refuses everything is
/// not told so a record at a time.
const SPLITS_MAX: u8 = 10;

/// The parts of one refused request that a size named by the collector may ask for, roughly. A collector that names a tiny
/// one is not to make a message, with the head of the request, of every record at once.
const PARTS_MAX: usize = 1_024;

/// One export, or one part of an export that was split.
pub(crate) struct Machine {
    state: State,
    /// Released with the verdict.
    part: Option<Part>,
    signal: Signal,
    /// The export that it is a part of.
    family: Option<ExportId>,
    /// Another account books its items.
    managed: Option<Managed>,
    items: u64,
    held_bytes: usize,
    begun: Instant,
    deadline: Instant,
    /// When the first attempt began, once one has.
    first: Instant,
    /// Attempts begun.
    attempts: u32,
    free_resends: u8,
    /// Further attempts that do not count: with other credentials, and as parts of a request that was too large.
    uncounted: u16,
    /// How often it was split.
    splits: u8,
    auth: Auth,
    /// Failures since the last hint, or since the beginning.
    step: u16,
    hint: Option<Duration>,
    /// Some attempt's request was taken whole by the socket and never answered.
    unanswered: bool,
    /// Some attempt was answered by a failure that says nothing of whether the request was processed: a proxy may have
    /// lost the collector's answer.
    is_doubtful: bool,
    /// Items sent again in attempts that the collector may have processed, after one that it may have processed too; not yet
    /// booked.
    duplicates: u64,
    last: Option<LastFailure>,
    /// The status of the last attempt's answer.
    response: Option<Response>,
}

/// The credentials of the next attempt.
#[derive(Debug, Default)]
enum Auth {
    /// None were asked for.
    #[default]
    None,
    /// They are there.
    Ready(CredentialHeaders),
    /// The collector refused these; once others are there, the export is sent once more.
    Rejected(CredentialHeaders),
    /// As `Ready`, after others were refused.
    Second(CredentialHeaders),
    /// Others were refused, and it was sent once more.
    Exhausted,
}

/// How an attempt ended.
pub(crate) enum AttemptEnd {
    /// No connection could be opened; the endpoint may be tried again at the time given.
    NotConnected(LastFailure, Instant),
    /// No connection can be opened, whenever it is tried.
    Refused(LastFailure),
    /// No credentials could be had.
    NotAuthorized(Failure),
    /// The connection cannot carry the request, and none to this endpoint can.
    Unfit(Failure),
    /// Its call ended.
    Call(CallEnd),
    /// Its request was sent whole on a connection that had been idle, and was closed by the peer without a word.
    Stale(Failure),
}

/// What a machine needs to judge.
pub(crate) struct Judge<'a> {
    pub(crate) now: Instant,
    pub(crate) policy: &'a RetryPolicy,
    pub(crate) endpoint: &'a Arc<str>,
    /// Whether the collector is spoken to over gRPC.
    pub(crate) is_grpc: bool,
    pub(crate) rng: &'a mut Rng,
}

/// What follows from the end of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The machine is back in `Init`, its gate open: the call was certainly not processed and is sent again at once.
    Resend,
    /// The machine is back in `Init` until this time.
    Retry(Instant),
    /// The machine is back in `Init`, its gate open: the collector refused its credentials, and takes others perhaps.
    Reauthorize,
    /// The machine is back in `Init`, its gate open: the collector refused the size, and takes parts of at most so many
    /// bytes perhaps.
    Split(usize),
    /// The machine is done.
    Settled,
}

impl Machine {
    /// An export submitted now; its deadline runs from here.
    pub(crate) fn new(part: Part, now: Instant, timeout: Duration) -> Self {
        let request = part.request();
        let is_empty = request.items() == 0 || request.encoded_len() == 0;
        Self {
            state: State::Init { until: now },
            items: if is_empty { 0 } else { request.items() },
            held_bytes: part.held_bytes(),
            signal: request.signal(),
            family: None,
            managed: None,
            part: Some(part),
            begun: now,
            deadline: now + timeout,
            first: now,
            attempts: 0,
            free_resends: 0,
            uncounted: 0,
            splits: 0,
            auth: Auth::None,
            step: 0,
            hint: None,
            unanswered: false,
            is_doubtful: false,
            duplicates: 0,
            last: None,
            response: None,
        }
    }

    /// A part of an export whose request was refused for its size: it goes on where that was.
    pub(crate) fn part_of(whole: &Self, part: Part, now: Instant) -> Self {
        Self {
            begun: whole.begun,
            deadline: whole.deadline,
            first: whole.first,
            attempts: whole.attempts,
            free_resends: whole.free_resends,
            uncounted: whole.uncounted,
            splits: whole.splits + 1,
            step: whole.step,
            hint: whole.hint,
            unanswered: whole.unanswered,
            is_doubtful: whole.is_doubtful,
            managed: whole.managed,
            last: whole.last.clone(),
            response: whole.response,
            ..Self::new(part, now, whole.timeout())
        }
    }

    /// The export that it is a part of.
    pub(crate) fn family(&self) -> Option<ExportId> {
        self.family
    }

    pub(crate) fn join(&mut self, family: ExportId) {
        self.family = Some(family);
    }

    /// As made for another account.
    pub(crate) fn with_managed(mut self, managed: Option<Managed>) -> Self {
        self.managed = managed;
        self.unanswered |= managed.is_some_and(|managed| managed.unanswered);
        self
    }

    /// Whether another account books its items.
    pub(crate) fn is_managed(&self) -> bool {
        self.managed.is_some()
    }

    /// Whether a failed attempt ends it.
    pub(crate) fn is_single(&self) -> bool {
        self.managed.is_some_and(|managed| managed.is_single)
    }

    pub(crate) fn state(&self) -> ExportState {
        self.state.kind()
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The time that it was given.
    fn timeout(&self) -> Duration {
        self.deadline - self.begun
    }

    /// When it was handed over.
    pub(crate) fn begun(&self) -> Instant {
        self.begun
    }

    /// The status of the last attempt's answer, where it got one.
    pub(crate) fn response(&self) -> Option<Response> {
        self.response
    }

    /// What it carries, which tells the way that it goes.
    pub(crate) fn signal(&self) -> Signal {
        self.signal
    }

    /// The items to account for: none when there is nothing to send.
    pub(crate) fn items(&self) -> u64 {
        self.items
    }

    /// The bytes that count against the memory limit.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// The request, until the verdict.
    pub(crate) fn request(&self) -> Option<&Request> {
        self.part.as_ref().map(Part::request)
    }

    /// What goes on the wire, until the verdict.
    pub(crate) fn body(&self) -> Option<&Body> {
        self.part.as_ref().map(Part::body)
    }

    /// The credentials of the attempt.
    pub(crate) fn credentials(&self) -> Option<&CredentialHeaders> {
        match &self.auth {
            Auth::Ready(headers) | Auth::Second(headers) => Some(headers),
            Auth::None | Auth::Rejected(_) | Auth::Exhausted => None,
        }
    }

    /// The credentials that the collector refused, where others are to be asked for on that account.
    pub(crate) fn rejected_credentials(&self) -> Option<&CredentialHeaders> {
        match &self.auth {
            Auth::Rejected(headers) => Some(headers),
            _ => None,
        }
    }

    /// Takes the credentials of the next attempt, in `Init`. Settles where the collector has refused the very same.
    pub(crate) fn authorize(&mut self, headers: CredentialHeaders, endpoint: &Arc<str>) -> Option<Next> {
        self.auth = match mem::take(&mut self.auth) {
            Auth::Rejected(rejected) if rejected == headers => return Some(self.give_up_refused(endpoint)),
            Auth::None => Auth::Ready(headers),
            Auth::Ready(_) | Auth::Rejected(_) | Auth::Second(_) | Auth::Exhausted => Auth::Second(headers),
        };
        None
    }

    /// The last answer stands as the verdict, in `Init`.
    pub(crate) fn give_up_refused(&mut self, endpoint: &Arc<str>) -> Next {
        let verdict = self.refused(endpoint);
        self.settle(Event::GiveUp(verdict))
    }

    /// When the gate opens, in `Init`.
    pub(crate) fn gate(&self) -> Option<Instant> {
        match self.state {
            State::Init { until } => Some(until),
            _ => None,
        }
    }

    /// The call under way.
    pub(crate) fn call(&self) -> Option<(ConnId, CallId)> {
        match self.state {
            State::Sending { conn, call } | State::WaitingResponse { conn, call } => Some((conn, call)),
            _ => None,
        }
    }

    /// Possible duplicates since the last call.
    pub(crate) fn take_duplicates(&mut self) -> u64 {
        mem::take(&mut self.duplicates)
    }

    /// The last failure of an attempt.
    pub(crate) fn last_failure(&self) -> Option<&LastFailure> {
        self.last.as_ref()
    }

    pub(crate) fn verdict(&self) -> Option<&Verdict> {
        match &self.state {
            State::Done(verdict) => Some(verdict),
            _ => None,
        }
    }

    pub(crate) fn into_verdict(self) -> Option<Verdict> {
        match self.state {
            State::Done(verdict) => Some(verdict),
            _ => None,
        }
    }

    /// Decides the export before any attempt.
    pub(crate) fn refuse(&mut self, verdict: Verdict) -> Next {
        self.settle(Event::Refuse(verdict))
    }

    /// The gate is open: an attempt begins.
    pub(crate) fn begin(&mut self, now: Instant) {
        if self.attempts == 0 {
            self.first = now;
        }
        self.attempts = self.attempts.saturating_add(1);
        self.response = None;
        self.apply(Event::Begin);
    }

    /// The gate stays closed: the endpoint may not be tried before `until`. Settles where that is too late.
    pub(crate) fn postpone(
        &mut self,
        until: Instant,
        why: Option<LastFailure>,
        policy: &RetryPolicy,
        endpoint: &Arc<str>,
    ) -> Next {
        if until < self.retry_limit(policy) {
            self.apply(Event::Postpone(until));
            return Next::Retry(until);
        }
        self.last = self.last.take().or(why);
        let verdict = self.too_late(until, policy, endpoint);
        self.settle(Event::GiveUp(verdict))
    }

    /// A connection takes the call.
    pub(crate) fn start(&mut self, conn: ConnId, call: CallId) {
        self.apply(Event::Start { conn, call });
    }

    /// The socket took the whole request. Ignored unless it was being sent.
    pub(crate) fn request_sent(&mut self) {
        if self.state() == ExportState::Sending {
            self.apply(Event::RequestSent);
        }
    }

    /// The attempt under way is over: judges whether another follows.
    pub(crate) fn end_attempt(&mut self, judge: &mut Judge<'_>, end: AttemptEnd) -> Next {
        let end = match end {
            AttemptEnd::NotConnected(failure, next) => {
                self.last = Some(failure);
                return self.retry_or_give_up(judge, Some(next));
            }
            AttemptEnd::Refused(failure) => {
                self.last = Some(failure);
                return self.give_up_here(judge.endpoint);
            }
            AttemptEnd::NotAuthorized(failure) => return self.handle_not_authorized(judge, failure),
            AttemptEnd::Unfit(failure) => return self.handle_failure(judge, failure),
            AttemptEnd::Stale(failure) => {
                self.request_sent();
                self.leave_unanswered();
                return self.handle_unprocessed(judge, failure);
            }
            AttemptEnd::Call(end) => end,
        };
        match end {
            CallEnd::Answered(answer) => self.handle_answer(judge, answer),
            CallEnd::Unprocessed(failure) => self.handle_unprocessed(judge, failure),
            CallEnd::Unanswered(failure) => {
                self.request_sent();
                self.leave_unanswered();
                self.handle_failure(judge, failure)
            }
            CallEnd::Expired { sent } => {
                if sent {
                    self.request_sent();
                }
                self.expire(judge.endpoint)
            }
        }
    }

    /// Notes what keeps an export from a connection or from its credentials, for its verdict. An earlier failure says more.
    pub(crate) fn explain(&mut self, pending: Option<LastFailure>) {
        if matches!(self.state(), ExportState::Init | ExportState::Connecting) && self.last.is_none() {
            self.last = pending;
        }
    }

    /// The deadline passed.
    pub(crate) fn expire(&mut self, endpoint: &Arc<str>) -> Next {
        self.leave_call();
        let verdict = self.deadline_passed(endpoint);
        self.settle(Event::Expire(verdict))
    }

    /// The caller lost interest.
    pub(crate) fn cancel(&mut self, endpoint: &Arc<str>) -> Next {
        self.leave_call();
        let verdict = self.cancelled(endpoint);
        self.settle(Event::Cancel(verdict))
    }

    /// The exporter was shut down.
    pub(crate) fn shut_down(&mut self, endpoint: &Arc<str>) -> Next {
        self.leave_call();
        let verdict = self.was_shut_down(endpoint);
        self.settle(Event::ShutDown(verdict))
    }

    fn handle_answer(&mut self, judge: &mut Judge<'_>, answer: Answer) -> Next {
        self.response = Some(match answer.is_http {
            true => Response::Http(answer.http_status.unwrap_or(200)),
            false => Response::Grpc(answer.code),
        });
        if let Some(refusal) = size::size_refusal(&answer) {
            if let Some(bytes_max) = self.smaller(refusal) {
                self.last = Some(LastFailure::answered(answer));
                return self.start_over(judge.now, Next::Split(bytes_max));
            }
        }
        if answer.code == Code::UNAUTHENTICATED {
            if let Auth::Ready(rejected) = &self.auth {
                self.auth = Auth::Rejected(rejected.clone());
                self.last = Some(LastFailure::answered(answer));
                return self.start_over(judge.now, Next::Reauthorize);
            }
        }
        self.book_duplicate();
        if answer.code == Code::OK {
            let rejected = answer.rejected.min(self.items);
            let outcome = Outcome {
                counts: ItemCounts {
                    delivered: self.items - rejected,
                    rejected,
                    ..ItemCounts::default()
                },
                message: (!answer.message.is_empty()).then(|| answer.message.into_boxed_str()),
                attempts: self.attempts,
            };
            return self.settle(Event::Answer(Ok(outcome)));
        }
        let class = policy::classify(answer.result());
        self.last = Some(LastFailure::answered(answer));
        let Class::Retryable { after } = class else {
            let verdict = self.refused(judge.endpoint);
            return self.settle(Event::Answer(verdict));
        };
        if let Some(hint) = after {
            // The waits grow from the hint; a collector that repeats itself meets growing waits.
            if self.hint != Some(hint) {
                self.step = 0;
            }
            self.hint = Some(hint);
        } else if self.state() == ExportState::WaitingResponse {
            self.is_doubtful = true;
        }
        self.retry_or_give_up(judge, None)
    }

    /// Back to `Init` at once, for an attempt that does not count as one more.
    fn start_over(&mut self, now: Instant, next: Next) -> Next {
        self.uncounted = self.uncounted.saturating_add(1);
        self.retry(now);
        next
    }

    /// The size to try after this refusal, or `None` where that would be of no use.
    fn smaller(&self, refusal: SizeRefusal) -> Option<usize> {
        let part = self.part.as_ref()?;
        let len = part.request().encoded_len();
        if self.items < 2 || self.splits >= SPLITS_MAX {
            return None;
        }
        let named = refusal.max.map(|max| part.encoded_size(max, refusal.received));
        match named {
            Some(named) if named < len => Some(named.max(len.div_ceil(PARTS_MAX))),
            _ if len > CAP_BYTES_MIN => Some(len.div_ceil(2)),
            _ => None,
        }
    }

    fn handle_not_authorized(&mut self, judge: &mut Judge<'_>, failure: Failure) -> Next {
        if let Auth::Rejected(_) = self.auth {
            return self.give_up_refused(judge.endpoint);
        }
        self.begin(judge.now);
        let is_retryable = failure.is_retryable;
        self.last = Some(LastFailure::credentials(failure));
        if is_retryable {
            return self.retry_or_give_up(judge, None);
        }
        self.give_up_here(judge.endpoint)
    }

    fn handle_unprocessed(&mut self, judge: &mut Judge<'_>, failure: Failure) -> Next {
        if failure.is_retryable
            && self.free_resends < FREE_RESENDS
            && judge.now < self.retry_limit(judge.policy)
        {
            self.free_resends += 1;
            self.last = Some(LastFailure::transport(failure, judge.is_grpc));
            self.retry(judge.now);
            return Next::Resend;
        }
        if failure.is_retryable {
            return self.handle_failure(judge, failure);
        }
        self.last = Some(LastFailure::transport(failure, judge.is_grpc));
        self.give_up_here(judge.endpoint)
    }

    fn handle_failure(&mut self, judge: &mut Judge<'_>, failure: Failure) -> Next {
        let is_retryable = failure.is_retryable;
        self.last = Some(LastFailure::transport(failure, judge.is_grpc));
        if is_retryable {
            return self.retry_or_give_up(judge, None);
        }
        let verdict = self.failed_for_good(judge.endpoint);
        self.settle(Event::GiveUp(verdict))
    }

    /// Goes back to `Init`, unless the policy or the deadline forbid it. `next` is the time the endpoint's own backoff
    /// allows, in place of the export's.
    fn retry_or_give_up(&mut self, judge: &mut Judge<'_>, next: Option<Instant>) -> Next {
        let free = u32::from(self.uncounted) + u32::from(self.free_resends);
        if self.is_single() || self.attempts.saturating_sub(free) >= judge.policy.attempts_max {
            let verdict = self.out_of_attempts(judge.endpoint);
            return self.settle(Event::GiveUp(verdict));
        }
        self.step = self.step.saturating_add(1);
        let mut until =
            next.unwrap_or_else(|| judge.now + judge.policy.backoff(self.step.into(), self.hint, judge.rng));
        let limit = self.retry_limit(judge.policy);
        if until >= limit && next.is_none() && self.hint.is_none() {
            let shortened = judge.policy.shortened(limit - judge.now);
            until = shortened.map_or(until, |wait| judge.now + wait);
        }
        if until >= limit {
            let verdict = self.too_late(until, judge.policy, judge.endpoint);
            return self.settle(Event::GiveUp(verdict));
        }
        self.retry(until);
        Next::Retry(until)
    }

    /// No attempt at this endpoint can mend it, as where its certificate has expired. That says nothing about the request, which
    /// was not processed: where there is another endpoint, it goes there.
    fn give_up_here(&mut self, endpoint: &Arc<str>) -> Next {
        let verdict = self.failed_for_good(endpoint);
        let goes_on = self.is_single();
        self.settle_as(Event::GiveUp(verdict), goes_on)
    }

    /// When it is too late for another attempt to begin: at the deadline, or where the policy's total time ends.
    fn retry_limit(&self, policy: &RetryPolicy) -> Instant {
        let total = policy.total.filter(|_| self.attempts > 0);
        total.map_or(self.deadline, |total| self.deadline.min(self.first + total))
    }

    /// Goes back to `Init`; the next attempt asks for credentials anew.
    fn retry(&mut self, until: Instant) {
        self.auth = match mem::take(&mut self.auth) {
            Auth::None | Auth::Ready(_) => Auth::None,
            Auth::Rejected(rejected) => Auth::Rejected(rejected),
            Auth::Second(_) | Auth::Exhausted => Auth::Exhausted,
        };
        self.apply(Event::Retry(until));
    }

    /// The call under way is abandoned from this side.
    fn leave_call(&mut self) {
        if self.state() == ExportState::WaitingResponse {
            self.leave_unanswered();
        }
    }

    /// The attempt under way was sent whole and ends without an answer.
    fn leave_unanswered(&mut self) {
        self.book_duplicate();
        self.unanswered = true;
    }

    /// The collector may have processed the attempt under way.
    fn book_duplicate(&mut self) {
        if self.unanswered || self.is_doubtful {
            self.duplicates = self.duplicates.saturating_add(self.items);
        }
    }

    /// Where the items end up when no further attempt follows, and why.
    fn fate(&self, reason: DropReason) -> Fate {
        let mut counts = ItemCounts::default();
        if self.unanswered {
            counts.unknown = self.items;
            return (counts, None);
        }
        counts.dropped = self.items;
        (counts, (self.items > 0).then_some(reason))
    }

    fn settle(&mut self, event: Event) -> Next {
        self.settle_as(event, false)
    }

    /// `goes_on` says that another endpoint may deliver it though no attempt here can.
    fn settle_as(&mut self, event: Event, goes_on: bool) -> Next {
        self.apply(event);
        let part = self.part.take();
        if let (Some(part), true) = (part, self.is_managed() && self.items > 0) {
            self.hand_back(part, goes_on);
        }
        self.auth = Auth::None;
        Next::Settled
    }

    /// What a later export may deliver goes back with the error.
    fn hand_back(&mut self, part: Part, goes_on: bool) {
        self.state = match mem::replace(&mut self.state, State::Failed) {
            State::Done(Err(error))
                if goes_on || error.is_retryable() || error.is_cancelled() || error.is_shutdown() =>
            {
                if self.is_doubtful && !self.unanswered {
                    // It is about to be sent again, by an export that does not know.
                    self.duplicates = self.duplicates.saturating_add(self.items);
                }
                let remainder = Remainder::new(part.request().clone(), self.unanswered);
                State::Done(Err(error.with_remainder(remainder, ItemCounts::default())))
            }
            state => state,
        };
    }

    /// Moves on. An illegal event is a defect of the engine: tests stop at it, a release build keeps the state.
    fn apply(&mut self, event: Event) {
        match mem::replace(&mut self.state, State::Failed).advance(event) {
            Ok(state) => self.state = state,
            Err(illegal) => {
                debug_assert!(false, "illegal transition: {illegal:?}");
                self.state = illegal.state;
            }
        }
    }
}
