//! A program with the OpenTelemetry SDK: its batch processor over our exporter, or our processor over a pipeline, wherever it runs.

use crate::adapters::config;
use crate::manifest::Manifest;
use crate::options::{Options, Place, Sdk};
use crate::plan::sdk::{Spans, batch};
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor};
use otlp_embed::pipeline::{Account, Overflow, PipelineConfig, QueueConfig};
use otlp_embed::{Exporter, rt, sdk};
use std::time::Duration;

type Done = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// For all that is queued: servers that write every item to a file are slow.
const SHUTDOWN: Duration = Duration::from_secs(200);

/// Ends all spans and shuts down, on this thread or on one of tokio's, and writes down which spans and with which account.
///
/// # Errors
///
/// The exporter cannot be built, something was not delivered in time, or the manifest cannot be written.
pub fn run(options: &Options, how: Sdk, manifest: &Manifest) -> Done {
    match options.place {
        Place::None => program(options, how, manifest),
        Place::CurrentThread => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(async { program(options, how, manifest) }),
        Place::OneWorker => {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()?;
            let (options, manifest) = (options.clone(), manifest.clone());
            let task = runtime.spawn(async move { program(&options, how, &manifest) });
            runtime.block_on(task)?
        }
    }
}

fn program(options: &Options, how: Sdk, manifest: &Manifest) -> Done {
    let exporter = config(options).build(rt::Blocking::new()?)?;
    match how {
        Sdk::BatchProcessor => {
            let queue = BatchConfigBuilder::default().with_max_queue_size(options.batches * options.items);
            let processor = BatchSpanProcessor::builder(sdk::SpanExporter::new(&exporter))
                .with_batch_config(queue.build())
                .build();
            work(options, &Spans::new(processor), manifest)?;
        }
        Sdk::SpanProcessor => {
            let queue = QueueConfig::new().with_overflow(Overflow::Block);
            let (pipeline, future) = exporter.pipeline(PipelineConfig::new().with_queue(queue))?;
            let thread = future.run_on_thread()?;
            let processor = sdk::SpanProcessor::new(&pipeline).with_wait_max(SHUTDOWN);
            work(options, &Spans::new(processor), manifest)?;
            eprintln!("{}", pipeline.shutdown_blocking(SHUTDOWN));
            thread.join()?;
        }
    }
    close(&exporter, manifest)
}

fn work(options: &Options, spans: &Spans, manifest: &Manifest) -> Done {
    for number in 0..options.batches {
        let batch = batch(number, options.items);
        manifest.write_items(&batch)?;
        spans.end(&batch);
    }
    Ok(spans.provider().shutdown_with_timeout(SHUTDOWN)?)
}

fn close(exporter: &Exporter<rt::Blocking>, manifest: &Manifest) -> Done {
    let stats = exporter.stats();
    if !stats.is_conserved() || stats.queued + stats.in_flight != 0 {
        return Err(format!("the account does not balance: {stats:?}").into());
    }
    let mut account = Account::default();
    account.accepted = stats.accepted;
    account.delivered = stats.delivered;
    account.rejected = stats.rejected;
    account.dropped = stats.dropped;
    account.unknown = stats.unknown;
    manifest.write_account(&account, stats.possible_duplicates)?;
    Ok(())
}
