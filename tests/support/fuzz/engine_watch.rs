//! What an engine tells about itself, checked against its account.

use otlp_embed::encode::Signal;
use otlp_embed::export::Engine;
use otlp_embed::observe::{Event, EventKind, Transition};
use otlp_embed::testing::Scripted;
use otlp_embed::time::Instant;
use std::collections::BTreeMap;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

/// Events that may wait for whoever takes them.
const WAITING_MAX: usize = 64;

/// Who hears what the engine tells.
pub struct Watch {
    /// Nobody listens.
    is_deaf: bool,
    /// It listens, and takes nothing before the end.
    is_late: bool,
    told: BTreeMap<(EventKind, Option<String>), Instant>,
    /// The endpoints whose outage was told and whose recovery was not.
    failing: BTreeMap<String, bool>,
    outages: u64,
    lost: u64,
}

impl Watch {
    pub fn new(seed: u64, engine: &mut Engine<Scripted>) -> Self {
        let is_deaf = seed & 3 == 0;
        engine.observe(!is_deaf);
        Self {
            is_deaf,
            is_late: seed & 3 == 1,
            told: BTreeMap::new(),
            failing: BTreeMap::new(),
            outages: 0,
            lost: 0,
        }
    }

    /// After every fact.
    pub fn check(&mut self, engine: &mut Engine<Scripted>, now: Instant) {
        if !self.is_late {
            self.take(engine, now);
        }
        let (metrics, stats) = (engine.self_metrics(), engine.stats());
        let sum = |of: &dyn Fn(Signal) -> u64| -> u64 { Signal::ALL.into_iter().map(of).sum() };
        assert_eq!(sum(&|signal| metrics.in_flight(signal)), stats.in_flight);
        assert_eq!(sum(&|signal| metrics.exported(signal)), stats.delivered);
        let failed = sum(&|signal| metrics.failed(signal).map(|(_, items)| items).sum());
        assert_eq!(failed, stats.rejected + stats.dropped_total() + stats.unknown);
    }

    /// When nothing is left to happen; so many exports were submitted.
    pub fn finish(&mut self, engine: &mut Engine<Scripted>, now: Instant, exports: u64) {
        self.take(engine, now);
        let (metrics, stats) = (engine.self_metrics(), engine.stats());
        let ended = Signal::ALL.map(|signal| metrics.exports(signal).map(|(_, count, _)| count).sum::<u64>());
        assert_eq!(ended.iter().sum::<u64>(), exports, "one duration an export");
        assert!(
            self.outages <= stats.outages,
            "{} of {}",
            self.outages,
            stats.outages
        );
        assert!(self.lost <= stats.dropped_total() + stats.unknown);
        if !self.is_deaf && !self.is_late && stats.outages > 0 {
            assert!(self.outages > 0, "an outage was never told");
        }
    }

    fn take(&mut self, engine: &mut Engine<Scripted>, now: Instant) {
        let mut taken = 0;
        while let Some(event) = engine.poll_event() {
            assert!(!self.is_deaf, "{event} is told to nobody");
            taken += 1;
            self.hear(&event, now, engine.is_draining());
        }
        assert!(taken <= WAITING_MAX);
    }

    fn hear(&mut self, event: &Event<'_>, now: Instant, is_ending: bool) {
        assert!(event.at <= now && !event.to_string().contains('\n'));
        let endpoint = event.endpoint.as_deref().map(str::to_owned);
        let earlier = self.told.insert((event.kind(), endpoint.clone()), event.at);
        let is_pair = matches!(event.kind(), EventKind::OutageBegan | EventKind::Recovered);
        if let (Some(earlier), false) = (earlier, is_pair && is_ending) {
            assert!(
                event.at - earlier >= MINUTE,
                "{event} after {earlier:?} at {:?}",
                event.at
            );
        }
        if !is_pair {
            return;
        }
        let is_failing = self.failing.entry(endpoint.unwrap_or_default()).or_default();
        match &event.transition {
            Transition::OutageBegan { .. } => {
                assert!(!*is_failing, "{event} twice");
                self.outages += 1 + event.kept_back;
                *is_failing = true;
            }
            Transition::Recovered { lost, attempts, .. } => {
                assert!(*is_failing, "{event} without a beginning");
                assert!(*attempts > 0);
                self.lost += lost.total();
                *is_failing = false;
            }
            other => panic!("{other:?}"),
        }
    }
}
