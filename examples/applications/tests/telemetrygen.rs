//! The program `telemetrygen` as its users run it: every signal, protocol, runtime and compression, TLS, failures, and how it ends.

#[path = "../../../tests/support/certificates.rs"]
mod certificates;

use certificates::{Authority, NAME, ServerTls};
use otlp_embed::testing::Collector;
use otlp_embed::testing::collector::{Answer, Value};
use otlp_embed::{Code, Protocol, Signal};
use serde_json::Value as Json;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

const SIGNALS: [&str; 3] = ["traces", "metrics", "logs"];

/// The program, which lies beside the folder of this test.
fn program() -> Command {
    let mut path: PathBuf = std::env::current_exe().expect("this test");
    path.pop();
    if path.ends_with("deps") {
        path.pop();
    }
    let mut command = Command::new(path.join("examples/telemetrygen"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("OTEL_")) {
        command.env_remove(name);
    }
    command
}

fn run(arguments: &[&str]) -> Output {
    program().args(arguments).output().expect("the program starts")
}

/// What it reports as JSON, and with which code it ended.
fn report(arguments: &[&str]) -> (Json, Option<i32>) {
    let output = run(&[arguments, &["--report", "json"]].concat());
    let text = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    let report = serde_json::from_str(&text).unwrap_or_else(|_| panic!("no report: {text}{error}"));
    (report, output.status.code())
}

fn number(report: &Json, name: &str) -> u64 {
    report[name]
        .as_u64()
        .unwrap_or_else(|| panic!("no {name} in {report}"))
}

/// The law, and that the counts are those of the collector.
fn assert_closed(report: &Json) {
    let parts = ["delivered", "rejected", "dropped", "unknown"];
    let sum: u64 = parts.iter().map(|name| number(report, name)).sum();
    assert_eq!(sum, number(report, "generated"), "{report}");
    assert_eq!(report["closed"], true, "{report}");
}

/// Items that the collector has of a signal.
fn received(collector: &Collector, signal: &str) -> u64 {
    let signal = match signal {
        "traces" => Signal::Traces,
        "metrics" => Signal::Metrics,
        _ => Signal::Logs,
    };
    collector.counters().of(signal).items_accepted
}

#[test]
fn every_signal_goes_over_every_protocol_from_every_runtime() {
    let compressions = ["none", "gzip", "zstd"];
    let mut turn = 0;
    for signal in SIGNALS {
        for protocol in ["grpc", "http/protobuf", "http/json"] {
            for runtime in ["tokio", "smol", "async-std", "blocking"] {
                let collector = Collector::start().expect("a collector");
                turn += 1;
                let compression = compressions[turn % 3];
                let count = format!("--{signal}");
                let endpoint = collector.endpoint();
                let (report, code) = report(&[
                    signal,
                    "--otlp-endpoint",
                    &endpoint,
                    "--protocol",
                    protocol,
                    "--runtime",
                    runtime,
                    "--compression",
                    compression,
                    &count,
                    "25",
                    "--workers",
                    "3",
                    "--batch-size",
                    "10",
                ]);
                let what = format!("{signal}, {protocol}, {runtime}, {compression}: {report}");
                assert_eq!(code, Some(0), "{what}");
                assert_closed(&report);
                let each = if signal == "traces" { 2 } else { 1 };
                assert_eq!(number(&report, "generated"), 3 * 25 * each, "{what}");
                assert_eq!(
                    number(&report, "delivered"),
                    received(&collector, signal),
                    "{what}"
                );
                assert_eq!(
                    (report["signal"].as_str(), report["runtime"].as_str()),
                    (Some(signal), Some(runtime))
                );
                assert!(report["latency_ms"]["p99"].as_f64() > Some(0.0), "{what}");
                let headers = collector.requests();
                let header = if protocol == "grpc" {
                    "grpc-encoding"
                } else {
                    "content-encoding"
                };
                let coded = headers.iter().all(|request| match compression {
                    "none" => request.header(header).is_none_or(|coding| coding == "identity"),
                    coding => request.header(header) == Some(coding),
                });
                assert!(coded, "{what}");
            }
        }
    }
}

#[test]
fn arguments_shape_the_telemetry() {
    let collector = Collector::start().expect("a collector");
    let endpoint = collector.endpoint();
    let output = run(&[
        "traces",
        "--otlp-endpoint",
        &endpoint,
        "--traces",
        "4",
        "--child-spans",
        "2",
        "--size",
        "3000",
        "--service",
        "cart",
        "--otlp-header",
        "x-scope-orgid=acme",
        "--otlp-header",
        "x-other=b",
    ]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("account: 12 generated = 12 delivered, 0 rejected, 0 dropped, 0 unknown"),
        "{text}"
    );
    assert!(text.contains("latency p50"), "{text}");
    let spans = collector.spans();
    assert_eq!(spans.len(), 12);
    let roots: Vec<_> = spans
        .iter()
        .filter(|span| span.parent_span_id.is_empty())
        .collect();
    assert_eq!(roots.len(), 4);
    for root in roots {
        let of_root =
            |span: &&otlp_embed::testing::collector::ReceivedSpan| span.parent_span_id == root.span_id;
        assert_eq!(spans.iter().filter(of_root).count(), 2, "its children");
    }
    for span in &spans {
        assert_eq!(span.service_name(), "cart");
        assert!(matches!(span.attribute("load"), Some(Value::Str(text)) if text.len() == 3000));
    }
    let requests = collector.requests();
    assert!(
        requests
            .iter()
            .all(|request| request.header("x-scope-orgid") == Some("acme"))
    );
    assert!(
        requests
            .iter()
            .all(|request| request.header("x-other") == Some("b"))
    );
}

#[test]
fn a_rate_and_a_duration_bound_the_load() {
    let collector = Collector::start().expect("a collector");
    let endpoint = collector.endpoint();
    let (report, code) = report(&[
        "logs",
        "--otlp-endpoint",
        &endpoint,
        "--duration",
        "1s",
        "--rate",
        "40",
        "--workers",
        "2",
        "--batch-size",
        "10",
    ]);
    assert_eq!(code, Some(0), "{report}");
    assert_closed(&report);
    // A batch more for each worker than the rate, at most; how few a busy machine makes nobody knows.
    let generated = number(&report, "generated");
    assert!((2..=2 * (40 + 10)).contains(&generated), "{report}");
}

#[test]
fn the_environment_says_what_the_arguments_do_not() {
    let collector = Collector::start().expect("a collector");
    let output = program()
        .args(["metrics", "--metrics", "5", "--report", "json"])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint())
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        .env("OTEL_EXPORTER_OTLP_HEADERS", "x-team=shop")
        .env("OTEL_EXPORTER_OTLP_COMPRESSION", "bogus")
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("OTEL_EXPORTER_OTLP_COMPRESSION"), "{said}");
    let requests = collector.requests();
    assert!(
        requests
            .iter()
            .all(|request| request.header("x-team") == Some("shop"))
    );
    assert_eq!(received(&collector, "metrics"), 5);
}

#[test]
fn arguments_go_before_the_environment() {
    let (here, elsewhere) = (
        Collector::start().expect("one"),
        Collector::start().expect("another"),
    );
    let send = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut program = program();
        program.args(arguments).args(["--timeout", "1s"]);
        program.envs(variables.iter().copied());
        program.output().expect("the program starts")
    };
    // An endpoint that is named is spoken to as the tool does, whatever the environment's is.
    let (named, of_env) = (here.endpoint(), elsewhere.endpoint());
    let output = send(
        &["logs", "--otlp-endpoint", &named],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", &of_env)],
    );
    assert!(output.status.success(), "{output:?}");
    assert_eq!(here.requests()[0].protocol, Protocol::Grpc);
    // A signal's own variables count, and those of others do not.
    let output = send(
        &["logs"],
        &[
            ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", &format!("{of_env}/v1/logs")),
            ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", ""),
        ],
    );
    assert!(output.status.success(), "{output:?}");
    assert_eq!(elsewhere.requests()[0].protocol, Protocol::HttpJson);
    let traces = send(&["traces"], &[("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", &of_env)]);
    let said = String::from_utf8_lossy(&traces.stdout).into_owned();
    assert!(said.contains("http://localhost:4317"), "{said}");
    let http = send(&["traces"], &[("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")]);
    let said = String::from_utf8_lossy(&http.stdout).into_owned();
    assert!(said.contains("localhost:4318"), "{said}");
}

#[test]
fn flags_are_taken_with_a_value_too() {
    let collector = Collector::start().expect("a collector");
    let endpoint = format!("127.0.0.1:{}", collector.addr().port());
    let output = run(&[
        "traces",
        "--otlp-endpoint",
        &endpoint,
        "--otlp-http=true",
        "--otlp-insecure=true",
    ]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(collector.requests()[0].protocol, Protocol::HttpProtobuf);
}

#[test]
fn a_collector_that_is_not_there_costs_one_timeout() {
    let collector = Collector::start().expect("a collector");
    let endpoint = collector.endpoint();
    drop(collector);
    for runtime in ["tokio", "blocking"] {
        let (told, code) = report(&[
            "logs",
            "--otlp-endpoint",
            &endpoint,
            "--logs",
            "100000",
            "--workers",
            "4",
            "--timeout",
            "1s",
            "--runtime",
            runtime,
        ]);
        assert_eq!((code, &told["given_up"]), (Some(1), &Json::Bool(true)), "{told}");
        assert_closed(&told);
        // An export of each worker, and not the load of an hour.
        assert!(number(&told, "exports") <= 8, "{told}");
    }
}

#[test]
fn certificates_are_taken_from_files() {
    let authority = Authority::new("the authority");
    let mut tls = ServerTls::new(authority.server(NAME, |_| ()));
    tls.certificate = authority.server("localhost", |_| ());
    tls.clients = Some(authority.der());
    let collector = Collector::builder()
        .with_tls(tls.config())
        .start()
        .expect("a collector");
    let client = authority.client("telemetrygen");
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let write = |name: &str, pem: &str| {
        let path = folder.join(name);
        std::fs::write(&path, pem).expect("a file");
        path.to_string_lossy().into_owned()
    };
    let (ca, certificate, key) = (
        write("generator-ca.pem", &authority.pem),
        write("generator-client.pem", &client.chain_pem),
        write("generator-client.key", &client.key_pem),
    );
    let endpoint = format!("localhost:{}", collector.addr().port());
    let arguments = [
        "traces",
        "--otlp-endpoint",
        &endpoint,
        "--ca-cert",
        &ca,
        "--timeout",
        "5s",
    ];
    let mutual = ["--mtls", "--client-cert", &certificate, "--client-key", &key];
    let (told, code) = report(&[&arguments[..], &mutual].concat());
    assert_eq!(code, Some(0), "{told}");
    assert_closed(&told);
    assert_eq!(received(&collector, "traces"), 2);

    let shown_not = [
        "--mtls=false",
        "--client-cert",
        &certificate,
        "--client-key",
        &key,
    ];
    let (told, code) = report(&[&arguments[..], &shown_not].concat());
    assert_eq!(code, Some(1), "{told}");
    assert_eq!(received(&collector, "traces"), 2, "{told}");

    let (told, code) = report(&arguments);
    assert_eq!(code, Some(1), "{told}");
    assert_closed(&told);
    let error = told["last_error"].as_str().unwrap_or_default().to_owned();
    assert!(error.contains("certificate"), "{error}");

    let missing = run(&[
        "traces",
        "--otlp-endpoint",
        &endpoint,
        "--ca-cert",
        "/nowhere/ca.pem",
    ]);
    let said = String::from_utf8_lossy(&missing.stderr);
    assert_eq!(missing.status.code(), Some(1));
    assert!(
        said.starts_with("telemetrygen: ") && said.contains("/nowhere/ca.pem"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn what_is_not_delivered_is_told_and_fails() {
    let collector = Collector::start().expect("a collector");
    let endpoint = collector.endpoint();
    let arguments = [
        "logs",
        "--otlp-endpoint",
        &endpoint,
        "--logs",
        "7",
        "--timeout",
        "2s",
    ];
    collector.answer(Answer::PartialSuccess {
        rejected: 3,
        message: "three too old".into(),
    });
    let (told, code) = report(&arguments);
    assert_eq!(code, Some(1), "{told}");
    assert_closed(&told);
    assert_eq!((number(&told, "delivered"), number(&told, "rejected")), (4, 3));
    assert_eq!(told["last_error"], "three too old");

    collector.answer(Answer::Status {
        code: Code::INVALID_ARGUMENT,
        message: "no".into(),
        retry_info: None,
    });
    let (told, code) = report(&arguments);
    assert_eq!((code, number(&told, "rejected")), (Some(1), 7), "{told}");
    assert_closed(&told);

    collector.answer(Answer::Never);
    let (told, code) = report(&arguments);
    assert_eq!((code, number(&told, "unknown")), (Some(1), 7), "{told}");
    assert_closed(&told);

    drop(collector);
    let (told, code) = report(&arguments);
    assert_eq!((code, number(&told, "dropped")), (Some(1), 7), "{told}");
    assert_closed(&told);
    let reasons = told["dropped_by_reason"].as_object().expect("reasons").clone();
    assert_eq!(
        reasons.values().filter_map(Json::as_u64).sum::<u64>(),
        7,
        "{told}"
    );
}

#[test]
fn arguments_without_sense_are_told_apart() {
    let cases: [(&[&str], &str); 11] = [
        (&[], "Usage"),
        (&["profiles"], "profiles"),
        (&["traces", "--rate", "-1"], "0 or more"),
        (&["traces", "--traces", "-1"], "-1"),
        (&["logs", "--otlp-http", "--protocol", "grpc"], "--protocol"),
        (
            &["logs", "--otlp-insecure", "--ca-cert", "ca.pem"],
            "--otlp-insecure",
        ),
        (&["traces", "--duration", "10"], "500ms, 10s"),
        (&["traces", "--protocol", "udp"], "http/protobuf"),
        (&["traces", "--otlp-header", "novalue"], "NAME=VALUE"),
        (&["traces", "--mtls"], "--client-cert"),
        (&["logs", "--child-spans", "1"], "--child-spans"),
    ];
    for (arguments, says) in cases {
        let output = run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(says), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty());
    }
    for asks in ["--help", "help"] {
        let output = run(&[asks]);
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8_lossy(&output.stdout).contains("traces"));
    }
    let output = run(&["traces", "--otlp-endpoint", "ftp://collector"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.starts_with("telemetrygen: endpoint "), "{said}");
    // TLS is what a place without a scheme is reached by, and nobody is trusted.
    let output = run(&["traces", "--otlp-endpoint", "localhost:1"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("--otlp-insecure"), "{said}");
}

/// Starts a load without an end, and gives it back once it is under way.
fn endless(collector: &Collector) -> Child {
    let endpoint = collector.endpoint();
    let arguments = [
        "traces",
        "--otlp-endpoint",
        &endpoint,
        "--duration",
        "1h",
        "--rate",
        "200",
        "--report",
        "json",
    ];
    let child = program()
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    collector
        .wait_for_spans(10, Duration::from_secs(30))
        .expect("it is under way");
    child
}

fn interrupt(child: &Child) {
    let killed = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(killed.expect("kill starts").success());
}

#[test]
fn ctrl_c_ends_the_load_with_an_account() {
    let collector = Collector::start().expect("a collector");
    let child = endless(&collector);
    interrupt(&child);
    let output = child.wait_with_output().expect("it ends");
    let told: Json = serde_json::from_slice(&output.stdout).expect("a report");
    assert_closed(&told);
    assert_eq!(
        (output.status.code(), &told["interrupted"]),
        (Some(0), &Json::Bool(true)),
        "{told}"
    );
    assert_eq!(number(&told, "delivered"), received(&collector, "traces"));
    assert!(output.stderr.is_empty(), "no bar in a pipe: {output:?}");
}

#[test]
fn a_second_ctrl_c_ends_it_at_once() {
    let collector = Collector::start().expect("a collector");
    let mut child = endless(&collector);
    // The export that is under way then has ten seconds left.
    collector.answer(Answer::Never);
    let before = collector.requests().len();
    collector
        .wait_for_requests(before + 1, Duration::from_secs(30))
        .expect("one that is not answered");
    interrupt(&child);
    // It ignores nothing: either the first is still being carried out, or this is the second.
    let status = loop {
        interrupt(&child);
        if let Some(status) = child.try_wait().expect("a child") {
            break status;
        }
        std::thread::yield_now();
    };
    assert_eq!(status.code(), Some(130));
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let collector = Collector::start().expect("a collector");
    let endpoint = collector.endpoint();
    for format in ["text", "json"] {
        let mut child = program()
            .args(["traces", "--otlp-endpoint", &endpoint, "--report", format])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        drop(child.stdout.take());
        let mut said = String::new();
        child
            .stderr
            .take()
            .expect("piped")
            .read_to_string(&mut said)
            .expect("text");
        assert_eq!(child.wait().expect("it ends").code(), Some(0), "{said}");
        assert!(said.is_empty(), "{said}");
    }
}

#[test]
fn a_terminal_shows_a_bar() {
    let collector = Collector::start().expect("a collector");
    let program = program().get_program().to_string_lossy().into_owned();
    let command = format!(
        "{program} traces --otlp-endpoint {} --duration 2s --rate 100",
        collector.endpoint()
    );
    // A terminal of its own, whose screen is this pipe.
    let mut child = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("util-linux is installed");
    let mut screen = Vec::new();
    BufReader::new(child.stdout.take().expect("piped"))
        .read_until(0, &mut screen)
        .expect("a screen");
    let screen = String::from_utf8_lossy(&screen).into_owned();
    assert_eq!(child.wait().expect("it ends").code(), Some(0), "{screen}");
    for part in ["/s, ", " in flight, ", " retries, ", " lost", "account: "] {
        assert!(screen.contains(part), "{part:?} is not on the screen: {screen}");
    }
}
