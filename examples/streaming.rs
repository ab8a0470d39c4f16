//! A stream of spans, exported as it flows: a thread produces, another exports, four exports at a time.
//!
//! ```sh
//! cargo run --example streaming [URL]
//! ```
//!
//! The stream is polled only while there is room, so that the producer feels the collector's pace. It needs no async runtime: on
//! `rt::Blocking` the run blocks its thread. On tokio or smol the same run is awaited.

#[path = "support/demo.rs"]
#[allow(dead_code)]
mod demo;

use demo::{BATCHES, Destination, SPANS, exit_code, say};
use futures_channel::mpsc::{Sender, channel};
use futures_executor::block_on;
use otlp_embed::pb::trace::Span;
use otlp_embed::pipeline::{StreamingConfig, StreamingOtlpExporter};
use otlp_embed::{Config, Protocol, rt};
use std::error::Error;
use std::future::poll_fn;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

fn main() -> ExitCode {
    exit_code(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let destination = Destination::from_args()?;
    let exporter = Config::new()
        .with_protocol(Protocol::Grpc)
        .with_endpoint(destination.endpoint())
        .with_timeout(Duration::from_secs(5))
        .build(rt::Blocking::new()?)?;

    // Spans that come alone are gathered: by their number, their bytes and their age.
    let config = StreamingConfig::new()
        .with_concurrency_max(4)
        .with_batch_items_max(64)
        .with_batch_age_max(Duration::from_millis(50));
    let streaming = StreamingOtlpExporter::new(&exporter, config)?;
    // The handle shows how it goes, from anywhere, and outlives the run.
    let handle = streaming.handle();

    // Whatever is a `Stream` will do; this is the end of a channel.
    let (sender, receiver) = channel(16);
    let producer = thread::spawn(move || produce(sender));
    let stats = block_on(streaming.run(receiver));
    producer.join().map_err(|_| "the producer panicked")?;

    say(format_args!("Streamed: {stats}"));
    if let Some(error) = handle.last_error() {
        say(format_args!("The last failure: {error}"));
    }
    let report = block_on(exporter.shutdown(Duration::from_secs(5)));
    say(format_args!("Account: {report}"));
    destination.check(&report.stats)
}

/// Sends one span after another, and waits for as long as there is no room. The end of the sender is the end of the stream.
fn produce(mut sender: Sender<Span>) {
    for number in 1..=BATCHES * SPANS {
        // An error says that the run is over: nobody takes spans any more.
        if block_on(poll_fn(|cx| sender.poll_ready(cx))).is_err() || sender.start_send(span(number)).is_err()
        {
            return;
        }
    }
}

fn span(number: u64) -> Span {
    let start = 1_700_000_000_000_000_000 + number * 1_000_000;
    Span {
        trace_id: u128::from(number).to_be_bytes().to_vec(),
        span_id: number.to_be_bytes().to_vec(),
        name: "work".into(),
        start_time_unix_nano: start,
        end_time_unix_nano: start + 500_000,
        ..Span::default()
    }
}
