//! The observer behind the shells: told with no lock held, in order, and whatever it does costs nobody but itself.

#[path = "support/batches.rs"]
#[allow(dead_code, reason = "not every batch is needed here")]
mod batches;
#[path = "support/certificates.rs"]
mod certificates;

use batches::batch;
use certificates::{Authority, ServerTls};
use otlp_embed::observe::{EventKind, Transition};
use otlp_embed::policy::RetryPolicy;
use otlp_embed::testing::{Answer, Collector};
use otlp_embed::{Config, Exporter, Protocol, Tls, rt};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// Far more than anything here takes: what lasts longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs it on a thread of its own, and fails where it hangs.
fn without_hanging<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result): (_, Receiver<T>) = channel();
    let thread = std::thread::spawn(move || done.send(run()));
    match result.recv_timeout(PATIENCE) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => panic!("it hangs"),
        Err(RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(thread.join().expect_err("it panicked"))
        }
    }
}

fn config(collector: &Collector) -> Config {
    Config::new()
        .with_protocol(Protocol::Grpc)
        .with_endpoint(collector.endpoint())
        .with_retry_policy(RetryPolicy::never())
}

fn blocking(config: Config) -> Exporter<rt::Blocking> {
    config
        .build(rt::Blocking::new().expect("a reactor"))
        .expect("it works")
}

/// What an observer was told, in words and by kind.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<(EventKind, String)>>>);

impl Heard {
    fn hear(&self, event: &otlp_embed::observe::Event<'_>) {
        let mut heard = self.0.lock().expect("no panic");
        heard.push((event.kind(), event.to_string()));
    }

    fn kinds(&self) -> Vec<EventKind> {
        self.0
            .lock()
            .expect("no panic")
            .iter()
            .map(|(kind, _)| *kind)
            .collect()
    }

    fn words(&self) -> Vec<String> {
        self.0
            .lock()
            .expect("no panic")
            .iter()
            .map(|(_, words)| words.clone())
            .collect()
    }
}

/// One export that succeeds, one that fails, one that succeeds again.
fn up_down_up(exporter: &Exporter<rt::Blocking>, collector: &Collector) {
    exporter.export(batch(0, 1)).wait().expect("delivered");
    collector.answer_next(Answer::unavailable());
    exporter.export(batch(1, 2)).wait().expect_err("refused");
    exporter.export(batch(3, 3)).wait().expect("delivered");
}

const UP_DOWN_UP: [EventKind; 3] = [EventKind::Connected, EventKind::OutageBegan, EventKind::Recovered];

#[test]
fn an_observer_hears_what_happens_over_sockets() {
    let heard = without_hanging(|| {
        let collector = Collector::start().expect("a collector");
        let heard = Heard::default();
        let hears = heard.clone();
        let exporter = blocking(config(&collector).with_observer(move |event| hears.hear(&event)));
        up_down_up(&exporter, &collector);
        assert_eq!(heard.kinds(), UP_DOWN_UP);
        assert_eq!(exporter.stats().outages, 1);
        heard
    });
    let words = heard.words();
    assert!(
        words[0].ends_with(": connected, gRPC over HTTP/2, plain text"),
        "{}",
        words[0]
    );
    assert!(
        words[2].contains("1 failed attempt; lost: 2 dropped (attempts exhausted)"),
        "{}",
        words[2]
    );
}

#[test]
fn an_observer_may_use_the_exporter_that_it_hears_of() {
    without_hanging(|| {
        let collector = Collector::start().expect("a collector");
        let exporter: Arc<OnceLock<Exporter<rt::Blocking>>> = Arc::default();
        let (inner, heard) = (exporter.clone(), Heard::default());
        let (hears, depth) = (heard.clone(), AtomicUsize::new(0));
        let config = config(&collector).with_observer(move |event| {
            assert_eq!(depth.fetch_add(1, Ordering::SeqCst), 0, "one at a time");
            let exporter = inner.get().expect("built before the first event");
            assert!(exporter.stats().is_conserved());
            assert!(exporter.self_metrics().exported(otlp_embed::Signal::Traces) < 100);
            // One that is dropped, and one that is waited for.
            drop(exporter.export(batch(10, 1)));
            exporter.export(batch(11, 1)).wait().expect("delivered");
            hears.hear(&event);
            depth.fetch_sub(1, Ordering::SeqCst);
        });
        assert!(exporter.set(blocking(config)).is_ok());
        let exporter = exporter.get().expect("just set");
        up_down_up(exporter, &collector);
        assert_eq!(heard.kinds(), UP_DOWN_UP);
        let stats = exporter.stats();
        assert!(stats.is_conserved());
        assert_eq!((stats.delivered, stats.in_flight), (4 + 3, 0), "{stats:?}");
    });
}

#[test]
fn a_panic_in_an_observer_ends_with_its_call() {
    without_hanging(|| {
        let collector = Collector::start().expect("a collector");
        let heard = Heard::default();
        let hears = heard.clone();
        let exporter = blocking(config(&collector).with_observer(move |event| {
            hears.hear(&event);
            /// One that panics even when it is dropped.
            struct Worse;
            impl Drop for Worse {
                fn drop(&mut self) {
                    panic!("and once more");
                }
            }
            std::panic::panic_any(Worse);
        }));
        up_down_up(&exporter, &collector);
        assert_eq!(heard.kinds(), UP_DOWN_UP, "it is told of the next all the same");
        assert_eq!(exporter.stats().delivered, 4);
    });
}

#[test]
fn threads_are_told_of_in_order_and_one_at_a_time() {
    without_hanging(|| {
        let collector = Collector::start().expect("a collector");
        let heard = Heard::default();
        let (hears, at_once) = (heard.clone(), AtomicUsize::new(0));
        let exporter = blocking(config(&collector).with_observer(move |event| {
            assert_eq!(at_once.fetch_add(1, Ordering::SeqCst), 0, "one at a time");
            std::thread::yield_now();
            hears.hear(&event);
            at_once.fetch_sub(1, Ordering::SeqCst);
        }));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (exporter, collector) = (&exporter, &collector);
                scope.spawn(move || {
                    for number in 0..25 {
                        if number % 5 == 0 {
                            collector.answer_next(Answer::unavailable());
                        }
                        _ = exporter.export(batch(thread * 100 + number, 1)).wait();
                    }
                });
            }
        });
        let outages = exporter.stats().outages;
        assert!(outages > 0);
        exporter.shutdown(Duration::from_secs(5)).wait();
        let kinds: Vec<EventKind> = heard
            .kinds()
            .into_iter()
            .filter(|kind| *kind != EventKind::Connected)
            .collect();
        for (at, kind) in kinds.iter().enumerate() {
            let expected = [EventKind::OutageBegan, EventKind::Recovered][at % 2];
            assert_eq!(*kind, expected, "{kinds:?}");
        }
        assert!(!kinds.is_empty());
    });
}

#[test]
fn an_observer_that_never_returns_holds_up_nobody_else() {
    without_hanging(|| {
        let collector = Collector::start().expect("a collector");
        let (stop, stopped) = channel::<()>();
        let (stopped, calls) = (Mutex::new(stopped), Arc::new(AtomicUsize::new(0)));
        let counted = calls.clone();
        let exporter = blocking(config(&collector).with_observer(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            _ = stopped.lock().expect("no panic").recv();
        }));
        let held = exporter.clone();
        let thread = std::thread::spawn(move || held.export(batch(0, 1)).wait());
        // The one who is told, the first to connect, is held; everyone else goes on.
        while calls.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        for number in 1..5 {
            if number == 2 {
                collector.answer_next(Answer::unavailable());
            }
            _ = exporter.export(batch(number, 1)).wait();
        }
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        assert_eq!(exporter.stats().delivered + exporter.stats().in_flight, 4);
        drop(stop);
        thread.join().expect("no panic").expect("delivered");
        assert_eq!(
            calls.load(Ordering::SeqCst),
            3,
            "it is told what happened meanwhile"
        );
    });
}

#[test]
fn a_refused_setting_is_told_when_the_exporter_is_built() {
    let heard = Heard::default();
    let hears = heard.clone();
    let config = Config::from_vars([("OTEL_EXPORTER_OTLP_TIMEOUT", "soon")])
        .expect("it can be read")
        .with_observer(move |event| hears.hear(&event));
    let exporter = blocking(config);
    assert_eq!(heard.kinds(), [EventKind::ConfigRefused], "spec 33");
    let refused: Vec<&str> = exporter.config_report().refused().collect();
    assert_eq!(
        heard.words(),
        [format!(
            "OTLP exporter: settings were passed over: {}",
            refused[0]
        )]
    );
}

#[test]
fn a_secured_connection_is_told_with_its_versions() {
    without_hanging(|| {
        let authority = Authority::new("ours");
        let ways: [(Protocol, &[&[u8]], &str); 4] = [
            (Protocol::Grpc, &[b"h2"], "gRPC over HTTP/2, TLS 1.3 (ALPN h2)"),
            (
                Protocol::HttpProtobuf,
                &[b"h2"],
                "OTLP/HTTP over HTTP/2, TLS 1.3 (ALPN h2)",
            ),
            (
                Protocol::HttpProtobuf,
                &[b"http/1.1"],
                "OTLP/HTTP over HTTP/1.1, TLS 1.3 (ALPN http/1.1)",
            ),
            (Protocol::HttpJson, &[], "OTLP/HTTP over HTTP/1.1, TLS 1.3"),
        ];
        for (protocol, alpn, words) in ways {
            let mut server = ServerTls::new(authority.server("127.0.0.1", |_| ()));
            server.alpn = alpn.to_vec();
            let collector = Collector::builder().with_tls(server.config());
            let collector = collector.start().expect("a collector");
            let heard = Heard::default();
            let hears = heard.clone();
            let config = config(&collector)
                .with_protocol(protocol)
                .with_tls(Tls::new().with_ca_pem(&authority.pem));
            let exporter = blocking(config.with_observer(move |event| hears.hear(&event)));
            exporter.export(batch(0, 1)).wait().expect("delivered");
            let told = heard.words();
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(told[0].ends_with(words), "{told:?}");
        }
    });
}

thread_local! {
    /// Spans and events of `tracing` heard on this thread.
    static TRACED: Cell<usize> = const { Cell::new(0) };
}

/// Hears everything.
struct Listener;

impl tracing::Subscriber for Listener {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        TRACED.set(TRACED.get() + 1);
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        TRACED.set(TRACED.get() + 1);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

/// What an observer writes with `tracing` is heard, while what the libraries under the exporter write is kept away.
#[test]
fn what_an_observer_traces_is_not_kept_from_the_application() {
    without_hanging(|| {
        let collector = Collector::start().expect("a collector");
        let exporter = blocking(config(&collector).with_observer(|event| {
            tracing::warn!("{event}");
        }));
        tracing::subscriber::with_default(Listener, || {
            up_down_up(&exporter, &collector);
            assert_eq!(TRACED.get(), UP_DOWN_UP.len());
        });
    });
}

/// With a driver, with tasks, and with an observer that panics in a runtime's thread.
#[test]
fn tasks_are_told_of_by_whoever_drives() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let collector = Collector::start().expect("a collector");
        let heard = Heard::default();
        let hears = heard.clone();
        let exporter = config(&collector)
            .with_observer(move |event| {
                hears.hear(&event);
                if let Transition::OutageBegan { .. } = &event.transition {
                    panic!("an observer that cannot bear it");
                }
            })
            .build(rt::Tokio::current().expect("within a runtime"))
            .expect("it works");
        let driver = tokio::spawn(exporter.driver());
        exporter.export(batch(0, 1)).await.expect("delivered");
        collector.answer_next(Answer::unavailable());
        exporter.export(batch(1, 2)).await.expect_err("refused");
        exporter.export(batch(3, 3)).await.expect("delivered");
        let report = tokio::time::timeout(PATIENCE, exporter.shutdown(PATIENCE)).await;
        assert_eq!(report.expect("it ends").lost(), 2);
        driver.await.expect("it ends");
        assert_eq!(heard.kinds(), UP_DOWN_UP);
    });
}

#[test]
fn an_exporter_whose_observer_panics_is_none_the_worse() {
    let collector = Collector::start().expect("a collector");
    let exporter = blocking(config(&collector).with_observer(|_| panic!("no")));
    let outcome = catch_unwind(AssertUnwindSafe(|| exporter.export(batch(0, 1)).wait()));
    assert!(outcome.expect("no panic comes through").is_ok());
}
