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
    /// When the outage under way began.
    pub(super) fn failing_since(&self) -> Option<Instant> {
        self.current.as_ref().map(|outage| outage.since)
    }

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

    /// Items were given up, or left without an answer. Whether that is a part of an outage.
    pub(super) fn handle_loss(&mut self, reason: Option<DropReason>, dropped: u64, unknown: u64) -> bool {
        if let Some(outage) = &mut self.current {
            outage.cost.lost.add(reason, dropped, unknown);
        }
        self.current.is_some()
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
        events.release(Some(endpoint), EventKind::OutageBegan);
        events.release(Some(endpoint), EventKind::Recovered);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Event;
    use EventKind::{OutageBegan, Recovered};
    use alloc::string::ToString;
    use alloc::vec::Vec;
    use core::time::Duration;

    /// One endpoint, told of second by second.
    struct World {
        health: Health,
        events: Events,
        endpoint: Arc<str>,
        now: u64,
    }

    impl World {
        fn new() -> Self {
            let mut events = Events::new();
            events.listen(true);
            Self {
                health: Health::default(),
                events,
                endpoint: "http://collector:4317".into(),
                now: 0,
            }
        }

        fn at(&self) -> Instant {
            Instant::from_millis(self.now * 1_000)
        }

        fn fail(&mut self) {
            let now = self.at();
            let words = || alloc::format!("it failed at {}", self.now);
            self.health
                .handle_failure(now, &self.endpoint, &mut self.events, words);
        }

        fn succeed(&mut self) {
            let now = self.at();
            self.health.handle_success(now, &self.endpoint, &mut self.events);
        }

        fn lose(&mut self, items: u64) {
            self.health.handle_loss(Some(DropReason::Deadline), items, 0);
        }

        /// Lets time pass, and fires what is due on the way.
        fn until(&mut self, secs: u64) {
            let end = Instant::from_millis(secs * 1_000);
            while let Some(due) = self
                .health
                .due(&self.endpoint, &self.events)
                .filter(|due| *due <= end)
            {
                self.now = due.as_nanos() / 1_000_000_000;
                self.health.reconcile(due, &self.endpoint, &mut self.events);
                assert_ne!(self.health.due(&self.endpoint, &self.events), Some(due));
            }
            self.now = secs;
        }

        fn told(&mut self) -> Vec<(u64, Event<'static>)> {
            let events = core::iter::from_fn(|| self.events.poll());
            events
                .map(|event| (event.at.as_nanos() / 1_000_000_000, event))
                .collect()
        }

        fn kinds(&mut self) -> Vec<(u64, EventKind)> {
            let told = self.told();
            told.iter().map(|(at, event)| (*at, event.kind())).collect()
        }
    }

    #[test]
    fn an_outage_that_comes_back_before_its_end_could_be_told_goes_on() {
        let mut world = World::new();
        world.fail();
        world.until(50);
        world.succeed();
        world.until(60);
        world.fail();
        world.lose(3);
        world.until(61);
        world.succeed();
        // Its end is due at 110; at 70 it is back.
        world.until(70);
        assert_eq!(
            world.kinds(),
            [(0, OutageBegan), (50, Recovered), (60, OutageBegan)]
        );
        world.fail();
        world.lose(4);
        world.until(115);
        assert_eq!(
            world.kinds(),
            [],
            "it was told to have begun, and it has not ended"
        );
        world.succeed();
        let told = world.told();
        let [(115, event)] = &*told else {
            panic!("{told:?}")
        };
        let Transition::Recovered {
            outage,
            attempts,
            lost,
            ..
        } = &event.transition
        else {
            panic!("{event:?}")
        };
        assert_eq!(*outage, Duration::from_secs(55), "from 60 to 115");
        assert_eq!((*attempts, lost.total(), event.kept_back), (2, 7, 1));
        // Nothing of it is told twice.
        world.until(1_000);
        assert_eq!(world.kinds(), []);
    }

    #[test]
    fn one_that_is_over_before_it_could_be_told_is_told_with_its_end() {
        let mut world = World::new();
        world.fail();
        world.succeed();
        for second in [10, 20, 30] {
            world.until(second);
            world.fail();
            world.lose(second);
            world.until(second + 1);
            world.succeed();
        }
        assert_eq!(world.kinds(), [(0, OutageBegan), (0, Recovered)]);
        world.until(1_000);
        let told = world.told();
        let kinds: Vec<(u64, EventKind)> = told.iter().map(|(at, event)| (*at, event.kind())).collect();
        assert_eq!(kinds, [(60, OutageBegan), (60, Recovered)]);
        let (began, ended) = (&told[0].1, &told[1].1);
        assert_eq!((began.kept_back, ended.kept_back), (2, 2));
        assert!(began.to_string().contains("it failed at 30"), "{began}");
        let Transition::Recovered {
            outage, since, lost, ..
        } = &ended.transition
        else {
            panic!("{ended:?}")
        };
        assert_eq!((outage.as_secs(), since.as_secs(), lost.total()), (1, 29, 60));
    }

    #[test]
    fn losses_outside_of_an_outage_are_not_told_with_one() {
        let mut world = World::new();
        world.lose(5);
        world.fail();
        world.lose(1);
        world.succeed();
        world.lose(7);
        let told = world.told();
        let Transition::Recovered { lost, .. } = &told[1].1.transition else {
            panic!("{told:?}")
        };
        assert_eq!(lost.total(), 1);
    }

    #[test]
    fn who_stops_listening_hears_nothing_of_what_was() {
        let mut world = World::new();
        world.fail();
        world.succeed();
        world.until(10);
        world.fail();
        world.succeed();
        world.told();
        world.events.listen(false);
        world.until(20);
        world.fail();
        world.succeed();
        world.events.listen(true);
        world.until(1_000);
        assert_eq!(world.kinds(), []);
    }
}
