//! A table of spans by service, scope and kind.

use std::collections::BTreeMap;
use std::fmt;

/// Spans, errors and encoded bytes by service, scope and kind.
#[derive(Default)]
pub struct Table {
    rows: BTreeMap<[String; 3], Sums>,
}

#[derive(Clone, Copy, Default)]
struct Sums {
    spans: u64,
    errors: u64,
    bytes: u64,
}

impl Table {
    /// Adds a span whose kind is given by its number in OTLP.
    pub fn add(&mut self, service: &str, scope: &str, kind: i32, is_error: bool, bytes: usize) {
        let row = [service.into(), scope.into(), kind_name(kind).into()];
        let sums = self.rows.entry(row).or_default();
        sums.spans += 1;
        sums.errors += u64::from(is_error);
        sums.bytes += bytes as u64;
    }
}

fn kind_name(kind: i32) -> &'static str {
    match kind {
        1 => "internal",
        2 => "server",
        3 => "client",
        4 => "producer",
        5 => "consumer",
        _ => "unspecified",
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = vec![["SERVICE", "SCOPE", "KIND", "SPANS", "ERRORS", "BYTES"].map(String::from)];
        let mut total = Sums::default();
        for ([service, scope, kind], sums) in &self.rows {
            lines.push(line([service, scope, kind], *sums));
            total.spans += sums.spans;
            total.errors += sums.errors;
            total.bytes += sums.bytes;
        }
        lines.push(line(["total", "", ""], total));

        let mut widths = [0; 6];
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = cell.chars().count().max(*width);
            }
        }
        for [service, scope, kind, spans, errors, bytes] in &lines {
            let [a, b, c, d, e, g] = widths;
            writeln!(
                f,
                "{service:a$}  {scope:b$}  {kind:c$}  {spans:>d$}  {errors:>e$}  {bytes:>g$}"
            )?;
        }
        Ok(())
    }
}

fn line<T: AsRef<str>>(names: [T; 3], sums: Sums) -> [String; 6] {
    let [service, scope, kind] = names.map(|name| name.as_ref().to_owned());
    let numbers = [sums.spans, sums.errors, sums.bytes].map(|number| number.to_string());
    let [spans, errors, bytes] = numbers;
    [service, scope, kind, spans, errors, bytes]
}
