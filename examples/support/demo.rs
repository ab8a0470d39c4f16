//! What the examples of the runtimes share: batches to export, a place to export them to, and the question at the end
//! whether everything arrived.

#[path = "terminal.rs"]
mod terminal;

use otlp_embed::testing::Collector;
use otlp_embed::{Outcome, Request, Resource, Stats, TraceBatch};
use std::error::Error;
use std::fmt::Display;
pub use terminal::{exit_code, say};

/// Batches that each example exports.
pub const BATCHES: u64 = 8;
/// Spans in each of them.
pub const SPANS: u64 = 100;

/// The batch of this number. Each of its spans has an id of its own, from 1 on.
pub fn batch(number: u64) -> Request {
    let mut batch = TraceBatch::new(&Resource::builder().attr("service.name", "example").build());
    batch.scope("otlp-embed-examples", "1.0");
    for span in 1..=SPANS {
        let trace_id = u128::from(number + 1).to_be_bytes();
        let span_id = (number * SPANS + span).to_be_bytes();
        let start = 1_700_000_000_000_000_000 + span * 1_000_000;
        batch
            .span(trace_id, span_id, "work")
            .attr("batch.number", number as i64)
            .times(start..start + 500_000)
            .end();
    }
    batch.finish()
}

/// Prints what became of a batch.
pub fn tell(number: u64, verdict: &Result<Outcome, impl Display>) {
    match verdict {
        Ok(outcome) => say(format_args!("batch {number}: {outcome}")),
        Err(error) => say(format_args!("batch {number}: {error}")),
    }
}

/// Where an example exports to: a collector in this process, or one that its user has named.
pub struct Destination {
    collector: Option<Collector>,
    endpoint: String,
}

impl Destination {
    /// Takes the endpoint's URL from the first argument and, where there is none, starts a collector.
    ///
    /// Whether the URL can work is for the exporter to say.
    pub fn from_args() -> Result<Self, Box<dyn Error>> {
        let mut arguments = std::env::args_os().skip(1).map(|argument| argument.into_string());
        match (arguments.next(), arguments.next()) {
            (None, _) => {
                let collector = Collector::start()?;
                let endpoint = collector.endpoint();
                say(format_args!(
                    "Exporting to a collector in this process, {endpoint}"
                ));
                Ok(Self {
                    collector: Some(collector),
                    endpoint,
                })
            }
            (Some(Ok(endpoint)), None) if !endpoint.starts_with('-') => Ok(Self {
                collector: None,
                endpoint,
            }),
            _ => Err("takes one argument at most, the URL of a collector".into()),
        }
    }

    /// The URL of the collector.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Fails unless every span of every batch was delivered, by the exporter's account and, where it can be asked, by
    /// the collector's own.
    pub fn check(&self, account: &Stats) -> Result<(), Box<dyn Error>> {
        let sent = BATCHES * SPANS;
        if account.accepted != sent || account.delivered != sent {
            return Err(format!("{} of {sent} spans were delivered", account.delivered).into());
        }
        let Some(collector) = &self.collector else {
            return Ok(());
        };
        let mut received: Vec<_> = collector.spans().into_iter().map(|span| span.span_id).collect();
        received.sort();
        if !received
            .iter()
            .eq((1..=sent).map(u64::to_be_bytes).collect::<Vec<_>>().iter())
        {
            let count = received.len();
            return Err(format!("the {count} spans received are not the {sent} that were sent").into());
        }
        say(format_args!(
            "The collector received each of the {sent} spans once"
        ));
        Ok(())
    }
}
