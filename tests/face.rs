//! The face of the crate: the lines that users write, each as it is published. A name or a shape that changes breaks them.

use otlp_embed::export::{Action, Engine, ExportId, Fact};
use otlp_embed::pipeline::{Pipeline, PipelineConfig};
use otlp_embed::policy::RetryPolicy;
use otlp_embed::rt::{self, Runtime};
use otlp_embed::testing::{Network, SimulatedCollector};
use otlp_embed::time::Instant;
use otlp_embed::{
    Compression, Config, Error, Exporter, Keepalive, LogBatch, MetricBatch, Outcome, Protocol, Report,
    Request, Resource, Signal, Stats, Tls, TraceBatch,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn world() -> (Network, SimulatedCollector) {
    let network = Network::new(1);
    let collector = network.collector();
    (network, collector)
}

#[test]
fn a_batch_is_written_and_exported() -> Result<(), Error> {
    let (network, collector) = world();
    let exporter = Config::new()
        .with_endpoint(collector.endpoint())
        .build(network.clone())?;
    let prompt: Arc<str> = "why? ".repeat(1_000).into();
    let (trace_id, span_id, start, end) = ([1; 16], [2; 8], 1_000, 2_000);

    let mut batch = TraceBatch::new(&Resource::from_env());
    batch.scope("my-lib", "1.0");
    batch
        .span(trace_id, span_id, "chat")
        .attr("http.route", "/chat")
        .attr("retries", 2)
        .attr_shared("gen_ai.prompt", prompt)
        .times(start..end)
        .end();
    let request: Request = batch.finish().with_header("x-scope-orgid", "acme")?;
    let outcome = network.block_on(async { exporter.export(request).await })?;

    assert_eq!((outcome.delivered(), outcome.rejected()), (1, 0));
    assert_eq!(collector.spans()[0].name, "chat");
    assert!(LogBatch::new(&Resource::from_env()).is_empty());
    assert!(MetricBatch::new(&Resource::from_env()).is_empty());
    Ok(())
}

#[test]
fn every_setting_has_its_setter() -> Result<(), Error> {
    let (network, collector) = world();
    let events = Arc::new(AtomicU64::new(0));
    let told = events.clone();
    let exporter: Exporter<Network> = Config::new()
        .with_endpoint(collector.endpoint())
        .with_protocol(Protocol::HttpProtobuf)
        .with_timeout(5 * SECOND)
        .with_connect_timeout(SECOND)
        .with_header("x-scope-orgid", "acme")
        .with_compression(Compression::Gzip)
        .with_retry_policy(RetryPolicy::default())
        .with_memory_limit(8 << 20)
        .with_keepalive(Keepalive::new(30 * SECOND))
        .with_max_connection_age(600 * SECOND)
        .with_credentials(|| String::from("token"))
        .with_observer(move |_event| {
            told.fetch_add(1, Ordering::Relaxed);
        })
        .for_signal(Signal::Logs, |logs| logs.with_timeout(SECOND))
        .build(network.clone())?;
    let outcome = network.block_on(exporter.export(spans()))?;
    assert_eq!(outcome.delivered(), 1);
    assert!(events.load(Ordering::Relaxed) > 0, "a connection was opened");

    let in_plain_text = Config::new()
        .with_endpoint(collector.endpoint())
        .with_tls(Tls::new());
    let error = in_plain_text
        .build(network.clone())
        .expect_err("the scheme decides");
    assert!(
        error.is_misuse() && error.to_string().contains("with_tls"),
        "{error}"
    );
    Ok(())
}

#[test]
fn an_exporter_has_a_pipeline_a_driver_an_account_and_an_end() -> Result<(), Error> {
    let (network, collector) = world();
    let exporter = Config::new()
        .with_endpoint(collector.endpoint())
        .build(network.clone())?;
    let (pipeline, future) = exporter.pipeline(PipelineConfig::new())?;
    let running = network.spawn(future);
    network.spawn(exporter.driver());
    let handle: Pipeline = pipeline.clone();
    let (report, of_pipeline): (Report, Report) = network.block_on(async {
        handle
            .spans_async(|batch| batch.span([1; 16], [2; 8], "checkout").end())
            .await
            .expect("there is room");
        let flushed = pipeline.flush(5 * SECOND).await.expect("it runs");
        assert!(flushed.is_delivered());
        let export = exporter.export(spans());
        println!("{:?}", export.state());
        assert_eq!(export.await.expect("a collector that works").delivered(), 1);
        let report = exporter.shutdown(5 * SECOND).await;
        (report, running.await)
    });
    let stats: Stats = exporter.stats();
    assert!(stats.is_conserved());
    assert_eq!((stats.accepted, stats.delivered, stats.queued), (2, 2, 0));
    assert_eq!((report.lost(), of_pipeline.lost()), (0, 0));
    assert_eq!(collector.spans().len(), 2);
    Ok(())
}

/// The names of these alone: sockets are tested elsewhere.
#[test]
fn a_plain_thread_waits_and_a_loop_drives() -> Result<(), Error> {
    let wait: fn(otlp_embed::OtlpExportFuture<rt::Blocking>) -> Result<Outcome, Error> =
        |export| export.wait();
    let exporter = Config::new().build(rt::Blocking::new()?)?;
    let empty = TraceBatch::new(&Resource::from_env()).finish();
    assert_eq!(
        wait(exporter.export(empty))?.delivered(),
        0,
        "nothing is sent for an empty batch"
    );

    let now = Instant::from_millis(1_000);
    let mut engine: Engine = Engine::new(Config::new().with_endpoint("http://127.0.0.1:4318"), 1)?;
    let id: ExportId = engine.submit(now, spans());
    let action = engine.poll_action();
    let Some(Action::Connect(conn, _)) = action else {
        panic!("a literal address is connected to at once: {action:?}");
    };
    engine.handle(now, Fact::Connected(conn));
    assert!(matches!(engine.poll_action(), Some(Action::Transmit(to, _)) if to == conn));
    let deadline = engine.poll_timeout().expect("an export under way has a deadline");
    engine.handle(deadline + 60 * SECOND, Fact::Timeout);
    let (settled, verdict) = engine.poll_outcome().expect("its time is over");
    assert_eq!(settled, id);
    assert!(verdict.expect_err("nobody answered").is_timeout());
    Ok(())
}

#[test]
fn settings_come_from_the_environment_when_asked() -> Result<(), Error> {
    let (network, _) = world();
    let exporter = Config::from_env()?.build(network.clone())?;
    assert!(network.now() >= Instant::from_millis(1_000));
    assert!(exporter.config_report().to_string().contains("endpoint"));
    Ok(())
}

fn spans() -> Request {
    let mut batch = TraceBatch::new(&Resource::from_env());
    batch.span([1; 16], [3; 8], "checkout").end();
    batch.finish()
}
