//! What the shop measures, computed from its spans: every kind of metric that OTLP knows.

use super::shop::{
    BUSINESS, CATALOG, CHECKOUT, DB, GATEWAY, HTTP, Kind, PRODUCTS, RPC, SERVICES, Span, Value, resources,
};
use super::table::{Row, Table};
use otlp_embed::encode::{Buckets, ExponentialBuckets};
use otlp_embed::{MetricBatch, Request, Temporality};
use std::collections::BTreeMap;
use std::ops::Range;

/// Upper bounds of the buckets of durations, in seconds.
const BOUNDS: [f64; 7] = [0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0];

/// The request, and a table of what is in it.
pub fn encode(spans: &[Span]) -> (Request, Table) {
    let start = spans.iter().map(|span| span.times.start).min().unwrap_or(0);
    let end = spans.iter().map(|span| span.times.end).max().unwrap_or(0);
    let resources = resources();
    let mut meter = Meter {
        batch: MetricBatch::new(&resources[GATEWAY]),
        table: Table::default(),
        time: start..end,
    };
    for (number, resource) in resources.iter().enumerate() {
        let spans: Vec<_> = spans.iter().filter(|span| span.service == number).collect();
        meter.batch.resource(resource);
        meter.durations(number, HTTP, "http.server.request.duration", "http.route", &spans);
        meter.durations(number, RPC, "rpc.server.call.duration", "rpc.method", &spans);
        meter.queries(number, &spans);
        match number {
            GATEWAY => meter.orders(&spans),
            CATALOG => meter.stock(),
            CHECKOUT => meter.totals(&spans),
            _ => {}
        }
    }
    (meter.batch.finish(), meter.table)
}

struct Meter {
    batch: MetricBatch,
    table: Table,
    time: Range<u64>,
}

impl Meter {
    /// A histogram of what a service was asked for over one kind of transport, with the slowest request as an example.
    fn durations(&mut self, service: usize, scope: Scope, name: &str, attribute: &str, spans: &[&Span]) {
        let mut groups = BTreeMap::<&str, Vec<&Span>>::new();
        let served = |span: &&&Span| span.scope == scope && span.kind == Kind::Server;
        for span in spans.iter().filter(served) {
            if let Some(Value::Text(what)) = span.attribute(attribute) {
                groups.entry(what).or_default().push(span);
            }
        }
        self.batch.scope(scope.0, scope.1);
        let metric = self.batch.metric(name).unit("s");
        let mut points = metric.histogram(Temporality::Cumulative);
        for (what, spans) in &groups {
            let mut counts = [0_u64; BOUNDS.len() + 1];
            for span in spans {
                counts[BOUNDS.iter().take_while(|bound| **bound < span.seconds()).count()] += 1;
            }
            let sum: f64 = spans.iter().map(|span| span.seconds()).sum();
            let mut point = points.point(self.time.clone(), &BOUNDS, &counts);
            point.sum(sum).attr(attribute, *what);
            if let Some(slowest) = spans.iter().max_by(|a, b| a.seconds().total_cmp(&b.seconds())) {
                point.max(slowest.seconds());
                point.exemplar(slowest.seconds(), slowest.times.end, |exemplar| {
                    exemplar.trace(slowest.trace_id, slowest.span_id);
                });
            }
            point.end();
        }
        points.end();
        self.count(service, scope, name, "histogram", groups.len());
    }

    /// An exponential histogram of database calls: bucket `i` holds what took from 2^i to 2^(i+1) seconds.
    fn queries(&mut self, service: usize, spans: &[&Span]) {
        let seconds: Vec<f64> = spans
            .iter()
            .filter(|span| span.scope == DB)
            .map(|span| span.seconds())
            .collect();
        let bucket = |seconds: &f64| seconds.log2().ceil() as i32 - 1;
        let (Some(lowest), Some(highest)) =
            (seconds.iter().map(bucket).min(), seconds.iter().map(bucket).max())
        else {
            return;
        };
        let mut counts = vec![0_u64; (highest - lowest) as usize + 1];
        for seconds in &seconds {
            counts[(bucket(seconds) - lowest) as usize] += 1;
        }
        let buckets = ExponentialBuckets {
            scale: 0,
            positive: Buckets {
                offset: lowest,
                counts: &counts,
            },
            ..ExponentialBuckets::default()
        };
        let name = "db.client.operation.duration";
        self.batch.scope(DB.0, DB.1);
        let metric = self.batch.metric(name).unit("s");
        metric
            .exponential_histogram(Temporality::Cumulative)
            .point(self.time.clone(), buckets)
            .sum(seconds.iter().sum())
            .end();
        self.count(service, DB, name, "exponential histogram", 1);
    }

    /// A counter of orders, and a summary of how long they took.
    fn orders(&mut self, spans: &[&Span]) {
        let orders: Vec<_> = spans.iter().filter(|span| span.parent.is_none()).collect();
        let refused = orders.iter().filter(|span| span.error.is_some()).count();
        self.batch.scope(BUSINESS.0, BUSINESS.1);
        let metric = self.batch.metric("shop.orders").unit("{order}");
        let mut counter = metric.monotonic_sum(Temporality::Cumulative);
        for (state, count) in [("paid", orders.len() - refused), ("refused", refused)] {
            let mut point = counter.point(self.time.clone(), count as u64);
            point.attr("shop.order.state", state).end();
        }
        counter.end();
        self.count(GATEWAY, BUSINESS, "shop.orders", "sum", 2);

        let mut seconds: Vec<f64> = orders.iter().map(|span| span.seconds()).collect();
        seconds.sort_by(f64::total_cmp);
        let metric = self.batch.metric("shop.order.duration").unit("s");
        let mut summary = metric.summary();
        let mut point = summary.point(self.time.clone(), seconds.len() as u64, seconds.iter().sum());
        for quantile in [0.5, 0.9, 1.0] {
            let rank = (quantile * (seconds.len() - 1) as f64).round() as usize;
            point.quantile(quantile, seconds[rank]);
        }
        drop(point);
        summary.end();
        self.count(GATEWAY, BUSINESS, "shop.order.duration", "summary", 1);
    }

    /// A gauge of the products in stock, which only the catalog knows.
    fn stock(&mut self) {
        self.batch.scope(BUSINESS.0, BUSINESS.1);
        let metric = self.batch.metric("shop.stock").unit("{product}");
        let mut gauge = metric.gauge();
        for (number, product) in (0..).zip(PRODUCTS) {
            let mut point = gauge.point(0..self.time.end, 12 + 7 * number);
            point.attr("shop.product", product).end();
        }
        gauge.end();
        self.count(CATALOG, BUSINESS, "shop.stock", "gauge", PRODUCTS.len());
    }

    /// The money that was asked for: a sum with a fraction.
    fn totals(&mut self, spans: &[&Span]) {
        let totals = spans
            .iter()
            .filter_map(|span| match span.attribute("shop.order.total") {
                Some(Value::Float(total)) => Some(*total),
                _ => None,
            });
        self.batch.scope(BUSINESS.0, BUSINESS.1);
        let metric = self.batch.metric("shop.order.total").unit("EUR");
        let mut sum = metric.monotonic_sum(Temporality::Delta);
        sum.point(self.time.clone(), totals.sum::<f64>()).end();
        sum.end();
        self.count(CHECKOUT, BUSINESS, "shop.order.total", "sum", 1);
    }

    fn count(&mut self, service: usize, scope: Scope, name: &str, kind: &str, points: usize) {
        if points > 0 {
            let row = Row::metric(SERVICES[service].name, scope.0, name, kind);
            self.table.add(row, points as u64, false);
        }
    }
}

/// Name and version of an instrumentation.
type Scope = (&'static str, &'static str);
