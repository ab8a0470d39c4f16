//! The account behind the self-metrics.
//!
//! Items are counted once an export, not once an attempt: in flight from when they were handed over to their verdict, backoff
//! included, and then as exported or failed. Each export is timed once (OpenTelemetry semantic conventions, "SDK metrics").

use crate::code::Code;
use crate::encode::Signal;
use crate::error::{Error, Kind};
#[cfg(feature = "std")]
use crate::outcome::DropReason;
use crate::outcome::{ItemCounts, Outcome};
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

/// The upper bounds of a duration's buckets, in seconds: those that the semantic conventions advise for requests.
pub(crate) const BOUNDS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];
const BOUNDS_NANOS: [u64; BOUNDS.len()] = [
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    75_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    750_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    7_500_000_000,
    10_000_000_000,
];

/// Kinds of failures of one signal that are told apart; a peer that answers with ever new statuses makes no more.
const KINDS_MAX: usize = 32;

/// What became of items and exports, by signal. A pipeline may have one of its own beside its exporters'.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter {
    signals: [SignalMeter; Signal::ALL.len()],
}

/// One signal of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct SignalMeter {
    /// Items without a verdict.
    pub(crate) in_flight: u64,
    /// Items that the collector accepted.
    pub(crate) exported: u64,
    /// Items that it did not, by cause, in the order in which the causes came up.
    pub(crate) failed: Vec<(ErrorType, u64)>,
    /// Exports by how they ended, in the order in which those came up.
    pub(crate) durations: Vec<(End, Histogram)>,
    /// Whether anything was counted, ever.
    pub(crate) is_used: bool,
}

/// How an export ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// Why it was no full success.
    pub(crate) error: Option<ErrorType>,
    /// The status of its last answer, if its last attempt got one.
    pub(crate) response: Option<Response>,
}

/// The status of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Response {
    Grpc(Code),
    Http(u16),
}

/// Durations by bucket.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    pub(crate) counts: [u64; BOUNDS.len() + 1],
    pub(crate) sum_nanos: u64,
    pub(crate) min_nanos: u64,
    pub(crate) max_nanos: u64,
}

/// Why items, or an export, count as failed: the value of the attribute `error.type`.
///
/// Its `Display` is that value: the status of the collector's answer where there was one, such as `UNAVAILABLE` or `503`,
/// `rejected` for items of a partial success, else a word of this crate's, such as `timeout`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrorType(Cause);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Cause {
    Rejected,
    Grpc(Code),
    Http(u16),
    Named(&'static str),
}

impl ErrorType {
    /// Refused in a partial success.
    pub(crate) const REJECTED: Self = Self(Cause::Rejected);
    /// What is not told apart (semantic conventions, `error.type`).
    const OTHER: Self = Self(Cause::Named("_OTHER"));

    /// Why an export failed.
    pub(crate) fn of(error: &Error) -> Self {
        let name = match error.kind() {
            Kind::Status => {
                return match (error.grpc_status(), error.http_status()) {
                    (_, Some(status)) => Self(Cause::Http(status)),
                    (Some(code), None) => Self(Cause::Grpc(code)),
                    (None, None) => Self::REJECTED,
                };
            }
            Kind::Timeout => "timeout",
            Kind::Connect => "connect",
            Kind::Transport => "transport",
            Kind::Cancelled => "cancelled",
            Kind::MemoryLimit => "memory_limit",
            Kind::TooLarge => "too_large",
            Kind::Credentials => "credentials",
            Kind::Shutdown => "shutdown",
            Kind::Runtime => "runtime_gone",
            Kind::Config | Kind::Misuse => "misuse",
        };
        Self(Cause::Named(name))
    }

    /// Why items were given up that wait for a further export.
    #[cfg(feature = "std")]
    pub(crate) const fn given_up(reason: DropReason) -> Self {
        let name = match reason {
            DropReason::Cancelled => "cancelled",
            DropReason::Deadline => "timeout",
            DropReason::MemoryLimit => "memory_limit",
            DropReason::Shutdown => "shutdown",
            DropReason::TooLarge => "too_large",
            DropReason::QueueFull => "queue_full",
            DropReason::Evicted => "evicted",
            DropReason::Expired => "expired",
            DropReason::Forked => "forked",
            DropReason::Attempts | DropReason::NotRetryable => return Self::OTHER,
        };
        Self(Cause::Named(name))
    }
}

impl fmt::Display for ErrorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Cause::Rejected => f.write_str("rejected"),
            Cause::Grpc(code) => Response::Grpc(code).fmt(f),
            Cause::Http(status) => Response::Http(status).fmt(f),
            Cause::Named(name) => f.write_str(name),
        }
    }
}

impl fmt::Debug for ErrorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ErrorType({self})")
    }
}

impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grpc(code) => match code.name() {
                Some(name) => f.write_str(name),
                None => write!(f, "{}", code.as_u32()),
            },
            Self::Http(status) => write!(f, "{status}"),
        }
    }
}

impl End {
    /// How an export ended that has this verdict. A partial success without rejected items is a full one.
    pub(crate) fn of(verdict: &Result<Outcome, Error>, response: Option<Response>) -> Self {
        let error = match verdict {
            Ok(outcome) => (outcome.rejected() > 0).then_some(ErrorType::REJECTED),
            Err(error) => Some(ErrorType::of(error)),
        };
        Self { error, response }
    }
}

impl Meter {
    /// Items were handed over.
    pub(crate) fn begin(&mut self, signal: Signal, items: u64) {
        let meter = &mut self.signals[signal.index()];
        meter.in_flight += items;
        meter.is_used = true;
    }

    /// Items that were counted by [`begin`](Self::begin) are to be counted anew, as parts or elsewhere.
    pub(crate) fn undo(&mut self, signal: Signal, items: u64) {
        let in_flight = &mut self.signals[signal.index()].in_flight;
        *in_flight = in_flight.saturating_sub(items);
    }

    /// Items have their verdict.
    pub(crate) fn end(&mut self, signal: Signal, items: u64, verdict: &Result<Outcome, Error>) {
        self.undo(signal, items);
        match verdict {
            Ok(outcome) => self.count(signal, outcome.counts(), ErrorType::REJECTED),
            Err(error) => self.count(signal, error.counts(), ErrorType::of(error)),
        }
    }

    /// Books where items ended up that are in flight no more, and why those failed that did.
    pub(crate) fn count(&mut self, signal: Signal, counts: ItemCounts, why: ErrorType) {
        let meter = &mut self.signals[signal.index()];
        meter.is_used = true;
        meter.exported += counts.delivered;
        match counts.total() - counts.delivered {
            0 => {}
            failed => *entry(&mut meter.failed, why, ErrorType::OTHER) += failed,
        }
    }

    /// An export has ended that took so long.
    pub(crate) fn time(&mut self, signal: Signal, end: End, took: Duration) {
        let meter = &mut self.signals[signal.index()];
        meter.is_used = true;
        let other = End {
            error: end.error.map(|_| ErrorType::OTHER),
            response: None,
        };
        entry(&mut meter.durations, end, other).record(took);
    }

    /// Adds what another meter counted.
    #[cfg(feature = "std")]
    pub(crate) fn merge(&mut self, other: &Self) {
        for (sum, more) in self.signals.iter_mut().zip(&other.signals) {
            sum.in_flight += more.in_flight;
            sum.exported += more.exported;
            sum.is_used |= more.is_used;
            for (why, items) in &more.failed {
                *entry(&mut sum.failed, *why, ErrorType::OTHER) += items;
            }
            for (end, histogram) in &more.durations {
                let other = End {
                    error: end.error.map(|_| ErrorType::OTHER),
                    response: None,
                };
                entry(&mut sum.durations, *end, other).merge(histogram);
            }
        }
    }

    pub(crate) fn signal(&self, signal: Signal) -> &SignalMeter {
        &self.signals[signal.index()]
    }
}

impl Histogram {
    /// Exports in all.
    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    fn record(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_NANOS.partition_point(|bound| *bound < nanos);
        self.min_nanos = if self.count() == 0 {
            nanos
        } else {
            self.min_nanos.min(nanos)
        };
        self.max_nanos = self.max_nanos.max(nanos);
        self.sum_nanos = self.sum_nanos.saturating_add(nanos);
        self.counts[bucket] += 1;
    }

    #[cfg(feature = "std")]
    fn merge(&mut self, other: &Self) {
        if other.count() == 0 {
            return;
        }
        self.min_nanos = if self.count() == 0 {
            other.min_nanos
        } else {
            self.min_nanos.min(other.min_nanos)
        };
        self.max_nanos = self.max_nanos.max(other.max_nanos);
        self.sum_nanos = self.sum_nanos.saturating_add(other.sum_nanos);
        for (sum, more) in self.counts.iter_mut().zip(other.counts) {
            *sum += more;
        }
    }
}

/// The place of a key, or of `other` where there are too many.
fn entry<K: PartialEq, V: Default>(list: &mut Vec<(K, V)>, key: K, other: K) -> &mut V {
    let find = |list: &[(K, V)], key: &K| list.iter().position(|(known, _)| known == key);
    let at = match find(list, &key) {
        Some(at) => at,
        None if list.len() < KINDS_MAX => {
            list.push((key, V::default()));
            list.len() - 1
        }
        None => find(list, &other).unwrap_or_else(|| {
            list.push((other, V::default()));
            list.len() - 1
        }),
    };
    &mut list[at].1
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn failed(counts: ItemCounts, error: Error) -> Result<Outcome, Error> {
        Err(error.with_counts(counts))
    }

    #[test]
    fn bounds_are_the_same_in_seconds_and_nanoseconds() {
        for (secs, nanos) in BOUNDS.into_iter().zip(BOUNDS_NANOS) {
            assert_eq!(Duration::from_secs_f64(secs), Duration::from_nanos(nanos));
        }
    }

    #[test]
    fn a_bucket_holds_its_upper_bound() {
        let mut histogram = Histogram::default();
        for took in [ms(0), ms(5), ms(6), ms(10), ms(10_000), ms(10_001), Duration::MAX] {
            histogram.record(took);
        }
        assert_eq!((histogram.counts[0], histogram.counts[1]), (2, 2));
        assert_eq!((histogram.counts[13], histogram.counts[14]), (1, 2));
        assert_eq!(histogram.count(), 7);
        assert_eq!((histogram.min_nanos, histogram.max_nanos), (0, u64::MAX));
        assert_eq!(histogram.sum_nanos, u64::MAX, "it stops there");
    }

    #[test]
    fn statuses_without_an_end_share_one_entry() {
        let mut meter = Meter::default();
        let counts = ItemCounts {
            rejected: 2,
            ..ItemCounts::default()
        };
        for code in 0..1_000 {
            let error = Error::new(Kind::Status, "no").with_code(Code::from_u32(100 + code));
            let verdict = failed(counts, error);
            meter.begin(Signal::Logs, 2);
            meter.end(Signal::Logs, 2, &verdict);
            meter.time(Signal::Logs, End::of(&verdict, None), ms(1));
        }
        let logs = meter.signal(Signal::Logs);
        assert_eq!(logs.failed.len(), KINDS_MAX + 1);
        assert_eq!(logs.durations.len(), KINDS_MAX + 1);
        let (other, items) = logs.failed[KINDS_MAX];
        assert_eq!(other.to_string(), "_OTHER");
        assert_eq!(items, 2 * (1_000 - KINDS_MAX as u64));
        assert_eq!(logs.in_flight, 0);
        assert_eq!(logs.failed[0].0.to_string(), "100", "a code without a name");
    }

    #[test]
    fn meters_add_up() {
        let mut sum = Meter::default();
        for items in [3, 4] {
            let mut meter = Meter::default();
            meter.begin(Signal::Traces, items + 1);
            let counts = ItemCounts {
                delivered: 1,
                dropped: items - 1,
                ..ItemCounts::default()
            };
            let verdict = failed(counts, Error::new(Kind::Timeout, "late"));
            meter.end(Signal::Traces, items, &verdict);
            meter.time(Signal::Traces, End::of(&verdict, None), ms(10 * items));
            sum.merge(&meter);
        }
        let traces = sum.signal(Signal::Traces);
        assert_eq!((traces.in_flight, traces.exported), (2, 2));
        assert_eq!(traces.failed, [(ErrorType::given_up(DropReason::Deadline), 5)]);
        let (end, histogram) = &traces.durations[0];
        assert_eq!(end.error, Some(ErrorType::given_up(DropReason::Deadline)));
        assert_eq!(histogram.count(), 2);
        assert_eq!(
            (histogram.min_nanos, histogram.max_nanos),
            (30_000_000, 40_000_000)
        );
        assert_eq!(histogram.sum_nanos, 70_000_000);
    }
}
