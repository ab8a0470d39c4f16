//! The traces of an online shop: plain data, made up from a seed.
//!
//! Every order runs through seven services, over HTTP, RPC, a message queue, databases and a language model, and now and
//! then something fails on its way.

use fastrand::Rng;
use otlp_embed::Resource;
use std::ops::Range;

/// A service and what is known about it.
pub struct Service {
    pub name: &'static str,
    pub version: &'static str,
    pub language: &'static str,
    pub instance: &'static str,
}

/// The services; [`Span::service`] is an index into them.
pub const SERVICES: [Service; 7] = [
    service("gateway", "3.2.0", "rust", "gateway-7d9f-x2x"),
    service("cart", "1.9.4", "go", "cart-58c6-7qk"),
    service("catalog", "2.0.1", "java", "catalog-6b4c-l8p"),
    service("advisor", "0.4.0", "python", "advisor-79fd-m2v"),
    service("checkout", "4.1.3", "rust", "checkout-5f7b-c9d"),
    service("payment", "2.7.0", "go", "payment-84dd-w5t"),
    service("shipping", "1.1.0", "rust", "shipping-66c9-h4z"),
];

const fn service(
    name: &'static str,
    version: &'static str,
    language: &'static str,
    instance: &'static str,
) -> Service {
    Service {
        name,
        version,
        language,
        instance,
    }
}

/// Each service as a resource, in the order of [`SERVICES`].
pub fn resources() -> [Resource; 7] {
    SERVICES.map(|service| {
        Resource::builder()
            .attr("service.name", service.name)
            .attr("service.version", service.version)
            .attr("service.namespace", "shop")
            .attr("service.instance.id", service.instance)
            .attr("telemetry.sdk.language", service.language)
            .build()
    })
}

pub const GATEWAY: usize = 0;
const CART: usize = 1;
pub const CATALOG: usize = 2;
const ADVISOR: usize = 3;
pub const CHECKOUT: usize = 4;
const PAYMENT: usize = 5;
const SHIPPING: usize = 6;

/// One span, with everything it is to tell.
pub struct Span {
    /// Index of its service in [`SERVICES`].
    pub service: usize,
    /// Name and version of the instrumentation.
    pub scope: (&'static str, &'static str),
    pub trace_id: [u8; 16],
    pub span_id: [u8; 8],
    pub parent: Option<[u8; 8]>,
    pub kind: Kind,
    pub name: String,
    /// Start and end in nanoseconds since the Unix epoch.
    pub times: Range<u64>,
    pub attributes: Vec<(&'static str, Value)>,
    pub events: Vec<Event>,
    /// Spans of other traces, or of other branches, that caused it.
    pub links: Vec<([u8; 16], [u8; 8])>,
    /// The message of its error, if it failed.
    pub error: Option<String>,
}

impl Span {
    /// The value of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&Value> {
        let mut values = self.attributes.iter().filter(|(known, _)| *known == name);
        values.next().map(|(_, value)| value)
    }

    /// How long it took, in seconds.
    pub fn seconds(&self) -> f64 {
        (self.times.end - self.times.start) as f64 / 1e9
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Internal,
    Server,
    Client,
    Producer,
    Consumer,
}

pub struct Event {
    pub name: &'static str,
    pub unix_nanos: u64,
    pub attributes: Vec<(&'static str, Value)>,
}

#[derive(Clone)]
pub enum Value {
    Text(String),
    /// A text worth sharing instead of copying.
    LongText(String),
    Int(i64),
    Float(f64),
    Bool(bool),
    Texts(Vec<&'static str>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Self::Int(number.into())
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

/// The traces of so many orders, the first of which begins at `start` (nanoseconds since the Unix epoch).
pub fn orders(count: usize, start: u64, seed: u64) -> Vec<Span> {
    let mut shop = Shop {
        rng: Rng::with_seed(seed),
        now: start,
        trace_id: [0; 16],
        spans: Vec::new(),
    };
    for number in 0..count {
        shop.order(number);
        shop.spend(2_000..40_000);
    }
    shop.spans
}

pub const HTTP: (&str, &str) = ("http.instrumentation", "0.60.0");
pub const RPC: (&str, &str) = ("rpc.instrumentation", "0.60.0");
pub const DB: (&str, &str) = ("db.instrumentation", "1.4.0");
const QUEUE: (&str, &str) = ("messaging.instrumentation", "0.9.1");
pub const GEN_AI: (&str, &str) = ("gen_ai.instrumentation", "0.3.0");
pub const BUSINESS: (&str, &str) = ("shop", "2026.10");

pub const PRODUCTS: [&str; 6] = ["kettle", "lamp", "desk", "rug", "clock", "chair"];
const MODEL: &str = "large-2026-08";
const REVIEWS: &str = "Reviews of it: 'Sturdier than it looks, and it came two days early.' 'The colour is warmer than in \
    the pictures; my daughter likes it, I have got used to it.' 'One screw was missing, the shop sent it the next day.' 'The \
    manual could be better: step four is drawn from the wrong side, so that the left leg ends up where the right one \
    belongs.' 'Third one I have bought.'";

/// A shop at work: `now` is its only clock.
struct Shop {
    rng: Rng,
    now: u64,
    trace_id: [u8; 16],
    spans: Vec<Span>,
}

/// A span that has begun, by its place in the list.
#[derive(Clone, Copy)]
struct Open(usize);

impl Shop {
    fn order(&mut self, number: usize) {
        // Neither kind of id may consist of zeros.
        self.trace_id = (self.rng.u128(..) | 1).to_be_bytes();
        let root = self.begin(None, GATEWAY, HTTP, Kind::Server, "POST /orders");
        self.set(root, "http.request.method", "POST");
        self.set(root, "http.route", "/orders");
        self.set(root, "url.path", "/orders");
        self.set(root, "url.scheme", "https");
        self.set(root, "client.address", format!("203.0.113.{}", 1 + number % 250));
        self.set(root, "user_agent.original", "ShopApp/8.1 (Android 16)");
        self.set(root, "shop.order.number", 100_000 + number as i64);

        let check = self.begin(Some(root), GATEWAY, BUSINESS, Kind::Internal, "verify session");
        let customer = format!("{:016x}", self.rng.u64(..));
        self.set(check, "enduser.pseudo.id", customer);
        self.end(check, 200..900);

        let basket = self.cart(root);
        self.catalog(root, basket);
        if self.rng.u8(..3) > 0 {
            self.advice(root, basket);
        }
        let is_paid = self.checkout(root, number);
        self.set(root, "http.response.status_code", if is_paid { 201 } else { 502 });
        if !is_paid {
            self.fail(root, "the payment was not taken");
        }
        self.end(root, 100..600);
    }

    /// The cart's answer: how many kinds of products are in it.
    fn cart(&mut self, parent: Open) -> usize {
        let (client, server) = self.rpc(parent, GATEWAY, CART, "shop.Cart", "GetCart");
        let get = self.begin(Some(server), CART, DB, Kind::Client, "HGETALL cart");
        self.set(get, "db.system.name", "redis");
        self.set(get, "db.operation.name", "HGETALL");
        self.set(get, "server.address", "redis-0.cart.svc");
        if self.rng.u8(..8) == 0 {
            self.event(get, "connection replaced", vec![("pool.size", Value::Int(16))]);
        }
        self.end(get, 80..700);
        self.end(server, 30..90);
        self.end(client, 60..300);
        self.rng.usize(2..=PRODUCTS.len())
    }

    /// One query for each product, as a careless mapper would.
    fn catalog(&mut self, parent: Open, products: usize) {
        let (client, server) = self.rpc(parent, GATEWAY, CATALOG, "shop.Catalog", "GetProducts");
        for product in &PRODUCTS[..products] {
            let select = self.begin(Some(server), CATALOG, DB, Kind::Client, "SELECT products");
            self.set(select, "db.system.name", "postgresql");
            self.set(select, "db.namespace", "catalog");
            self.set(select, "db.operation.name", "SELECT");
            self.set(select, "db.collection.name", "products");
            let query = "SELECT id, name, price, stock FROM products WHERE name = $1";
            self.set(select, "db.query.text", query);
            self.set(select, "db.query.parameter.1", *product);
            self.set(select, "db.response.returned_rows", 1);
            self.end(select, 300..2_500);
        }
        self.end(server, 100..400);
        self.end(client, 60..300);
    }

    /// A language model looks for something that goes with the cart; it calls a tool and is asked again.
    fn advice(&mut self, parent: Open, products: usize) {
        let (client, server) = self.http(parent, GATEWAY, ADVISOR, "/advice");
        let agent = self.begin(
            Some(server),
            ADVISOR,
            GEN_AI,
            Kind::Internal,
            "invoke_agent advisor",
        );
        self.set(agent, "gen_ai.operation.name", "invoke_agent");
        self.set(agent, "gen_ai.agent.name", "advisor");
        self.chat(agent, products, "tool_calls");
        let tool = self.begin(
            Some(agent),
            ADVISOR,
            GEN_AI,
            Kind::Internal,
            "execute_tool find_products",
        );
        self.set(tool, "gen_ai.operation.name", "execute_tool");
        self.set(tool, "gen_ai.tool.name", "find_products");
        let (search, search_server) = self.rpc(tool, ADVISOR, CATALOG, "shop.Catalog", "Search");
        self.end(search_server, 900..6_000);
        self.end(search, 60..300);
        self.end(tool, 50..200);
        self.chat(agent, products, "stop");
        self.end(agent, 100..500);
        self.end(server, 50..200);
        self.end(client, 60..300);
    }

    fn chat(&mut self, agent: Open, products: usize, finish_reason: &'static str) {
        let chat = self.begin(
            Some(agent),
            ADVISOR,
            GEN_AI,
            Kind::Client,
            &format!("chat {MODEL}"),
        );
        self.set(chat, "gen_ai.operation.name", "chat");
        self.set(chat, "gen_ai.request.model", MODEL);
        self.set(chat, "gen_ai.request.temperature", 0.2);
        self.set(chat, "gen_ai.request.stream", true);
        let prompt = prompt(&PRODUCTS[..products]);
        let tokens = prompt.len() as i64 / 4;
        self.set(chat, "gen_ai.usage.input_tokens", tokens);
        self.set(chat, "gen_ai.input.messages", Value::LongText(prompt));
        self.spend(150_000..400_000);
        self.event(chat, "first token", vec![("gen_ai.token.index", Value::Int(0))]);
        let tokens = self.rng.i64(20..200);
        self.set(chat, "gen_ai.usage.output_tokens", tokens);
        let reasons = Value::Texts(vec![finish_reason]);
        self.set(chat, "gen_ai.response.finish_reasons", reasons);
        self.end(chat, 200_000..900_000);
    }

    /// Tells whether the order was paid.
    fn checkout(&mut self, parent: Open, number: usize) -> bool {
        let (client, server) = self.rpc(parent, GATEWAY, CHECKOUT, "shop.Checkout", "PlaceOrder");
        let price = self.begin(Some(server), CHECKOUT, BUSINESS, Kind::Internal, "compute total");
        let total = self.rng.i64(1_000..90_000) as f64 / 100.0;
        self.set(price, "shop.order.total", total);
        self.set(price, "shop.order.currency", "EUR");
        self.end(price, 40..200);
        let is_paid = self.payment(server, total);
        if is_paid {
            self.store(server, CHECKOUT, "orders");
            self.publish(server, number);
        } else {
            self.fail(server, "payment refused");
            self.fail(client, "payment refused");
        }
        self.end(server, 50..200);
        self.end(client, 60..300);
        is_paid
    }

    /// Asks the bank, again if its gateway fails, three times at most.
    fn payment(&mut self, parent: Open, total: f64) -> bool {
        let (client, server) = self.rpc(parent, CHECKOUT, PAYMENT, "shop.Payment", "Charge");
        let mut is_paid = false;
        for attempt in 0..3 {
            let call = self.begin(Some(server), PAYMENT, HTTP, Kind::Client, "POST");
            self.set(call, "http.request.method", "POST");
            self.set(call, "url.full", "https://api.bank.example/v3/charges");
            self.set(call, "server.address", "api.bank.example");
            self.set(call, "payment.amount", total);
            if attempt > 0 {
                self.set(call, "http.request.resend_count", attempt);
            }
            is_paid = self.rng.u8(..3) > 0;
            self.set(call, "http.response.status_code", if is_paid { 200 } else { 503 });
            if !is_paid {
                let details = vec![
                    ("exception.type", Value::from("BankUnavailable")),
                    (
                        "exception.message",
                        Value::from("503 from the bank: try again later"),
                    ),
                    ("exception.escaped", Value::from(attempt == 2)),
                ];
                self.event(call, "exception", details);
                self.fail(call, "503 Service Unavailable");
            }
            self.end(call, 40_000..180_000);
            if is_paid {
                break;
            }
            self.spend(50_000..100_000);
        }
        if !is_paid {
            self.fail(server, "the bank did not answer");
            self.fail(client, "the bank did not answer");
        }
        self.end(server, 50..200);
        self.end(client, 60..300);
        is_paid
    }

    /// The order goes to a queue; shipping takes it in a trace of its own that links back.
    fn publish(&mut self, parent: Open, number: usize) {
        let send = self.begin(Some(parent), CHECKOUT, QUEUE, Kind::Producer, "send orders");
        self.message(send, "send", number);
        self.end(send, 200..900);

        let cause = (self.trace_id, self.spans[send.0].span_id);
        let order_trace = self.trace_id;
        self.trace_id = (self.rng.u128(..) | 1).to_be_bytes();
        let process = self.begin(None, SHIPPING, QUEUE, Kind::Consumer, "process orders");
        self.message(process, "process", number);
        self.spans[process.0].links.push(cause);
        self.store(process, SHIPPING, "parcels");
        let label = self.begin(Some(process), SHIPPING, BUSINESS, Kind::Internal, "print label");
        if self.rng.u8(..10) == 0 {
            let details = vec![("printer.name", Value::from("dock-3"))];
            self.event(label, "paper jam", details);
            self.fail(label, "the printer is out of order");
        }
        self.end(label, 20_000..60_000);
        self.end(process, 100..400);
        self.trace_id = order_trace;
    }

    fn message(&mut self, span: Open, operation: &'static str, number: usize) {
        self.set(span, "messaging.system", "kafka");
        self.set(span, "messaging.destination.name", "orders");
        self.set(span, "messaging.operation.type", operation);
        self.set(span, "messaging.kafka.offset", 7_000 + number as i64);
    }

    fn store(&mut self, parent: Open, service: usize, table: &'static str) {
        let insert = self.begin(
            Some(parent),
            service,
            DB,
            Kind::Client,
            &format!("INSERT {table}"),
        );
        self.set(insert, "db.system.name", "postgresql");
        self.set(insert, "db.operation.name", "INSERT");
        self.set(insert, "db.collection.name", table);
        self.set(
            insert,
            "db.query.text",
            format!("INSERT INTO {table} VALUES ($1, $2, $3)"),
        );
        self.end(insert, 500..4_000);
    }

    /// Both ends of an RPC.
    fn rpc(&mut self, parent: Open, from: usize, to: usize, service: &str, method: &str) -> (Open, Open) {
        let name = format!("{service}/{method}");
        let client = self.begin(Some(parent), from, RPC, Kind::Client, &name);
        self.set(
            client,
            "server.address",
            format!("{}.shop.svc", SERVICES[to].name),
        );
        self.spend(60..300);
        let server = self.begin(Some(client), to, RPC, Kind::Server, &name);
        for span in [client, server] {
            self.set(span, "rpc.system", "grpc");
            self.set(span, "rpc.service", service);
            self.set(span, "rpc.method", method);
        }
        (client, server)
    }

    /// Both ends of an HTTP request.
    fn http(&mut self, parent: Open, from: usize, to: usize, path: &str) -> (Open, Open) {
        let client = self.begin(Some(parent), from, HTTP, Kind::Client, "POST");
        self.set(
            client,
            "url.full",
            format!("http://{}.shop.svc{path}", SERVICES[to].name),
        );
        self.spend(60..300);
        let server = self.begin(Some(client), to, HTTP, Kind::Server, &format!("POST {path}"));
        self.set(server, "http.route", path);
        for span in [client, server] {
            self.set(span, "http.request.method", "POST");
            self.set(span, "http.response.status_code", 200);
        }
        (client, server)
    }

    fn begin(
        &mut self,
        parent: Option<Open>,
        service: usize,
        scope: (&'static str, &'static str),
        kind: Kind,
        name: &str,
    ) -> Open {
        self.spans.push(Span {
            service,
            scope,
            trace_id: self.trace_id,
            span_id: (self.rng.u64(..) | 1).to_be_bytes(),
            parent: parent.map(|parent| self.spans[parent.0].span_id),
            kind,
            name: name.into(),
            times: self.now..self.now,
            attributes: Vec::new(),
            events: Vec::new(),
            links: Vec::new(),
            error: None,
        });
        Open(self.spans.len() - 1)
    }

    /// Ends a span after so many microseconds more.
    fn end(&mut self, span: Open, micros: Range<u64>) {
        self.spend(micros);
        self.spans[span.0].times.end = self.now;
    }

    fn spend(&mut self, micros: Range<u64>) {
        self.now += self.rng.u64(micros) * 1_000;
    }

    fn set(&mut self, span: Open, name: &'static str, value: impl Into<Value>) {
        self.spans[span.0].attributes.push((name, value.into()));
    }

    fn event(&mut self, span: Open, name: &'static str, attributes: Vec<(&'static str, Value)>) {
        self.spans[span.0].events.push(Event {
            name,
            unix_nanos: self.now,
            attributes,
        });
    }

    fn fail(&mut self, span: Open, message: &str) {
        self.spans[span.0].error = Some(message.into());
    }
}

/// A prompt of a few kilobytes, like those that fill the attributes of a language model's spans.
fn prompt(products: &[&str]) -> String {
    let mut prompt = String::from(
        r#"[{"role":"system","content":"You advise customers of a furniture shop. Be brief, name one product, give its price."},"#,
    );
    for product in products {
        let line = format!(r#"{{"role":"user","content":"The customer bought: {product}. {REVIEWS}"}},"#);
        prompt.push_str(&line);
    }
    prompt.push_str(r#"{"role":"user","content":"What goes with it?"}]"#);
    prompt
}
