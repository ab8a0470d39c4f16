//! What became of a configuration, for people to read.

use super::options::signal_name;
use super::{HistogramAggregation, TemporalityPreference};
use crate::encode::Signal;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// What was understood of a [`Config`](crate::Config) and from where, what was refused and why, and what works but is
/// probably not meant.
///
/// Its `Display` is for operators: several lines, without secrets. Values of headers, credentials of proxies, user
/// information and queries of URLs are never in it.
///
/// ```
/// use otlp_embed::Config;
///
/// let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "ten")];
/// let report = Config::from_vars(variables)?.report();
/// assert!(report.refused().any(|text| text.contains("OTEL_EXPORTER_OTLP_TIMEOUT")));
/// println!("{report}");
/// # Ok::<(), otlp_embed::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct ConfigReport {
    entries: Vec<ConfigEntry>,
    refused: Vec<String>,
    warnings: Vec<String>,
    temporality: TemporalityPreference,
    histogram: HistogramAggregation,
}

/// One setting as it was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    signal: Option<Signal>,
    setting: &'static str,
    value: String,
    origin: String,
}

impl ConfigEntry {
    /// The signal that it holds for; none where it holds for the whole exporter.
    pub fn signal(&self) -> Option<Signal> {
        self.signal
    }

    /// Its name, such as `endpoint`.
    pub fn setting(&self) -> &'static str {
        self.setting
    }

    /// Its value, without secrets.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// The setter or the environment variable that it comes from, or `default`.
    pub fn origin(&self) -> &str {
        &self.origin
    }
}

impl ConfigReport {
    /// Every setting with its value: those of each signal, then those of the whole exporter.
    pub fn entries(&self) -> impl Iterator<Item = &ConfigEntry> {
        self.entries.iter()
    }

    /// The setting of this name for a signal, or for the whole exporter.
    pub fn entry(&self, signal: Option<Signal>, setting: &str) -> Option<&ConfigEntry> {
        self.entries
            .iter()
            .find(|entry| entry.signal == signal && entry.setting == setting)
    }

    /// What was refused, each with its reason and what would work. What a variable says is passed over then, but for what
    /// [`from_env`](crate::Config::from_env) names as an error; what code says fails the building of the exporter with the same
    /// words.
    pub fn refused(&self) -> impl Iterator<Item = &str> {
        self.refused.iter().map(String::as_str)
    }

    /// What works, and is probably not meant.
    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        self.warnings.iter().map(String::as_str)
    }

    /// Which temporality the SDK is to collect metrics with.
    pub fn temporality_preference(&self) -> TemporalityPreference {
        self.temporality
    }

    /// How the SDK is to aggregate histograms.
    pub fn default_histogram_aggregation(&self) -> HistogramAggregation {
        self.histogram
    }

    pub(super) fn understand(
        &mut self,
        signal: Option<Signal>,
        setting: &'static str,
        value: impl Into<String>,
        origin: impl Into<String>,
    ) {
        self.entries.push(ConfigEntry {
            signal,
            setting,
            value: value.into(),
            origin: origin.into(),
        });
    }

    /// Notes what is refused, once.
    pub(super) fn refuse(&mut self, text: impl Into<String>) {
        add(&mut self.refused, text.into());
    }

    /// Notes what is odd, once.
    pub(super) fn warn(&mut self, text: impl Into<String>) {
        add(&mut self.warnings, text.into());
    }

    pub(super) fn prefer(&mut self, temporality: TemporalityPreference, histogram: HistogramAggregation) {
        self.temporality = temporality;
        self.histogram = histogram;
    }
}

impl fmt::Display for ConfigReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OTLP exporter")?;
        for signal in Signal::ALL.map(Some).into_iter().chain([None]) {
            let entries = self.entries.iter().filter(|entry| entry.signal == signal);
            let mut entries = entries.peekable();
            if entries.peek().is_some() {
                write!(f, "\n  {}", signal.map_or("all signals", signal_name))?;
            }
            for entry in entries {
                write!(
                    f,
                    "\n    {:<23} {}  ({})",
                    entry.setting, entry.value, entry.origin
                )?;
            }
        }
        for (title, texts) in [("refused", &self.refused), ("warnings", &self.warnings)] {
            if !texts.is_empty() {
                write!(f, "\n  {title}")?;
            }
            for text in texts {
                write!(f, "\n    {text}")?;
            }
        }
        Ok(())
    }
}

fn add(texts: &mut Vec<String>, text: String) {
    if !texts.contains(&text) {
        texts.push(text);
    }
}
