//! Clients that ask the shop at a rate, whatever it takes.

use super::http;
use super::telemetry::lock;
use hyper::HeaderMap;
use otlp_embed::pipeline::{LatencyHistogram, LatencyStats};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const PATHS: [&str; 8] = [
    "/cart",
    "/search/umbrella",
    "/checkout",
    "/cart",
    "/checkout",
    "/search/tea",
    "/nowhere",
    "/broken",
];
/// Requests that wait for their answer at a time, at most.
const OPEN_MAX: usize = 64;

pub struct Load {
    shop: SocketAddr,
    rate: u64,
    time: Duration,
    is_over: Arc<AtomicBool>,
    answered: AtomicU64,
    unanswered: AtomicU64,
    latency: Mutex<LatencyHistogram>,
}

/// What the clients saw.
pub struct Asked {
    pub answered: u64,
    pub unanswered: u64,
}

#[allow(clippy::disallowed_methods, reason = "a load is made in real time")]
pub fn now() -> Instant {
    Instant::now()
}

impl Load {
    pub fn new(shop: SocketAddr, rate: u64, time: Duration, is_over: Arc<AtomicBool>) -> Self {
        Self {
            shop,
            rate,
            time,
            is_over,
            answered: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
            latency: Mutex::default(),
        }
    }

    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// How long answers took since the last question.
    pub fn take_latency(&self) -> LatencyStats {
        std::mem::take(&mut *lock(&self.latency)).stats()
    }

    /// Asks until the time is over, and until everything is answered.
    pub async fn run(self: &Arc<Self>) -> Asked {
        let (begun, mut sent) = (now(), 0_u64);
        let mut open = JoinSet::new();
        while now() - begun < self.time && !self.is_over.load(Ordering::Relaxed) {
            let due = Duration::from_secs_f64(sent as f64 / self.rate as f64);
            tokio::time::sleep(due.saturating_sub(now() - begun)).await;
            while open.len() >= OPEN_MAX {
                open.join_next().await;
            }
            let (load, path) = (self.clone(), PATHS[sent as usize % PATHS.len()]);
            open.spawn(async move { load.ask(path).await });
            sent += 1;
        }
        while open.join_next().await.is_some() {}
        Asked {
            answered: self.answered(),
            unanswered: self.unanswered.load(Ordering::Relaxed),
        }
    }

    async fn ask(&self, path: &str) {
        let begun = now();
        match http::get(self.shop, path, HeaderMap::new()).await {
            Ok(_) => {
                lock(&self.latency).record(now() - begun);
                self.answered.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => {
                self.unanswered.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
