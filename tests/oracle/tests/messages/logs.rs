//! Log records.

use crate::messages_logs::log_groups;
use crate::twin::{Twin, agree, enumeration, message};
use crate::{full_attributes, full_resource, full_scope, groups};
use opentelemetry_proto::tonic::collector::logs::v1 as their_collector;
use opentelemetry_proto::tonic::logs::v1 as theirs;
use otlp_embed::pb::{collector, logs};
use proptest::prelude::*;
use prost::Message;

message!(logs::LogsData, theirs::LogsData { resource_logs });
message!(
    logs::ResourceLogs,
    theirs::ResourceLogs {
        resource,
        scope_logs,
        schema_url
    }
);
message!(
    logs::ScopeLogs,
    theirs::ScopeLogs {
        scope,
        log_records,
        schema_url
    }
);
message!(
    logs::LogRecord,
    theirs::LogRecord {
        time_unix_nano,
        observed_time_unix_nano,
        severity_number,
        severity_text,
        body,
        attributes,
        dropped_attributes_count,
        flags,
        trace_id,
        span_id,
        event_name,
    }
);
message!(
    collector::ExportLogsServiceRequest,
    their_collector::ExportLogsServiceRequest { resource_logs }
);
message!(
    collector::ExportLogsServiceResponse,
    their_collector::ExportLogsServiceResponse { partial_success }
);
message!(
    collector::ExportLogsPartialSuccess,
    their_collector::ExportLogsPartialSuccess {
        rejected_log_records,
        error_message,
    }
);

/// A record with every field set to something that is no default.
fn full_request() -> collector::ExportLogsServiceRequest {
    let log = logs::LogRecord {
        time_unix_nano: 1,
        observed_time_unix_nano: 2,
        severity_number: 3,
        severity_text: "TRACE3".into(),
        body: full_attributes().pop().and_then(|pair| pair.value),
        attributes: full_attributes(),
        dropped_attributes_count: 4,
        flags: 5,
        trace_id: vec![6; 16],
        span_id: vec![7; 8],
        event_name: "event".into(),
    };
    let scope_logs = vec![logs::ScopeLogs {
        scope: Some(full_scope()),
        log_records: vec![log],
        schema_url: "scope".into(),
    }];
    let resource_logs = vec![logs::ResourceLogs {
        resource: Some(full_resource()),
        scope_logs,
        schema_url: "resource".into(),
    }];
    collector::ExportLogsServiceRequest { resource_logs }
}

#[test]
fn a_message_with_every_field_is_the_same_on_both_sides() {
    let request = full_request();
    agree(logs::LogsData {
        resource_logs: request.resource_logs.clone(),
    });
    agree(request);
    for partial_success in [
        None,
        Some(collector::ExportLogsPartialSuccess {
            rejected_log_records: -3,
            error_message: "no".into(),
        }),
    ] {
        agree(collector::ExportLogsServiceResponse { partial_success });
    }
}

#[test]
fn enumerations_have_the_same_names_and_numbers() {
    enumeration!(
        logs::SeverityNumber,
        theirs::SeverityNumber {
            Unspecified,
            Trace,
            Trace2,
            Trace3,
            Trace4,
            Debug,
            Debug2,
            Debug3,
            Debug4,
            Info,
            Info2,
            Info3,
            Info4,
            Warn,
            Warn2,
            Warn3,
            Warn4,
            Error,
            Error2,
            Error3,
            Error4,
            Fatal,
            Fatal2,
            Fatal3,
            Fatal4,
        }
    );
    enumeration!(
        logs::LogRecordFlags,
        theirs::LogRecordFlags {
            DoNotUse,
            TraceFlagsMask
        }
    );
}

proptest! {
    #[test]
    fn arbitrary_messages_are_the_same_on_both_sides(data in prop::collection::vec(any::<u8>(), 0..2_000)) {
        agree(collector::ExportLogsServiceRequest { resource_logs: groups::messages(&log_groups(&data)) });
    }
}

/// What is encoded here can be read there.
#[test]
fn upstream_reads_what_a_batch_writes() {
    let logs = full_request().resource_logs;
    let request = otlp_embed::Request::from_logs(logs.clone());
    let bytes = request.segments().collect::<Vec<_>>().concat();
    let read = their_collector::ExportLogsServiceRequest::decode(&*bytes).expect("valid protobuf");
    assert_eq!(<Vec<logs::ResourceLogs> as Twin>::ours(read.resource_logs), logs);
}
