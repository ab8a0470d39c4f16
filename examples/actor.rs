//! An exporter behind a mailbox: tasks and threads send, one actor exports, and each gets its answer.
//!
//! ```sh
//! cargo run --example actor [URL]
//! ```
//!
//! The handle has no type parameter and clones, so that it goes wherever a program needs to export; the actor is one future.

#[path = "support/demo.rs"]
mod demo;

use demo::{BATCHES, Destination, batch, exit_code, say, tell};
use otlp_embed::pipeline::{ActorConfig, ExporterActor};
use otlp_embed::{Config, Protocol, rt};
use std::error::Error;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

#[tokio::main]
async fn main() -> ExitCode {
    exit_code(run().await)
}

async fn run() -> Result<(), Box<dyn Error>> {
    let destination = Destination::from_args()?;
    let exporter = Config::new()
        .with_protocol(Protocol::Grpc)
        .with_endpoint(destination.endpoint())
        .with_timeout(Duration::from_secs(5))
        .build(rt::Tokio::current()?)?;

    // At most 1,000 messages wait, and 32 exports are in flight, unless set. The crate spawns nothing: the program does.
    let (handle, actor) = ExporterActor::new(&exporter, ActorConfig::new())?;
    let actor = tokio::spawn(actor.run());

    // Tasks wait for room in the mailbox and for their answer.
    let tasks: Vec<_> = (0..BATCHES / 2)
        .map(|number| {
            let handle = handle.clone();
            tokio::spawn(async move { handle.export(batch(number)).await })
        })
        .collect();
    // So do threads, for no longer than they like.
    let blocking = handle.clone();
    let worker = thread::spawn(move || blocking.export_blocking(batch(BATCHES / 2), Duration::from_secs(10)));
    // Whoever does not care for the answer drops it; the export goes on.
    for number in BATCHES / 2 + 1..BATCHES {
        drop(handle.try_export(batch(number))?);
    }

    for (number, task) in (0..).zip(tasks) {
        tell(number, &task.await?);
    }
    let verdict = tokio::task::spawn_blocking(|| worker.join()).await?;
    tell(BATCHES / 2, &verdict.map_err(|_| "the worker panicked")?);

    // Everything sent before has its verdict after a flush; after a shutdown nothing is taken any more.
    handle.flush().await?;
    let stats = handle.shutdown(Duration::from_secs(5)).await;
    actor.await?;
    say(format_args!("Actor: {stats}"));
    let report = exporter.shutdown(Duration::from_secs(5)).await;
    say(format_args!("Account: {report}"));
    destination.check(&report.stats)
}
