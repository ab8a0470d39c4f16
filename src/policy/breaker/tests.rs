use super::*;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use state::Illegal;
use window::BUCKETS;

/// Set to write the snapshots anew instead of comparing with them.
const BLESS: &str = "OTLP_EMBED_BLESS";

const S: fn(u64) -> Duration = Duration::from_secs;

fn at(secs: u64) -> Instant {
    Instant::from_millis(secs * 1_000)
}

fn window() -> Box<Window> {
    Box::new(Window::new(S(60)))
}

fn states() -> [State; 3] {
    [
        State::Closed(window()),
        State::Open { until: at(1) },
        State::HalfOpen { out: 0, succeeded: 0 },
    ]
}

fn events() -> [(&'static str, Event); 3] {
    [
        ("Trip", Event::Trip(at(9))),
        ("Elapse", Event::Elapse),
        ("Prove", Event::Prove(window())),
    ]
}

/// Every state with every event, and where the pair leads.
fn table() -> Vec<(BreakerState, &'static str, Option<BreakerState>)> {
    let mut table = Vec::new();
    for from in BreakerState::ALL {
        for (name, event) in events() {
            let state = states().into_iter().find(|state| state.kind() == from);
            // An exhaustive match, so that a new event cannot be left out of the table.
            match event {
                Event::Trip(_) | Event::Elapse | Event::Prove(_) => {}
            }
            let to = state.expect("a state of each kind").advance(event);
            table.push((from, name, to.ok().map(|state| state.kind())));
        }
    }
    table
}

fn compare(name: &str, now: &str) {
    let path = format!("{}/tests/snapshots/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os(BLESS).is_some() {
        std::fs::write(&path, now).expect("the snapshot is written");
    }
    let then = std::fs::read_to_string(&path).expect("the snapshot is there");
    assert_eq!(then, now, "{path} differs; set {BLESS}=1 to write it anew");
}

#[test]
fn the_table_is_the_one_agreed_on() {
    let mut text = String::from("state    + event  => state\n");
    for (from, event, to) in table() {
        let to = to.map_or_else(|| String::from("-"), |to| format!("{to}"));
        text += &format!("{from:<8} + {event:<6} => {to}\n");
    }
    compare("breaker_table.txt", &text);
}

#[test]
fn the_graph_is_drawn_from_the_table() {
    let mut text = String::from("digraph breaker {\n  rankdir=LR;\n");
    for (from, event, to) in table() {
        if let Some(to) = to {
            text += &format!("  {from} -> {to} [label=\"{event}\"];\n");
        }
    }
    text += "}\n";
    compare("breaker_graph.dot", &text);
}

#[test]
fn an_illegal_pair_changes_nothing() {
    let state = State::HalfOpen { out: 2, succeeded: 1 };
    let Err(Illegal { state, event }) = state.advance(Event::Elapse) else {
        panic!("nothing elapses while half-open");
    };
    assert!(matches!(event, Event::Elapse));
    assert!(matches!(state, State::HalfOpen { out: 2, succeeded: 1 }));
    for (name, event) in events() {
        assert!(State::Failed.advance(event).is_err(), "{name}");
    }
}

/// Requests that end at once.
fn end(breaker: &mut CircuitBreaker, now: Instant, verdict: BreakerVerdict, count: usize) {
    for _ in 0..count {
        let permit = breaker.try_begin(now).expect("it lets requests through");
        breaker.end(now, permit, verdict);
    }
}

fn breaker() -> CircuitBreaker {
    CircuitBreaker::new(BreakerConfig::new())
}

/// A breaker that opened at `now`.
fn open(now: Instant) -> CircuitBreaker {
    let mut breaker = breaker();
    end(&mut breaker, now, BreakerVerdict::Failure, 10);
    assert_eq!(breaker.state(now), BreakerState::Open);
    breaker
}

#[test]
fn half_of_at_least_ten_requests_open_it() {
    use BreakerVerdict::{Failure, Success};
    let mut few = breaker();
    end(&mut few, at(1), Failure, 9);
    assert_eq!(few.state(at(1)), BreakerState::Closed);
    end(&mut few, at(1), Failure, 1);
    assert_eq!(few.state(at(1)), BreakerState::Open);

    let mut under_half = breaker();
    end(&mut under_half, at(1), Success, 6);
    end(&mut under_half, at(1), Failure, 5);
    assert_eq!(under_half.state(at(1)), BreakerState::Closed, "5 of 11");
    end(&mut under_half, at(1), Failure, 1);
    assert_eq!(under_half.state(at(1)), BreakerState::Open, "6 of 12");
}

#[test]
fn abandoned_requests_count_for_neither() {
    let mut breaker = breaker();
    end(&mut breaker, at(1), BreakerVerdict::Failure, 9);
    end(&mut breaker, at(1), BreakerVerdict::Abandoned, 100);
    assert_eq!(breaker.state(at(1)), BreakerState::Closed);
    end(&mut breaker, at(1), BreakerVerdict::Failure, 1);
    assert_eq!(breaker.state(at(1)), BreakerState::Open);
}

#[test]
fn every_ratio_opens_exactly_where_it_is_met() {
    for percent in 1..=100_u32 {
        let ratio = f64::from(percent) / 100.0;
        let config = BreakerConfig::new().with_requests_min(100);
        let opens = |failures: u32| {
            let mut breaker = CircuitBreaker::new(config.with_failure_ratio(ratio));
            end(
                &mut breaker,
                at(1),
                BreakerVerdict::Success,
                (100 - failures) as usize,
            );
            end(&mut breaker, at(1), BreakerVerdict::Failure, failures as usize);
            breaker.state(at(1)) == BreakerState::Open
        };
        assert!(opens(percent) && !opens(percent - 1), "{ratio}");
    }
}

#[test]
fn the_window_forgets() {
    let mut breaker = breaker();
    end(&mut breaker, at(100), BreakerVerdict::Failure, 9);
    let mut later = self::breaker();
    end(&mut later, at(100), BreakerVerdict::Failure, 9);
    // In a bucket that has not come round again.
    end(&mut later, at(165), BreakerVerdict::Failure, 1);
    assert_eq!(later.state(at(165)), BreakerState::Closed);
    // As old as the window is long.
    end(&mut breaker, at(160), BreakerVerdict::Failure, 9);
    assert_eq!(breaker.state(at(160)), BreakerState::Closed);
    // At most a thirtieth less.
    end(&mut breaker, at(160 + 57), BreakerVerdict::Failure, 1);
    assert_eq!(breaker.state(at(217)), BreakerState::Open);
}

#[test]
fn open_ends_after_its_time_and_not_before() {
    let mut breaker = open(at(5));
    assert_eq!(breaker.poll_timeout(), Some(at(35)));
    let almost = Instant::from_nanos(at(35).as_nanos() - 1);
    for now in [at(5), at(20), almost] {
        assert_eq!(breaker.try_begin(now), Err(BreakerOpen { until: Some(at(35)) }));
        assert_eq!(breaker.state(now), BreakerState::Open);
    }
    assert_eq!(
        breaker.state(at(35)),
        BreakerState::HalfOpen,
        "seen before it is told"
    );
    breaker.handle_timeout(at(35));
    assert_eq!(breaker.poll_timeout(), None, "nothing is due twice");
    assert!(breaker.try_begin(at(35)).is_ok());
}

#[test]
fn five_probes_at_a_time_and_five_successes_close_it() {
    let mut breaker = open(at(0));
    let mut probes: Vec<_> = (0..5)
        .map(|_| breaker.try_begin(at(30)).expect("a probe"))
        .collect();
    assert_eq!(breaker.try_begin(at(30)), Err(BreakerOpen { until: None }));
    // An abandoned one makes room for another, a success needs none.
    breaker.end(at(31), probes.pop().expect("five"), BreakerVerdict::Abandoned);
    probes.push(breaker.try_begin(at(31)).expect("its place is free"));
    breaker.end(at(31), probes.pop().expect("five"), BreakerVerdict::Success);
    assert!(breaker.try_begin(at(31)).is_err());
    for probe in probes {
        assert_eq!(breaker.state(at(31)), BreakerState::HalfOpen);
        breaker.end(at(31), probe, BreakerVerdict::Success);
    }
    assert_eq!(breaker.state(at(31)), BreakerState::Closed);
    end(&mut breaker, at(31), BreakerVerdict::Failure, 9);
    assert_eq!(
        breaker.state(at(31)),
        BreakerState::Closed,
        "it begins to count anew"
    );
}

#[test]
fn one_failed_probe_opens_it_again() {
    let mut breaker = open(at(0));
    let probes: Vec<_> = (0..5)
        .map(|_| breaker.try_begin(at(30)).expect("a probe"))
        .collect();
    let mut probes = probes.into_iter();
    for verdict in [BreakerVerdict::Success, BreakerVerdict::Failure] {
        breaker.end(at(40), probes.next().expect("five"), verdict);
    }
    assert_eq!(breaker.poll_timeout(), Some(at(70)));
    // What the others come to is of an earlier state.
    for (probe, verdict) in probes.zip([BreakerVerdict::Failure, BreakerVerdict::Success]) {
        breaker.end(at(50), probe, verdict);
    }
    assert_eq!(breaker.poll_timeout(), Some(at(70)), "it is not put off");
    breaker.handle_timeout(at(70));
    let again: Vec<_> = (0..6).map(|_| breaker.try_begin(at(70)).is_ok()).collect();
    assert_eq!(again, [true, true, true, true, true, false]);
}

#[test]
fn permits_of_an_earlier_state_count_for_nothing() {
    let mut breaker = breaker();
    let early: Vec<_> = (0..30)
        .map(|_| breaker.try_begin(at(0)).expect("it is closed"))
        .collect();
    end(&mut breaker, at(0), BreakerVerdict::Failure, 10);
    let mut early = early.into_iter();
    breaker.handle_timeout(at(30));
    for (permit, verdict) in early.by_ref().zip([BreakerVerdict::Success; 10]) {
        breaker.end(at(30), permit, verdict);
    }
    assert_eq!(
        breaker.state(at(30)),
        BreakerState::HalfOpen,
        "none of them was a probe"
    );
    breaker.end(at(30), early.next().expect("30"), BreakerVerdict::Failure);
    assert_eq!(breaker.state(at(30)), BreakerState::HalfOpen);
    end(&mut breaker, at(30), BreakerVerdict::Success, 5);
    for permit in early {
        breaker.end(at(30), permit, BreakerVerdict::Failure);
    }
    assert_eq!(
        breaker.state(at(30)),
        BreakerState::Closed,
        "closed anew, not still"
    );
}

#[test]
fn a_time_that_runs_backwards_harms_nothing() {
    let mut breaker = breaker();
    end(&mut breaker, at(100), BreakerVerdict::Failure, 5);
    end(&mut breaker, at(1), BreakerVerdict::Failure, 5);
    assert_eq!(
        breaker.poll_timeout(),
        Some(at(130)),
        "counted as of the latest time"
    );
    assert_eq!(breaker.state(at(0)), BreakerState::Open);
    assert!(breaker.try_begin(at(0)).is_err());
    breaker.handle_timeout(at(130));
    end(&mut breaker, at(0), BreakerVerdict::Success, 5);
    assert_eq!(breaker.state(at(0)), BreakerState::Closed);

    let mut last = CircuitBreaker::new(BreakerConfig::new());
    end(&mut last, Instant::MAX, BreakerVerdict::Failure, 10);
    assert_eq!(last.poll_timeout(), Some(Instant::MAX));
    assert!(last.try_begin(Instant::MAX).is_ok(), "the end of time is no trap");
}

#[test]
fn memory_is_bounded() {
    let mut breaker = breaker();
    for second in 0..100_000 {
        end(&mut breaker, at(second), BreakerVerdict::Success, 1);
    }
    let State::Closed(window) = &breaker.state else {
        panic!("nothing failed");
    };
    assert!(size_of_val(&**window) <= 8 + 16 * BUCKETS);
    let (requests, failures) = window.totals(at(99_999));
    assert!((58..=60).contains(&requests) && failures == 0, "{requests}");
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let default = BreakerConfig::new();
    assert!(default.check().is_ok());
    for bad in [
        default.with_window(Duration::ZERO),
        default.with_open_for(Duration::ZERO),
        default.with_requests_min(0),
        default.with_failure_ratio(0.0),
        default.with_failure_ratio(1.1),
        default.with_failure_ratio(f64::NAN),
        default.with_probes(0),
        default.with_probes(u32::MAX),
    ] {
        let error = bad.check().expect_err("a setting that cannot work");
        assert!(
            error.is_misuse() && format!("{error}").starts_with("with_breaker: "),
            "{bad:?}"
        );
        // They harm nothing all the same.
        let mut breaker = CircuitBreaker::new(bad);
        for second in 0..50 {
            if let Ok(permit) = breaker.try_begin(at(second)) {
                breaker.end(at(second), permit, BreakerVerdict::Failure);
            }
        }
        assert!(breaker.poll_timeout().is_none_or(|until| until <= at(49 + 30)));
    }
}
