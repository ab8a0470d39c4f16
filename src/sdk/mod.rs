//! What plugs into the OpenTelemetry SDK: processors that write into a [pipeline](crate::pipeline), and exporters.
//!
//! [`SpanProcessor`] and [`LogProcessor`] take the place of the SDK's batch processors. A span is encoded when it ends, straight
//! into the pipeline's open batch, and let go; what waits in the queue are bytes, bounded as such, retried through an outage,
//! and accounted for. [`MetricExporter::queued`] does the same with each collection of a meter provider.
//!
//! ```
//! use opentelemetry_sdk::{logs::SdkLoggerProvider, metrics::SdkMeterProvider, trace::SdkTracerProvider};
//! # mod opentelemetry_sdk { pub use otel_sdk_0_33::*; }
//! use otlp_embed::{Config, Error, pipeline::PipelineConfig, rt, sdk};
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let exporter = Config::new().build(rt::Blocking::new()?)?;
//! let (pipeline, future) = exporter.pipeline(PipelineConfig::new())?;
//! let thread = future.run_on_thread()?;
//!
//! let traces = SdkTracerProvider::builder().with_span_processor(sdk::SpanProcessor::new(&pipeline)).build();
//! let logs = SdkLoggerProvider::builder().with_log_processor(sdk::LogProcessor::new(&pipeline)).build();
//! let metrics = SdkMeterProvider::builder().with_periodic_exporter(sdk::MetricExporter::queued(&pipeline)).build();
//! // ... and at the end:
//! traces.shutdown()?;
//! logs.shutdown()?;
//! metrics.shutdown()?;
//! println!("{}", pipeline.shutdown_blocking(Duration::from_secs(5)));
//! thread.join()?;
//! # Ok(())
//! # }
//! ```
//!
//! [`SpanExporter`], [`LogExporter`] and [`MetricExporter`] serve applications that keep the SDK's processors and readers. Each
//! call of theirs is one export, with the retries and the deadline of the exporter.
//!
//! # Runtimes
//!
//! The SDK calls from threads of its own and blocks them; it knows no executor. An exporter on [`rt::Blocking`](crate::rt::Blocking)
//! suits it everywhere, in an application on tokio too: it needs no reactor, and no worker that must be free. On another
//! runtime exports make progress only while that runtime is driven. Where it is not, as a `current_thread` runtime whose one
//! thread waits in `force_flush`, an export ends in a timeout a second after its own time, by a thread that keeps the time
//! (`otlp-sdk-alarm`, started when it is needed, and gone after 10 s without use). The same thread ends the wait of
//! [`MetricExporter::queued`] for room in a full queue, on every runtime.
//!
//! # One exporter for all
//!
//! All of these share what they are made of: the clones of one [`Exporter`](crate::Exporter) or of one
//! [`Pipeline`](crate::pipeline::Pipeline). The application keeps a handle of its own, which tells
//! [`stats`](crate::Exporter::stats) and the loss report after a provider has taken its processor or exporter. To shut down a
//! provider flushes, and ends only its own part: pipeline and exporter are shut down by their handles, or end with the last.
//!
//! # What is referenced and what is copied
//!
//! Spans come owned from the SDK: text of 1 KiB and more in them is referenced where it lies, and held until the collector has
//! answered; the rest of the span is copied once, into the request, and freed. Log records and metrics are lent: they are
//! copied once, before the call returns. Nothing of a borrowed batch is kept, whatever happens to the future.
//!
//! # Versions
//!
//! The types here name no version of the SDK. A feature implements the traits of one version for them, [`opentelemetry_0_33`]
//! those of `opentelemetry_sdk` 0.33; a later version adds a feature, and both work in one program.
//!
//! [`opentelemetry_0_33`]: crate#features
//!
//! This module owns the mapping of the SDK's data and of its calls. It never queues, retries or exports by itself, and is fed by
//! the SDK.

mod alarm;
mod exporters;
mod losses;
mod processors;
mod v0_33;

pub use exporters::{LogExporter, MetricExporter, SpanExporter};
pub use processors::{LogProcessor, SpanProcessor};
