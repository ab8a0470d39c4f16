//! Spans written one by one into a pipeline that runs on a thread of its own and loses nothing.

use super::{Meter, Result, check, exporter};
use crate::modes::settings::Settings;
use crate::modes::workload::{Workload, resource, write_span};
use crate::timing::now;
use otlp_embed::pipeline::{Overflow, Pipeline, PipelineConfig, QueueConfig};
use otlp_embed::rt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

/// How often the time is taken from a span to its verdict.
const PROBE_EVERY: Duration = Duration::from_millis(5);
/// What waits for the exporter at most. More would only wait longer.
const QUEUE_BYTES: usize = 4 << 20;
/// Time to settle what is queued at the end.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn run(endpoint: &str, settings: &Settings) -> Result {
    let exporter = exporter(endpoint, rt::Blocking::new()?)?;
    let queue = QueueConfig::new()
        .with_overflow(Overflow::Block)
        .with_bytes_max(QUEUE_BYTES);
    let config = PipelineConfig::new().with_resource(&resource()).with_queue(queue);
    let (pipeline, future) = exporter.pipeline(config)?;
    let thread = future.run_on_thread()?;
    let warm_up = settings.warm_up_requests() * settings.batch as u64;
    write(&pipeline, 0, warm_up)?;
    pipeline.flush_blocking(PATIENCE)?;
    let mut meter = Meter::start(settings, warm_up);
    let probe = Probe::start(pipeline.clone());
    write(&pipeline, warm_up, settings.spans)?;
    pipeline.flush_blocking(PATIENCE)?;
    // The pipeline chooses how many spans a request has; what a request of the other ways adds for each is the measure.
    let mut sample = Workload::new(warm_up);
    let bytes = sample.request(settings.batch).encoded_len() as u64;
    meter.count(
        settings.spans,
        (bytes * settings.spans / settings.batch as u64) as usize,
    );
    let mut measured = meter.finish();
    measured.latencies = probe.finish()?;
    measured.exports = pipeline.stats().total.batches;
    let stats = pipeline.stats();
    check(&exporter, &measured)?;
    if !stats.is_conserved() || stats.total.delivered != measured.spans + measured.warm_up {
        return Err(format!("the account of the pipeline says {stats:?}").into());
    }
    pipeline.shutdown_blocking(PATIENCE);
    thread.join()?;
    Ok(measured)
}

/// Writes spans one by one, as a program does.
fn write(pipeline: &Pipeline, first: u64, spans: u64) -> Result<()> {
    for number in first..first + spans {
        pipeline.spans(|batch| {
            batch.scope("shop.http", "0.3.1");
            write_span(batch, number);
        })?;
    }
    Ok(())
}

/// Takes the time from what was just written to its verdict, again and again, on a thread of its own.
struct Probe {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<std::result::Result<Vec<Duration>, otlp_embed::Error>>,
}

impl Probe {
    fn start(pipeline: Pipeline) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        let thread = std::thread::spawn(move || {
            let mut latencies = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let begun = now();
                pipeline.flush_blocking(PATIENCE)?;
                let latency = now() - begun;
                latencies.push(latency);
                sleep(PROBE_EVERY.saturating_sub(latency));
            }
            Ok(latencies)
        });
        Self { is_over, thread }
    }

    fn finish(self) -> Result<Vec<Duration>> {
        self.is_over.store(true, Ordering::Relaxed);
        Ok(self.thread.join().map_err(|_| "the probe panicked")??)
    }
}
