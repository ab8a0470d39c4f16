//! An HTTP service under load, instrumented with the OpenTelemetry SDK, whose collector dies and returns; at the end nothing is
//! missing.
//!
//! ```sh
//! cargo run --example microservice -- [--seconds 12] [--rate 150] [--outage 4..8] [--endpoint URL]
//! ```
//!
//! A shop with several routes asks a stock service, over HTTP with W3C trace context; both run on tokio. Spans, log records
//! and metrics go through one pipeline, which has a thread of its own. Once a second a line tells how it goes. The account at
//! the end compares what the application made, counted where it was made, with what the pipeline says and, unless another
//! collector was named, with what the collector received, item by item. The exit code is 0 only when it closes and nothing was
//! lost. Ctrl-C ends the load, and the account comes as well.

mod account;
mod http;
mod load;
mod service;
mod stock;
mod story;
mod telemetry;
mod watch;

use clap::{Arg, Command, value_parser};
use load::Load;
use otlp_embed::testing::Collector;
use std::io::{self, Write};
use std::ops::Range;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use telemetry::Telemetry;

/// What ends the program with one sentence.
type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Time to deliver what is left at the end, an outage that lasts until then included.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "microservice: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints a line; whether anybody reads it does not matter.
fn say(line: impl std::fmt::Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

fn run() -> Result<()> {
    let matches = command().get_matches();
    let seconds = matches.get_one::<u64>("seconds").copied().unwrap_or(12);
    let rate = matches.get_one::<u64>("rate").copied().unwrap_or(150);
    let outage = matches.get_one::<Range<u64>>("outage").cloned();
    let collector = match matches.get_one::<String>("endpoint") {
        Some(_) => None,
        None => Some(Arc::new(Collector::start()?)),
    };
    let endpoint = match (&collector, matches.get_one::<String>("endpoint")) {
        (Some(collector), _) => collector.endpoint(),
        (None, named) => named.cloned().unwrap_or_default(),
    };
    let telemetry = Arc::new(Telemetry::start(&endpoint)?);
    let is_over = Arc::new(AtomicBool::new(false));
    let interrupted = is_over.clone();
    ctrlc::set_handler(move || interrupted.store(true, Ordering::Relaxed))?;

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let made = runtime.block_on(async {
        let stock = stock::start(telemetry.clone()).await?;
        let shop = service::start(telemetry.clone(), stock).await?;
        say(format_args!(
            "shop on {shop}, stock on {stock}, telemetry to {endpoint}: {rate} requests/s for {seconds} s"
        ));
        let load = Arc::new(Load::new(shop, rate, Duration::from_secs(seconds), is_over));
        let story = collector.clone().map(|collector| {
            let outage = outage.unwrap_or(seconds / 3..seconds * 2 / 3);
            tokio::spawn(story::tell(collector, outage))
        });
        let watch = tokio::spawn(watch::tell(telemetry.clone(), load.clone()));
        let made = load.run().await;
        watch.abort();
        // An outage that was to last longer than the load is over with it.
        if let (Some(story), Some(collector)) = (story.filter(|story| !story.is_finished()), &collector) {
            story.abort();
            story::recover(collector)?;
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(made)
    })?;
    // Requests under way are answered, and their spans ended, before the providers are.
    runtime.shutdown_timeout(Duration::from_secs(5));
    let report = telemetry.shutdown(PATIENCE)?;
    account::close(&telemetry, &report, &made, collector.as_deref())
}

fn command() -> Command {
    let number = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name("N")
            .value_parser(value_parser!(u64).range(1..=100_000))
            .help(help)
    };
    Command::new("microservice")
        .about("An instrumented HTTP service under load, whose collector dies and returns")
        .arg(number("seconds", "For how long there is load").default_value("12"))
        .arg(number("rate", "Requests a second").default_value("150"))
        .arg(
            Arg::new("outage")
                .long("outage")
                .value_name("FROM..TO")
                .value_parser(outage)
                .help("When the collector of this process is gone, in seconds; the middle third unless set"),
        )
        .arg(
            Arg::new("endpoint")
                .long("endpoint")
                .value_name("URL")
                .conflicts_with("outage")
                .help("The OTLP/HTTP collector to export to; one in this process unless set"),
        )
}

fn outage(text: &str) -> Result<Range<u64>, String> {
    let seconds = text
        .split_once("..")
        .and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    match seconds {
        Some((from, to)) if from < to => Ok(from..to),
        _ => Err("an outage is FROM..TO in seconds, as 4..8".into()),
    }
}
