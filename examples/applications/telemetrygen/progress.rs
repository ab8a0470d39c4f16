//! The bar on a terminal.

use super::load::Load;
use indicatif::{ProgressBar, ProgressStyle};
use otlp_embed::{Exporter, rt::Runtime};
use std::io::{IsTerminal, stderr};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const INTERVAL: Duration = Duration::from_millis(100);

/// A bar with rate, exports in flight, retries and losses, for as long as it lives; nothing where standard error is no
/// terminal.
pub struct Progress {
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    pub fn start<R>(load: &Arc<Load>, exporter: &Exporter<R>) -> Self
    where
        R: Runtime + 'static,
        Exporter<R>: Send,
    {
        if !stderr().is_terminal() {
            return Self { thread: None };
        }
        let (sender, receiver) = channel();
        let (load, exporter) = (load.clone(), exporter.clone());
        let thread = thread::spawn(move || {
            let bar = bar(&load);
            while receiver.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                let (settled, stats) = (load.settled(), exporter.stats());
                let rate = load.generated() as f64 / load.elapsed().as_secs_f64();
                let counts = settled.counts;
                bar.set_position(counts.total());
                bar.set_message(format!(
                    "{rate:.0}/s, {} in flight, {} retries, {} lost",
                    stats.in_flight,
                    stats.retries,
                    counts.total() - counts.delivered
                ));
            }
            bar.finish_and_clear();
        });
        Self {
            thread: Some((sender, thread)),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.thread.take() {
            drop(sender);
            // A bar that panicked has nothing more to show.
            let _ = thread.join();
        }
    }
}

fn bar(load: &Load) -> ProgressBar {
    let (bar, template) = match load.planned() {
        Some(items) => (ProgressBar::new(items), "{bar:30} {pos}/{len} {elapsed} {msg}"),
        None => (ProgressBar::new_spinner(), "{spinner} {pos} {elapsed} {msg}"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
