//! Small requests from many threads, gathered into batches whose size follows how long their exports take.
//!
//! ```sh
//! cargo run --example adaptive_batcher [URL]
//! ```
//!
//! Fast exports make the next batches larger, slow ones make them smaller. Adding goes on while batches are exported, and
//! whoever adds waits only while the queue is full: nothing is lost. On tokio or smol the driver is spawned and `add` awaited.

#[path = "support/demo.rs"]
#[allow(dead_code)]
mod demo;

use demo::{BATCHES, Destination, batch, exit_code, say};
use otlp_embed::pipeline::{AdaptiveBatcher, Refusal};
use otlp_embed::policy::AdaptiveBatchConfig;
use otlp_embed::{Config, Resource, rt};
use std::error::Error;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

fn main() -> ExitCode {
    exit_code(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let destination = Destination::from_args()?;
    let exporter = Config::new()
        .with_endpoint(destination.endpoint())
        .build(rt::Blocking::new()?)?;

    // A batch goes when it has the size of the moment, or when its first item has waited for 20 ms.
    let config = AdaptiveBatchConfig::new()
        .with_items_initial(150)
        .with_age_max(Duration::from_millis(20))
        .with_target_latency(Duration::from_millis(50));
    let resource = Resource::builder().attr("service.name", "example").build();
    let (batcher, driver) = AdaptiveBatcher::new(&exporter, config, &resource)?;
    let driver = driver.run_on_thread()?;

    let producers: Vec<_> = (0..BATCHES)
        .map(|number| {
            let batcher = batcher.clone();
            thread::spawn(move || -> Result<(), Refusal> {
                batcher.add_blocking(batch(number), Duration::from_secs(5))
            })
        })
        .collect();
    for producer in producers {
        producer.join().map_err(|_| "a producer panicked")??;
    }

    // What was added before has its verdict after a flush, and latency has been measured.
    batcher.flush_blocking(Duration::from_secs(5))?;
    let stats = batcher.batch_size();
    say(format_args!(
        "{BATCHES} requests went in {} batches, {:?} each on average; the next will have {} items",
        stats.batches, stats.average_latency, stats.size
    ));

    let report = batcher.pipeline().shutdown_blocking(Duration::from_secs(5));
    driver.join()?;
    say(format_args!("Account: {report}"));
    destination.check(&report.stats)
}
