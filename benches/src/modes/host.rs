//! Starts the processes of a run and hears what they have to say.

use super::measure::Figures;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A peer in another process; it ends with this value.
pub struct Peer {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// The URL of its collector.
    pub endpoint: String,
    /// The address of the socket that discards.
    pub raw: String,
}

impl Peer {
    /// Starts this program again as a peer, whose collector takes `streams` calls at a time where that is said.
    ///
    /// # Errors
    ///
    /// Where that does not work.
    pub fn start(streams: Option<u32>) -> io::Result<Self> {
        let mut child = this_program()?
            .arg("peer")
            .args(streams.map(|streams| streams.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = child.stdin.take();
        let answers = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut peer = Self {
            child,
            orders,
            answers: BufReader::new(answers),
            endpoint: String::new(),
            raw: String::new(),
        };
        let line = peer.line()?;
        let (endpoint, raw) = line.split_once(' ').ok_or(io::ErrorKind::InvalidData)?;
        (peer.endpoint, peer.raw) = (endpoint.to_owned(), raw.to_owned());
        Ok(peer)
    }

    /// Gives an order and returns the counters after it.
    ///
    /// # Errors
    ///
    /// Where the peer has gone.
    pub fn ask(&mut self, order: &str) -> io::Result<Figures> {
        let orders = self.orders.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        writeln!(orders, "{order}")?;
        orders.flush()?;
        Ok(Figures::parse(&self.line()?))
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The peer ends with its input.
        self.orders = None;
        let _ = self.child.wait();
    }
}

/// Runs this program again, as a worker with these arguments, and returns the figures that it prints last.
///
/// # Errors
///
/// Where it fails.
pub fn run_worker(arguments: &[String]) -> io::Result<Figures> {
    let output = this_program()?
        .arg("worker")
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!(
            "the worker {} ended with {}",
            arguments.join(" "),
            output.status
        )));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(Figures::parse(text.lines().last().unwrap_or_default()))
}

fn this_program() -> io::Result<Command> {
    Ok(Command::new(std::env::current_exe()?))
}
