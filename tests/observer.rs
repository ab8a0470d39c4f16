//! What the exporter tells about itself, and when: on a virtual clock, against a scripted collector.

#[path = "support/world.rs"]
mod world;

use otlp_embed::encode::Signal;
use otlp_embed::export::Fact;
use otlp_embed::observe::{Budget, Event, EventKind, Level, Transition};
use otlp_embed::policy::RetryPolicy;
use otlp_embed::testing::{Command, Scripted};
use otlp_embed::time::{DeadlineReason, Instant};
use otlp_embed::{Code, Config, DropReason};
use std::time::Duration;
use world::{Dial, World, config, ms, request, request_of};

const ENDPOINT: &str = "http://127.0.0.1:4317";

/// A world whose engine tells what happens.
fn world(config: Config) -> World {
    let mut world = World::new(config);
    world.engine.observe(true);
    world
}

/// No second attempt, so that each export shows one failure.
fn once() -> Config {
    config().with_retry_policy(RetryPolicy::never())
}

fn events(world: &mut World) -> Vec<Event<'static>> {
    std::iter::from_fn(|| world.engine.poll_event()).collect()
}

fn kinds(world: &mut World) -> Vec<EventKind> {
    events(world).iter().map(Event::kind).collect()
}

/// The only event that waits.
fn event(world: &mut World) -> Event<'static> {
    let mut events = events(world);
    assert_eq!(events.len(), 1, "{events:?}");
    events.remove(0)
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Exports over a connection that is open, and has the collector answer.
fn answered(world: &mut World, wire: usize, call: u16, answer: Command) {
    let id = world.submit(request(3));
    world.say(wire, answer);
    world.outcome(id).expect("delivered");
    assert_eq!(world.frames(wire).len(), usize::from(call) + 1);
}

#[test]
fn a_connection_is_told_when_it_takes_its_first_call() {
    let mut world = world(config().with_header("scripted-limit", "0"));
    world.submit(request(1));
    assert_eq!(events(&mut world), [], "its handshake is not done");
    world.say(0, Command::Limit(10));
    let event = event(&mut world);
    assert_eq!(event.endpoint.as_deref(), Some(ENDPOINT));
    assert_eq!(event.level(), Level::Info);
    assert_eq!(
        event.to_string(),
        format!("OTLP export to {ENDPOINT}: connected, gRPC, plain text")
    );
    assert_eq!((event.at, event.kept_back), (world.now, 0));
}

#[test]
fn an_outage_is_told_once_and_its_end_with_what_was_lost() {
    let mut world = world(config().with_timeout(secs(2)));
    world.dial = Dial::Refuse;
    let began = world.now;
    for _ in 0..4 {
        world.submit(request(30));
    }
    let told = event(&mut world);
    let Transition::OutageBegan { failure, lasting, .. } = &told.transition else {
        panic!("{told:?}")
    };
    assert_eq!(
        failure, "connect to 127.0.0.1:4317: connection refused; check that a collector listens there",
        "spec 13"
    );
    assert_eq!((*lasting, told.level()), (Duration::ZERO, Level::Warn));
    world.advance(secs(20));
    assert_eq!(world.stats().outage_since, Some(began));
    assert_eq!(world.outcomes.len(), 4, "all are given up");
    assert_eq!(events(&mut world), [], "the rest is the same outage");
    let failed = world.stats().retries;

    world.dial = Dial::Accept;
    let id = world.submit(request(5));
    assert_eq!(kinds(&mut world), [EventKind::Connected], "it may not work yet");
    world.advance(ms(500));
    world.say(world.wires.len() - 1, Command::ok(0));
    world.outcome(id).expect("delivered");
    let told = event(&mut world);
    let Transition::Recovered {
        outage,
        since,
        attempts,
        lost,
        ..
    } = &told.transition
    else {
        panic!("{told:?}")
    };
    assert_eq!((*outage, *since), (world.now - began, Duration::ZERO));
    assert!(*attempts >= failed + 4, "{attempts} for {failed} retries");
    assert_eq!(lost.total(), 120, "spec 10: {lost:?}");
    assert_eq!(lost.dropped_for(DropReason::Deadline), 120);
    assert_eq!(lost.dropped, world.stats().dropped);
    assert!(
        told.to_string().contains("lost: 120 dropped (deadline)"),
        "{told}"
    );
    assert_eq!((world.stats().outages, world.stats().outage_since), (1, None));
    world.advance(secs(300));
    assert_eq!(events(&mut world), [], "nothing is left to tell");
}

#[test]
fn an_outage_in_which_nothing_was_lost_says_so() {
    let mut world = world(config());
    world.dial = Dial::Refuse;
    let id = world.submit(request(3));
    world.advance(ms(150));
    world.dial = Dial::Accept;
    while world.live_wires() == 0 {
        world.advance(ms(50));
    }
    world.say(world.wires.len() - 1, Command::ok(0));
    world.outcome(id).expect("delivered");
    let told = events(&mut world);
    let kinds: Vec<EventKind> = told.iter().map(Event::kind).collect();
    assert_eq!(
        kinds,
        [EventKind::OutageBegan, EventKind::Connected, EventKind::Recovered]
    );
    assert!(told[2].to_string().ends_with("; nothing was lost"), "{}", told[2]);
}

#[test]
fn failures_of_every_sort_begin_an_outage_and_resends_do_not() {
    type Fail = fn(&mut World);
    let fails: [(&str, Fail); 5] = [
        ("the collector answered UNAVAILABLE", |world| {
            world.say(0, Command::status(0, Code::UNAVAILABLE));
        }),
        ("the peer reset the call", |world| {
            let is_retryable = true;
            world.say(
                0,
                Command::Reset {
                    call: 0,
                    is_retryable,
                },
            );
        }),
        ("no verdict within 10 s", |world| world.advance(secs(10))),
        ("the stream was refused", |world| {
            let is_retryable = false;
            world.say(
                0,
                Command::Refuse {
                    call: 0,
                    is_retryable,
                },
            );
        }),
        ("connection reset", |world| {
            let id = world.ids[0];
            world.fact(Fact::Failed(id, "connection reset"));
        }),
    ];
    for (words, fail) in fails {
        let mut world = world(once());
        world.submit(request(1));
        assert_eq!(kinds(&mut world), [EventKind::Connected]);
        fail(&mut world);
        let told = event(&mut world);
        assert_eq!(told.kind(), EventKind::OutageBegan, "{told}");
        println!("{words}: {told}");
    }
    let mut world = world(config());
    world.submit(request(1));
    let is_retryable = true;
    world.say(
        0,
        Command::Refuse {
            call: 0,
            is_retryable,
        },
    );
    assert_eq!(kinds(&mut world), [EventKind::Connected], "it was resent at once");
    world.fact(Fact::Shutdown);
    assert_eq!(kinds(&mut world), [], "nor is a shutdown an outage");
}

#[test]
fn a_cancelled_export_is_no_outage() {
    let mut world = world(config());
    let id = world.submit(request(1));
    world.fact(Fact::Cancel(id));
    assert_eq!(kinds(&mut world), [EventKind::Connected]);
    assert_eq!(world.stats().outages, 0);
}

#[test]
fn what_the_collector_rejects_is_told_with_its_words_and_how_much_was_kept_back() {
    let mut world = world(config());
    for call in 0..5 {
        let id = world.submit(request(10));
        world.say(
            0,
            Command::Answer {
                call,
                code: 0,
                rejected: 4,
                retry_after_ms: 0,
            },
        );
        world.outcome(id).expect("in part");
    }
    let told = events(&mut world);
    let rejected: Vec<&Event<'_>> = told
        .iter()
        .filter(|event| event.kind() == EventKind::Rejected)
        .collect();
    assert_eq!(rejected.len(), 1, "spec 12: {told:?}");
    assert_eq!((rejected[0].kept_back, rejected[0].kept_back_items), (0, 0));
    world.advance(secs(60));
    let id = world.submit(request(7));
    world.say(0, Command::status(5, Code::INVALID_ARGUMENT));
    world.error(id);
    let told = event(&mut world);
    assert_eq!((told.kept_back, told.kept_back_items), (4, 16));
    let Transition::Rejected {
        signal,
        items,
        message,
        ..
    } = &told.transition
    else {
        panic!("{told:?}")
    };
    assert_eq!((*signal, *items), (Signal::Traces, 7), "spec 14");
    assert!(message.contains("INVALID_ARGUMENT"), "{message}");
    assert_eq!(world.stats().outages, 0, "the endpoint works");
}

#[test]
fn the_end_of_the_memory_limit_is_told() {
    let mut world = world(config().with_memory_limit(20));
    world.takes = false;
    for _ in 0..10 {
        world.submit(request_of(Signal::Logs, 6));
    }
    let told = events(&mut world);
    assert_eq!(told.len(), 2, "and the connection: {told:?}");
    let told = &told[1];
    let Transition::BudgetReached {
        budget,
        signal,
        items,
        reason,
        bytes,
        bytes_max,
        ..
    } = told.transition
    else {
        panic!("{told:?}")
    };
    assert_eq!((budget, signal, items), (Budget::Memory, Signal::Logs, 6));
    assert_eq!(
        (reason, bytes, bytes_max, told.endpoint.as_deref()),
        (DropReason::MemoryLimit, 16, 20, None)
    );
    world.advance(ms(59_999));
    world.submit(request(1));
    assert!(!kinds(&mut world).contains(&EventKind::MemoryLimitReached));
}

#[test]
fn a_pause_that_the_collector_asks_for_is_no_outage() {
    let mut world = world(config());
    let id = world.submit(request(3));
    let throttled = |call| Command::Answer {
        call,
        code: 8,
        rejected: 0,
        retry_after_ms: 2_500,
    };
    world.say(0, throttled(0));
    let told = events(&mut world);
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(
        told[1].to_string(),
        format!(
            "OTLP export to {ENDPOINT}: the collector asks to wait 2 s before more spans; give it more capacity, or send less"
        ),
        "spec 18"
    );
    world.advance(secs(3));
    world.say(0, Command::ok(1));
    world.outcome(id).expect("delivered");
    assert_eq!(events(&mut world), []);
    assert_eq!(world.stats().outages, 0);
}

#[test]
fn what_became_of_the_configuration_is_told_when_the_engine_is_made() {
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "ten"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "brotli"),
    ];
    let config = Config::from_vars(variables)
        .expect("they can be read")
        .with_keepalive(otlp_embed::Keepalive::new(ms(100)));
    let report = config.report();
    assert_eq!(
        (report.refused().count(), report.warnings().count() > 0),
        (2, true)
    );
    let mut world = World::new(config.clone());
    assert_eq!(events(&mut world), [], "nobody listens");
    let mut world = World::new(config.with_observer(|_| ()));
    let told = events(&mut world);
    let (
        Transition::ConfigRefused {
            settings: refused, ..
        },
        Transition::ConfigWarned { settings: warned, .. },
    ) = (&told[0].transition, &told[1].transition)
    else {
        panic!("{told:?}")
    };
    assert!(refused.iter().eq(report.refused()), "spec 33");
    assert!(warned.iter().eq(report.warnings()));
    assert!(
        told[0].to_string().contains("OTEL_EXPORTER_OTLP_TIMEOUT"),
        "{}",
        told[0]
    );
}

/// Ten outages a minute of a second each for ten minutes: one pair a minute is told, in turns, and nothing is lost from sight.
#[test]
fn an_endpoint_that_flaps_is_told_of_in_one_pair_a_minute() {
    let mut world = world(once());
    let mut told = Vec::new();
    answered(&mut world, 0, 0, Command::ok(0));
    let mut call = 1;
    let mut lost = 0;
    for round in 0..100_u64 {
        let id = world.submit(request(round + 1));
        world.say(0, Command::status(call, Code::UNAVAILABLE));
        lost += world.error(id).counts().dropped;
        world.advance(secs(1));
        told.extend(events(&mut world));
        answered(&mut world, 0, call + 1, Command::ok(call + 1));
        world.advance(secs(5));
        told.extend(events(&mut world));
        call += 2;
    }
    world.advance(secs(120));
    told.extend(events(&mut world));
    assert_eq!(world.engine.poll_timeout(), None, "nothing is left to tell");
    let pairs: Vec<&Event<'_>> = told
        .iter()
        .filter(|event| event.kind() != EventKind::Connected)
        .collect();
    for (at, event) in pairs.iter().enumerate() {
        let kind = [EventKind::OutageBegan, EventKind::Recovered][at % 2];
        assert_eq!(event.kind(), kind, "{at}: {pairs:?}");
    }
    for kind in [EventKind::OutageBegan, EventKind::Recovered] {
        let of_kind: Vec<&&Event<'_>> = pairs.iter().filter(|event| event.kind() == kind).collect();
        assert!((10..=12).contains(&of_kind.len()), "{}", of_kind.len());
        for two in of_kind.windows(2) {
            assert!(two[1].at - two[0].at >= secs(60), "{two:?}");
        }
        let kept_back: u64 = of_kind.iter().map(|event| event.kept_back).sum();
        assert_eq!(of_kind.len() as u64 + kept_back, 100, "all are counted");
    }
    let (mut told_lost, mut told_attempts) = (0, 0);
    for event in &pairs {
        if let Transition::Recovered { lost, attempts, .. } = &event.transition {
            told_lost += lost.total();
            told_attempts += attempts;
        }
        println!("{} {event}", event.at.as_nanos() / 1_000_000_000);
    }
    assert_eq!((told_lost, told_attempts), (lost, 100));
    assert_eq!(world.stats().outages, 100);
}

/// An outage that begins within the minute after another, and lasts, is told once the minute is over.
#[test]
fn an_outage_that_could_not_be_told_at_once_is_told_as_soon_as_it_can() {
    let mut world = world(once());
    answered(&mut world, 0, 0, Command::ok(0));
    let fail = |world: &mut World, call| {
        world.submit(request(1));
        world.say(0, Command::status(call, Code::UNAVAILABLE));
    };
    fail(&mut world, 1);
    let first = world.now;
    answered(&mut world, 0, 2, Command::ok(2));
    assert_eq!(
        kinds(&mut world),
        [EventKind::Connected, EventKind::OutageBegan, EventKind::Recovered]
    );
    world.advance(secs(10));
    fail(&mut world, 3);
    assert_eq!(events(&mut world), [], "not now");
    let due = world.engine.next_deadline().expect("it is to be told");
    assert_eq!((due.at, due.reason), (first + secs(60), DeadlineReason::Event));
    assert_eq!(world.advance_to_timer(), secs(50));
    let told = event(&mut world);
    let Transition::OutageBegan { lasting, failure, .. } = &told.transition else {
        panic!("{told:?}")
    };
    assert_eq!((*lasting, told.kept_back), (secs(50), 0));
    assert!(failure.contains("UNAVAILABLE"), "{failure}");
    assert!(told.to_string().contains("exports fail since 50 s: "), "{told}");
    // Its end may be told at once: the last recovery was told a minute ago.
    answered(&mut world, 0, 4, Command::ok(4));
    assert_eq!(kinds(&mut world), [EventKind::Recovered]);
    // The end of this one has to wait, and so it does, even where the outage comes back meanwhile.
    world.advance(secs(59));
    fail(&mut world, 5);
    world.advance(secs(1));
    assert_eq!(kinds(&mut world), [EventKind::OutageBegan]);
}

#[test]
fn an_end_that_is_kept_back_is_told_later_or_with_the_shutdown() {
    for is_shut_down in [false, true] {
        let mut world = world(once());
        answered(&mut world, 0, 0, Command::ok(0));
        let fail = |world: &mut World, call| {
            world.submit(request(8));
            world.say(0, Command::status(call, Code::UNAVAILABLE));
        };
        fail(&mut world, 1);
        world.advance(secs(50));
        answered(&mut world, 0, 2, Command::ok(2));
        world.advance(secs(10));
        // A minute after the last outage was told, and ten seconds after its end.
        fail(&mut world, 3);
        answered(&mut world, 0, 4, Command::ok(4));
        let told = kinds(&mut world);
        let pair = [EventKind::OutageBegan, EventKind::Recovered];
        assert_eq!(told[1..], [pair[0], pair[1], pair[0]]);
        let since = world.now;
        if is_shut_down {
            world.fact(Fact::Shutdown);
        } else {
            assert_eq!(world.advance_to_timer(), secs(50));
        }
        let told = event(&mut world);
        let Transition::Recovered { since: ago, lost, .. } = &told.transition else {
            panic!("{told:?}")
        };
        assert_eq!((*ago, lost.total()), (world.now - since, 8));
        world.advance(secs(200));
        assert_eq!(events(&mut world), []);
    }
}

#[test]
fn what_nobody_takes_is_bounded_and_counted() {
    let mut world = world(once());
    answered(&mut world, 0, 0, Command::ok(0));
    for round in 0..500_u16 {
        world.submit(request(2));
        world.say(0, Command::status(round + 1, Code::INVALID_ARGUMENT));
        world.advance(secs(61));
    }
    let told = events(&mut world);
    assert_eq!(told.len(), 64, "the first ones");
    world.submit(request(2));
    world.say(0, Command::status(501, Code::INVALID_ARGUMENT));
    let told = event(&mut world);
    assert_eq!((told.kept_back, told.kept_back_items), (500 - 63, 2 * (500 - 63)));
}

#[test]
fn an_outage_waits_for_room_among_the_events() {
    let mut world = world(once());
    answered(&mut world, 0, 0, Command::ok(0));
    let mut call = 1;
    while world.engine.stats().rejected < 63 {
        world.submit(request(1));
        world.say(0, Command::status(call, Code::INVALID_ARGUMENT));
        world.advance(secs(61));
        call += 1;
    }
    world.submit(request(1));
    world.say(0, Command::status(call, Code::UNAVAILABLE));
    assert_eq!(
        world.engine.poll_timeout(),
        None,
        "nothing to do before there is room"
    );
    assert_eq!(events(&mut world).len(), 64);
    world.fact(Fact::Timeout);
    assert_eq!(kinds(&mut world), [EventKind::OutageBegan]);
}

#[test]
fn with_nobody_listening_nothing_is_made_and_outages_are_counted() {
    let mut world = World::new(once());
    world.dial = Dial::Refuse;
    world.submit(request(4));
    assert_eq!((events(&mut world), world.stats().outages), (vec![], 1));
    assert_eq!(world.engine.poll_timeout(), None);
    // Who comes late is told what is the case.
    world.advance(secs(5));
    world.engine.observe(true);
    let told = event(&mut world);
    let Transition::OutageBegan { lasting, .. } = &told.transition else {
        panic!("{told:?}")
    };
    assert_eq!(*lasting, secs(5));
    world.engine.observe(false);
    world.submit(request(4));
    assert_eq!(events(&mut world), []);
}

/// Two destinations are told of apart, and neither waits for the other.
#[test]
fn each_endpoint_has_a_minute_of_its_own() {
    let config = once().for_signal(Signal::Logs, |logs| logs.with_endpoint("http://127.0.0.1:9999"));
    let mut world = world(config);
    world.dial = Dial::RefusePort(9999);
    world.submit(request_of(Signal::Logs, 1));
    world.submit(request_of(Signal::Traces, 1));
    let told = events(&mut world);
    let shown: Vec<(EventKind, Option<&str>)> = told
        .iter()
        .map(|event| (event.kind(), event.endpoint.as_deref()))
        .collect();
    assert_eq!(
        shown,
        [
            (EventKind::OutageBegan, Some("http://127.0.0.1:9999")),
            (EventKind::Connected, Some(ENDPOINT)),
        ]
    );
}

#[test]
fn no_event_shows_a_secret() {
    let config = Config::new()
        .with_endpoint("http://127.0.0.1:4318/tenant?key=hunter2")
        .with_header("authorization", "Bearer hunter2")
        .with_header("x-odd name", "hunter2");
    let report = config.report();
    assert_eq!(report.refused().count(), 1, "an odd name");
    let config = Config::from_vars([
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "http://127.0.0.1:4318/tenant?key=hunter2",
        ),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "authorization=Bearer%20hunter2,odd name=hunter2",
        ),
        ("http_proxy", "socks://user:hunter2@proxy"),
    ])
    .expect("they can be read")
    .with_proxy_from_env()
    .with_credentials(|| String::from("hunter2"))
    .with_retry_policy(RetryPolicy::never())
    .with_observer(|_| ());
    let mut engine = otlp_embed::export::Engine::<Scripted>::new(config.clone(), 1);
    assert!(engine.as_mut().is_ok_and(|engine| engine.poll_event().is_some()));
    let mut world = World::new(config.clone());
    let mut told = events(&mut world);
    world.dial = Dial::Refuse;
    world.submit(request(1));
    world.dial = Dial::Accept;
    for (call, answer) in [Code::INVALID_ARGUMENT, Code::OK].into_iter().enumerate() {
        world.advance(secs(61));
        world.submit(request(1));
        world.say(world.wires.len() - 1, Command::status(call as u16, answer));
    }
    told.extend(events(&mut world));
    let kinds: Vec<EventKind> = told.iter().map(Event::kind).collect();
    for kind in [
        EventKind::ConfigRefused,
        EventKind::OutageBegan,
        EventKind::Connected,
        EventKind::Rejected,
        EventKind::Recovered,
    ] {
        assert!(kinds.contains(&kind), "{kind:?} of {kinds:?}");
    }
    for event in &told {
        let shown = format!("{event} {event:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(!event.to_string().contains('\n'), "{event}");
    }
    assert!(!format!("{config:?}").contains("hunter2"));
    assert_eq!(Instant::ZERO, told[0].at, "made before any fact");
}
