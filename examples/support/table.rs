//! A table of what was sent or received, by signal, service, scope and kind.

use std::collections::BTreeMap;
use std::fmt;

/// Items and errors by row.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Table {
    rows: BTreeMap<Row, Sums>,
}

/// What items are counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row([String; 4]);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    items: u64,
    errors: u64,
}

impl Row {
    /// Spans of a kind, which is given by its number in OTLP.
    pub fn span(service: &str, scope: &str, kind: i32) -> Self {
        let kind = match kind {
            1 => "internal",
            2 => "server",
            3 => "client",
            4 => "producer",
            5 => "consumer",
            _ => "unspecified",
        };
        Self(["spans", service, scope, kind].map(String::from))
    }

    /// Data points of a metric.
    pub fn metric(service: &str, scope: &str, name: &str, kind: &str) -> Self {
        let what = format!("{name} ({kind})");
        Self(["data points", service, scope, &what].map(String::from))
    }

    /// Log records of a severity.
    pub fn log(service: &str, scope: &str, severity: &str) -> Self {
        Self(["log records", service, scope, severity].map(String::from))
    }
}

impl Table {
    /// Adds items, and tells whether they speak of an error.
    pub fn add(&mut self, row: Row, items: u64, is_error: bool) {
        let sums = self.rows.entry(row).or_default();
        sums.items += items;
        sums.errors += if is_error { items } else { 0 };
    }

    /// Adds the rows of another table.
    pub fn append(&mut self, other: Self) {
        for (row, sums) in other.rows {
            let mine = self.rows.entry(row).or_default();
            mine.items += sums.items;
            mine.errors += sums.errors;
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = vec![["SIGNAL", "SERVICE", "SCOPE", "WHAT", "ITEMS", "ERRORS"].map(String::from)];
        for (Row([signal, service, scope, what]), sums) in &self.rows {
            let [items, errors] = [sums.items, sums.errors].map(|number| number.to_string());
            let [signal, service, scope, what] = [signal, service, scope, what].map(String::clone);
            lines.push([signal, service, scope, what, items, errors]);
        }
        let mut widths = [0; 6];
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = cell.chars().count().max(*width);
            }
        }
        for [signal, service, scope, what, items, errors] in &lines {
            let [a, b, c, d, e, g] = widths;
            writeln!(
                f,
                "{signal:a$}  {service:b$}  {scope:c$}  {what:d$}  {items:>e$}  {errors:>g$}"
            )?;
        }
        Ok(())
    }
}
