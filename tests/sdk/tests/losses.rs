//! What is lost between two flushes of a provider is told by the second, once, and by nobody else's.

mod running;

use opentelemetry_sdk::logs::LogProcessor;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::SpanProcessor;
use otlp_embed::pipeline::{Endpoints, Overflow, PipelineConfig, QueueConfig};
use otlp_embed::testing::{Answer, Collector};
use otlp_embed::{Protocol, rt, sdk};
use running::faces::{blocking, piped, piping, words};
use running::{config, end_spans, within};
use std::time::Duration;

/// What nothing here reaches.
const BOUND: Duration = Duration::from_secs(30);

#[test]
fn what_was_rejected_before_a_flush_is_told_once_and_by_its_signal() {
    within(BOUND, "the program", || {
        let collector = Collector::start().expect("a collector");
        let exporter = blocking(config(&collector, Protocol::HttpProtobuf));
        let (pipeline, thread) = piped(&exporter, PipelineConfig::new());
        let (provider, spans) = piping(&pipeline);
        let logs = sdk::LogProcessor::new(&pipeline);
        let metrics = sdk::MetricExporter::queued(&pipeline);
        collector.answer(Answer::HttpStatus(400));
        end_spans(&provider, 0, 10);
        // Not the processor's flush: it settles them, and the processor is not told.
        let settled = pipeline.flush_blocking(BOUND).expect("it runs");
        assert_eq!(settled.counts.total() - settled.counts.delivered, 10);
        let late = sdk::SpanProcessor::new(&pipeline);

        let text = words(spans.force_flush());
        assert!(text.contains("10 rejected, 0 dropped, 0 unknown"), "{text}");
        spans.force_flush().expect("that was told");
        logs.force_flush().expect("no record was lost");
        metrics.force_flush().expect("no data point was lost");
        late.force_flush().expect("it was made after it");

        end_spans(&provider, 10, 13);
        pipeline.flush_blocking(BOUND).expect("it runs");
        let text = words(spans.shutdown_with_timeout(BOUND));
        assert!(text.contains("3 rejected"), "{text}");
        logs.shutdown_with_timeout(BOUND).expect("no record was lost");
        metrics
            .shutdown_with_timeout(BOUND)
            .expect("no data point was lost");
        pipeline.shutdown_blocking(BOUND);
        thread.join().expect("no panic");
    });
}

/// Spans that wait are another signal's where a log provider flushes.
#[test]
fn what_a_flush_itself_loses_is_told_by_its_signal_alone() {
    within(BOUND, "the program", || {
        let collector = Collector::start().expect("a collector");
        let exporter = blocking(config(&collector, Protocol::HttpProtobuf));
        let (pipeline, thread) = piped(&exporter, PipelineConfig::new());
        let (provider, spans) = piping(&pipeline);
        let logs = sdk::LogProcessor::new(&pipeline);
        collector.answer(Answer::HttpStatus(400));
        end_spans(&provider, 0, 10);
        logs.force_flush().expect("no record was lost");
        let text = words(spans.force_flush());
        assert!(text.contains("10 rejected"), "{text}");
        pipeline.shutdown_blocking(BOUND);
        thread.join().expect("no panic");
    });
}

/// What the queue refuses is told to the one from whom it came.
#[test]
fn what_was_refused_is_told_by_its_processor_alone() {
    within(BOUND, "the program", || {
        let collector = Collector::start().expect("a collector");
        let exporter = blocking(config(&collector, Protocol::HttpProtobuf));
        let queue = QueueConfig::new()
            .with_items_max(4)
            .with_overflow(Overflow::DropNewest);
        let (pipeline, future) = exporter
            .pipeline(PipelineConfig::new().with_queue(queue))
            .expect("a pipeline");
        let (provider, spans) = piping(&pipeline);
        let other = sdk::SpanProcessor::new(&pipeline);
        // Nobody takes anything out of the queue yet.
        end_spans(&provider, 0, 10);
        let thread = future.run_on_thread().expect("a thread");
        let text = words(spans.force_flush());
        assert!(text.contains("0 rejected, 6 dropped, 0 unknown"), "{text}");
        spans.force_flush().expect("that was told");
        other.force_flush().expect("it lost nothing");
        let report = pipeline.shutdown_blocking(BOUND);
        assert_eq!((report.stats.delivered, report.lost()), (4, 6), "{report}");
        thread.join().expect("no panic");
    });
}

/// Two destinations, of which each counts for itself, also what neither had room for.
#[test]
fn what_was_refused_is_told_once_for_each_destination() {
    within(BOUND, "the program", || {
        let (first, second) = (Collector::start(), Collector::start());
        let collectors = [first.expect("a collector"), second.expect("a collector")];
        collectors[1].answer(Answer::HttpStatus(400));
        let runtime = rt::Blocking::new().expect("a runtime");
        let exporters = collectors.each_ref().map(|collector| {
            let config = config(collector, Protocol::HttpProtobuf);
            config.build(runtime.clone()).expect("an exporter")
        });
        let queue = QueueConfig::new()
            .with_items_max(4)
            .with_overflow(Overflow::DropNewest);
        let config = PipelineConfig::new().with_queue(queue);
        let (pipeline, future) = Endpoints::fan_out(exporters)
            .pipeline(config)
            .expect("a pipeline");
        let (provider, spans) = piping(&pipeline);
        // Nobody takes anything out of the queue yet.
        end_spans(&provider, 0, 10);
        let thread = future.run_on_thread().expect("a thread");
        let text = words(spans.force_flush());
        assert!(text.contains("4 rejected, 12 dropped, 0 unknown"), "{text}");
        let report = pipeline.shutdown_blocking(BOUND);
        assert_eq!((report.stats.delivered, report.lost()), (4, 16), "{report}");
        thread.join().expect("no panic");
    });
}
