//! Circuit breaker: whether an endpoint is worth asking at all.
//!
//! Owns the record of how recent requests to one endpoint ended and the decision that follows from it. Never reads a
//! clock, and never knows what a request is: its user says how each ended.

mod state;
#[cfg(test)]
mod tests;
mod window;

use super::refused;
use crate::error::Error;
use crate::time::Instant;
use alloc::boxed::Box;
use core::fmt;
use core::mem;
use core::time::Duration;
use state::{Event, State};
use window::Window;

/// Most probes that a breaker may ask for.
const PROBES_MAX: u32 = 10_000;

/// When a [`CircuitBreaker`] opens, and how it closes again.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct BreakerConfig {
    /// How far back requests count, more than zero; 60 s unless set. An outcome is forgotten when it is that old, at most a thirtieth
    /// earlier.
    pub window: Duration,
    /// The fewest requests in the window that say anything, at least 1; 10 unless set.
    pub requests_min: u32,
    /// The part of the requests in the window that must have failed, more than 0 and at most 1; 0.5 unless set.
    pub failure_ratio: f64,
    /// How long the breaker stays open before it lets probes through, more than zero; 30 s unless set.
    pub open_for: Duration,
    /// Requests let through at a time while half-open, and successes that close the breaker, from 1 to 10,000; 5 unless set.
    pub probes: u32,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(60),
            requests_min: 10,
            failure_ratio: 0.5,
            open_for: Duration::from_secs(30),
            probes: 5,
        }
    }
}

impl BreakerConfig {
    /// The defaults of every setting.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`window`](Self::window).
    pub fn with_window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Sets [`requests_min`](Self::requests_min).
    pub fn with_requests_min(mut self, requests_min: u32) -> Self {
        self.requests_min = requests_min;
        self
    }

    /// Sets [`failure_ratio`](Self::failure_ratio).
    pub fn with_failure_ratio(mut self, failure_ratio: f64) -> Self {
        self.failure_ratio = failure_ratio;
        self
    }

    /// Sets [`open_for`](Self::open_for).
    pub fn with_open_for(mut self, open_for: Duration) -> Self {
        self.open_for = open_for;
        self
    }

    /// Sets [`probes`](Self::probes).
    pub fn with_probes(mut self, probes: u32) -> Self {
        self.probes = probes;
        self
    }

    /// Whether these settings can work.
    ///
    /// # Errors
    ///
    /// Names the setting that cannot; the error [is a misuse](Error::is_misuse).
    pub fn check(&self) -> Result<(), Error> {
        let refuse = |what| Err(refused("with_breaker", what));
        if self.window.is_zero() || self.open_for.is_zero() {
            return refuse("window and open_for must be more than zero");
        }
        if self.requests_min == 0 {
            return refuse("requests_min is 0; 1 opens at the first failure");
        }
        if !(self.failure_ratio > 0.0 && self.failure_ratio <= 1.0) {
            return refuse("failure_ratio must be more than 0 and at most 1");
        }
        if !(1..=PROBES_MAX).contains(&self.probes) {
            return refuse("probes lies outside 1 to 10000");
        }
        Ok(())
    }
}

/// What a [`CircuitBreaker`] does with requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BreakerState {
    /// Every request passes.
    Closed,
    /// None does.
    Open,
    /// A few do, to find out whether the endpoint is back.
    HalfOpen,
}

impl BreakerState {
    /// Every state, in order.
    pub const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::HalfOpen];
}

impl fmt::Display for BreakerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Closed => "Closed",
            Self::Open => "Open",
            Self::HalfOpen => "HalfOpen",
        })
    }
}

/// How a request ended, as far as the endpoint's health goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerVerdict {
    /// The endpoint is up: it took the request, or refused this one for what it is.
    Success,
    /// The endpoint is down or overloaded: no connection, no answer in time, an answer that asks to come back later.
    Failure,
    /// Nobody knows: the request was cancelled or never made.
    Abandoned,
}

/// The right to make one request; handed back to [`CircuitBreaker::end`] with how that ended.
///
/// One that is dropped instead keeps its place until the breaker's next change of state: while half-open, as many lost ones as
/// there are [`probes`](BreakerConfig::probes) stop the probing for good.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a permit keeps its place until it is handed back with `end`"]
pub struct Permit {
    /// The change of state after which it was given out.
    epoch: u64,
}

/// A request that may not be made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BreakerOpen {
    /// When the breaker lets the first probes through; `None` where it does already and all are under way: then the end
    /// of one of them decides.
    pub until: Option<Instant>,
}

impl fmt::Display for BreakerOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.until {
            Some(_) => "the circuit breaker is open: too many requests failed",
            None => "the circuit breaker is half-open, and as many requests as it allows are under way",
        })
    }
}

impl core::error::Error for BreakerOpen {}

/// Keeps requests from an endpoint that fails most of them.
///
/// Closed, it counts how requests ended over a sliding window; it opens once enough were made and enough of them failed.
/// Open, it lets nothing through for [`open_for`](BreakerConfig::open_for). Half-open, it lets
/// [`probes`](BreakerConfig::probes) requests through at a time: the first that fails opens it again, as many successes
/// close it. It remembers nothing across a change of state: a request that began before one says nothing after it.
///
/// Its memory is constant: outcomes are counted in 30 buckets. A `now` earlier than one it has seen counts as that.
///
/// ```
/// use core::time::Duration;
/// use otlp_embed::policy::{BreakerConfig, BreakerState, BreakerVerdict, CircuitBreaker};
/// use otlp_embed::time::Instant;
///
/// let mut breaker = CircuitBreaker::new(BreakerConfig::new());
/// let now = Instant::from_millis(1_000);
/// for _ in 0..10 {
///     let permit = breaker.try_begin(now).expect("it is closed");
///     breaker.end(now, permit, BreakerVerdict::Failure);
/// }
/// assert_eq!(breaker.state(now), BreakerState::Open);
/// let until = now + Duration::from_secs(30);
/// assert_eq!(breaker.try_begin(now).expect_err("it is open").until, Some(until));
/// assert!(breaker.try_begin(until).is_ok(), "a probe");
/// ```
#[derive(Debug)]
pub struct CircuitBreaker {
    config: BreakerConfig,
    state: State,
    /// Changes of state so far.
    epoch: u64,
    /// The latest time told.
    now: Instant,
}

impl CircuitBreaker {
    /// A closed breaker. Settings that [`check`](BreakerConfig::check) refuses are taken for the nearest that work.
    pub fn new(config: BreakerConfig) -> Self {
        Self {
            config,
            state: State::Closed(Box::new(Window::new(config.window))),
            epoch: 0,
            now: Instant::ZERO,
        }
    }

    /// Asks for one request. A permit given out goes back by [`end`](Self::end), however the request ends.
    ///
    /// # Errors
    ///
    /// Where the request may not be made now, with the time to ask again at.
    pub fn try_begin(&mut self, now: Instant) -> Result<Permit, BreakerOpen> {
        self.handle_timeout(now);
        let probes = self.probes();
        match &mut self.state {
            State::Open { until } => return Err(BreakerOpen { until: Some(*until) }),
            // A probe that succeeded needs no further one in its place.
            State::HalfOpen { out, succeeded } if *out + *succeeded >= probes => {
                return Err(BreakerOpen { until: None });
            }
            State::HalfOpen { out, .. } => *out += 1,
            State::Closed(_) | State::Failed => {}
        }
        Ok(Permit { epoch: self.epoch })
    }

    /// Tells how a request ended. Says nothing where the breaker has changed its state since the request began.
    pub fn end(&mut self, now: Instant, permit: Permit, verdict: BreakerVerdict) {
        self.handle_timeout(now);
        if permit.epoch != self.epoch {
            return;
        }
        let (now, config, probes) = (self.now, self.config, self.probes());
        let event = match &mut self.state {
            State::Closed(window) => {
                match verdict {
                    BreakerVerdict::Success => window.record(now, false),
                    BreakerVerdict::Failure => window.record(now, true),
                    BreakerVerdict::Abandoned => return,
                }
                let (requests, failures) = window.totals(now);
                // The nearest numbers to both ratios are the same where the ratios are.
                let is_failing = failures as f64 / requests as f64 >= config.failure_ratio;
                (failures > 0 && requests >= u64::from(config.requests_min) && is_failing)
                    .then(|| Event::Trip(now + config.open_for))
            }
            State::HalfOpen { out, succeeded } => {
                *out = out.saturating_sub(1);
                match verdict {
                    BreakerVerdict::Success => {
                        *succeeded += 1;
                        (*succeeded >= probes).then(|| Event::Prove(Box::new(Window::new(config.window))))
                    }
                    BreakerVerdict::Failure => Some(Event::Trip(now + config.open_for)),
                    BreakerVerdict::Abandoned => None,
                }
            }
            State::Open { .. } | State::Failed => None,
        };
        if let Some(event) = event {
            self.apply(event);
        }
    }

    /// What the breaker would do with a request at `now`.
    pub fn state(&self, now: Instant) -> BreakerState {
        match self.state {
            State::Open { until } if until <= now.max(self.now) => BreakerState::HalfOpen,
            _ => self.state.kind(),
        }
    }

    /// When the breaker has something to do by itself: the end of its being open.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Open { until } => Some(until),
            _ => None,
        }
    }

    /// Does what is due at `now`. The other calls do so as well; this one is for a caller that waited for
    /// [`poll_timeout`](Self::poll_timeout) and has no request to make.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
        if let State::Open { until } = self.state {
            if until <= self.now {
                self.apply(Event::Elapse);
            }
        }
    }

    /// The settings.
    pub fn config(&self) -> &BreakerConfig {
        &self.config
    }

    /// Probes at a time.
    fn probes(&self) -> u32 {
        self.config.probes.clamp(1, PROBES_MAX)
    }

    /// Changes the state. An illegal event is a defect: tests stop at it, a release build keeps the state.
    fn apply(&mut self, event: Event) {
        match mem::replace(&mut self.state, State::Failed).advance(event) {
            Ok(state) => {
                self.state = state;
                self.epoch = self.epoch.wrapping_add(1);
            }
            Err(illegal) => {
                debug_assert!(false, "illegal transition: {illegal:?}");
                self.state = illegal.state;
            }
        }
    }
}
