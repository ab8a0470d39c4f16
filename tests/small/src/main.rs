//! A program for a machine with little memory: no async runtime, OTLP over HTTP/1.1, 512 KiB for telemetry.
//!
//! `otlp-embed-small URL` exports 400 batches of 200 spans each and writes what memory it took, in KiB, as lines of
//! `name value`; `otlp-embed-small` alone does nothing but that, so that the difference is the exporter's.

use otlp_embed::{Config, Resource, TraceBatch, rt};
use std::error::Error;
use std::fs;
use std::process::ExitCode;
use std::time::Duration;

const BATCHES: u64 = 400;
const SPANS: u64 = 200;
const MEMORY_BYTES_MAX: usize = 512 << 10;

fn main() -> ExitCode {
    let done = match std::env::args().nth(1) {
        Some(url) => export(&url),
        None => report("bare"),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn export(url: &str) -> Result<(), Box<dyn Error>> {
    let exporter = Config::new()
        .with_endpoint(url)
        .with_memory_limit(MEMORY_BYTES_MAX)
        .with_timeout(Duration::from_secs(30))
        .build(rt::Blocking::new()?)?;
    report("idle")?;
    let resource = Resource::builder().attr("service.name", "small").build();
    let mut batch = TraceBatch::new(&resource);
    for number in 1..=BATCHES {
        batch.scope("small", "1.0");
        for span in 1..=SPANS {
            batch
                .span(u128::from(number).to_be_bytes(), span.to_be_bytes(), "measure")
                .attr("sensor.name", "boiler")
                .attr("celsius", 21.5)
                .attr("attempt", 1)
                .times(number..number + span)
                .end();
        }
        let outcome = exporter.export(batch.finish()).wait()?;
        if outcome.delivered() != SPANS {
            return Err(format!("batch {number}: {} delivered", outcome.delivered()).into());
        }
    }
    report("peak")
}

/// The memory of the process now and at most so far, in KiB.
fn report(when: &str) -> Result<(), Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let value = |name: &str| -> Option<&str> {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)
    };
    let resident = value("VmRSS:").ok_or("no VmRSS")?;
    let peak = value("VmHWM:").ok_or("no VmHWM")?;
    println!("{when} {resident} {peak}");
    Ok(())
}
