//! The stock, which the shop asks: a service of its own, behind another port.

use super::Result;
use super::http::{self, Answer};
use super::telemetry::Telemetry;
use hyper::Request;
use hyper::body::Incoming;
use opentelemetry::KeyValue;
use opentelemetry::logs::Severity;
use opentelemetry::trace::SpanKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Every so many reservations there is nothing left.
const SOLD_OUT_EVERY: u64 = 20;

pub async fn start(telemetry: Arc<Telemetry>) -> Result<SocketAddr> {
    let asked = Arc::new(AtomicU64::new(0));
    http::serve(move |request| reserve(telemetry.clone(), asked.clone(), request)).await
}

async fn reserve(telemetry: Arc<Telemetry>, asked: Arc<AtomicU64>, request: Request<Incoming>) -> Answer {
    let parent = telemetry.extract(request.headers());
    let number = asked.fetch_add(1, Ordering::Relaxed) + 1;
    let attributes = vec![
        KeyValue::new("http.route", "/reserve"),
        KeyValue::new("stock.reservation", number as i64),
    ];
    let cx = telemetry.span("GET /reserve".into(), SpanKind::Server, &parent, attributes);
    let is_sold_out = number % SOLD_OUT_EVERY == 0;
    if is_sold_out {
        telemetry.log(&cx, Severity::Warn, format!("sold out at reservation {number}"));
    }
    telemetry.end(&cx);
    match is_sold_out {
        true => http::answer(410, "sold out".into()),
        false => http::answer(200, "reserved".into()),
    }
}
