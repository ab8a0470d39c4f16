//! A collector that dies and returns.

use crate::{Result, say};
use otlp_embed::testing::Collector;
use otlp_embed::testing::collector::{Builder, Inbox};
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::time::Instant;

/// How long it tries to return: its port may have been given to another program meanwhile.
const PORT_TIME: Duration = Duration::from_secs(3);
const PORT_PAUSE: Duration = Duration::from_millis(50);

/// A collector with a time to be away. Whatever it receives in any of its lives is in one inbox.
pub struct Mortal {
    builder: Builder,
    addr: SocketAddr,
    endpoint: String,
    life: Life,
}

enum Life {
    /// Nothing is to happen to it, or not yet.
    Still(Option<Collector>),
    /// A thread sees to its death and its return, until the sender is gone.
    Fated(Sender<()>, JoinHandle<io::Result<Option<Collector>>>),
}

impl Mortal {
    /// Starts it, on a free port.
    pub fn start() -> Result<Self> {
        let builder = Collector::builder();
        let collector = builder.clone().start()?;
        Ok(Self {
            builder,
            addr: collector.addr(),
            endpoint: collector.endpoint(),
            life: Life::Still(Some(collector)),
        })
    }

    /// Its URL.
    pub fn endpoint(&self) -> String {
        self.endpoint.clone()
    }

    /// From now on it is away in this range of time. Where that begins at once, it is gone when this returns.
    pub fn begin(&mut self, outage: Range<Duration>) -> Result<()> {
        let begun = Instant::now();
        let Life::Still(collector) = &mut self.life else {
            return Ok(());
        };
        let mut collector = collector.take();
        if outage.start.is_zero() {
            collector = None;
        }
        let (keep, ended) = channel::<()>();
        let (builder, addr) = (self.builder.clone(), self.addr);
        // Whether that time came before the end.
        let comes = move |time: Duration| {
            let left = (begun + time).saturating_duration_since(Instant::now());
            ended.recv_timeout(left) == Err(RecvTimeoutError::Timeout)
        };
        let fate = move || {
            if !comes(outage.start) {
                return Ok(collector);
            }
            drop(collector);
            say(format_args!(
                "{:>5.1} s  the collector is gone",
                outage.start.as_secs_f64()
            ));
            if !comes(outage.end) {
                return Ok(None);
            }
            let returned = listen(&builder, addr)?;
            say(format_args!(
                "{:>5.1} s  the collector is back",
                outage.end.as_secs_f64()
            ));
            Ok(Some(returned))
        };
        let thread = thread::Builder::new().name("outage".into()).spawn(fate)?;
        self.life = Life::Fated(keep, thread);
        Ok(())
    }

    /// Ends it. What it received stays, also where it could not return.
    pub fn end(self) -> (Inbox, Result<()>) {
        let returned = match self.life {
            Life::Still(collector) => {
                drop(collector);
                Ok(())
            }
            Life::Fated(keep, thread) => {
                drop(keep);
                match thread.join() {
                    Ok(Ok(collector)) => {
                        drop(collector);
                        Ok(())
                    }
                    Ok(Err(error)) => {
                        Err(format!("the collector cannot return to {}: {error}", self.addr).into())
                    }
                    Err(_) => Err("the thread of the outage panicked".into()),
                }
            }
        };
        (self.builder.inbox().clone(), returned)
    }
}

/// The next one listens where the last one did, as soon as its port is free.
fn listen(builder: &Builder, addr: SocketAddr) -> io::Result<Collector> {
    let begun = Instant::now();
    loop {
        match builder.clone().bind(addr).start() {
            Err(_) if begun.elapsed() < PORT_TIME => thread::sleep(PORT_PAUSE),
            ended => return ended,
        }
    }
}
