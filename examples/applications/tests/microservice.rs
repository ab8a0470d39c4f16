//! The program `microservice` closes its account through an outage, wherever that lies, and says so when it cannot.

use std::path::PathBuf;
use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    let mut path: PathBuf = std::env::current_exe().expect("this test");
    path.pop();
    if path.ends_with("deps") {
        path.pop();
    }
    let mut command = Command::new(path.join("examples/microservice"));
    command.args(arguments).output().expect("the program starts")
}

/// Every line that a closed account has.
fn assert_closed(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    for line in [
        "clients: ",
        "made: ",
        "pipeline: ",
        "exporter: ",
        "nothing is missing",
    ] {
        assert!(
            text.lines().any(|of| of.starts_with(line)),
            "{line:?} is missing: {text}"
        );
    }
    assert!(text.contains("0 rejected, 0 dropped, 0 unknown"), "{text}");
    assert!(!text.contains(" 0 spans"), "{text}");
}

#[test]
fn an_outage_in_the_middle_costs_nothing() {
    let output = run(&["--seconds", "4", "--outage", "1..2"]);
    assert_closed(&output);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("the collector dies") && text.contains("the collector is there"),
        "{text}"
    );
    assert!(text.contains("requests/s") && text.contains("breaker"), "{text}");
}

#[test]
fn an_outage_at_the_beginning_costs_nothing() {
    assert_closed(&run(&["--seconds", "2", "--outage", "0..1"]));
}

#[test]
fn an_outage_that_outlasts_the_load_costs_nothing() {
    assert_closed(&run(&["--seconds", "2", "--outage", "1..30"]));
}

#[test]
fn arguments_without_sense_are_told() {
    for arguments in [&["--outage", "8..4"][..], &["--rate", "0"], &["--seconds", "x"]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
    let output = run(&["--endpoint", "ftp://collector"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.starts_with("microservice: endpoint ") && said.lines().count() == 1,
        "{said}"
    );
}
