//! What stands on an exporter and belongs to its account and its end: its pipelines.

use super::sync::lock;
use crate::observe::Meter;
use crate::stats::{Report, Stats};
use crate::time::Instant;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;
use futures_channel::oneshot;
use std::sync::Mutex;

/// A pipeline, as its exporter knows it.
pub(crate) trait Companion: Send + Sync {
    /// Adds its account, with ages as of this time.
    fn add_to(&self, stats: &mut Stats, now: Instant);

    /// Adds what it counted of this exporter's items.
    fn measure(&self, meter: &mut Meter);

    /// Whether its account is closed and changes no more.
    fn is_over(&self) -> bool;

    /// Asks it to end within a time; the answer comes when it has.
    fn close(&self, timeout: Duration) -> oneshot::Receiver<Report>;
}

/// The pipelines of one exporter and its clones.
#[derive(Default)]
pub(crate) struct Companions {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    living: Vec<Arc<dyn Companion>>,
    /// The accounts of those that are over.
    closed: Stats,
    closed_meter: Meter,
}

impl Companions {
    pub(crate) fn add(&self, companion: Arc<dyn Companion>) {
        let over = {
            let mut state = lock(&self.state);
            state.living.push(companion);
            state.fold()
        };
        drop(over);
    }

    /// Adds the accounts of all pipelines there ever were, with ages as of this time.
    pub(crate) fn add_to(&self, stats: &mut Stats, now: Instant) {
        let over = {
            let mut state = lock(&self.state);
            let over = state.fold();
            stats.add_items(&state.closed);
            for companion in &state.living {
                companion.add_to(stats, now);
            }
            over
        };
        drop(over);
    }

    /// What all pipelines there ever were counted of this exporter's items.
    pub(crate) fn meter(&self) -> Meter {
        let (over, meter) = {
            let mut state = lock(&self.state);
            let over = state.fold();
            let mut meter = state.closed_meter.clone();
            for companion in &state.living {
                companion.measure(&mut meter);
            }
            (over, meter)
        };
        drop(over);
        meter
    }

    /// Asks all to end.
    pub(crate) fn close(&self, timeout: Duration) -> Vec<oneshot::Receiver<Report>> {
        // It wakes the futures of the pipelines, which is foreign code.
        let living = lock(&self.state).living.clone();
        living.iter().map(|companion| companion.close(timeout)).collect()
    }
}

impl State {
    /// Books those that are over for good and gives them back, to be dropped outside the lock.
    fn fold(&mut self) -> Vec<Arc<dyn Companion>> {
        let mut over = Vec::new();
        let mut at = 0;
        while at < self.living.len() {
            if self.living[at].is_over() {
                let companion = self.living.swap_remove(at);
                companion.add_to(&mut self.closed, Instant::ZERO);
                companion.measure(&mut self.closed_meter);
                over.push(companion);
            } else {
                at += 1;
            }
        }
        over
    }
}
