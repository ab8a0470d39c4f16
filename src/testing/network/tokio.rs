//! A network whose time is tokio's.

use super::Network;
use crate::testing::Clock;
use crate::time::Instant;
use alloc::boxed::Box;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

/// Events of one poll.
const EVENTS_MAX: usize = 64;

impl Network {
    /// A network with nobody on it whose clock is tokio's, paused or not. It has to be [driven](Self::drive).
    ///
    /// ```
    /// use otlp_embed::testing::Network;
    /// use otlp_embed::testing::collector::Accepting;
    /// use otlp_embed::{Config, Resource, TraceBatch};
    /// use std::time::Duration;
    ///
    /// #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// async fn main() -> Result<(), otlp_embed::Error> {
    ///     let network = Network::on_tokio(7);
    ///     tokio::spawn(network.drive());
    ///     let collector = network.collector();
    ///     collector.set_accepting(Accepting::Refuse);
    ///     let exporter = Config::new()
    ///         .with_endpoint(collector.endpoint())
    ///         .with_timeout(Duration::from_secs(60))
    ///         .build(network)?;
    ///
    ///     let mut batch = TraceBatch::new(&Resource::builder().build());
    ///     batch.span([1; 16], [2; 8], "work").end();
    ///     let export = tokio::spawn(exporter.export(batch.finish()));
    ///     tokio::time::sleep(Duration::from_secs(30)).await;
    ///     collector.set_accepting(Accepting::Serve);
    ///     assert_eq!(export.await.expect("no panic")?.delivered(), 1);
    ///     Ok(())
    /// }
    /// ```
    pub fn on_tokio(seed: u64) -> Self {
        Self::on(Clock::of_tokio(), seed)
    }

    /// Moves a network [on tokio's clock](Self::on_tokio), for as long as it is polled: give it a task of its own. It never
    /// ends by itself.
    ///
    /// # Panics
    ///
    /// When it is polled, where the network is not on tokio's clock, outside of a runtime of tokio's whose time is enabled,
    /// and while another one is polled.
    ///
    /// # Cancel safety
    ///
    /// When it is dropped, the network stands still until it is driven again.
    pub fn drive(&self) -> impl Future<Output = ()> + Send + 'static {
        let network = self.clone();
        async move {
            let clock = network.clock().clone();
            let now = clock.to_tokio(clock.now());
            let now = now.expect("the network is not on tokio's clock: use `Network::on_tokio`");
            let mut sleep = Box::pin(tokio::time::sleep_until(now));
            core::future::poll_fn(move |cx| network.poll_drive(cx, sleep.as_mut())).await
        }
    }

    fn poll_drive(&self, cx: &mut Context<'_>, mut sleep: Pin<&mut tokio::time::Sleep>) -> Poll<()> {
        let clock = &self.0.clock;
        let _running = self.0.executor.enter();
        // Before looking: what is set meanwhile is looked at again.
        clock.follow(cx.waker());
        for _ in 0..EVENTS_MAX {
            let now = clock.now();
            clock.move_to(now);
            if self.step(now) {
                continue;
            }
            let Some(at) = self.next_due().and_then(|at| clock.to_tokio(at)) else {
                return Poll::Pending;
            };
            sleep.as_mut().reset(at);
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        // The other tasks are to have their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn next_due(&self) -> Option<Instant> {
        let event = self.0.lock().next_event().map(|(at, _)| at);
        event.into_iter().chain(self.0.clock.next_due()).min()
    }
}
