//! An application that listens to everything and exports it neither deadlocks nor feeds itself.

#[path = "support/batches.rs"]
#[allow(dead_code, reason = "not every batch is needed here")]
mod batches;

use core::cell::Cell;
use core::future::Future;
use core::pin::pin;
use otlp_embed::Config;
use otlp_embed::rt::FuturesIo;
use otlp_embed::testing::Collector;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

thread_local! {
    /// Spans and events heard on this thread.
    static HEARD: Cell<usize> = const { Cell::new(0) };
}

struct Listener;

impl Listener {
    fn hear(&self) {
        HEARD.set(HEARD.get() + 1);
    }
}

impl Subscriber for Listener {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        self.hear();
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        self.hear();
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// It would export them, and wait for the lock under which they were heard.
#[test]
fn a_runtimes_spans_are_not_heard_under_the_lock() {
    let collector = Collector::start().expect("a collector");
    let runtime = FuturesIo::new(
        |address| {
            tracing::trace!("as async-io does with its feature `tracing`");
            Box::pin(async move {
                tracing::trace!("connecting");
                async_std::net::TcpStream::connect(address).await
            })
        },
        |duration| Box::pin(async_std::task::sleep(duration)),
    );
    let config = Config::new()
        .with_protocol(otlp_embed::Protocol::Grpc)
        .with_endpoint(collector.endpoint());
    let exporter = config.build(runtime).expect("the configuration works");
    tracing::subscriber::with_default(Listener, || {
        tracing::trace!("an application's own");
        assert_eq!(HEARD.get(), 1);
        let mut export = pin!(exporter.export(batches::batch(0, 5)));
        let verdict = async_std::task::block_on(core::future::poll_fn(|cx| {
            let before = HEARD.get();
            let verdict = export.as_mut().poll(cx);
            assert_eq!(HEARD.get(), before, "the runtime's are kept away");
            tracing::trace!("an application's own");
            assert_eq!(HEARD.get(), before + 1);
            verdict
        }));
        assert_eq!(verdict.expect("delivered").delivered(), 5);
    });
}
