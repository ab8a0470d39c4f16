//! Exports without any runtime: the `Engine` is a state machine without I/O, and this program is its event loop.
//!
//! ```sh
//! cargo run --example sans_io [URL]
//! ```
//!
//! The engine is told facts (a socket connected, bytes came, time passed) and answers with actions (connect, write,
//! close) and verdicts. Sockets, clock and randomness belong to the program, here sockets of std and `poll(2)`; an
//! `io_uring` or a simulation fits as well. It speaks OTLP/HTTP, on HTTP/1.1; gRPC is a matter of
//! [`Config::with_protocol`], and the loop stays as it is.

#[path = "support/demo.rs"]
mod demo;
#[path = "support/os.rs"]
mod os;

use demo::{BATCHES, Destination, batch, exit_code, say, tell};
use os::{Clock, Link, Read, wait};
use otlp_embed::Config;
use otlp_embed::export::{Action, ConnId, Engine, ExportId, Fact};
use otlp_embed::time::Instant;
use std::collections::BTreeMap;
use std::error::Error;
use std::net::ToSocketAddrs;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    exit_code(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let destination = Destination::from_args()?;
    let config = Config::new()
        .with_endpoint(destination.endpoint())
        .with_timeout(Duration::from_secs(5));
    // The seed is all the randomness there is: the jitter of the waits before retries.
    let seed = u64::from(std::process::id());
    let mut event_loop = EventLoop {
        engine: Engine::new(config, seed)?,
        links: BTreeMap::new(),
        exports: BTreeMap::new(),
        clock: Clock::start(),
    };
    // A connection of HTTP/1.1 carries one request at a time: the engine opens a few.
    for number in 0..BATCHES {
        let now = event_loop.clock.now();
        let id = event_loop.engine.submit(now, batch(number));
        event_loop.exports.insert(id, number);
    }
    event_loop.run()?;

    let account = event_loop.engine.stats();
    say(format_args!(
        "Account: {} accepted: {}",
        account.accepted,
        account.settled()
    ));
    destination.check(&account)
}

struct EventLoop {
    engine: Engine,
    /// The connections that the engine has not closed. It may open one while another still finishes its calls.
    links: BTreeMap<ConnId, Link>,
    /// The number of the batch of each export without a verdict.
    exports: BTreeMap<ExportId, u64>,
    clock: Clock,
}

impl EventLoop {
    /// Runs until every export has its verdict, and then shuts the engine down.
    fn run(&mut self) -> Result<(), Box<dyn Error>> {
        loop {
            // After each fact: all that the engine wants, until it wants nothing more.
            while let Some(action) = self.engine.poll_action() {
                self.perform(action)?;
            }
            while let Some((id, verdict)) = self.engine.poll_outcome() {
                if let Some(number) = self.exports.remove(&id) {
                    tell(number, &verdict);
                }
            }
            if !self.exports.is_empty() {
                // The engine says when it has to look at the clock, whatever comes of the sockets.
                let timeout = self.engine.poll_timeout().map(|at| at - self.clock.now());
                wait(self.links.values(), timeout)?;
                self.move_bytes();
                // Early, it does no harm.
                self.handle(Fact::Timeout);
            } else if !self.engine.is_draining() {
                // It closes the connections. Two facts that are not needed here: `Drain` refuses new exports and lets
                // those under way finish, `Cancel` gives up a single one.
                self.handle(Fact::Shutdown);
            } else {
                return Ok(());
            }
        }
    }

    /// Every fact carries the time.
    fn handle(&mut self, fact: Fact<'_>) {
        self.engine.handle(self.clock.now(), fact);
    }

    fn perform(&mut self, action: Action) -> Result<(), Box<dyn Error>> {
        match action {
            // This program has nothing else to do while it resolves or connects, and blocks. One that has brings the
            // fact later.
            Action::Resolve(conn, name) => match (&*name.host, name.port).to_socket_addrs() {
                Ok(found) => self.handle(Fact::Resolved(conn, &found.collect::<Vec<_>>())),
                Err(error) => self.handle(Fact::ResolveFailed(conn, &error.to_string())),
            },
            Action::Connect(conn, target) => {
                let at = self.engine.poll_timeout().unwrap_or(Instant::MAX);
                match Link::connect(&target, at - self.clock.now()) {
                    Ok(link) => {
                        self.links.insert(conn, link);
                        self.handle(Fact::Connected(conn));
                    }
                    Err(error) => self.handle(Fact::ConnectFailed(conn, &error.to_string())),
                }
            }
            Action::Transmit(conn, bytes) => {
                if let Some(link) = self.links.get_mut(&conn) {
                    link.queue(bytes);
                }
            }
            // Dropping the link closes its socket.
            Action::Close(conn) => drop(self.links.remove(&conn)),
            action => return Err(format!("this program cannot do what the engine wants: {action:?}").into()),
        }
        Ok(())
    }

    /// Writes what the sockets take, and reads what they have.
    fn move_bytes(&mut self) {
        let Self {
            engine, links, clock, ..
        } = self;
        let mut buffer = [0; 16 << 10];
        for (&conn, link) in links {
            // Not what was queued, but what the socket took: it decides which requests may have arrived.
            engine.handle(clock.now(), Fact::Sent(conn, link.write()));
            match link.read(&mut buffer) {
                Read::Nothing => {}
                Read::Bytes(bytes) => engine.handle(clock.now(), Fact::Input(conn, bytes)),
                Read::Eof => engine.handle(clock.now(), Fact::Eof(conn)),
                Read::Failed(error) => engine.handle(clock.now(), Fact::Failed(conn, &error.to_string())),
            }
        }
    }
}
