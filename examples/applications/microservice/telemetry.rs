//! The set-up: one pipeline, and for each service the SDK's providers over it.

use crate::made::{Made, attributes, point_id};
use crate::{Result, say};
use opentelemetry::metrics::{Counter, Histogram, MeterProvider, UpDownCounter};
use opentelemetry::trace::TracerProvider;
use opentelemetry::{InstrumentationScope, KeyValue, logs::LoggerProvider};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::logs::{SdkLogger, SdkLoggerProvider};
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics};
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider, Temporality};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use otlp_embed::observe::{Event, Level, Transition};
use otlp_embed::pipeline::{Pipeline, PipelineConfig, PipelineThread, QueueConfig};
use otlp_embed::policy::{BreakerConfig, RetryPolicy};
use otlp_embed::{Config, Exporter, Protocol, Report, Stats, TemporalityPreference, rt, sdk};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Who instruments: the name and version of every scope.
const SCOPE: (&str, &str) = ("microservice", "1.0.0");
/// How often metrics are collected. A minute is usual.
const COLLECTED_EVERY: Duration = Duration::from_secs(1);
/// The boundaries that the semantic conventions give to durations of HTTP requests, in seconds.
const BOUNDARIES: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// What delivers: an exporter, a pipeline over it, the thread that runs it. All services share it.
pub struct Delivery {
    /// For its account.
    pub exporter: Exporter<rt::Blocking>,
    /// What the services write to.
    pub pipeline: Pipeline,
    /// What the observer was told last.
    pub heard: Heard,
    thread: PipelineThread,
}

impl Delivery {
    /// Starts it. With a collector of the user's, the environment says what there is to say beyond its URL.
    pub fn start(endpoint: Option<&str>, queue: Option<u64>, is_ours: bool) -> Result<Self> {
        let heard = Heard::default();
        let hears = heard.clone();
        let mut config = match is_ours {
            true => Config::new().with_protocol(Protocol::Grpc),
            false => Config::from_env()?,
        };
        if let Some(endpoint) = endpoint {
            config = config.with_endpoint(endpoint);
        }
        let exporter = config
            // Increments that wait out an outage, each collection a point of its own.
            .with_temporality_preference(TemporalityPreference::Delta)
            .with_timeout(Duration::from_secs(2))
            // One attempt for each export: the pipeline exports again what comes back, and its breaker sees each failure.
            .with_retry_policy(RetryPolicy::never())
            .with_observer(move |event| hears.hear(&event))
            .build(rt::Blocking::new()?)?;
        let mut room = QueueConfig::new();
        if let Some(items) = queue {
            room = room.with_items_max(items);
        }
        // An outage lasts seconds here and minutes in production: the times are in proportion. The defaults suit minutes.
        let breaker = BreakerConfig::new()
            .with_window(Duration::from_secs(2))
            .with_requests_min(5)
            .with_open_for(Duration::from_millis(500))
            .with_probes(1);
        let config = PipelineConfig::new()
            .with_queue(room)
            .with_backoff(backoff())
            .with_breaker(breaker);
        let (pipeline, future) = exporter.pipeline(config)?;
        Ok(Self {
            thread: future.run_on_thread()?,
            exporter,
            pipeline,
            heard,
        })
    }

    /// Delivers what is left, for so long at most, and tells what became of everything.
    pub fn shutdown(self, patience: Duration) -> Result<(Report, Stats)> {
        self.pipeline.shutdown_blocking(patience);
        let report = self.thread.join()?;
        Ok((report, self.exporter.stats()))
    }
}

fn backoff() -> RetryPolicy {
    RetryPolicy::default()
        .with_initial(Duration::from_millis(100))
        .with_max(Duration::from_millis(400))
}

/// What the observer was told, for the lines of progress.
#[derive(Clone, Default)]
pub struct Heard {
    error: Arc<Mutex<Option<String>>>,
}

impl Heard {
    /// The last failure that is not over.
    pub fn error(&self) -> Option<String> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn hear(&self, event: &Event<'_>) {
        let mut error = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        match &event.transition {
            Transition::OutageBegan { failure, .. } => *error = Some(failure.clone().into_owned()),
            Transition::Recovered { .. } => *error = None,
            // That has a place of its own in the line.
            Transition::BreakerOpened { .. } | Transition::BreakerClosed { .. } => {}
            _ if event.level() == Level::Warn => *error = Some(event.to_string()),
            _ => {}
        }
    }
}

/// What a service is watched with.
pub struct Telemetry {
    /// The service's name.
    pub service: &'static str,
    /// Where it notes what it makes.
    pub made: Arc<Made>,
    /// Its spans.
    pub tracer: SdkTracer,
    /// Its log records.
    pub logger: SdkLogger,
    /// `http.server.request.duration`.
    pub server_duration: Histogram<f64>,
    /// `http.server.active_requests`.
    pub server_active: UpDownCounter<i64>,
    /// `http.client.request.duration`.
    pub client_duration: Histogram<f64>,
    /// Orders, by their outcome.
    pub orders: Counter<u64>,
    traces: SdkTracerProvider,
    logs: SdkLoggerProvider,
    metrics: SdkMeterProvider,
}

impl Telemetry {
    /// That of a service of this name.
    pub fn new(service: &'static str, pipeline: &Pipeline, made: &Arc<Made>) -> Self {
        let resource = Resource::builder()
            .with_service_name(service)
            .with_attribute(KeyValue::new("service.namespace", "microservice"))
            .build();
        let traces = SdkTracerProvider::builder()
            .with_span_processor(sdk::SpanProcessor::new(pipeline))
            .with_resource(resource.clone())
            .build();
        let logs = SdkLoggerProvider::builder()
            .with_log_processor(sdk::LogProcessor::new(pipeline))
            .with_resource(resource.clone())
            .build();
        let exporter = Noted {
            exporter: sdk::MetricExporter::queued(pipeline),
            service,
            made: Arc::clone(made),
        };
        let reader = PeriodicReader::builder(exporter)
            .with_interval(COLLECTED_EVERY)
            .build();
        let metrics = SdkMeterProvider::builder()
            .with_reader(reader)
            .with_resource(resource)
            .build();

        let scope = InstrumentationScope::builder(SCOPE.0)
            .with_version(SCOPE.1)
            .build();
        let meter = metrics.meter_with_scope(scope.clone());
        let duration = |name, description| {
            meter
                .f64_histogram(name)
                .with_unit("s")
                .with_description(description)
                .with_boundaries(BOUNDARIES.to_vec())
                .build()
        };
        Self {
            service,
            made: Arc::clone(made),
            tracer: traces.tracer_with_scope(scope.clone()),
            logger: logs.logger_with_scope(scope),
            server_duration: duration(
                "http.server.request.duration",
                "Duration of HTTP server requests.",
            ),
            server_active: meter
                .i64_up_down_counter("http.server.active_requests")
                .with_unit("{request}")
                .with_description("Number of active HTTP server requests.")
                .build(),
            client_duration: duration(
                "http.client.request.duration",
                "Duration of HTTP client requests.",
            ),
            orders: meter.u64_counter("shop.orders").with_unit("{order}").build(),
            traces,
            logs,
            metrics,
        }
    }

    /// Has each provider give what it still has, and ends it. None waits for the collector: the pipeline does, once for all.
    pub fn shutdown(&self) {
        if let Err(error) = self.metrics.shutdown() {
            say(format_args!(
                "{}: the last collection of metrics: {error}",
                self.service
            ));
        }
        // Their errors say no more than that they did not wait, or what the report of the pipeline says.
        let _ = self.traces.shutdown_with_timeout(Duration::ZERO);
        let _ = self.logs.shutdown_with_timeout(Duration::ZERO);
    }
}

/// An exporter of metrics that notes each data point before it passes it on.
struct Noted {
    exporter: sdk::MetricExporter,
    service: &'static str,
    made: Arc<Made>,
}

impl PushMetricExporter for Noted {
    fn export(&self, metrics: &ResourceMetrics) -> impl Future<Output = OTelSdkResult> + Send {
        let of_scopes = metrics.scope_metrics();
        for metric in of_scopes.flat_map(|of_scope| of_scope.metrics()) {
            match metric.data() {
                AggregatedMetrics::F64(data) => self.note(metric.name(), data),
                AggregatedMetrics::U64(data) => self.note(metric.name(), data),
                AggregatedMetrics::I64(data) => self.note(metric.name(), data),
            }
        }
        self.exporter.export(metrics)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        // As the other providers: the SDK's reader would wait for 5 s where the collector is away. That it does not wait is no
        // failure to tell it of.
        match self.exporter.shutdown_with_timeout(Duration::ZERO) {
            Err(OTelSdkError::Timeout(_)) => Ok(()),
            ended => ended,
        }
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}

impl Noted {
    fn note<T: Copy>(&self, metric: &str, data: &MetricData<T>) {
        match data {
            MetricData::Sum(sum) => {
                for point in sum.data_points() {
                    self.note_point(metric, point.attributes(), sum.start_time(), sum.time());
                }
            }
            MetricData::Histogram(histogram) => {
                for point in histogram.data_points() {
                    self.note_point(
                        metric,
                        point.attributes(),
                        histogram.start_time(),
                        histogram.time(),
                    );
                }
            }
            // None of the services has an instrument of another kind.
            MetricData::Gauge(_) | MetricData::ExponentialHistogram(_) => {}
        }
    }

    fn note_point<'a>(
        &self,
        metric: &str,
        fields: impl Iterator<Item = &'a KeyValue>,
        start: SystemTime,
        time: SystemTime,
    ) {
        self.made.point(|| {
            let fields = fields.map(|field| (field.key.as_str(), field.value.as_str()));
            point_id(
                self.service,
                metric,
                &attributes(fields),
                unix_nanos(start),
                unix_nanos(time),
            )
        });
    }
}

fn unix_nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
