use super::*;
use crate::encode::Signal;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use state::Illegal;

/// Set to write the snapshots anew instead of comparing with them.
const BLESS: &str = "OTLP_EMBED_BLESS";

fn verdict() -> Verdict {
    Ok(Outcome {
        counts: ItemCounts::default(),
        message: None,
        attempts: 1,
    })
}

fn states() -> Vec<State> {
    let (conn, call) = (ConnId(1), CallId(1));
    vec![
        State::Init { until: Instant::ZERO },
        State::Connecting,
        State::Sending { conn, call },
        State::WaitingResponse { conn, call },
        State::Done(verdict()),
    ]
}

fn events() -> Vec<(&'static str, Event)> {
    let (conn, call) = (ConnId(2), CallId(2));
    vec![
        ("Refuse", Event::Refuse(verdict())),
        ("Begin", Event::Begin),
        ("Postpone", Event::Postpone(Instant::MAX)),
        ("Start", Event::Start { conn, call }),
        ("RequestSent", Event::RequestSent),
        ("Retry", Event::Retry(Instant::MAX)),
        ("Answer", Event::Answer(verdict())),
        ("GiveUp", Event::GiveUp(verdict())),
        ("Expire", Event::Expire(verdict())),
        ("Cancel", Event::Cancel(verdict())),
        ("ShutDown", Event::ShutDown(verdict())),
    ]
}

/// Every state with every event, and where the pair leads.
fn table() -> Vec<(ExportState, &'static str, Option<ExportState>)> {
    let mut table = Vec::new();
    for from in 0..states().len() {
        for (name, event) in events() {
            let state = states().swap_remove(from);
            let kind = state.kind();
            // An exhaustive match, so that a new event cannot be left out of the table.
            match event {
                Event::Refuse(_) | Event::Begin | Event::Postpone(_) | Event::Start { .. } => {}
                Event::RequestSent | Event::Retry(_) | Event::Answer(_) | Event::GiveUp(_) => {}
                Event::Expire(_) | Event::Cancel(_) | Event::ShutDown(_) => {}
            }
            let to = state.advance(event).ok().map(|state| state.kind());
            table.push((kind, name, to));
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
    let mut text = String::from("state           + event       => state\n");
    for (from, event, to) in table() {
        let to = to.map_or_else(|| String::from("-"), |to| format!("{to}"));
        text += &format!("{from:<15} + {event:<11} => {to}\n");
    }
    compare("machine_table.txt", &text);
}

#[test]
fn the_graph_is_drawn_from_the_table() {
    let mut text = String::from("digraph machine {\n  rankdir=LR;\n");
    for (from, to, events) in edges() {
        text += &format!("  {from} -> {to} [label=\"{}\"];\n", events.join("\\n"));
    }
    text += "}\n";
    compare("machine_graph.dot", &text);
}

/// Each state with each that follows, and by which events.
fn edges() -> Vec<(ExportState, ExportState, Vec<&'static str>)> {
    let table = table();
    let pairs = ExportState::ALL
        .into_iter()
        .flat_map(|from| ExportState::ALL.map(|to| (from, to)));
    let edges = pairs.map(|(from, to)| {
        let events = table.iter().filter(|(f, _, t)| (*f, *t) == (from, Some(to)));
        (from, to, events.map(|(_, event, _)| *event).collect())
    });
    edges
        .filter(|(_, _, events): &(_, _, Vec<_>)| !events.is_empty())
        .collect()
}

fn mermaid() -> String {
    let mut text = String::from("stateDiagram-v2\n    direction LR\n    [*] --> Init: export\n");
    for (from, to, events) in edges() {
        text += &format!("    {from} --> {to}: {}\n", events.join(", "));
    }
    text + "    Done --> [*]\n"
}

#[test]
fn the_diagram_of_the_readme_is_drawn_from_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(path).expect("the README is there");
    let (before, rest) = readme
        .split_once("```mermaid\n")
        .expect("the README has a diagram");
    let (then, after) = rest.split_once("```\n").expect("the diagram ends");
    let now = mermaid();
    if std::env::var_os(BLESS).is_some() {
        std::fs::write(path, format!("{before}```mermaid\n{now}```\n{after}"))
            .expect("the README is written");
    } else {
        assert_eq!(
            then, now,
            "the diagram in {path} differs; set {BLESS}=1 to write it anew"
        );
    }
}

#[test]
fn an_illegal_pair_changes_nothing() {
    let state = State::Sending {
        conn: ConnId(1),
        call: CallId(7),
    };
    let Err(illegal) = state.advance(Event::Begin) else {
        panic!("a call under way cannot begin");
    };
    let Illegal { state, event } = *illegal;
    assert!(matches!(event, Event::Begin));
    assert!(matches!(
        state,
        State::Sending {
            conn: ConnId(1),
            call: CallId(7)
        }
    ));
}

#[test]
fn the_marker_refuses_every_event() {
    for (name, event) in events() {
        assert!(State::Failed.advance(event).is_err(), "{name}");
    }
}

#[test]
fn done_is_final() {
    for (from, event, to) in table() {
        if from == ExportState::Done {
            assert_eq!(to, None, "{event}");
        }
    }
}

#[test]
fn the_request_is_released_with_the_verdict() {
    let bytes = Bytes::from(vec![0; 4_096]);
    let request = Request::from_segments(Signal::Traces, 1, vec![bytes.clone()]);
    let mut machine = Machine::new(Part::plain(request), Instant::ZERO, Duration::from_secs(1));
    assert!(!bytes.is_unique());
    machine.cancel(&"x".into());
    assert!(bytes.is_unique());
    assert!(machine.request().is_none());
}

#[test]
fn a_machine_is_small() {
    assert!(
        size_of::<Machine>() <= 352,
        "{} bytes an export",
        size_of::<Machine>()
    );
}

#[test]
fn durations_read_as_people_write_them() {
    for (duration, text) in [
        (Duration::from_secs(10), "10 s"),
        (Duration::from_millis(1_500), "1.500 s"),
        (Duration::from_millis(250), "250 ms"),
        (Duration::from_micros(7), "7 µs"),
        (Duration::ZERO, "0 µs"),
    ] {
        assert_eq!(format!("{}", Span(duration)), text);
    }
}

#[test]
fn a_peers_message_is_cut_at_a_character() {
    let answer = Answer {
        code: crate::code::Code::UNAVAILABLE,
        message: "é".repeat(5_000),
        rejected: 0,
        retry_after: None,
        http_status: Some(503),
        is_http: false,
        location: None,
    };
    let failure = LastFailure::answered(answer);
    assert!(failure.message().len() < 1_100);
    assert!(
        failure
            .message()
            .starts_with("the collector answered HTTP 503 (UNAVAILABLE): éé")
    );
}

fn answered(code: Code, status: Option<u16>, is_http: bool, message: &str, location: Option<&str>) -> Error {
    let request = Request::from_segments(Signal::Traces, 1, vec![Bytes::from_static(b"x")]);
    let mut machine = Machine::new(Part::plain(request), Instant::ZERO, Duration::from_secs(1));
    machine.begin(Instant::ZERO);
    machine.start(ConnId(1), CallId(1));
    let answer = Answer {
        code,
        message: message.into(),
        rejected: 0,
        retry_after: None,
        http_status: status,
        is_http,
        location: location.map(Into::into),
    };
    let mut judge = Judge {
        now: Instant::ZERO,
        policy: &RetryPolicy::never(),
        endpoint: &"http://x".into(),
        is_grpc: !is_http,
        rng: &mut Rng::with_seed(1),
    };
    machine.end_attempt(&mut judge, AttemptEnd::Call(CallEnd::Answered(answer)));
    machine.into_verdict().expect("settled").expect_err("a failure")
}

#[test]
fn an_answer_over_http_is_told_in_the_words_of_http() {
    let error = answered(
        Code::UNIMPLEMENTED,
        Some(404),
        true,
        "HTTP 404 Not Found: no such path",
        None,
    );
    assert_eq!(
        error.to_string(),
        "export to http://x: the collector answered HTTP 404 Not Found: no such path; check the endpoint's path, and that an \
         OTLP/HTTP receiver takes this signal there"
    );
    assert_eq!((error.grpc_status(), error.http_status()), (None, Some(404)));
    assert!(!error.is_retryable(), "spec 20");

    let bare = answered(Code::UNAUTHENTICATED, Some(401), true, "", None);
    assert!(
        bare.to_string()
            .contains("answered HTTP 401; check the credentials"),
        "{bare}"
    );
    for (status, code, is_retryable) in [
        (400, Code::INTERNAL, false),
        (413, Code::RESOURCE_EXHAUSTED, false),
        (429, Code::UNAVAILABLE, true),
        (500, Code::UNKNOWN, false),
        (503, Code::UNAVAILABLE, true),
    ] {
        let error = answered(code, Some(status), true, "busy", None);
        assert_eq!(error.is_retryable(), is_retryable, "spec 19, 20: {error}");
        assert!(
            !error.to_string().contains("gRPC") && error.to_string().contains("busy"),
            "spec 26: {error}"
        );
        assert_eq!(error.grpc_status(), None);
    }
}

#[test]
fn a_status_is_not_said_twice() {
    for (is_http, message) in [
        (false, "HTTP 404 Not Found without a grpc-status"),
        (true, "HTTP 404 Not Found"),
        (true, "HTTP 404"),
    ] {
        let error = answered(Code::UNIMPLEMENTED, Some(404), is_http, message, None).to_string();
        assert_eq!(error.matches("HTTP 404").count(), 1, "{error}");
    }
    let other = answered(
        Code::UNIMPLEMENTED,
        Some(404),
        true,
        "HTTP 4040 is the port",
        None,
    )
    .to_string();
    assert!(other.contains("answered HTTP 404: HTTP 4040"), "{other}");
}

#[test]
fn a_redirect_is_named_and_not_followed() {
    for is_http in [true, false] {
        let to = "https://elsewhere/\"v1";
        let error = answered(Code::UNKNOWN, Some(307), is_http, "", Some(to));
        assert_eq!(error.location(), Some(to), "spec 53");
        let text = error.to_string();
        assert!(
            text.contains("a redirect to \"https://elsewhere/\\\"v1\""),
            "{text}"
        );
        assert!(
            text.contains("not followed") && !error.is_retryable(),
            "spec 53: {text}"
        );
    }
    let long = "x".repeat(100_000);
    let error = answered(Code::UNKNOWN, Some(301), true, &long, Some(&long));
    assert!(error.to_string().len() < 4_000, "a peer's words are bounded");
}
