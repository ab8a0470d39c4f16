//! The self-metrics of an exporter, under the names of the OpenTelemetry semantic conventions.

use super::meter::{BOUNDS, End, ErrorType, Meter, Response};
use crate::config::{Protocol, Settings};
use crate::encode::{MetricBatch, Signal, Temporality};
use crate::endpoint::Host;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::time::Duration;

/// Seconds of a count of nanoseconds.
const NANOS: f64 = 1e9;

/// What an exporter counted about itself, at one moment: how many items are on their way, how many were exported or failed and
/// why, and how long exports took (OpenTelemetry semantic conventions, "SDK metrics").
///
/// Each item counts once an export, however many attempts that takes: as in flight until the verdict, backoff included, then
/// as exported, or as failed with the cause of the last attempt. Items that the collector rejects in a partial success count
/// as failed. Each export is timed once, from when it was handed over to its verdict.
///
/// Items of a pipeline are in flight from their first export until they are settled for good, also while they wait in its
/// queue for the next, and count once however often that takes. Those that it gives up then count as failed with its reason,
/// such as `expired` or `evicted`; those that never came to an export, such as what a full queue drops, are not counted here.
/// Where it hands them on to another exporter (failover, round robin) they are that one's from then on. Each of its exports is
/// timed.
///
/// ```
/// use otlp_embed::{Config, MetricBatch, Resource, rt};
/// # fn main() -> Result<(), otlp_embed::Error> {
/// # let process_start_unix_nanos = 1;
/// # let now_unix_nanos = 2;
/// let exporter = Config::new().build(rt::Blocking::new()?)?;
/// let mut batch = MetricBatch::new(&Resource::builder().attr("service.name", "shop").build());
/// exporter.self_metrics().write(&mut batch, process_start_unix_nanos, now_unix_nanos);
/// // Nothing was exported so far, so there is nothing to tell.
/// assert!(batch.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SelfMetrics {
    meter: Meter,
    origins: [Origin; Signal::ALL.len()],
    instance: u32,
    name: Option<String>,
}

/// Which component counted, and where it exports to.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    component: &'static str,
    address: Arc<str>,
    /// None for a socket that has none.
    port: Option<u16>,
}

impl Origin {
    /// Those of all signals.
    pub(crate) fn all(settings: &Settings) -> [Self; Signal::ALL.len()] {
        Signal::ALL.map(|signal| {
            let endpoint = &settings.lane(signal).endpoint;
            Self {
                component: component(signal, settings.route(signal).protocol),
                address: match endpoint.host() {
                    Host::Name(host) | Host::Unix(host) => host.clone(),
                    Host::Ip(ip) => ip.to_string().into(),
                },
                port: Some(endpoint.port()).filter(|port| *port != 0),
            }
        })
    }
}

impl SelfMetrics {
    pub(crate) fn new(meter: Meter, origins: [Origin; Signal::ALL.len()]) -> Self {
        Self {
            meter,
            origins,
            instance: 0,
            name: None,
        }
    }

    /// Sets the number that tells this exporter from the others of the process.
    #[cfg(feature = "std")]
    pub(crate) fn with_instance(mut self, instance: u32) -> Self {
        self.instance = instance;
        self
    }

    /// Adds what was counted elsewhere on the way to the same exporter.
    #[cfg(feature = "std")]
    pub(crate) fn merge(&mut self, meter: &Meter) {
        self.meter.merge(meter);
    }

    /// Sets the value of `otel.component.name`; unless set it is the type of the component and a number that counts the
    /// exporters of the process, such as `otlp_grpc_span_exporter/0`. It is to be one of few, and the same after a restart.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Items of exports without a verdict.
    pub fn in_flight(&self, signal: Signal) -> u64 {
        self.meter.signal(signal).in_flight
    }

    /// Items that the collector accepted.
    pub fn exported(&self, signal: Signal) -> u64 {
        self.meter.signal(signal).exported
    }

    /// Items that were not exported, by cause: rejected, given up, or sent without an answer.
    pub fn failed(&self, signal: Signal) -> impl Iterator<Item = (ErrorType, u64)> + '_ {
        self.meter.signal(signal).failed.iter().copied()
    }

    /// Exports that ended, by the cause of those that were no full success: how many, and how long they took together.
    pub fn exports(&self, signal: Signal) -> impl Iterator<Item = (Option<ErrorType>, u64, Duration)> + '_ {
        let durations = self.meter.signal(signal).durations.iter();
        durations.map(|(end, histogram)| {
            let took = Duration::from_nanos(histogram.sum_nanos);
            (end.error, histogram.count(), took)
        })
    }

    /// Adds the metrics of every signal that was exported to a batch, under the batch's resource and a scope `otlp-embed`.
    ///
    /// `start_unix_nanos` is when the exporter was built, and `now_unix_nanos` when this snapshot was taken, both in
    /// nanoseconds of the Unix epoch: the metrics are cumulative. Whatever is added to the batch afterwards is to begin with
    /// a scope of its own.
    ///
    /// Written are `otel.sdk.exporter.{span,metric_data_point,log}.inflight` and `.exported`, and
    /// `otel.sdk.exporter.operation.duration`, which is all that the conventions have for profiles.
    pub fn write(&self, batch: &mut MetricBatch, start_unix_nanos: u64, now_unix_nanos: u64) {
        if Signal::ALL
            .iter()
            .all(|signal| !self.meter.signal(*signal).is_used)
        {
            return;
        }
        batch.scope("otlp-embed", env!("CARGO_PKG_VERSION"));
        let times = start_unix_nanos..now_unix_nanos;
        for signal in Signal::ALL {
            self.write_items(batch, signal, times.clone());
        }
        self.write_durations(batch, times);
    }

    fn write_items(&self, batch: &mut MetricBatch, signal: Signal, times: core::ops::Range<u64>) {
        let meter = self.meter.signal(signal);
        let (Some(item), true) = (Item::of(signal), meter.is_used) else {
            return;
        };
        let mut points = batch
            .metric(item.in_flight)
            .description("Items that were handed over and have no verdict yet")
            .unit(item.unit)
            .sum(Temporality::Cumulative);
        let mut point = points.point(times.clone(), signed(meter.in_flight));
        self.describe(signal, |name, value| attr(&mut point, name, value));
        point.end();
        drop(point);
        points.end();
        let mut points = batch
            .metric(item.exported)
            .description("Items whose export ended, in success or in failure")
            .unit(item.unit)
            .monotonic_sum(Temporality::Cumulative);
        let failed = meter.failed.iter().map(|(why, items)| (Some(*why), *items));
        for (why, items) in core::iter::once((None, meter.exported)).chain(failed) {
            let mut point = points.point(times.clone(), signed(items));
            self.describe(signal, |name, value| attr(&mut point, name, value));
            if let Some(why) = why {
                point.attr("error.type", &*why.to_string());
            }
            point.end();
        }
    }

    fn write_durations(&self, batch: &mut MetricBatch, times: core::ops::Range<u64>) {
        let mut points = batch
            .metric("otel.sdk.exporter.operation.duration")
            .description("The time of an export from its begin to its verdict, retries included")
            .unit("s")
            .histogram(Temporality::Cumulative);
        for signal in Signal::ALL {
            for (End { error, response }, histogram) in &self.meter.signal(signal).durations {
                let mut point = points.point(times.clone(), &BOUNDS, &histogram.counts);
                point
                    .sum(histogram.sum_nanos as f64 / NANOS)
                    .min(histogram.min_nanos as f64 / NANOS)
                    .max(histogram.max_nanos as f64 / NANOS);
                self.describe(signal, |name, value| attr(&mut point, name, value));
                if let Some(error) = error {
                    point.attr("error.type", &*error.to_string());
                }
                match response {
                    Some(Response::Http(status)) => {
                        point.attr("http.response.status_code", i64::from(*status));
                    }
                    Some(response @ Response::Grpc(_)) => {
                        point.attr("rpc.response.status_code", &*response.to_string());
                    }
                    None => {}
                }
                point.end();
            }
        }
    }

    /// The attributes of every point of a signal.
    fn describe(&self, signal: Signal, mut add: impl FnMut(&str, Value<'_>)) {
        let origin = &self.origins[signal.index()];
        add("otel.component.type", Value::Text(origin.component));
        match &self.name {
            Some(name) => add("otel.component.name", Value::Text(name)),
            None => {
                let name = format!("{}/{}", origin.component, self.instance);
                add("otel.component.name", Value::Text(&name));
            }
        }
        add("server.address", Value::Text(&origin.address));
        if let Some(port) = origin.port {
            add("server.port", Value::Number(port.into()));
        }
    }
}

enum Value<'a> {
    Text(&'a str),
    Number(i64),
}

fn attr<K: crate::encode::Kind>(point: &mut crate::encode::PointWriter<'_, K>, name: &str, value: Value<'_>) {
    match value {
        Value::Text(text) => point.attr(name, text),
        Value::Number(number) => point.attr(name, number),
    };
}

/// The metrics that count the items of a signal.
struct Item {
    in_flight: &'static str,
    exported: &'static str,
    unit: &'static str,
}

impl Item {
    fn of(signal: Signal) -> Option<Self> {
        let (in_flight, exported, unit) = match signal {
            Signal::Traces => (
                "otel.sdk.exporter.span.inflight",
                "otel.sdk.exporter.span.exported",
                "{span}",
            ),
            Signal::Metrics => (
                "otel.sdk.exporter.metric_data_point.inflight",
                "otel.sdk.exporter.metric_data_point.exported",
                "{data_point}",
            ),
            Signal::Logs => (
                "otel.sdk.exporter.log.inflight",
                "otel.sdk.exporter.log.exported",
                "{log_record}",
            ),
            Signal::Profiles => return None,
        };
        Some(Self {
            in_flight,
            exported,
            unit,
        })
    }
}

/// The type of a component as the conventions name it; what they do not name is called by its type in this crate.
fn component(signal: Signal, protocol: Protocol) -> &'static str {
    match (signal, protocol) {
        (Signal::Traces, Protocol::Grpc) => "otlp_grpc_span_exporter",
        (Signal::Traces, Protocol::HttpProtobuf) => "otlp_http_span_exporter",
        (Signal::Traces, Protocol::HttpJson) => "otlp_http_json_span_exporter",
        (Signal::Metrics, Protocol::Grpc) => "otlp_grpc_metric_exporter",
        (Signal::Metrics, Protocol::HttpProtobuf) => "otlp_http_metric_exporter",
        (Signal::Metrics, Protocol::HttpJson) => "otlp_http_json_metric_exporter",
        (Signal::Logs, Protocol::Grpc) => "otlp_grpc_log_exporter",
        (Signal::Logs, Protocol::HttpProtobuf) => "otlp_http_log_exporter",
        (Signal::Logs, Protocol::HttpJson) => "otlp_http_json_log_exporter",
        (Signal::Profiles, _) => "otlp_embed::Exporter",
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
