//! Exports on smol, in one thread, with less time for each batch than the exporter would give it.
//!
//! ```sh
//! cargo run --example smol [URL]
//! ```
//!
//! `rt::Smol` needs the reactor of `async-io` and no executor of a certain make: the same exporter works under any
//! `block_on`. Tasks of a local executor show that nothing here has to be `Send`.

#[path = "support/demo.rs"]
mod demo;

use demo::{BATCHES, Destination, batch, exit_code, say, tell};
use otlp_embed::{Config, Exporter, Protocol, rt};
use smol::LocalExecutor;
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let executor = LocalExecutor::new();
    exit_code(smol::block_on(executor.run(run(&executor))))
}

async fn run(executor: &LocalExecutor<'_>) -> Result<(), Box<dyn Error>> {
    let destination = Destination::from_args()?;
    let exporter = Config::new()
        .with_protocol(Protocol::Grpc)
        .with_endpoint(destination.endpoint())
        .with_timeout(Duration::from_secs(5))
        .build(rt::Smol::new())?;

    // Tasks that were spawned make progress while the first batch is awaited.
    let tasks: Vec<_> = (1..BATCHES)
        .map(|number| executor.spawn(export(exporter.clone(), number)))
        .collect();
    export(exporter.clone(), 0).await;
    for task in tasks {
        task.await;
    }

    let report = exporter.shutdown(Duration::from_secs(5)).await;
    say(format_args!("Account: {report}"));
    destination.check(&report.stats)
}

/// Exports one batch, which has less time than the exporter gives to others.
async fn export(exporter: Exporter<rt::Smol>, number: u64) {
    let request = batch(number).with_timeout(Duration::from_secs(3));
    let export = exporter.export(request);
    // It is accepted and its time runs; dropping it here would cancel it and count its spans as dropped.
    say(format_args!("batch {number}: {:?}", export.state()));
    tell(number, &export.await);
}
