//! Owned log records.

use super::{Group, Item, ScopeGroup, Writer, request};
use crate::encode::field::{fixed32_field, fixed64_field};
use crate::encode::log as keys;
use crate::encode::request::{Request, Signal};
use crate::pb::collector::ExportLogsServiceRequest;
use crate::pb::common::InstrumentationScope;
use crate::pb::logs::{LogRecord, LogsData, ResourceLogs, ScopeLogs};
use crate::pb::resource::Resource;
use alloc::vec::Vec;

impl Request {
    /// Encodes owned log records; the bytes are those that `prost` writes for the same messages.
    ///
    /// The same holds as for [`from_spans`](Self::from_spans): long texts are referenced in place, nothing is checked or
    /// grouped, and without log records the request is [empty](Self::is_empty).
    pub fn from_logs(logs: impl Into<Vec<ResourceLogs>>) -> Self {
        request(Signal::Logs, logs.into())
    }
}

impl From<ExportLogsServiceRequest> for Request {
    fn from(request: ExportLogsServiceRequest) -> Self {
        Self::from_logs(request.resource_logs)
    }
}

impl From<LogsData> for Request {
    fn from(data: LogsData) -> Self {
        Self::from_logs(data.resource_logs)
    }
}

impl Group for ResourceLogs {
    type Scope = ScopeLogs;

    fn parts(&self) -> (Option<&Resource>, &[ScopeLogs], &str) {
        (self.resource.as_ref(), &self.scope_logs, &self.schema_url)
    }
}

impl ScopeGroup for ScopeLogs {
    type Item = LogRecord;

    fn parts(&self) -> (Option<&InstrumentationScope>, &[LogRecord], &str) {
        (self.scope.as_ref(), &self.log_records, &self.schema_url)
    }
}

impl Item for LogRecord {
    const BYTES: usize = 250;

    fn write<'s, S: Send + Sync + 'static>(&'s self, to: &mut Writer<'s, S>) {
        fixed64_field(&mut to.sink, keys::LOG_TIME, self.time_unix_nano, false);
        to.enumeration(keys::LOG_SEVERITY_NUMBER, self.severity_number);
        to.text(keys::LOG_SEVERITY_TEXT, &self.severity_text);
        if let Some(body) = &self.body {
            to.value(keys::LOG_BODY, body);
        }
        to.attributes(keys::LOG_ATTRIBUTES, &self.attributes);
        to.varint(keys::LOG_DROPPED_ATTRIBUTES, self.dropped_attributes_count);
        fixed32_field(&mut to.sink, keys::LOG_FLAGS, self.flags, false);
        to.bytes(keys::LOG_TRACE_ID, &self.trace_id);
        to.bytes(keys::LOG_SPAN_ID, &self.span_id);
        fixed64_field(
            &mut to.sink,
            keys::LOG_OBSERVED_TIME,
            self.observed_time_unix_nano,
            false,
        );
        to.text(keys::LOG_EVENT_NAME, &self.event_name);
    }
}
