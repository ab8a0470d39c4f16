//! Runs a whole program of the README by its name, as a process of its own: `otlp-embed-readme tokio`. So does
//! `otlp-embed-readme environment` with the function that reads variables, since a process has one set of them.

use otlp_embed::{Resource, TraceBatch};
use otlp_embed_readme::blocks;
use std::error::Error;
use std::process::ExitCode;

fn main() -> ExitCode {
    let name = std::env::args().nth(1).unwrap_or_default();
    let ran = match &*name {
        "environment" => environment().map(|()| true),
        name => blocks::run(name),
    };
    match ran {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("{name:?} is no whole program of the README");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn environment() -> Result<(), Box<dyn Error>> {
    let exporter = blocks::environment_variables::from_the_environment()?;
    let mut batch = TraceBatch::new(&Resource::from_env());
    batch.span([1; 16], [2; 8], "checkout").end();
    exporter.export(batch.finish()).wait()?;
    Ok(())
}
