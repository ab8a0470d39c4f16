//! Sends traces through one adapter of otlp-embed and lists what it sent and what became of it.
//!
//! It is the driver of the interop suite, `tests/interop/run`; the manifest's form stands in `verify.py`.

mod adapters;
mod custom;
mod deliver;
mod manifest;
mod options;
mod plan;
mod sdk;

use manifest::Manifest;
use options::{Options, USAGE};
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("interop: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("interop: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    let manifest = Manifest::create(&options.manifest)?;
    if let Some(how) = options.deliver {
        deliver::deliver(options, how, &manifest)?;
        return Ok(manifest.close()?);
    }
    if let Some(how) = options.sdk {
        sdk::run(options, how, &manifest).map_err(|error| error.to_string())?;
        return Ok(manifest.close()?);
    }
    let stats = adapters::send(options, &manifest)?;
    manifest.close()?;
    if !stats.is_conserved() || stats.in_flight != 0 {
        return Err(format!("the account does not balance: {stats:?}").into());
    }
    eprintln!("{stats:?}");
    Ok(())
}
