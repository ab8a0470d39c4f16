//! Threads without an executor share one exporter: each ends at its own deadline, and they proceed together.

#![allow(clippy::disallowed_methods, reason = "what is measured is time")]

#[path = "support/batches.rs"]
#[allow(dead_code, reason = "not every batch is needed here")]
mod batches;

use batches::batch;
use otlp_embed::rt::Blocking;
use otlp_embed::testing::{Answer, Collector};
use otlp_embed::{Config, Exporter, Request, Signal};
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

fn exporter(collector: &Collector) -> Exporter<Blocking> {
    let config = Config::new()
        .with_protocol(otlp_embed::Protocol::Grpc)
        .with_endpoint(collector.endpoint());
    config
        .build(Blocking::new().expect("a reactor"))
        .expect("the configuration works")
}

/// How much later than its deadline each of the threads ended, in parts of the deadline.
fn overruns(deadlines: [Duration; 4]) -> [f64; 4] {
    let collector = Collector::builder()
        .answer(Answer::Never)
        .start()
        .expect("a collector");
    let exporter = exporter(&collector);
    let barrier = Barrier::new(4);
    let overrun = |(number, deadline): (usize, Duration)| {
        let request = batch(number as u64 * 10, 10).with_timeout(deadline);
        barrier.wait();
        let start = Instant::now();
        let error = exporter.export(request).wait().expect_err("nobody answers");
        let elapsed = start.elapsed();
        assert!(error.is_timeout(), "{error}");
        assert!(
            elapsed >= deadline,
            "{elapsed:?} is before the deadline of {deadline:?}"
        );
        (elapsed - deadline).as_secs_f64() / deadline.as_secs_f64()
    };
    let mut results = [0.0; 4];
    std::thread::scope(|scope| {
        let overrun = &overrun;
        let threads: Vec<_> = deadlines
            .into_iter()
            .enumerate()
            .map(|job| scope.spawn(move || overrun(job)))
            .collect();
        for (result, thread) in results.iter_mut().zip(threads) {
            *result = thread.join().expect("no thread panics");
        }
    });
    assert!(exporter.stats().is_conserved());
    assert_eq!(exporter.stats().in_flight, 0);
    results
}

/// On a machine whose cores are taken, a thread may be late through no fault of its own; it is not late every time.
#[test]
fn each_thread_ends_within_a_tenth_of_its_own_deadline() {
    let deadlines = [100, 400, 900, 5_000].map(Duration::from_millis);
    let mut tries = Vec::new();
    for _ in 0..4 {
        let overruns = overruns(deadlines);
        if overruns.iter().all(|overrun| *overrun <= 0.1) {
            return;
        }
        tries.push(overruns);
    }
    panic!("some thread was more than a tenth late each time: {tries:?}");
}

/// Four calls are with the collector before any of them is answered.
#[test]
fn four_threads_proceed_concurrently() {
    let collector = Collector::start().expect("a collector");
    collector.answer(Answer::Ok.after(Duration::from_millis(300)));
    let exporter = exporter(&collector);
    let ends = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (exporter, ends, collector) = (&exporter, &ends, &collector);
            scope.spawn(move || {
                exporter.export(batch(number * 10, 10)).wait().expect("delivered");
                ends.lock()
                    .expect("no thread panics")
                    .push(collector.counters().requests);
            });
        }
    });
    let ends = ends.into_inner().expect("no thread panics");
    assert_eq!(ends, [4; 4], "when the first ended, all four had been received");
    assert_eq!(collector.counters().connections, 1);
}

/// Many short exports from many threads: nobody is left behind when the leader leaves.
#[test]
fn leaders_hand_over() {
    let collector = Collector::start().expect("a collector");
    let exporter = exporter(&collector);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let exporter = &exporter;
            scope.spawn(move || {
                for round in 0..50 {
                    let outcome = exporter
                        .export(batch(thread * 1_000 + round, 1))
                        .wait()
                        .expect("delivered");
                    assert_eq!(outcome.delivered(), 1);
                }
            });
        }
    });
    assert_eq!(exporter.stats().delivered, 400);
    assert_eq!(collector.counters().spans, 400);
}

/// A driver on a thread of its own moves the exports of the others, and ends with the last exporter.
#[test]
fn a_driver_runs_on_a_thread_of_its_own() {
    let collector = Collector::start().expect("a collector");
    let exporter = exporter(&collector);
    let driver = exporter.driver();
    let thread = std::thread::spawn(move || driver.wait());
    for round in 0..20 {
        exporter.export(batch(round, 1)).wait().expect("delivered");
    }
    drop(exporter);
    thread.join().expect("the driver ends");
}

/// A socket is closed when its exporter is dropped, also while another exporter's thread waits for it in `poll(2)`.
#[test]
fn a_dropped_exporter_closes_its_socket() {
    let runtime = Blocking::new().expect("a reactor");
    let build = |endpoint: String| {
        let config = Config::new()
            .with_protocol(otlp_embed::Protocol::Grpc)
            .with_endpoint(endpoint);
        config.build(runtime.clone()).expect("the configuration works")
    };
    let waiting = build("http://127.0.0.1:1".into());
    let driver = waiting.driver();
    let thread = std::thread::spawn(move || driver.wait());

    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let exporter = build(format!("http://{}", listener.local_addr().expect("it is bound")));
    let request = batch(0, 1).with_timeout(Duration::from_millis(200));
    assert!(exporter.export(request).wait().is_err(), "nobody answers");
    let (mut peer, _) = listener.accept().expect("it has connected");
    drop(exporter);
    peer.set_read_timeout(Some(Duration::from_secs(5)))
        .expect("a socket");
    std::io::copy(&mut peer, &mut std::io::sink()).expect("the end of the connection");

    drop(waiting);
    thread.join().expect("the driver ends");
}

/// A resolver that hangs takes a bounded number of threads along, however many exports ask.
#[test]
fn hanging_lookups_are_bounded() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = Mutex::new(held);
    let config = Config::new()
        .with_protocol(otlp_embed::Protocol::Grpc)
        .with_endpoint("http://collector.invalid")
        .with_resolver(move |_| {
            CALLS.fetch_add(1, Ordering::SeqCst);
            // Until the test is over.
            let _ = held.lock().map(|held| held.recv());
            Err(std::io::ErrorKind::TimedOut.into())
        });
    let exporter = config
        .build(Blocking::new().expect("a reactor"))
        .expect("the configuration works");
    for round in 0..12 {
        let request = batch(round, 1).with_timeout(Duration::from_millis(20));
        exporter.export(request).wait().expect_err("no address came");
    }
    assert!(
        (1..=4).contains(&CALLS.load(Ordering::SeqCst)),
        "{CALLS:?} lookups"
    );
    let error = exporter.stats().last_error.expect("there was one");
    assert!(error.contains("earlier lookups have not ended"), "{error}");
    drop(release);
}

/// The lookups of one destination are counted apart from those of another.
#[test]
fn a_name_that_hangs_keeps_no_other_from_its_lookup() {
    let collector = Collector::start().expect("a collector");
    let address = collector.addr();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = Mutex::new(held);
    let config = Config::new()
        .with_protocol(otlp_embed::Protocol::Grpc)
        .with_endpoint("http://collector.invalid")
        .for_signal(Signal::Metrics, |metrics| {
            metrics.with_endpoint("http://hanging.invalid")
        })
        .with_resolver(move |name| {
            if &*name.host == "hanging.invalid" {
                // Until the test is over.
                let _ = held.lock().map(|held| held.recv());
            }
            Ok(vec![address])
        });
    let exporter = config
        .build(Blocking::new().expect("a reactor"))
        .expect("the configuration works");
    for _ in 0..8 {
        let bytes = bytes::Bytes::from_static(b"metrics");
        let request = Request::from_segments(Signal::Metrics, 1, vec![bytes]);
        let request = request.with_timeout(Duration::from_millis(20));
        exporter.export(request).wait().expect_err("no address came");
    }
    let error = exporter.stats().last_error.expect("there was one");
    assert!(error.contains("earlier lookups have not ended"), "{error}");
    exporter.export(batch(0, 1)).wait().expect("delivered");
    assert_eq!(exporter.stats().delivered, 1);
    drop(release);
}

/// Between exports, only a driver hears that the collector wants to end the connection.
#[test]
fn a_driver_closes_a_connection_that_drains_while_idle() {
    let collector = Collector::start().expect("a collector");
    let exporter = exporter(&collector);
    let driver = exporter.driver();
    let thread = std::thread::spawn(move || driver.wait());
    exporter.export(batch(0, 1)).wait().expect("delivered");
    assert_eq!(collector.open_connections(), 1);
    collector.drain_connections();
    let start = Instant::now();
    while collector.open_connections() > 0 {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "the driver does not hear the GOAWAY"
        );
        std::thread::yield_now();
    }
    exporter
        .export(batch(1, 1))
        .wait()
        .expect("delivered on a new connection");
    assert_eq!(exporter.stats().connections, 2);
    drop(exporter);
    thread.join().expect("the driver ends");
}
