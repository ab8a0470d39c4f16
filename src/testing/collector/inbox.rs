//! The records of a collector and the script of its answers, shared by its sessions and its user.

use super::answer::Answer;
use super::connections::{Connections, ReceivedConnection};
use super::content::{Content, Decoded};
use super::received::{
    ReceivedLog, ReceivedMetric, ReceivedRequest, ReceivedSpan, into_logs, into_metrics, into_spans,
};
use crate::code::Code;
use crate::encode::Signal;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What was received, and what to answer next. Clones share both.
///
/// A [`Collector`](super::Collector) has one; tests that drive [`ServerSession`](super::ServerSession)s by themselves
/// make their own.
#[derive(Clone, Debug, Default)]
pub struct Inbox(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Answers to the next calls, before the fallback.
    script: VecDeque<Answer>,
    fallback: Fallback,
    requests: Vec<ReceivedRequest>,
    spans: Vec<ReceivedSpan>,
    metrics: Vec<ReceivedMetric>,
    logs: Vec<ReceivedLog>,
    connections: Connections,
    counters: Counters,
    /// The number of the next request.
    next_index: u64,
}

#[derive(Clone)]
enum Fallback {
    Always(Answer),
    Choose(Arc<Choose>),
}

type Choose = dyn Fn(&ReceivedRequest) -> Answer + Send + Sync;

/// What happened since the start or the last [`clear`](super::Collector::clear).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Connections that were opened.
    pub connections: u64,
    /// Requests that arrived whole.
    pub requests: u64,
    /// Requests that were answered with a success.
    pub requests_accepted: u64,
    /// Spans in all of them, a span that came twice counted twice.
    pub spans: u64,
    /// Spans that the answers accepted.
    pub spans_accepted: u64,
    /// Bytes of their messages.
    pub message_bytes: u64,
    /// Calls turned away before an answer was chosen: wrong path, method or content type, an unknown compression, a
    /// malformed or too large a message.
    pub calls_invalid: u64,
    /// Calls that the client reset, or lost with its connection, before their answer was complete.
    pub calls_cancelled: u64,
    /// Connections on which TLS failed.
    pub tls_failures: u64,
    signals: [SignalCounters; Signal::ALL.len()],
}

/// What happened to the requests of one signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SignalCounters {
    /// Requests that arrived whole.
    pub requests: u64,
    /// Requests that were answered with a success.
    pub requests_accepted: u64,
    /// Spans, data points, log records or profiles in all of them; what came twice is counted twice.
    pub items: u64,
    /// Those that the answers accepted.
    pub items_accepted: u64,
}

impl Counters {
    /// What happened to the requests of this signal.
    pub fn of(&self, signal: Signal) -> SignalCounters {
        self.signals[signal.index()]
    }
}

/// The time was over before enough had arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOut {
    /// What was waited for.
    pub expected: usize,
    /// What had arrived.
    pub received: usize,
    /// The time.
    pub timeout: Duration,
}

impl Inbox {
    /// No records; every answer is a success.
    pub fn new() -> Self {
        Self::default()
    }

    /// Every span received, in the order of arrival.
    pub fn spans(&self) -> Vec<ReceivedSpan> {
        self.lock().spans.clone()
    }

    /// Every metric received, in the order of arrival.
    pub fn metrics(&self) -> Vec<ReceivedMetric> {
        self.lock().metrics.clone()
    }

    /// Every log record received, in the order of arrival.
    pub fn logs(&self) -> Vec<ReceivedLog> {
        self.lock().logs.clone()
    }

    /// Every request received, in the order of arrival.
    pub fn requests(&self) -> Vec<ReceivedRequest> {
        self.lock().requests.clone()
    }

    /// Every connection, in the order of their numbers. Those that are over are kept as requests are.
    pub fn connections(&self) -> Vec<ReceivedConnection> {
        self.lock().connections.all()
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        self.lock().counters
    }

    /// Waits until at least `count` spans have been received, and gives all of them.
    ///
    /// # Errors
    ///
    /// [`TimedOut`] where fewer have been received within `timeout`.
    pub fn wait_for_spans(&self, count: usize, timeout: Duration) -> Result<Vec<ReceivedSpan>, TimedOut> {
        self.wait(count, timeout, |state| &state.spans)
    }

    /// Waits until at least `count` requests have been received, and gives all of them.
    ///
    /// # Errors
    ///
    /// [`TimedOut`] where fewer have been received within `timeout`.
    pub fn wait_for_requests(
        &self,
        count: usize,
        timeout: Duration,
    ) -> Result<Vec<ReceivedRequest>, TimedOut> {
        self.wait(count, timeout, |state| &state.requests)
    }

    /// Forgets what was received and sets the counters to zero; answers stay as they are.
    pub fn clear(&self) {
        let mut state = self.lock();
        state.requests.clear();
        state.spans.clear();
        state.metrics.clear();
        state.logs.clear();
        state.connections.clear();
        state.counters = Counters::default();
    }

    /// Answers every call like this, once the answers of [`answer_next`](Self::answer_next) are used up.
    pub fn answer(&self, answer: Answer) {
        self.lock().fallback = Fallback::Always(answer);
    }

    /// Answers the next call like this; several are used in their order.
    pub fn answer_next(&self, answer: Answer) {
        self.lock().script.push_back(answer);
    }

    /// Asks `choose` for every answer, once the answers of [`answer_next`](Self::answer_next) are used up.
    ///
    /// It runs on the thread that serves all connections; where it panics, the call is answered with `INTERNAL`.
    pub fn answer_with(&self, choose: impl Fn(&ReceivedRequest) -> Answer + Send + Sync + 'static) {
        self.lock().fallback = Fallback::Choose(Arc::new(choose));
    }

    /// Records a whole request and gives its answer.
    pub(super) fn receive(&self, mut request: ReceivedRequest, content: Content, keep: bool) -> Answer {
        let (scripted, fallback) = {
            let mut state = self.lock();
            request.index = state.next_index;
            state.next_index += 1;
            (state.script.pop_front(), state.fallback.clone())
        };
        // The user's closure may use the inbox: no lock is held.
        let answer = scripted.unwrap_or_else(|| fallback.choose(&request));
        let kept = keep.then(|| Kept::new(content.message, request.index));
        let is_success = u64::from(answer.is_success_over(request.protocol));
        let accepted = answer.accepted(request.protocol, request.items);

        let mut state = self.lock();
        let counters = &mut state.counters;
        counters.requests += 1;
        counters.requests_accepted += is_success;
        counters.message_bytes += request.encoded_len as u64;
        let signal = &mut counters.signals[request.signal.index()];
        signal.requests += 1;
        signal.requests_accepted += is_success;
        signal.items += request.items;
        signal.items_accepted += accepted;
        if request.signal == Signal::Traces {
            counters.spans += request.items;
            counters.spans_accepted += accepted;
        }
        state
            .connections
            .update(request.connection, |record| record.requests += 1);
        if let Some(kept) = kept {
            state.keep(kept);
            request.answer = Some(answer.clone());
            state.requests.push(request);
        }
        drop(state);
        self.0.arrived.notify_all();
        answer
    }

    pub(super) fn count(&self, count: impl FnOnce(&mut Counters)) {
        count(&mut self.lock().counters);
    }

    pub(super) fn open_connection(&self, number: u64) {
        let mut state = self.lock();
        state.counters.connections += 1;
        state.connections.open(number);
    }

    pub(super) fn update_connection(&self, number: u64, update: impl FnOnce(&mut ReceivedConnection)) {
        self.lock().connections.update(number, update);
    }

    pub(super) fn close_connection(&self, number: u64, keep: bool) {
        self.lock().connections.close(number, keep);
    }

    #[cfg(feature = "tls")]
    pub(super) fn fail_tls(&self, number: u64, error: &rustls::Error) {
        let text = alloc::format!("{error}");
        let mut state = self.lock();
        state.counters.tls_failures += 1;
        state
            .connections
            .update(number, |record| record.tls_error = Some(text));
    }

    fn wait<T: Clone>(
        &self,
        expected: usize,
        timeout: Duration,
        kept: impl Fn(&State) -> &Vec<T>,
    ) -> Result<Vec<T>, TimedOut> {
        let arrived = &self.0.arrived;
        let (state, _) = arrived
            .wait_timeout_while(self.lock(), timeout, |state| kept(state).len() < expected)
            .unwrap_or_else(PoisonError::into_inner);
        let kept = kept(&state);
        let received = kept.len();
        if received < expected {
            return Err(TimedOut {
                expected,
                received,
                timeout,
            });
        }
        Ok(kept.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The items of a request, taken apart before the lock is taken.
enum Kept {
    Spans(Vec<ReceivedSpan>),
    Metrics(Vec<ReceivedMetric>),
    Logs(Vec<ReceivedLog>),
    Nothing,
}

impl Kept {
    fn new(message: Decoded, request: u64) -> Self {
        match message {
            Decoded::Traces(message) => Self::Spans(into_spans(message, request)),
            Decoded::Metrics(message) => Self::Metrics(into_metrics(message, request)),
            Decoded::Logs(message) => Self::Logs(into_logs(message, request)),
            Decoded::Counted => Self::Nothing,
        }
    }
}

impl State {
    fn keep(&mut self, kept: Kept) {
        match kept {
            Kept::Spans(spans) => self.spans.extend(spans),
            Kept::Metrics(metrics) => self.metrics.extend(metrics),
            Kept::Logs(logs) => self.logs.extend(logs),
            Kept::Nothing => {}
        }
    }
}

impl Fallback {
    fn choose(&self, request: &ReceivedRequest) -> Answer {
        match self {
            Self::Always(answer) => answer.clone(),
            Self::Choose(choose) => catch_unwind(AssertUnwindSafe(|| choose(request)))
                .unwrap_or_else(|_| Answer::status(Code::INTERNAL, "the choice of an answer panicked")),
        }
    }
}

impl Default for Fallback {
    fn default() -> Self {
        Self::Always(Answer::Ok)
    }
}

impl fmt::Debug for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always(answer) => f.debug_tuple("Always").field(answer).finish(),
            Self::Choose(_) => f.write_str("Choose"),
        }
    }
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            expected,
            received,
            timeout,
        } = self;
        write!(f, "received {received} of {expected} within {timeout:?}")
    }
}

impl core::error::Error for TimedOut {}
