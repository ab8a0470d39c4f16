//! Log records.

use super::value::{Value, hex, pairs};
use super::{EPOCH, SCOPE, id, resource_pairs, values};
use otlp_embed::LogBatch;
use otlp_embed::pb::logs::SeverityNumber;
use serde_json::json;

const SEVERITIES: [(SeverityNumber, &str); 4] = [
    (SeverityNumber::Debug, "DEBUG"),
    (SeverityNumber::Info, "INFO"),
    (SeverityNumber::Warn, "WARN"),
    (SeverityNumber::Error, "ERROR"),
];

/// One log record.
pub struct Log {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    time: u64,
    severity: (SeverityNumber, &'static str),
    body: Value,
    attributes: Vec<(&'static str, Value)>,
}

impl Log {
    pub fn new(batch: u64, index: u64, text_bytes: usize) -> Self {
        let mut kinds = values(index, 0);
        let at = index as usize % kinds.len();
        Self {
            trace_id: u128::from(batch + 1).to_be_bytes(),
            span_id: id(batch, index),
            time: EPOCH + batch * 1_000_000_000 + index,
            severity: SEVERITIES[index as usize % SEVERITIES.len()],
            body: kinds.swap_remove(at).1,
            attributes: values(index, text_bytes),
        }
    }

    /// Writes the record into a batch.
    pub fn write(&self, batch: &mut LogBatch) {
        let mut writer = batch.log();
        writer
            .time(self.time)
            .severity(self.severity.0, self.severity.1)
            .body(&self.body)
            .trace(self.trace_id, self.span_id)
            .event_name("interop");
        for (key, value) in &self.attributes {
            writer.attr(key, value);
        }
        writer.end();
    }

    /// The record in the form of `records.py`.
    pub fn to_json(&self) -> serde_json::Value {
        json!({
            "signal": "logs",
            "resource": resource_pairs(),
            "scope": SCOPE,
            "trace_id": hex(&self.trace_id),
            "span_id": hex(&self.span_id),
            "time": self.time.to_string(),
            "severity": self.severity.0 as i32,
            "severity_text": self.severity.1,
            "event": "interop",
            "body": self.body.to_json(),
            "attributes": pairs(&self.attributes),
        })
    }
}
