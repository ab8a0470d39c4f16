//! What an exporter's account says of its pipelines while they run: the age of what waits, the state of the breaker, the last
//! error, each as it is at the moment of the question.

#[path = "support/pipeline.rs"]
mod support;

use otlp_embed::pipeline::Endpoints;
use otlp_embed::policy::{BreakerConfig, BreakerState};
use otlp_embed::testing::Network;
use otlp_embed::testing::collector::Accepting;
use otlp_embed::{Config, Protocol};
use std::time::Duration;
use support::{SECOND, config, spans, world};

const MS: Duration = Duration::from_millis(1);

#[test]
fn the_age_of_what_waits_grows_while_nothing_moves() {
    let world = world();
    world.collector.set_accepting(Accepting::Refuse);
    let breaker = BreakerConfig::new()
        .with_requests_min(1)
        .with_open_for(100 * SECOND);
    let (pipeline, future) = world
        .exporter
        .pipeline(config().with_breaker(breaker))
        .expect("works");
    let running = world.network.spawn(future);
    world.network.block_on(async {
        let clock = world.network.clock();
        assert_eq!(world.exporter.stats().oldest_queued_age, None);
        pipeline.send(spans(0, 1)).await.expect("room");
        let begin = clock.now();
        while world.exporter.stats().breaker != Some(BreakerState::Open) {
            clock.sleep(10 * MS).await;
            assert!(clock.now() - begin < 100 * SECOND, "it opens");
        }
        let opened = clock.now();
        let moves = network_moves(&world.network);
        for _ in 0..9 {
            clock.sleep(10 * SECOND).await;
            let stats = world.exporter.stats();
            assert_eq!((stats.queued, stats.in_flight), (1, 0), "{stats:?}");
            assert_eq!(stats.oldest_queued_age, Some(clock.now() - begin));
            assert_eq!(stats.breaker, Some(BreakerState::Open));
            let error = stats.last_error.expect("it failed");
            assert!(error.contains("connection refused"), "{error}");
        }
        assert_eq!(network_moves(&world.network), moves, "nothing moved");
        // The one probe that it lets through succeeds.
        world.collector.set_accepting(Accepting::Serve);
        clock.sleep(20 * SECOND).await;
        assert!(clock.now() - opened > 100 * SECOND);
        let stats = world.exporter.stats();
        assert_eq!((stats.delivered, stats.queued), (1, 0), "{stats:?}");
        assert_eq!(stats.oldest_queued_age, None);
        assert_eq!(
            stats.breaker,
            Some(BreakerState::HalfOpen),
            "five probes close it"
        );
        for first in 1..8 {
            pipeline.send(spans(first, 1)).await.expect("room");
            clock.sleep(SECOND).await;
        }
        assert_eq!(world.exporter.stats().breaker, Some(BreakerState::Closed));
        pipeline.shutdown(10 * SECOND).await;
        running.await;
    });
    assert_eq!(world.exporter.stats().breaker, None, "its pipeline is over");
}

fn network_moves(network: &Network) -> usize {
    network.trace().len()
}

#[test]
fn a_pipeline_without_a_breaker_has_no_state_of_one() {
    let world = world();
    let (_pipeline, _future) = world
        .exporter
        .pipeline(config().without_breaker())
        .expect("works");
    assert_eq!(world.exporter.stats().breaker, None);
}

#[test]
fn each_endpoint_of_a_leg_has_its_own_breaker_and_error() {
    let network = Network::new(9);
    let (one, two) = (network.collector(), network.collector());
    let [here, there] = [&one, &two].map(|collector| {
        let config = Config::new()
            .with_endpoint(collector.endpoint())
            .with_protocol(Protocol::Grpc);
        config.build(network.clone()).expect("works")
    });
    two.set_accepting(Accepting::Refuse);
    let breaker = BreakerConfig::new()
        .with_requests_min(1)
        .with_open_for(100 * SECOND);
    let endpoints = Endpoints::round_robin([here.clone(), there.clone()]);
    let (pipeline, future) = endpoints.pipeline(config().with_breaker(breaker)).expect("works");
    let running = network.spawn(future);
    network.block_on(async {
        for first in 0..10 {
            pipeline.send(spans(first, 1)).await.expect("room");
            network.clock().sleep(SECOND).await;
        }
        let (here, there) = (here.stats(), there.stats());
        assert_eq!(here.breaker, Some(BreakerState::Closed), "{here:?}");
        assert_eq!(there.breaker, Some(BreakerState::Open), "{there:?}");
        assert_eq!(here.last_error, None, "it never failed");
        assert!(there.last_error.is_some_and(|error| error.contains("refused")));
        assert_eq!(
            (here.delivered, there.accepted),
            (10, 0),
            "the first tells the account of the leg"
        );
        pipeline.shutdown(10 * SECOND).await;
        running.await;
    });
}
