//! Log records (`opentelemetry.proto.logs.v1`).

use super::common::{AnyValue, InstrumentationScope, KeyValue};
use super::resource::Resource;
use alloc::string::String;
use alloc::vec::Vec;

/// Log records at rest: the same content as a request, for files and queues.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LogsData {
    /// The log records, grouped by the resource that produced them.
    #[prost(message, repeated, tag = "1")]
    pub resource_logs: Vec<ResourceLogs>,
}

/// The log records of one resource.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ResourceLogs {
    /// The resource; none means unknown.
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    /// Its log records, grouped by the scope that recorded them.
    #[prost(message, repeated, tag = "2")]
    pub scope_logs: Vec<ScopeLogs>,
    /// URL of the schema that the resource follows.
    #[prost(string, tag = "3")]
    pub schema_url: String,
}

/// The log records of one scope.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ScopeLogs {
    /// The scope; none means unknown.
    #[prost(message, optional, tag = "1")]
    pub scope: Option<InstrumentationScope>,
    /// Its log records.
    #[prost(message, repeated, tag = "2")]
    pub log_records: Vec<LogRecord>,
    /// URL of the schema that the scope and the log records follow.
    #[prost(string, tag = "3")]
    pub schema_url: String,
}

/// Something that happened, as it was logged.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LogRecord {
    /// When it happened, in nanoseconds of the Unix epoch; 0 where that is not known.
    #[prost(fixed64, tag = "1")]
    pub time_unix_nano: u64,
    /// When the collection system saw it, in nanoseconds of the Unix epoch.
    #[prost(fixed64, tag = "11")]
    pub observed_time_unix_nano: u64,
    /// A [`SeverityNumber`].
    #[prost(enumeration = "SeverityNumber", tag = "2")]
    pub severity_number: i32,
    /// The severity in the words of its source.
    #[prost(string, tag = "3")]
    pub severity_text: String,
    /// What is said, as text or structured.
    #[prost(message, optional, tag = "5")]
    pub body: Option<AnyValue>,
    /// What describes it; keys are unique.
    #[prost(message, repeated, tag = "6")]
    pub attributes: Vec<KeyValue>,
    /// Attributes discarded before they came here.
    #[prost(uint32, tag = "7")]
    pub dropped_attributes_count: u32,
    /// W3C trace flags in the low byte, see [`LogRecordFlags`].
    #[prost(fixed32, tag = "8")]
    pub flags: u32,
    /// The trace in which it happened: 16 bytes, or none.
    #[prost(bytes = "vec", tag = "9")]
    pub trace_id: Vec<u8>,
    /// The span in which it happened: 8 bytes, or none.
    #[prost(bytes = "vec", tag = "10")]
    pub span_id: Vec<u8>,
    /// The class of event that it is one of; empty for what is no event.
    #[prost(string, tag = "12")]
    pub event_name: String,
}

/// How grave it is that something was logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum SeverityNumber {
    /// Not told.
    Unspecified = 0,
    /// Fine-grained, usually switched off.
    Trace = 1,
    /// The second of the trace range.
    Trace2 = 2,
    /// The third of the trace range.
    Trace3 = 3,
    /// The gravest of the trace range.
    Trace4 = 4,
    /// For people who look for an error.
    Debug = 5,
    /// The second of the debug range.
    Debug2 = 6,
    /// The third of the debug range.
    Debug3 = 7,
    /// The gravest of the debug range.
    Debug4 = 8,
    /// What happens in normal operation.
    Info = 9,
    /// The second of the info range.
    Info2 = 10,
    /// The third of the info range.
    Info3 = 11,
    /// The gravest of the info range.
    Info4 = 12,
    /// No error, but more than information.
    Warn = 13,
    /// The second of the warning range.
    Warn2 = 14,
    /// The third of the warning range.
    Warn3 = 15,
    /// The gravest of the warning range.
    Warn4 = 16,
    /// Something went wrong.
    Error = 17,
    /// The second of the error range.
    Error2 = 18,
    /// The third of the error range.
    Error3 = 19,
    /// The gravest of the error range.
    Error4 = 20,
    /// The application is about to end, or a part of it.
    Fatal = 21,
    /// The second of the fatal range.
    Fatal2 = 22,
    /// The third of the fatal range.
    Fatal3 = 23,
    /// The gravest there is.
    Fatal4 = 24,
}

/// Masks of the bits in the `flags` of log records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum LogRecordFlags {
    /// No mask at all.
    DoNotUse = 0,
    /// The W3C trace flags.
    TraceFlagsMask = 0xff,
}
