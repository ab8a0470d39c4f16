//! Customers, at a rate.

use crate::http::Client;
use crate::say;
use crate::service::GOODS;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::HOST;
use hyper::{Method, Request};
use otlp_embed::pipeline::LatencyHistogram;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// Customers that are served at one time; those beyond it are turned away at the door.
const CUSTOMERS_MAX: usize = 256;
/// How long a customer waits.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often is looked whose turn it is.
const TICK: Duration = Duration::from_millis(5);

/// Requests at a rate, for a time.
pub struct Load {
    rate: u32,
    lasts: Duration,
    stop: Arc<AtomicBool>,
    seen: Mutex<Seen>,
}

/// What the customers saw.
#[derive(Default)]
struct Seen {
    /// Of all.
    all: LatencyHistogram,
    /// Since somebody last looked.
    recent: LatencyHistogram,
    statuses: BTreeMap<u16, u64>,
    failed: u64,
    turned_away: u64,
}

impl Load {
    /// So many requests a second, for so long, unless it is stopped before.
    pub fn new(rate: u32, lasts: Duration, stop: Arc<AtomicBool>) -> Self {
        Self {
            rate,
            lasts,
            stop,
            seen: Mutex::default(),
        }
    }

    /// Sends them, and waits for the last answer.
    pub async fn run(self: Arc<Self>, shop: SocketAddr) {
        let client = Arc::new(Client::new(shop));
        let mut customers = JoinSet::new();
        let begun = Instant::now();
        let mut came = 0_u64;
        loop {
            let elapsed = begun.elapsed().min(self.lasts);
            let due = (elapsed.as_secs_f64() * f64::from(self.rate)) as u64;
            while customers.try_join_next().is_some() {}
            while came < due {
                came += 1;
                if customers.len() < CUSTOMERS_MAX {
                    customers.spawn(Arc::clone(&self).visit(Arc::clone(&client), came));
                } else {
                    self.seen().turned_away += 1;
                }
            }
            if elapsed == self.lasts || self.stop.load(Ordering::Relaxed) {
                break;
            }
            sleep(TICK).await;
        }
        while customers.join_next().await.is_some() {}
    }

    /// How long answers took since this was last asked.
    pub fn recent(&self) -> LatencyHistogram {
        std::mem::take(&mut self.seen().recent)
    }

    /// Says what the customers saw.
    pub fn tell(&self) {
        let seen = self.seen();
        let statuses: Vec<_> = seen
            .statuses
            .iter()
            .map(|(status, count)| format!("{count} x {status}"))
            .collect();
        say(format_args!(
            "Requests: {} answered ({}), {} failed, {} turned away; p50 {:.1?}, p99 {:.1?}",
            seen.all.count(),
            statuses.join(", "),
            seen.failed,
            seen.turned_away,
            seen.all.quantile(0.5),
            seen.all.quantile(0.99),
        ));
    }

    async fn visit(self: Arc<Self>, client: Arc<Client>, number: u64) {
        let Ok(request) = request(client.server(), number) else {
            return self.seen().failed += 1;
        };
        let begun = Instant::now();
        let answer = timeout(PATIENCE, client.send(request)).await;
        let took = begun.elapsed();
        let mut seen = self.seen();
        match answer {
            Ok(Some((status, _))) => {
                *seen.statuses.entry(status.as_u16()).or_default() += 1;
                seen.all.record(took);
                seen.recent.record(took);
            }
            Ok(None) | Err(_) => seen.failed += 1,
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the customer of this number wants.
fn request(shop: SocketAddr, number: u64) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    let item = GOODS[(number % GOODS.len() as u64) as usize];
    let (method, path) = match number % 20 {
        0..=8 => (Method::GET, format!("/cart?{item}")),
        9..=13 => (Method::GET, format!("/search?{}", &item[..2])),
        14 => (Method::GET, "/search?pepper".into()),
        15..=17 => (Method::POST, format!("/checkout?{item}")),
        18 => (Method::GET, "/report".into()),
        _ => (Method::GET, "/favicon.ico".into()),
    };
    Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, shop.to_string())
        .body(Full::default())
}
