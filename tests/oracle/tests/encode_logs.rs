//! What a batch of log records promises: the bytes of `prost`, and what goes beyond them.

#[path = "../../support/mod.rs"]
mod support;

use otlp_embed::encode::{array, kvlist};
use otlp_embed::pb::collector::ExportLogsServiceRequest;
use otlp_embed::pb::common::any_value::Value;
use otlp_embed::pb::common::{AnyValue, ArrayValue, KeyValue, KeyValueList};
use otlp_embed::pb::logs::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber};
use otlp_embed::{LogBatch, Request, Resource, Signal, TraceBatch};
use proptest::prelude::*;
use prost::Message;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use support::fuzz;
use support::fuzz::encode_roundtrip::message;

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_logs_are_as_prost_encodes_them(data in prop::collection::vec(any::<u8>(), 0..3_000)) {
        fuzz::encode_logs::run(&data);
    }
}

fn batch() -> LogBatch {
    LogBatch::new(&Resource::builder().attr("service.name", "test").build())
}

/// Every record of a request, with nothing said about scopes.
fn records(request: &Request) -> Vec<LogRecord> {
    let decoded = ExportLogsServiceRequest::decode(&*message(request)).expect("it is valid protobuf");
    let scopes = decoded
        .resource_logs
        .into_iter()
        .flat_map(|group| group.scope_logs);
    scopes.flat_map(|scope| scope.log_records).collect()
}

fn string(text: &str) -> Option<AnyValue> {
    Some(AnyValue {
        value: Some(Value::StringValue(text.into())),
    })
}

#[test]
fn a_batch_without_records_makes_an_empty_request() {
    // spec 5: no empty envelopes.
    let mut batch = batch();
    batch.scope("named", "1.0");
    let request = batch.finish();
    assert!(request.is_empty() && batch.is_empty());
    assert_eq!((request.items(), request.encoded_len()), (0, 0));
    assert_eq!(request.signal(), Signal::Logs);
}

#[test]
fn a_record_says_what_it_was_told() {
    let mut batch = batch();
    batch
        .log()
        .time(1)
        .severity(SeverityNumber::Error2, "ERROR")
        .body("it failed")
        .attr("code", 7)
        .dropped_attributes_count(2)
        .flags(1)
        .trace([3; 16], [4; 8])
        .observed_time(5)
        .event_name("failure")
        .end();
    let expected = LogRecord {
        time_unix_nano: 1,
        observed_time_unix_nano: 5,
        severity_number: 18,
        severity_text: "ERROR".into(),
        body: string("it failed"),
        attributes: vec![KeyValue {
            key: "code".into(),
            value: Some(AnyValue {
                value: Some(Value::IntValue(7)),
            }),
            key_strindex: 0,
        }],
        dropped_attributes_count: 2,
        flags: 1,
        trace_id: vec![3; 16],
        span_id: vec![4; 8],
        event_name: "failure".into(),
    };
    assert_eq!(records(&batch.finish()), [expected]);
}

#[test]
fn bodies_are_of_every_kind() {
    let mut batch = batch();
    batch.log().body(true);
    batch.log().body(-5);
    batch.log().body(0.5);
    batch.log().body(&b"bytes"[..]);
    batch.log().body(["a", "b"]);
    batch
        .log()
        .body(kvlist(|map| _ = map.attr("k", array(|list| _ = list.push(1)))));
    batch.log().body(());
    batch.log().body("");
    batch.log().body("x".repeat(126));
    batch.log();
    let records = records(&batch.finish());
    let bodies: Vec<_> = records.iter().map(|record| record.body.clone()).collect();
    let any = |value| Some(AnyValue { value: Some(value) });
    let list = |values: Vec<Value>| {
        let values = values.into_iter().map(|value| AnyValue { value: Some(value) });
        Value::ArrayValue(ArrayValue {
            values: values.collect(),
        })
    };
    let map = Value::KvlistValue(KeyValueList {
        values: vec![KeyValue {
            key: "k".into(),
            value: any(list(vec![Value::IntValue(1)])),
            key_strindex: 0,
        }],
    });
    let texts = list(vec![
        Value::StringValue("a".into()),
        Value::StringValue("b".into()),
    ]);
    let expected = [
        any(Value::BoolValue(true)),
        any(Value::IntValue(-5)),
        any(Value::DoubleValue(0.5)),
        any(Value::BytesValue(b"bytes".to_vec())),
        any(texts),
        any(map),
        Some(AnyValue { value: None }),
        string(""),
        string(&"x".repeat(126)),
        None,
    ];
    assert_eq!(bodies, expected);
}

#[test]
fn long_bodies_are_referenced_and_short_ones_copied() {
    let mut batch = batch();
    let long: Arc<str> = "b".repeat(1024).into();
    let short: Arc<str> = "s".repeat(1023).into();
    batch.log().body_shared(long.clone()).end();
    batch
        .log()
        .body_shared(short.clone())
        .attr_shared("again", long.clone());
    let request = batch.finish();
    let at = |text: &Arc<str>| {
        let mut segments = request.segments();
        segments.any(|segment| segment.as_ptr() == text.as_ptr() && segment.len() == text.len())
    };
    assert!(at(&long) && !at(&short));
    assert_eq!((Arc::strong_count(&long), Arc::strong_count(&short)), (3, 1));
    let bodies: Vec<_> = records(&request).into_iter().map(|record| record.body).collect();
    assert_eq!(bodies, [string(&long), string(&short)]);
    drop(request);
    assert_eq!(Arc::strong_count(&long), 1);
}

#[test]
fn owned_bodies_are_referenced_in_place() {
    let text = "b".repeat(5_000);
    let place = text.as_ptr();
    let log_records = vec![LogRecord {
        body: string("short"),
        ..LogRecord::default()
    }];
    let mut logs = ResourceLogs {
        scope_logs: vec![ScopeLogs {
            log_records,
            ..ScopeLogs::default()
        }],
        ..ResourceLogs::default()
    };
    logs.scope_logs[0].log_records[0].body = Some(AnyValue {
        value: Some(Value::StringValue(text)),
    });
    let request = Request::from_logs([logs]);
    assert_eq!((request.signal(), request.items()), (Signal::Logs, 1));
    assert!(
        request
            .segments()
            .any(|segment| segment.as_ptr() == place && segment.len() == 5_000)
    );
}

#[test]
fn a_panic_in_the_middle_of_a_record_takes_it_out_again() {
    let mut batch = batch();
    batch.log().body("before").end();
    let result = catch_unwind(AssertUnwindSafe(|| {
        batch
            .log()
            .body(array(|list| _ = list.push(kvlist(|_| panic!("in the middle")))));
    }));
    assert!(result.is_err());
    // A panic that the closure catches itself leaves lengths open all the same.
    batch.log().body(array(|list| {
        let nested = AssertUnwindSafe(|| _ = list.push(array(|_| panic!("in the middle"))));
        _ = catch_unwind(nested);
    }));
    std::mem::forget(batch.log());
    let error = batch.try_finish().expect_err("three records were refused");
    assert!(
        error.is_misuse() && error.to_string().starts_with("3 log records were refused"),
        "{error}"
    );
    batch.log().body("after").end();
    let request = batch.finish();
    assert_eq!((request.items(), request.refused()), (2, 3));
    let bodies: Vec<_> = records(&request).into_iter().map(|record| record.body).collect();
    assert_eq!(bodies, [string("before"), string("after")]);
}

#[test]
fn signals_of_one_resource_take_chunks_of_their_own_size() {
    let resource = Resource::builder().attr("service.name", "test").build();
    let spans = || {
        let mut batch = TraceBatch::new(&resource);
        for number in 1..=2_000_u64 {
            batch
                .span([1; 16], number.to_be_bytes(), "a name of common length")
                .end();
        }
        batch.finish()
    };
    assert!(spans().segment_count() > 1, "nothing was known of the size");
    let mut logs = LogBatch::new(&resource);
    logs.log().body("small").end();
    drop(logs.finish());
    // Small requests of one signal leave the size of large ones of another alone.
    assert_eq!(spans().segment_count(), 1);
}
