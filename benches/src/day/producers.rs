//! Who writes: threads and a task, each in its own way, all of which wait where there is no room.

use super::ledger::span_id;
use crate::modes::workload::resource;
use crate::timing::now;
use otlp_embed::pipeline::{Pipeline, Refusal};
use otlp_embed::{Request, TraceBatch};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Spans of one write.
const SPANS: u64 = 20;
/// How long a write may wait for room. Nothing on this day takes as long.
const PATIENCE: Duration = Duration::from_secs(600);
const PAYLOAD: &str = "a few words of what happened, as telemetry has them";

/// The ways to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Into the open batch, on a thread.
    Spans,
    /// Whole requests, on a thread.
    Requests,
    /// Into the open batch, as a task.
    Task,
}

const WAYS: [Way; 4] = [Way::Spans, Way::Spans, Way::Requests, Way::Task];

/// Bytes that one write of each producer has at most beyond what there was room for.
pub const EXCESS: u64 = WAYS.len() as u64 * 16_000;

/// All who write.
pub struct Producers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Result<(), Refusal>>>,
}

#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    /// By producer: spans handed in, and nanoseconds waited for room.
    sent: [AtomicU64; WAYS.len()],
    waited: [AtomicU64; WAYS.len()],
}

impl Producers {
    /// Begins to write `rate` spans a second each.
    pub fn start(pipeline: &Pipeline, rate: u64) -> Self {
        let shared = Arc::new(Shared::default());
        let pause = Duration::from_secs_f64(SPANS as f64 / rate as f64);
        let start = |producer: usize| {
            let (shared, pipeline) = (shared.clone(), pipeline.clone());
            std::thread::spawn(move || match WAYS[producer] {
                Way::Task => run_task(&shared, &pipeline, producer, pause),
                _ => shared.write(producer, pause, |first| write(&pipeline, producer, first)),
            })
        };
        Self {
            threads: (0..WAYS.len()).map(start).collect(),
            shared,
        }
    }

    /// Spans handed in so far, by producer.
    pub fn sent(&self) -> Vec<u64> {
        let sent = self.shared.sent.iter();
        sent.map(|sent| sent.load(Ordering::SeqCst)).collect()
    }

    /// How long they waited for room, all together.
    pub fn waited(&self) -> Duration {
        let waited = self.shared.waited.iter();
        Duration::from_nanos(waited.map(|waited| waited.load(Ordering::SeqCst)).sum())
    }

    /// Ends them, each after its present write.
    ///
    /// # Errors
    ///
    /// One was refused what it wrote.
    pub fn finish(&mut self) -> Result<(), String> {
        self.shared.is_over.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let end = thread.join().map_err(|_| "a producer panicked")?;
            end.map_err(|refusal| format!("a producer that waits was refused: {refusal}"))?;
        }
        Ok(())
    }
}

impl Shared {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    fn note(&self, producer: usize, waited: Duration) {
        self.sent[producer].fetch_add(SPANS, Ordering::SeqCst);
        self.waited[producer].fetch_add(waited.as_nanos() as u64, Ordering::SeqCst);
    }

    fn write(
        &self,
        producer: usize,
        pause: Duration,
        mut write: impl FnMut(u64) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let mut first = 0;
        while !self.is_over() {
            let begun = now();
            write(first)?;
            let took = now() - begun;
            self.note(producer, took);
            first += SPANS;
            std::thread::sleep(pause.saturating_sub(took));
        }
        Ok(())
    }
}

fn write(pipeline: &Pipeline, producer: usize, first: u64) -> Result<(), Refusal> {
    if WAYS[producer] == Way::Requests {
        return pipeline.send_blocking(request(producer, first), PATIENCE);
    }
    pipeline.spans(|batch| spans(batch, producer, first))
}

fn run_task(shared: &Shared, pipeline: &Pipeline, producer: usize, pause: Duration) -> Result<(), Refusal> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("the system has a runtime to give");
    runtime.block_on(async {
        let mut first = 0;
        while !shared.is_over() {
            let begun = now();
            pipeline
                .spans_async(|batch| spans(batch, producer, first))
                .await?;
            let took = now() - begun;
            shared.note(producer, took);
            first += SPANS;
            tokio::time::sleep(pause.saturating_sub(took)).await;
        }
        Ok(())
    })
}

fn request(producer: usize, first: u64) -> Request {
    let mut batch = TraceBatch::new(&resource());
    spans(&mut batch, producer, first);
    batch.finish()
}

fn spans(batch: &mut TraceBatch, producer: usize, first: u64) {
    batch.scope("day", "1");
    for number in first..first + SPANS {
        let mut span = batch.span([7; 16], span_id(producer, number), "work");
        span.attr("number", number as i64).attr("payload", PAYLOAD);
        span.end();
    }
}
