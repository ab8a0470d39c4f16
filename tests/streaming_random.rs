//! Streams and actors on bad days that a seed makes up: connections that are lost, answers of all kinds, callers who leave. What must
//! hold at every moment does.

#[path = "support/batches.rs"]
#[allow(dead_code)]
mod batches;
#[path = "support/sources.rs"]
#[allow(dead_code)]
mod sources;

use batches::batch;
use fastrand::Rng;
use otlp_embed::pb::trace::Span;
use otlp_embed::pipeline::{
    ActorConfig, ExporterActor, SchedulerConfig, SmartScheduler, StreamItem, StreamingConfig,
    StreamingOtlpExporter,
};
use otlp_embed::testing::{Answer, Link, Network, SimulatedCollector};
use otlp_embed::{Code, Config, Exporter, Protocol};
use sources::Source;
use std::sync::Mutex;
use std::time::Duration;

const SEEDS: u64 = 40;
const MILLI: Duration = Duration::from_millis(1);

fn world(seed: u64) -> (Network, SimulatedCollector, Exporter<Network>) {
    let mut rng = Rng::with_seed(seed);
    let network = Network::new(seed);
    let collector = network.collector();
    let mut link = Link::new()
        .with_latency(rng.u32(0..40) * MILLI)
        .with_jitter(rng.u32(0..10) * MILLI)
        .with_chunks(rng.usize(1..5_000));
    if rng.bool() {
        link = link.with_resets(0.002);
    }
    collector.set_link(link);
    let rng = Mutex::new(rng.fork());
    collector.answer_with(move |request| {
        let mut rng = rng.lock().unwrap();
        let answer = match rng.u32(..20) {
            0 => Answer::unavailable(),
            1 => Answer::status(Code::INVALID_ARGUMENT, "no"),
            2 => Answer::PartialSuccess {
                rejected: rng.i64(0..=request.items as i64),
                message: "some".into(),
            },
            3 => Answer::Never,
            4 => Answer::throttled(rng.u32(0..3_000) * MILLI),
            5 => Answer::AbortConnection,
            6 => Answer::Drain(Box::new(Answer::Ok)),
            _ => Answer::Ok,
        };
        answer.after(rng.u32(0..200) * MILLI)
    });
    let exporter = Config::new()
        .with_protocol(if seed % 2 == 0 {
            Protocol::Grpc
        } else {
            Protocol::HttpProtobuf
        })
        .with_timeout(5_000 * MILLI)
        .with_endpoint(collector.endpoint())
        .build(network.clone())
        .expect("it works");
    (network, collector, exporter)
}

#[test]
fn streams_account_for_everything_on_bad_days() {
    let mut sums = [0; 3];
    for seed in 0..SEEDS {
        let (network, collector, exporter) = world(seed);
        let mut rng = Rng::with_seed(seed);
        let concurrency_max = rng.usize(1..6);
        let config = StreamingConfig::new()
            .with_concurrency_max(concurrency_max)
            .with_batch_items_max(rng.usize(1..20))
            .with_batch_age_max(rng.u32(0..300) * MILLI);
        let streaming = StreamingOtlpExporter::new(&exporter, config).expect("it works");
        let handle = streaming.handle();
        let source = Source::of([]);
        let mut run = Box::pin(streaming.run(source.stream()));
        let feed = source.clone();
        let clock = network.clock().clone();
        let mut own = rng.fork();
        network.spawn(async move {
            for number in 0..100_u64 {
                let item = match own.u32(..3) {
                    0 => StreamItem::from(batch(10_000 + number * 20, own.u64(0..20))),
                    _ => StreamItem::from(Span {
                        trace_id: vec![7; 16],
                        span_id: (number + 1).to_be_bytes().to_vec(),
                        ..Span::default()
                    }),
                };
                feed.push(item);
                if own.u32(..4) == 0 {
                    clock.sleep(own.u32(0..100) * MILLI).await;
                }
            }
            feed.close();
        });
        // Every third is dropped on its way.
        let limit = if seed % 3 == 0 {
            rng.u32(0..3_000) * MILLI
        } else {
            3_600_000 * MILLI
        };
        let ended = network.block_on_checked(network.clock().timeout(limit, run.as_mut()), || {
            let stats = handle.stats();
            assert_eq!(
                stats.total_taken,
                stats.total_exported + stats.total_failed + stats.pending,
                "seed {seed}"
            );
            assert!(stats.batches_in_flight <= concurrency_max as u64, "seed {seed}");
            assert!(exporter.stats().is_conserved(), "seed {seed}");
        });
        drop(run);
        let (stats, account) = (handle.stats(), exporter.stats());
        assert_eq!((stats.pending, stats.batches_in_flight), (0, 0), "seed {seed}");
        assert!(ended.is_ok() || seed % 3 == 0, "seed {seed}: it hangs: {stats}");
        assert!(ended.is_err() || source.is_dropped(), "seed {seed}");
        // What only the open batch had was never the exporter's.
        assert_eq!(account.in_flight, 0, "seed {seed}");
        assert_eq!(account.delivered, stats.total_exported, "seed {seed}");
        assert!(
            collector.counters().spans_accepted >= stats.total_exported,
            "seed {seed}"
        );
        if ended.is_ok() {
            assert_eq!(account.accepted, stats.total_taken, "seed {seed}");
        }
        sums[0] += stats.total_exported;
        sums[1] += stats.total_failed;
        sums[2] += u64::from(ended.is_err());
    }
    assert!(sums.iter().all(|sum| *sum > 0), "days of all kinds: {sums:?}");
}

#[test]
fn actors_answer_everybody_on_bad_days() {
    let mut sums = [0; 3];
    for seed in 0..SEEDS {
        let (network, collector, exporter) = world(seed);
        let mut rng = Rng::with_seed(seed);
        let config = ActorConfig::new()
            .with_mailbox(rng.usize(1..5))
            .with_concurrency_max(rng.usize(1..5));
        let (handle, actor) = ExporterActor::new(&exporter, config).expect("it works");
        let actor = network.spawn(actor);
        let callers: Vec<_> = (0..30_u64)
            .map(|number| {
                let (handle, clock, mut own) = (handle.clone(), network.clock().clone(), rng.fork());
                network.spawn(async move {
                    clock.sleep(own.u32(0..1_000) * MILLI).await;
                    let export = handle.export(batch(number * 20, own.u64(1..20)));
                    // A third of them leave after a while.
                    let patience = if own.u32(..3) == 0 {
                        own.u32(0..2_000)
                    } else {
                        3_600_000
                    };
                    let answer = clock.timeout(patience * MILLI, export).await;
                    answer.ok().map(|outcome| match outcome {
                        Ok(outcome) => outcome.delivered(),
                        Err(error) => error.counts().delivered,
                    })
                })
            })
            .collect();
        let stats = network.block_on_checked(
            async {
                let mut delivered = 0;
                // Half of the days end early.
                if seed % 2 == 0 {
                    network.clock().sleep(rng.u32(0..3_000) * MILLI).await;
                    handle.shutdown(rng.u32(0..2_000) * MILLI).await;
                }
                for caller in callers {
                    delivered += caller.await.unwrap_or(0);
                }
                let stats = handle.shutdown(60_000 * MILLI).await;
                assert!(delivered <= stats.items_exported, "seed {seed}");
                assert_eq!(actor.await, stats, "seed {seed}");
                stats
            },
            || assert!(exporter.stats().is_conserved(), "seed {seed}"),
        );
        assert_eq!((stats.queued, stats.in_flight), (0, 0), "seed {seed}");
        assert_eq!(stats.messages_processed, stats.export_count, "seed {seed}");
        let account = exporter.stats();
        assert_eq!(
            (account.in_flight, account.delivered),
            (0, stats.items_exported),
            "seed {seed}"
        );
        assert!(
            collector.counters().spans_accepted >= stats.items_exported,
            "seed {seed}"
        );
        sums[0] += stats.items_exported;
        sums[1] += stats.error_count;
        sums[2] += stats.answers_dropped;
    }
    assert!(sums.iter().all(|sum| *sum > 0), "days of all kinds: {sums:?}");
}

#[test]
fn jobs_are_counted_once_on_bad_days() {
    let mut sums = [0; 5];
    for seed in 0..SEEDS {
        let (network, _collector, exporter) = world(seed);
        let mut rng = Rng::with_seed(seed);
        let config = SchedulerConfig::new()
            .with_concurrency_max(rng.usize(1..6))
            .with_waiting_max(rng.usize(1..40));
        let (scheduler, driver) = SmartScheduler::new(config).expect("it works");
        let mut driver = Box::pin(driver);
        let mut sent = 0;
        let jobs: Vec<_> = (0..30)
            .map(|number| {
                let items = rng.u64(1..20);
                sent += items;
                let job = scheduler.submit_export(&exporter, batch(number * 20, items));
                if rng.u32(..5) == 0 {
                    job.cancel();
                }
                job
            })
            .collect();
        let limit = if seed % 2 == 0 {
            rng.u32(0..2_000) * MILLI
        } else {
            3_600_000 * MILLI
        };
        let watched = scheduler.clone();
        network.block_on_checked(
            async {
                let work = Box::pin(drive_until(driver.as_mut(), scheduler.wait_all()));
                // Dropped on its way, on every other day.
                let _ = network.clock().timeout(limit, work).await;
            },
            || {
                let stats = watched.stats();
                let ended =
                    stats.completed + stats.panicked + stats.cancelled + stats.abandoned + stats.refused;
                assert_eq!(
                    stats.submitted,
                    ended + (stats.waiting + stats.running) as u64,
                    "seed {seed}"
                );
            },
        );
        drop(driver);
        let stats = watched.stats();
        assert_eq!(
            (stats.waiting, stats.running, stats.submitted),
            (0, 0, 30),
            "seed {seed}"
        );
        assert_eq!(
            stats.items + stats.items_failed,
            sent,
            "seed {seed}: each item once"
        );
        let told: u64 = jobs
            .iter()
            .map(|job| job.report().items + job.report().items_failed)
            .sum();
        assert_eq!(told, sent, "seed {seed}");
        let account = exporter.stats();
        assert!(account.is_conserved() && account.in_flight == 0, "seed {seed}");
        assert_eq!(account.delivered, stats.items, "seed {seed}");
        let counts = [
            stats.items,
            stats.items_failed,
            stats.cancelled,
            stats.abandoned,
            stats.refused,
        ];
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    assert!(sums.iter().all(|sum| *sum > 0), "days of all kinds: {sums:?}");
}

/// Polls both until the second is ready.
async fn drive_until<A: Future + Unpin, B: Future + Unpin>(mut one: A, mut other: B) {
    std::future::poll_fn(|cx| {
        let _ = std::pin::Pin::new(&mut one).poll(cx).is_ready();
        std::pin::Pin::new(&mut other).poll(cx).map(drop)
    })
    .await;
}
