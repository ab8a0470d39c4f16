//! A day at the collector, on a loopback socket, in a minute:
//!
//! ```text
//! cargo run --release -p otlp-embed-benches --bin day
//! ```
//!
//! The collector starts slowly, asks for pauses, is away for half a minute, loses half of its connections again and again, and
//! recovers. Threads and a task write to a pipeline all the while, with the default timeout, and wait where there is no room.
//! Prints what the exporter's observer says, as an operator would read it, and the account at each event. Ends with an error
//! where an item was lost, counted twice or not accounted for, where more memory was held than is allowed, or where the
//! pipeline did not recover by itself.
//!
//! `--seconds` makes the day shorter or longer, `--protocol grpc|http`, `--rate` (spans a second of each producer) and
//! `--queue-mib` change it.

use otlp_embed_benches::day::host;
use otlp_embed_benches::day::settings::Settings;
use std::process::ExitCode;

fn main() -> ExitCode {
    let settings = Settings::parse(std::env::args().skip(1));
    match settings.map_err(Into::into).and_then(host::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("day: {error}");
            ExitCode::FAILURE
        }
    }
}
