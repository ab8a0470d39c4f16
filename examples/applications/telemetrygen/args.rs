//! The arguments.

use super::Result;
use clap::builder::PossibleValuesParser;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use otlp_embed::{Compression, Config, Protocol, Signal, Tls};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// What is to be generated, and where it is sent.
#[derive(Clone, Debug)]
pub struct Plan {
    pub signal: Signal,
    pub until: Until,
    /// Items a second of each worker; none is as fast as it goes.
    pub rate: Option<f64>,
    pub workers: usize,
    pub batch_size: usize,
    /// Bytes of text that each item has beside the rest.
    pub size: usize,
    pub child_spans: usize,
    pub service: String,
    pub runtime: Runtime,
    pub report: Format,
    pub protocol: Option<Protocol>,
    endpoint: Option<String>,
    is_insecure: bool,
    headers: Vec<(String, String)>,
    ca_cert: Option<PathBuf>,
    client: Option<(PathBuf, PathBuf)>,
    compression: Option<Compression>,
    timeout: Option<Duration>,
}

/// When a worker has done its part.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// After so many traces, data points or records.
    Count(u64),
    /// After so long.
    Elapsed(Duration),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    Tokio,
    Smol,
    AsyncStd,
    Blocking,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
}

impl Runtime {
    pub fn name(self) -> &'static str {
        match self {
            Self::Tokio => "tokio",
            Self::Smol => "smol",
            Self::AsyncStd => "async-std",
            Self::Blocking => "blocking",
        }
    }
}

impl Plan {
    /// Reads the arguments of the process.
    pub fn from_args() -> Result<Self, clap::Error> {
        let mut command = command();
        let matches = command.try_get_matches_from_mut(std::env::args_os())?;
        // Clap has seen to it that there is one.
        let (name, matches) = matches.subcommand().unwrap_or(("traces", &matches));
        let plan = Self::read(name, matches);
        let is_http = matches.get_one("otlp-http") == Some(&true);
        let contradiction = if is_http && matches.contains_id("protocol") {
            "--otlp-http and --protocol contradict each other: give one of them"
        } else if plan.is_insecure && (plan.ca_cert.is_some() || plan.client.is_some()) {
            "--otlp-insecure and certificates contradict each other: plain text has none"
        } else {
            return Ok(plan);
        };
        Err(command.error(ErrorKind::ArgumentConflict, contradiction))
    }

    fn read(name: &str, matches: &ArgMatches) -> Self {
        let signal = match name {
            "metrics" => Signal::Metrics,
            "logs" => Signal::Logs,
            _ => Signal::Traces,
        };
        let text = |name: &str| matches.get_one::<String>(name).cloned();
        let number = |name: &str| matches.get_one::<u64>(name).copied().unwrap_or_default();
        let path = |name: &str| matches.get_one::<PathBuf>(name).cloned();
        let flag = |name: &str| matches.get_one::<bool>(name).copied().unwrap_or_default();
        let duration = |name: &str| matches.get_one::<Duration>(name).copied();
        let is_http = flag("otlp-http");
        let protocol = match text("protocol").as_deref() {
            Some("grpc") => Some(Protocol::Grpc),
            Some("http/protobuf") => Some(Protocol::HttpProtobuf),
            Some(_) => Some(Protocol::HttpJson),
            None if is_http => Some(Protocol::HttpProtobuf),
            None => None,
        };
        Self {
            signal,
            until: match duration("duration") {
                Some(elapsed) => Until::Elapsed(elapsed),
                None => Until::Count(number(name)),
            },
            rate: matches.get_one::<f64>("rate").copied().filter(|rate| *rate > 0.0),
            workers: number("workers") as usize,
            batch_size: number("batch-size") as usize,
            size: number("size") as usize,
            child_spans: match signal {
                Signal::Traces => number("child-spans") as usize,
                _ => 0,
            },
            service: text("service").unwrap_or_default(),
            runtime: match text("runtime").as_deref() {
                Some("smol") => Runtime::Smol,
                Some("async-std") => Runtime::AsyncStd,
                Some("blocking") => Runtime::Blocking,
                _ => Runtime::Tokio,
            },
            report: match text("report").as_deref() {
                Some("json") => Format::Json,
                _ => Format::Text,
            },
            protocol,
            endpoint: text("otlp-endpoint"),
            is_insecure: flag("otlp-insecure"),
            headers: matches
                .get_many::<(String, String)>("otlp-header")
                .map(|headers| headers.cloned().collect())
                .unwrap_or_default(),
            ca_cert: path("ca-cert"),
            client: path("client-cert")
                .zip(path("client-key"))
                .filter(|_| flag("mtls")),
            compression: match text("compression").as_deref() {
                Some("gzip") => Some(Compression::Gzip),
                Some("zstd") => Some(Compression::Zstd),
                Some(_) => Some(Compression::None),
                None => None,
            },
            timeout: duration("timeout"),
        }
    }

    pub fn signal_name(&self) -> &'static str {
        match self.signal {
            Signal::Metrics => "metrics",
            Signal::Logs => "logs",
            _ => "traces",
        }
    }

    /// The exporter's settings: the environment's, and over them those of the arguments.
    pub fn config(&self) -> Result<Config> {
        let mut config = Config::from_env()?.with_user_agent("telemetrygen");
        // What the environment says for this signal or for all; what is empty says nothing.
        let says = |what: &str| {
            let signal = self.signal_name().to_uppercase();
            [
                format!("OTEL_EXPORTER_OTLP_{what}"),
                format!("OTEL_EXPORTER_OTLP_{signal}_{what}"),
            ]
            .iter()
            .any(|name| std::env::var(name).is_ok_and(|value| !value.trim().is_empty()))
        };
        let is_placed = self.endpoint.is_none() && says("ENDPOINT");
        // As the tool is known: gRPC, unless something says otherwise.
        let protocol = match self.protocol {
            None if is_placed || says("PROTOCOL") => None,
            None => Some(Protocol::Grpc),
            named => named,
        };
        if let Some(protocol) = protocol {
            config = config.with_protocol(protocol);
        }
        let scheme = if self.is_insecure { "http" } else { "https" };
        if let Some(host) = &self.endpoint {
            let is_trusting = self.ca_cert.is_some() || says("CERTIFICATE");
            let has_scheme = host.contains("://") || host.starts_with("unix:");
            if !has_scheme && !self.is_insecure && !is_trusting {
                return Err(format!(
                    "endpoint {host} names no scheme and is reached by TLS: --ca-cert FILE tells whom to trust; \
                     --otlp-insecure, or http://{host}, sends in plain text"
                )
                .into());
            }
        }
        match (&self.endpoint, protocol) {
            (Some(url), _) if url.contains("://") || url.starts_with("unix:") => {
                config = config.with_endpoint(url)
            }
            (Some(host), _) => config = config.with_endpoint(format!("{scheme}://{host}")),
            (None, Some(Protocol::Grpc)) if !is_placed => {
                config = config.with_endpoint("http://localhost:4317")
            }
            (None, Some(_)) if !is_placed => config = config.with_endpoint("http://localhost:4318"),
            // The environment's, or the one that its protocol has.
            (None, _) => {}
        }
        if self.is_insecure {
            config = config.with_insecure(true);
        }
        config = config.with_headers(self.headers.clone());
        if let Some(compression) = self.compression {
            config = config.with_compression(compression);
        }
        if let Some(timeout) = self.timeout {
            config = config.with_timeout(timeout);
        }
        if self.ca_cert.is_some() || self.client.is_some() {
            let mut tls = Tls::new();
            if let Some(path) = &self.ca_cert {
                tls = tls.with_ca_file(path);
            }
            if let Some((certificate, key)) = &self.client {
                tls = tls.with_client_certificate_files(certificate, key);
            }
            config = config.with_tls(tls);
        }
        Ok(config)
    }
}

fn command() -> Command {
    Command::new("telemetrygen")
        .about("Generates traces, metrics or logs, sends them over OTLP, and accounts for every item")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(signal(
            "traces",
            "Generates traces, of a root span and its children",
            "traces",
        ))
        .subcommand(signal("metrics", "Generates data points of a sum", "data points"))
        .subcommand(signal("logs", "Generates log records", "log records"))
}

fn signal(name: &'static str, about: &'static str, items: &'static str) -> Command {
    let option = |name: &'static str, value: &'static str, help: String| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    let number = |name: &'static str, default: &'static str, range: RangeInclusive<u64>, help: String| {
        option(name, "N", help)
            .value_parser(value_parser!(u64).range(range))
            .default_value(default)
    };
    // As a word alone, or with `=true`.
    let flag = |name: &'static str| {
        Arg::new(name)
            .long(name)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_name("BOOL")
            .hide_possible_values(true)
            .value_parser(value_parser!(bool))
    };
    let choice = |name: &'static str, values: &'static [&'static str], help: &str| {
        option(name, "NAME", help.into()).value_parser(PossibleValuesParser::new(values))
    };
    let mut command = Command::new(name)
        .about(about)
        .arg(option(
            "otlp-endpoint",
            "HOST:PORT|URL",
            "Where the collector is. Without a scheme it is reached by TLS, unless --otlp-insecure; unless set, where OTEL_EXPORTER_OTLP_ENDPOINT says, or this machine"
                .into(),
        ))
        .arg(
            flag("otlp-http").help("Sends over HTTP with protobuf instead of gRPC; to the URL /v1/traces or the like is added"),
        )
        .arg(flag("otlp-insecure").help("Sends in plain text where the endpoint names no scheme"))
        .arg(
            option(
                "otlp-header",
                "NAME=VALUE",
                "A header of every request; may be repeated".into(),
            )
            .action(ArgAction::Append)
            .value_parser(header),
        )
        .arg(
            option(
                "ca-cert",
                "FILE",
                "Trusts the authorities of this PEM file, and no others; needed for TLS".into(),
            )
            .value_parser(value_parser!(PathBuf)),
        )
        .arg(
            flag("mtls")
                .requires_ifs([("true", "client-cert"), ("true", "client-key")])
                .help("Shows the collector a certificate"),
        )
        .arg(
            option("client-cert", "FILE", "The certificate, a PEM file".into())
                .value_parser(value_parser!(PathBuf))
                .requires("mtls"),
        )
        .arg(
            option("client-key", "FILE", "Its key, a PEM file".into())
                .value_parser(value_parser!(PathBuf))
                .requires("mtls"),
        )
        .arg(number(
            name,
            "1",
            1..=1_000_000_000,
            format!("How many {items} each worker generates"),
        ))
        .arg(
            option(
                "duration",
                "TIME",
                format!("For how long each worker generates, as 10s or 500ms; --{name} is ignored"),
            )
            .value_parser(time),
        )
        .arg(
            option(
                "rate",
                "PER_SECOND",
                "Spans, points or records that each worker generates a second, sent in batches of up to a second's worth; 0 is as fast as it goes"
                    .into(),
            )
            .value_parser(rate)
            .allow_negative_numbers(true)
            .default_value("0"),
        )
        .arg(number(
            "workers",
            "1",
            1..=10_000,
            "Workers, each with one export under way".into(),
        ))
        .arg(number(
            "batch-size",
            "100",
            1..=100_000,
            "Items in one export at most; a trace is never divided".into(),
        ))
        .arg(number(
            "size",
            "0",
            0..=64 << 20,
            "Bytes of text that each item carries beside the rest (the tool of this name counts in MB); with --batch-size as many, less than 64 MiB in one export"
                .into(),
        ))
        .arg(
            option("service", "NAME", "The service.name of the resource".into())
                .default_value("telemetrygen"),
        )
        .arg(choice(
            "protocol",
            &["grpc", "http/protobuf", "http/json"],
            "How to speak to the collector: grpc, unless OTEL_EXPORTER_OTLP_PROTOCOL says otherwise, or http/protobuf where a variable names the endpoint",
        ))
        .arg(choice(
            "compression",
            &["none", "gzip", "zstd"],
            "How requests are compressed",
        ))
        .arg(
            option(
                "timeout",
                "TIME",
                "The time of each export, retries included; 10s unless OTEL_EXPORTER_OTLP_TIMEOUT says otherwise. Where the first exports all fail in it the program gives up"
                    .into(),
            )
            .value_parser(time),
        )
        .arg(
            choice(
                "runtime",
                &["tokio", "smol", "async-std", "blocking"],
                "What the workers run on",
            )
            .default_value("tokio"),
        )
        .arg(choice("report", &["text", "json"], "How the account is printed").default_value("text"));
    if name == "traces" {
        command = command.arg(number(
            "child-spans",
            "1",
            0..=10_000,
            "Children of each root span".into(),
        ));
    }
    command
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.trim_matches('"').to_owned())),
        _ => Err("a header is NAME=VALUE".into()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| (0.0..=1e9).contains(rate));
    rate.ok_or_else(|| "a rate is a number of items a second, 0 or more".into())
}

/// A time with its unit.
fn time(text: &str) -> Result<Duration, String> {
    let at = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let seconds = match unit {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err("a time is a number with a unit: 500ms, 10s, 5m, 1h".into()),
    };
    let time = number
        .parse::<f64>()
        .ok()
        .and_then(|number| Duration::try_from_secs_f64(number * seconds).ok());
    let time = time.filter(|time| !time.is_zero() && *time <= Duration::from_secs(366 * 86_400));
    time.ok_or_else(|| "a time is more than nothing and less than a year: 500ms, 10s, 5m, 1h".into())
}
