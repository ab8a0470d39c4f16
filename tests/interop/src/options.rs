//! The command line.

use std::path::PathBuf;

/// What the command line may hold.
pub const USAGE: &str =
    "usage: interop --adapter tokio|smol|futures-io|blocking|custom --endpoint URL --manifest FILE
               [--callers N] [--batches N] [--spans N] [--big-bytes N]";

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

/// What to send, through what, where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where sockets and time come from.
    pub adapter: Adapter,
    /// The collector's URL.
    pub endpoint: String,
    /// The file that tells what was sent.
    pub manifest: PathBuf,
    /// Callers that share one exporter.
    pub callers: usize,
    /// Batches of all callers together.
    pub batches: usize,
    /// Spans of a batch.
    pub spans: usize,
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
        let (mut adapter, mut endpoint, mut manifest) = (None, None, None);
        let (mut callers, mut batches, mut spans, mut big_bytes) = (4, 20, 500, 0);
        while let Some(name) = arguments.next() {
            let value = arguments
                .next()
                .ok_or_else(|| format!("{name} lacks its value"))?;
            match &*name {
                "--adapter" => adapter = Some(adapter_named(&value)?),
                "--endpoint" => endpoint = Some(value),
                "--manifest" => manifest = Some(PathBuf::from(value)),
                "--callers" => callers = number(&name, &value)?,
                "--batches" => batches = number(&name, &value)?,
                "--spans" => spans = number(&name, &value)?,
                "--big-bytes" => big_bytes = number(&name, &value)?,
                _ => return Err(format!("unknown option {name}")),
            }
        }
        if callers == 0 || spans == 0 {
            return Err("--callers and --spans must be more than 0".into());
        }
        Ok(Self {
            adapter: adapter.ok_or("--adapter is missing")?,
            endpoint: endpoint.ok_or("--endpoint is missing")?,
            manifest: manifest.ok_or("--manifest is missing")?,
            callers,
            batches,
            spans,
            big_bytes,
        })
    }
}

fn adapter_named(name: &str) -> Result<Adapter, String> {
    Ok(match name {
        "tokio" => Adapter::Tokio,
        "smol" => Adapter::Smol,
        "futures-io" => Adapter::FuturesIo,
        "blocking" => Adapter::Blocking,
        "custom" => Adapter::Custom,
        _ => return Err(format!("unknown adapter {name}")),
    })
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
        let options =
            parse("--adapter smol --endpoint http://[::1]:1 --manifest m --spans 7").expect("complete");
        assert_eq!(
            (options.adapter, options.spans, options.callers),
            (Adapter::Smol, 7, 4)
        );
    }

    #[test]
    fn wrong_options_are_named() {
        let complete = "--adapter smol --endpoint e --manifest m";
        for (line, telling) in [
            ("--endpoint e --manifest m", "--adapter is missing"),
            ("--adapter none", "unknown adapter none"),
            ("--adapter", "--adapter lacks its value"),
            (&*format!("{complete} --spans x"), "--spans takes a number"),
            (&*format!("{complete} --callers 0"), "must be more than 0"),
            (&*format!("{complete} --colour red"), "unknown option --colour"),
        ] {
            let error = parse(line).expect_err(line);
            assert!(error.contains(telling), "{error}");
        }
    }
}
