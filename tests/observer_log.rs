//! The feature `log`: what an observer would be told goes to the crate `log` where none is set, once and without a loop.

#[path = "support/batches.rs"]
#[allow(dead_code, reason = "not every batch is needed here")]
mod batches;

use batches::batch;
use log::{Level, LevelFilter, Log, Metadata, Record};
use otlp_embed::policy::RetryPolicy;
use otlp_embed::testing::{Answer, Collector};
use otlp_embed::{Config, Exporter, LogBatch, Protocol, Resource, rt};
use std::sync::{Mutex, Once, OnceLock};

/// Keeps what is written, and hands it on to an exporter as a bridge of an application's would.
struct Logger;

static LINES: Mutex<Vec<(Level, String, String)>> = Mutex::new(Vec::new());
static BRIDGE: OnceLock<Exporter<rt::Blocking>> = OnceLock::new();

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = record.args().to_string();
        let target = record.target().to_owned();
        if !target.starts_with("otlp_embed") {
            return;
        }
        LINES
            .lock()
            .expect("no panic")
            .push((record.level(), target, line.clone()));
        if let Some(exporter) = BRIDGE.get() {
            let mut batch = LogBatch::new(&Resource::new());
            batch.scope("bridge", "1");
            batch.log().time(1).body(&*line).end();
            _ = exporter.export(batch.finish()).wait();
        }
    }

    fn flush(&self) {}
}

fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Logger).expect("the only one");
        log::set_max_level(LevelFilter::Trace);
    });
}

/// The lines that have these words.
fn lines(words: &str) -> Vec<(Level, String)> {
    let lines = LINES.lock().expect("no panic");
    let about = lines.iter().filter(|(_, _, line)| line.contains(words));
    about
        .map(|(level, target, line)| {
            assert_eq!(target, "otlp_embed");
            (*level, line.clone())
        })
        .collect()
}

fn exporter(collector: &Collector, change: impl FnOnce(Config) -> Config) -> Exporter<rt::Blocking> {
    let config = Config::new()
        .with_protocol(Protocol::Grpc)
        .with_endpoint(collector.endpoint())
        .with_retry_policy(RetryPolicy::never());
    change(config)
        .build(rt::Blocking::new().expect("a reactor"))
        .expect("it works")
}

/// Success, failure, success.
fn up_down_up(exporter: &Exporter<rt::Blocking>, collector: &Collector) {
    exporter.export(batch(0, 1)).wait().expect("delivered");
    collector.answer_next(Answer::unavailable());
    exporter.export(batch(1, 2)).wait().expect_err("refused");
    exporter.export(batch(3, 3)).wait().expect("delivered");
}

#[test]
fn without_an_observer_the_log_is_told() {
    listen();
    let collector = Collector::start().expect("a collector");
    let exporter = exporter(&collector, |config| config);
    up_down_up(&exporter, &collector);
    let lines = lines(&format!(" {}: ", collector.endpoint()));
    let levels: Vec<Level> = lines.iter().map(|(level, _)| *level).collect();
    assert_eq!(
        levels,
        [Level::Info, Level::Warn, Level::Warn],
        "who reads of an outage reads of its end: {lines:?}"
    );
    assert!(lines[1].1.contains("exports fail"), "{lines:?}");
    assert!(lines[2].1.contains("exports succeed again"), "{lines:?}");
}

#[test]
fn with_an_observer_the_log_is_not() {
    listen();
    let collector = Collector::start().expect("a collector");
    let exporter = exporter(&collector, |config| config.with_observer(|_| ()));
    up_down_up(&exporter, &collector);
    assert_eq!(lines(&format!(" {}: ", collector.endpoint())), []);
}

#[test]
fn refused_settings_are_logged_when_the_exporter_is_built() {
    listen();
    let collector = Collector::start().expect("a collector");
    let config = Config::from_vars([("OTEL_EXPORTER_OTLP_TIMEOUT", "in a while")]).expect("readable");
    let config = config
        .with_protocol(Protocol::Grpc)
        .with_endpoint(collector.endpoint());
    let exporter = config.build(rt::Blocking::new().expect("a reactor"));
    exporter.expect("it works");
    let told = lines("in a while");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].0, Level::Warn);
}

/// An application that exports its log by the exporter whose lines are in it.
#[test]
fn a_log_that_is_exported_does_not_log_for_ever() {
    listen();
    let collector = Collector::start().expect("a collector");
    let exporter = exporter(&collector, |config| config);
    assert!(BRIDGE.set(exporter).is_ok());
    let exporter = BRIDGE.get().expect("just set");
    exporter.export(batch(0, 1)).wait().expect("delivered");
    collector.answer(Answer::unavailable());
    for number in 0..50 {
        exporter.export(batch(number, 1)).wait().expect_err("refused");
    }
    collector.answer(Answer::Ok);
    exporter.export(batch(60, 1)).wait().expect("delivered");
    let lines = lines(&format!(" {}: ", collector.endpoint()));
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(exporter.stats().is_conserved());
}
