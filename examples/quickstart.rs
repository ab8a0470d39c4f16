//! Exports the traces of an online shop and shows what became of them.
//!
//! Without arguments it starts a collector in this process, exports several hundred spans to it, and compares what was
//! sent with what arrived. With `--endpoint URL` the spans go to a collector of yours.

mod support;

use clap::{Arg, ArgMatches, Command, value_parser};
use otlp_embed::rt::Smol;
use otlp_embed::testing::Collector;
use otlp_embed::{Config, ExportState, OtlpExportFuture, Outcome, Request};
use std::error::Error;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use support::encode::encode;
use support::shop;
use support::table::Table;
use support::terminal::{exit_code, say};

const ORDERS: usize = 16;
const SEED: u64 = 1;

fn main() -> ExitCode {
    exit_code(run(&command().get_matches()))
}

fn command() -> Command {
    Command::new("quickstart")
        .about("Exports the traces of an online shop and shows what became of them")
        .arg(
            Arg::new("endpoint")
                .long("endpoint")
                .value_name("URL")
                .help("The OTLP/gRPC collector to export to; one in this process unless set"),
        )
        .arg(
            Arg::new("timeout")
                .long("timeout")
                .value_name("SECONDS")
                .value_parser(value_parser!(u64).range(1..=3600))
                .default_value("10")
                .help("The time of the export, retries included"),
        )
}

fn run(arguments: &ArgMatches) -> Result<(), Box<dyn Error>> {
    let spans = shop::orders(ORDERS, a_minute_ago()?, SEED);
    let (request, sent) = encode(&spans);
    let seconds = arguments.get_one("timeout").copied().unwrap_or(10);
    let config = Config::new()
        .with_protocol(otlp_embed::Protocol::Grpc)
        .with_timeout(Duration::from_secs(seconds));
    match arguments.get_one::<String>("endpoint") {
        Some(endpoint) => to_users_collector(config, endpoint, request, &sent),
        None => to_own_collector(config, request),
    }
}

/// Exports to a collector in this process, and looks into it.
fn to_own_collector(config: Config, request: Request) -> Result<(), Box<dyn Error>> {
    // Windows smaller than the request, so that it cannot be sent in one go.
    let collector = Collector::builder().initial_window_size(32 << 10).start()?;
    let items = request.items();
    let outcome = export(config, &collector.endpoint(), request)?;

    let received = collector.spans();
    let mut table = Table::default();
    for span in &received {
        table.add(
            span.service_name(),
            &span.scope.name,
            span.kind,
            span.is_error(),
            span.encoded_len,
        );
    }
    say(format_args!("\nReceived by the collector:\n\n{table}"));
    say(format_args!("Outcome: {outcome}"));
    say(format_args!("Spans sent: {items}, received: {}", received.len()));
    if received.len() as u64 != items || outcome.delivered() != items {
        return Err("what was sent and what was received are not the same".into());
    }
    Ok(())
}

/// Exports to a collector that only its answer is known of.
fn to_users_collector(
    config: Config,
    endpoint: &str,
    request: Request,
    sent: &Table,
) -> Result<(), Box<dyn Error>> {
    let items = request.items();
    let outcome = export(config, endpoint, request)?;
    say(format_args!("\nSent to the collector:\n\n{sent}"));
    say(format_args!("Outcome: {outcome}"));
    say(format_args!(
        "Spans sent: {items}, accepted: {}",
        outcome.delivered()
    ));
    if outcome.delivered() != items {
        return Err("the collector did not accept every span".into());
    }
    Ok(())
}

/// Exports a request and prints the states on the way.
fn export(config: Config, endpoint: &str, request: Request) -> Result<Outcome, otlp_embed::Error> {
    let exporter = config.with_endpoint(endpoint).build(Smol::new())?;
    let (spans, bytes) = (request.items(), request.encoded_len());
    say(format_args!(
        "Exporting {spans} spans in {bytes} bytes to {endpoint}"
    ));
    smol::block_on(watch(exporter.export(request)))
}

/// Awaits an export; after every poll it looks where the export is.
async fn watch(export: OtlpExportFuture<Smol>) -> Result<Outcome, otlp_embed::Error> {
    let mut export = pin!(export);
    let mut shown = None;
    let mut show = |state: ExportState| {
        if shown.replace(state) != Some(state) {
            say(format_args!("  {state:?}"));
        }
    };
    show(export.state());
    poll_fn(|cx| {
        let verdict = export.as_mut().poll(cx);
        show(export.state());
        verdict
    })
    .await
}

/// Nanoseconds from the Unix epoch to the first order, so that the last one has just come to its end.
#[allow(
    clippy::disallowed_methods,
    reason = "an application asks for the time itself"
)]
fn a_minute_ago() -> Result<u64, Box<dyn Error>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let start = now.saturating_sub(Duration::from_secs(60));
    Ok(u64::try_from(start.as_nanos())?)
}
