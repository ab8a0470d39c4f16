//! The closing account: what was made, what the pipeline says, what the collector has.

use super::load::Asked;
use super::telemetry::{LOG_NUMBER, SERVED, Telemetry};
use super::{Result, say};
use otlp_embed::Report;
use otlp_embed::pb::metrics::metric::Data;
use otlp_embed::pb::metrics::number_data_point::Value as Number;
use otlp_embed::testing::Collector;
use otlp_embed::testing::collector::Value;
use std::collections::HashSet;
use std::hash::Hash;

/// Prints it, and fails unless nothing is missing.
pub fn close(
    telemetry: &Telemetry,
    report: &Report,
    asked: &Asked,
    collector: Option<&Collector>,
) -> Result<()> {
    let stats = &report.stats;
    say(format_args!(
        "clients: {} requests answered, {} not",
        asked.answered, asked.unanswered
    ));
    say(format_args!(
        "made: {} spans, {} log records, {} requests counted",
        telemetry.made.spans().len(),
        telemetry.made.logs(),
        telemetry.made.served()
    ));
    say(format_args!("pipeline: {report}"));
    let exporter = telemetry.exporter.stats();
    say(format_args!(
        "exporter: {} connections, {} retries, {} outages, {} possible duplicates",
        exporter.connections, exporter.retries, exporter.outages, exporter.possible_duplicates
    ));
    if !stats.is_conserved() {
        return Err(format!("the account does not close: {report}").into());
    }
    if report.lost() > 0 {
        return Err(format!("{} items were lost", report.lost()).into());
    }
    match collector {
        Some(collector) => compare(telemetry, collector, exporter.possible_duplicates),
        None => Ok(()),
    }
}

/// Item by item, what was made beside what the collector took.
fn compare(telemetry: &Telemetry, collector: &Collector, possible_duplicates: u64) -> Result<()> {
    let spans = Seen::of(collector.spans().into_iter().map(|span| span.span_id));
    let logs = Seen::of(
        collector
            .logs()
            .iter()
            .filter_map(|log| match log.attribute(LOG_NUMBER) {
                Some(Value::Int(number)) => Some(number),
                _ => None,
            }),
    );
    let made_logs: HashSet<_> = (0..telemetry.made.logs() as i64).collect();
    let mut again = spans.again + logs.again;
    spans.tell("spans", &telemetry.made.spans())?;
    logs.tell("log records", &made_logs)?;

    // A collection that came twice has its increments twice; it is known by its time.
    let (mut seen, mut served) = (HashSet::new(), 0);
    for metric in collector.metrics() {
        let points = match &metric.metric.data {
            Some(Data::Sum(sum)) => sum.data_points.iter().collect(),
            _ => Vec::new(),
        };
        for point in points.into_iter().filter(|_| metric.metric.name == SERVED) {
            let attributes = format!("{:?}", point.attributes);
            if !seen.insert((point.start_time_unix_nano, point.time_unix_nano, attributes)) {
                again += 1;
                continue;
            }
            if let Some(Number::AsInt(count)) = point.value {
                served += count as u64;
            }
        }
    }
    let made = telemetry.made.served();
    say(format_args!("collector: {served} of {made} requests counted"));
    if served != made {
        return Err(format!("{made} requests were counted, and {served} of them arrived").into());
    }
    if again > possible_duplicates {
        return Err(format!("{again} items came twice, and {possible_duplicates} could have").into());
    }
    say("nothing is missing");
    Ok(())
}

/// What came, and how much of it again.
struct Seen<T> {
    items: HashSet<T>,
    again: u64,
}

impl<T: Hash + Eq> Seen<T> {
    fn of(items: impl Iterator<Item = T>) -> Self {
        let mut seen = Self {
            items: HashSet::new(),
            again: 0,
        };
        for item in items {
            seen.again += u64::from(!seen.items.insert(item));
        }
        seen
    }

    fn tell(&self, what: &str, made: &HashSet<T>) -> Result<()> {
        let arrived = made.intersection(&self.items).count();
        say(format_args!(
            "collector: {arrived} of {} {what}, {} of them twice",
            made.len(),
            self.again
        ));
        if arrived != made.len() || self.items.len() != arrived {
            let strange = self.items.len() - arrived;
            return Err(format!(
                "{arrived} of {} {what} arrived, and {strange} that nobody made",
                made.len()
            )
            .into());
        }
        Ok(())
    }
}
