//! Exports the telemetry of an online shop, spans, metrics and logs, and shows what became of it.
//!
//! ```sh
//! cargo run --release --example quickstart -- [--protocol PROTOCOL] [--endpoint URL] [--timeout SECONDS]
//! ```
//!
//! Without `--endpoint` it starts a collector in this process and compares what was sent with what arrived. It ends with
//! exit code 0 only when every item was delivered.

mod support;

use clap::{Arg, ArgMatches, Command, builder::PossibleValuesParser, value_parser};
use otlp_embed::rt::Smol;
use otlp_embed::testing::Collector;
use otlp_embed::testing::collector::ReceivedRequest;
use otlp_embed::{Config, Error, ExportState, OtlpExportFuture, Outcome, Protocol, Request, Signal};
use smol::future::zip;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use support::table::Table;
use support::terminal::{exit_code, say};
use support::{logs, metrics, received, shop, traces};

const ORDERS: usize = 16;
const SEED: u64 = 1;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    exit_code(run(&command().get_matches()))
}

fn command() -> Command {
    Command::new("quickstart")
        .about("Exports spans, metrics and logs of an online shop and shows what became of them")
        .arg(
            Arg::new("endpoint")
                .long("endpoint")
                .value_name("URL")
                .help("The OTLP collector to export to; one in this process unless set"),
        )
        .arg(
            Arg::new("protocol")
                .long("protocol")
                .value_name("PROTOCOL")
                .value_parser(PossibleValuesParser::new(["grpc", "http/protobuf", "http/json"]))
                .default_value("http/protobuf")
                .help("How to speak to it: grpc, http/protobuf or http/json"),
        )
        .arg(
            Arg::new("timeout")
                .long("timeout")
                .value_name("SECONDS")
                .value_parser(value_parser!(u64).range(1..=3600))
                .default_value("10")
                .help("The time of each export, retries included"),
        )
}

fn run(arguments: &ArgMatches) -> Result<(), Failure> {
    let spans = shop::orders(ORDERS, a_minute_ago()?, SEED);
    let mut sent = Table::default();
    let requests = [
        traces::encode(&spans),
        metrics::encode(&spans),
        logs::encode(&spans),
    ]
    .map(|(request, table)| {
        sent.append(table);
        request
    });

    let seconds = arguments.get_one("timeout").copied().unwrap_or(10);
    let protocol = match arguments.get_one::<String>("protocol").map(String::as_str) {
        Some("grpc") => Protocol::Grpc,
        Some("http/json") => Protocol::HttpJson,
        _ => Protocol::HttpProtobuf,
    };
    let config = Config::new()
        .with_protocol(protocol)
        .with_timeout(Duration::from_secs(seconds));
    match arguments.get_one::<String>("endpoint") {
        Some(endpoint) => to_users_collector(config, endpoint, requests, &sent),
        None => to_own_collector(config, requests, &sent),
    }
}

/// Exports to a collector in this process, and looks into it.
fn to_own_collector(config: Config, requests: [Request; 3], sent: &Table) -> Result<(), Failure> {
    // Over HTTP/2, windows smaller than a request, so that it cannot be sent in one go.
    let collector = Collector::builder().initial_window_size(32 << 10).start()?;
    let copies = requests.clone();
    export(config, &collector.endpoint(), requests)?;
    let received = received::table(&collector);
    say(format_args!("\nReceived by the collector:\n\n{received}"));
    if received != *sent {
        return Err(format!("what arrived is not what was sent:\n\n{sent}").into());
    }
    for request in copies {
        let same = |received: &ReceivedRequest| {
            request.signal() == received.signal
                && request.segments().flatten().eq(received.message.iter().copied())
        };
        if !collector.requests().iter().any(same) {
            return Err(format!("{:?} arrived with other bytes", request.signal()).into());
        }
    }
    say("What arrived is what was sent, to the byte.");
    Ok(())
}

/// Exports to a collector that only its answers are known of.
fn to_users_collector(
    config: Config,
    endpoint: &str,
    requests: [Request; 3],
    sent: &Table,
) -> Result<(), Failure> {
    export(config, endpoint, requests)?;
    say(format_args!("\nSent to the collector:\n\n{sent}"));
    say("The collector accepted every item.");
    Ok(())
}

/// Exports the requests of the three signals at the same time; fails unless every item was delivered.
fn export(config: Config, endpoint: &str, requests: [Request; 3]) -> Result<(), Failure> {
    let exporter = config.with_endpoint(endpoint).build(Smol::new())?;
    say(format_args!("Exporting to {endpoint}"));
    let items: u64 = requests.iter().map(Request::items).sum();
    let exports = requests.map(|request| {
        let signal = request.signal();
        let (items, bytes) = (request.items(), request.encoded_len());
        say(format_args!("  {signal:?}: {items} items in {bytes} bytes"));
        // It is accepted and its time runs.
        (signal, exporter.export(request))
    });
    let [a, b, c] = exports.map(|(signal, export)| watch(signal, export));
    let verdicts = smol::block_on(zip(a, zip(b, c)));
    for (signal, verdict) in [verdicts.0, verdicts.1.0, verdicts.1.1] {
        match verdict {
            Ok(outcome) => say(format_args!("{signal:?}: {outcome}")),
            Err(error) => say(format_args!("{signal:?}: {error}")),
        }
    }
    let report = smol::block_on(exporter.shutdown(Duration::from_secs(5)));
    say(format_args!("Account: {report}"));
    let delivered = report.stats.delivered;
    if delivered != items {
        return Err(format!("{delivered} of {items} items were delivered").into());
    }
    Ok(())
}

/// Awaits an export; after every poll it looks where the export is.
async fn watch(signal: Signal, export: OtlpExportFuture<Smol>) -> (Signal, Result<Outcome, Error>) {
    let mut export = pin!(export);
    let mut shown = None;
    let mut show = |state: ExportState| {
        if shown.replace(state) != Some(state) {
            say(format_args!("  {signal:?}: {state:?}"));
        }
    };
    show(export.state());
    let verdict = poll_fn(|cx| {
        let verdict = export.as_mut().poll(cx);
        show(export.state());
        verdict
    })
    .await;
    (signal, verdict)
}

/// Nanoseconds from the Unix epoch to the first order, so that the last one has just come to its end.
#[allow(
    clippy::disallowed_methods,
    reason = "an application asks for the time itself"
)]
fn a_minute_ago() -> Result<u64, Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let start = now.saturating_sub(Duration::from_secs(60));
    Ok(u64::try_from(start.as_nanos())?)
}
