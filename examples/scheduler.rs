//! Jobs, so many at a time: exports and whatever else there is to do, on any executor; this one is smol's.
//!
//! ```sh
//! cargo run --example scheduler [URL]
//! ```
//!
//! Each job is counted once, with its items, however it ends. One of them is cancelled here, before it has done anything.

#[path = "support/demo.rs"]
mod demo;

use demo::{BATCHES, Destination, batch, exit_code, say, tell};
use otlp_embed::pipeline::{SchedulerConfig, SmartScheduler};
use otlp_embed::{Config, Protocol, rt};
use std::error::Error;
use std::future::pending;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    exit_code(smol::block_on(run()))
}

async fn run() -> Result<(), Box<dyn Error>> {
    let destination = Destination::from_args()?;
    let exporter = Config::new()
        .with_protocol(Protocol::Grpc)
        .with_endpoint(destination.endpoint())
        .with_timeout(Duration::from_secs(5))
        .build(rt::Smol::new())?;

    // The handle submits, the driver polls; it ends with the last handle.
    let (scheduler, driver) = SmartScheduler::new(SchedulerConfig::new().with_concurrency_max(3))?;
    let driver = smol::spawn(driver);

    // An export counts its items by itself.
    let exports: Vec<_> = (0..BATCHES - 1)
        .map(|number| scheduler.submit_export(&exporter, batch(number)))
        .collect();
    // Any other job tells them.
    let own = exporter.clone();
    let other = scheduler.submit_with(|items| async move {
        let outcome = own.export(batch(BATCHES - 1)).await?;
        items.add_done(outcome.delivered());
        Ok::<_, otlp_embed::Error>(outcome)
    });
    let endless = scheduler.submit(pending::<()>());
    endless.cancel();

    for (number, export) in (0..).zip(exports) {
        // The first error is the job's, which may have panicked or been cancelled; the second is the export's.
        tell(number, &export.await?);
    }
    tell(BATCHES - 1, &other.await?);
    if let Err(error) = endless.await {
        say(format_args!("the last job: {error}"));
    }

    let stats = scheduler.wait_all().await;
    say(format_args!("Scheduler: {stats}"));
    drop(scheduler);
    driver.await;
    let report = exporter.shutdown(Duration::from_secs(5)).await;
    say(format_args!("Account: {report}"));
    destination.check(&report.stats)
}
