//! The shop: several routes, of which some ask the stock.

use super::Result;
use super::http::{self, Answer};
use super::load::now;
use super::telemetry::Telemetry;
use hyper::body::Incoming;
use hyper::{HeaderMap, Request};
use opentelemetry::logs::Severity;
use opentelemetry::trace::{SpanKind, Status, TraceContextExt};
use opentelemetry::{Context, KeyValue};
use std::net::SocketAddr;
use std::sync::Arc;

/// Starts it, with a stock to ask.
pub async fn start(telemetry: Arc<Telemetry>, stock: SocketAddr) -> Result<SocketAddr> {
    http::serve(move |request| handle(telemetry.clone(), stock, request)).await
}

/// Answers one request within a span of its own, whose parent is the client's.
async fn handle(telemetry: Arc<Telemetry>, stock: SocketAddr, request: Request<Incoming>) -> Answer {
    let begun = now();
    telemetry.request_begins();
    let path = request.uri().path().to_owned();
    let route = route(&path);
    let parent = telemetry.extract(request.headers());
    let attributes = vec![
        KeyValue::new("http.request.method", "GET"),
        KeyValue::new("http.route", route),
        KeyValue::new("url.path", path.clone()),
    ];
    let cx = telemetry.span(format!("GET {route}"), SpanKind::Server, &parent, attributes);
    let (status, body) = match route {
        "/cart" => (200, String::from("3 items")),
        "/search" => search(&telemetry, &cx, &path),
        "/checkout" => checkout(&telemetry, &cx, stock).await,
        "/broken" => broken(&telemetry, &cx),
        _ => (404, String::from("no such page")),
    };
    cx.span()
        .set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
    if status >= 500 {
        cx.span().set_status(Status::error(body.clone()));
    }
    telemetry.end(&cx);
    telemetry.request_ends(route, status, now() - begun);
    http::answer(status, body)
}

/// The pattern that a path matches, of which there are few, unlike paths.
fn route(path: &str) -> &'static str {
    match path {
        "/cart" => "/cart",
        "/checkout" => "/checkout",
        "/broken" => "/broken",
        _ if path.starts_with("/search/") => "/search",
        _ => "/{page}",
    }
}

fn search(telemetry: &Telemetry, cx: &Context, path: &str) -> (u16, String) {
    let words = path.trim_start_matches("/search/").to_owned();
    let index = telemetry.span(
        "index".into(),
        SpanKind::Internal,
        cx,
        vec![KeyValue::new("search.words", words.clone())],
    );
    index
        .span()
        .add_event("ranked", vec![KeyValue::new("hits", words.len() as i64)]);
    telemetry.end(&index);
    (200, format!("{} hits", words.len()))
}

/// Asks the stock within a client's span, and logs what came of it.
async fn checkout(telemetry: &Telemetry, cx: &Context, stock: SocketAddr) -> (u16, String) {
    let attributes = vec![
        KeyValue::new("http.request.method", "GET"),
        KeyValue::new("server.address", "stock"),
        KeyValue::new("server.port", i64::from(stock.port())),
    ];
    let client = telemetry.span("GET".into(), SpanKind::Client, cx, attributes);
    let mut headers = HeaderMap::new();
    telemetry.inject(&client, &mut headers);
    let asked = http::get(stock, "/reserve", headers).await;
    let (status, body) = match asked {
        Ok((200, _)) => (200, String::from("sold")),
        Ok((status, _)) => (409, format!("the stock answered {status}")),
        Err(error) => (502, format!("the stock did not answer: {error}")),
    };
    client
        .span()
        .set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
    telemetry.end(&client);
    let severity = if status == 200 {
        Severity::Info
    } else {
        Severity::Warn
    };
    telemetry.log(cx, severity, format!("checkout: {body}"));
    (status, body)
}

fn broken(telemetry: &Telemetry, cx: &Context) -> (u16, String) {
    let error = std::io::Error::other("the bank is closed");
    cx.span().record_error(&error);
    telemetry.log(cx, Severity::Error, format!("payment failed: {error}"));
    (500, error.to_string())
}
