//! What an exporter's observer hears of its pipelines: breakers, full queues, what expired, and what an outage cost, each kind
//! at most once a minute, with counts that add up to the account.

#[path = "support/pipeline.rs"]
mod support;

use otlp_embed::observe::{Budget, Event, EventKind, Transition};
use otlp_embed::pipeline::{Endpoints, Overflow, Pipeline, PipelineConfig, PipelineFuture, QueueConfig};
use otlp_embed::policy::BreakerConfig;
use otlp_embed::testing::collector::Accepting;
use otlp_embed::testing::{Network, SimulatedCollector};
use otlp_embed::time::Instant;
use otlp_embed::{Config, DropReason, Exporter, Protocol};
use std::sync::{Arc, Mutex};
use support::{SECOND, config, spans};

/// What was heard, with its words.
type Heard = Arc<Mutex<Vec<(EventKind, Instant, u64, u64, String)>>>;

struct World {
    network: Network,
    collector: SimulatedCollector,
    exporter: Exporter<Network>,
    heard: Heard,
}

fn exporter(network: &Network, collector: &SimulatedCollector) -> (Exporter<Network>, Heard) {
    let heard = Heard::default();
    let hears = heard.clone();
    let exporter = Config::new()
        .with_endpoint(collector.endpoint())
        .with_protocol(Protocol::Grpc)
        .with_observer(move |event: Event<'_>| {
            let items = match &event.transition {
                Transition::BudgetReached {
                    budget: Budget::Queue,
                    items,
                    ..
                }
                | Transition::Expired { items, .. } => *items,
                Transition::Recovered { lost, .. } => lost.total(),
                _ => 0,
            };
            let words = event.to_string();
            let line = (event.kind(), event.at, items, event.kept_back_items, words);
            hears.lock().expect("no panic").push(line);
        })
        .build(network.clone())
        .expect("it works");
    (exporter, heard)
}

fn world() -> World {
    let network = Network::new(11);
    let collector = network.collector();
    let (exporter, heard) = exporter(&network, &collector);
    World {
        network,
        collector,
        exporter,
        heard,
    }
}

impl World {
    fn pipeline(&self, config: PipelineConfig) -> (Pipeline, PipelineFuture<Network>) {
        self.exporter.pipeline(config).expect("it works")
    }

    /// What was heard of a kind: when, items, and items that were kept back before.
    fn of(&self, kind: EventKind) -> Vec<(Instant, u64, u64)> {
        of(&self.heard, kind)
    }

    fn words(&self, kind: EventKind) -> Vec<String> {
        let heard = self.heard.lock().expect("no panic");
        let of_kind = heard.iter().filter(|line| line.0 == kind);
        of_kind.map(|line| line.4.clone()).collect()
    }
}

fn of(heard: &Heard, kind: EventKind) -> Vec<(Instant, u64, u64)> {
    let heard = heard.lock().expect("no panic");
    let of_kind = heard.iter().filter(|line| line.0 == kind);
    of_kind.map(|line| (line.1, line.2, line.3)).collect()
}

fn small(items: u64, overflow: Overflow) -> PipelineConfig {
    config().with_queue(QueueConfig::new().with_items_max(items).with_overflow(overflow))
}

fn breaker() -> BreakerConfig {
    BreakerConfig::new()
        .with_requests_min(2)
        .with_open_for(5 * SECOND)
}

#[test]
fn a_breaker_that_opens_is_told_once_a_minute_and_its_end_always() {
    let world = world();
    world.collector.set_accepting(Accepting::Refuse);
    let (pipeline, future) = world.pipeline(config().with_breaker(breaker()));
    let running = world.network.spawn(future);
    world.network.block_on(async {
        for first in 0..8 {
            pipeline.send(spans(10 * first, 1)).await.expect("room");
            world.network.clock().sleep(SECOND).await;
        }
        // It opens again and again, since its probes fail.
        world.network.clock().sleep(40 * SECOND).await;
        assert_eq!(world.of(EventKind::BreakerOpened).len(), 1, "{:?}", world.heard);
        assert_eq!(world.of(EventKind::BreakerClosed), []);
        world.collector.set_accepting(Accepting::Serve);
        for first in 0..60 {
            pipeline.send(spans(1_000 + first, 1)).await.expect("room");
            world.network.clock().sleep(SECOND).await;
        }
        let report = pipeline.shutdown(60 * SECOND).await;
        assert_eq!(report.lost(), 0, "{report}");
        running.await;
    });
    let (opened, closed) = (
        world.of(EventKind::BreakerOpened),
        world.of(EventKind::BreakerClosed),
    );
    assert_eq!((opened.len(), closed.len()), (1, 1), "{:?}", world.heard);
    let words = &world.words(EventKind::BreakerOpened)[0];
    let name = world.collector.endpoint();
    assert_eq!(
        *words,
        format!(
            "OTLP export to {name}: too many exports failed, none is begun for 5 s; what is queued waits"
        )
    );
    let words = &world.words(EventKind::BreakerClosed)[0];
    let after = (closed[0].0 - opened[0].0).as_secs();
    assert!(after >= 40, "{words}");
    assert!(
        words.contains(&format!("exports are begun again, {after} s ")) || after >= 60,
        "{words}"
    );
}

#[test]
fn a_full_queue_is_told_at_once_and_every_item_is_counted() {
    for (overflow, reason) in [
        (Overflow::DropNewest, DropReason::QueueFull),
        (Overflow::DropOldest, DropReason::Evicted),
    ] {
        let world = world();
        world.collector.set_accepting(Accepting::Refuse);
        let (pipeline, future) = world.pipeline(small(20, overflow));
        let running = world.network.spawn(future);
        world.network.block_on(async {
            let clock = world.network.clock();
            for first in 0..5 {
                let _ = pipeline.send(spans(10 * first, 10)).await;
            }
            let begin = clock.now();
            clock.sleep(SECOND / 1_000).await;
            let told = world.of(EventKind::QueueLimitReached);
            assert_eq!(told.len(), 1, "{:?}", world.heard);
            assert_eq!(told[0].0, begin, "no timer is waited for");
            // Many more within the minute, and one after it.
            for first in 0..50 {
                let _ = pipeline.send(spans(1_000 + 10 * first, 10)).await;
                clock.sleep(SECOND).await;
            }
            clock.sleep(20 * SECOND).await;
            let _ = pipeline.send(spans(9_000, 10)).await;
            // It is told when the pipeline next looks, at the latest after the pause of the breaker.
            clock.sleep(31 * SECOND).await;
            let told = world.of(EventKind::QueueLimitReached);
            assert_eq!(told.len(), 2, "{:?}", world.heard);
            assert!(told[1].0 - told[0].0 >= 60 * SECOND);
            let sum: u64 = told.iter().map(|(_, items, kept_back)| items + kept_back).sum();
            let dropped = pipeline.stats().total.dropped_total();
            assert!(dropped > 400, "{:?}", pipeline.stats());
            assert_eq!(sum, dropped, "{:?}", world.heard);
            drop(pipeline.shutdown(SECOND).await);
            running.await;
        });
        let words = &world.words(EventKind::QueueLimitReached)[0];
        assert!(words.contains("of 20 items and "), "{words}");
        assert!(words.contains(reason.as_str()), "{words}");
    }
}

#[test]
fn what_expired_is_told_and_named_with_the_end_of_the_outage() {
    let world = world();
    world.collector.set_accepting(Accepting::Refuse);
    let (pipeline, future) = world.pipeline(config().with_max_elapsed(30 * SECOND));
    let running = world.network.spawn(future);
    world.network.block_on(async {
        let clock = world.network.clock();
        pipeline.send(spans(0, 7)).await.expect("room");
        clock.sleep(35 * SECOND).await;
        let told = world.of(EventKind::Expired);
        assert_eq!(told.len(), 1, "{:?}", world.heard);
        assert_eq!((told[0].1, told[0].2), (7, 0));
        assert!(
            world.words(EventKind::Expired)[0]
                .contains("7 spans were given up: no export of them succeeded within 30 s")
        );
        pipeline.send(spans(100, 5)).await.expect("room");
        world.collector.set_accepting(Accepting::Serve);
        clock.sleep(60 * SECOND).await;
        let told = world.of(EventKind::Recovered);
        assert_eq!(told.len(), 1, "{:?}", world.heard);
        assert_eq!(told[0].1, 7, "what the pipeline gave up was the outage's cost");
        let words = &world.words(EventKind::Recovered)[0];
        assert!(
            words.contains("lost: 7 dropped (expired in the queue)"),
            "{words}"
        );
        let report = pipeline.shutdown(SECOND).await;
        assert_eq!((report.stats.delivered, report.lost()), (5, 7));
        running.await;
    });
}

#[test]
fn an_outage_that_costs_nothing_says_so() {
    let world = world();
    world.collector.set_accepting(Accepting::Refuse);
    let (pipeline, future) = world.pipeline(config());
    let running = world.network.spawn(future);
    world.network.block_on(async {
        pipeline.send(spans(0, 7)).await.expect("room");
        world.network.clock().sleep(70 * SECOND).await;
        world.collector.set_accepting(Accepting::Serve);
        let report = pipeline.shutdown(120 * SECOND).await;
        assert_eq!((report.stats.delivered, report.lost()), (7, 0));
        running.await;
    });
    let words = world.words(EventKind::Recovered);
    assert!(words[0].contains("nothing was lost"), "{words:?}");
    assert_eq!(world.of(EventKind::Expired), []);
    assert_eq!(world.of(EventKind::QueueLimitReached), []);
}

#[test]
fn a_loss_is_told_by_one_exporter_of_a_leg_and_counted_in_one_outage() {
    let network = Network::new(12);
    let (one, two) = (network.collector(), network.collector());
    let ((here, at_here), (there, at_there)) = (exporter(&network, &one), exporter(&network, &two));
    for collector in [&one, &two] {
        collector.set_accepting(Accepting::Refuse);
    }
    let endpoints = Endpoints::failover([here, there]);
    let config = small(10, Overflow::DropNewest).without_breaker();
    let (pipeline, future) = endpoints.pipeline(config).expect("it works");
    let running = network.spawn(future);
    network.block_on(async {
        pipeline.send(spans(0, 10)).await.expect("room");
        // Both have failed it.
        network.clock().sleep(10 * SECOND).await;
        let _ = pipeline.send(spans(100, 3)).await;
        network.clock().sleep(10 * SECOND).await;
        for collector in [&one, &two] {
            collector.set_accepting(Accepting::Serve);
        }
        let report = pipeline.shutdown(200 * SECOND).await;
        assert_eq!(report.stats.dropped_for(DropReason::QueueFull), 3);
        running.await;
    });
    let told: Vec<_> = [&at_here, &at_there]
        .map(|heard| of(heard, EventKind::QueueLimitReached))
        .into_iter()
        .flatten()
        .collect();
    assert_eq!(told.len(), 1, "{at_here:?} {at_there:?}");
    assert_eq!(of(&at_there, EventKind::QueueLimitReached), []);
    let lost = |heard: &Heard| {
        of(heard, EventKind::Recovered)
            .iter()
            .map(|told| told.1)
            .sum::<u64>()
    };
    assert_eq!((lost(&at_here), lost(&at_there)), (3, 0));
    assert_eq!(
        of(&at_there, EventKind::Recovered).len(),
        0,
        "it was not needed again"
    );
}
