//! Exports one workload in every way there is, and prints a table of what each comes to:
//!
//! ```text
//! cargo run --release -p otlp-embed-benches --bin modes
//! ```
//!
//! `--spans`, `--batch`, `--in-flight`, `--rounds` and `--ways sync,async` change the run; `--smoke` makes it small. Each
//! way runs in a process of its own, whose memory is what the table says; all talk to `testing::Collector` in another
//! process. A run in which a span is lost, doubled or not accounted for fails.

use otlp_embed_benches::modes::host::{Peer, run_worker};
use otlp_embed_benches::modes::measure::Figures;
use otlp_embed_benches::modes::peer;
use otlp_embed_benches::modes::settings::Settings;
use otlp_embed_benches::modes::ways::{Result, WAYS, Way};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).peekable();
    match arguments.peek().map(String::as_str) {
        Some("peer") => Ok(peer::serve(None)?),
        Some("worker") => work(arguments.skip(1)),
        _ => compare(&Settings::parse(arguments)?),
    }
}

/// Goes one way, as another process asked: its name, the address, the settings.
fn work(mut arguments: impl Iterator<Item = String>) -> Result<()> {
    let (name, address) = (arguments.next(), arguments.next());
    let way = WAYS.iter().find(|way| Some(way.name) == name.as_deref());
    let way = way.ok_or("the name of a way is needed")?;
    let address = address.ok_or("the address of the peer is needed")?;
    let measured = (way.run)(&address, &Settings::parse(arguments)?)?;
    println!("{}", Figures::from(&measured.with_process()));
    Ok(())
}

/// Goes every way and prints the table.
fn compare(settings: &Settings) -> Result<()> {
    for name in &settings.ways {
        if !WAYS.iter().any(|way| way.name == name) {
            return Err(format!("--ways {name}: there is no such way").into());
        }
    }
    let is_asked = |way: &&Way| settings.ways.is_empty() || settings.ways.iter().any(|name| name == way.name);
    let mut rows = Vec::new();
    for way in WAYS.iter().filter(is_asked) {
        let rounds: Vec<_> = (0..settings.rounds)
            .map(|_| go(way, settings))
            .collect::<Result<_>>()?;
        // The noise of a shared machine only ever takes away.
        let best = rounds.into_iter().max_by_key(|(figures, _)| rate(figures));
        rows.push((way, best.ok_or("no round was asked for")?));
    }
    print(settings, &rows);
    Ok(())
}

/// Goes one way and checks that the peer has received what was sent. Returns the worker's figures and the nanoseconds
/// that the peer's processor took for a span.
fn go(way: &Way, settings: &Settings) -> Result<(Figures, u64)> {
    let mut peer = Peer::start(None)?;
    let before = peer.ask("counters")?;
    let address = if way.is_raw { &peer.raw } else { &peer.endpoint };
    let mut arguments = vec![way.name.to_owned(), address.clone()];
    arguments.extend(settings.arguments());
    let figures = run_worker(&arguments)?;
    let after = peer.ask("counters")?;
    let sent = figures.of("spans") + figures.of("warm_up");
    let expect = |what: &str, expected: u64, found: u64| {
        if found == expected {
            return Ok(());
        }
        Err(format!(
            "{}: {expected} {what} were expected and the peer has {found}",
            way.name
        ))
    };
    expect("spans in the worker", settings.spans, figures.of("spans"))?;
    if way.is_raw {
        let received = after.of("raw_bytes");
        if received < figures.of("bytes") {
            expect("bytes", figures.of("bytes"), received)?;
        }
    } else {
        expect("spans", sent, after.of("spans"))?;
        expect("accepted spans", sent, after.of("spans_accepted"))?;
        expect("invalid calls", 0, after.of("calls_invalid"))?;
        expect("cancelled calls", 0, after.of("calls_cancelled"))?;
    }
    let peer_ns = (after.of("cpu_us") - before.of("cpu_us")) * 1_000 / sent;
    Ok((figures, peer_ns))
}

/// Spans a second.
fn rate(figures: &Figures) -> u64 {
    figures.of("spans") * 1_000_000 / figures.of("elapsed_us").max(1)
}

fn print(settings: &Settings, rows: &[(&Way, (Figures, u64))]) {
    let Settings {
        spans,
        batch,
        in_flight,
        rounds,
        ..
    } = settings;
    let bytes = rows
        .first()
        .map_or(0, |(_, (figures, _))| figures.of("bytes") / spans);
    println!(
        "{spans} spans of {bytes} bytes (six attributes, ids of their own), {batch} a request, {in_flight} requests under \
         way at a time; writing the spans is part of the time. gRPC on loopback, without TLS and compression, to \
         `testing::Collector` in another process, which reads every message whole, checks it and counts its spans. Best \
         of {rounds}.\n"
    );
    println!(
        "| way | spans/s | MB/s | p50 ms | p95 ms | p99 ms | peak MB | exporter's CPU ns/span | peer's CPU ns/span |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|");
    for (way, (figures, peer_ns)) in rows {
        let elapsed_us = figures.of("elapsed_us").max(1);
        let ms = |name| figures.of(name) as f64 / 1_000.0;
        println!(
            "| {} | {} | {:.0} | {:.2} | {:.2} | {:.2} | {:.1} | {} | {} |",
            way.about,
            grouped(rate(figures)),
            figures.of("bytes") as f64 / elapsed_us as f64,
            ms("p50_us"),
            ms("p95_us"),
            ms("p99_us"),
            figures.of("peak_kib") as f64 / 1_024.0,
            figures.of("cpu_us") * 1_000 / figures.of("spans"),
            peer_ns,
        );
    }
}

/// A number with commas between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
