//! Log records as `prost` encodes them, whichever way they are told.

use super::batches::{same_bytes, same_message, write_groups};
use super::encode_roundtrip::{Any, message};
use crate::support::groups::{Group, grouped, messages};
use crate::support::messages::id;
use crate::support::messages_logs::{log_groups, normal_logs};
use otlp_embed::pb::collector::ExportLogsServiceRequest;
use otlp_embed::pb::common::any_value::Value;
use otlp_embed::pb::logs::{LogRecord, SeverityNumber};
use otlp_embed::{LogBatch, LogWriter, Request, Resource};

/// Encodes log records made of the input in every way there is.
pub fn run(data: &[u8]) {
    let logs = log_groups(data);
    owned_logs_are_as_prost_encodes_them(&logs);
    let logs = normal_logs(logs);
    let batch = &mut LogBatch::new(&Resource::new());
    // The second round runs in the memory of the first.
    for _ in 0..2 {
        written_logs_are_as_prost_encodes_them(batch, &logs);
        order_and_repetition_do_not_matter(batch, &logs);
    }
    abandoned_logs_leave_no_trace(batch, &logs);
}

fn expected(logs: &[Group<LogRecord>]) -> ExportLogsServiceRequest {
    ExportLogsServiceRequest {
        resource_logs: messages(logs),
    }
}

fn items(logs: &[Group<LogRecord>]) -> u64 {
    let scopes = logs.iter().flat_map(|group| &group.scopes);
    scopes.map(|scope| scope.items.len() as u64).sum()
}

/// What a batch makes of the records, all of which it takes.
fn batched(logs: &[Group<LogRecord>]) -> Vec<Group<LogRecord>> {
    grouped(logs, |log| Some(log.clone()))
}

fn owned_logs_are_as_prost_encodes_them(logs: &[Group<LogRecord>]) {
    let request = Request::from(expected(logs));
    same_bytes(&message(&request), &expected(logs));
    assert_eq!(request.items(), items(logs));
}

fn written_logs_are_as_prost_encodes_them(batch: &mut LogBatch, logs: &[Group<LogRecord>]) {
    write_groups(batch, logs, |batch, log| write_in_order(&mut batch.log(), log));
    assert_eq!((batch.len() as u64, batch.refused()), (items(logs), 0));
    let request = batch.try_finish().expect("nothing was refused");
    same_bytes(&message(&request), &expected(&batched(logs)));
    assert_eq!((request.items(), request.refused()), (items(logs), 0));
    assert_eq!((batch.len(), batch.encoded_len()), (0, 0));
}

fn order_and_repetition_do_not_matter(batch: &mut LogBatch, logs: &[Group<LogRecord>]) {
    write_groups(batch, logs, |batch, log| {
        let mut writer = batch.log();
        writer
            .event_name("to be overridden")
            .observed_time(1)
            .trace([1; 16], [2; 8])
            .flags(3)
            .dropped_attributes_count(4)
            .severity(SeverityNumber::Fatal4, "to be overridden")
            .time(5);
        writer
            .trace(id(&log.trace_id), id(&log.span_id))
            .observed_time(log.observed_time_unix_nano)
            .event_name(&log.event_name)
            .flags(log.flags)
            .dropped_attributes_count(log.dropped_attributes_count);
        for pair in &log.attributes {
            match pair.value.as_ref().and_then(|value| value.value.clone()) {
                // The same bytes whether they are copied or referenced.
                Some(Value::StringValue(text)) => writer.attr_shared(&pair.key, text),
                Some(Value::BytesValue(bytes)) => writer.attr_shared(&pair.key, bytes),
                _ => writer.attr(&pair.key, Any(&pair.value)),
            };
        }
        if let Some(body) = &log.body {
            match body.value.clone() {
                Some(Value::StringValue(text)) => writer.body_shared(text),
                Some(Value::BytesValue(bytes)) => writer.body_shared(bytes),
                _ => writer.body(Any(&log.body)),
            };
            writer.body("not the first").body_shared("not the first either");
        }
        writer
            .severity(log.severity_number(), &log.severity_text)
            .time(log.time_unix_nano);
        writer.end();
        writer
            .attr("after", "the end")
            .body("after the end")
            .severity(SeverityNumber::Info, "")
            .time(9);
        writer.trace([9; 16], [9; 8]).event_name("after").flags(9);
        writer.attr_shared("after", "x".repeat(2_000)).end();
    });
    same_message(&message(&batch.finish()), &expected(&batched(logs)));
}

fn abandoned_logs_leave_no_trace(batch: &mut LogBatch, logs: &[Group<LogRecord>]) {
    let mut leaked = 0;
    write_groups(batch, logs, |batch, log| {
        let mut writer = batch.log();
        write_in_order(&mut writer, log);
        std::mem::forget(writer);
        leaked += 1;
        write_in_order(&mut batch.log(), log);
    });
    let request = batch.finish();
    assert_eq!(request.refused(), leaked);
    same_bytes(&message(&request), &expected(&batched(logs)));
}

fn write_in_order(writer: &mut LogWriter<'_>, log: &LogRecord) {
    writer
        .time(log.time_unix_nano)
        .severity(log.severity_number(), &log.severity_text);
    if log.body.is_some() {
        writer.body(Any(&log.body));
    }
    for pair in &log.attributes {
        writer.attr(&pair.key, Any(&pair.value));
    }
    writer
        .dropped_attributes_count(log.dropped_attributes_count)
        .flags(log.flags)
        .trace(id(&log.trace_id), id(&log.span_id))
        .observed_time(log.observed_time_unix_nano)
        .event_name(&log.event_name);
}
