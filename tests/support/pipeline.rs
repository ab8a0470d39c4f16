//! A pipeline on a simulated network.

#![allow(dead_code, reason = "not every test needs all of it")]

use otlp_embed::pipeline::{Overflow, PipelineConfig, QueueConfig};
use otlp_embed::testing::{Network, SimulatedCollector};
use otlp_embed::{Config, Exporter, Protocol, Request, Resource, TraceBatch};
use std::time::Duration;

pub const SECOND: Duration = Duration::from_secs(1);

pub struct World {
    pub network: Network,
    pub collector: SimulatedCollector,
    pub exporter: Exporter<Network>,
}

pub fn world_over(protocol: Protocol) -> World {
    let network = Network::new(7);
    let collector = network.collector();
    let exporter = Config::new()
        .with_endpoint(collector.endpoint())
        .with_protocol(protocol)
        .build(network.clone())
        .expect("a config that can work");
    World {
        network,
        collector,
        exporter,
    }
}

pub fn world() -> World {
    world_over(Protocol::Grpc)
}

pub fn config() -> PipelineConfig {
    PipelineConfig::new().with_resource(&Resource::builder().attr("service.name", "shop").build())
}

/// A queue of so many items whose producers wait.
pub fn blocking(items: u64) -> PipelineConfig {
    config().with_queue(
        QueueConfig::new()
            .with_items_max(items)
            .with_overflow(Overflow::Block),
    )
}

pub fn span(batch: &mut TraceBatch, id: u64) {
    let mut trace_id = [7; 16];
    trace_id[..8].copy_from_slice(&(id + 1).to_be_bytes());
    batch
        .span(trace_id, (id + 1).to_be_bytes(), "work")
        .times(1..2)
        .end();
}

pub fn spans(first: u64, count: u64) -> Request {
    let mut batch = TraceBatch::new(&Resource::new());
    for id in first..first + count {
        span(&mut batch, id);
    }
    batch.finish()
}
