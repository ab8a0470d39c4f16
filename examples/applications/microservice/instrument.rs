//! Instrumentation after the semantic conventions: a span, its metrics and its log records for each request served or sent.

use crate::made::attributes;
use crate::telemetry::Telemetry;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Request, StatusCode};
use opentelemetry::logs::{AnyValue, LogRecord, Logger, Severity};
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::time::Instant;

/// How a request ended.
#[derive(Clone, Copy)]
enum End {
    Answered(StatusCode),
    /// There was no connection, or it broke.
    Unanswered,
    /// Nobody waits for the answer any more.
    Cancelled,
}

/// A request that is being served. Its end is the end of its span, also where the customer went away.
pub struct Serving {
    telemetry: Arc<Telemetry>,
    cx: Context,
    begun: Instant,
    method: &'static str,
    route: Option<&'static str>,
    end: End,
}

impl Serving {
    /// Begins the span of a request, within the trace that its headers name.
    pub fn begin<B>(telemetry: &Arc<Telemetry>, request: &Request<B>, route: Option<&'static str>) -> Self {
        let parent =
            TraceContextPropagator::new().extract_with_context(&Context::new(), &Incoming(request.headers()));
        let method = known(request.method());
        let name = match route {
            Some(route) => format!("{method} {route}"),
            None => method.to_owned(),
        };
        let mut fields = vec![
            KeyValue::new("http.request.method", method),
            KeyValue::new("url.scheme", "http"),
            KeyValue::new("url.path", request.uri().path().to_owned()),
            KeyValue::new("network.protocol.version", "1.1"),
        ];
        fields.extend(route.map(|route| KeyValue::new("http.route", route)));
        let cx = telemetry.begin(name, SpanKind::Server, fields, &parent);
        telemetry.server_active.add(1, &active(method));
        Self {
            telemetry: Arc::clone(telemetry),
            cx,
            begun: Instant::now(),
            method,
            route,
            end: End::Cancelled,
        }
    }

    /// What is done for the request belongs to this.
    pub fn context(&self) -> Context {
        self.cx.clone()
    }

    /// Ends it with an answer.
    pub fn end(mut self, status: StatusCode) {
        self.end = End::Answered(status);
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let span = self.cx.span();
        let mut fields = vec![
            KeyValue::new("http.request.method", self.method),
            KeyValue::new("url.scheme", "http"),
        ];
        fields.extend(self.route.map(|route| KeyValue::new("http.route", route)));
        if let End::Answered(status) = self.end {
            span.set_attribute(status_code(status));
            fields.push(status_code(status));
        }
        // To a server the mistakes of its customers are no errors.
        if let Some(error) = error_type(self.end, StatusCode::is_server_error) {
            span.set_attribute(KeyValue::new("error.type", error.clone()));
            span.set_status(Status::error(""));
            fields.push(KeyValue::new("error.type", error));
        }
        span.end();
        let telemetry = &self.telemetry;
        telemetry.server_active.add(-1, &active(self.method));
        telemetry
            .server_duration
            .record(self.begun.elapsed().as_secs_f64(), &fields);
        telemetry.note("http.server.request.duration", &fields);
    }
}

/// A request that was sent to another service. Its end is the end of its span.
pub struct Sending {
    telemetry: Arc<Telemetry>,
    cx: Context,
    begun: Instant,
    fields: Vec<KeyValue>,
    end: End,
}

impl Sending {
    /// Begins the span of a request, within the one that is current, and writes it into the headers.
    pub fn begin<B>(telemetry: &Arc<Telemetry>, request: &mut Request<B>, server: SocketAddr) -> Self {
        let method = known(request.method());
        let fields = vec![
            KeyValue::new("http.request.method", method),
            KeyValue::new("server.address", server.ip().to_string()),
            KeyValue::new("server.port", i64::from(server.port())),
        ];
        let mut of_span = fields.clone();
        of_span.push(KeyValue::new(
            "url.full",
            format!("http://{server}{}", request.uri()),
        ));
        let cx = telemetry.begin(method.to_owned(), SpanKind::Client, of_span, &Context::current());
        TraceContextPropagator::new().inject_context(&cx, &mut Outgoing(request.headers_mut()));
        Self {
            telemetry: Arc::clone(telemetry),
            cx,
            begun: Instant::now(),
            fields,
            end: End::Cancelled,
        }
    }

    /// Ends it with an answer; without one, it has failed.
    pub fn end(mut self, status: Option<StatusCode>) {
        self.end = status.map_or(End::Unanswered, End::Answered);
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let span = self.cx.span();
        let mut fields = std::mem::take(&mut self.fields);
        if let End::Answered(status) = self.end {
            span.set_attribute(status_code(status));
            fields.push(status_code(status));
        }
        let is_error = |status: &StatusCode| status.is_client_error() || status.is_server_error();
        if let Some(error) = error_type(self.end, is_error) {
            span.set_attribute(KeyValue::new("error.type", error.clone()));
            span.set_status(Status::error(""));
            fields.push(KeyValue::new("error.type", error));
        }
        span.end();
        let telemetry = &self.telemetry;
        telemetry
            .client_duration
            .record(self.begun.elapsed().as_secs_f64(), &fields);
        telemetry.note("http.client.request.duration", &fields);
    }
}

impl Telemetry {
    /// Writes a log record, within the span that is current.
    pub fn log(
        &self,
        severity: Severity,
        text: String,
        fields: impl IntoIterator<Item = (&'static str, AnyValue)>,
    ) {
        let mut record = self.logger.create_log_record();
        record.set_timestamp(now());
        record.set_severity_number(severity);
        record.set_severity_text(severity.name());
        record.set_body(text.into());
        record.add_attributes(fields);
        record.add_attribute("log.record.uid", self.made.record(self.service));
        self.logger.emit(record);
    }

    /// Counts an order.
    pub fn order(&self, outcome: &'static str) {
        let fields = [KeyValue::new("order.outcome", outcome)];
        self.orders.add(1, &fields);
        self.note("shop.orders", &fields);
    }

    fn begin(&self, name: String, kind: SpanKind, fields: Vec<KeyValue>, parent: &Context) -> Context {
        let span = self
            .tracer
            .span_builder(name)
            .with_kind(kind)
            .with_attributes(fields)
            .start_with_context(&self.tracer, parent);
        let cx = parent.with_span(span);
        let context = cx.span().span_context().clone();
        if context.is_sampled() {
            self.made.span(&context);
        }
        cx
    }

    /// Notes an increment of a metric, or one measurement.
    fn note(&self, metric: &'static str, fields: &[KeyValue]) {
        let fields = fields
            .iter()
            .map(|field| (field.key.as_str(), field.value.as_str()));
        self.made.add(self.service, metric, attributes(fields), 1);
    }
}

/// A wall clock, as applications have one.
#[expect(
    clippy::disallowed_methods,
    reason = "the time of a log record is that of the application"
)]
fn now() -> SystemTime {
    SystemTime::now()
}

fn active(method: &'static str) -> [KeyValue; 2] {
    [
        KeyValue::new("http.request.method", method),
        KeyValue::new("url.scheme", "http"),
    ]
}

fn status_code(status: StatusCode) -> KeyValue {
    KeyValue::new("http.response.status_code", i64::from(status.as_u16()))
}

/// What the conventions call `error.type`, where there is an error.
fn error_type(end: End, is_error: impl Fn(&StatusCode) -> bool) -> Option<Value> {
    match end {
        End::Answered(status) if is_error(&status) => Some(status.as_u16().to_string().into()),
        End::Answered(_) => None,
        End::Unanswered => Some("no_answer".into()),
        End::Cancelled => Some("cancelled".into()),
    }
}

/// Methods that are unknown are one, so that nobody can make series of metrics at will.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "_OTHER",
    }
}

struct Incoming<'a>(&'a HeaderMap);

impl Extractor for Incoming<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct Outgoing<'a>(&'a mut HeaderMap);

impl Injector for Outgoing<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (key.parse::<HeaderName>(), HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}
