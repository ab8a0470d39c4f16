//! The simulated network, as the test of a program that exports uses it.

#[path = "support/batches.rs"]
#[allow(dead_code)]
mod batches;

use batches::{batch, batch_with};
use otlp_embed::policy::RetryPolicy;
use otlp_embed::testing::collector::Accepting;
use otlp_embed::testing::{Answer, Collector, Link, Network, SimulatedCollector};
use otlp_embed::{Code, Config, Exporter, Protocol};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

fn exporter(network: &Network, collector: &SimulatedCollector) -> Exporter<Network> {
    of(network, collector, Config::new().with_protocol(Protocol::Grpc))
}

fn of(network: &Network, collector: &SimulatedCollector, config: Config) -> Exporter<Network> {
    let config = config.with_endpoint(collector.endpoint());
    config.build(network.clone()).expect("it works")
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// What a call that must panic says.
fn panic_of<T>(call: impl FnOnce() -> T) -> String {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let result = catch_unwind(AssertUnwindSafe(call));
    std::panic::set_hook(hook);
    let panic = result.err().expect("it panics");
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .expect("a text")
}

#[test]
fn every_protocol_is_spoken() {
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf, Protocol::HttpJson] {
        let network = Network::new(1);
        let collector = network.collector();
        let exporter = of(&network, &collector, Config::new().with_protocol(protocol));
        let outcome = network.block_on(exporter.export(batch(0, 5))).expect("delivered");
        assert_eq!(outcome.delivered(), 5, "{protocol:?}");
        assert_eq!(collector.counters().spans_accepted, 5, "{protocol:?}");
    }
}

/// A connect takes a round trip, an export another.
#[test]
fn latency_is_what_the_line_says() {
    let network = Network::new(1);
    let collector = network.collector();
    collector.set_link(Link::new().with_latency(Duration::from_millis(50)));
    let exporter = of(
        &network,
        &collector,
        Config::new().with_protocol(Protocol::HttpProtobuf),
    );
    let begin = network.clock().now();
    network.block_on(exporter.export(batch(0, 1))).expect("delivered");
    assert_eq!(network.clock().now() - begin, Duration::from_millis(200));
    network.block_on(exporter.export(batch(1, 1))).expect("delivered");
    assert_eq!(network.clock().now() - begin, Duration::from_millis(300));
}

#[test]
fn bandwidth_is_what_the_line_says() {
    static PAYLOAD: [u8; 1_000_000] = [b'x'; 1_000_000];
    let network = Network::new(1);
    let collector = network.collector();
    collector.set_link(Link::new().with_bandwidth(500_000).with_buffer(10_000));
    let exporter = exporter(&network, &collector);
    let payload = core::str::from_utf8(&PAYLOAD).expect("ASCII");
    let begin = network.clock().now();
    let outcome = network.block_on(exporter.export(batch_with(0, 1, payload)));
    assert_eq!(outcome.expect("delivered").delivered(), 1);
    let took = network.clock().now() - begin;
    assert!((secs(2)..secs(4)).contains(&took), "{took:?}");
}

#[test]
fn pieces_of_any_size_and_jitter_change_nothing() {
    for seed in 0..50 {
        let network = Network::new(seed);
        let collector = network.collector();
        let jitter = Duration::from_millis(5);
        collector.set_link(Link::new().with_chunks(1 + seed as usize).with_jitter(jitter));
        let exporter = exporter(&network, &collector);
        let outcome = network
            .block_on(exporter.export(batch(0, 20)))
            .expect("delivered");
        assert_eq!((outcome.delivered(), outcome.attempts()), (20, 1), "seed {seed}");
    }
}

#[test]
fn an_outage_passes_in_no_time() {
    let network = Network::new(3);
    let collector = network.collector();
    let exporter = of(
        &network,
        &collector,
        Config::new().with_protocol(Protocol::Grpc).with_timeout(secs(60)),
    );
    collector.set_accepting(Accepting::Refuse);
    let outcome = network.block_on(async {
        let export = network.spawn(exporter.export(batch(0, 7)));
        network.clock().sleep(secs(30)).await;
        assert!(!export.is_finished());
        collector.set_accepting(Accepting::Serve);
        export.await
    });
    assert_eq!(outcome.expect("delivered").delivered(), 7);
    assert_eq!(collector.counters().spans, 7);
}

/// Spec 49: nothing comes back, nobody says why, and the deadline holds.
#[test]
fn a_partition_ends_in_the_deadline_and_heals_by_itself() {
    let network = Network::new(3);
    let collector = network.collector();
    let exporter = exporter(&network, &collector);
    network.block_on(async {
        exporter.export(batch(0, 1)).await.expect("delivered");
        collector.partition();
        let begin = network.clock().now();
        let error = exporter.export(batch(1, 1)).await.expect_err("cut off");
        assert!(error.is_timeout(), "{error}");
        assert_eq!(network.clock().now() - begin, secs(10));
        collector.repair();
        exporter.export(batch(2, 1)).await.expect("delivered");
    });
    assert!(exporter.stats().is_conserved());
}

/// What is sent during a short one gets through after it, on the connection that was open all the time.
#[test]
fn a_short_partition_costs_time_alone() {
    let network = Network::new(3);
    let collector = network.collector();
    let exporter = exporter(&network, &collector);
    let outcome = network.block_on(async {
        exporter.export(batch(0, 1)).await.expect("delivered");
        collector.partition();
        let export = network.spawn(exporter.export(batch(1, 1)));
        network.clock().sleep(secs(5)).await;
        assert_eq!(collector.counters().spans, 1);
        collector.repair();
        export.await
    });
    let outcome = outcome.expect("delivered");
    assert_eq!((outcome.delivered(), outcome.attempts()), (1, 1));
    assert_eq!(collector.counters().connections, 1);
}

/// Spec 50: a connection that the collector has forgotten is replaced.
#[test]
fn a_half_open_connection_is_replaced() {
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let network = Network::new(4);
        let collector = network.collector();
        let exporter = of(&network, &collector, Config::new().with_protocol(protocol));
        network.block_on(async {
            exporter.export(batch(0, 1)).await.expect("delivered");
            collector.forget_connections();
            assert_eq!(collector.open_connections(), 0);
            let outcome = exporter.export(batch(1, 1)).await.expect("delivered");
            assert_eq!(outcome.delivered(), 1, "{protocol:?}");
        });
        assert_eq!(collector.counters().connections, 2, "{protocol:?}");
        assert_eq!(collector.counters().spans, 2, "{protocol:?}");
    }
}

#[test]
fn a_paused_collector_takes_up_where_it_was() {
    let network = Network::new(4);
    let collector = network.collector();
    let exporter = exporter(&network, &collector);
    network.block_on(async {
        collector.pause();
        let export = network.spawn(exporter.export(batch(0, 3)));
        network.clock().sleep(secs(9)).await;
        assert_eq!((collector.counters().spans, export.is_finished()), (0, false));
        collector.resume();
        assert_eq!(export.await.expect("delivered").delivered(), 3);
    });
    assert_eq!(collector.counters().connections, 1);
}

#[test]
fn half_of_the_connections_can_be_killed() {
    let network = Network::new(4);
    let collector = network.collector();
    collector.answer(Answer::Ok.after(secs(1)));
    let config = Config::new()
        .with_protocol(Protocol::HttpProtobuf)
        .with_http1_connections(8);
    let exporter = of(&network, &collector, config);
    network.block_on(async {
        let exports: Vec<_> = (0..8)
            .map(|id| network.spawn(exporter.export(batch(id, 1))))
            .collect();
        collector.received(|counters| counters.requests == 8).await;
        assert_eq!(collector.open_connections(), 8);
        assert_eq!(collector.kill_share(0.5), 4);
        assert_eq!(collector.open_connections(), 4);
        for export in exports {
            assert_eq!(export.await.expect("delivered").delivered(), 1);
        }
    });
    assert_eq!(collector.counters().requests, 12, "spec 25: four were sent twice");
    assert_eq!(exporter.stats().possible_duplicates, 4);
}

#[test]
fn resets_of_the_line_are_survived() {
    let mut resets = 0;
    for seed in 0..30 {
        let network = Network::new(seed);
        let collector = network.collector();
        collector.set_link(Link::new().with_resets(0.05).with_chunks(400));
        let exporter = of(
            &network,
            &collector,
            Config::new().with_protocol(Protocol::Grpc).with_timeout(secs(60)),
        );
        let outcome = network.block_on(exporter.export(batch(0, 10)));
        assert_eq!(outcome.expect("delivered").delivered(), 10, "seed {seed}");
        assert!(exporter.stats().is_conserved());
        resets += collector.counters().connections - 1;
    }
    assert!(resets > 20, "{resets}");
}

#[test]
fn a_drain_costs_nothing() {
    let network = Network::new(4);
    let collector = network.collector();
    let exporter = exporter(&network, &collector);
    network.block_on(async {
        for id in 0..10 {
            assert_eq!(
                exporter.export(batch(id, 1)).await.expect("spec 47").attempts(),
                1
            );
            collector.drain_connections();
        }
    });
    assert_eq!(collector.counters().spans, 10);
    assert!(collector.counters().connections > 1);
}

/// The choice of an answer is outside of every lock.
#[test]
fn the_choice_of_an_answer_may_do_anything() {
    let network = Network::new(4);
    let collector = network.collector();
    let exporter = exporter(&network, &collector);
    let (all, clock) = (collector.clone(), network.clock().clone());
    let inner = network.clone();
    collector.answer_with(move |request| {
        assert!(clock.now().as_nanos() > 0 && !inner.trace().is_empty());
        match request.index {
            0 => _ = all.kill_connections(),
            1 => all.forget_connections(),
            2 => all.drain_connections(),
            3 => {
                all.set_accepting(Accepting::Refuse);
                all.set_accepting(Accepting::Serve);
            }
            4 => all.clear(),
            _ => {}
        }
        Answer::Ok
    });
    network.block_on(async {
        for id in 0..6 {
            let verdict = exporter.export(batch(id, 1)).await;
            // The first is killed, and forgotten when it comes again: nothing tells its exporter before its deadline.
            assert_eq!(verdict.is_ok(), id != 0, "{id}: {verdict:?}");
        }
    });
}

#[test]
fn names_are_those_of_the_network() {
    let network = Network::new(5);
    let collector = network.listen(([10, 1, 2, 3], 4318), Collector::builder());
    let exporter = |url: &str| {
        Config::new()
            .with_endpoint(url)
            .with_retry_policy(RetryPolicy::never())
            .build(network.clone())
            .expect("it works")
    };
    let lost = network.block_on(exporter("http://otlp.example:4318").export(batch(0, 1)));
    let error = lost.expect_err("nobody has that name").to_string();
    assert!(error.contains("knows no `otlp.example`"), "{error}");
    network.set_name("otlp.example", [collector.addr().ip()]);
    network
        .block_on(exporter("http://otlp.example:4318").export(batch(0, 1)))
        .expect("delivered");
    let nobody = network.block_on(exporter("http://10.9.9.9:4318").export(batch(0, 1)));
    let error = nobody.expect_err("nobody is there").to_string();
    assert!(error.contains("nobody listens there"), "{error}");
}

#[test]
fn a_deadlock_is_a_panic_that_says_so() {
    let network = Network::new(5);
    let text = panic_of(|| network.block_on(std::future::pending::<()>()));
    assert!(
        text.starts_with("deadlock at 1.000000000s: the future and 0 other"),
        "{text}"
    );
    let task = network.spawn(std::future::pending::<()>());
    let text = panic_of(|| network.block_on(task));
    assert!(text.contains("1 other tasks wait"), "{text}");
    // And the network goes on.
    network.block_on(network.clock().sleep(secs(1)));
    network.abort_tasks();
}

#[test]
fn a_task_that_spins_is_a_panic_that_says_so() {
    let network = Network::new(5);
    let spin = std::future::poll_fn(|cx| {
        cx.waker().wake_by_ref();
        std::task::Poll::<()>::Pending
    });
    let text = panic_of(|| network.block_on(spin));
    assert!(text.contains("wakes itself again and again"), "{text}");
}

#[test]
fn panics_come_out_and_leave_the_network_usable() {
    let network = Network::new(5);
    let text = panic_of(|| network.block_on(async { network.block_on(async {}) }));
    assert!(text.contains("one `block_on` at a time"), "{text}");
    let lost = network.spawn(async { panic!("a task of the test") });
    let text = panic_of(|| network.block_on(std::future::pending::<()>()));
    assert_eq!(text, "a task of the test");
    let text = panic_of(|| network.block_on(lost));
    assert!(text.contains("dropped before its end"), "{text}");
    assert_eq!(network.block_on(network.spawn(async { 7 })), 7);
}

/// A future of one thread, which borrows, is as good as any.
#[test]
fn the_future_of_block_on_is_of_any_kind() {
    let network = Network::new(5);
    let count = Rc::new(Cell::new(0));
    network.block_on(async {
        for _ in 0..3 {
            network.clock().sleep(secs(1)).await;
            count.set(count.get() + 1);
        }
    });
    assert_eq!(count.get(), 3);
}

#[test]
fn time_is_what_one_waits_for() {
    let network = Network::new(5);
    let clock = network.clock();
    let begin = clock.now();
    network.run_for(secs(100));
    assert_eq!(clock.now() - begin, secs(100));
    let order = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    for wait in [3, 1, 2] {
        let (clock, order) = (clock.clone(), order.clone());
        network.spawn(async move {
            clock.sleep(secs(wait)).await;
            order.lock().unwrap().push((wait, clock.now() - begin));
        });
    }
    network.run_for(secs(2));
    assert_eq!(*order.lock().unwrap(), [(1, secs(101)), (2, secs(102))]);
    // A jump: what is due is late.
    clock.advance(secs(10));
    network.run_for(Duration::ZERO);
    assert_eq!(order.lock().unwrap()[2], (3, secs(112)));
    let late = network.block_on(clock.timeout(secs(5), std::future::pending::<()>()));
    assert_eq!(
        late.unwrap_err().to_string(),
        "not ready within 5s of virtual time"
    );
    assert_eq!(network.block_on(clock.timeout(secs(5), async { 1 })), Ok(1));
}

/// A run with everything that is left to chance.
fn run(seed: u64) -> (Vec<String>, otlp_embed::Stats, Vec<(u64, bool)>) {
    let network = Network::new(seed);
    let collector = network.collector();
    let link = Link::new()
        .with_jitter(Duration::from_millis(3))
        .with_chunks(500)
        .with_resets(0.005);
    collector.set_link(link);
    collector.answer_with(|request| match request.index % 4 {
        0 => Answer::unavailable(),
        1 => Answer::status(Code::INTERNAL, "no"),
        _ => Answer::Ok,
    });
    let exporter = exporter(&network, &collector);
    let order = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let tasks: Vec<_> = (0..20)
        .map(|id| {
            let (exporter, order) = (exporter.clone(), order.clone());
            network.spawn(async move {
                let is_ok = exporter.export(batch(id * 10, 10)).await.is_ok();
                order.lock().unwrap().push((id, is_ok));
            })
        })
        .collect();
    network.block_on(async {
        for task in tasks {
            task.await;
        }
    });
    let trace = network.trace().iter().map(ToString::to_string).collect();
    let order = order.lock().unwrap().clone();
    (trace, exporter.stats(), order)
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let mut orders = std::collections::BTreeSet::new();
    for seed in 0..10 {
        let first = run(seed);
        assert!(first.0.len() > 50, "{}", first.0.len());
        assert_eq!(first, run(seed), "seed {seed}");
        orders.insert(first.2);
    }
    assert!(orders.len() > 5, "other seeds give other runs: {orders:?}");
}

/// Whatever is dropped at whatever poll, the rest goes on and ends.
#[test]
fn dropping_anything_at_any_time_hangs_nothing() {
    for micros in (0..8_000).step_by(250) {
        let network = Network::new(micros);
        let collector = network.collector();
        collector.answer(Answer::Ok.after(Duration::from_millis(3)));
        let exporter = exporter(&network, &collector);
        let driver = network.spawn(exporter.driver());
        network.block_on(async {
            let lost = exporter.export(batch(0, 5));
            let kept = network.spawn(exporter.export(batch(5, 5)));
            let limit = Duration::from_micros(micros);
            let lost = network.clock().timeout(limit, lost).await;
            let kept = kept.await.expect("delivered");
            assert_eq!(kept.delivered(), 5, "{lost:?} after {limit:?}");
            let report = exporter.shutdown(secs(1)).await;
            assert!(report.stats.is_conserved() && report.stats.in_flight == 0);
        });
        // The driver ended with the exporter, and a network without handles is no matter either.
        network.block_on(driver);
        drop(collector);
        drop(exporter);
        network.run_for(secs(10));
    }
}

/// The network may go before its exporters, and tasks may be aborted under their feet.
#[test]
fn what_is_left_over_is_dropped_in_any_order() {
    let network = Network::new(1);
    let collector = network.collector();
    let exporter = exporter(&network, &collector);
    let mut export = Box::pin(exporter.export(batch(0, 1)));
    let network_2 = network.clone();
    network.spawn(async move {
        network_2.clock().sleep(secs(1)).await;
        network_2.abort_tasks();
    });
    network.spawn(exporter.driver());
    network.run_for(secs(2));
    assert!(panic_of(|| network.block_on(std::future::pending::<()>())).starts_with("deadlock"));
    assert_eq!(network.block_on(&mut export).expect("delivered").delivered(), 1);
    drop(network);
    drop(exporter);
    drop(collector);
}

#[test]
fn everything_is_send() {
    fn is_send<T: Send>(_: &T) {}
    let network = Network::new(1);
    let collector = network.collector();
    let exporter = exporter(&network, &collector);
    is_send(&network);
    is_send(&collector);
    is_send(&exporter);
    is_send(&exporter.export(batch(0, 1)));
    is_send(&exporter.driver());
    is_send(&exporter.shutdown(secs(1)));
    is_send(&network.clock().timeout(secs(1), async {}));
    is_send(&collector.received(|_| true));
}

/// Under tokio's paused clock an hour of retries takes no time, and tokio's own timers go along.
#[test]
fn tokio_s_paused_clock_is_followed() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let network = Network::on_tokio(7);
        tokio::spawn(network.drive());
        let collector = network.collector();
        let config = Config::new()
            .with_protocol(Protocol::Grpc)
            .with_timeout(secs(7_200));
        let exporter = of(&network, &collector, config);
        collector.set_accepting(Accepting::Refuse);
        let begin = tokio::time::Instant::now();
        let export = tokio::spawn(exporter.export(batch(0, 7)));
        tokio::time::sleep(secs(3_600)).await;
        assert!(!export.is_finished());
        collector.set_accepting(Accepting::Serve);
        assert_eq!(export.await.expect("no panic").expect("delivered").delivered(), 7);
        let took = begin.elapsed();
        assert!(took < secs(3_700), "{took:?}");
        // Its own clock is tokio's.
        network.clock().sleep(secs(10)).await;
        let more = begin.elapsed() - took;
        assert!(
            (secs(10)..secs(10) + Duration::from_millis(2)).contains(&more),
            "{more:?}"
        );
        tokio::time::advance(secs(5)).await;
        // A deadline is a deadline.
        collector.answer(Answer::Never);
        let begin = tokio::time::Instant::now();
        let error = exporter
            .export(batch(7, 1).with_timeout(secs(3)))
            .await
            .expect_err("late");
        assert!(error.is_timeout(), "{error}");
        assert!(begin.elapsed() < secs(4), "{:?}", begin.elapsed());
        assert!(exporter.stats().is_conserved());
    });
}

#[test]
fn a_network_has_one_clock() {
    let network = Network::on_tokio(7);
    let text = panic_of(|| network.block_on(async {}));
    assert!(text.contains("is on tokio's clock"), "{text}");
    let text = panic_of(|| network.clock().advance(secs(1)));
    assert!(text.contains("tokio::time::advance"), "{text}");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let network = Network::new(7);
    let text = panic_of(|| runtime.expect("a runtime").block_on(network.drive()));
    assert!(text.contains("use `Network::on_tokio`"), "{text}");
}
