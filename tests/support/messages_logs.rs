//! Arbitrary log records, made of bytes.

use super::groups::{Group, groups, normal};
use super::messages::{
    Input, attributes, enumeration, id, id_bytes, normal_attributes, normal_value, number, option, text,
    value,
};
use arbitrary::Result;
use otlp_embed::pb::logs::LogRecord;

/// What an exporter would send, from any bytes.
pub fn log_groups(data: &[u8]) -> Vec<Group<LogRecord>> {
    groups(data, log_record)
}

/// The records without what their writer cannot express.
pub fn normal_logs(logs: Vec<Group<LogRecord>>) -> Vec<Group<LogRecord>> {
    normal(logs, normal_log)
}

/// An id of the right length that is not all zeros, or none.
pub fn normal_id<const N: usize>(bytes: &mut Vec<u8>) {
    let id = id::<N>(bytes);
    *bytes = if id == [0; N] { vec![] } else { id.to_vec() };
}

fn log_record(input: &mut Input<'_>) -> Result<LogRecord> {
    Ok(LogRecord {
        time_unix_nano: number(input)?,
        observed_time_unix_nano: number(input)?,
        severity_number: enumeration(input)?,
        severity_text: text(input)?,
        body: option(input, |input| value(input, 0))?,
        attributes: attributes(input)?,
        dropped_attributes_count: number(input)?,
        flags: number(input)?,
        trace_id: id_bytes(input, 16)?,
        span_id: id_bytes(input, 8)?,
        event_name: text(input)?,
    })
}

fn normal_log(log: &mut LogRecord) {
    log.severity_number = log.severity_number().into();
    if let Some(body) = &mut log.body {
        normal_value(body);
    }
    normal_attributes(&mut log.attributes);
    normal_id::<16>(&mut log.trace_id);
    normal_id::<8>(&mut log.span_id);
}
