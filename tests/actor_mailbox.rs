//! An actor on the simulated network: its mailbox, its answers, its account, its ends.

#[path = "support/batches.rs"]
#[allow(dead_code)]
mod batches;
#[path = "support/sources.rs"]
#[allow(dead_code)]
mod sources;

use batches::{batch, batch_with};
use otlp_embed::pipeline::{ActorConfig, ActorStats, ExporterActor, ExporterHandle};
use otlp_embed::policy::RetryPolicy;
use otlp_embed::testing::{Answer, Network, SimulatedCollector};
use otlp_embed::{Code, Config, DropReason, Error, Exporter, Outcome, Protocol};
use sources::Bell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

struct World {
    network: Network,
    collector: SimulatedCollector,
    exporter: Exporter<Network>,
}

impl World {
    fn new() -> Self {
        let network = Network::new(1);
        let collector = network.collector();
        let exporter = Config::new()
            .with_protocol(Protocol::Grpc)
            .with_endpoint(collector.endpoint())
            .with_retry_policy(RetryPolicy::never())
            .build(network.clone())
            .expect("it works");
        Self {
            network,
            collector,
            exporter,
        }
    }

    fn actor(&self, config: ActorConfig) -> (ExporterHandle, ExporterActor<Network>) {
        ExporterActor::new(&self.exporter, config).expect("it works")
    }
}

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn check(stats: &ActorStats) {
    assert_eq!(stats.export_count, stats.latency.count, "{stats:?}");
    assert_eq!((stats.queued, stats.in_flight), (0, 0), "{stats:?}");
}

fn delivered(outcome: Result<Outcome, Error>) -> u64 {
    outcome.expect("delivered").delivered()
}

#[test]
fn every_export_has_its_own_answer() {
    let world = World::new();
    world.collector.answer_with(|request| match request.items {
        3 => Answer::status(Code::INVALID_ARGUMENT, "not three"),
        4 => Answer::PartialSuccess {
            rejected: 1,
            message: "one too many".into(),
        },
        _ => Answer::Ok.after(20 * MILLI),
    });
    let (handle, actor) = world.actor(ActorConfig::new());
    let actor = world.network.spawn(actor.run());
    world.network.block_on(async {
        let exports: Vec<_> = (1..=5)
            .map(|items| {
                let handle = handle.clone();
                world
                    .network
                    .spawn(async move { handle.export(batch(items * 10, items)).await })
            })
            .collect();
        let mut answers = Vec::new();
        for export in exports {
            answers.push(export.await);
        }
        let counts: Vec<_> = answers
            .iter()
            .map(|answer| answer.as_ref().map_or(0, Outcome::delivered))
            .collect();
        assert_eq!(counts, [1, 2, 0, 3, 5]);
        assert_eq!(
            answers[2].as_ref().expect_err("refused").grpc_status(),
            Some(Code::INVALID_ARGUMENT)
        );
    });
    let stats = handle.stats();
    check(&stats);
    assert_eq!(
        (stats.messages_processed, stats.export_count, stats.error_count),
        (5, 5, 1)
    );
    assert_eq!((stats.items_exported, stats.items_failed), (11, 4));
    drop(handle);
    assert_eq!(
        world.network.block_on(actor),
        stats,
        "it ends with its last handle"
    );
}

/// Many exports at a time, over one connection.
#[test]
fn exports_overlap() {
    let world = World::new();
    world.collector.answer(Answer::Ok.after(100 * MILLI));
    let (handle, actor) = world.actor(ActorConfig::new().with_concurrency_max(16));
    let actor = world.network.spawn(actor.run());
    let begin = world.network.clock().now();
    let answers: Vec<_> = (0..64)
        .map(|id| handle.try_export(batch(id, 1)).expect("room"))
        .collect();
    world.network.block_on(async {
        for answer in answers {
            assert_eq!(delivered(answer.await), 1);
        }
    });
    let took = world.network.clock().now() - begin;
    assert!(
        (400 * MILLI..450 * MILLI).contains(&took),
        "four rounds of sixteen: {took:?}"
    );
    assert_eq!(world.collector.connections().len(), 1);
    // The time in the mailbox is no latency.
    assert!(handle.stats().latency.max < 150 * MILLI, "{}", handle.stats());
    drop(handle);
    world.network.block_on(actor);
}

#[test]
fn the_mailbox_holds_what_it_says_and_no_more() {
    let world = World::new();
    let (handle, mut actor) = world.actor(ActorConfig::new().with_mailbox(3).with_concurrency_max(2));
    for _ in 0..3 {
        drop(handle.try_export(batch(0, 1)).expect("room"));
    }
    let refused = handle.try_export(batch(7, 2)).err().expect("full");
    assert!(refused.is_full() && !refused.is_closed());
    assert_eq!(refused.into_request().expect("it comes back").items(), 2);
    assert_eq!(handle.stats().queued, 3);

    // Those who wait come in order, and nobody overtakes.
    let (bell, waker) = Bell::new();
    let (mut first, mut second) = (handle.export(batch(10, 1)), handle.export(batch(20, 1)));
    assert!(
        Pin::new(&mut first)
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    assert!(poll(&mut second).is_pending());
    // Two go on their way: there is room for two.
    assert!(poll(&mut actor).is_pending());
    assert_eq!((handle.stats().queued, handle.stats().in_flight), (1, 2));
    assert_eq!(bell.rung(), 1);
    assert!(
        handle
            .try_export(batch(30, 1))
            .err()
            .expect("others wait")
            .is_full()
    );
    assert!(poll(&mut first).is_pending());
    assert!(poll(&mut second).is_pending());
    assert_eq!(handle.stats().queued, 3);

    let actor = world.network.spawn(actor);
    world.network.block_on(async {
        assert_eq!((delivered(first.await), delivered(second.await)), (1, 1));
        let stats = handle.shutdown(SECOND).await;
        check(&stats);
        assert_eq!((stats.export_count, stats.answers_dropped), (5, 3));
        assert_eq!(actor.await, stats);
    });
}

/// A waker that looks at the account when it is woken.
struct Looks(ExporterHandle, std::sync::Mutex<Vec<ActorStats>>);

impl std::task::Wake for Looks {
    fn wake(self: std::sync::Arc<Self>) {
        let stats = self.0.stats();
        self.1.lock().unwrap().push(stats);
    }
}

/// Whoever waits for room is woken when a message leaves the mailbox: also then it is somewhere.
#[test]
fn a_message_on_its_way_is_in_the_account() {
    let world = World::new();
    let (handle, mut actor) = world.actor(ActorConfig::new().with_mailbox(2));
    let looks = std::sync::Arc::new(Looks(handle.clone(), std::sync::Mutex::default()));
    let waker = Waker::from(looks.clone());
    drop(handle.try_export(batch(0, 1)).expect("room"));
    let mut flush = handle.flush();
    assert!(poll(&mut flush).is_pending());
    let mut waiting = handle.export(batch(10, 1));
    assert!(
        Pin::new(&mut waiting)
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    assert!(poll(&mut actor).is_pending());
    let seen = looks.1.lock().unwrap().clone();
    assert_eq!(seen.len(), 1, "woken once");
    let sum = |stats: &ActorStats| stats.messages_processed + (stats.in_flight + stats.queued) as u64;
    assert_eq!(sum(&seen[0]), 2, "{:?}", seen[0]);
    drop((flush, waiting));
    let actor = world.network.spawn(actor);
    let stats = world.network.block_on(async {
        handle.shutdown(SECOND).await;
        actor.await
    });
    check(&stats);
    assert_eq!((stats.messages_processed, stats.export_count), (2, 1));
}

/// What the actor has in flight is no reason to refuse what was sent next: that waits for the room.
#[test]
fn exports_wait_for_room_under_the_memory_limit() {
    const LIMIT: usize = 1 << 20;
    let network = Network::new(1);
    let collector = network.collector();
    collector.answer_with(|_| Answer::Ok.after(20 * MILLI));
    let exporter = Config::new()
        .with_protocol(Protocol::Grpc)
        .with_endpoint(collector.endpoint())
        .with_memory_limit(LIMIT)
        .build(network.clone())
        .expect("it works");
    let (handle, actor) = ExporterActor::new(&exporter, ActorConfig::new()).expect("it works");
    let actor = network.spawn(actor.run());
    let payload: &str = "x".repeat(LIMIT / 8).leak();
    network.block_on(async {
        let answers: Vec<_> = (0..40)
            .map(|number| {
                handle
                    .try_export(batch_with(number * 10, 1, payload))
                    .expect("room")
            })
            .collect();
        handle.flush().await.expect("it runs");
        for answer in answers {
            assert_eq!(delivered(answer.await), 1);
        }
        drop(handle);
        let stats = actor.await;
        check(&stats);
        assert_eq!(
            (stats.export_count, stats.error_count, stats.items_exported),
            (40, 0, 40)
        );
    });
    // One that waits when the time of a shutdown is over has its answer, too.
    collector.pause();
    let (handle, actor) = ExporterActor::new(&exporter, ActorConfig::new()).expect("it works");
    let actor = network.spawn(actor.run());
    network.block_on(async {
        let answers: Vec<_> = (0..12)
            .map(|number| handle.try_export(batch_with(number, 1, payload)).expect("room"))
            .collect();
        network.clock().sleep(SECOND).await;
        handle.shutdown(SECOND).await;
        for answer in answers {
            assert!(answer.await.is_err());
        }
        let stats = actor.await;
        assert_eq!((stats.queued, stats.in_flight), (0, 0), "{stats:?}");
        assert_eq!(
            (stats.export_count, stats.error_count, stats.items_failed),
            (12, 12, 12)
        );
    });
    let stats = exporter.stats();
    assert!(stats.is_conserved() && stats.in_flight == 0, "{stats:?}");
}

#[test]
fn a_request_larger_than_the_mailbox_is_refused() {
    static LARGE: &str = match core::str::from_utf8(&[b'x'; 4_000]) {
        Ok(text) => text,
        Err(_) => panic!(),
    };
    let world = World::new();
    let (handle, _actor) = world.actor(ActorConfig::new().with_mailbox_bytes_max(1_000));
    let error = handle
        .try_export(batch_with(0, 1, LARGE))
        .err()
        .expect("too large");
    assert!(error.is_too_large() && error.to_string().contains("with_mailbox_bytes_max"));
    let Poll::Ready(Err(error)) = poll(&mut handle.export(batch_with(0, 1, LARGE))) else {
        panic!("it would wait for ever");
    };
    assert!(error.is_too_large(), "{error}");
}

#[test]
fn a_flush_waits_for_what_was_sent_before_it() {
    let world = World::new();
    world
        .collector
        .answer_with(|request| Answer::Ok.after(request.items as u32 * 100 * MILLI));
    let (handle, actor) = world.actor(ActorConfig::new());
    world.network.spawn(actor.run());
    world.network.block_on(async {
        let begin = world.network.clock().now();
        drop(handle.try_export(batch(0, 3)).expect("room"));
        drop(handle.try_export(batch(10, 1)).expect("room"));
        let mut flush = handle.flush();
        assert!(poll(&mut flush).is_pending());
        drop(handle.try_export(batch(20, 9)).expect("room"));
        flush.await.expect("flushed");
        let took = world.network.clock().now() - begin;
        assert!((300 * MILLI..400 * MILLI).contains(&took), "{took:?}");
        assert_eq!(handle.stats().messages_processed, 3);
        // And with nothing before it, for nothing.
        handle.flush().await.expect("flushed");
    });
}

#[test]
fn a_shutdown_gives_what_was_sent_its_time() {
    let world = World::new();
    world.collector.answer_with(|request| match request.items {
        1 => Answer::Ok.after(500 * MILLI),
        _ => Answer::Never,
    });
    let (handle, actor) = world.actor(ActorConfig::new().with_concurrency_max(2));
    let actor = world.network.spawn(actor.run());
    world.network.block_on(async {
        let begin = world.network.clock().now();
        let answers = [1, 2, 3, 4].map(|items| handle.try_export(batch(items * 10, items)).expect("room"));
        world.network.clock().sleep(MILLI).await;
        let (first, second) = (handle.shutdown(2 * SECOND), handle.shutdown(9 * SECOND));
        assert!(handle.is_closed());
        assert!(
            handle
                .export(batch(0, 1))
                .await
                .expect_err("closed")
                .is_shutdown()
        );
        assert!(handle.try_export(batch(0, 1)).err().expect("closed").is_closed());
        assert!(handle.flush().await.expect_err("closed").is_shutdown());
        let stats = first.await;
        assert_eq!(
            world.network.clock().now() - begin,
            2 * SECOND + MILLI,
            "the earlier end counts"
        );
        check_ended(&stats);
        assert_eq!(second.await, stats);
        assert_eq!(actor.await, stats);
        assert_eq!(handle.shutdown(SECOND).await, stats, "again, after the end");
        let [one, two, three, four] = answers;
        assert_eq!(delivered(one.await), 1);
        // In flight: cancelled, and it had been sent whole.
        let error = two.await.expect_err("cancelled");
        assert_eq!(
            (error.is_cancelled(), error.counts().unknown),
            (true, 2),
            "{error}"
        );
        let error = three.await.expect_err("cancelled");
        assert!(error.is_cancelled(), "{error}");
        // Never begun.
        let error = four.await.expect_err("given up");
        assert_eq!(
            (error.counts().dropped, error.drop_reason()),
            (4, Some(DropReason::Shutdown))
        );
    });
    fn check_ended(stats: &ActorStats) {
        assert_eq!((stats.export_count, stats.error_count), (4, 3), "{stats:?}");
        assert_eq!((stats.items_exported, stats.items_failed), (1, 9));
        assert_eq!((stats.queued, stats.in_flight), (0, 0));
    }
    let outcome = world.network.block_on(world.exporter.export(batch(90, 1)));
    assert_eq!(delivered(outcome), 1, "the exporter goes on");
}

/// Whoever waits, for whatever, and whoever comes later: an error at once.
#[test]
fn a_dead_actor_is_an_error_and_no_hang() {
    let world = World::new();
    world.collector.answer(Answer::Never);
    let (handle, mut actor) = world.actor(ActorConfig::new().with_mailbox(2).with_concurrency_max(1));
    let mut in_flight = handle.try_export(batch(0, 1)).expect("room");
    assert!(poll(&mut actor).is_pending());
    let mut queued = handle.try_export(batch(1, 2)).expect("room");
    let mut flush = handle.flush();
    assert!(poll(&mut flush).is_pending());
    let mut waits = handle.export(batch(2, 4));
    let (bell, waker) = Bell::new();
    for answer in [&mut in_flight, &mut queued, &mut waits] {
        assert!(
            Pin::new(answer)
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
    }
    drop(actor);
    assert!(bell.rung() >= 3, "each of them was woken: {}", bell.rung());
    for (answer, is_cancelled) in [(&mut in_flight, true), (&mut queued, false), (&mut waits, false)] {
        let Poll::Ready(Err(error)) = poll(answer) else {
            panic!("it hangs");
        };
        assert_eq!(
            (error.is_cancelled(), error.is_shutdown()),
            (is_cancelled, !is_cancelled),
            "{error}"
        );
    }
    assert!(matches!(poll(&mut flush), Poll::Ready(Err(_))));
    assert!(matches!(
        poll(&mut handle.export(batch(3, 1))),
        Poll::Ready(Err(_))
    ));
    assert!(matches!(poll(&mut handle.flush()), Poll::Ready(Err(_))));
    assert!(poll(&mut handle.shutdown(SECOND)).is_ready());
    let error = handle
        .export_blocking(batch(3, 1), 60 * SECOND)
        .expect_err("it is dead");
    assert!(
        error.is_shutdown() && error.to_string().contains("make a new one"),
        "{error}"
    );
    let stats = handle.stats();
    assert_eq!(
        (stats.export_count, stats.error_count, stats.items_failed),
        (2, 2, 3),
        "{stats}"
    );
    assert_eq!((stats.queued, stats.in_flight), (0, 0));
    assert!(world.exporter.stats().is_conserved());
}

/// A caller that gives up: before its request was taken nothing happened, after that it is exported and counted.
#[test]
fn a_caller_may_give_up_at_every_await() {
    let mut given_up = [0, 0];
    for polls in 0..12 {
        let world = World::new();
        world.collector.answer(Answer::Ok.after(3 * MILLI));
        let (handle, actor) = world.actor(ActorConfig::new().with_mailbox(1).with_concurrency_max(1));
        world.network.spawn(actor.run());
        let mut answer = Some(handle.export(batch(0, 5)));
        // Something before it, so that it waits for room too.
        drop(handle.try_export(batch(100, 1)).expect("room"));
        let mut left = polls;
        world.network.block_on(poll_fn(|cx| {
            if left == 0 {
                answer = None;
                return Poll::Ready(());
            }
            left -= 1;
            cx.waker().wake_by_ref();
            match Pin::new(answer.as_mut().expect("it is there")).poll(cx) {
                Poll::Ready(outcome) => {
                    assert_eq!(delivered(outcome), 5);
                    Poll::Ready(())
                }
                Poll::Pending => Poll::Pending,
            }
        }));
        drop(answer);
        let stats = world.network.block_on(handle.shutdown(SECOND));
        check(&stats);
        match stats.export_count {
            1 => given_up[0] += 1,
            _ => given_up[1] += 1,
        }
        assert_eq!(
            stats.items_exported,
            1 + 5 * (stats.export_count - 1),
            "{stats:?}"
        );
        assert_eq!(stats.items_failed, 0);
        assert_eq!(stats.items_exported, world.collector.counters().spans_accepted);
    }
    assert!(given_up.iter().all(|count| *count > 0), "{given_up:?}");
}

/// The actor dropped after each of its polls.
#[test]
fn an_actor_may_be_dropped_at_every_await() {
    let mut polls = 0;
    loop {
        polls += 1;
        let world = World::new();
        world.collector.answer(Answer::Ok.after(5 * MILLI));
        let (handle, actor) = world.actor(ActorConfig::new().with_mailbox(4).with_concurrency_max(2));
        let callers: Vec<_> = (0..10)
            .map(|id| {
                let handle = handle.clone();
                world
                    .network
                    .spawn(async move { handle.export(batch(id * 10, 3)).await })
            })
            .collect();
        let mut actor = Some(actor);
        let mut left = polls;
        let watched = handle.clone();
        drop(handle);
        let is_over = world.network.block_on_checked(
            poll_fn(|cx| {
                let polled = Pin::new(actor.as_mut().expect("it is there")).poll(cx).is_ready();
                left -= 1;
                match polled {
                    true => Poll::Ready(true),
                    // The last handle is ours: they are all served.
                    false if watched.stats().export_count == 10 => Poll::Ready(true),
                    false if left == 0 => {
                        actor = None;
                        Poll::Ready(false)
                    }
                    false => Poll::Pending,
                }
            }),
            || assert!(world.exporter.stats().is_conserved()),
        );
        drop(actor);
        let mut ended = [0, 0];
        world.network.block_on(async {
            for caller in callers {
                match caller.await {
                    Ok(outcome) => ended[0] += outcome.delivered(),
                    Err(error) => {
                        assert!(error.is_shutdown() || error.is_cancelled(), "{error}");
                        ended[1] += 1;
                    }
                }
            }
        });
        let stats = watched.stats();
        assert_eq!((stats.queued, stats.in_flight), (0, 0));
        assert_eq!(stats.items_exported, ended[0]);
        assert!(
            stats.error_count <= ended[1],
            "those who waited for room were not taken"
        );
        assert_eq!(world.exporter.stats().delivered, ended[0]);
        if is_over {
            assert_eq!(ended, [30, 0]);
            break;
        }
    }
    assert!(polls > 5, "{polls}");
}

#[test]
fn an_idle_actor_is_not_polled() {
    let world = World::new();
    let (handle, mut actor) = world.actor(ActorConfig::new());
    let mut polls = 0;
    let mut task = pin!(poll_fn(|cx| {
        polls += 1;
        Pin::new(&mut actor).poll(cx).map(drop)
    }));
    world.network.block_on(async {
        let mut hour = world.network.clock().sleep(3_600 * SECOND);
        poll_fn(|cx| {
            assert!(task.as_mut().poll(cx).is_pending());
            Pin::new(&mut hour).poll(cx)
        })
        .await;
    });
    drop(handle);
    assert!(polls <= 3, "{polls} polls in an hour without a message");
}

#[test]
fn the_end_of_the_exporter_reaches_every_caller() {
    let world = World::new();
    world.collector.answer(Answer::Never);
    let (handle, actor) = world.actor(ActorConfig::new());
    world.network.spawn(actor.run());
    let answer = handle.try_export(batch(0, 1)).expect("room");
    world.network.block_on(async {
        world.network.clock().sleep(SECOND).await;
        world.exporter.shutdown(SECOND).await;
        answer.await.expect_err("shut down");
        assert!(
            handle
                .export(batch(1, 1))
                .await
                .expect_err("shut down")
                .is_shutdown()
        );
    });
    assert_eq!(handle.stats().error_count, 2);
}

#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    let world = World::new();
    for (config, name) in [
        (ActorConfig::new().with_mailbox(0), "with_mailbox"),
        (
            ActorConfig::new().with_mailbox_bytes_max(0),
            "with_mailbox_bytes_max",
        ),
        (ActorConfig::new().with_concurrency_max(0), "with_concurrency_max"),
    ] {
        let error = ExporterActor::new(&world.exporter, config)
            .map(drop)
            .expect_err("it is refused");
        assert!(error.is_misuse() && error.to_string().contains(name), "{error}");
    }
}
