//! Eight threads write many times what the collector takes into one pipeline, under each overflow policy:
//!
//! ```text
//! cargo run --release -p otlp-embed-benches --bin flood
//! ```
//!
//! It prints what became of every span, how long a write took at worst, and the peak memory of the process, each policy in a
//! process of its own. A run fails where a span is not accounted for: what the producers were told, what the pipeline
//! says and what the collector, in another process, received must agree, and memory must stay within its bounds.
//!
//! A thread that is kept from the processor in the middle of a write seems to have waited. How long that takes without any
//! write is measured beside it, by the same threads at the same time: two readings of the clock with nothing between them.
//! How often a producer gave its processor away by itself, as whoever waits does, the system counts.
//!
//! `--seconds`, `--threads`, `--pace-ms` (how long the collector takes for an answer) and `--queue-mib` change the run;
//! `--smoke` makes it short, `--adaptive` lets the size of batches adapt, which it does not otherwise.

use otlp_embed::pipeline::{Overflow, Pipeline, PipelineConfig, PipelineStats, QueueConfig};
use otlp_embed::policy::AdaptiveBatchConfig;
use otlp_embed::{Config, DropReason, Protocol, rt};
use otlp_embed_benches::modes::histogram::Histogram;
use otlp_embed_benches::modes::host::{Peer, run_worker};
use otlp_embed_benches::modes::measure::Figures;
use otlp_embed_benches::modes::ways::Result;
use otlp_embed_benches::modes::workload::{resource, write_span};
use otlp_embed_benches::modes::{peer, process};
use otlp_embed_benches::timing::now;
use std::time::Duration;

/// Sizes of a run.
#[derive(Clone, Debug)]
struct Settings {
    seconds_ms: u64,
    threads: u64,
    pace_ms: u64,
    queue_mib: u64,
    is_adaptive: bool,
}

/// The policies, by their names on the command line.
const POLICIES: [(&str, Overflow); 3] = [
    ("DropNewest", Overflow::DropNewest),
    ("DropOldest", Overflow::DropOldest),
    ("Block", Overflow::Block),
];

/// Calls that the collector takes at a time.
const STREAMS: u32 = 2;
/// Time to settle what is queued at the end.
const PATIENCE: Duration = Duration::from_secs(120);
/// What a process may need beside the bytes of its queue: the program, its threads, its connection, memory in use again.
const BESIDE_MIB: u64 = 24;
/// Times what the collector took that the producers of a full run have to offer where they are not held back.
const FLOOD: u64 = 10;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).peekable();
    match arguments.peek().map(String::as_str) {
        Some("peer") => Ok(peer::serve(Some(STREAMS))?),
        Some("worker") => work(arguments.skip(1)),
        _ => compare(arguments),
    }
}

fn compare(arguments: impl Iterator<Item = String>) -> Result<()> {
    let arguments: Vec<_> = arguments.collect();
    let is_smoke = arguments.iter().any(|name| name == "--smoke");
    let settings = Settings::parse(arguments.into_iter())?;
    println!(
        "{} threads, each writing spans of about 310 bytes one by one as fast as it can for {} s; a queue of {} MiB; a \
         collector in another process that takes {STREAMS} calls at a time and {} ms for each.\n",
        settings.threads,
        settings.seconds_ms as f64 / 1e3,
        settings.queue_mib,
        settings.pace_ms
    );
    println!(
        "| policy | offered | offered/s | offered : delivered | delivered | dropped: queue full | dropped: evicted | lost \
         otherwise | write p50 µs | p99.9 µs | worst ms | waits/M writes | no write p99.9 µs | worst ms | batch | in flight | peak MB |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    for (name, overflow) in POLICIES {
        let figures = flood(name, &settings)?;
        let flooded = figures.of("offered") >= FLOOD * figures.of("delivered_in_time");
        if overflow != Overflow::Block && !is_smoke && !flooded {
            return Err(format!("{name}: that was no flood: {figures}").into());
        }
        print(name, &settings, &figures);
    }
    Ok(())
}

/// Floods under one policy, and checks the account against what the collector has.
fn flood(name: &str, settings: &Settings) -> Result<Figures> {
    let mut peer = Peer::start(Some(STREAMS))?;
    peer.ask(&format!("pace {}", settings.pace_ms * 1_000))?;
    let mut arguments = vec![name.to_owned(), peer.endpoint.clone()];
    arguments.extend(settings.arguments());
    let figures = run_worker(&arguments)?;
    let received = peer.ask("counters")?;
    for counted in ["spans", "spans_accepted"] {
        if received.of(counted) != figures.of("delivered") {
            return Err(
                format!("{name}: the collector has {received}, and the pipeline says {figures}").into(),
            );
        }
    }
    let peak_max = (settings.queue_mib + BESIDE_MIB) << 10;
    if figures.of("peak_kib") > peak_max {
        return Err(format!("{name}: more than {peak_max} KiB of memory: {figures}").into());
    }
    Ok(figures)
}

fn print(name: &str, settings: &Settings, figures: &Figures) {
    let of = |name| figures.of(name);
    let micros = |name| of(name) as f64 / 1e3;
    let millis = |name| of(name) as f64 / 1e6;
    println!(
        "| `{name}` | {} | {} | {:.1} | {} | {} | {} | {} | {:.2} | {:.1} | {:.2} | {:.1} | {:.1} | {:.2} | {} | {} | {:.1} |",
        of("offered"),
        of("offered") * 1_000 / settings.seconds_ms,
        of("offered") as f64 / of("delivered_in_time").max(1) as f64,
        of("delivered"),
        of("queue_full"),
        of("evicted"),
        of("lost_otherwise"),
        micros("write_p50_ns"),
        micros("write_p999_ns"),
        millis("write_worst_ns"),
        of("waits") as f64 * 1e6 / of("offered") as f64,
        micros("idle_p999_ns"),
        millis("idle_worst_ns"),
        of("batch"),
        of("in_flight"),
        of("peak_kib") as f64 / 1_024.0,
    );
}

/// What one producer saw.
#[derive(Default)]
struct Seen {
    offered: u64,
    dropped: u64,
    waits: u64,
    writes: Histogram,
    idle: Histogram,
}

/// Floods a pipeline, as another process asked.
fn work(mut arguments: impl Iterator<Item = String>) -> Result<()> {
    let (name, endpoint) = (arguments.next(), arguments.next());
    let policy = POLICIES.iter().find(|(known, _)| Some(*known) == name.as_deref());
    let (_, overflow) = policy.ok_or("the name of a policy is needed")?;
    let settings = Settings::parse(arguments)?;
    let exporter = Config::new()
        .with_protocol(Protocol::Grpc)
        .with_endpoint(endpoint.ok_or("the URL of the collector is needed")?)
        .build(rt::Blocking::new()?)?;
    let queue = QueueConfig::new()
        .with_overflow(*overflow)
        .with_bytes_max((settings.queue_mib << 20) as usize);
    // Batches that adapt to the latency of an overloaded collector would be another measurement.
    let batch = AdaptiveBatchConfig::new().with_adaptive_enabled(settings.is_adaptive);
    let config = PipelineConfig::new()
        .with_resource(&resource())
        .with_queue(queue)
        .with_batch(batch);
    let (pipeline, future) = exporter.pipeline(config)?;
    let thread = future.run_on_thread()?;
    let producers: Vec<_> = (0..settings.threads)
        .map(|number| {
            let (pipeline, settings) = (pipeline.clone(), settings.clone());
            std::thread::spawn(move || produce(&pipeline, number << 40, &settings))
        })
        .collect();
    let mut seen = Seen::default();
    for producer in producers {
        seen.add(&producer.join().map_err(|_| "a producer panicked")??);
    }
    let in_time = pipeline.stats();
    let flushed = pipeline.flush_blocking(PATIENCE)?;
    let stats = pipeline.stats();
    check(*overflow, &seen, &stats).map_err(|what| format!("{what}: {flushed:?}, {stats:?}"))?;
    pipeline.shutdown_blocking(PATIENCE);
    thread.join()?;
    let total = &stats.total;
    let leg = in_time.legs.first().ok_or("a pipeline has a leg")?;
    let in_flight = leg
        .endpoints
        .first()
        .map_or(0, |endpoint| endpoint.concurrency_limit);
    let (queue_full, evicted) = (
        total.dropped_for(DropReason::QueueFull),
        total.dropped_for(DropReason::Evicted),
    );
    let ns = |time: Duration| time.as_nanos() as u64;
    let figures = Figures::default()
        .with("offered", seen.offered)
        .with("delivered", total.delivered)
        .with("delivered_in_time", in_time.total.delivered)
        .with("queue_full", queue_full)
        .with("evicted", evicted)
        .with(
            "lost_otherwise",
            total.dropped_total() - queue_full - evicted + total.rejected + total.unknown,
        )
        .with("write_p50_ns", ns(seen.writes.quantile(0.5)))
        .with("write_p999_ns", ns(seen.writes.quantile(0.999)))
        .with("write_worst_ns", ns(seen.writes.largest()))
        .with("batch", leg.batcher.size as u64)
        .with("in_flight", in_flight as u64)
        .with("waits", seen.waits)
        .with("idle_p999_ns", ns(seen.idle.quantile(0.999)))
        .with("idle_worst_ns", ns(seen.idle.largest()))
        .with("peak_kib", process::peak_kib());
    println!("{figures}");
    Ok(())
}

/// Writes spans until the time is over.
fn produce(pipeline: &Pipeline, first: u64, settings: &Settings) -> std::result::Result<Seen, String> {
    let mut seen = Seen::default();
    let waits = process::waits();
    let until = now() + Duration::from_millis(settings.seconds_ms);
    let mut end = now();
    while end < until {
        let begin = now();
        seen.idle.record(begin - end);
        let number = first + seen.offered;
        let written = pipeline.spans(|batch| {
            batch.scope("shop.http", "0.3.1");
            write_span(batch, number);
        });
        end = now();
        seen.writes.record(end - begin);
        seen.offered += 1;
        match written {
            Ok(()) => {}
            Err(refusal) if refusal.drop_reason() == Some(DropReason::QueueFull) => seen.dropped += 1,
            Err(refusal) => return Err(format!("a span was refused: {refusal}")),
        }
    }
    seen.waits = process::waits() - waits;
    Ok(seen)
}

/// The law of conservation, between what producers were told and what the pipeline says.
fn check(overflow: Overflow, seen: &Seen, stats: &PipelineStats) -> std::result::Result<(), &'static str> {
    let total = &stats.total;
    let (queue_full, evicted) = (
        total.dropped_for(DropReason::QueueFull),
        total.dropped_for(DropReason::Evicted),
    );
    let laws = [
        (stats.is_conserved(), "the account is not conserved"),
        (
            total.accepted == seen.offered,
            "the account is not that of the producers",
        ),
        (
            queue_full == seen.dropped,
            "producers were told another number of drops",
        ),
        (total.queued + total.in_flight == 0, "something has not settled"),
        (
            total.delivered + queue_full + evicted == seen.offered,
            "something was lost for another reason than the flood",
        ),
        (
            evicted == 0 || overflow == Overflow::DropOldest,
            "spans were evicted",
        ),
        (
            overflow != Overflow::Block || total.delivered == seen.offered,
            "something was lost under Block",
        ),
    ];
    laws.into_iter()
        .try_for_each(|(holds, what)| holds.then_some(()).ok_or(what))
}

impl Seen {
    fn add(&mut self, other: &Self) {
        self.offered += other.offered;
        self.dropped += other.dropped;
        self.waits += other.waits;
        self.writes.add(&other.writes);
        self.idle.add(&other.idle);
    }
}

impl Settings {
    fn parse(mut arguments: impl Iterator<Item = String>) -> std::result::Result<Self, String> {
        let mut settings = Self {
            seconds_ms: 5_000,
            threads: 8,
            pace_ms: 20,
            queue_mib: 32,
            is_adaptive: false,
        };
        while let Some(name) = arguments.next() {
            if name == "--smoke" {
                (settings.seconds_ms, settings.pace_ms, settings.queue_mib) = (300, 10, 4);
                continue;
            }
            if name == "--adaptive" {
                settings.is_adaptive = true;
                continue;
            }
            let value = arguments.next().unwrap_or_default();
            let number = value.parse::<f64>().ok().filter(|number| *number > 0.0);
            let number = number.ok_or_else(|| format!("{name} needs a number above zero"))?;
            match name.as_str() {
                "--seconds" => settings.seconds_ms = (number * 1e3) as u64,
                "--threads" => settings.threads = number as u64,
                "--pace-ms" => settings.pace_ms = number as u64,
                "--queue-mib" => settings.queue_mib = number as u64,
                _ => return Err(format!("{name} is not known")),
            }
        }
        Ok(settings)
    }

    /// The same, for another process.
    fn arguments(&self) -> Vec<String> {
        [
            ("--seconds", self.seconds_ms as f64 / 1e3),
            ("--threads", self.threads as f64),
            ("--pace-ms", self.pace_ms as f64),
            ("--queue-mib", self.queue_mib as f64),
        ]
        .into_iter()
        .flat_map(|(name, number)| [name.to_owned(), number.to_string()])
        .chain(self.is_adaptive.then(|| String::from("--adaptive")))
        .collect()
    }
}
