//! The endpoints of a leg: which of them takes a batch now.

use super::config::{Choice, DeliveryConfig, LegConfig};
use super::policies::{
    AdaptiveConcurrency, BreakerState, CircuitBreaker, Permit, RateDecision, RateLimit, RateLimiter,
};
use super::types::{BatchId, DeliveryEvent};
use super::verdict::ExportVerdict;
use crate::encode::Signal;
use crate::observe::Meter;
use crate::pipeline::stats::EndpointStats;
use crate::time::Instant;
use alloc::vec::Vec;
use core::time::Duration;

/// The shortest wait for a gate that gives no later time of its own.
const WAIT_MIN: Duration = Duration::from_millis(1);

/// All endpoints of a leg.
#[derive(Debug)]
pub(super) struct Endpoints {
    list: Vec<Endpoint>,
    choice: Choice,
    /// Where the next turn of a round robin begins.
    turn: usize,
}

/// One endpoint with what decides about it.
#[derive(Debug)]
struct Endpoint {
    breaker: Option<CircuitBreaker>,
    /// The state that was last told.
    told: BreakerState,
    limiter: Option<(RateLimiter, RateLimit)>,
    /// What batches larger than the burst still owe to the limiter.
    debt: u64,
    concurrency: AdaptiveConcurrency,
    in_flight: usize,
    is_gone: bool,
    /// Items for the self-metrics of its exporter: each is here from when it was first given to it, until it is settled or
    /// given to another.
    meter: Meter,
}

/// Why an endpoint takes no batch now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shut {
    /// For good.
    Gone,
    /// Its breaker is open, until then where that is known.
    Parked(Option<Instant>),
    /// It has as many exports in flight as it may.
    Busy,
    /// The rate limiter has it wait.
    Limited(Instant),
}

/// What a leg keeps off an endpoint for some time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hold {
    pub endpoint: usize,
    /// Failures in a row.
    pub failures: u32,
    /// The last export that was under way when the last of them came.
    pub since: BatchId,
    pub until: Instant,
    /// How much of that the collector asked for: an export that was under way then does not end it.
    pub asked_until: Instant,
}

/// Where a batch goes.
#[derive(Debug)]
pub(super) struct Taken {
    pub endpoint: usize,
    pub permit: Option<Permit>,
}

impl Endpoints {
    pub fn new(leg: &LegConfig, config: &DeliveryConfig) -> Self {
        let endpoint = || Endpoint {
            breaker: config.breaker.map(CircuitBreaker::new),
            told: BreakerState::Closed,
            limiter: config.rate_limit.map(|limit| (RateLimiter::new(limit), limit)),
            debt: 0,
            concurrency: AdaptiveConcurrency::new(config.concurrency),
            in_flight: 0,
            is_gone: false,
            meter: Meter::default(),
        };
        Self {
            list: (0..leg.endpoints.max(1)).map(|_| endpoint()).collect(),
            choice: leg.choice,
            turn: 0,
        }
    }

    /// The endpoint that takes a batch of this size now, with a place in it. Otherwise, when to ask again; nothing where
    /// the end of an export has to come first.
    pub fn take(
        &mut self,
        now: Instant,
        items: u64,
        bytes: u64,
        holds: &[Hold],
    ) -> Result<Taken, Option<Instant>> {
        let mut again: Option<Instant> = None;
        let mut wait = |at: Instant| again = Some(again.map_or(at, |again| again.min(at)));
        let count = self.list.len();
        let first = match self.choice {
            Choice::Failover => 0,
            Choice::RoundRobin => self.turn % count,
        };
        for at in (first..count).chain(0..first) {
            if let Some(hold) = holds.iter().find(|hold| hold.endpoint == at && hold.until > now) {
                if !self.list[at].is_gone {
                    wait(hold.until);
                }
                continue;
            }
            match (self.list[at].begin(now, items, bytes), self.choice) {
                (Ok(permit), _) => {
                    self.turn = at + 1;
                    return Ok(Taken { endpoint: at, permit });
                }
                (Err(Shut::Gone), _) => {}
                (Err(Shut::Parked(until)), _) => until.into_iter().for_each(&mut wait),
                (Err(Shut::Limited(until)), Choice::RoundRobin) => wait(until),
                (Err(Shut::Busy), Choice::RoundRobin) => {}
                // The others stand by: they are not there to make this one faster.
                (Err(Shut::Limited(until)), Choice::Failover) => {
                    wait(until);
                    break;
                }
                (Err(Shut::Busy), Choice::Failover) => break,
            }
        }
        Err(again.map(|at| at.max(now + WAIT_MIN)))
    }

    /// Items are given to an endpoint, anew or after another had them.
    pub fn measure_begin(&mut self, signal: Signal, items: u64, before: Option<usize>, now: usize) {
        if before == Some(now) {
            return;
        }
        if let Some(meter) = before.and_then(|at| self.meter_mut(at)) {
            meter.undo(signal, items);
        }
        if let Some(meter) = self.meter_mut(now) {
            meter.begin(signal, items);
        }
    }

    pub fn meter(&self, endpoint: usize) -> Option<&Meter> {
        self.list.get(endpoint).map(|endpoint| &endpoint.meter)
    }

    pub fn meter_mut(&mut self, endpoint: usize) -> Option<&mut Meter> {
        self.list.get_mut(endpoint).map(|endpoint| &mut endpoint.meter)
    }

    /// An export ended.
    pub fn end(
        &mut self,
        now: Instant,
        endpoint: usize,
        permit: Option<Permit>,
        latency: Duration,
        verdict: &ExportVerdict,
    ) {
        let endpoint = &mut self.list[endpoint];
        endpoint.in_flight -= 1;
        if let (Some(breaker), Some(permit)) = (&mut endpoint.breaker, permit) {
            breaker.end(now, permit, verdict.breaker());
        }
        if let Some(feedback) = verdict.feedback() {
            endpoint.concurrency.record(now, latency, feedback);
        }
    }

    /// An export that will never tell its end leaves its place.
    pub fn abandon(&mut self, endpoint: usize) {
        self.list[endpoint].in_flight -= 1;
    }

    /// An endpoint is out for good. Gives back whether that is new.
    pub fn lose(&mut self, endpoint: usize) -> bool {
        match self.list.get_mut(endpoint) {
            Some(endpoint) => !core::mem::replace(&mut endpoint.is_gone, true),
            None => false,
        }
    }

    pub fn are_all_gone(&self) -> bool {
        self.list.iter().all(|endpoint| endpoint.is_gone)
    }

    /// When the first endpoint is free of these holds; nothing where one is.
    pub fn held_until(&self, now: Instant, holds: &[Hold]) -> Option<Instant> {
        let mut first: Option<Instant> = None;
        for (at, endpoint) in self.list.iter().enumerate() {
            if endpoint.is_gone {
                continue;
            }
            let hold = holds
                .iter()
                .find(|hold| hold.endpoint == at && hold.until > now)?;
            first = Some(first.map_or(hold.until, |first| first.min(hold.until)));
        }
        first
    }

    /// The transitions of breakers since the last call.
    pub fn tell(&mut self, now: Instant, leg: usize, mut event: impl FnMut(DeliveryEvent)) {
        for (at, endpoint) in self.list.iter_mut().enumerate() {
            let Some(breaker) = &endpoint.breaker else {
                continue;
            };
            let state = breaker.state(now);
            if state != endpoint.told {
                endpoint.told = state;
                event(DeliveryEvent::Breaker {
                    leg,
                    endpoint: at,
                    state,
                    until: breaker.poll_timeout().filter(|_| state == BreakerState::Open),
                });
            }
        }
    }

    pub fn stats(&self, now: Instant) -> Vec<EndpointStats> {
        let stats = |endpoint: &Endpoint| EndpointStats {
            breaker: endpoint
                .breaker
                .as_ref()
                .map_or(BreakerState::Closed, |breaker| breaker.state(now)),
            concurrency_limit: endpoint.concurrency.limit(),
            in_flight: endpoint.in_flight,
            is_gone: endpoint.is_gone,
        };
        self.list.iter().map(stats).collect()
    }
}

impl Endpoint {
    /// Takes a place for a batch.
    fn begin(&mut self, now: Instant, items: u64, bytes: u64) -> Result<Option<Permit>, Shut> {
        if self.is_gone {
            return Err(Shut::Gone);
        }
        if let Some(breaker) = &self.breaker {
            if breaker.state(now) == BreakerState::Open {
                return Err(Shut::Parked(breaker.poll_timeout()));
            }
        }
        if self.in_flight >= self.concurrency.limit() {
            return Err(Shut::Busy);
        }
        let taken = self.pay(now, items, bytes)?;
        let permit = match &mut self.breaker {
            None => None,
            Some(breaker) => match breaker.try_begin(now) {
                Ok(permit) => Some(permit),
                Err(open) => {
                    if let Some((limiter, _)) = &mut self.limiter {
                        limiter.give_back(taken.0);
                        self.debt -= taken.1;
                    }
                    return Err(Shut::Parked(open.until));
                }
            },
        };
        self.in_flight += 1;
        Ok(permit)
    }

    /// Pays the rate limiter: what is owed, then the batch. A batch larger than the burst goes when the bucket is full and
    /// owes the rest, so that the rate holds and nothing is stuck. Gives back what was taken and what is owed.
    fn pay(&mut self, now: Instant, items: u64, bytes: u64) -> Result<(u64, u64), Shut> {
        let Some((limiter, limit)) = &mut self.limiter else {
            return Ok((0, 0));
        };
        let burst = limit.burst.max(1);
        while self.debt > 0 {
            let part = self.debt.min(burst);
            take(limiter, now, part)?;
            self.debt -= part;
        }
        let amount = limit.amount(items, bytes);
        let part = amount.min(burst);
        take(limiter, now, part)?;
        let owed = amount - part;
        self.debt += owed;
        Ok((part, owed))
    }
}

fn take(limiter: &mut RateLimiter, now: Instant, amount: u64) -> Result<(), Shut> {
    match limiter.try_take(now, amount) {
        RateDecision::Allowed => Ok(()),
        RateDecision::Throttled(wait) => Err(Shut::Limited(now + wait)),
        // No amount up to the burst is; one that is nevertheless must not be stuck for ever.
        RateDecision::Denied => Ok(()),
    }
}
