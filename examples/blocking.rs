//! Exports from plain threads: no executor, no `async`, several threads on one exporter.
//!
//! ```sh
//! cargo run --example blocking [URL]
//! ```
//!
//! Of the threads that wait, one waits for the socket and the others for it, each until its own deadline. The exporter
//! starts a thread only to resolve a name. It speaks OTLP/HTTP, the default, over as many connections as
//! [`Config::with_http1_connections`] allows.

#[path = "support/demo.rs"]
mod demo;

use demo::{BATCHES, Destination, batch, exit_code, say, tell};
use otlp_embed::{Config, rt};
use std::error::Error;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

const THREADS: u64 = 4;

fn main() -> ExitCode {
    exit_code(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let destination = Destination::from_args()?;
    let exporter = Config::new()
        .with_endpoint(destination.endpoint())
        .with_timeout(Duration::from_secs(5))
        .build(rt::Blocking::new()?)?;

    thread::scope(|scope| {
        for first in 0..THREADS {
            let exporter = &exporter;
            scope.spawn(move || {
                // The batches of a thread begin together and share its wait: whoever waits moves every export.
                let exports: Vec<_> = (first..BATCHES)
                    .step_by(THREADS as usize)
                    .map(|number| (number, exporter.export(batch(number))))
                    .collect();
                for (number, export) in exports {
                    tell(number, &export.wait());
                }
            });
        }
    });

    let report = exporter.shutdown(Duration::from_secs(5)).wait();
    say(format_args!("Account: {report}"));
    destination.check(&report.stats)
}
