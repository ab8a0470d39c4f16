//! What is told about the outages of one endpoint, however often it comes and goes.
//!
//! ```text
//!   told:  works ──(an outage; a minute since the last was told)────────────────────> fails
//!          fails ──(the outage is over; a minute since the last recovery was told)──> works
//! ```
//!
//! What is true and what was told differ for a minute at most; each event that is told is followed by its counterpart. One
//! that is over before it could be told is told together with its end. Of outages that come and go meanwhile the last is told, with the count and the losses of
//! the others.

use crate::observe::{EventKind, Events, Losses, Transition};
use crate::outcome::DropReason;
use crate::time::Instant;
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::sync::Arc;

/// The outages of one endpoint.
#[derive(Default)]
pub(super) struct Health {
    /// The outage under way.
    current: Option<Outage>,
    /// The last one that is over and was not told as such.
    over: Option<(Outage, Instant)>,
    /// The beginning of one of them was told; there is one then.
    is_told: bool,
    /// What outages cost since the last recovery was told, without the two above.
    earlier: Cost,
}

struct Outage {
    since: Instant,
    /// The first failure in words, if anybody listened then.
    failure: Option<String>,
    cost: Cost,
}

#[derive(Default)]
struct Cost {
    attempts: u64,
    lost: Losses,
}

impl Cost {
    fn merge(&mut self, other: &Self) {
        self.attempts += other.attempts;
        self.lost.merge(&other.lost);
    }
}

impl Health {
    /// An attempt failed. `words` are asked for where an outage begins with it. Whether one does.
    pub(super) fn handle_failure(
        &mut self,
        now: Instant,
        endpoint: &Arc<str>,
        events: &mut Events,
        words: impl FnOnce() -> String,
    ) -> bool {
        let begins = self.current.is_none();
        if begins {
            let mut new = Outage {
                since: now,
                failure: events.is_on().then(words),
                cost: Cost::default(),
            };
            if let Some((over, _)) = self.over.take() {
                // The pair of events that is told speaks of the last outage, or of the one that was told to have begun.
                events.keep_back(endpoint, EventKind::OutageBegan);
                events.keep_back(endpoint, EventKind::Recovered);
                match self.is_told {
                    true => new = over,
                    false => self.earlier.merge(&over.cost),
                }
            }
            self.current = Some(new);
        }
        if let Some(outage) = &mut self.current {
            outage.cost.attempts += 1;
        }
        self.reconcile(now, endpoint, events);
        begins
    }

    /// An export succeeded.
    pub(super) fn handle_success(&mut self, now: Instant, endpoint: &Arc<str>, events: &mut Events) {
        if let Some(outage) = self.current.take() {
            self.over = Some((outage, now));
            self.reconcile(now, endpoint, events);
        }
    }

    /// Items were given up, or left without an answer.
    pub(super) fn handle_loss(&mut self, reason: Option<DropReason>, dropped: u64, unknown: u64) {
        if let Some(outage) = &mut self.current {
            outage.cost.lost.add(reason, dropped, unknown);
        }
    }

    /// Tells what may be told.
    pub(super) fn reconcile(&mut self, now: Instant, endpoint: &Arc<str>, events: &mut Events) {
        if !events.is_on() {
            *self = Self {
                current: self.current.take(),
                ..Self::default()
            };
            return;
        }
        if !self.is_told {
            let is_pair_due = self.due(endpoint, events).is_some_and(|at| at <= now);
            let over = self.over.as_ref().map(|(outage, _)| outage);
            let Some(outage) = self.current.as_ref().or(over.filter(|_| is_pair_due)) else {
                return;
            };
            self.is_told = events.try_tell(now, endpoint, EventKind::OutageBegan, || {
                let words = outage.failure.as_deref();
                Transition::OutageBegan {
                    failure: Cow::Owned(words.unwrap_or("see the last error of the account").into()),
                    lasting: now - outage.since,
                }
            });
        }
        let (true, None, Some((outage, at))) = (self.is_told, &self.current, &self.over) else {
            return;
        };
        let is_told = events.try_tell(now, endpoint, EventKind::Recovered, || {
            let mut cost = core::mem::take(&mut self.earlier);
            cost.merge(&outage.cost);
            Transition::Recovered {
                outage: *at - outage.since,
                since: now - *at,
                attempts: cost.attempts,
                lost: cost.lost,
            }
        });
        if is_told {
            *self = Self::default();
        }
    }

    /// Tells what is left to tell: there is no later.
    pub(super) fn finish(&mut self, now: Instant, endpoint: &Arc<str>, events: &mut Events) {
        events.release(endpoint, EventKind::OutageBegan);
        events.release(endpoint, EventKind::Recovered);
        self.reconcile(now, endpoint, events);
    }

    /// When [`reconcile`](Self::reconcile) has something to tell.
    pub(super) fn due(&self, endpoint: &Arc<str>, events: &Events) -> Option<Instant> {
        let began_at = || events.free_at(endpoint, EventKind::OutageBegan);
        let recovered_at = || events.free_at(endpoint, EventKind::Recovered);
        match (&self.current, &self.over) {
            (Some(_), _) if !self.is_told => began_at(),
            (None, Some(_)) if self.is_told => recovered_at(),
            (None, Some(_)) => began_at().max(recovered_at()),
            _ => None,
        }
    }
}
