//! Data points of every kind, each in a metric of its kind.

use super::value::{Value, pairs};
use super::{EPOCH, SCOPE, resource_pairs, values};
use otlp_embed::encode::{Buckets, ExponentialBuckets};
use otlp_embed::{MetricBatch, Temporality};
use serde_json::json;

const BOUNDS: [f64; 3] = [0.5, 1.0, 2.5];
const DELTA: i32 = 1;
const CUMULATIVE: i32 = 2;

/// One data point.
pub struct Point {
    index: u64,
    start: u64,
    time: u64,
    attributes: Vec<(&'static str, Value)>,
}

impl Point {
    pub fn new(batch: u64, index: u64, text_bytes: usize) -> Self {
        let time = EPOCH + batch * 1_000_000_000 + index;
        Self {
            index,
            start: time - 500,
            time,
            attributes: values(index, text_bytes),
        }
    }

    /// Writes the point into a batch.
    pub fn write(&self, batch: &mut MetricBatch) {
        /// Adds the attributes to whatever kind of point, and ends it.
        macro_rules! end {
            ($point:expr) => {{
                let mut point = $point;
                for (key, value) in &self.attributes {
                    point.attr(key, value);
                }
                point.end();
            }};
        }
        let (times, n) = (self.start..self.time, self.index);
        let metric = batch.metric(self.name()).unit(self.unit());
        match n % 5 {
            0 => {
                let mut metric = metric.gauge();
                end!(metric.point(times, n as f64 / 4.0));
            }
            1 => {
                let mut metric = metric.monotonic_sum(Temporality::Cumulative);
                end!(metric.point(times, n));
            }
            2 => {
                let mut metric = metric.histogram(Temporality::Delta);
                let counts = [1, 0, n, u64::from(u32::MAX) + n];
                let mut point = metric.point(times, &BOUNDS, &counts);
                point.sum(n as f64 * 1.5).min(0.25).max(9.5);
                end!(point);
            }
            3 => {
                let (positive, negative) = ([n, 0, 2], [1]);
                let buckets = ExponentialBuckets {
                    scale: 3,
                    zero_count: n,
                    positive: Buckets {
                        offset: -2,
                        counts: &positive,
                    },
                    negative: Buckets {
                        offset: 1,
                        counts: &negative,
                    },
                    ..ExponentialBuckets::default()
                };
                let mut metric = metric.exponential_histogram(Temporality::Delta);
                let mut point = metric.point(times, buckets);
                point.sum(n as f64);
                end!(point);
            }
            _ => {
                let mut metric = metric.summary();
                let mut point = metric.point(times, n, n as f64 / 2.0);
                point.quantile(0.5, 1.0).quantile(0.99, 7.5);
                end!(point);
            }
        }
    }

    /// The point in the form of `records.py`.
    pub fn to_json(&self) -> serde_json::Value {
        let n = self.index;
        let text = |count: u64| count.to_string();
        let (data, temporality, point) = match n % 5 {
            0 => ("gauge", 0, json!({ "double": n as f64 / 4.0 })),
            1 => ("sum", CUMULATIVE, json!({ "int": text(n) })),
            2 => {
                let counts = [1, 0, n, u64::from(u32::MAX) + n];
                let point = json!({
                    "count": text(counts.iter().sum()),
                    "sum": n as f64 * 1.5,
                    "buckets": counts.map(text),
                    "bounds": BOUNDS,
                    "min": 0.25,
                    "max": 9.5,
                });
                ("histogram", DELTA, point)
            }
            3 => {
                let point = json!({
                    "count": text(n + n + 2 + 1),
                    "sum": n as f64,
                    "scale": 3,
                    "zero": text(n),
                    "positive": [-2, [text(n), text(0), text(2)]],
                    "negative": [1, [text(1)]],
                });
                ("exponential_histogram", DELTA, point)
            }
            _ => {
                let point = json!({ "count": text(n), "sum": n as f64 / 2.0, "quantiles": [[0.5, 1.0], [0.99, 7.5]] });
                ("summary", 0, point)
            }
        };
        json!({
            "signal": "metrics",
            "resource": resource_pairs(),
            "scope": SCOPE,
            "name": self.name(),
            "unit": self.unit(),
            "data": data,
            "temporality": temporality,
            "monotonic": n % 5 == 1,
            "start": self.start.to_string(),
            "time": self.time.to_string(),
            "attributes": pairs(&self.attributes),
            "point": point,
        })
    }

    fn name(&self) -> &'static str {
        ["load", "calls", "latency", "size", "wait"][self.index as usize % 5]
    }

    fn unit(&self) -> &'static str {
        ["1", "{call}", "s", "By", "ms"][self.index as usize % 5]
    }
}
