//! The command line.

use otlp_embed::{Compression, Protocol, Signal};
use std::path::PathBuf;

const ADAPTERS: [(&str, Adapter); 5] = [
    ("tokio", Adapter::Tokio),
    ("smol", Adapter::Smol),
    ("futures-io", Adapter::FuturesIo),
    ("blocking", Adapter::Blocking),
    ("custom", Adapter::Custom),
];
const PROTOCOLS: [(&str, Protocol); 3] = [
    ("grpc", Protocol::Grpc),
    ("http/protobuf", Protocol::HttpProtobuf),
    ("http/json", Protocol::HttpJson),
];
const COMPRESSIONS: [(&str, Compression); 3] = [
    ("none", Compression::None),
    ("gzip", Compression::Gzip),
    ("zstd", Compression::Zstd),
];
const SIGNALS: [(&str, Signal); 3] = [
    ("traces", Signal::Traces),
    ("metrics", Signal::Metrics),
    ("logs", Signal::Logs),
];

const DELIVERIES: [(&str, Deliver); 4] = [
    ("one", Deliver::One),
    ("failover", Deliver::Failover),
    ("round-robin", Deliver::RoundRobin),
    ("fan-out", Deliver::FanOut),
];

const SDKS: [(&str, Sdk); 2] = [
    ("batch-processor", Sdk::BatchProcessor),
    ("span-processor", Sdk::SpanProcessor),
];
const PLACES: [(&str, Place); 3] = [
    ("none", Place::None),
    ("current-thread", Place::CurrentThread),
    ("one-worker", Place::OneWorker),
];

/// What the command line may hold.
pub const USAGE: &str =
    "usage: interop --adapter tokio|smol|futures-io|blocking|custom --endpoint URL --manifest FILE
               [--protocol grpc|http/protobuf|http/json] [--compression none|gzip|zstd]
               [--ca FILE] [--cert FILE --key FILE] [--signal traces|metrics|logs]
               [--deliver one|failover|round-robin|fan-out [--endpoint URL]...]
               [--sdk batch-processor|span-processor [--place none|current-thread|one-worker]]
               [--callers N] [--batches N] [--items N] [--batch-bytes N] [--big-bytes N]";

/// Where sockets and time come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adapter {
    /// `rt::Tokio` on its runtime of several threads.
    Tokio,
    /// `rt::Smol` on smol's executor.
    Smol,
    /// `rt::FuturesIo` on async-std.
    FuturesIo,
    /// `rt::Blocking` on plain threads.
    Blocking,
    /// The runtime of `custom.rs`, which has one thread and is not `Send`.
    Custom,
}

/// How a pipeline delivers, until standard input ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deliver {
    /// To one collector.
    One,
    /// To the first that is up.
    Failover,
    /// To each in turn.
    RoundRobin,
    /// To all.
    FanOut,
}

/// What stands between the SDK's provider and the exporter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sdk {
    /// The SDK's batch processor with `sdk::SpanExporter`.
    BatchProcessor,
    /// `sdk::SpanProcessor` with a pipeline.
    SpanProcessor,
}

/// The thread that ends the spans and shuts down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// One without an async runtime.
    None,
    /// That of tokio's `current_thread`.
    CurrentThread,
    /// The only worker of a tokio runtime.
    OneWorker,
}

/// What to send, through what, where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where sockets and time come from.
    pub adapter: Adapter,
    /// The collector's URL, or those of several, to which only a pipeline delivers.
    pub endpoints: Vec<String>,
    /// How a pipeline delivers, where one is to.
    pub deliver: Option<Deliver>,
    /// How the SDK is used, where it is.
    pub sdk: Option<Sdk>,
    /// Where the SDK is used.
    pub place: Place,
    /// The file that tells what was sent.
    pub manifest: PathBuf,
    /// How requests are put on the wire.
    pub protocol: Protocol,
    /// How requests are compressed.
    pub compression: Compression,
    /// The certificate of the authority to trust, over TLS.
    pub ca: Option<PathBuf>,
    /// The certificate to show, and its key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// What is sent.
    pub signal: Signal,
    /// Callers that share one exporter.
    pub callers: usize,
    /// Batches of all callers together.
    pub batches: usize,
    /// Items of a batch.
    pub items: usize,
    /// Bytes of text in each batch.
    pub batch_bytes: usize,
    /// Bytes of text in a last batch of its own; none for zero.
    pub big_bytes: usize,
}

impl Options {
    /// Reads the arguments after the program's name.
    ///
    /// # Errors
    ///
    /// In words, what is missing or wrong.
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut adapter, mut endpoints, mut deliver, mut manifest) = (None, Vec::new(), None, None);
        let (mut protocol, mut compression) = (Protocol::Grpc, Compression::None);
        let (mut ca, mut cert, mut key, mut signal) = (None, None, None, Signal::Traces);
        let (mut callers, mut batches, mut items, mut batch_bytes, mut big_bytes) = (4, 20, 500, 0, 0);
        let (mut sdk, mut place) = (None, Place::None);
        while let Some(name) = arguments.next() {
            let value = arguments
                .next()
                .ok_or_else(|| format!("{name} lacks its value"))?;
            match &*name {
                "--adapter" => adapter = Some(named(&name, &value, &ADAPTERS)?),
                "--endpoint" => endpoints.push(value),
                "--deliver" => deliver = Some(named(&name, &value, &DELIVERIES)?),
                "--sdk" => sdk = Some(named(&name, &value, &SDKS)?),
                "--place" => place = named(&name, &value, &PLACES)?,
                "--manifest" => manifest = Some(PathBuf::from(value)),
                "--callers" => callers = number(&name, &value)?,
                "--batches" => batches = number(&name, &value)?,
                "--protocol" => protocol = named(&name, &value, &PROTOCOLS)?,
                "--compression" => compression = named(&name, &value, &COMPRESSIONS)?,
                "--ca" => ca = Some(PathBuf::from(value)),
                "--cert" => cert = Some(PathBuf::from(value)),
                "--key" => key = Some(PathBuf::from(value)),
                "--signal" => signal = named(&name, &value, &SIGNALS)?,
                "--items" => items = number(&name, &value)?,
                "--batch-bytes" => batch_bytes = number(&name, &value)?,
                "--big-bytes" => big_bytes = number(&name, &value)?,
                _ => return Err(format!("unknown option {name}")),
            }
        }
        if callers == 0 || items == 0 {
            return Err("--callers and --items must be more than 0".into());
        }
        if endpoints.is_empty() {
            return Err("--endpoint is missing".into());
        }
        if endpoints.len() > 1 && deliver.is_none_or(|how| how == Deliver::One) {
            return Err(
                "several times --endpoint goes with --deliver failover, round-robin or fan-out".into(),
            );
        }
        if sdk.is_some() && adapter != Some(Adapter::Blocking) {
            return Err("--sdk goes with --adapter blocking".into());
        }
        Ok(Self {
            adapter: adapter.ok_or("--adapter is missing")?,
            endpoints,
            deliver,
            sdk,
            place,
            manifest: manifest.ok_or("--manifest is missing")?,
            protocol,
            compression,
            ca,
            client: cert.zip(key),
            signal,
            callers,
            batches,
            items,
            batch_bytes,
            big_bytes,
        })
    }
}

/// The value of a name that is one of a few.
fn named<T: Copy>(option: &str, name: &str, known: &[(&str, T)]) -> Result<T, String> {
    known
        .iter()
        .find_map(|(known, value)| (*known == name).then_some(*value))
        .ok_or_else(|| format!("{option} does not take {name:?}"))
}

fn number(name: &str, value: &str) -> Result<usize, String> {
    value
        .parse()
        .map_err(|_| format!("{name} takes a number, not {value:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_read() {
        let options = parse("--adapter smol --endpoint http://[::1]:1 --manifest m --items 7 --signal logs")
            .expect("complete");
        assert_eq!(
            (options.adapter, options.items, options.callers, options.signal),
            (Adapter::Smol, 7, 4, Signal::Logs)
        );
    }

    #[test]
    fn wrong_options_are_named() {
        let complete = "--adapter smol --endpoint e --manifest m";
        for (line, telling) in [
            ("--endpoint e --manifest m", "--adapter is missing"),
            ("--adapter smol --manifest m", "--endpoint is missing"),
            (&*format!("{complete} --endpoint f"), "several times --endpoint"),
            ("--adapter none", "--adapter does not take"),
            ("--adapter", "--adapter lacks its value"),
            (&*format!("{complete} --items x"), "--items takes a number"),
            (
                &*format!("{complete} --protocol smtp"),
                "--protocol does not take",
            ),
            (&*format!("{complete} --sdk span-processor"), "--sdk goes with"),
            (&*format!("{complete} --place moon"), "--place does not take"),
            (&*format!("{complete} --callers 0"), "must be more than 0"),
            (&*format!("{complete} --colour red"), "unknown option --colour"),
        ] {
            let error = parse(line).expect_err(line);
            assert!(error.contains(telling), "{error}");
        }
    }
}
