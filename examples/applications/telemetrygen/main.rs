//! Generates traces, metrics or logs, sends them over OTLP, and accounts for every item.
//!
//! ```sh
//! cargo run --release --example telemetrygen -- traces --otlp-endpoint http://localhost:4317 --traces 1000
//! cargo run --release --example telemetrygen -- logs --otlp-http --duration 10s --rate 500 --workers 4 --runtime smol
//! ```
//!
//! Its arguments are those of the tool of this name that people know from the OpenTelemetry Collector, with a few beside: `--help`
//! tells. Without `--otlp-endpoint` the `OTEL_EXPORTER_OTLP_…` variables say where to, and a collector on this machine is
//! taken where they say nothing.
//!
//! It ends with the account (generated = delivered + rejected + dropped + unknown), quantiles of the exports' latency,
//! connections and retries. The exit code is 0 when all that was generated was delivered, 1 when it was not or could not be, 2 for
//! arguments that cannot be parsed. Ctrl-C ends the generating; what is under way has its deadline, and the account is
//! printed. A second one ends the program at once.

mod args;
mod load;
mod progress;
mod report;
mod runtimes;

use args::Plan;
use load::Load;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

/// What ends the program with one sentence.
type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    let plan = match Plan::from_args() {
        Ok(plan) => plan,
        // Help comes this way as well.
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match run(plan) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "telemetrygen: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Generates, and tells whether everything was delivered.
fn run(plan: Plan) -> Result<bool> {
    let config = plan.config()?;
    // What cannot be understood of the environment; what cannot be done without ends the program before.
    let refused: Vec<String> = config.report().refused().map(String::from).collect();
    let load = Arc::new(Load::new(plan));
    let interrupted = load.clone();
    ctrlc::set_handler(move || {
        if interrupted.interrupt() {
            // Asked a second time: now.
            std::process::exit(130);
        }
    })?;
    let ended = runtimes::run(&load, config)?;
    for variable in refused {
        let _ = writeln!(io::stderr(), "telemetrygen: passed over: {variable}");
    }
    let report = report::Report::new(&load, ended);
    report.print(load.plan.report);
    Ok(report.is_delivered())
}
