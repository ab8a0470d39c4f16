//! Several destinations at a time: each queues, connects and fails on its own. Proxies, Unix domain sockets.

#[path = "support/world.rs"]
mod world;

use otlp_embed::encode::Signal;
use otlp_embed::endpoint::{Endpoint, Host, Target};
use otlp_embed::export::{Action, Engine, ExportState, Fact};
use otlp_embed::protocol::{Proxy, Session, Settings};
use otlp_embed::testing::Command;
use otlp_embed::time::{DeadlineReason, Instant};
use otlp_embed::{Config, DropReason, Error, Keepalive, Protocol};
use std::time::Duration;
use world::*;

/// Traces go to port 1, logs to port 2, everything else to port 3.
fn three_lanes() -> Settings {
    let mut settings = config().settings().expect("settings that work");
    let lane = settings.lanes.remove(0);
    for port in 1..=3 {
        let mut lane = lane.clone();
        lane.endpoint = Endpoint::parse_grpc(&format!("http://127.0.0.1:{port}")).expect("a URL");
        lane.endpoint_name = lane.endpoint.to_string().into();
        settings.lanes.push(lane);
    }
    for (at, signal) in Signal::ALL.into_iter().enumerate() {
        let lane = match signal {
            Signal::Traces => 0,
            Signal::Logs => 1,
            _ => 2,
        };
        let name = settings.lanes[lane].endpoint_name.clone();
        let route = &mut settings.routes[at];
        route.lane = lane;
        route.endpoint_name = name;
    }
    settings
}

/// One lane of its own making.
fn one_lane(change: impl FnOnce(&mut Settings)) -> World {
    let mut settings = config().settings().expect("settings that work");
    change(&mut settings);
    let mut world = World::of_settings(settings, 1);
    world.dial = Dial::Manual;
    world
}

/// Whether an error names this endpoint.
fn names(error: &Error, endpoint: &str) -> bool {
    error.to_string().contains(endpoint)
}

fn port_of(world: &World, wire: usize) -> u16 {
    match world.wires[wire].targets.last() {
        Some(Target::Tcp(address)) => address.port(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn signals_of_one_destination_share_its_connection() {
    let mut world = World::of_settings(three_lanes(), 1);
    for signal in Signal::ALL {
        world.submit(request_of(signal, 1));
    }
    assert_eq!(world.ids.len(), 3, "metrics and profiles go the same way");
    let mut ports: Vec<u16> = (0..3).map(|wire| port_of(&world, wire)).collect();
    ports.sort_unstable();
    assert_eq!(ports, [1, 2, 3]);
    let calls: Vec<usize> = (0..3).map(|wire| world.frames(wire).len()).collect();
    assert_eq!(calls.iter().sum::<usize>(), 4);
    for (wire, count) in calls.into_iter().enumerate() {
        for call in 0..u16::try_from(count).expect("few") {
            world.say(wire, Command::ok(call));
        }
    }
    assert_eq!(world.stats().delivered, 4);
}

#[test]
fn a_lane_that_is_down_delays_no_other() {
    let mut world = World::of_settings(three_lanes(), 1);
    world.dial = Dial::RefusePort(2);
    let mut down = Vec::new();
    for round in 0..50 {
        down.push(world.submit(request_of(Signal::Logs, 1)));
        let up = world.submit(request(1));
        assert_eq!(world.state(up), Some(ExportState::WaitingResponse), "{round}");
        let wire = (0..world.ids.len())
            .find(|&wire| port_of(&world, wire) == 1)
            .expect("it is open");
        world.say(wire, Command::ok(round));
        assert_eq!(world.outcome(up).expect("success").attempts(), 1);
        world.advance(ms(50));
    }
    assert_eq!(world.stats().connections, 1);
    world.dial = Dial::Accept;
    while world.stats().connections < 2 {
        world.advance_to_timer();
    }
    let wire = world.ids.len() - 1;
    assert_eq!(port_of(&world, wire), 2);
    let mut call = 0;
    while world.stats().exports_in_flight > 0 {
        while call < world.frames(wire).len() {
            world.say(wire, Command::ok(u16::try_from(call).expect("few")));
            call += 1;
        }
        if world.stats().exports_in_flight > 0 {
            world.advance_to_timer();
        }
    }
    assert!(
        down.iter().all(|&id| world.outcome(id).is_ok()),
        "none is lost for it"
    );
}

#[test]
fn a_lane_without_an_answer_delays_no_other() {
    let mut world = World::of_settings(three_lanes(), 1);
    world.dial = Dial::Manual;
    let stuck = world.submit(request_of(Signal::Logs, 1));
    let other = world.submit(request(1));
    let wire = (0..2).find(|&wire| port_of(&world, wire) == 1).expect("dialed");
    world.fact(Fact::Connected(world.ids[wire]));
    assert_eq!(world.state(other), Some(ExportState::WaitingResponse));
    assert_eq!(world.state(stuck), Some(ExportState::Connecting));
    world.say(wire, Command::ok(0));
    assert!(world.outcome(other).is_ok());
}

#[test]
fn an_error_names_the_endpoint_of_its_lane_and_what_kept_it_there() {
    let mut world = World::of_settings(three_lanes(), 1);
    world.dial = Dial::RefusePort(2);
    let logs = world.submit(request_of(Signal::Logs, 1));
    world.dial = Dial::Manual;
    let metrics = world.submit(request_of(Signal::Metrics, 1));
    world.advance(ms(10_000));
    let error = world.error(logs);
    assert!(names(&error, "http://127.0.0.1:2"));
    let text = error.to_string();
    assert!(text.contains("127.0.0.1:2: no connection within 5 s"), "{text}");
    let error = world.error(metrics);
    assert!(names(&error, "http://127.0.0.1:3"));
    assert_eq!(error.drop_reason(), Some(DropReason::Deadline));
    let text = error.to_string();
    assert!(
        text.contains("127.0.0.1:3") && !text.contains("127.0.0.1:2"),
        "{text}"
    );
}

#[test]
fn a_connection_that_dies_ends_the_calls_of_its_lane_alone() {
    let mut world = World::of_settings(three_lanes(), 1);
    let traces = world.submit(request(1));
    let logs = world.submit(request_of(Signal::Logs, 1));
    world.fact(Fact::Eof(world.ids[0]));
    assert_eq!(world.state(traces), Some(ExportState::Init));
    assert_eq!(world.state(logs), Some(ExportState::WaitingResponse));
    world.say(1, Command::ok(0));
    assert!(world.outcome(logs).is_ok());
}

#[test]
fn a_shutdown_closes_every_lane() {
    let mut world = World::of_settings(three_lanes(), 1);
    for signal in Signal::ALL {
        world.submit(request_of(signal, 1));
    }
    world.fact(Fact::Shutdown);
    assert_eq!(world.live_wires(), 0);
    assert_eq!(world.outcomes.len(), 4);
    assert_eq!(world.engine.poll_timeout(), None);
}

#[test]
fn each_lane_resolves_for_the_longest_of_its_timeouts() {
    let mut settings = three_lanes();
    settings.lanes[2].endpoint = Endpoint::parse_grpc("http://collector:3").expect("a URL");
    for (signal, route) in Signal::ALL.into_iter().zip(&mut settings.routes) {
        route.timeout = match signal {
            Signal::Metrics => ms(20_000),
            Signal::Profiles => ms(30_000),
            _ => ms(40_000),
        };
    }
    let mut world = World::of_settings(settings, 1);
    world.submit(request_of(Signal::Profiles, 1));
    let start = world.now;
    world.advance(ms(25_000));
    assert_eq!(world.ids.len(), 1, "it still has time");
    world.advance(ms(5_000));
    assert_eq!(world.now - start, ms(30_000));
    assert!(world.wires[0].is_closed);
}

#[test]
fn a_proxy_is_what_is_resolved_and_connected_to() {
    let mut world = one_lane(|settings| {
        settings.lanes[0].addresses = vec![address("10.9.9.9:1")];
        settings.lanes[0].proxy = Some(Proxy {
            host: Host::Name("proxy.corp".into()),
            port: 3_128,
            authorization: None,
        });
    });
    let id = world.submit(request(1));
    let name = world.wires[0].resolving.clone().expect("a name to resolve");
    assert_eq!(name.to_string(), "proxy.corp:3128");
    world.fact(Fact::ResolveFailed(world.ids[0], "no such host"));
    assert_eq!(
        world.stats().last_error.as_deref(),
        Some("resolve proxy proxy.corp:3128: no such host")
    );
    world.advance_to_timer();
    world.fact(Fact::Resolved(world.ids[1], &[address("10.0.0.7:3128")]));
    assert_eq!(world.wires[1].targets, [Target::Tcp(address("10.0.0.7:3128"))]);
    world.fact(Fact::ConnectFailed(world.ids[1], "refused"));
    assert_eq!(
        world.stats().last_error.as_deref(),
        Some("connect to proxy proxy.corp:3128 at 10.0.0.7:3128: refused")
    );
    world.advance(ms(10_000));
    let error = world.error(id);
    assert!(
        names(&error, "http://127.0.0.1:4317"),
        "the endpoint stays what it is"
    );
}

#[test]
fn a_proxy_by_address_is_not_resolved() {
    let mut world = one_lane(|settings| {
        settings.lanes[0].proxy = Some(Proxy {
            host: Host::Ip([10, 0, 0, 7].into()),
            port: 3_128,
            authorization: None,
        });
    });
    let id = world.submit(request(1));
    assert_eq!(world.wires[0].targets, [Target::Tcp(address("10.0.0.7:3128"))]);
    world.advance(ms(10_000));
    let text = world.error(id).to_string();
    assert!(text.contains("connect to proxy 10.0.0.7:3128"), "{text}");
}

#[test]
fn a_unix_socket_is_connected_to_without_a_name() {
    let config = Config::new()
        .with_protocol(Protocol::Grpc)
        .with_endpoint("unix:///run/otel.sock");
    let mut world = World::new(config);
    world.dial = Dial::Manual;
    let id = world.submit(request(1));
    assert_eq!(world.wires[0].resolving, None);
    assert_eq!(world.wires[0].targets, [Target::Unix("/run/otel.sock".into())]);
    world.fact(Fact::ConnectFailed(world.ids[0], "no such file"));
    world.advance(ms(10_000));
    let error = world.error(id);
    assert!(names(&error, "unix:/run/otel.sock"), "spec 36");
    let text = error.to_string();
    assert!(text.contains("connect to unix:/run/otel.sock"), "{text}");
    let endpoint = world.engine.settings().lanes[0].endpoint.clone();
    assert_eq!(&**endpoint.authority(), "localhost");
}

#[test]
fn a_handshake_that_is_never_done_has_the_connect_timeout() {
    let config = config()
        .with_header("scripted-limit", "0")
        .with_connect_timeout(ms(3_000));
    let mut world = World::new(config);
    let id = world.submit(request(1));
    let due = world.engine.next_deadline().expect("a handshake has its time");
    assert_eq!(
        (due.at, due.reason),
        (world.now + ms(3_000), DeadlineReason::Connect)
    );
    world.advance(ms(3_000));
    assert!(world.wires[0].is_closed, "spec 49");
    assert_eq!(world.state(id), Some(ExportState::Init));
    let last = world.stats().last_error.expect("a failure");
    assert!(last.contains("handshake was not done within 3 s"), "{last}");
    world.advance_to_timer();
    world.say(1, Command::Limit(1));
    world.say(1, Command::ok(0));
    assert_eq!(world.outcome(id).expect("success").attempts(), 2);
    world.advance(ms(60_000));
    assert!(!world.wires[1].is_closed, "it has shaken hands");
}

#[test]
fn handshakes_that_fail_are_tried_at_growing_intervals() {
    let mut world = World::new(config().with_header("scripted-limit", "0"));
    world.submit(request(1));
    let mut longest = 200;
    for round in 0..4 {
        assert_eq!(world.ids.len(), round + 1);
        world.say(round, Command::Die);
        let wait = world.advance_to_timer();
        assert!(
            (ms(longest / 2)..=ms(longest)).contains(&wait),
            "spec 17: {wait:?} of {longest}"
        );
        longest *= 2;
    }
}

#[test]
fn a_deadline_in_a_handshake_says_so() {
    let mut world = World::new(config().with_header("scripted-limit", "0"));
    let id = world.submit(request(1).with_timeout(ms(1_000)));
    world.advance(ms(1_000));
    let text = world.error(id).to_string();
    assert!(text.contains("its handshake is not done yet"), "{text}");
}

/// The frame of HTTP/2 with this kind and payload, on stream 0.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let len = u8::try_from(payload.len()).expect("short");
    [&[0, 0, len, kind, 0, 0, 0, 0, 0][..], payload].concat()
}

#[test]
fn a_lane_that_pings_too_often_pings_half_as_often() {
    let mut settings = three_lanes();
    for lane in &mut settings.lanes {
        lane.keepalive = Some(Keepalive {
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            while_idle: true,
        });
    }
    let mut engine: Engine<Session> = Engine::with_settings(settings, 1);
    let mut now = Instant::from_millis(1);
    engine.submit(now, request_of(Signal::Logs, 1));
    for round in 1..=3_u32 {
        let conn = loop {
            match engine.poll_action() {
                Some(Action::Connect(conn, _)) => break conn,
                Some(_) => {}
                None => {
                    now = engine.poll_timeout().expect("a further attempt is due");
                    engine.handle(now, Fact::Timeout);
                }
            }
        };
        engine.handle(now, Fact::Connected(conn));
        engine.handle(now, Fact::Input(conn, &frame(4, &[])));
        let goaway = [&[0, 0, 0, 0, 0, 0, 0, 11][..], b"too_many_pings"].concat();
        engine.handle(now, Fact::Input(conn, &frame(7, &goaway)));
        engine.handle(now, Fact::Eof(conn));
        let seconds: Vec<u64> = engine.settings().lanes.iter().map(interval).collect();
        assert_eq!(seconds, [10, 10 << round, 10], "spec 51: its own lane's alone");
    }
}

fn interval(lane: &otlp_embed::protocol::Lane) -> u64 {
    lane.keepalive.map_or(0, |keepalive| keepalive.interval.as_secs())
}
