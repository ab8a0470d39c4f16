//! What is generated, how fast, and what became of it.

use super::args::{Plan, Until};
use otlp_embed::pb::logs::SeverityNumber;
use otlp_embed::pb::trace::span::SpanKind;
use otlp_embed::pipeline::LatencyHistogram;
use otlp_embed::{
    Error, ItemCounts, LogBatch, MetricBatch, Outcome, Request, Resource, Signal, Temporality, TraceBatch,
};
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// For how long a worker sleeps at most before it looks whether it was interrupted.
const SLEEP_MAX: Duration = Duration::from_millis(50);

/// What the workers share.
pub struct Load {
    pub plan: Plan,
    pub resource: Resource,
    begun: Instant,
    text: String,
    is_interrupted: AtomicBool,
    /// Nothing was delivered, and nobody is there who would take it.
    is_given_up: AtomicBool,
    generated: AtomicU64,
    bytes: AtomicU64,
    settled: Mutex<Settled>,
}

/// What became of the exports.
#[derive(Clone, Default)]
pub struct Settled {
    pub counts: ItemCounts,
    pub exports: u64,
    pub failures: u64,
    pub latency: LatencyHistogram,
    pub last_error: Option<String>,
}

/// What one worker does next.
pub enum Next {
    Export(Request),
    Sleep(Duration),
    End,
}

/// One worker's part of the load.
pub struct Worker {
    number: usize,
    /// Items generated.
    items: u64,
    random: u64,
}

#[allow(clippy::disallowed_methods, reason = "a load is generated in real time")]
pub fn now() -> Instant {
    Instant::now()
}

#[allow(clippy::disallowed_methods, reason = "telemetry tells when it happened")]
fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_nanos() as u64
}

impl Load {
    pub fn new(plan: Plan) -> Self {
        Self {
            resource: Resource::builder()
                .attr("service.name", plan.service.as_str())
                .build(),
            begun: now(),
            text: "x".repeat(plan.size),
            plan,
            is_interrupted: AtomicBool::new(false),
            is_given_up: AtomicBool::new(false),
            generated: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            settled: Mutex::default(),
        }
    }

    /// Time since the beginning.
    pub fn elapsed(&self) -> Duration {
        now() - self.begun
    }

    /// Ends the generating. Whether that had been asked before.
    pub fn interrupt(&self) -> bool {
        self.is_interrupted.swap(true, Ordering::Relaxed)
    }

    pub fn is_interrupted(&self) -> bool {
        self.is_interrupted.load(Ordering::Relaxed)
    }

    pub fn is_given_up(&self) -> bool {
        self.is_given_up.load(Ordering::Relaxed)
    }

    /// Items generated so far: spans, data points or records.
    pub fn generated(&self) -> u64 {
        self.generated.load(Ordering::Relaxed)
    }

    /// Bytes of the encoded messages so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Items that will be generated, where that is known.
    pub fn planned(&self) -> Option<u64> {
        match self.plan.until {
            Until::Count(count) => {
                let each = count.saturating_mul(self.plan.items_each());
                Some(each.saturating_mul(self.plan.workers as u64))
            }
            Until::Elapsed(_) => None,
        }
    }

    pub fn settled(&self) -> Settled {
        self.lock().clone()
    }

    /// Books the verdict of an export that took so long.
    pub fn settle(&self, verdict: &Result<Outcome, Error>, took: Duration) {
        let mut settled = self.lock();
        settled.exports += 1;
        settled.latency.record(took);
        match verdict {
            Ok(outcome) => {
                settled.counts += outcome.counts();
                if outcome.rejected() > 0 {
                    settled.last_error = outcome.message().map(str::to_owned);
                }
            }
            Err(error) => {
                settled.failures += 1;
                settled.counts += error.counts();
                settled.last_error = Some(error.to_string());
                // Where nobody answers at all, the rest of the load would end like this too, a deadline later each.
                if settled.counts.delivered == 0 && (error.is_connect() || error.is_timeout()) {
                    self.is_given_up.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Settled> {
        self.settled
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Plan {
    /// Items of one trace, one point, one record.
    fn items_each(&self) -> u64 {
        1 + self.child_spans as u64
    }
}

impl Worker {
    pub fn new(number: usize) -> Self {
        Self {
            number,
            items: 0,
            random: RandomState::new().hash_one(number),
        }
    }

    /// The next request, or for how long to wait for it.
    pub fn next(&mut self, load: &Load) -> Next {
        let plan = &load.plan;
        if load.is_interrupted() || load.is_given_up() {
            return Next::End;
        }
        let each = plan.items_each();
        let left = match plan.until {
            Until::Count(count) => count.saturating_sub(self.items / each),
            Until::Elapsed(time) if load.elapsed() < time => u64::MAX,
            Until::Elapsed(_) => 0,
        };
        if left == 0 {
            return Next::End;
        }
        // Whole traces, and at a slow rate no more of them than belong into a second.
        let mut items_max = plan.batch_size as u64;
        if let Some(rate) = plan.rate {
            let due = Duration::from_secs_f64(self.items as f64 / rate);
            let wait = due.saturating_sub(load.elapsed());
            if !wait.is_zero() {
                return Next::Sleep(wait.min(SLEEP_MAX));
            }
            items_max = items_max.min((rate as u64).max(1));
        }
        let count = (items_max / each).clamp(1, left);
        let first = self.items / each;
        let request = self.request(load, first..first + count);
        self.items += request.items();
        load.generated.fetch_add(request.items(), Ordering::Relaxed);
        load.bytes
            .fetch_add(request.encoded_len() as u64, Ordering::Relaxed);
        Next::Export(request)
    }

    fn request(&mut self, load: &Load, numbers: Range<u64>) -> Request {
        match load.plan.signal {
            Signal::Metrics => self.metrics(load, numbers),
            Signal::Logs => self.logs(load, numbers),
            _ => self.traces(load, numbers),
        }
    }

    fn traces(&mut self, load: &Load, numbers: Range<u64>) -> Request {
        let mut batch = TraceBatch::new(&load.resource);
        batch.scope("telemetrygen", env!("CARGO_PKG_VERSION"));
        for number in numbers {
            let (trace_id, root) = (self.trace_id(), self.span_id());
            let end = unix_nanos();
            let begin = end - 2_000_000;
            {
                let mut span = batch.span(trace_id, root, "lets-go");
                span.kind(SpanKind::Client).times(begin..end);
                span.attr("network.peer.address", "1.2.3.4")
                    .attr("worker", self.number as i64)
                    .attr("number", number as i64);
                if !load.text.is_empty() {
                    span.attr("load", load.text.as_str());
                }
            }
            for child in 0..load.plan.child_spans as u64 {
                let mut span = batch.span(trace_id, self.span_id(), "okey-dokey");
                let at = begin + 1_000 * (child + 1);
                span.parent(root).kind(SpanKind::Server).times(at..at + 500);
                span.attr("network.peer.address", "1.2.3.4")
                    .attr("child", child as i64);
                if !load.text.is_empty() {
                    span.attr("load", load.text.as_str());
                }
            }
        }
        batch.finish()
    }

    fn metrics(&mut self, load: &Load, numbers: Range<u64>) -> Request {
        let mut batch = MetricBatch::new(&load.resource);
        batch.scope("telemetrygen", env!("CARGO_PKG_VERSION"));
        let mut sum = batch.metric("gen").unit("1").monotonic_sum(Temporality::Delta);
        for number in numbers {
            let end = unix_nanos();
            let mut point = sum.point(end - 1_000_000..end, number as i64);
            point
                .attr("worker", self.number as i64)
                .attr("number", number as i64);
            if !load.text.is_empty() {
                point.attr("load", load.text.as_str());
            }
            point.end();
        }
        sum.end();
        batch.finish()
    }

    fn logs(&mut self, load: &Load, numbers: Range<u64>) -> Request {
        let mut batch = LogBatch::new(&load.resource);
        batch.scope("telemetrygen", env!("CARGO_PKG_VERSION"));
        for number in numbers {
            let (trace_id, span_id) = (self.trace_id(), self.span_id());
            let mut record = batch.log();
            record
                .time(unix_nanos())
                .severity(SeverityNumber::Info, "Info")
                .body("the message")
                .attr("worker", self.number as i64)
                .attr("number", number as i64);
            if !load.text.is_empty() {
                record.attr("load", load.text.as_str());
            }
            record.trace(trace_id, span_id).end();
        }
        batch.finish()
    }

    fn trace_id(&mut self) -> [u8; 16] {
        let (high, low) = (self.random(), self.random());
        (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
    }

    fn span_id(&mut self) -> [u8; 8] {
        self.random().to_be_bytes()
    }

    /// Numbers that hardly ever come twice, and are never zero (SplitMix64).
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).max(1)
    }
}
