//! What the shop writes to its log, each record in the trace that it belongs to.

use super::shop::{BUSINESS, CHECKOUT, GATEWAY, Kind, SERVICES, Span, Value, resources};
use super::table::{Row, Table};
use otlp_embed::pb::logs::SeverityNumber;
use otlp_embed::{LogBatch, Request};

/// The request, and a table of what is in it.
pub fn encode(spans: &[Span]) -> (Request, Table) {
    let resources = resources();
    let mut batch = LogBatch::new(&resources[GATEWAY]);
    let mut table = Table::default();
    for span in spans {
        let (scope, version) = span.scope;
        batch.resource(&resources[span.service]).scope(scope, version);
        let mut count = |severity: &str, is_error| {
            table.add(
                Row::log(SERVICES[span.service].name, scope, severity),
                1,
                is_error,
            );
        };
        for event in &span.events {
            let (number, text) = match event.name {
                "exception" => (SeverityNumber::Error, "ERROR"),
                "paper jam" => (SeverityNumber::Warn, "WARN"),
                _ => (SeverityNumber::Info, "INFO"),
            };
            let mut record = batch.log();
            record
                .time(event.unix_nanos)
                .severity(number, text)
                .body(event.name);
            for (name, value) in &event.attributes {
                record.attr(name, value);
            }
            record.trace(span.trace_id, span.span_id).end();
            count(text, number == SeverityNumber::Error);
        }
        if let Some(Value::LongText(prompt)) = span.attribute("gen_ai.input.messages") {
            // Kilobytes, which the request references instead of holding a copy.
            batch
                .log()
                .time(span.times.start)
                .severity(SeverityNumber::Debug, "DEBUG")
                .body_shared(prompt.clone())
                .trace(span.trace_id, span.span_id)
                .event_name("gen_ai.client.inference.operation.details")
                .end();
            count("DEBUG", false);
        }
        if span.service == CHECKOUT && span.scope == BUSINESS && matches!(span.kind, Kind::Internal) {
            let mut record = batch.log();
            record
                .time(span.times.end)
                .severity(SeverityNumber::Info, "INFO")
                .body("total computed");
            if let Some(total) = span.attribute("shop.order.total") {
                record.attr("shop.order.total", total);
            }
            record.trace(span.trace_id, span.span_id).end();
            count("INFO", false);
        }
    }
    (batch.finish(), table)
}
