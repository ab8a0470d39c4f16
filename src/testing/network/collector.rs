//! A collector on a simulated network, as its user holds it.

use super::Shared;
use super::link::Link;
use super::state::State;
use crate::testing::Answer;
use crate::testing::collector::{
    Accepting, Counters, Inbox, ReceivedConnection, ReceivedLog, ReceivedMetric, ReceivedRequest,
    ReceivedSpan,
};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::future::poll_fn;
use core::net::SocketAddr;
use core::task::{Poll, Waker};

/// An OTLP collector on a [`Network`](super::Network): what [`Collector`](crate::testing::Collector) is on a port. Clones
/// are the same collector, and it stays on its network when they are dropped.
///
/// What it is told takes effect at once. It may be told anything from anywhere, also from within the choice of an answer.
#[derive(Clone)]
pub struct SimulatedCollector {
    shared: Arc<Shared>,
    host: usize,
    address: SocketAddr,
    endpoint: String,
    inbox: Inbox,
}

impl SimulatedCollector {
    pub(super) fn new(shared: Arc<Shared>, host: usize) -> Self {
        let state = shared.lock();
        let of = &state.hosts[host];
        let (address, inbox) = (of.address, of.builder.inbox().clone());
        let endpoint = of.builder.endpoint_at(address);
        drop(state);
        Self {
            shared,
            host,
            address,
            endpoint,
            inbox,
        }
    }

    /// The URL to export to, the same for gRPC and OTLP/HTTP.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// The records and answers, shared with all its connections. Its waits with a timeout wait in real time, in which
    /// nothing happens here: await [`received`](Self::received) instead.
    pub fn inbox(&self) -> &Inbox {
        &self.inbox
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

    /// Every connection, those that are over included.
    pub fn connections(&self) -> Vec<ReceivedConnection> {
        self.inbox.connections()
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        self.inbox.counters()
    }

    /// Connections that it serves now.
    pub fn open_connections(&self) -> usize {
        self.shared.lock().open_connections(self.host)
    }

    /// Is ready, with the counters, once `is_enough` says so of them: at once, or when something has arrived.
    ///
    /// ```
    /// use otlp_embed::testing::Network;
    /// use otlp_embed::{Config, Resource, TraceBatch};
    ///
    /// # fn main() -> Result<(), otlp_embed::Error> {
    /// let network = Network::new(1);
    /// let collector = network.collector();
    /// let exporter = Config::new().with_endpoint(collector.endpoint()).build(network.clone())?;
    /// let mut batch = TraceBatch::new(&Resource::builder().build());
    /// batch.span([1; 16], [2; 8], "work").end();
    /// let export = network.spawn(exporter.export(batch.finish()));
    /// let counters = network.block_on(collector.received(|counters| counters.spans >= 1));
    /// assert_eq!(counters.spans, 1);
    /// assert!(!export.is_finished(), "the answer is on its way");
    /// assert_eq!(network.block_on(export)?.delivered(), 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// It changes nothing.
    pub async fn received(&self, mut is_enough: impl FnMut(&Counters) -> bool) -> Counters {
        poll_fn(move |cx| {
            let counters = self.counters();
            if is_enough(&counters) {
                return Poll::Ready(counters);
            }
            let waker = cx.waker().clone();
            self.shared.lock().hosts[self.host].watchers.push(waker);
            Poll::Pending
        })
        .await
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
    pub fn answer_with(&self, choose: impl Fn(&ReceivedRequest) -> Answer + Send + Sync + 'static) {
        self.inbox.answer_with(choose);
    }

    /// The line to it from now on; what is on its way arrives as it was to.
    pub fn set_link(&self, link: Link) {
        self.with(|state| state.hosts[self.host].link = link);
    }

    /// Says what becomes of new connections; those that exist go on.
    pub fn set_accepting(&self, accepting: Accepting) {
        self.with(|state| state.hosts[self.host].accepting = accepting);
    }

    /// Stalls: until [`resume`](Self::resume) connections open, and nothing is read or answered on any of them, nor is a
    /// delayed answer given. Sockets take what fits into the buffers of the [`Link`].
    pub fn pause(&self) {
        self.with(|state| state.hosts[self.host].is_paused = true);
    }

    /// Ends a [`pause`](Self::pause).
    pub fn resume(&self) {
        self.with(|state| state.hosts[self.host].is_paused = false);
    }

    /// Cuts it off: until [`repair`](Self::repair) nothing gets through to it or from it, and nobody is told. Connects
    /// neither open nor fail.
    pub fn partition(&self) {
        self.with(|state| state.hosts[self.host].is_cut_off = true);
    }

    /// Ends a [`partition`](Self::partition): what was sent meanwhile, on connections that are still open, gets through as
    /// TCP sends it again.
    pub fn repair(&self) {
        let now = self.shared.clock.now();
        self.with(|state| state.repair(now, self.host));
    }

    /// Tears down every connection on both sides; how many there were. New ones are served as before.
    pub fn kill_connections(&self) -> usize {
        self.kill_share(1.0)
    }

    /// Tears down a share of the connections, 0.5 being half of them rounded up; how many that are. The seed says which.
    pub fn kill_share(&self, share: f64) -> usize {
        let now = self.shared.clock.now();
        let mut wakers: Vec<Waker> = Vec::new();
        let count = self.with(|state| {
            let mut ids = state.served(self.host);
            state.rng.shuffle(&mut ids);
            // Casts of floats saturate.
            ids.truncate((ids.len() as f64 * share).ceil() as usize);
            for id in &ids {
                wakers.extend(state.reset(now, *id).into_iter().flatten());
            }
            ids.len()
        });
        wakers.into_iter().for_each(Waker::wake);
        count
    }

    /// Forgets every connection without a word, as a machine does that lost its power: exporters hold them for open until
    /// they write, and are answered with a reset.
    pub fn forget_connections(&self) {
        self.with(|state| state.forget(self.host));
    }

    /// Lets every connection drain gracefully: two GOAWAY frames on HTTP/2, `Connection: close` on HTTP/1.1; calls under way
    /// end well.
    pub fn drain_connections(&self) {
        self.with(|state| {
            for id in state.served(self.host) {
                if let Some(connection) = state.connections.get_mut(&id) {
                    connection.must_drain = true;
                }
            }
        });
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.shared.lock());
        self.shared.clock.poke();
        result
    }
}

impl fmt::Debug for SimulatedCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedCollector")
            .field("address", &self.address)
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}
