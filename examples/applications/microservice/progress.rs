//! A line each second.

use crate::load::Load;
use crate::say;
use crate::telemetry::{Delivery, Heard};
use otlp_embed::pipeline::Pipeline;
use otlp_embed::{Exporter, rt};
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::time::Instant;

const EVERY: Duration = Duration::from_secs(1);
/// Characters of an error in a line.
const ERROR_MAX: usize = 70;

/// A thread that says how it goes, until this is dropped. There is none where nobody looks.
pub struct Progress(Option<(Sender<()>, JoinHandle<()>)>);

impl Progress {
    /// Begins, on a terminal or where it is wanted.
    pub fn start(is_wanted: bool, load: &Arc<Load>, delivery: &Delivery) -> io::Result<Self> {
        if !is_wanted && !io::stdout().is_terminal() {
            return Ok(Self(None));
        }
        let (keep, ended) = channel::<()>();
        let view = View {
            load: Arc::clone(load),
            exporter: delivery.exporter.clone(),
            pipeline: delivery.pipeline.clone(),
            heard: delivery.heard.clone(),
        };
        let begun = Instant::now();
        let run = move || {
            for second in 1.. {
                let left = (begun + EVERY * second).saturating_duration_since(Instant::now());
                if ended.recv_timeout(left) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
                say(view.line(second));
            }
        };
        let thread = thread::Builder::new().name("progress".into()).spawn(run)?;
        Ok(Self(Some((keep, thread))))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((keep, thread)) = self.0.take() {
            drop(keep);
            // A panic of it has been told, and is no reason for another.
            let _ = thread.join();
        }
    }
}

/// What it looks at.
struct View {
    load: Arc<Load>,
    exporter: Exporter<rt::Blocking>,
    pipeline: Pipeline,
    heard: Heard,
}

impl View {
    fn line(&self, second: u32) -> String {
        let latencies = self.load.recent();
        let account = self.pipeline.stats().total;
        let breaker = self.exporter.stats().breaker;
        let mut line = format!(
            "{second:>3} s  {:>6} requests/s  p50 {:>7.1?}  p99 {:>7.1?}  queue {:>6} items {:>5} KiB  breaker {:8}",
            latencies.count(),
            latencies.quantile(0.5),
            latencies.quantile(0.99),
            account.queued + account.in_flight,
            (account.queued_bytes + account.in_flight_bytes) / 1024,
            breaker.map_or_else(|| "none".into(), |state| state.to_string()),
        );
        if let Some(error) = self.heard.error() {
            line.push_str("  last error: ");
            line.extend(error.chars().take(ERROR_MAX));
        }
        line
    }
}
