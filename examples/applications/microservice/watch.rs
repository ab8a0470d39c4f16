//! A line a second, as an operator would have it.

use super::load::Load;
use super::say;
use super::telemetry::Telemetry;
use std::sync::Arc;
use std::time::Duration;

pub async fn tell(telemetry: Arc<Telemetry>, load: Arc<Load>) {
    let mut before = 0;
    for second in 1_u64.. {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (answered, latency) = (load.answered(), load.take_latency());
        let (stats, exporter) = (telemetry.pipeline.stats(), telemetry.exporter.stats());
        let total = &stats.total;
        let breaker = exporter
            .breaker
            .map(|breaker| format!("{breaker:?}"))
            .unwrap_or_default();
        say(format_args!(
            "{second:3} s    {} requests/s (p50 {:.1?}, p99 {:.1?}); {} delivered, {} queued, {} in flight, {} lost; breaker \
             {breaker}",
            answered - before,
            latency.p50,
            latency.p99,
            total.delivered,
            total.queued,
            total.in_flight,
            total.dropped_total() + total.rejected + total.unknown,
        ));
        before = answered;
    }
}
