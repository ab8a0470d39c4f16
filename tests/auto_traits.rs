//! What may cross threads: a promise of the API that no signature shows.

use otlp_embed::export::{Driver, Engine, Shutdown};
use otlp_embed::pipeline::{
    ActorAnswer, ActorFlush, ActorShutdown, AdaptiveBatcher, ExportQueue, ExporterActor, ExporterHandle,
    Flush, JobHandle, LatencyHistogram, Pipeline, PipelineFuture, PipelineShutdown, SchedulerDriver,
    SmartScheduler, SpanBatch, StreamHandle, StreamItem, StreamingOtlpExporter, StreamingRun, WaitAll,
};
use otlp_embed::protocol::Session;
use otlp_embed::rt::{Blocking, Smol, Tokio};
use otlp_embed::testing::Collector;
use otlp_embed::{
    Config, Error, Exporter, OtlpExportFuture, Outcome, Report, Request, Resource, Stats, TraceBatch,
};

fn is_send<T: Send>() {}
fn is_send_and_sync<T: Send + Sync>() {}

#[test]
fn values_cross_threads() {
    is_send_and_sync::<Config>();
    is_send_and_sync::<Request>();
    is_send_and_sync::<Resource>();
    is_send_and_sync::<Outcome>();
    is_send_and_sync::<Error>();
    is_send_and_sync::<Stats>();
    is_send_and_sync::<Report>();
    is_send_and_sync::<Collector>();
    is_send::<TraceBatch>();
    is_send::<Engine<Session>>();
}

#[test]
fn exporters_and_their_futures_cross_threads_where_their_runtime_does() {
    is_send_and_sync::<Exporter<Tokio>>();
    is_send_and_sync::<Exporter<Smol>>();
    is_send_and_sync::<Exporter<Blocking>>();
    is_send::<OtlpExportFuture<Tokio>>();
    is_send::<OtlpExportFuture<Smol>>();
    is_send::<OtlpExportFuture<Blocking>>();
    is_send::<Driver<Tokio>>();
    is_send::<Shutdown<Tokio>>();
}

#[test]
fn pipelines_cross_threads_where_their_runtime_does() {
    is_send_and_sync::<Pipeline>();
    is_send_and_sync::<AdaptiveBatcher>();
    is_send_and_sync::<ExportQueue>();
    is_send::<PipelineFuture<Tokio>>();
    is_send::<PipelineFuture<Smol>>();
    is_send::<PipelineFuture<Blocking>>();
    is_send::<Flush>();
    is_send::<PipelineShutdown>();
}

#[test]
fn what_stands_on_exporters_crosses_threads_where_they_do() {
    is_send_and_sync::<ExporterHandle>();
    is_send_and_sync::<StreamHandle>();
    is_send_and_sync::<SmartScheduler>();
    is_send_and_sync::<JobHandle<Outcome>>();
    is_send_and_sync::<LatencyHistogram>();
    is_send_and_sync::<SpanBatch>();
    is_send::<StreamItem>();
    is_send::<ActorAnswer>();
    is_send::<ActorFlush>();
    is_send::<ActorShutdown>();
    is_send::<WaitAll>();
    is_send::<SchedulerDriver>();
    is_send::<ExporterActor<Tokio>>();
    is_send::<ExporterActor<Smol>>();
    is_send::<ExporterActor<Blocking>>();
    is_send::<StreamingOtlpExporter<Tokio>>();
    is_send::<StreamingRun<Tokio, std::future::Ready<()>>>();
    is_send::<StreamingRun<Blocking, std::future::Ready<()>>>();
}
