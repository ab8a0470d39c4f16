//! What was made, noted where it is made.

use opentelemetry::trace::SpanContext;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A ledger that knows nothing of processors, pipelines and exporters.
pub struct Made {
    /// Whether there will be someone to compare with: ids are kept then.
    keeps_ids: bool,
    book: Mutex<Book>,
}

/// What is in it.
#[derive(Default)]
pub struct Book {
    /// How many spans, log records, data points.
    pub counts: [u64; 3],
    /// Spans: to each id that of its trace.
    pub spans: HashMap<[u8; 8], [u8; 16]>,
    /// Log records, by their `log.record.uid`.
    pub records: HashSet<String>,
    /// Data points, by all that tells one from another.
    pub points: HashSet<String>,
    /// What counters and histograms were told.
    pub tallies: BTreeMap<Tally, u64>,
}

/// What is counted: of which service, by which instrument, with which attributes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tally {
    /// The service's name.
    pub service: String,
    /// The metric's name.
    pub metric: String,
    /// The attributes, as [`attributes`] writes them.
    pub attributes: String,
}

impl Made {
    /// An empty ledger.
    pub fn new(keeps_ids: bool) -> Self {
        Self {
            keeps_ids,
            book: Mutex::default(),
        }
    }

    /// A span was begun that is sampled.
    pub fn span(&self, context: &SpanContext) {
        let mut book = self.book();
        book.counts[0] += 1;
        if self.keeps_ids {
            let (span, trace) = (context.span_id().to_bytes(), context.trace_id().to_bytes());
            book.spans.insert(span, trace);
        }
    }

    /// A log record was written. Returns its `log.record.uid`.
    pub fn record(&self, service: &str) -> String {
        let mut book = self.book();
        book.counts[1] += 1;
        let uid = format!("{service}-{}", book.counts[1]);
        if self.keeps_ids {
            book.records.insert(uid.clone());
        }
        uid
    }

    /// The SDK collected a data point.
    pub fn point(&self, id: impl FnOnce() -> String) {
        let mut book = self.book();
        book.counts[2] += 1;
        if self.keeps_ids {
            book.points.insert(id());
        }
    }

    /// A counter was told this increment, or a histogram so many measurements.
    pub fn add(&self, service: &str, metric: &str, attributes: String, increment: u64) {
        let tally = Tally {
            service: service.into(),
            metric: metric.into(),
            attributes,
        };
        *self.book().tallies.entry(tally).or_default() += increment;
    }

    /// What is in it.
    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Attributes in one line, whatever their order was.
pub fn attributes<K: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (K, V)>) -> String {
    let mut pairs: Vec<_> = pairs
        .into_iter()
        .map(|(key, value)| format!("{}={}", key.as_ref(), value.as_ref()))
        .collect();
    pairs.sort();
    pairs.join(" ")
}

/// All that tells a data point from another.
pub fn point_id(service: &str, metric: &str, attributes: &str, start_nanos: u64, nanos: u64) -> String {
    format!("{service} {metric} {attributes} {start_nanos}..{nanos}")
}
