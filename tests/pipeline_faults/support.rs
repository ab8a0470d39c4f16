//! What all of it needs: a world on a virtual clock, a watchdog, futures that are dropped after so many polls.

use crate::batches::batch;
use otlp_embed::pipeline::{Overflow, PipelineConfig, QueueConfig};
use otlp_embed::testing::collector::Accepting;
use otlp_embed::testing::{Answer, Network, SimulatedCollector};
use otlp_embed::{Config, Exporter, Protocol, Resource};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Once;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::task::{Context, Poll};
use std::time::Duration;

pub const MILLI: Duration = Duration::from_millis(1);
pub const SECOND: Duration = Duration::from_secs(1);
/// Long enough never to matter on a real clock, short enough for a test that fails.
pub const LONG: Duration = Duration::from_secs(30);
/// When a test hangs.
const LIMIT: Duration = Duration::from_secs(60);
/// Polls after which a future would have ended.
const POLLS_MAX: u64 = 2_000;
/// What a panic that a test makes says: it is not printed.
pub const PLANNED: &str = "as the test has planned";

/// Runs the work on a thread of its own, and fails when that does not end.
pub fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    hush();
    let (done, is_done) = channel();
    let thread = std::thread::spawn(move || {
        let value = work();
        // The one who waits is gone after its time only.
        let _ = done.send(());
        value
    });
    match is_done.recv_timeout(LIMIT) {
        // The sender is dropped also where the work panicked.
        Ok(()) | Err(RecvTimeoutError::Disconnected) => match thread.join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        },
        Err(RecvTimeoutError::Timeout) => panic!("it hangs: nothing has ended after {LIMIT:?}"),
    }
}

/// Keeps the panics that tests have planned off the screen; others are printed as ever.
fn hush() {
    static HUSH: Once = Once::new();
    HUSH.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let text = info.payload().downcast_ref::<&str>();
            if text.is_none_or(|text| *text != PLANNED) {
                usual(info);
            }
        }));
    });
}

pub fn planned() -> ! {
    std::panic::panic_any(PLANNED)
}

/// Calls what is to panic, and gives whether it did.
pub fn panics<T>(call: impl FnOnce() -> T) -> bool {
    catch_unwind(AssertUnwindSafe(call)).is_err()
}

/// Lets a future have so many polls, and drops it after the last: `None` then.
pub struct PollTimes<F> {
    future: Option<Pin<Box<F>>>,
    left: u64,
}

impl<F: Future> PollTimes<F> {
    pub fn new(future: F, polls: u64) -> Self {
        Self {
            future: Some(Box::pin(future)),
            left: polls,
        }
    }
}

impl<F: Future> Future for PollTimes<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(future) = this.future.as_mut().filter(|_| this.left > 0) {
            this.left -= 1;
            match future.as_mut().poll(cx) {
                Poll::Ready(output) => return Poll::Ready(Some(output)),
                Poll::Pending if this.left > 0 => return Poll::Pending,
                Poll::Pending => {}
            }
        }
        this.future = None;
        Poll::Ready(None)
    }
}

/// Runs the scenario with 0, 1, 2, .. polls allowed, until it says that what it drops had ended by itself.
pub fn at_every_poll(what: &str, mut scenario: impl FnMut(u64) -> bool) {
    let ended = (0..POLLS_MAX).find(|polls| scenario(*polls));
    let polls = ended.unwrap_or_else(|| panic!("{what} did not end within {POLLS_MAX} polls"));
    assert!(polls > 0, "{what} cannot have ended without a poll");
}

/// What the collector is like while something is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// Answers come, a little late.
    Fair,
    /// Everything is retried for a while.
    Backoff,
    /// Nothing answers connects for a while.
    Connecting,
    /// Connects are refused for a while, so that the breaker opens.
    Refusing,
}

pub const WEATHERS: [Weather; 4] = [
    Weather::Fair,
    Weather::Backoff,
    Weather::Connecting,
    Weather::Refusing,
];

pub struct World {
    pub network: Network,
    pub collector: SimulatedCollector,
    pub exporter: Exporter<Network>,
}

impl World {
    pub fn new() -> Self {
        Self::with(Config::new())
    }

    pub fn with(config: Config) -> Self {
        let network = Network::new(11);
        let collector = network.collector();
        let exporter = config
            .with_protocol(Protocol::Grpc)
            .with_endpoint(collector.endpoint())
            .build(network.clone())
            .expect("a config that can work");
        Self {
            network,
            collector,
            exporter,
        }
    }

    /// A world whose weather clears up after two seconds.
    pub fn in_weather(weather: Weather) -> Self {
        let world = Self::new();
        let ok = Answer::Ok.after(30 * MILLI);
        match weather {
            Weather::Fair => world.collector.answer(ok),
            Weather::Backoff => world.collector.answer(Answer::unavailable()),
            Weather::Connecting => world.collector.partition(),
            Weather::Refusing => world.collector.set_accepting(Accepting::Refuse),
        }
        if weather != Weather::Fair {
            let (collector, clear) = (world.collector.clone(), world.network.clock().sleep(2 * SECOND));
            world.network.spawn(async move {
                clear.await;
                collector.answer(Answer::Ok.after(30 * MILLI));
                collector.set_accepting(Accepting::Serve);
                collector.repair();
            });
        }
        world
    }

    /// What is left of it is as good as new: it delivers, and its account is closed.
    pub fn check_usable(&self, why: &str) {
        self.collector.answer(Answer::Ok);
        self.collector.set_accepting(Accepting::Serve);
        self.collector.repair();
        let outcome = self.network.block_on(self.exporter.export(batch(9_000, 1)));
        assert_eq!(outcome.expect(why).delivered(), 1, "{why}");
        let stats = self.exporter.stats();
        assert!(stats.is_conserved(), "{why}: {stats:?}");
        assert_eq!((stats.in_flight, stats.queued), (0, 0), "{why}: {stats:?}");
        assert_eq!(stats.bytes_in_flight, 0, "{why}: {stats:?}");
    }
}

pub fn config() -> PipelineConfig {
    PipelineConfig::new().with_resource(&Resource::builder().attr("service.name", "faults").build())
}

/// A queue of so many items, whose producers wait.
pub fn blocking(items: u64) -> PipelineConfig {
    let queue = QueueConfig::new()
        .with_items_max(items)
        .with_overflow(Overflow::Block);
    config().with_queue(queue)
}
