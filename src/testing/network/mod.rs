//! A network in memory on a virtual clock, for tests of programs that export.
//!
//! [`Network`] is a [`Runtime`] like those of sockets: an exporter on it goes through connects, TLS,
//! HTTP and deadlines exactly as it does elsewhere. It brings collectors to export to, an executor to run on, and a clock
//! that moves only when every task waits, and then at once to whatever happens next: an outage of an hour is over in
//! milliseconds. No socket is opened, no thread is started, and no real time passes.
//!
//! ```
//! use otlp_embed::testing::Network;
//! use otlp_embed::testing::collector::Accepting;
//! use otlp_embed::{Config, Resource, TraceBatch};
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), otlp_embed::Error> {
//! let network = Network::new(7);
//! let collector = network.collector();
//! let exporter = Config::new()
//!     .with_endpoint(collector.endpoint())
//!     .with_timeout(Duration::from_secs(60))
//!     .build(network.clone())?;
//!
//! let mut batch = TraceBatch::new(&Resource::builder().attr("service.name", "shop").build());
//! batch.span([1; 16], [2; 8], "checkout").end();
//!
//! // The collector is down for half a minute.
//! collector.set_accepting(Accepting::Refuse);
//! let outcome = network.block_on(async {
//!     let export = network.spawn(exporter.export(batch.finish()));
//!     network.clock().sleep(Duration::from_secs(30)).await;
//!     collector.set_accepting(Accepting::Serve);
//!     export.await
//! })?;
//! assert_eq!(outcome.delivered(), 1);
//! assert_eq!(collector.spans()[0].name, "checkout");
//! # Ok(())
//! # }
//! ```
//!
//! # The same again
//!
//! Whatever is left to chance comes from the seed: the order in which ready tasks are polled, jitter of the line and of
//! backoff, which connections are killed. With the same seed the same program sees the same run, byte for byte, which
//! [`Network::trace`] shows; with another one it sees another, so that a loop over seeds is a search for orders of events
//! that a program does not expect.
//!
//! That holds for what runs on the network alone: a program that reads another clock, draws other random numbers, iterates
//! a map of std's, or lets another thread take part, brings its own chance along, and so does TLS, whose keys the provider
//! draws.
//!
//! # Under tokio's paused clock
//!
//! `Network::on_tokio` (feature `tokio`) gives a network whose clock is tokio's, for a program that waits on timers of
//! tokio's: under `#[tokio::test(start_paused = true)]` no real time passes there either. Its tasks are spawned on tokio,
//! and one of them is `Network::drive`. Timers of tokio have a granularity of a millisecond, and the order in which it
//! polls its tasks is its own, so that the seed decides less.
//!
//! Other networks may serve futures that any executor polls, but only [`Network::block_on`] and [`Network::run_for`] let
//! time pass and bytes arrive on them. With [`Collector`], whose sockets are real, a paused clock
//! makes every deadline fire as soon as tokio waits for a socket.

mod collector;
mod link;
mod socket;
mod state;
#[cfg(feature = "tokio")]
mod tokio;
mod trace;

pub use collector::SimulatedCollector;
pub use link::Link;
pub use socket::{Connecting, NetworkSocket};
pub use trace::{NetworkEvent, NetworkEventKind};

use super::clock::{Clock, Timer};
use super::collector::{Accepting, Builder, Collector};
use super::executor::{Executor, JoinHandle};
use crate::endpoint::Target;
use crate::rt::{Resolve, Runtime};
use crate::time::Instant;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::future::{Future, Ready, ready};
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use fastrand::Rng;
use state::{Dial, Event, Host, Said, State, Telling, Word};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The port of the collectors of [`Network::collector`].
const PORT: u16 = 4317;
/// Tasks polled and events at one time of the clock, above which a test is said to spin.
const STANDSTILL_MAX: u64 = 2_000_000;

/// A network with collectors, a clock and an executor, all in memory; see [the module](self). Clones are the same network.
#[derive(Clone)]
pub struct Network(Arc<Shared>);

struct Shared {
    clock: Clock,
    executor: Executor,
    state: Mutex<State>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Network {
    /// A network with nobody on it.
    pub fn new(seed: u64) -> Self {
        Self::on(Clock::new(), seed)
    }

    fn on(clock: Clock, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        Self(Arc::new(Shared {
            clock,
            executor: Executor::new(rng.u64(..)),
            state: Mutex::new(State::new(rng)),
        }))
    }

    /// A collector that accepts everything, at an address of its own.
    pub fn collector(&self) -> SimulatedCollector {
        self.collector_with(Collector::builder())
    }

    /// A collector with these settings, at an address of its own; the one in them is not used.
    pub fn collector_with(&self, builder: Builder) -> SimulatedCollector {
        let number = u32::try_from(self.0.lock().hosts.len()).unwrap_or(u32::MAX);
        let ip = Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 1).to_bits().saturating_add(number));
        self.listen((ip, PORT), builder)
    }

    /// A collector with these settings at this address.
    ///
    /// # Panics
    ///
    /// Where another one listens there.
    pub fn listen(&self, address: impl Into<SocketAddr>, builder: Builder) -> SimulatedCollector {
        let address = address.into();
        let mut state = self.0.lock();
        let is_free = state.host_at(address).is_none();
        let host = state.hosts.len();
        if is_free {
            state.hosts.push(Host {
                address,
                builder,
                link: Link::new(),
                accepting: Accepting::Serve,
                is_paused: false,
                is_cut_off: false,
                watchers: Vec::new(),
            });
        }
        drop(state);
        assert!(is_free, "another collector listens on {address}");
        SimulatedCollector::new(self.0.clone(), host)
    }

    /// Gives the addresses a name that exporters can use in their endpoints, in the place of what it named before.
    pub fn set_name(&self, name: &str, addresses: impl IntoIterator<Item = IpAddr>) {
        let addresses = addresses.into_iter().collect();
        self.0.lock().names.insert(Arc::from(name), addresses);
    }

    /// The clock.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// What happened on the network, the last 100,000 events of it.
    pub fn trace(&self) -> Vec<NetworkEvent> {
        self.0.lock().trace.events().iter().copied().collect()
    }

    /// Runs a task on this network, whenever one of [`block_on`](Self::block_on) and [`run_for`](Self::run_for) runs.
    ///
    /// A panic of the task comes out of these. A task that never ends keeps the network's memory, until
    /// [`abort_tasks`](Self::abort_tasks).
    pub fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.check_alone();
        self.0.executor.spawn(future)
    }

    /// Drops every task that was spawned and has not ended, but the one that calls this.
    pub fn abort_tasks(&self) {
        self.0.executor.abort();
    }

    /// Runs the future, the tasks and the network until the future is ready. Time passes only while all of them wait.
    /// Tasks that have not ended go on with the next call. Other threads are not waited for: what one of them would wake
    /// counts as waiting.
    ///
    /// # Panics
    ///
    /// Where nothing can happen any more and the future is not ready: every task waits, no timer is set, and no byte is on
    /// its way. Where everything happens at one time and nobody ever waits. Where a task panics. Within another call on
    /// this network.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.block_on_checked(future, || ())
    }

    /// As [`block_on`](Self::block_on), and calls `check` after everything that happens: each poll of a task, each arrival,
    /// each move of the clock. What is to hold at all times, such as
    /// [`Stats::is_conserved`](crate::Stats::is_conserved), is asserted there.
    ///
    /// # Panics
    ///
    /// As [`block_on`](Self::block_on), and with `check`.
    pub fn block_on_checked<F: Future>(&self, future: F, mut check: impl FnMut()) -> F::Output {
        self.check_alone();
        let _running = self.0.executor.enter();
        let mut future = pin!(future);
        let (root, waker) = self.0.executor.waker();
        let mut cx = Context::from_waker(&waker);
        let mut pace = Pace::default();
        waker.wake_by_ref();
        loop {
            while let Some(id) = self.0.executor.next_ready() {
                pace.check(self.0.clock.now());
                if id != root {
                    self.0.executor.poll_task(id);
                } else if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                    check();
                    return output;
                }
                check();
            }
            pace.check(self.0.clock.now());
            assert!(
                self.step(Instant::MAX),
                "deadlock at {:?}: the future and {} other tasks wait, no timer is set and no byte is on its way",
                self.0.clock.now(),
                self.0.executor.tasks(),
            );
            check();
        }
    }

    /// Runs the tasks and the network for so long on the clock, whether anybody waits for anything or not.
    ///
    /// # Panics
    ///
    /// As [`block_on`](Self::block_on), but that nothing to wait for is no mistake here.
    pub fn run_for(&self, duration: Duration) {
        self.check_alone();
        let until = self.0.clock.now() + duration;
        let _running = self.0.executor.enter();
        let mut pace = Pace::default();
        loop {
            while let Some(id) = self.0.executor.next_ready() {
                pace.check(self.0.clock.now());
                self.0.executor.poll_task(id);
            }
            pace.check(self.0.clock.now());
            if !self.step(until) {
                self.0.clock.move_to(until);
                // Who waited for exactly that time.
                if !self.step(until) && self.0.executor.is_idle() {
                    return;
                }
            }
        }
    }

    fn check_alone(&self) {
        let follows = self.0.clock.follows();
        assert!(
            !follows,
            "this network is on tokio's clock: run the future, and `Network::drive`, on tokio"
        );
    }

    /// Lets the next thing happen that is due by `until`; whether there was any.
    fn step(&self, until: Instant) -> bool {
        let clock = &self.0.clock;
        let event = self.0.lock().next_event();
        let timer = clock.next_due();
        match event {
            // What arrives comes before the end of the wait for it.
            Some((at, event)) if at <= until && timer.is_none_or(|timer| at <= timer.max(clock.now())) => {
                clock.move_to(at);
                self.happen(event);
                true
            }
            _ => match timer.filter(|timer| *timer <= until) {
                Some(timer) => {
                    clock.move_to(timer);
                    true
                }
                None => false,
            },
        }
    }

    fn happen(&self, event: Event) {
        let now = self.0.clock.now();
        let wakers: Vec<Waker> = match event {
            Event::Dial(id) => self.0.lock().dial(now, id).into_iter().collect(),
            Event::Arrival(id) => self.0.lock().arrive(now, id).into_iter().flatten().collect(),
            Event::Told(id, word) => self.tell(now, id, word),
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Tells a session something. It is out of the network meanwhile: the choice of an answer may do what it likes.
    fn tell(&self, now: Instant, id: u64, word: Word) -> Vec<Waker> {
        let telling = self.0.lock().begin(now, id, word);
        match telling {
            None => Vec::new(),
            Some(Telling::Broken) => self.0.lock().reset(now, id).into_iter().flatten().collect(),
            Some(Telling::Nobody(writer)) => writer.into_iter().collect(),
            Some(Telling::Session(session, parcel, writer)) => {
                let said = Said::tell(session, now, word, parcel);
                let mut state = self.0.lock();
                let mut wakers = state.take_watchers(id);
                state.end(now, id, said);
                wakers.extend(writer);
                wakers
            }
        }
    }
}

impl Runtime for Network {
    type Io = NetworkSocket;
    type Timer = Timer;
    type Connecting = Connecting;
    type Resolving = Ready<io::Result<Vec<SocketAddr>>>;

    fn now(&self) -> Instant {
        self.0.clock.now()
    }

    /// It began with 2024.
    fn unix_time(&self) -> Duration {
        Duration::from_secs(1_704_067_200) + self.0.clock.now().since(Instant::ZERO)
    }

    fn connect(&self, target: &Target) -> Connecting {
        let Target::Tcp(to) = *target else {
            let text = "a simulated network has no Unix domain sockets; give an http endpoint";
            let error = io::Error::new(io::ErrorKind::Unsupported, text);
            return Connecting::refused(self.0.clone(), error);
        };
        let now = self.0.clock.now();
        let mut state = self.0.lock();
        let latency = state
            .host_at(to)
            .map_or(Link::new().latency(), |host| host.link.latency());
        let id = state.next_dial;
        state.next_dial += 1;
        let dial = Dial {
            to,
            at: now + latency + latency,
            result: None,
            waker: None,
        };
        state.dials.insert(id, dial);
        drop(state);
        self.0.clock.poke();
        Connecting::new(self.0.clone(), id)
    }

    /// Names are those of [`set_name`](Network::set_name), where the exporter has no resolver of its own.
    fn resolve(&self, query: Resolve) -> Self::Resolving {
        if query.has_resolver() {
            return ready(query.run());
        }
        let name = query.name();
        let state = self.0.lock();
        let known = state.names.get(&name.host);
        ready(match known {
            Some(ips) => Ok(ips.iter().map(|ip| SocketAddr::new(*ip, name.port)).collect()),
            None => Err(io::Error::new(
                io::ErrorKind::NotFound,
                alloc::format!(
                    "the simulated network knows no `{}`; give it one with `set_name`",
                    name.host
                ),
            )),
        })
    }

    fn timer(&self) -> Timer {
        self.0.clock.timer()
    }

    /// Clones are the same network, on which one call of [`block_on`](Network::block_on) moves everything.
    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Another number at each call, which the network's seed determines.
    fn seed(&self) -> u64 {
        self.0.lock().rng.u64(..)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.lock();
        f.debug_struct("Network")
            .field("now", &self.0.clock.now())
            .field("collectors", &state.hosts.len())
            .field("connections", &state.connections.len())
            .finish_non_exhaustive()
    }
}

/// Notices when time stands still for ever.
#[derive(Default)]
struct Pace {
    at: Instant,
    count: u64,
}

impl Pace {
    fn check(&mut self, now: Instant) {
        self.count = if now == self.at { self.count + 1 } else { 0 };
        self.at = now;
        assert!(
            self.count < STANDSTILL_MAX,
            "everything happens at {now:?} and nobody ever waits: a task wakes itself again and again"
        );
    }
}
