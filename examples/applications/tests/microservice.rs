//! The example `microservice`, run as a program: its account closes whenever the collector is away, and says what was lost.

use otlp_embed::Code;
use otlp_embed::Signal;
use otlp_embed::testing::collector::Value;
use otlp_embed::testing::{Answer, Collector};
use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

/// The program, which `cargo test` has built beside this one.
fn program() -> Command {
    let this = std::env::current_exe().expect("a program");
    let built = this
        .parent()
        .and_then(|deps| deps.parent())
        .expect("a target folder");
    let path: PathBuf = built
        .join("examples")
        .join(format!("microservice{}", std::env::consts::EXE_SUFFIX));
    assert!(
        path.exists(),
        "{} is missing: cargo build -p otlp-embed-applications --example microservice",
        path.display()
    );
    let mut command = Command::new(path);
    // Settings of whoever runs the tests are not those of the tests.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("OTEL_") {
            command.env_remove(name);
        }
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn run(arguments: &[&str]) -> Run {
    Run::of(program().args(arguments).output().expect("it starts"))
}

/// What a run has said.
struct Run {
    code: Option<i32>,
    said: String,
    failed: String,
}

impl Run {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            said: String::from_utf8(output.stdout).expect("text"),
            failed: String::from_utf8(output.stderr).expect("text"),
        }
    }

    fn line(&self, begins: &str) -> &str {
        let mut lines = self
            .said
            .lines()
            .map(str::trim_start)
            .filter(|line| line.starts_with(begins));
        let line = lines
            .next()
            .unwrap_or_else(|| panic!("no line {begins:?}: {self}"));
        assert_eq!(lines.next(), None, "one line {begins:?}: {self}");
        line
    }

    /// Made, received, again, missing, foreign.
    fn row(&self, what: &str) -> [u64; 5] {
        let line = self.line(what).strip_prefix(what).expect("it begins so");
        let numbers: Vec<_> = line
            .split_whitespace()
            .map(|number| number.parse().expect("a number"))
            .collect();
        numbers.try_into().expect("five columns")
    }

    /// The number before a word of a line.
    fn number(&self, begins: &str, word: &str) -> u64 {
        let line = self.line(begins);
        let mut words = line
            .split([' ', ',', ';', ':'])
            .filter(|word| !word.is_empty())
            .peekable();
        while let Some(number) = words.next() {
            if words.peek() == Some(&word) {
                return number
                    .parse()
                    .unwrap_or_else(|_| panic!("{number} before {word}: {line}"));
            }
        }
        panic!("no {word} in {line}");
    }

    /// The account closes. Returns how many items were made.
    fn closes(&self) -> u64 {
        assert_eq!((self.code, self.failed.as_str()), (Some(0), ""), "{self}");
        assert!(self.line("The account closes").len() > 10);
        let rows = ["spans", "log records", "data points"].map(|what| self.row(what));
        let all = self.row("all");
        for column in 0..5 {
            assert_eq!(
                rows.iter().map(|row| row[column]).sum::<u64>(),
                all[column],
                "{self}"
            );
        }
        assert!(rows.iter().all(|row| row[0] > 0), "all signals: {self}");
        let [made, received, _, missing, foreign] = all;
        assert_eq!((received + missing, foreign), (made, 0), "{self}");
        assert_eq!(self.number("Pipeline", "accepted"), made, "{self}");
        made
    }

    fn closes_without_loss(&self) {
        let made = self.closes();
        assert_eq!(self.row("all")[1], made, "{self}");
        assert_eq!(self.number("Pipeline", "delivered"), made, "{self}");
        assert_eq!(
            self.line("The account closes"),
            "The account closes: nothing is missing"
        );
        // A trace goes through both services, and metrics tell of each request.
        let (within, sent) = (self.number("Traces", "of"), self.number("Traces", "requests"));
        assert!(within > 0 && within == sent, "{self}");
        assert!(
            self.number("Metrics", "measurements") >= self.number("Requests", "answered"),
            "{self}"
        );
    }

    /// So many were lost for a reason, and no one is missing of whom that is not told.
    fn closes_with_losses(&self, reason: &str) {
        let made = self.closes();
        let dropped = self.number("Pipeline", "dropped");
        assert!(dropped > 0, "{self}");
        let unknown = self.number("Pipeline", "unknown");
        assert!(
            (dropped..=dropped + unknown).contains(&self.row("all")[3]),
            "{self}"
        );
        assert!(
            self.line("Pipeline")
                .contains(&format!("{dropped} dropped ({reason})")),
            "{self}"
        );
        let lost = dropped + unknown;
        assert_eq!(
            self.line("The account closes"),
            format!("The account closes: {lost} of {made} items are lost, and all of them are told")
        );
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {:?}\n{}{}", self.code, self.said, self.failed)
    }
}

#[test]
fn a_collector_that_dies_and_returns_costs_nothing() {
    let run = run(&["--seconds", "2", "--rate", "100", "--outage", "0.5..1.2"]);
    run.closes_without_loss();
    assert_eq!(run.number("Requests", "answered"), 200, "{run}");
    assert_eq!(run.number("Requests", "failed"), 0, "{run}");
    // All routes: found and not, sold out, broken.
    for status in ["200", "201", "404", "500"] {
        assert!(run.line("Requests").contains(&format!(" x {status}")), "{run}");
    }
    assert!(
        run.said.contains("the collector is gone") && run.said.contains("the collector is back"),
        "{run}"
    );
    assert!(run.line("Connections").contains("outages: 1,"), "{run}");
    assert!(!run.said.contains("requests/s  p50"), "quiet in a pipe: {run}");
}

#[test]
fn a_collector_that_is_away_at_the_start_costs_nothing() {
    run(&["--seconds", "1", "--rate", "100", "--outage", "0..0.7"]).closes_without_loss();
}

#[test]
fn a_collector_that_returns_during_the_shutdown_costs_nothing() {
    let run = run(&[
        "--seconds",
        "1",
        "--rate",
        "100",
        "--outage",
        "0.4..1.8",
        "--patience",
        "20",
    ]);
    run.closes_without_loss();
    assert!(run.said.contains("the collector is back"), "{run}");
}

#[test]
fn what_a_collector_that_never_returns_costs_is_told() {
    let run = run(&[
        "--seconds",
        "1",
        "--rate",
        "100",
        "--outage",
        "0.5..600",
        "--patience",
        "0.5",
    ]);
    run.closes_with_losses("shutdown");
    assert!(!run.said.contains("the collector is back"), "{run}");
    assert!(
        run.number("Pipeline", "delivered") > 0,
        "there was a time before: {run}"
    );
    assert!(run.line("The last failure").contains("refused"), "{run}");
}

#[test]
fn what_a_queue_that_is_too_small_costs_is_told() {
    let run = run(&[
        "--seconds",
        "2",
        "--rate",
        "100",
        "--outage",
        "0.5..1.5",
        "--queue",
        "50",
    ]);
    run.closes_with_losses("queue full");
    assert!(run.number("Pipeline", "delivered") > 50, "{run}");
}

#[test]
fn a_line_each_second_says_how_it_goes() {
    let run = run(&[
        "--seconds",
        "3.2",
        "--rate",
        "50",
        "--outage",
        "0.5..2.6",
        "--progress",
    ]);
    run.closes_without_loss();
    let lines: Vec<_> = run
        .said
        .lines()
        .filter(|line| line.contains(" requests/s  p50 "))
        .collect();
    assert!(lines.len() >= 2, "{run}");
    // In its midst: what waits, and why.
    assert!(!lines[1].contains("queue      0 "), "{run}");
    assert!(lines[1].contains("last error: connect to"), "{run}");
    assert!(
        lines[1].contains("breaker Open") || lines[1].contains("breaker HalfOpen"),
        "{run}"
    );
}

/// That endpoint is a collector of this test, which can ask it.
#[test]
fn an_endpoint_of_the_user_receives_what_was_made() {
    let collector = Collector::start().expect("a collector");
    let run = run(&[
        "--seconds",
        "1",
        "--rate",
        "100",
        "--endpoint",
        &collector.endpoint(),
    ]);
    assert_eq!((run.code, run.failed.as_str()), (Some(0), ""), "{run}");
    assert_eq!(
        run.line("The account closes"),
        "The account closes: nothing is missing"
    );
    let made = ["spans", "log", "data"].map(|word| run.number("Made", word));
    let counters = collector.counters();
    let received = [Signal::Traces, Signal::Logs, Signal::Metrics].map(|signal| counters.of(signal).items);
    assert_eq!(made, received, "{run}");
    assert_eq!(
        run.number("Pipeline", "accepted"),
        made.iter().sum::<u64>(),
        "{run}"
    );

    let spans = collector.spans();
    let ids: HashSet<_> = spans.iter().map(|span| &span.span_id).collect();
    assert_eq!(ids.len(), spans.len(), "each once");
    let broken = spans
        .iter()
        .find(|span| span.name == "GET /report")
        .expect("a broken route");
    assert!(broken.is_error());
    assert_eq!(
        broken.attribute("http.response.status_code"),
        Some(&Value::Int(500))
    );
    let log = collector
        .logs()
        .into_iter()
        .find(|log| log.record.span_id == broken.span_id)
        .expect("an error is logged within the span");
    assert_eq!(log.record.severity_text, "ERROR");
    assert!(log.attribute("exception.type").is_some());
    let metrics: HashSet<_> = collector
        .metrics()
        .into_iter()
        .map(|metric| metric.metric.name)
        .collect();
    for name in [
        "http.server.request.duration",
        "http.server.active_requests",
        "http.client.request.duration",
        "shop.orders",
    ] {
        assert!(metrics.contains(name), "{name}: {metrics:?}");
    }
}

#[test]
fn what_an_endpoint_of_the_user_refuses_is_told() {
    let collector = Collector::start().expect("a collector");
    collector.answer(Answer::status(Code::INVALID_ARGUMENT, "not today"));
    let run = run(&[
        "--seconds",
        "0.5",
        "--rate",
        "100",
        "--endpoint",
        &collector.endpoint(),
    ]);
    assert_eq!((run.code, run.failed.as_str()), (Some(0), ""), "{run}");
    let accepted = run.number("Pipeline", "accepted");
    assert!(
        accepted > 0 && run.number("Pipeline", "rejected") == accepted,
        "{run}"
    );
    assert_eq!(
        run.line("The account closes"),
        format!("The account closes: {accepted} of {accepted} items are lost, and all of them are told")
    );
}

#[test]
fn an_endpoint_that_cannot_work_is_told_in_one_line() {
    let run = run(&["--endpoint", "ftp://collector"]);
    assert_eq!((run.code, run.said.as_str()), (Some(1), ""), "{run}");
    assert!(
        run.failed.starts_with("microservice: endpoint ") && run.failed.lines().count() == 1,
        "{run}"
    );
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    for (arguments, named) in [
        (&["--outage", "3"][..], "START..END"),
        (&["--outage", "3..2"], "ends before it begins"),
        (&["--rate", "0"], "--rate"),
        (&["--seconds", "-1"], "-1"),
        (&["--seconds", "NaN"], "--seconds"),
        (&["--queue", "0"], "--queue"),
        (
            &["--endpoint", "http://localhost:4317", "--outage", "1..2"],
            "--outage",
        ),
    ] {
        let run = run(arguments);
        assert_eq!(
            (run.code, run.said.as_str()),
            (Some(2), ""),
            "{arguments:?}: {run}"
        );
        assert!(run.failed.contains(named), "{arguments:?}: {run}");
    }
}

#[cfg(unix)]
fn interrupt(child: &Child) {
    let sent = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(sent.expect("kill is there").success());
}

/// Also in the midst of an outage that lasts.
#[cfg(unix)]
#[test]
fn ctrl_c_ends_the_load_and_still_closes_the_account() {
    for (outage, loses) in [("none", false), ("0..600", true)] {
        let mut child = program()
            .args([
                "--seconds",
                "600",
                "--patience",
                "0.5",
                "--progress",
                "--outage",
                outage,
            ])
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped"));
        let mut said = String::new();
        while !said.contains(" requests/s  p50 ") {
            assert!(lines.read_line(&mut said).expect("text") > 0, "it ended: {said}");
        }
        interrupt(&child);
        lines.read_to_string(&mut said).expect("text");
        let mut output = child.wait_with_output().expect("it ends");
        output.stdout = said.into_bytes();
        let run = Run::of(output);
        match loses {
            true => run.closes_with_losses("shutdown"),
            false => run.closes_without_loss(),
        }
        assert!(
            run.number("Requests", "answered") < 2_000,
            "it ended early: {run}"
        );
    }
}

/// While the first Ctrl-C still waits for a collector.
#[cfg(unix)]
#[test]
fn a_second_ctrl_c_ends_the_program() {
    let mut child = program()
        .args([
            "--seconds",
            "600",
            "--patience",
            "600",
            "--progress",
            "--outage",
            "0..600",
        ])
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped"));
    let mut wait_for = |what: &str| {
        let mut line = String::new();
        while !line.contains(what) {
            line.clear();
            assert!(
                lines.read_line(&mut line).expect("text") > 0,
                "it ended before {what:?}"
            );
        }
    };
    wait_for(" requests/s  p50 ");
    interrupt(&child);
    // No load any more: it is shutting down.
    wait_for("      0 requests/s");
    interrupt(&child);
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
}
