//! Log records of the SDK on the wire, compared with what the upstream makes of them.

mod wire;

use opentelemetry::logs::{AnyValue, LogRecord, Logger, LoggerProvider, Severity};
use opentelemetry::{InstrumentationScope, Key, SpanId, TraceFlags, TraceId};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue as ProtoValue, KeyValue as ProtoPair, any_value};
use opentelemetry_proto::tonic::logs::v1::{ResourceLogs, ScopeLogs};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::logs::tonic::group_logs_by_resource_and_scope;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogBatch, LogExporter, LogProcessor, SdkLogRecord, SdkLoggerProvider};
use otlp_embed::pipeline::PipelineConfig;
use otlp_embed::sdk;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use wire::{Chance, messages, resource, scope_key, sort_resource, world};

const TIME: Duration = Duration::from_secs(20);

/// Keeps what loggers emit.
#[derive(Clone, Debug, Default)]
struct Kept(Arc<Mutex<Vec<(SdkLogRecord, InstrumentationScope)>>>);

impl LogProcessor for Kept {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        self.0
            .lock()
            .expect("no panic")
            .push((record.clone(), scope.clone()));
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

fn value(chance: &mut Chance, depth: usize) -> AnyValue {
    match chance.below(if depth == 0 { 5 } else { 7 }) {
        0 => AnyValue::Int(chance.number()),
        1 => AnyValue::Double(chance.float()),
        2 => AnyValue::String(chance.string_value()),
        3 => AnyValue::Boolean(chance.flag()),
        4 => AnyValue::Bytes(Box::new(chance.text().into_bytes())),
        5 => (0..chance.below(4)).map(|_| value(chance, depth - 1)).collect(),
        _ => (0..chance.below(4))
            .map(|number| (Key::new(format!("entry.{number}")), value(chance, depth - 1)))
            .collect(),
    }
}

fn records(chance: &mut Chance, count: u64) -> Vec<(SdkLogRecord, InstrumentationScope)> {
    let kept = Kept::default();
    let provider = SdkLoggerProvider::builder()
        .with_log_processor(kept.clone())
        .build();
    for _ in 0..count {
        let logger = provider.logger_with_scope(chance.scope());
        let mut record = logger.create_log_record();
        if chance.flag() {
            record.set_timestamp(chance.time());
        }
        if chance.flag() {
            record.set_severity_number(
                [Severity::Trace, Severity::Info3, Severity::Fatal4][chance.below(3) as usize],
            );
        }
        if chance.flag() {
            record.set_severity_text("WARN");
        }
        if chance.flag() {
            record.set_body(value(chance, 9));
        }
        if chance.flag() {
            record.set_event_name("an.event");
        }
        if chance.flag() {
            record.set_target(["shop::cart", "shop::bank"][chance.below(2) as usize]);
        }
        if chance.flag() {
            let flags = chance.flag().then_some(TraceFlags::SAMPLED);
            let trace_id = TraceId::from(u128::from(chance.next()) + 1);
            record.set_trace_context(trace_id, SpanId::from(chance.next() | 1), flags);
        }
        // More than a record holds without allocating.
        for number in 0..chance.below(9) {
            record.add_attribute(Key::new(format!("key.{number}")), value(chance, 2));
        }
        logger.emit(record);
    }
    let mut kept = kept.0.lock().expect("no panic");
    std::mem::take(&mut *kept)
}

fn expected(records: &[(SdkLogRecord, InstrumentationScope)]) -> Vec<ResourceLogs> {
    let lent: Vec<_> = records.iter().map(|(record, scope)| (record, scope)).collect();
    let batch = LogBatch::new(&lent);
    group_logs_by_resource_and_scope(&batch, &ResourceAttributesWithSchema::from(&resource()))
}

/// Maps come in any order.
fn sort(value: &mut Option<ProtoValue>) {
    match value.as_mut().and_then(|value| value.value.as_mut()) {
        Some(any_value::Value::ArrayValue(list)) => {
            for value in &mut list.values {
                let mut sorted = Some(std::mem::take(value));
                sort(&mut sorted);
                *value = sorted.unwrap_or_default();
            }
        }
        Some(any_value::Value::KvlistValue(list)) => {
            let pairs: &mut Vec<ProtoPair> = &mut list.values;
            pairs.sort_by(|a, b| a.key.cmp(&b.key));
            pairs.iter_mut().for_each(|pair| sort(&mut pair.value));
        }
        _ => {}
    }
}

fn normal(groups: Vec<ResourceLogs>) -> (String, BTreeMap<String, ScopeLogs>) {
    let (mut head, mut scopes) = (String::new(), BTreeMap::<String, ScopeLogs>::new());
    for mut group in groups {
        sort_resource(&mut group.resource);
        head = format!("{:?} {}", group.resource, group.schema_url);
        for mut of_scope in group.scope_logs {
            for record in &mut of_scope.log_records {
                sort(&mut record.body);
                record
                    .attributes
                    .iter_mut()
                    .for_each(|pair| sort(&mut pair.value));
            }
            let key = scope_key(&of_scope.scope, &of_scope.schema_url);
            match scopes.get_mut(&key) {
                Some(known) => known.log_records.append(&mut of_scope.log_records),
                None => {
                    scopes.insert(key, of_scope);
                }
            }
        }
    }
    (head, scopes)
}

#[test]
fn batches_and_records_are_what_the_upstream_makes_of_them() {
    for seed in 0..60 {
        let mut chance = Chance(seed);
        let count = 1 + chance.below(30);
        let records = records(&mut chance, count);
        let expected = normal(expected(&records));

        let (collector, exporter) = world();
        let mut ours = sdk::LogExporter::new(&exporter);
        ours.set_resource(&resource());
        let lent: Vec<_> = records.iter().map(|(record, scope)| (record, scope)).collect();
        futures_executor::block_on(ours.export(LogBatch::new(&lent))).expect("delivered");
        let groups = messages::<ExportLogsServiceRequest>(&collector).into_iter();
        let groups = groups.flat_map(|message| message.resource_logs).collect();
        assert_eq!(normal(groups), expected, "seed {seed}, as a batch");

        let (collector, exporter) = world();
        let (pipeline, future) = exporter.pipeline(PipelineConfig::new()).expect("a pipeline");
        let thread = future.run_on_thread().expect("a thread");
        let mut ours = sdk::LogProcessor::new(&pipeline);
        ours.set_resource(&resource());
        for (record, scope) in &records {
            ours.emit(&mut record.clone(), scope);
        }
        ours.shutdown_with_timeout(TIME).expect("delivered");
        pipeline.shutdown_blocking(TIME);
        thread.join().expect("it ends");
        let groups = messages::<ExportLogsServiceRequest>(&collector).into_iter();
        let groups = groups.flat_map(|message| message.resource_logs).collect();
        assert_eq!(normal(groups), expected, "seed {seed}, one by one");
    }
}

#[test]
fn a_record_that_is_nested_too_deep_costs_no_other() {
    let kept = Kept::default();
    let provider = SdkLoggerProvider::builder()
        .with_log_processor(kept.clone())
        .build();
    let logger = provider.logger("deep");
    let mut deep = AnyValue::from("the innermost");
    for _ in 0..200 {
        deep = [(Key::new("in"), deep)].into_iter().collect();
    }
    for body in [deep, AnyValue::from("plain")] {
        let mut record = logger.create_log_record();
        record.set_body(body);
        logger.emit(record);
    }
    let (collector, exporter) = world();
    let ours = sdk::LogExporter::new(&exporter);
    let records = kept.0.lock().expect("no panic");
    let lent: Vec<_> = records.iter().map(|(record, scope)| (record, scope)).collect();
    futures_executor::block_on(ours.export(LogBatch::new(&lent))).expect("delivered");
    // The upstream's decoder refuses a message with more than a hundred levels.
    let decoded: Vec<ExportLogsServiceRequest> = messages(&collector);
    assert_eq!(decoded[0].resource_logs[0].scope_logs[0].log_records.len(), 2);
}
