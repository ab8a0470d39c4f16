use super::*;
use alloc::string::ToString;

fn read(vars: &[(&str, Option<&str>)]) -> Environment {
    let vars = vars
        .iter()
        .map(|(name, value)| ((*name).into(), value.map(String::from)));
    Environment::read(vars).expect("not too much")
}

#[test]
fn a_value_that_is_no_text_is_refused_and_passed_over() {
    let env = read(&[
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", None),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", Some("grpc")),
        ("OTEL_EXPORTER_OTLP_HEADERS", None),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", None),
        ("HTTPS_PROXY", None),
    ]);
    assert_eq!(env.levels.of(Some(Signal::Traces)).protocol, None);
    assert_eq!(env.levels.all.protocol, Some(super::super::Protocol::Grpc));
    assert_eq!(env.refused.len(), 3, "{:?}", env.refused);
    assert!(
        env.refused.iter().all(|text| text.contains("UTF-8")),
        "{:?}",
        env.refused
    );
}

/// Its headers would go to another endpoint: a value that is no text is judged like any other that means nothing.
#[test]
fn an_endpoint_that_is_no_text_is_not_passed_over_beside_headers() {
    let config = |vars: &[(&str, Option<&str>)]| {
        let vars: Vec<_> = vars
            .iter()
            .map(|(name, value)| ((*name).to_string(), value.map(String::from)))
            .collect();
        Config::from_named(vars.into_iter()).expect("not too much")
    };
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", None);
    assert!(config(&[endpoint]).settings().is_ok(), "spec 33");
    let error = config(&[endpoint, ("OTEL_EXPORTER_OTLP_HEADERS", Some("key=hunter2"))])
        .settings()
        .err()
        .expect("headers");
    let text = error.to_string();
    assert!(
        text.contains("(OTEL_EXPORTER_OTLP_ENDPOINT)") && !text.contains("hunter2"),
        "{text}"
    );
}

#[test]
fn too_much_is_an_error() {
    let long = "x".repeat(BYTES_MAX);
    let vars = [("OTEL_EXPORTER_OTLP_HEADERS", &*long)];
    let error = Config::from_vars(vars).expect_err("too much");
    assert!(error.is_misuse() && error.to_string().len() < 300, "{error}");
    assert!(
        Config::from_vars([("PATH", &*long)]).is_ok(),
        "what others read is none of ours"
    );
}

#[test]
fn every_variable_that_is_known_is_read() {
    for name in known() {
        let env = read(&[(&name, Some("true"))]);
        assert!(env.warnings.is_empty(), "{name}: {:?}", env.warnings);
    }
    assert_eq!(known().len(), 9 * 5 + 2, "spec 33");
}

#[test]
fn distances_are_those_of_levenshtein() {
    for (a, b, expected) in [
        ("", "", 0),
        ("ENDPOINT", "ENDPOINT", 0),
        ("ENDPOINT", "ENPOINT", 1),
        ("ENDPOINT", "ENDPIONT", 2),
        ("ENDPOINT", "", 8),
        ("", "abc", 3),
        ("kitten", "sitting", 3),
    ] {
        assert_eq!(distance(a, b), expected, "{a} {b}");
    }
    assert_eq!(distance("ENDPOINT", &"x".repeat(65)), usize::MAX);
}
