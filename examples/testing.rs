//! The test of a program that exports: on a simulated network, an outage of half a minute is over in milliseconds.
//!
//! ```sh
//! cargo run --example testing [URL]
//! cargo test --example testing
//! ```
//!
//! The program under test is `shop`. It knows no runtime: here it runs on [`Network`], with a collector in memory and a
//! clock that moves when everybody waits; elsewhere on tokio, or whatever it likes. The URL, which is that of the
//! simulated collector, changes nothing; it shows that names and addresses are part of the simulation.

#[path = "support/terminal.rs"]
mod terminal;

use otlp_embed::endpoint::{Endpoint, Host};
use otlp_embed::rt::Runtime;
use otlp_embed::testing::collector::Accepting;
use otlp_embed::testing::{Collector, Network};
use otlp_embed::{Config, Exporter, Protocol, Report, Request, Resource, TraceBatch};
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::time::Duration;
use terminal::{exit_code, say};

const SECOND: Duration = Duration::from_secs(1);
/// Seconds that the shop is open, each of which ends in a batch.
const BATCHES: u64 = 60;
const SPANS: u64 = 100;

/// The program under test: exports what happened, once a second, and closes in order.
async fn shop<R: Runtime>(exporter: Exporter<R>, wait: impl AsyncFn(Duration)) -> Report {
    let mut exports = Vec::new();
    for number in 0..BATCHES {
        exports.push(exporter.export(batch(number)));
        wait(SECOND).await;
    }
    for export in exports {
        // What was lost is in the report.
        let _ = export.await;
    }
    exporter.shutdown(SECOND).await
}

fn batch(number: u64) -> Request {
    let mut batch = TraceBatch::new(&Resource::builder().attr("service.name", "shop").build());
    batch.scope("shop", "1.0");
    for span in 1..=SPANS {
        let span_id = (number * SPANS + span).to_be_bytes();
        let trace_id = u128::from(number + 1).to_be_bytes();
        batch.span(trace_id, span_id, "checkout").end();
    }
    batch.finish()
}

/// What a test looks at.
struct Day {
    report: Report,
    /// The spans that the collector received, some of them perhaps twice.
    received: Vec<Vec<u8>>,
    /// Time that passed for the shop.
    took: Duration,
}

/// A day on which the collector is away for `outage`. The seed decides what is left to chance, and nothing else does.
fn simulate(seed: u64, url: &str, outage: Duration) -> Result<Day, Box<dyn Error>> {
    let network = Network::new(seed);
    let config = Config::new()
        .with_protocol(Protocol::Grpc)
        .with_endpoint(url)
        // Longer than any outage that this shop wants to survive.
        .with_timeout(120 * SECOND);
    let exporter = config.build(network.clone())?;

    let endpoint = Endpoint::parse_grpc(url)?;
    let ip = match endpoint.host() {
        Host::Ip(ip) => *ip,
        Host::Name(name) => {
            let ip = IpAddr::from(Ipv4Addr::new(10, 0, 0, 1));
            network.set_name(name, [ip]);
            ip
        }
        Host::Unix(_) => return Err("a simulated network has no Unix domain sockets".into()),
    };
    let collector = network.listen((ip, endpoint.port()), Collector::builder());

    // As with any executor: a task for the upkeep of the connections, one for the program.
    network.spawn(exporter.driver());
    let begin = network.clock().now();
    let report = network.block_on(async {
        let clock = network.clock().clone();
        let shop = network.spawn(shop(exporter, async move |duration| clock.sleep(duration).await));

        network.clock().sleep(10 * SECOND).await;
        collector.set_accepting(Accepting::Refuse);
        collector.kill_connections();
        network.clock().sleep(outage).await;
        collector.set_accepting(Accepting::Serve);

        shop.await
    });
    Ok(Day {
        report,
        received: collector.spans().into_iter().map(|span| span.span_id).collect(),
        took: network.clock().now() - begin,
    })
}

fn main() -> ExitCode {
    exit_code(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(|argument| argument.into_string());
    let url = match (arguments.next(), arguments.next()) {
        (None, _) => "http://collector.shop:4317".into(),
        (Some(Ok(url)), None) if !url.starts_with('-') => url,
        _ => return Err("takes one argument at most, the URL of the simulated collector".into()),
    };
    let mut day = simulate(1, &url, 30 * SECOND)?;
    say(format_args!(
        "{:?} for the shop, no time at all for you",
        day.took
    ));
    say(format_args!("Account: {}", day.report));
    day.received.sort();
    day.received.dedup();
    let (arrived, sent) = (day.received.len() as u64, BATCHES * SPANS);
    if arrived != sent || day.report.stats.delivered != sent {
        return Err(format!("{arrived} of {sent} spans arrived").into());
    }
    say(format_args!("The collector received each of the {sent} spans"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "http://10.0.0.1:4317";

    #[test]
    fn an_outage_of_half_a_minute_loses_nothing() {
        for seed in 0..20 {
            let mut day = simulate(seed, URL, 30 * SECOND).expect("the settings work");
            day.received.sort();
            day.received.dedup();
            let sent: Vec<_> = (1..=BATCHES * SPANS)
                .map(|id| id.to_be_bytes().to_vec())
                .collect();
            assert_eq!(day.received, sent, "seed {seed}");
            assert_eq!(day.report.stats.delivered, BATCHES * SPANS, "seed {seed}");
        }
    }

    #[test]
    fn an_outage_longer_than_the_timeout_is_accounted_for() {
        let day = simulate(1, URL, 200 * SECOND).expect("the settings work");
        let stats = day.report.stats;
        assert!(
            stats.is_conserved() && stats.delivered < BATCHES * SPANS,
            "{stats:?}"
        );
        assert!(
            day.took < 250 * SECOND,
            "no export outlives its timeout: {:?}",
            day.took
        );
    }

    #[test]
    fn the_same_seed_gives_the_same_day() {
        let [one, other] = [7, 7].map(|seed| simulate(seed, URL, 30 * SECOND).expect("it works"));
        assert_eq!(one.received, other.received);
        assert_eq!((one.report, one.took), (other.report, other.took));
    }
}
