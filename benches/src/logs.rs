//! Log records to work on.

use crate::{attribute, pb_resource, text};
use otlp_embed::LogBatch;
use otlp_embed::pb::collector::ExportLogsServiceRequest;
use otlp_embed::pb::common::any_value::Value;
use otlp_embed::pb::common::{AnyValue, InstrumentationScope};
use otlp_embed::pb::logs::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber};

/// Log records in a batch.
pub const LOGS: usize = 512;

/// What an application says: about 200 bytes as a record with six attributes.
pub struct Line {
    time: u64,
    trace_id: [u8; 16],
    span_id: [u8; 8],
    body: String,
    route: String,
    user: String,
    status: i64,
    seconds: f64,
    cached: bool,
}

/// The lines of one batch, the same each time.
pub fn lines() -> Vec<Line> {
    (0..LOGS as u64).map(line).collect()
}

fn line(number: u64) -> Line {
    Line {
        time: 1_700_000_000_000_000_000 + number * 1_000_000,
        trace_id: (u128::from(number) + 1)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
            .to_be_bytes(),
        span_id: (number + 1).to_be_bytes(),
        body: format!("cart {number} was loaded from the database"),
        route: format!("/carts/{}", number % 10),
        user: format!("u-{:05}", number * 79 % 100_000),
        status: if number % 20 == 0 { 503 } else { 200 },
        seconds: number as f64 / 512.0,
        cached: number % 3 == 0,
    }
}

/// Writes all lines as log records.
pub fn write_logs(batch: &mut LogBatch, lines: &[Line]) {
    batch.scope("shop.http", "0.3.1");
    for line in lines {
        batch
            .log()
            .time(line.time)
            .severity(SeverityNumber::Info, "INFO")
            .body(&line.body)
            .attr("route", &line.route)
            .attr("user.id", &line.user)
            .attr("method", "GET")
            .attr("status", line.status)
            .attr("seconds", line.seconds)
            .attr("hit", line.cached)
            .flags(1)
            .trace(line.trace_id, line.span_id)
            .end();
    }
}

/// Builds the same records as owned messages.
pub fn owned_logs(lines: &[Line]) -> Vec<ResourceLogs> {
    let scope = InstrumentationScope {
        name: "shop.http".into(),
        version: "0.3.1".into(),
        ..InstrumentationScope::default()
    };
    vec![ResourceLogs {
        resource: Some(pb_resource()),
        scope_logs: vec![ScopeLogs {
            scope: Some(scope),
            log_records: lines.iter().map(owned_log).collect(),
            schema_url: String::new(),
        }],
        schema_url: String::new(),
    }]
}

/// The request that holds the same records as owned messages.
pub fn owned_logs_request(lines: &[Line]) -> ExportLogsServiceRequest {
    ExportLogsServiceRequest {
        resource_logs: owned_logs(lines),
    }
}

fn owned_log(line: &Line) -> LogRecord {
    LogRecord {
        time_unix_nano: line.time,
        severity_number: SeverityNumber::Info.into(),
        severity_text: "INFO".into(),
        body: Some(AnyValue {
            value: Some(text(&line.body)),
        }),
        attributes: vec![
            attribute("route", text(&line.route)),
            attribute("user.id", text(&line.user)),
            attribute("method", text("GET")),
            attribute("status", Value::IntValue(line.status)),
            attribute("seconds", Value::DoubleValue(line.seconds)),
            attribute("hit", Value::BoolValue(line.cached)),
        ],
        flags: 1,
        trace_id: line.trace_id.to_vec(),
        span_id: line.span_id.to_vec(),
        ..LogRecord::default()
    }
}
