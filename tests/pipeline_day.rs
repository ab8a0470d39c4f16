//! A day at the collector, on the virtual clock: it starts slowly, asks for pauses, is away for half a minute, loses half of
//! its connections and recovers. The pipeline that sends to it all the while, with the default timeout and producers that
//! wait, loses nothing, keeps within its memory and needs no help. Where it is told to lose something, it says exactly what.

#[path = "support/day.rs"]
mod day;

use day::{BUDGET, Day, Plan, SECOND, run};
use otlp_embed::pipeline::{Account, Overflow};
use otlp_embed::policy::BreakerState;
use otlp_embed::{DropReason, Protocol};

const PROTOCOLS: [Protocol; 2] = [Protocol::HttpProtobuf, Protocol::Grpc];

/// Holds on every day.
fn check_account(day: &Day) {
    let account = &day.pipeline.total;
    assert_eq!(account.accepted, day.sent + day.told, "{account:?}");
    assert_eq!(
        (account.queued, account.in_flight, account.rejected),
        (0, 0, 0),
        "{account:?}"
    );
    // What is unknown may have arrived, and everything else is where the account says.
    let lost = account.dropped_total() - day.told;
    assert!(
        (lost..=lost + account.unknown).contains(&day.missing),
        "{} are missing: {account:?}",
        day.missing
    );
    assert!(
        day.again <= day.stats.possible_duplicates,
        "spec 25: duplicates only where accounted: {} of {}",
        day.again,
        day.stats.possible_duplicates
    );
    assert_eq!((day.stats.in_flight, day.stats.bytes_in_flight), (0, 0));
    assert_eq!(
        (day.stats.accepted, day.stats.delivered, day.stats.dropped),
        (account.accepted, account.delivered, account.dropped),
        "the exporter tells its pipeline's account"
    );
}

/// Asserts that items were dropped for this reason alone.
fn check_dropped(account: &Account, reason: DropReason) -> u64 {
    let dropped = account.dropped_for(reason);
    assert!(dropped > 0, "{reason:?}: {account:?}");
    assert_eq!(dropped, account.dropped_total(), "{reason:?} alone: {account:?}");
    dropped
}

fn check_nothing_lost(day: &Day) {
    check_account(day);
    let account = &day.pipeline.total;
    assert_eq!((day.arrived, day.missing), (day.sent, 0), "nothing is lost");
    assert_eq!(
        (account.accepted, account.delivered),
        (day.sent, day.sent),
        "{account:?}"
    );
}

fn check(day: &Day) {
    check_nothing_lost(day);
    let account = &day.pipeline.total;
    // A day on which nothing happened proves nothing.
    assert!(
        day.sent > 20_000 && day.connections > 10 && account.returned > 10,
        "{account:?}"
    );
    check_budget_reached(day);
    assert!(
        day.waited > SECOND,
        "producers had to wait in the outage: {:?}",
        day.waited
    );
    assert!(day.took < 310 * SECOND, "it recovers: {:?}", day.took);
}

fn check_budget_reached(day: &Day) {
    assert!(
        day.bytes_max > BUDGET * 9 / 10,
        "the budget was never of interest: {}",
        day.bytes_max
    );
}

/// Set to write the snapshot anew instead of comparing with it.
const BLESS: &str = "OTLP_EMBED_BLESS";

/// What an operator reads of a day is as the snapshot has it.
fn check_story(day: &Day, path: &str) {
    if std::env::var_os(BLESS).is_some() {
        std::fs::write(path, &day.diary).expect("the snapshot is written");
    }
    let then = std::fs::read_to_string(path).expect("the snapshot is there");
    assert_eq!(then, day.diary, "{path} differs; set {BLESS}=1 to write it anew");
}

/// What an operator reads of it is `tests/snapshots/pipeline_day.txt`.
#[test]
fn a_day_over_http_loses_nothing() {
    let day = run(Plan::day(Protocol::HttpProtobuf, 1));
    check(&day);
    check_story(
        &day,
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots/pipeline_day.txt"),
    );
}

#[test]
fn a_day_over_grpc_loses_nothing() {
    check(&run(Plan::day(Protocol::Grpc, 2)));
}

#[test]
fn days_of_other_seeds_lose_nothing() {
    for (seed, protocol) in [10, 11]
        .into_iter()
        .flat_map(|seed| PROTOCOLS.map(|protocol| (seed, protocol)))
    {
        check(&run(Plan::day(protocol, seed)));
    }
}

#[test]
fn the_same_seed_gives_the_same_day() {
    let [one, other] = [3, 3].map(|seed| run(Plan::day(Protocol::HttpProtobuf, seed)));
    let differs = one.trace.iter().zip(&other.trace).find(|(a, b)| a != b);
    assert_eq!(differs, None);
    assert!(one == other);
    assert!(one.trace != run(Plan::day(Protocol::HttpProtobuf, 4)).trace);
}

#[test]
fn producers_wait_where_the_budget_is_reached_in_an_outage() {
    for protocol in PROTOCOLS {
        let day = run(Plan::outage(protocol, 20, 30));
        check_nothing_lost(&day);
        check_budget_reached(&day);
        assert!(day.waited > 10 * SECOND, "{:?}", day.waited);
        assert_eq!(day.told, 0);
    }
}

#[test]
fn the_newest_are_dropped_in_an_outage_and_each_is_told() {
    for protocol in PROTOCOLS {
        let day = run(Plan {
            overflow: Overflow::DropNewest,
            ..Plan::outage(protocol, 21, 30)
        });
        check_account(&day);
        check_budget_reached(&day);
        let dropped = check_dropped(&day.pipeline.total, DropReason::QueueFull);
        assert_eq!(dropped, day.told);
        assert_eq!(
            (day.missing, day.arrived),
            (0, day.sent),
            "what was taken arrives"
        );
        assert!(day.waited.is_zero(), "nobody waits: {:?}", day.waited);
    }
}

#[test]
fn the_oldest_are_evicted_in_an_outage() {
    for protocol in PROTOCOLS {
        let day = run(Plan {
            overflow: Overflow::DropOldest,
            ..Plan::outage(protocol, 22, 30)
        });
        check_account(&day);
        check_budget_reached(&day);
        let account = &day.pipeline.total;
        let evicted = account.dropped_for(DropReason::Evicted);
        assert!(evicted > 1_000, "{account:?}");
        // Where all of a signal is open or in flight, there is none to give way to the newest.
        assert_eq!(
            account.dropped_for(DropReason::QueueFull),
            day.told,
            "{account:?}"
        );
        assert_eq!(account.dropped_total(), evicted + day.told, "{account:?}");
        assert!(day.told < evicted / 10, "{account:?}");
        assert!(day.waited.is_zero(), "nobody waits: {:?}", day.waited);
    }
}

#[test]
fn what_an_outage_outlasts_expires() {
    for protocol in PROTOCOLS {
        let day = run(Plan {
            max_elapsed: Some(15 * SECOND),
            ..Plan::outage(protocol, 23, 30)
        });
        check_account(&day);
        check_dropped(&day.pipeline.total, DropReason::Expired);
    }
}

#[test]
fn an_open_breaker_parks_and_drops_nothing() {
    for protocol in PROTOCOLS {
        let day = run(Plan::outage(protocol, 24, 150));
        check_nothing_lost(&day);
        check_budget_reached(&day);
        let [closed, open, half_open] = BreakerState::ALL;
        let states = &day.breaker;
        assert_eq!(states[..3], [closed, open, half_open], "{states:?}");
        assert_eq!(states.last(), Some(&closed), "it recovers: {states:?}");
        assert!(day.took < 300 * SECOND, "{:?}", day.took);
        if protocol == Protocol::HttpProtobuf {
            check_story(
                &day,
                concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots/pipeline_outage.txt"),
            );
        }
    }
}
