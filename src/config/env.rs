//! The environment variables of the OTLP exporter specification.
//!
//! Everything but the reading of the process's own environment is a function of names and values.

mod headers;
#[cfg(test)]
mod tests;

use super::choices::Choice;
use super::options::{HISTOGRAM, Levels, Options, PREFIX, SETTINGS, Setting, TEMPORALITY, variable};
use super::{Config, HistogramAggregation, TemporalityPreference, proxy};
use crate::encode::Signal;
use crate::error::Error;
use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

/// Bytes that the variables read may have together.
const BYTES_MAX: usize = 1 << 20;
/// Characters of a refused value that are shown.
const SHOWN_CHARS_MAX: usize = 60;
/// Unknown variables that are named.
const UNKNOWN_MAX: usize = 16;

/// Variables of an early draft of the specification, with their successors.
const OBSOLETE: [(&str, &str); 4] = [
    ("SPAN_INSECURE", "TRACES_INSECURE"),
    ("METRIC_INSECURE", "METRICS_INSECURE"),
    ("SPAN_ENDPOINT", "TRACES_ENDPOINT"),
    ("METRIC_ENDPOINT", "METRICS_ENDPOINT"),
];

/// What the environment says.
#[derive(Clone, Default)]
pub(super) struct Environment {
    pub levels: Levels,
    pub temporality: Option<TemporalityPreference>,
    pub histogram: Option<HistogramAggregation>,
    pub proxies: proxy::Variables,
    pub refused: Vec<String>,
    pub warnings: Vec<String>,
}

impl Config {
    /// The configuration that the process's environment variables ask for: those of the OTLP exporter specification,
    /// "Configuration Options".
    ///
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`, `_PROTOCOL`, `_TIMEOUT` (in milliseconds, 0 for no limit), `_HEADERS`, `_COMPRESSION`,
    /// `_INSECURE`, `_CERTIFICATE`, `_CLIENT_KEY` and `_CLIENT_CERTIFICATE` hold for every signal. With `TRACES_`,
    /// `METRICS_`, `LOGS_` or `PROFILES_` before the last part they hold for one, and win over the general form.
    /// `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE` and `_DEFAULT_HISTOGRAM_AGGREGATION` are for the SDK:
    /// [`ConfigReport`](crate::ConfigReport) tells them, and `sdk::MetricExporter` takes the first.
    ///
    /// A variable that is empty counts as unset. One whose value cannot be understood is passed over for the next form, and
    /// noted in [`report`](Config::report); but for an endpoint where headers or credentials are set, which would go to another
    /// one: that is an error of [`build`](Config::build). What code sets wins over every variable.
    ///
    /// A variable that begins as these and is none of them is among the report's warnings, since it is probably misspelt, and so is
    /// `OTEL_SDK_DISABLED`, which is for the SDK alone.
    ///
    /// # Errors
    ///
    /// A misuse error where the variables, those of proxies among them, have more than 1 MiB together. What this build cannot do, such as a protocol
    /// whose feature is off, is an error of [`build`](Config::build), since code may still set something else.
    #[cfg(feature = "std")]
    pub fn from_env() -> Result<Self, Error> {
        let vars = std::env::vars_os().filter_map(|(name, value)| {
            // A name that is no text is none of those that are read.
            let name = name.into_string().ok()?;
            Some((name, value.into_string().ok()))
        });
        Self::from_named(vars)
    }

    /// The configuration that these environment variables ask for, in place of the process's own; see
    /// [`from_env`](Self::from_env). Names that are none of the exporter's are passed over.
    ///
    /// ```
    /// use otlp_embed::Config;
    ///
    /// let config = Config::from_vars([("OTEL_EXPORTER_OTLP_HEADERS", "api-key=abc%2C123,x-tenant=acme")])?;
    /// # Ok::<(), otlp_embed::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`from_env`](Self::from_env).
    pub fn from_vars<N, V>(vars: impl IntoIterator<Item = (N, V)>) -> Result<Self, Error>
    where
        N: AsRef<str>,
        V: AsRef<str>,
    {
        let vars = vars.into_iter();
        Self::from_named(
            vars.map(|(name, value)| (name.as_ref().to_owned(), Some(value.as_ref().to_owned()))),
        )
    }

    /// A value is none where it is no text.
    fn from_named(vars: impl Iterator<Item = (String, Option<String>)>) -> Result<Self, Error> {
        let mut config = Self::new();
        config.env = Some(Arc::new(Environment::read(vars)?));
        Ok(config)
    }
}

impl Environment {
    fn read(vars: impl Iterator<Item = (String, Option<String>)>) -> Result<Self, Error> {
        let mut reader = Reader {
            vars: BTreeMap::new(),
            read: Self::default(),
        };
        let mut bytes = 0;
        for (name, value) in vars.filter(|(name, _)| is_ours(name)) {
            bytes += name.len() + value.as_ref().map_or(0, String::len);
            if bytes > BYTES_MAX {
                return Err(Error::config(format!(
                    "environment: the variables {PREFIX}* and those of proxies have more than {BYTES_MAX} bytes together"
                )));
            }
            reader.vars.insert(name, value);
        }
        for signal in [None].into_iter().chain(Signal::ALL.map(Some)) {
            for setting in SETTINGS {
                reader.setting(signal, setting);
            }
        }
        reader.preferences();
        reader.read.proxies = proxy::Variables::read(|name| reader.vars.remove(name)??.into());
        reader.rest();
        Ok(reader.read)
    }

    /// The proxies that the process's environment names.
    #[cfg(feature = "std")]
    pub fn proxies_of_process() -> proxy::Variables {
        proxy::Variables::read(|name| std::env::var(name).ok())
    }
}

struct Reader {
    /// Those not yet read; a value is none where it is no text.
    vars: BTreeMap<String, Option<String>>,
    read: Environment,
}

impl Reader {
    /// The value of a variable that is set and not empty.
    fn take(&mut self, name: &str) -> Option<String> {
        let value = self.vars.remove(name)?;
        if value.is_none() {
            self.refuse(name, "", "its value is not UTF-8");
        }
        value.filter(|value| !value.trim().is_empty())
    }

    fn refuse(&mut self, name: &str, value: &str, why: &str) {
        let equals = if value.is_empty() { "" } else { "=" };
        self.read.refused.push(format!("{name}{equals}{value}: {why}"));
    }

    fn setting(&mut self, signal: Option<Signal>, setting: &Setting) {
        let name = variable(signal, setting.variable);
        if setting.variable == "ENDPOINT" && self.vars.get(&name) == Some(&None) {
            // Whether another endpoint may stand in for one that is no text is decided where the others are known.
            self.vars
                .insert(name.clone(), Some(char::REPLACEMENT_CHARACTER.into()));
        }
        let Some(value) = self.take(&name) else {
            return;
        };
        let text = value.trim();
        let mut to = core::mem::take(self.read.levels.of_mut(signal));
        match setting.variable {
            "ENDPOINT" => to.endpoint = Some(text.into()),
            "PROTOCOL" => to.protocol = self.choice(&name, text),
            "COMPRESSION" => to.compression = self.choice(&name, text),
            "TIMEOUT" => to.timeout = self.timeout(&name, text),
            "HEADERS" => to.headers = self.headers(&name, text),
            "INSECURE" => to.insecure = Some(self.boolean(&name, text)),
            _ => *file(&mut to, setting) = Some(text.into()),
        }
        *self.read.levels.of_mut(signal) = to;
    }

    /// One of the words of a choice, in any case.
    fn choice<T: Choice>(&mut self, name: &str, text: &str) -> Option<T> {
        let choice = T::named(text);
        if choice.is_none() {
            let words: Vec<&str> = T::ALL.iter().map(|(word, _)| *word).collect();
            self.refuse(name, &shown(text), &format!("it is none of {}", words.join(", ")));
        }
        choice
    }

    /// Milliseconds, 0 for no limit (common configuration specification, "Timeout").
    fn timeout(&mut self, name: &str, text: &str) -> Option<Duration> {
        let is_number = text.bytes().all(|b| b.is_ascii_digit());
        match text.parse::<u64>().ok().filter(|_| is_number) {
            Some(0) => Some(super::NO_LIMIT),
            Some(millis) => Some(Duration::from_millis(millis).min(super::NO_LIMIT)),
            None => {
                let why = "it is no number of milliseconds, such as 10000";
                self.refuse(name, &shown(text), why);
                None
            }
        }
    }

    /// `true` or `false`, and false for everything else (environment variable specification, "Boolean").
    fn boolean(&mut self, name: &str, text: &str) -> bool {
        let is_true = text.eq_ignore_ascii_case("true");
        if !is_true && !text.eq_ignore_ascii_case("false") {
            self.refuse(
                name,
                &shown(text),
                "it is neither true nor false, and counts as false",
            );
        }
        is_true
    }

    fn headers(&mut self, name: &str, text: &str) -> Vec<(String, String)> {
        let list = headers::parse(text);
        self.read
            .refused
            .extend(list.refused.iter().map(|why| format!("{name}: {why}")));
        self.read
            .warnings
            .extend(list.warnings.iter().map(|why| format!("{name}: {why}")));
        list.headers
    }

    fn preferences(&mut self) {
        let name = variable(Some(Signal::Metrics), TEMPORALITY);
        if let Some(value) = self.take(&name) {
            self.read.temporality = self.choice(&name, value.trim());
        }
        let name = variable(Some(Signal::Metrics), HISTOGRAM);
        if let Some(value) = self.take(&name) {
            self.read.histogram = self.choice(&name, value.trim());
        }
    }

    /// What is left is misspelt, or not for the exporter.
    fn rest(&mut self) {
        if let Some(value) = self.take("OTEL_SDK_DISABLED") {
            if self.boolean("OTEL_SDK_DISABLED", value.trim()) {
                self.read.warnings.push(
                    "OTEL_SDK_DISABLED=true: this is for the SDK; the exporter sends what it is given".into(),
                );
            }
        }
        let is_set = |value: &Option<String>| value.as_ref().is_none_or(|value| !value.trim().is_empty());
        let unknown = self.vars.iter().filter(|(_, value)| is_set(value));
        let count = unknown.clone().count();
        let texts = unknown.take(UNKNOWN_MAX).map(|(name, _)| unknown_variable(name));
        self.read.warnings.extend(texts);
        if count > UNKNOWN_MAX {
            let more = count - UNKNOWN_MAX;
            self.read
                .warnings
                .push(format!("{more} more variables {PREFIX}* are not known"));
        }
    }
}

/// Whether a variable is read, or looks as if it should be.
fn is_ours(name: &str) -> bool {
    name.starts_with(PREFIX) || name == "OTEL_SDK_DISABLED" || proxy::Variables::NAMES.contains(&name)
}

/// Where the path of a file goes.
fn file<'a>(options: &'a mut Options, setting: &Setting) -> &'a mut Option<String> {
    match setting.variable {
        "CERTIFICATE" => &mut options.certificate,
        "CLIENT_KEY" => &mut options.client_key,
        _ => &mut options.client_certificate,
    }
}

/// A value for people: quoted, and shortened.
fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}

fn unknown_variable(name: &str) -> String {
    let shown = shown(name);
    let shown = shown.trim_matches('"');
    let suffix = &name[PREFIX.len()..];
    if let Some((_, successor)) = OBSOLETE.iter().find(|(old, _)| *old == suffix) {
        return format!("{shown}: this variable is obsolete and not read; set {PREFIX}{successor}");
    }
    let nearest = known()
        .into_iter()
        .map(|known| (distance(&known[PREFIX.len()..], suffix), known))
        .min();
    match nearest {
        Some((distance, known)) if distance <= 3 => {
            format!("{shown}: no such variable is read; is {known} meant?")
        }
        _ => format!("{shown}: no such variable is read"),
    }
}

/// Every variable that is read.
fn known() -> Vec<String> {
    let signals = || [None].into_iter().chain(Signal::ALL.map(Some));
    let of = |signal| {
        SETTINGS
            .iter()
            .map(move |setting| variable(signal, setting.variable))
    };
    let own = [TEMPORALITY, HISTOGRAM].map(|suffix| variable(Some(Signal::Metrics), suffix));
    signals().flat_map(of).chain(own).collect()
}

/// The edit distance of Levenshtein; far for names that are longer than any known.
fn distance(known: &str, given: &str) -> usize {
    if given.len() > 64 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=given.len()).collect();
    for (i, a) in known.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in given.bytes().enumerate() {
            let substituted = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[given.len()]
}
