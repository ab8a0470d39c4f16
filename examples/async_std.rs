//! Exports on async-std, with a runtime made of two functions: one that connects and one that sleeps.
//!
//! ```sh
//! cargo run --example async_std [URL]
//! ```
//!
//! `rt::FuturesIo` takes any socket of the `futures-io` traits and any sleep, so that an executor of that kind needs no
//! adapter of its own.

#[path = "support/demo.rs"]
mod demo;

use async_std::net::TcpStream;
use async_std::task;
use demo::{BATCHES, Destination, batch, exit_code, say, tell};
use otlp_embed::{Config, Protocol, rt};
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    exit_code(task::block_on(run()))
}

async fn run() -> Result<(), Box<dyn Error>> {
    let destination = Destination::from_args()?;
    let exporter = Config::new()
        .with_protocol(Protocol::Grpc)
        .with_endpoint(destination.endpoint())
        .with_timeout(Duration::from_secs(5))
        .build(rt::FuturesIo::new(TcpStream::connect, task::sleep))?;

    // `export` accepts the batch: its deadline runs and its spans are on the account. The future, spawned here, can go
    // to any thread; it has to be polled for the export to make progress.
    let exports: Vec<_> = (0..BATCHES)
        .map(|number| task::spawn(exporter.export(batch(number))))
        .collect();
    say(format_args!("{} spans are in flight", exporter.stats().in_flight));
    for (number, export) in (0..).zip(exports) {
        tell(number, &export.await);
    }

    let report = exporter.shutdown(Duration::from_secs(5)).await;
    say(format_args!("Account: {report}"));
    destination.check(&report.stats)
}
