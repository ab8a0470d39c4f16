//! The account: what was made, what the pipeline says that became of it, and what the collector received.

use crate::made::{Book, Made, Tally, attributes, point_id};
use crate::{Result, say};
use otlp_embed::pb::common::KeyValue;
use otlp_embed::pb::metrics::metric::Data;
use otlp_embed::testing::collector::{Inbox, ReceivedSpan, Value};
use otlp_embed::{Report, Stats};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;

/// Says what became of everything, and fails unless that is all that was made.
pub fn close(made: &Made, inbox: Option<&Inbox>, report: &Report, exporter: &Stats) -> Result<()> {
    let book = made.book();
    let mut faults = Faults::default();
    let stats = &report.stats;
    let made: u64 = book.counts.iter().sum();

    say(format_args!("Pipeline: {report}"));
    say(format_args!(
        "Connections: {}, retries: {}, outages: {}, possible duplicates: {}",
        exporter.connections, exporter.retries, exporter.outages, exporter.possible_duplicates
    ));
    if let Some(error) = &exporter.last_error {
        say(format_args!("The last failure: {error}"));
    }
    faults.expect_equal("items that the pipeline was given", made, stats.accepted);
    faults.expect("the pipeline's account is closed", || {
        stats.is_conserved() && stats.queued == 0 && stats.in_flight == 0
    });

    match inbox {
        Some(inbox) => compare(&book, inbox, report, exporter, &mut faults),
        None => say(format_args!(
            "Made: {} spans, {} log records, {} data points",
            book.counts[0], book.counts[1], book.counts[2]
        )),
    }
    faults.tell()?;
    match report.lost() {
        0 => say("The account closes: nothing is missing"),
        lost => say(format_args!(
            "The account closes: {lost} of {made} items are lost, and all of them are told"
        )),
    }
    Ok(())
}

/// Compares what was made with what was received, item by item.
fn compare(book: &Book, inbox: &Inbox, report: &Report, exporter: &Stats, faults: &mut Faults) {
    let received_spans = inbox.spans();
    let spans = Row::of(
        "spans",
        book.spans.keys().copied(),
        received_spans
            .iter()
            .map(|span| span.span_id.as_slice().try_into().unwrap_or_default()),
    );
    let received_logs = inbox.logs();
    let uids = received_logs
        .iter()
        .map(|log| match log.attribute("log.record.uid") {
            Some(Value::Str(uid)) => uid,
            _ => String::new(),
        });
    let records = Row::of("log records", book.records.iter().cloned(), uids);
    let points = Points::of(inbox);
    let ids = points.received.iter().map(|(id, _)| id.clone());
    let data = Row::of("data points", book.points.iter().cloned(), ids);

    say(format_args!(
        "  {:<12} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "", "made", "received", "again", "missing", "foreign"
    ));
    let rows = [spans, records, data];
    rows.iter().for_each(Row::tell);
    let all = Row::sum(&rows);
    all.tell();
    for (row, count) in rows.iter().zip(book.counts) {
        faults.expect_equal(&format!("ids of {}", row.what), count, row.made);
    }

    // What is unknown may have arrived. Everything else is where the account says.
    let stats = &report.stats;
    let lost = stats.dropped_total() + stats.rejected;
    faults.expect_equal("items that nobody made", 0, all.foreign);
    faults.expect(
        &format!(
            "{} items are missing, and as many are told as dropped or rejected ({lost}), or unknown ({})",
            all.missing, stats.unknown
        ),
        || (lost..=lost + stats.unknown).contains(&all.missing),
    );
    faults.expect(
        &format!(
            "{} items came again, and no more than {} may have",
            all.again, exporter.possible_duplicates
        ),
        || all.again <= exporter.possible_duplicates,
    );
    if rows[0].missing == 0 {
        compare_traces(book, &received_spans, faults);
        let in_spans = received_logs.iter().filter(|log| {
            let span = <[u8; 8]>::try_from(log.record.span_id.as_slice()).unwrap_or_default();
            book.spans
                .get(&span)
                .is_some_and(|trace| log.record.trace_id == *trace)
        });
        faults.expect_equal(
            "log records within a span that was made",
            received_logs.len() as u64,
            in_spans.count() as u64,
        );
    }
    if rows[2].missing == 0 {
        compare_tallies(&book.tallies, &points, faults);
    }
}

/// Each request to the inventory is served within the span that sent it.
fn compare_traces(book: &Book, received: &[ReceivedSpan], faults: &mut Faults) {
    let by_id: HashMap<_, _> = received.iter().map(|span| (&span.span_id, span)).collect();
    let (mut within, mut all) = (0_u64, 0_u64);
    for span in by_id.values().filter(|span| span.service_name() == "inventory") {
        all += 1;
        let parent = by_id.get(&span.parent_span_id);
        let is_sent = |parent: &&&ReceivedSpan| {
            parent.service_name() == "shop" && parent.kind == CLIENT && parent.trace_id == span.trace_id
        };
        within += u64::from(parent.filter(is_sent).is_some());
    }
    let sent = by_id.values().filter(|span| span.kind == CLIENT);
    let answered = sent
        .clone()
        .filter(|span| span.attribute("http.response.status_code").is_some());
    let (sent, answered) = (sent.count() as u64, answered.count() as u64);
    say(format_args!(
        "Traces: {within} of {sent} requests to the inventory are served within the span that sent them"
    ));
    faults.expect_equal("spans of the inventory within one of the shop's", all, within);
    // One that was not answered may have been served nonetheless.
    faults.expect(
        &format!("of {sent} requests to the inventory {answered} were answered, and {all} were served"),
        || (answered..=sent).contains(&all),
    );
    let of_trace = by_id.values().filter(|span| {
        let id = <[u8; 8]>::try_from(span.span_id.as_slice()).unwrap_or_default();
        book.spans.get(&id).is_some_and(|trace| span.trace_id == *trace)
    });
    faults.expect_equal(
        "spans in the trace that they were made in",
        by_id.len() as u64,
        of_trace.count() as u64,
    );
}

const CLIENT: i32 = 3;

/// What counters and histograms came to is what they were told.
fn compare_tallies(made: &BTreeMap<Tally, u64>, points: &Points, faults: &mut Faults) {
    let (mut once, mut sums) = (HashSet::new(), BTreeMap::<Tally, u64>::new());
    let mut active = BTreeMap::new();
    for (id, point) in &points.received {
        if !once.insert(id) {
            continue;
        }
        match point.count {
            Count::More(more) => *sums.entry(point.tally.clone()).or_default() += more,
            Count::Now(now) => {
                let last = active.entry(&point.tally).or_insert((0, 0));
                *last = (*last).max((point.nanos, now));
            }
        }
    }
    let total: u64 = sums.values().sum();
    say(format_args!(
        "Metrics: {total} measurements and increments in {} series, as they were made",
        sums.len()
    ));
    for tally in made.keys().chain(sums.keys()) {
        let [made, arrived] = [made, &sums].map(|of| of.get(tally).copied().unwrap_or_default());
        let what = format!("{} of {} {{{}}}", tally.metric, tally.service, tally.attributes);
        faults.expect_equal(&what, made, arrived);
    }
    for (tally, (_, now)) in active {
        let what = format!("{} of {} at the end", tally.metric, tally.service);
        faults.expect(&format!("{what}: {now}"), || now == 0);
    }
}

/// What was made and what was received of a signal.
struct Row {
    what: &'static str,
    made: u64,
    /// Items that were made and arrived, each once.
    received: u64,
    /// Times that one arrived again.
    again: u64,
    missing: u64,
    /// Items that arrived and that nobody made.
    foreign: u64,
}

impl Row {
    fn of<Id: Eq + Hash>(
        what: &'static str,
        made: impl Iterator<Item = Id>,
        received: impl Iterator<Item = Id>,
    ) -> Self {
        let mut times: HashMap<Id, u64> = made.map(|id| (id, 0)).collect();
        let (made, mut again, mut foreign, mut once) = (times.len() as u64, 0, 0, 0);
        for id in received {
            match times.get_mut(&id) {
                None => foreign += 1,
                Some(times) => {
                    let is_first = *times == 0;
                    *times += 1;
                    *(if is_first { &mut once } else { &mut again }) += 1;
                }
            }
        }
        Self {
            what,
            made,
            received: once,
            again,
            missing: made - once,
            foreign,
        }
    }

    fn sum(rows: &[Self]) -> Self {
        let sum = |of: fn(&Self) -> u64| rows.iter().map(of).sum();
        Self {
            what: "all",
            made: sum(|row| row.made),
            received: sum(|row| row.received),
            again: sum(|row| row.again),
            missing: sum(|row| row.missing),
            foreign: sum(|row| row.foreign),
        }
    }

    fn tell(&self) {
        say(format_args!(
            "  {:<12} {:>9} {:>9} {:>9} {:>9} {:>9}",
            self.what, self.made, self.received, self.again, self.missing, self.foreign
        ));
    }
}

/// Data points as they arrived, those that came again included.
struct Points {
    received: Vec<(String, Point)>,
}

struct Point {
    tally: Tally,
    nanos: u64,
    count: Count,
}

enum Count {
    /// So many since the point before.
    More(u64),
    /// As it is now.
    Now(i64),
}

impl Points {
    fn of(inbox: &Inbox) -> Self {
        let mut received = Vec::new();
        for of_metric in inbox.metrics() {
            let service = of_metric.resource.service_name();
            let metric = of_metric.metric.name.as_str();
            let mut add = |fields: &[KeyValue], times: (u64, u64), count| {
                let fields = attributes(fields.iter().map(|field| (&field.key, text(field))));
                let id = point_id(service, metric, &fields, times.0, times.1);
                let tally = Tally {
                    service: service.into(),
                    metric: metric.into(),
                    attributes: fields,
                };
                let nanos = times.1;
                received.push((id, Point { tally, nanos, count }));
            };
            match &of_metric.metric.data {
                Some(Data::Sum(sum)) => {
                    for point in &sum.data_points {
                        let value = match point.value {
                            Some(otlp_embed::pb::metrics::number_data_point::Value::AsInt(value)) => value,
                            _ => i64::MIN,
                        };
                        let count = match sum.is_monotonic {
                            true => Count::More(value.try_into().unwrap_or(u64::MAX)),
                            false => Count::Now(value),
                        };
                        add(
                            &point.attributes,
                            (point.start_time_unix_nano, point.time_unix_nano),
                            count,
                        );
                    }
                }
                Some(Data::Histogram(histogram)) => {
                    for point in &histogram.data_points {
                        let times = (point.start_time_unix_nano, point.time_unix_nano);
                        add(&point.attributes, times, Count::More(point.count));
                    }
                }
                // None of the services has an instrument of another kind: it would be foreign.
                _ => add(&[], (0, 0), Count::Now(0)),
            }
        }
        Self { received }
    }
}

fn text(field: &KeyValue) -> String {
    match field.value.clone().map(Value::from) {
        Some(Value::Str(text)) => text,
        Some(Value::Int(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

/// What does not hold.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn expect(&mut self, what: &str, holds: impl FnOnce() -> bool) {
        if !holds() {
            self.0.push(format!("not so: {what}"));
        }
    }

    fn expect_equal(&mut self, what: &str, made: u64, found: u64) {
        if made != found {
            self.0.push(format!("{what}: {made} made, {found} found"));
        }
    }

    /// Says all of them, and fails with the first.
    fn tell(self) -> Result<()> {
        for fault in &self.0 {
            say(format_args!("FAULT: {fault}"));
        }
        match self.0.into_iter().next() {
            None => Ok(()),
            Some(first) => Err(format!("the account does not close: {first}").into()),
        }
    }
}
