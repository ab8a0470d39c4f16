//! What can be set for all signals and for one, and where a setting comes from.

use super::{Compression, Protocol};
use crate::credentials::CredentialSource;
use crate::encode::Signal;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

/// What every variable of the OTLP exporter begins with.
pub(super) const PREFIX: &str = "OTEL_EXPORTER_OTLP_";

/// What metrics alone have, after the prefix and the signal.
pub(super) const TEMPORALITY: &str = "TEMPORALITY_PREFERENCE";
pub(super) const HISTOGRAM: &str = "DEFAULT_HISTOGRAM_AGGREGATION";

/// A setting by its three names.
#[derive(Debug)]
pub(super) struct Setting {
    /// In a report.
    pub name: &'static str,
    /// In code.
    pub method: &'static str,
    /// In the environment, after the prefix and the signal.
    pub variable: &'static str,
}

macro_rules! settings {
    ($($constant:ident = $name:literal, $method:literal, $variable:literal;)*) => {
        $(pub(super) const $constant: Setting = Setting { name: $name, method: $method, variable: $variable };)*
        /// Every setting that has a variable.
        pub(super) const SETTINGS: &[&Setting] = &[$(&$constant),*];
    };
}

settings! {
    ENDPOINT = "endpoint", "with_endpoint", "ENDPOINT";
    PROTOCOL = "protocol", "with_protocol", "PROTOCOL";
    COMPRESSION = "compression", "with_compression", "COMPRESSION";
    TIMEOUT = "timeout", "with_timeout", "TIMEOUT";
    HEADERS = "headers", "with_header", "HEADERS";
    INSECURE = "insecure", "with_insecure", "INSECURE";
    CERTIFICATE = "certificate", "with_tls", "CERTIFICATE";
    CLIENT_KEY = "client key", "with_tls", "CLIENT_KEY";
    CLIENT_CERTIFICATE = "client certificate", "with_tls", "CLIENT_CERTIFICATE";
}

/// What code sets in place of the files of TLS.
#[cfg(feature = "tls")]
pub(super) const TLS: Setting = Setting {
    name: "TLS",
    method: "with_tls",
    variable: "",
};

/// The settings that are files, for TLS.
pub(super) const FILES: [&Setting; 3] = [&CERTIFICATE, &CLIENT_KEY, &CLIENT_CERTIFICATE];

/// Where a setting comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A setter, within `for_signal` where a signal is named.
    Code(Option<Signal>),
    /// An environment variable, of one signal where it is named.
    Variable(Option<Signal>),
    /// The default.
    Default,
}

impl Origin {
    /// The setter or the variable.
    pub fn name(self, setting: &Setting) -> String {
        match self {
            Self::Code(None) => setting.method.into(),
            Self::Code(Some(signal)) => format!("for_signal({signal:?}).{}", setting.method),
            Self::Variable(signal) => variable(signal, setting.variable),
            Self::Default => "default".into(),
        }
    }

    /// Whether it holds for one signal alone.
    pub const fn is_own(self) -> bool {
        matches!(self, Self::Code(Some(_)) | Self::Variable(Some(_)))
    }

    pub const fn is_variable(self) -> bool {
        matches!(self, Self::Variable(_))
    }
}

/// The name of a variable.
pub(super) fn variable(signal: Option<Signal>, suffix: &str) -> String {
    format!("{PREFIX}{}{suffix}", signal.map_or("", infix))
}

/// What stands for a signal in the name of a variable.
pub(super) const fn infix(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "TRACES_",
        Signal::Metrics => "METRICS_",
        Signal::Logs => "LOGS_",
        Signal::Profiles => "PROFILES_",
    }
}

/// A signal as a report names it.
pub(super) const fn signal_name(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "traces",
        Signal::Metrics => "metrics",
        Signal::Logs => "logs",
        Signal::Profiles => "profiles",
    }
}

/// What can be set for all signals and for one; what is not set is taken from the next level.
#[derive(Clone, Default)]
pub(super) struct Options {
    pub endpoint: Option<String>,
    pub protocol: Option<Protocol>,
    pub compression: Option<Compression>,
    pub timeout: Option<Duration>,
    /// Names and values; in code as they were given, from the environment checked.
    pub headers: Vec<(String, String)>,
    pub insecure: Option<bool>,
    /// Paths of PEM files, from the environment alone.
    pub certificate: Option<String>,
    pub client_key: Option<String>,
    pub client_certificate: Option<String>,
    /// In code alone.
    #[cfg(feature = "tls")]
    pub tls: Option<super::Tls>,
    /// In code alone.
    pub credentials: Option<CredentialSource>,
    /// Addresses that stand in for the resolver, in code alone.
    pub addresses: Vec<SocketAddr>,
}

impl Options {
    /// The path of a file.
    pub fn file(&self, setting: &Setting) -> Option<&str> {
        match setting.variable {
            "CERTIFICATE" => self.certificate.as_deref(),
            "CLIENT_KEY" => self.client_key.as_deref(),
            _ => self.client_certificate.as_deref(),
        }
    }

    pub fn is_any_set(&self) -> bool {
        let files = FILES.iter().any(|setting| self.file(setting).is_some());
        #[cfg(feature = "tls")]
        let files = files || self.tls.is_some();
        files
            || self.endpoint.is_some()
            || self.protocol.is_some()
            || self.compression.is_some()
            || self.credentials.is_some()
            || self.timeout.is_some()
            || self.insecure.is_some()
            || !self.headers.is_empty()
            || !self.addresses.is_empty()
    }

    /// Takes over what `over` sets; its headers are added.
    pub fn overlay(&mut self, over: Self) {
        fn set<T>(to: &mut Option<T>, from: Option<T>) {
            if from.is_some() {
                *to = from;
            }
        }
        set(&mut self.endpoint, over.endpoint);
        set(&mut self.protocol, over.protocol);
        set(&mut self.compression, over.compression);
        set(&mut self.credentials, over.credentials);
        set(&mut self.timeout, over.timeout);
        set(&mut self.insecure, over.insecure);
        set(&mut self.certificate, over.certificate);
        set(&mut self.client_key, over.client_key);
        set(&mut self.client_certificate, over.client_certificate);
        #[cfg(feature = "tls")]
        set(&mut self.tls, over.tls);
        self.headers.extend(over.headers);
        if !over.addresses.is_empty() {
            self.addresses = over.addresses;
        }
    }
}

/// Options for all signals and for each.
#[derive(Clone, Default)]
pub(super) struct Levels {
    pub all: Options,
    /// By [`Signal::ALL`].
    pub signals: [Options; Signal::ALL.len()],
}

impl Levels {
    /// The options of one signal, or of all.
    pub fn of(&self, signal: Option<Signal>) -> &Options {
        match signal {
            Some(signal) => &self.signals[signal.index()],
            None => &self.all,
        }
    }

    pub fn of_mut(&mut self, signal: Option<Signal>) -> &mut Options {
        match signal {
            Some(signal) => &mut self.signals[signal.index()],
            None => &mut self.all,
        }
    }
}
