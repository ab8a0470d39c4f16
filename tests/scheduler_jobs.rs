//! Jobs of a scheduler: how many at a time, how they end, and what is counted, over several executors.

#[path = "support/batches.rs"]
#[allow(dead_code)]
mod batches;
#[path = "support/sources.rs"]
#[allow(dead_code)]
mod sources;

use batches::batch;
use futures_executor::block_on;
use otlp_embed::pipeline::{
    JobEnd, JobItems, SchedulerConfig, SchedulerDriver, SchedulerStats, SmartScheduler,
};
use otlp_embed::policy::RetryPolicy;
use otlp_embed::testing::{Answer, Network};
use otlp_embed::{Code, Config, Protocol};
use sources::Bell;
use std::future::{pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

fn scheduler(concurrency_max: usize) -> (SmartScheduler, SchedulerDriver) {
    SmartScheduler::new(SchedulerConfig::new().with_concurrency_max(concurrency_max)).expect("it works")
}

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn quietly<T>(call: impl FnOnce() -> T) -> T {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let result = catch_unwind(AssertUnwindSafe(call));
    std::panic::set_hook(hook);
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The law.
fn check(stats: &SchedulerStats) {
    let ended = stats.completed + stats.panicked + stats.cancelled + stats.abandoned + stats.refused;
    assert_eq!(
        stats.submitted,
        ended + (stats.waiting + stats.running) as u64,
        "{stats}"
    );
}

/// Is pending so many times.
async fn yields(mut times: usize) {
    poll_fn(|cx| {
        if times == 0 {
            return Poll::Ready(());
        }
        times -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// More jobs than run at a time, of all kinds; the same on whatever polls.
async fn a_crowd(scheduler: SmartScheduler) {
    let at_a_time = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let handles: Vec<_> = (0..100_u64)
        .map(|number| {
            let at_a_time = at_a_time.clone();
            scheduler.submit_with(move |items| async move {
                let now = at_a_time[0].fetch_add(1, Ordering::SeqCst) + 1;
                at_a_time[1].fetch_max(now, Ordering::SeqCst);
                yields(number as usize % 7).await;
                items.add_done(number);
                at_a_time[0].fetch_sub(1, Ordering::SeqCst);
                number * 2
            })
        })
        .collect();
    let stats = scheduler.wait_all().await;
    check(&stats);
    assert_eq!((stats.completed, stats.items), (100, 4_950));
    assert_eq!(scheduler.task_count(), 0);
    let peak = at_a_time[1].load(Ordering::SeqCst);
    assert!((2..=8).contains(&peak), "{peak}");
    for (number, handle) in (0..).zip(handles) {
        assert_eq!(handle.report().items, number);
        assert_eq!(handle.await.ok(), Some(number * 2));
    }
}

#[test]
fn a_crowd_on_tokio() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .expect("it works");
    runtime.block_on(async {
        let (scheduler, driver) = scheduler(8);
        let driver = tokio::spawn(driver);
        a_crowd(scheduler).await;
        driver.await.expect("it ends with the last handle");
    });
}

#[test]
fn a_crowd_on_smol() {
    smol::block_on(async {
        let (scheduler, driver) = scheduler(8);
        let driver = smol::spawn(driver);
        a_crowd(scheduler).await;
        driver.await;
    });
}

#[test]
fn a_crowd_on_two_plain_threads() {
    let (scheduler, driver) = scheduler(8);
    let driver = std::thread::spawn(|| block_on(driver));
    block_on(a_crowd(scheduler));
    driver.join().expect("no panic");
}

#[test]
fn a_crowd_on_the_simulated_network() {
    let network = Network::new(5);
    let (scheduler, driver) = scheduler(8);
    let driver = network.spawn(driver);
    network.block_on(a_crowd(scheduler));
    network.block_on(driver);
}

#[test]
fn no_more_than_so_many_are_polled() {
    let (scheduler, mut driver) = scheduler(3);
    let begun = Arc::new(Mutex::new(Vec::new()));
    let handles: Vec<_> = (0..10)
        .map(|number| {
            let begun = begun.clone();
            scheduler.submit(async move {
                begun.lock().unwrap().push(number);
                pending::<()>().await;
            })
        })
        .collect();
    assert!(
        begun.lock().unwrap().is_empty(),
        "nothing before the driver is polled"
    );
    assert!(poll(&mut driver).is_pending());
    assert!(poll(&mut driver).is_pending());
    assert_eq!(*begun.lock().unwrap(), [0, 1, 2]);
    let stats = scheduler.stats();
    assert_eq!((stats.waiting, stats.running, scheduler.task_count()), (7, 3, 10));
    // One goes: the next has its turn.
    handles[1].cancel();
    assert!(poll(&mut driver).is_pending());
    assert_eq!(*begun.lock().unwrap(), [0, 1, 2, 3]);
    check(&scheduler.stats());
}

/// Panics before its first await, after it, and in its drop: that job's affair alone.
#[test]
fn a_panic_costs_the_job_alone() {
    struct PanicsInDrop(JobItems);
    impl Drop for PanicsInDrop {
        fn drop(&mut self) {
            self.0.add_failed(100);
            panic!("while it is dropped");
        }
    }
    let (scheduler, mut driver) = scheduler(2);
    let at_once = scheduler.submit_with(|items| async move {
        items.add_done(1);
        panic!("at once");
    });
    let later = scheduler.submit_with(|items| async move {
        items.add_done(2);
        yields(3).await;
        items.add_failed(5);
        panic!("after {} awaits", 3);
    });
    let in_drop = scheduler.submit_with(|items| async move {
        let _panics = PanicsInDrop(items);
        pending::<()>().await;
    });
    let well = scheduler.submit(async {
        yields(5).await;
        7
    });
    quietly(|| {
        for _ in 0..20 {
            assert!(poll(&mut driver).is_pending());
        }
        in_drop.cancel();
        assert!(poll(&mut driver).is_pending());
    });
    let stats = scheduler.stats();
    check(&stats);
    assert_eq!((stats.completed, stats.panicked, stats.running), (1, 3, 0));
    assert_eq!((stats.items, stats.items_failed), (3, 105));
    assert_eq!(scheduler.task_count(), 0);
    assert_eq!(block_on(well).ok(), Some(7));
    let report = later.report();
    assert_eq!(
        (report.end, report.items, report.items_failed),
        (Some(JobEnd::Panicked), 2, 5)
    );
    let error = block_on(later).expect_err("it panicked");
    assert_eq!(error.panic_message(), Some("after 3 awaits"));
    assert_eq!(error.to_string(), "the job panicked: after 3 awaits");
    assert_eq!(
        block_on(at_once).expect_err("it panicked").end(),
        JobEnd::Panicked
    );
    assert_eq!(
        block_on(in_drop).expect_err("it panicked").panic_message(),
        Some("while it is dropped")
    );
}

#[test]
fn a_cancelled_job_ends_where_it_stands() {
    let (scheduler, mut driver) = scheduler(1);
    let running = scheduler.submit_with(|items| async move {
        items.add_done(3);
        pending::<()>().await;
        items.add_done(1_000);
    });
    let mut waiting = scheduler.submit_with(|items| async move { items.add_done(1_000) });
    let (bell, waker) = Bell::new();
    assert!(
        Pin::new(&mut driver)
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    // One that waits is over at once.
    waiting.cancel();
    let Poll::Ready(Err(error)) = poll(&mut waiting) else {
        panic!("it has ended");
    };
    assert_eq!(error.end(), JobEnd::Cancelled);
    assert_eq!(scheduler.task_count(), 1);
    // One that runs when the driver comes, who is woken for it.
    let rung = bell.rung();
    running.cancel();
    running.cancel();
    assert!(!running.is_finished());
    assert_eq!(bell.rung(), rung + 1);
    assert!(poll(&mut driver).is_pending());
    let report = running.report();
    assert_eq!((report.end, report.items), (Some(JobEnd::Cancelled), 3));
    let stats = scheduler.stats();
    check(&stats);
    assert_eq!((stats.cancelled, stats.items), (2, 3));
    // Over is over.
    running.cancel();
    assert_eq!(scheduler.stats(), stats);
}

#[test]
fn dropping_the_handle_lets_the_job_run_on() {
    let (scheduler, driver) = scheduler(1);
    drop(scheduler.submit_with(|items| async move {
        yields(3).await;
        items.add_done(9);
    }));
    let mut all = scheduler.wait_all();
    let watched = scheduler.clone();
    drop(scheduler);
    let driver = std::thread::spawn(|| block_on(driver));
    assert_eq!(block_on(&mut all).items, 9);
    drop(watched);
    driver.join().expect("no panic");
}

#[test]
fn a_driver_that_is_dropped_leaves_no_one_waiting() {
    for polls in 0..4 {
        let (scheduler, mut driver) = scheduler(2);
        let mut handles: Vec<_> = (0..5_u64)
            .map(|number| {
                scheduler.submit_with(move |items| async move {
                    items.add_done(number);
                    pending::<()>().await;
                })
            })
            .collect();
        let (bell, waker) = Bell::new();
        let mut cx = Context::from_waker(&waker);
        let mut all = scheduler.wait_all();
        assert!(Pin::new(&mut all).poll(&mut cx).is_pending());
        for handle in &mut handles {
            assert!(Pin::new(handle).poll(&mut cx).is_pending());
        }
        for _ in 0..polls {
            assert!(poll(&mut driver).is_pending());
        }
        drop(driver);
        assert_eq!(bell.rung(), 6, "everybody was woken, once");
        let Poll::Ready(stats) = Pin::new(&mut all).poll(&mut cx) else {
            panic!("it hangs");
        };
        check(&stats);
        assert_eq!(
            (stats.abandoned, stats.items),
            (5, if polls == 0 { 0 } else { 1 })
        );
        for handle in handles {
            assert_eq!(block_on(handle).expect_err("abandoned").end(), JobEnd::Abandoned);
        }
        // And whoever comes later.
        let late = scheduler.submit(async {});
        assert_eq!(block_on(late).expect_err("refused").end(), JobEnd::Refused);
        assert_eq!(scheduler.task_count(), 0);
        check(&scheduler.stats());
    }
}

#[test]
fn jobs_beyond_the_bound_are_refused() {
    let config = SchedulerConfig::new().with_concurrency_max(1).with_waiting_max(2);
    let (scheduler, mut driver) = SmartScheduler::new(config).expect("it works");
    let kept = [scheduler.submit(ready(1)), scheduler.submit(ready(2))];
    let refused = scheduler.submit(ready(3));
    assert_eq!(scheduler.task_count(), 2);
    let error = block_on(refused).expect_err("too many");
    assert_eq!(error.end(), JobEnd::Refused);
    assert!(error.to_string().contains("with_waiting_max"), "{error}");
    assert!(poll(&mut driver).is_pending());
    for (number, job) in (1..).zip(kept) {
        assert_eq!(block_on(job).ok(), Some(number));
    }
    let stats = scheduler.stats();
    check(&stats);
    assert_eq!((stats.completed, stats.refused), (2, 1));
}

/// A driver that is busy does not come by for them.
#[test]
fn cancelled_jobs_leave_their_places_to_others() {
    let config = SchedulerConfig::new().with_concurrency_max(1).with_waiting_max(3);
    let (scheduler, mut driver) = SmartScheduler::new(config).expect("it works");
    let busy = scheduler.submit(pending::<()>());
    assert!(poll(&mut driver).is_pending());
    let first = scheduler.submit(ready(0));
    for round in 0..10 {
        let given_up = [scheduler.submit(ready(1)), scheduler.submit(ready(2))];
        given_up.iter().for_each(|job| job.cancel());
        assert!(given_up.iter().all(|job| job.is_finished()), "round {round}");
        assert_eq!(scheduler.stats().refused, 0, "round {round}");
    }
    let kept = [scheduler.submit(ready(1)), scheduler.submit(ready(2))];
    assert_eq!(scheduler.task_count(), 4);
    let refused = block_on(scheduler.submit(ready(3))).expect_err("three wait");
    assert_eq!(refused.end(), JobEnd::Refused);
    busy.cancel();
    assert!(poll(&mut driver).is_pending());
    for (number, job) in (0..).zip([first].into_iter().chain(kept)) {
        assert_eq!(block_on(job).ok(), Some(number));
    }
    let stats = scheduler.stats();
    check(&stats);
    assert_eq!((stats.completed, stats.cancelled, stats.refused), (3, 21, 1));
}

/// A job that submits jobs, from within the driver.
#[test]
fn jobs_submit_jobs() {
    let (scheduler, mut driver) = scheduler(2);
    let inner = scheduler.clone();
    let outer = scheduler.submit(async move {
        let inner = inner.submit(async { 5 });
        inner.await.expect("it has its turn") + 1
    });
    for _ in 0..3 {
        assert!(poll(&mut driver).is_pending());
    }
    assert_eq!(block_on(outer).ok(), Some(6));
}

#[test]
fn exports_as_jobs_count_their_items_however_they_end() {
    let network = Network::new(3);
    let collector = network.collector();
    collector.answer_with(|request| match request.items {
        2 => Answer::status(Code::INVALID_ARGUMENT, "no"),
        3 => Answer::PartialSuccess {
            rejected: 1,
            message: "one".into(),
        },
        10.. => Answer::Never,
        _ => Answer::Ok,
    });
    let exporter = Config::new()
        .with_protocol(Protocol::Grpc)
        .with_endpoint(collector.endpoint())
        .with_retry_policy(RetryPolicy::never())
        .build(network.clone())
        .expect("it works");
    let (scheduler, driver) = scheduler(4);
    let driver = network.spawn(driver);
    network.block_on(async {
        let jobs = [1, 2, 3, 4].map(|items| scheduler.submit_export(&exporter, batch(items * 100, items)));
        let [one, two, three, four] = jobs;
        assert_eq!(one.await.expect("no panic").expect("delivered").delivered(), 1);
        let report = (
            two.await.expect("no panic").is_err(),
            three.await.expect("no panic").is_ok(),
        );
        assert_eq!(report, (true, true));
        four.await.expect("no panic").expect("delivered");
        assert_eq!((scheduler.stats().items, scheduler.stats().items_failed), (7, 3));

        let hangs = scheduler.submit_export(&exporter, batch(0, 10));
        network.clock().sleep(Duration::from_secs(1)).await;
        hangs.cancel();
        let stats = scheduler.wait_all().await;
        check(&stats);
        assert_eq!((stats.items, stats.items_failed, stats.cancelled), (7, 13, 1));
        assert_eq!(hangs.report().items_failed, 10);
        // The exporter tells the same items apart.
        let account = exporter.stats();
        assert!(account.is_conserved());
        assert_eq!((account.accepted, account.in_flight), (20, 0));
    });
    drop(scheduler);
    network.block_on(driver);
}

/// Threads that submit, cancel and look, while the driver works on another.
#[test]
fn the_law_holds_under_threads() {
    let (scheduler, driver) = scheduler(4);
    let driver = std::thread::spawn(|| block_on(driver));
    let threads: Vec<_> = (0..4)
        .map(|thread: usize| {
            let scheduler = scheduler.clone();
            std::thread::spawn(move || {
                for number in 0..300 {
                    let job = scheduler.submit_with(|items| async move {
                        items.add_done(1);
                        yields(number % 5).await;
                    });
                    if (number + thread) % 3 == 0 {
                        job.cancel();
                    }
                    check(&scheduler.stats());
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
    let stats = block_on(scheduler.wait_all());
    check(&stats);
    assert_eq!((stats.submitted, stats.waiting, stats.running), (1_200, 0, 0));
    assert_eq!(stats.completed + stats.cancelled, 1_200);
    assert!(stats.items >= stats.completed);
    drop(scheduler);
    driver.join().expect("no panic");
}

#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    for (config, name) in [
        (
            SchedulerConfig::new().with_concurrency_max(0),
            "with_concurrency_max",
        ),
        (SchedulerConfig::new().with_waiting_max(0), "with_waiting_max"),
    ] {
        let error = SmartScheduler::new(config).map(drop).expect_err("it is refused");
        assert!(error.is_misuse() && error.to_string().contains(name), "{error}");
    }
}
