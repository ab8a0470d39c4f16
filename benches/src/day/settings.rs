//! What is asked for on the command line.

use otlp_embed::Protocol;
use std::time::Duration;

/// What a day is like.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long the day is; its events are the sixtieth parts of it that they would be seconds of a minute.
    pub seconds: u64,
    /// What is spoken with the collector.
    pub protocol: Protocol,
    /// Spans that each producer writes in a second, where it need not wait.
    pub rate: u64,
    /// Bytes that may be open, queued or in flight, in MiB.
    pub queue_mib: u64,
}

impl Settings {
    /// Reads `--name value`.
    ///
    /// # Errors
    ///
    /// What is wrong with the arguments.
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut settings = Self {
            seconds: 60,
            protocol: Protocol::HttpProtobuf,
            rate: 2_000,
            queue_mib: 8,
        };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            let number = || {
                let number = value.parse::<u64>().ok();
                let number = number.filter(|number| (1..=1_000_000).contains(number));
                number.ok_or_else(|| format!("{name} {value}: a number from 1 to 1000000 is needed"))
            };
            match name.as_str() {
                "--seconds" => settings.seconds = number()?,
                "--rate" => settings.rate = number()?,
                "--queue-mib" => settings.queue_mib = number()?,
                "--protocol" => {
                    settings.protocol = match value.as_str() {
                        "grpc" => Protocol::Grpc,
                        "http" => Protocol::HttpProtobuf,
                        _ => return Err(format!("--protocol {value}: it is grpc or http")),
                    }
                }
                _ => return Err(format!("{name} is not known")),
            }
        }
        Ok(settings)
    }

    /// As long as `seconds` of a day that takes a minute.
    pub fn of_minute(&self, seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds * self.seconds as f64 / 60.0)
    }

    /// Bytes that may be open, queued or in flight.
    pub fn budget(&self) -> u64 {
        self.queue_mib << 20
    }
}
