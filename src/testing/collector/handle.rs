//! The collector as its user holds it.

use super::answer::Answer;
use super::builder::Builder;
use super::connections::ReceivedConnection;
use super::inbox::{Counters, Inbox, TimedOut};
use super::received::{ReceivedLog, ReceivedMetric, ReceivedRequest, ReceivedSpan};
use super::server::{Address, Command, Order, Server, wake_socket};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::io;
use std::net::UdpSocket;
#[cfg(unix)]
use std::path::Path;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

/// An OTLP collector that runs in this process until it is dropped; see [the module](super).
///
/// Dropping it closes its connections and its port, removes the path it listened on, and returns when its thread has ended.
#[derive(Debug)]
pub struct Collector {
    addr: Address,
    is_secured: bool,
    inbox: Inbox,
    commands: mpsc::Sender<Command>,
    wake: UdpSocket,
    open: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

/// What becomes of new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepting {
    /// They are served.
    Serve,
    /// They are accepted and closed at once.
    CloseAtOnce,
    /// They are refused: nothing listens on the port.
    Refuse,
}

impl Collector {
    /// Starts a collector on a free port of 127.0.0.1 that accepts everything.
    ///
    /// # Errors
    ///
    /// Where the system has no port, socket or thread to give.
    pub fn start() -> io::Result<Self> {
        Self::builder().start()
    }

    /// Settings for a collector.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Starts a collector on this address.
    ///
    /// # Errors
    ///
    /// Where the address cannot be listened on, or the system has no thread to give.
    pub fn bind(addr: impl Into<SocketAddr>) -> io::Result<Self> {
        Self::builder().bind(addr).start()
    }

    /// The URL to export to, like `http://127.0.0.1:40123`; `https` where it speaks TLS, `unix:` and a path where it
    /// listens on one. It is the same for gRPC and OTLP/HTTP.
    pub fn endpoint(&self) -> String {
        let scheme = if self.is_secured { "https" } else { "http" };
        match &self.addr {
            Address::Tcp(addr) => format!("{scheme}://{addr}"),
            #[cfg(unix)]
            Address::Unix(path) => format!("unix:{}", path.display()),
        }
    }

    /// The address it listens on.
    ///
    /// # Panics
    ///
    /// Where it listens on the path of a Unix domain socket.
    pub fn addr(&self) -> SocketAddr {
        match &self.addr {
            Address::Tcp(addr) => *addr,
            #[cfg(unix)]
            Address::Unix(path) => panic!(
                "the collector listens on {}, which is no TCP address",
                path.display()
            ),
        }
    }

    /// The path of the Unix domain socket it listens on; nothing where it listens on a TCP address.
    #[cfg(unix)]
    pub fn unix_path(&self) -> Option<&Path> {
        match &self.addr {
            Address::Tcp(_) => None,
            Address::Unix(path) => Some(path),
        }
    }

    /// Every span received, in the order of arrival; one that came twice is there twice.
    pub fn spans(&self) -> Vec<ReceivedSpan> {
        self.inbox.spans()
    }

    /// Every metric received, in the order of arrival; one that came twice is there twice.
    pub fn metrics(&self) -> Vec<ReceivedMetric> {
        self.inbox.metrics()
    }

    /// Every log record received, in the order of arrival; one that came twice is there twice.
    pub fn logs(&self) -> Vec<ReceivedLog> {
        self.inbox.logs()
    }

    /// Every request received, in the order of arrival, whatever it was answered.
    pub fn requests(&self) -> Vec<ReceivedRequest> {
        self.inbox.requests()
    }

    /// Every connection, those that are over included, in the order of accepting.
    pub fn connections(&self) -> Vec<ReceivedConnection> {
        self.inbox.connections()
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        self.inbox.counters()
    }

    /// Connections that are open now.
    pub fn open_connections(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// Waits until at least `count` spans have been received, and gives all of them.
    ///
    /// # Errors
    ///
    /// [`TimedOut`] where fewer have been received within `timeout`.
    pub fn wait_for_spans(&self, count: usize, timeout: Duration) -> Result<Vec<ReceivedSpan>, TimedOut> {
        self.inbox.wait_for_spans(count, timeout)
    }

    /// Waits until at least `count` requests have been received, and gives all of them.
    ///
    /// # Errors
    ///
    /// [`TimedOut`] where fewer have been received within `timeout`.
    pub fn wait_for_requests(
        &self,
        count: usize,
        timeout: Duration,
    ) -> Result<Vec<ReceivedRequest>, TimedOut> {
        self.inbox.wait_for_requests(count, timeout)
    }

    /// Forgets what was received and sets the counters to zero; answers and connections stay as they are.
    pub fn clear(&self) {
        self.inbox.clear();
    }

    /// Answers every call like this from now on, once the answers of [`answer_next`](Self::answer_next) are used up.
    pub fn answer(&self, answer: Answer) {
        self.inbox.answer(answer);
    }

    /// Answers the next call like this; several are used in their order, each once.
    pub fn answer_next(&self, answer: Answer) {
        self.inbox.answer_next(answer);
    }

    /// Asks `choose` for every answer from now on, once the answers of [`answer_next`](Self::answer_next) are used up.
    ///
    /// It runs on the collector's thread; where it panics, the call is answered with `INTERNAL`. Where the level of
    /// `tracing` is DEBUG or finer, its spans and events go nowhere, nor does what it tells an OpenTelemetry SDK whose
    /// feature is on.
    pub fn answer_with(&self, choose: impl Fn(&ReceivedRequest) -> Answer + Send + Sync + 'static) {
        self.inbox.answer_with(choose);
    }

    /// Stalls: until [`resume`](Self::resume) nothing is accepted, read, answered or written, no delayed answer is given
    /// and no connection is closed.
    pub fn pause(&self) {
        // Fails only with the thread gone, and then everything is stalled.
        let _ = self.order(Order::Pause(true));
    }

    /// Ends a [`pause`](Self::pause).
    pub fn resume(&self) {
        let _ = self.order(Order::Pause(false));
    }

    /// Tears down every connection (RST; Unix sockets have none and are closed). New ones are served as before.
    pub fn kill_connections(&self) {
        self.kill_share(1.0);
    }

    /// Tears down a share of the connections, 0.5 being half of them rounded up: those first that were accepted first.
    pub fn kill_share(&self, share: f64) {
        // With the thread gone there is no connection left.
        let _ = self.order(Order::Kill(share));
    }

    /// Lets every connection drain gracefully: two GOAWAY frames on HTTP/2, `Connection: close` on HTTP/1.1; calls under way
    /// end well.
    pub fn drain_connections(&self) {
        let _ = self.order(Order::Drain);
    }

    /// Says what becomes of new connections; those that exist go on.
    ///
    /// # Errors
    ///
    /// Where the port cannot be listened on again after [`Accepting::Refuse`].
    pub fn set_accepting(&self, accepting: Accepting) -> io::Result<()> {
        self.order(Order::Accept(accepting))
    }

    pub(super) fn from_builder(builder: Builder) -> io::Result<Self> {
        let wake = wake_socket()?;
        let listener = builder.addr.listen()?;
        let addr = listener.address(&builder.addr)?;
        let is_secured = builder.protocol.is_secured();
        let inbox = builder.inbox.clone();
        let open = Arc::new(AtomicUsize::new(0));
        let (commands, receiver) = mpsc::channel();
        let started = wake
            .try_clone()
            .map(|wake| Server::new(builder, addr.clone(), listener, wake, receiver, Arc::clone(&open)))
            .and_then(|server| {
                let thread = thread::Builder::new().name(String::from("otlp-collector"));
                thread.spawn(move || server.run())
            });
        let thread = started.inspect_err(|_| addr.vacate())?;
        Ok(Self {
            addr,
            is_secured,
            inbox,
            commands,
            wake,
            open,
            thread: Some(thread),
        })
    }

    /// Gives an order and waits until it is carried out; on the collector's own thread, where waiting would be for ever,
    /// it is carried out after the current answer.
    fn order(&self, order: Order) -> io::Result<()> {
        let gone = || io::Error::new(io::ErrorKind::BrokenPipe, "the collector's thread has ended");
        let (done, is_done) = mpsc::sync_channel(1);
        self.commands.send(Command { order, done }).map_err(|_| gone())?;
        // A full socket buffer is a wake-up as well.
        let _ = self.wake.send(&[1]);
        let is_own = |thread: &JoinHandle<()>| thread.thread().id() == thread::current().id();
        if self.thread.as_ref().is_some_and(is_own) {
            return Ok(());
        }
        is_done.recv().map_err(|_| gone())?
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        let (done, _) = mpsc::sync_channel(1);
        // Fails only with the thread gone.
        let _ = self.commands.send(Command {
            order: Order::Stop,
            done,
        });
        let _ = self.wake.send(&[1]);
        if thread.thread().id() != thread::current().id() {
            let _ = thread.join();
        }
        self.addr.vacate();
    }
}
