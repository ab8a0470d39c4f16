//! The shop, and the inventory that it asks.

use crate::http::{Answer, Client, Service};
use crate::instrument::Sending;
use crate::telemetry::Telemetry;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::HOST;
use hyper::{Method, Request, StatusCode};
use opentelemetry::logs::{AnyValue, Severity};
use opentelemetry::trace::TraceContextExt;
use opentelemetry::{Context, KeyValue};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What there is to buy.
pub const GOODS: [&str; 5] = ["tea", "coffee", "cocoa", "sugar", "honey"];
/// Reservations until a shelf is empty; the next one finds it filled.
const SHELF: u32 = 20;

/// What customers see.
pub struct Shop {
    telemetry: Arc<Telemetry>,
    inventory: Client,
    orders: AtomicU64,
}

impl Shop {
    /// A shop that asks the inventory at this address.
    pub fn new(telemetry: &Arc<Telemetry>, inventory: SocketAddr) -> Self {
        Self {
            telemetry: Arc::clone(telemetry),
            inventory: Client::new(inventory),
            orders: AtomicU64::new(0),
        }
    }

    async fn cart(&self, item: &str) -> Answer {
        match self.ask(Method::GET, format!("/stock/{item}")).await {
            Some((StatusCode::OK, left)) => (StatusCode::OK, format!("{item}, {left} left\n")),
            other => self.no_answer(other),
        }
    }

    async fn checkout(&self, item: &str) -> Answer {
        let number = self.orders.fetch_add(1, Ordering::Relaxed) + 1;
        let order = [("order.id", AnyValue::Int(number as i64))];
        match self.ask(Method::POST, format!("/reservations/{item}")).await {
            Some((StatusCode::CREATED, _)) => {
                let text = format!("order {number} is placed: {item}");
                self.telemetry.log(Severity::Info, text, order);
                self.telemetry.order("placed");
                (StatusCode::CREATED, format!("order {number}\n"))
            }
            Some((StatusCode::CONFLICT, _)) => {
                let text = format!("order {number} cannot be filled: there is no {item}");
                self.telemetry.log(Severity::Warn, text, order);
                self.telemetry.order("sold_out");
                (StatusCode::CONFLICT, format!("no {item} today\n"))
            }
            other => {
                self.telemetry.order("failed");
                self.no_answer(other)
            }
        }
    }

    fn search(&self, query: &str) -> Answer {
        let found: Vec<_> = GOODS.into_iter().filter(|item| item.contains(query)).collect();
        let hits = KeyValue::new("search.hits", found.len() as i64);
        Context::current().span().add_event("searched", vec![hits]);
        if found.is_empty() {
            let query = AnyValue::from(query.to_owned());
            let text = "nobody sells this".to_owned();
            self.telemetry
                .log(Severity::Info, text, [("search.query", query)]);
        }
        (StatusCode::OK, found.join("\n") + "\n")
    }

    /// A route with a bug.
    fn report(&self) -> Answer {
        let error = "NaN"
            .parse::<u64>()
            .map_or_else(|error| error.to_string(), |_| String::new());
        let fields = [
            ("exception.type", AnyValue::from("std::num::ParseIntError")),
            ("exception.message", AnyValue::from(error.clone())),
        ];
        self.telemetry
            .log(Severity::Error, format!("the report failed: {error}"), fields);
        (StatusCode::INTERNAL_SERVER_ERROR, "sorry\n".into())
    }

    fn no_answer(&self, other: Option<(StatusCode, String)>) -> Answer {
        let text = match other {
            Some((status, _)) => format!("the inventory answers {status}"),
            None => "the inventory does not answer".into(),
        };
        self.telemetry.log(Severity::Error, text.clone(), []);
        (StatusCode::BAD_GATEWAY, text + "\n")
    }

    /// Asks the inventory, within the trace of the request that is being served.
    async fn ask(&self, method: Method, path: String) -> Option<(StatusCode, String)> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.inventory.server().to_string());
        let mut request = request.body(Full::<Bytes>::default()).ok()?;
        let sending = Sending::begin(&self.telemetry, &mut request, self.inventory.server());
        let answer = self.inventory.send(request).await;
        sending.end(answer.as_ref().map(|(status, _)| *status));
        let (status, body) = answer?;
        Some((status, String::from_utf8_lossy(&body).into_owned()))
    }
}

impl Service for Shop {
    fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }

    fn route<B>(&self, request: &Request<B>) -> Option<&'static str> {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/cart") => Some("/cart"),
            (&Method::POST, "/checkout") => Some("/checkout"),
            (&Method::GET, "/search") => Some("/search"),
            (&Method::GET, "/report") => Some("/report"),
            _ => None,
        }
    }

    async fn answer(&self, route: &'static str, request: Request<Incoming>) -> Answer {
        // The query is one word: an item, or what is searched for.
        let word = request.uri().query().unwrap_or_default();
        match route {
            "/cart" => self.cart(word).await,
            "/checkout" => self.checkout(word).await,
            "/search" => self.search(word),
            _ => self.report(),
        }
    }
}

/// What the shop asks.
pub struct Inventory {
    telemetry: Arc<Telemetry>,
    shelves: Mutex<HashMap<&'static str, u32>>,
}

impl Inventory {
    /// An inventory whose shelves are full.
    pub fn new(telemetry: &Arc<Telemetry>) -> Self {
        Self {
            telemetry: Arc::clone(telemetry),
            shelves: Mutex::new(GOODS.map(|item| (item, SHELF)).into()),
        }
    }

    fn reserve(&self, item: &str) -> Answer {
        let reserved = {
            let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(left) = shelves.get_mut(item) else {
                return (StatusCode::NOT_FOUND, format!("no shelf for {item}"));
            };
            let reserved = left.checked_sub(1);
            *left = reserved.unwrap_or(SHELF);
            reserved
        };
        match reserved {
            Some(left) => {
                let left = [("shelf.left", AnyValue::Int(i64::from(left)))];
                self.telemetry
                    .log(Severity::Info, format!("{item} is reserved"), left);
                (StatusCode::CREATED, "reserved".into())
            }
            None => {
                let text = format!("the shelf of {item} was empty, and is filled now");
                self.telemetry.log(Severity::Warn, text, []);
                (StatusCode::CONFLICT, "sold out".into())
            }
        }
    }
}

impl Service for Inventory {
    fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }

    fn route<B>(&self, request: &Request<B>) -> Option<&'static str> {
        let path = request.uri().path();
        match *request.method() {
            Method::GET if path.starts_with("/stock/") => Some("/stock/{item}"),
            Method::POST if path.starts_with("/reservations/") => Some("/reservations/{item}"),
            _ => None,
        }
    }

    async fn answer(&self, route: &'static str, request: Request<Incoming>) -> Answer {
        let item = request.uri().path().rsplit('/').next().unwrap_or_default();
        if route == "/reservations/{item}" {
            return self.reserve(item);
        }
        let shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        match shelves.get(item) {
            Some(left) => (StatusCode::OK, left.to_string()),
            None => (StatusCode::NOT_FOUND, format!("no shelf for {item}")),
        }
    }
}
