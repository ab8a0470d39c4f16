//! What happens to the collector: it dies in the middle, and returns.

use super::{Result, say};
use otlp_embed::testing::Collector;
use otlp_embed::testing::collector::Accepting;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Kills the collector, and brings it back on the same port.
pub async fn tell(collector: Arc<Collector>, outage: Range<u64>) -> Result<()> {
    tokio::time::sleep(Duration::from_secs(outage.start)).await;
    say("         --- the collector dies");
    // Nobody listens any more, and what was connected is cut off, in the middle of requests too.
    collector.set_accepting(Accepting::Refuse)?;
    collector.kill_connections();
    tokio::time::sleep(Duration::from_secs(outage.end - outage.start)).await;
    recover(&collector)?;
    Ok(())
}

/// Brings the collector back, if it is gone.
pub fn recover(collector: &Collector) -> Result<()> {
    say("         --- the collector is there");
    collector.set_accepting(Accepting::Serve)?;
    Ok(())
}
