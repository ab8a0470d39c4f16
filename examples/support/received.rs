//! What a collector in this process received, in the form of what was sent.

use super::table::{Row, Table};
use otlp_embed::pb::metrics::metric::Data;
use otlp_embed::testing::Collector;

/// Everything that the collector has, whichever request brought it.
pub fn table(collector: &Collector) -> Table {
    let mut table = Table::default();
    for span in collector.spans() {
        let row = Row::span(span.service_name(), &span.scope.name, span.kind);
        table.add(row, 1, span.is_error());
    }
    for received in collector.metrics() {
        let (kind, points) = match &received.metric.data {
            Some(Data::Gauge(gauge)) => ("gauge", gauge.data_points.len()),
            Some(Data::Sum(sum)) => ("sum", sum.data_points.len()),
            Some(Data::Histogram(histogram)) => ("histogram", histogram.data_points.len()),
            Some(Data::ExponentialHistogram(histogram)) => {
                ("exponential histogram", histogram.data_points.len())
            }
            Some(Data::Summary(summary)) => ("summary", summary.data_points.len()),
            None => ("nothing", 0),
        };
        let (service, scope) = (received.resource.service_name(), &received.scope.name);
        let row = Row::metric(service, scope, &received.metric.name, kind);
        table.add(row, points as u64, false);
    }
    for log in collector.logs() {
        let severity = &log.record.severity_text;
        let row = Row::log(log.resource.service_name(), &log.scope.name, severity);
        table.add(row, 1, severity == "ERROR");
    }
    table
}
