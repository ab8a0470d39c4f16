//! A pipeline to one collector or to several, which delivers until it is told to end.

use crate::adapters::config;
use crate::manifest::Manifest;
use crate::options::{Adapter, Deliver, Options};
use crate::plan::Batch;
use otlp_embed::pipeline::{Endpoints, Overflow, Pipeline, PipelineConfig, QueueConfig};
use otlp_embed::policy::BreakerConfig;
use otlp_embed::rt::{self, Runtime};
use otlp_embed::{Config, Error, Exporter};
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

type Done = Result<(), Box<dyn std::error::Error>>;

/// Between two batches of one producer: what servers that write every item to a file keep up with.
const PACE: Duration = Duration::from_millis(20);
const ITEMS: usize = 10;
/// How long a collector that failed is left alone: a tenth of what it is unless set.
const BREAK: Duration = Duration::from_secs(3);
/// Longer than a collector that failed is left alone.
const FLUSH: Duration = Duration::from_secs(50);
const SEND: Duration = Duration::from_secs(50);

/// Delivers until standard input ends, and writes down what and with which account.
///
/// # Errors
///
/// The pipeline cannot be made, something was not delivered, or the manifest cannot be written.
pub fn deliver(options: &Options, how: Deliver, manifest: &Manifest) -> Done {
    match options.adapter {
        Adapter::Tokio => {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()?;
            let exporters = runtime.block_on(async { build(options, &rt::Tokio::current()?) })?;
            let (pipeline, future) = endpoints(how, &exporters).pipeline(settings())?;
            let future = runtime.spawn(future);
            produce(options, &pipeline, manifest)?;
            close(&pipeline, &exporters, how, manifest)?;
            runtime.block_on(future)?;
        }
        Adapter::Blocking => {
            let exporters = build(options, &rt::Blocking::new()?)?;
            let (pipeline, future) = endpoints(how, &exporters).pipeline(settings())?;
            let thread = future.run_on_thread()?;
            produce(options, &pipeline, manifest)?;
            close(&pipeline, &exporters, how, manifest)?;
            thread.join()?;
        }
        _ => return Err("--deliver goes with --adapter tokio or blocking".into()),
    }
    Ok(())
}

fn build<R: Runtime>(options: &Options, runtime: &R) -> Result<Vec<Exporter<R>>, Error> {
    let build = |endpoint: &String| -> Result<_, Error> {
        let config: Config = config(options).with_endpoint(endpoint);
        config.build(runtime.clone())
    };
    options.endpoints.iter().map(build).collect()
}

fn endpoints<R: Runtime>(how: Deliver, exporters: &[Exporter<R>]) -> Endpoints<R> {
    let exporters = exporters.iter().cloned();
    match how {
        Deliver::One | Deliver::Failover => Endpoints::failover(exporters),
        Deliver::RoundRobin => Endpoints::round_robin(exporters),
        Deliver::FanOut => Endpoints::fan_out(exporters),
    }
}

fn settings() -> PipelineConfig {
    PipelineConfig::new()
        .with_queue(QueueConfig::new().with_overflow(Overflow::Block))
        .with_breaker(BreakerConfig::new().with_open_for(BREAK))
}

/// Producers on threads of their own, which send until standard input ends.
fn produce(options: &Options, pipeline: &Pipeline, manifest: &Manifest) -> Done {
    let (is_over, next) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let send = || -> Result<(), String> {
            while !is_over.load(Ordering::Relaxed) {
                let batch = Batch::new(options.signal, next.fetch_add(1, Ordering::Relaxed), ITEMS, 0);
                // Before it can arrive.
                manifest.write_items(&batch).map_err(|error| error.to_string())?;
                pipeline
                    .send_blocking(batch.encode(), SEND)
                    .map_err(|refusal| refusal.to_string())?;
                thread::sleep(PACE);
            }
            Ok(())
        };
        let producers: Vec<_> = (0..options.callers).map(|_| scope.spawn(send)).collect();
        let read = std::io::stdin().read_to_end(&mut Vec::new());
        is_over.store(true, Ordering::Relaxed);
        read?;
        for producer in producers {
            producer.join().expect("a producer does not panic")?;
        }
        Ok(())
    })
}

/// Waits until everything is settled, and writes the account of each collector that gets everything.
fn close<R: Runtime>(
    pipeline: &Pipeline,
    exporters: &[Exporter<R>],
    how: Deliver,
    manifest: &Manifest,
) -> Done {
    let report = pipeline.flush_blocking(FLUSH)?;
    eprintln!("{report:?}");
    eprintln!("{}", pipeline.shutdown_blocking(FLUSH));
    let stats = pipeline.stats();
    if !stats.is_conserved() || stats.total.in_flight + stats.total.queued != 0 {
        return Err(format!("the account does not balance: {stats:?}").into());
    }
    let duplicates = |exporters: &[Exporter<R>]| -> u64 {
        exporters
            .iter()
            .map(|exporter| exporter.stats().possible_duplicates)
            .sum()
    };
    for (leg, exporter) in stats.legs.iter().zip(exporters) {
        let duplicates = match how {
            Deliver::FanOut => duplicates(std::slice::from_ref(exporter)),
            Deliver::One | Deliver::Failover | Deliver::RoundRobin => duplicates(exporters),
        };
        manifest.write_account(&leg.account, duplicates)?;
    }
    Ok(())
}
