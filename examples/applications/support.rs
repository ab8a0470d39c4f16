//! What the applications share: a place to export to, and the question at the end whether all that was made has arrived.

#![allow(dead_code, reason = "not every application needs all of it")]

use otlp_embed::observe::{Event, Level};
use otlp_embed::testing::Collector;
use otlp_embed::testing::collector::Builder;
use otlp_embed::{Report, Stats};
use std::error::Error;
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

/// What an application's `main` comes to.
pub type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// Prints a line. `println!` would panic where nobody reads it, as in `| head -n 1`; the exit code is the verdict, whoever listens.
pub fn say(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Writes what goes wrong with exports to standard error: an [observer](otlp_embed::Config::with_observer).
pub fn warn(event: Event<'_>) {
    if event.level() == Level::Warn {
        let _ = writeln!(io::stderr(), "{event}");
    }
}

/// The exit code of an application, whose failure goes to standard error, in one line.
pub fn exit_code(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{}: {error}", env!("CARGO_BIN_NAME"));
            ExitCode::FAILURE
        }
    }
}

/// Where an application exports to: a collector in this process, or one that its user has named.
pub struct Destination {
    /// The one in this process, which can be asked what it received.
    pub collector: Option<Collector>,
    /// Its URL.
    pub endpoint: String,
}

impl Destination {
    /// Takes the URL from the first argument and, where there is none, starts a collector.
    pub fn from_args() -> Result<Self> {
        Self::from_args_or(Collector::builder())
    }

    /// As [`from_args`](Self::from_args), with a collector of these settings.
    ///
    /// Whether a URL can work is for the exporter to say.
    pub fn from_args_or(builder: Builder) -> Result<Self> {
        let mut arguments = std::env::args_os().skip(1).map(|argument| argument.into_string());
        match (arguments.next(), arguments.next()) {
            (None, _) => {
                let collector = builder.start()?;
                let endpoint = collector.endpoint();
                say(format_args!(
                    "Exporting to a collector in this process, {endpoint}"
                ));
                let collector = Some(collector);
                Ok(Self { collector, endpoint })
            }
            (Some(Ok(endpoint)), None) if !endpoint.starts_with('-') => Ok(Self {
                collector: None,
                endpoint,
            }),
            _ => Err("takes the URL of a collector or nothing, for one in this process".into()),
        }
    }
}

/// A table of what was made beside what arrived.
#[derive(Default)]
pub struct Comparison {
    rows: Vec<(String, String, String)>,
}

impl Comparison {
    /// Adds a row.
    pub fn row(&mut self, what: impl Display, made: impl Display, arrived: impl Display) -> &mut Self {
        let row = (what.to_string(), made.to_string(), arrived.to_string());
        self.rows.push(row);
        self
    }

    /// Prints the table, and fails unless both sides of every row are the same.
    pub fn check(&self) -> Result<()> {
        let widest = |cell: fn(&(String, String, String)) -> &String, title: &str| {
            let cells = self.rows.iter().map(|row| cell(row).chars().count());
            cells.max().unwrap_or(0).max(title.len())
        };
        let (what, made) = (widest(|row| &row.0, "WHAT"), widest(|row| &row.1, "MADE"));
        say(format_args!("  {:what$}  {:>made$}  ARRIVED", "WHAT", "MADE"));
        for row in &self.rows {
            say(format_args!("  {:what$}  {:>made$}  {}", row.0, row.1, row.2));
        }
        match self.rows.iter().find(|row| row.1 != row.2) {
            Some((what, made, arrived)) => {
                Err(format!("{what}: {made} were made and {arrived} arrived").into())
            }
            None => Ok(()),
        }
    }
}

/// Prints what an operator asks at the end, and fails unless the account closes with everything delivered.
pub fn close(report: &Report, exporter: &Stats) -> Result<()> {
    say(format_args!("Account: {report}"));
    say(format_args!(
        "Connections: {}, retries: {}, outages: {}, possible duplicates: {}",
        exporter.connections, exporter.retries, exporter.outages, exporter.possible_duplicates
    ));
    if let Some(error) = &exporter.last_error {
        say(format_args!("The last failure: {error}"));
    }
    let stats = &report.stats;
    match stats.is_conserved() && stats.delivered == stats.accepted {
        true => Ok(()),
        false => Err(format!("{} of {} items were delivered", stats.delivered, stats.accepted).into()),
    }
}
