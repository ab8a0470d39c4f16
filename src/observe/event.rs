//! The events, and their words.

use crate::encode::Signal;
use crate::outcome::DropReason;
use crate::time::Instant;
use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

/// Something that whoever runs the program may want to know: the exporter or its collector changed.
///
/// At most one event of a kind and an endpoint is told a minute; the next one carries how many were kept back. An outage
/// and its end are kept together: each [`OutageBegan`](Transition::OutageBegan) that is told is followed by its
/// [`Recovered`](Transition::Recovered), and of an endpoint that comes and goes many times a minute one pair a minute is
/// told, which carries the count and the losses of the others. Likewise each [`BreakerOpened`](Transition::BreakerOpened) that is
/// told is followed by its [`BreakerClosed`](Transition::BreakerClosed), once the breaker closes.
///
/// Its `Display` is one line in an operator's words: where, what, since when, how much was lost, what to do. Values of
/// headers and credentials are never in it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Event<'a> {
    /// The endpoint that it speaks of, as errors name it; `None` where it speaks of the whole exporter.
    pub endpoint: Option<Cow<'a, str>>,
    /// What happened.
    pub transition: Transition<'a>,
    /// When it was told, on the clock of the exporter's runtime; zero for what became of the configuration, which is told
    /// before the clock is read.
    pub at: Instant,
    /// Events of its kind and endpoint that were kept back since the last one that was told.
    pub kept_back: u64,
    /// The items that those spoke of.
    pub kept_back_items: u64,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Transition<'a> {
    /// A connection is open and takes exports.
    #[non_exhaustive]
    Connected {
        /// How exports are put on the wire: `gRPC` or `OTLP/HTTP`.
        protocol: &'static str,
        /// The version of HTTP, such as `HTTP/2`, where it is known.
        http: Option<&'static str>,
        /// The version of TLS, such as `TLS 1.3`; `None` in plain text.
        tls: Option<&'static str>,
        /// What both sides agreed on by ALPN, if anything.
        alpn: Option<&'static str>,
    },
    /// Exports to the endpoint fail, after they had succeeded or before any had. They are retried as the policy says.
    #[non_exhaustive]
    OutageBegan {
        /// The first failure, with what to do about it.
        failure: Cow<'a, str>,
        /// How long it had lasted when it was told of.
        lasting: Duration,
    },
    /// An export succeeded after an outage.
    #[non_exhaustive]
    Recovered {
        /// How long the outage lasted, from its first failure to the first success.
        outage: Duration,
        /// How long that success was ago when it was told of.
        since: Duration,
        /// Attempts that failed meanwhile, in outages that were kept back as well.
        attempts: u64,
        /// What was lost meanwhile, in outages that were kept back as well.
        lost: Losses,
    },
    /// The collector took a request and refused items of it for good, or refused it as a whole.
    #[non_exhaustive]
    Rejected {
        /// What they are.
        signal: Signal,
        /// The items that it refused.
        items: u64,
        /// Its words, or what its status means.
        message: Cow<'a, str>,
    },
    /// The collector took everything and had something to say (OTLP specification, "Partial Success"), or a connection is
    /// not as it should be.
    #[non_exhaustive]
    Warned {
        /// In words.
        message: Cow<'a, str>,
    },
    /// The collector asks for a pause: more is sent than it takes.
    #[non_exhaustive]
    Throttled {
        /// Of what.
        signal: Signal,
        /// The pause that it asks for.
        wait: Duration,
    },
    /// There was no room for items, which were dropped.
    #[non_exhaustive]
    BudgetReached {
        /// Which room.
        budget: Budget,
        /// What they are.
        signal: Signal,
        /// How many were dropped.
        items: u64,
        /// Why, as the account has it.
        reason: DropReason,
        /// Bytes in use, and as many as may be.
        bytes: u64,
        /// As many bytes as may be in use.
        bytes_max: u64,
        /// Items in a queue, and as many as it takes; `None` where items are not limited.
        held: Option<(u64, u64)>,
    },
    /// Items waited in a pipeline's queue for as long as an item may, and were given up.
    #[non_exhaustive]
    Expired {
        /// What they are.
        signal: Signal,
        /// How many: dropped, and unknown where they had been sent and not answered.
        items: u64,
        /// How long an item may wait.
        after: Duration,
    },
    /// Settings that were passed over, with the reason of each.
    #[non_exhaustive]
    ConfigRefused {
        /// Each in words, without secrets.
        settings: Vec<Cow<'a, str>>,
    },
    /// Settings that work and are probably not meant.
    #[non_exhaustive]
    ConfigWarned {
        /// Each in words, without secrets.
        settings: Vec<Cow<'a, str>>,
    },
    /// So many exports failed that no further one is begun for a while; what is queued waits.
    #[non_exhaustive]
    BreakerOpened {
        /// For how long.
        pause: Duration,
    },
    /// The endpoint is trusted again: its probes succeeded.
    #[non_exhaustive]
    BreakerClosed {
        /// How long it was not.
        after: Duration,
    },
}

/// A room that is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Budget {
    /// The exporter's memory limit.
    Memory,
    /// A pipeline's queue.
    Queue,
}

/// The kinds of events, each limited for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// [`Transition::Connected`].
    Connected,
    /// [`Transition::OutageBegan`].
    OutageBegan,
    /// [`Transition::Recovered`].
    Recovered,
    /// [`Transition::Rejected`].
    Rejected,
    /// [`Transition::Warned`].
    Warned,
    /// [`Transition::Throttled`].
    Throttled,
    /// [`Transition::BudgetReached`] of the exporter's memory.
    MemoryLimitReached,
    /// [`Transition::BudgetReached`] of a pipeline's queue.
    QueueLimitReached,
    /// [`Transition::Expired`].
    Expired,
    /// [`Transition::ConfigRefused`].
    ConfigRefused,
    /// [`Transition::ConfigWarned`].
    ConfigWarned,
    /// [`Transition::BreakerOpened`].
    BreakerOpened,
    /// [`Transition::BreakerClosed`].
    BreakerClosed,
}

/// How much an event matters; what the feature `log` writes it at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Level {
    /// Good to know.
    Info,
    /// Something is wrong, or no longer: the end of what was warned of is told as loudly as its beginning.
    Warn,
}

/// Items that verifiably or possibly did not reach the collector, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Losses {
    /// Items given up, by [`DropReason::index`].
    pub dropped: [u64; DropReason::ALL.len()],
    /// Items whose request was taken whole by the socket and never answered.
    pub unknown: u64,
}

impl Losses {
    /// Items given up for `reason`.
    pub const fn dropped_for(&self, reason: DropReason) -> u64 {
        self.dropped[reason.index()]
    }

    /// All items, those included that may have arrived.
    pub fn total(&self) -> u64 {
        self.dropped.iter().sum::<u64>() + self.unknown
    }

    pub(crate) fn add(&mut self, reason: Option<DropReason>, dropped: u64, unknown: u64) {
        if let Some(reason) = reason {
            self.dropped[reason.index()] += dropped;
        }
        self.unknown += unknown;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (sum, more) in self.dropped.iter_mut().zip(other.dropped) {
            *sum += more;
        }
        self.unknown += other.unknown;
    }
}

impl fmt::Display for Losses {
    /// `nothing was lost`, or `lost: 12 dropped (deadline), 3 unknown`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.total() == 0 {
            return f.write_str("nothing was lost");
        }
        let mut separator = "lost: ";
        for reason in DropReason::ALL {
            let count = self.dropped_for(reason);
            if count > 0 {
                write!(f, "{separator}{count} dropped ({})", reason.as_str())?;
                separator = ", ";
            }
        }
        match self.unknown {
            0 => Ok(()),
            count => write!(f, "{separator}{count} unknown"),
        }
    }
}

impl Event<'_> {
    /// Its kind.
    pub fn kind(&self) -> EventKind {
        match &self.transition {
            Transition::Connected { .. } => EventKind::Connected,
            Transition::OutageBegan { .. } => EventKind::OutageBegan,
            Transition::Recovered { .. } => EventKind::Recovered,
            Transition::Rejected { .. } => EventKind::Rejected,
            Transition::Warned { .. } => EventKind::Warned,
            Transition::Throttled { .. } => EventKind::Throttled,
            Transition::BudgetReached {
                budget: Budget::Memory,
                ..
            } => EventKind::MemoryLimitReached,
            Transition::BudgetReached {
                budget: Budget::Queue,
                ..
            } => EventKind::QueueLimitReached,
            Transition::Expired { .. } => EventKind::Expired,
            Transition::ConfigRefused { .. } => EventKind::ConfigRefused,
            Transition::ConfigWarned { .. } => EventKind::ConfigWarned,
            Transition::BreakerOpened { .. } => EventKind::BreakerOpened,
            Transition::BreakerClosed { .. } => EventKind::BreakerClosed,
        }
    }

    /// How much it matters: connections that open are good to know, everything else is a warning or the end of one.
    pub fn level(&self) -> Level {
        match self.kind() {
            EventKind::Connected => Level::Info,
            _ => Level::Warn,
        }
    }
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.endpoint {
            Some(endpoint) => write!(f, "OTLP export to {endpoint}: ")?,
            None => f.write_str("OTLP exporter: ")?,
        }
        fmt::Display::fmt(&self.transition, f)?;
        match (self.kept_back, self.kept_back_items) {
            (0, _) => Ok(()),
            (count, 0) => write!(f, " (and {count} more of this since it was last told)"),
            (count, items) => {
                write!(
                    f,
                    " (and {count} more of this since it was last told, with {items} items)"
                )
            }
        }
    }
}

impl fmt::Display for Transition<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected {
                protocol,
                http,
                tls,
                alpn,
            } => {
                write!(f, "connected, {protocol}")?;
                if let Some(http) = http {
                    write!(f, " over {http}")?;
                }
                match (tls, alpn) {
                    (None, _) => f.write_str(", plain text"),
                    (Some(tls), None) => write!(f, ", {tls}"),
                    (Some(tls), Some(alpn)) => write!(f, ", {tls} (ALPN {alpn})"),
                }
            }
            Self::OutageBegan { failure, lasting } => {
                f.write_str("exports fail")?;
                if *lasting >= Duration::from_secs(1) {
                    write!(f, " since {}", Time(*lasting))?;
                }
                write!(f, ": {}", OneLine(failure))
            }
            Self::Recovered {
                outage,
                since,
                attempts,
                lost,
            } => {
                f.write_str("exports succeed again")?;
                if *since >= Duration::from_secs(1) {
                    write!(f, " since {}", Time(*since))?;
                }
                let plural = if *attempts == 1 { "" } else { "s" };
                write!(
                    f,
                    ", after {} and {attempts} failed attempt{plural}; {lost}",
                    Time(*outage)
                )?;
                f.write_str(advice_on_losses(lost))
            }
            Self::Rejected {
                signal,
                items,
                message,
            } => write!(
                f,
                "the collector rejected {items} {}, which are not sent again: {}",
                noun(*signal),
                OneLine(message)
            ),
            Self::Warned { message } => write!(f, "warning: {}", OneLine(message)),
            Self::Throttled { signal, wait } => write!(
                f,
                "the collector asks to wait {} before more {}; give it more capacity, or send less",
                Time(*wait),
                noun(*signal)
            ),
            Self::BudgetReached {
                budget,
                signal,
                items,
                reason,
                bytes,
                bytes_max,
                held,
            } => {
                let (room, setting) = match budget {
                    Budget::Memory => ("memory limit is reached", "with_memory_limit"),
                    Budget::Queue => ("queue is full", "the queue's limits"),
                };
                write!(
                    f,
                    "the {room}, {items} {} were dropped ({}): ",
                    noun(*signal),
                    reason.as_str()
                )?;
                if let Some((items, items_max)) = held {
                    write!(f, "{items} of {items_max} items and ")?;
                }
                write!(
                    f,
                    "{bytes} of {bytes_max} bytes are in use; send less, or raise {setting}"
                )
            }
            Self::Expired { signal, items, after } => write!(
                f,
                "{items} {} were given up: no export of them succeeded within {}; a longer with_max_elapsed bridges more",
                noun(*signal),
                Time(*after)
            ),
            Self::ConfigRefused { settings } => listed(f, "settings were passed over", settings),
            Self::ConfigWarned { settings } => listed(f, "settings are probably not meant", settings),
            Self::BreakerOpened { pause } => write!(
                f,
                "too many exports failed, none is begun for {}; what is queued waits",
                Time(*pause)
            ),
            Self::BreakerClosed { after } => {
                write!(
                    f,
                    "exports are begun again, {} after they were stopped",
                    Time(*after)
                )
            }
        }
    }
}

/// What would have lost less.
fn advice_on_losses(lost: &Losses) -> &'static str {
    let is_deadline = lost.dropped_for(DropReason::Deadline) > 0;
    let is_attempts = lost.dropped_for(DropReason::Attempts) > 0;
    match (is_deadline, is_attempts) {
        (true, _) => "; a pipeline keeps what outlasts the timeout of an export",
        (false, true) => "; a retry policy with more attempts bridges more",
        (false, false) => "",
    }
}

fn listed(f: &mut fmt::Formatter<'_>, what: &str, settings: &[Cow<'_, str>]) -> fmt::Result {
    f.write_str(what)?;
    let mut separator = ": ";
    for setting in settings {
        write!(f, "{separator}{}", OneLine(setting))?;
        separator = "; ";
    }
    Ok(())
}

/// What the items of a signal are.
fn noun(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "spans",
        Signal::Metrics => "data points",
        Signal::Logs => "log records",
        Signal::Profiles => "profiles",
    }
}

/// Words that a peer may have chosen: a line of them stays one line.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(char::is_control) {
            f.write_str(&rest[..at])?;
            f.write_str(" ")?;
            rest = rest[at..].trim_start_matches(char::is_control);
        }
        f.write_str(rest)
    }
}

/// A time as people say it: `350 ms`, `34 s`, `12 min 5 s`, `3 h 20 min`.
struct Time(Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.0.as_secs();
        match (secs, secs / 60, secs / 3_600) {
            (0, ..) => write!(f, "{} ms", self.0.subsec_millis()),
            (_, 0, _) => write!(f, "{secs} s"),
            (_, min, 0) => write!(f, "{min} min {} s", secs % 60),
            (_, min, hours) => write!(f, "{hours} h {} min", min % 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;

    fn event(transition: Transition<'static>) -> Event<'static> {
        Event {
            endpoint: Some("http://collector:4317".into()),
            transition,
            at: Instant::ZERO,
            kept_back: 0,
            kept_back_items: 0,
        }
    }

    #[test]
    fn an_operator_reads_sentences() {
        let mut lost = Losses::default();
        lost.add(Some(DropReason::Deadline), 120, 0);
        lost.add(None, 0, 5);
        for (transition, words) in [
            (
                Transition::Connected {
                    protocol: "gRPC",
                    http: Some("HTTP/2"),
                    tls: Some("TLS 1.3"),
                    alpn: Some("h2"),
                },
                "connected, gRPC over HTTP/2, TLS 1.3 (ALPN h2)",
            ),
            (
                Transition::OutageBegan {
                    failure:
                        "connect to [::1]:4317: connection refused; check that a collector listens there"
                            .into(),
                    lasting: Duration::from_secs(754),
                },
                "exports fail since 12 min 34 s: connect to [::1]:4317: connection refused; check that a collector listens \
                 there",
            ),
            (
                Transition::Recovered {
                    outage: Duration::from_secs(34),
                    since: Duration::ZERO,
                    attempts: 12,
                    lost,
                },
                "exports succeed again, after 34 s and 12 failed attempts; lost: 120 dropped (deadline), 5 unknown; a \
                 pipeline keeps what outlasts the timeout of an export",
            ),
            (
                Transition::Recovered {
                    outage: Duration::from_millis(350),
                    since: Duration::from_secs(9),
                    attempts: 1,
                    lost: Losses::default(),
                },
                "exports succeed again since 9 s, after 350 ms and 1 failed attempt; nothing was lost",
            ),
            (
                Transition::Rejected {
                    signal: Signal::Logs,
                    items: 3,
                    message: "too\r\nold".into(),
                },
                "the collector rejected 3 log records, which are not sent again: too old",
            ),
            (
                Transition::Throttled {
                    signal: Signal::Traces,
                    wait: Duration::from_secs(5),
                },
                "the collector asks to wait 5 s before more spans; give it more capacity, or send less",
            ),
            (
                Transition::BudgetReached {
                    budget: Budget::Memory,
                    signal: Signal::Metrics,
                    items: 7,
                    reason: DropReason::MemoryLimit,
                    bytes: 90,
                    bytes_max: 100,
                    held: None,
                },
                "the memory limit is reached, 7 data points were dropped (memory limit): 90 of 100 bytes are in use; send \
                 less, or raise with_memory_limit",
            ),
            (
                Transition::ConfigRefused {
                    settings: vec!["A=1: no".into(), "B=2: neither".into()],
                },
                "settings were passed over: A=1: no; B=2: neither",
            ),
            (
                Transition::BreakerClosed {
                    after: Duration::from_secs(12_000),
                },
                "exports are begun again, 3 h 20 min after they were stopped",
            ),
        ] {
            assert_eq!(
                event(transition).to_string(),
                alloc::format!("OTLP export to http://collector:4317: {words}")
            );
        }
    }

    #[test]
    fn what_was_kept_back_is_told() {
        let mut event = event(Transition::Warned { message: "x".into() });
        event.endpoint = None;
        event.kept_back = 9;
        assert_eq!(
            event.to_string(),
            "OTLP exporter: warning: x (and 9 more of this since it was last told)"
        );
        event.kept_back_items = 40;
        assert!(
            event
                .to_string()
                .ends_with("since it was last told, with 40 items)")
        );
    }
}
