//! What can be asked for.

use clap::{Arg, ArgAction, Command, value_parser};
use std::ops::Range;
use std::time::Duration;

/// What was asked for.
pub struct Options {
    /// How long the load lasts.
    pub seconds: Duration,
    /// Requests a second.
    pub rate: u32,
    /// When the collector is away, where that was said; nothing where it is to stay.
    outage: Option<Option<Range<Duration>>>,
    /// Where to export to, in place of a collector in this process.
    pub endpoint: Option<String>,
    /// How many items the pipeline holds at most, where that was said.
    pub queue: Option<u64>,
    /// How long the end may take.
    pub patience: Duration,
    /// Whether there is a line each second also where it is no terminal.
    pub progress: bool,
}

impl Options {
    /// Those of the command line. Where they are wrong, it says so and ends the program.
    pub fn from_args() -> Self {
        let mut matches = command().get_matches();
        let mut seconds = |name| matches.remove_one::<Duration>(name).unwrap_or_default();
        Self {
            seconds: seconds("seconds"),
            patience: seconds("patience"),
            rate: matches.remove_one("rate").unwrap_or_default(),
            outage: matches.remove_one("outage"),
            endpoint: matches.remove_one("endpoint"),
            queue: matches.remove_one("queue"),
            progress: matches.get_flag("progress"),
        }
    }

    /// When the collector is away: as was said, else from 30 % to 60 % of the run.
    pub fn outage(&self) -> Option<Range<Duration>> {
        match &self.outage {
            Some(outage) => outage.clone(),
            None => Some(self.seconds * 3 / 10..self.seconds * 6 / 10),
        }
    }
}

fn command() -> Command {
    let value = |name: &'static str, what, help| Arg::new(name).long(name).value_name(what).help(help);
    Command::new("microservice")
        .about("A small HTTP service under load, whose telemetry is accounted for")
        .arg(
            value("seconds", "N", "How long the load lasts")
                .default_value("10")
                .value_parser(duration),
        )
        .arg(
            value("rate", "N", "Requests a second")
                .default_value("200")
                .value_parser(value_parser!(u32).range(1..=100_000)),
        )
        .arg(
            value(
                "outage",
                "START..END",
                "When the collector is away, in seconds since the load began, or `none`; 30 % to 60 % of the run unless set",
            )
            .value_parser(outage),
        )
        .arg(
            value(
                "endpoint",
                "URL",
                "Exports there instead of to a collector in this process; the other settings are those of OTEL_EXPORTER_OTLP_…",
            )
            .conflicts_with("outage"),
        )
        .arg(
            value("queue", "ITEMS", "How many items the pipeline holds at most; beyond that it drops")
                .value_parser(value_parser!(u64).range(1..)),
        )
        .arg(
            value("patience", "N", "How many seconds the pipeline has at the end for what is left")
                .default_value("5")
                .value_parser(duration),
        )
        .arg(
            Arg::new("progress")
                .long("progress")
                .action(ArgAction::SetTrue)
                .help("A line each second, also in a pipe"),
        )
}

/// Seconds, up to a day.
fn duration(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().map_err(|_| "it is a number of seconds")?;
    let duration = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    match duration <= Duration::from_secs(86_400) {
        true => Ok(duration),
        false => Err("more than a day".into()),
    }
}

fn outage(text: &str) -> Result<Option<Range<Duration>>, String> {
    if text == "none" {
        return Ok(None);
    }
    let (start, end) = text.split_once("..").ok_or("takes START..END, such as 3..6")?;
    let (start, end) = (duration(start)?, duration(end)?);
    match start < end {
        true => Ok(Some(start..end)),
        false => Err("ends before it begins".into()),
    }
}
