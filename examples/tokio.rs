//! Exports on tokio: one task for each batch, all of them on one exporter and one connection,
//! that of gRPC.
//!
//! ```sh
//! cargo run --example tokio [URL]
//! ```
//!
//! The exporter spawns nothing. Whichever export is polled moves all of them; a program that would rather have that
//! done in one place runs the optional [`driver`](otlp_embed::Exporter::driver), as this one does.

#[path = "support/demo.rs"]
mod demo;

use demo::{BATCHES, Destination, batch, exit_code, say, tell};
use otlp_embed::{Config, Protocol, rt};
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

#[tokio::main]
async fn main() -> ExitCode {
    exit_code(run().await)
}

async fn run() -> Result<(), Box<dyn Error>> {
    let destination = Destination::from_args()?;

    // Outside a tokio runtime `current` is an error. Nothing is connected before the first export.
    let exporter = Config::new()
        .with_protocol(Protocol::Grpc)
        .with_endpoint(destination.endpoint())
        .with_timeout(Duration::from_secs(5))
        .build(rt::Tokio::current()?)?;

    // Optional. It ends by itself once the exporter is shut down or its last clone is dropped.
    let driver = tokio::spawn(exporter.driver());

    // Clones share the connection, the memory limit and the account.
    let exports: Vec<_> = (0..BATCHES)
        .map(|number| {
            let exporter = exporter.clone();
            tokio::spawn(async move { exporter.export(batch(number)).await })
        })
        .collect();
    for (number, export) in (0..).zip(exports) {
        // The first error is tokio's, for a task that panicked; the second is the export's.
        tell(number, &export.await?);
    }

    // What is still under way would now have five seconds; then the account is closed.
    let report = exporter.shutdown(Duration::from_secs(5)).await;
    driver.await?;
    say(format_args!("Account: {report}"));
    destination.check(&report.stats)
}
