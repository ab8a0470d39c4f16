//! The environment variables of the OTLP exporter specification, one by one.

use otlp_embed::protocol::{Route, Settings};
use otlp_embed::{Compression, Config, HistogramAggregation, Protocol, Signal, TemporalityPreference};
use std::time::Duration;

type Vars<'a> = &'a [(&'a str, &'a str)];

/// Variables without their common beginning.
fn config(vars: Vars<'_>) -> Config {
    let vars = vars
        .iter()
        .map(|(name, value)| (format!("OTEL_EXPORTER_OTLP_{name}"), *value));
    Config::from_vars(vars).expect("not too much")
}

fn settings(vars: Vars<'_>) -> Settings {
    config(vars)
        .settings()
        .unwrap_or_else(|error| panic!("{vars:?}: {error}"))
}

fn refused(vars: Vars<'_>) -> Vec<String> {
    config(vars).report().refused().map(str::to_owned).collect()
}

fn warnings(vars: Vars<'_>) -> Vec<String> {
    config(vars).report().warnings().map(str::to_owned).collect()
}

/// The whole URL that a signal's requests go to.
fn url(vars: Vars<'_>, signal: Signal) -> String {
    let settings = settings(vars);
    format!(
        "{}{}",
        settings.lane(signal).endpoint,
        settings.route(signal).path
    )
}

#[test]
fn nothing_set_gives_the_defaults() {
    let settings = settings(&[]);
    for signal in Signal::ALL {
        let Route {
            protocol,
            compression,
            timeout,
            headers,
            ..
        } = settings.route(signal);
        assert_eq!(*protocol, Protocol::HttpProtobuf, "spec 37");
        assert_eq!(*compression, Compression::None, "spec 39");
        assert_eq!(*timeout, Duration::from_secs(10), "spec 38");
        assert!(headers.is_empty());
        assert_eq!(settings.lane(signal).endpoint.port(), 4318, "spec 32");
    }
    assert_eq!(url(&[], Signal::Traces), "http://localhost:4318/v1/traces");
    let report = config(&[]).report();
    assert_eq!(
        (report.refused().count(), report.warnings().count()),
        (0, 0),
        "{report}"
    );
    assert!(
        report.entries().all(|entry| entry.origin() == "default"),
        "{report}"
    );
}

/// The examples of the specification, "Endpoint URLs for OTLP/HTTP", and what follows from its rules.
#[test]
fn http_urls_are_built_from_the_base_and_used_as_they_are_for_a_signal() {
    use Signal::{Logs, Metrics, Traces};
    let cases: &[(Vars<'_>, Signal, &str)] = &[
        (
            &[("ENDPOINT", "http://collector:4318")],
            Traces,
            "http://collector:4318/v1/traces",
        ),
        (
            &[("ENDPOINT", "http://collector:4318")],
            Metrics,
            "http://collector:4318/v1/metrics",
        ),
        (
            &[("ENDPOINT", "http://collector:4318")],
            Logs,
            "http://collector:4318/v1/logs",
        ),
        (
            &[("ENDPOINT", "http://collector:4318")],
            Signal::Profiles,
            "http://collector:4318/v1development/profiles",
        ),
        (
            &[("TRACES_ENDPOINT", "http://collector:4318")],
            Traces,
            "http://collector:4318/",
        ),
        (
            &[("METRICS_ENDPOINT", "http://collector.example.com/v1/metrics/")],
            Metrics,
            "http://collector.example.com/v1/metrics/",
        ),
        (
            &[
                ("ENDPOINT", "http://collector:4318/mycollector/"),
                ("METRICS_ENDPOINT", "http://other/v1/metrics"),
            ],
            Traces,
            "http://collector:4318/mycollector/v1/traces",
        ),
        (
            &[
                ("ENDPOINT", "http://collector:4318/mycollector/"),
                ("METRICS_ENDPOINT", "http://other/v1/metrics"),
            ],
            Metrics,
            "http://other/v1/metrics",
        ),
        (
            &[("ENDPOINT", "http://collector:4318/a/b")],
            Logs,
            "http://collector:4318/a/b/v1/logs",
        ),
        (
            &[("ENDPOINT", "http://collector")],
            Logs,
            "http://collector/v1/logs",
        ),
        (
            &[("ENDPOINT", "http://collector/a?key=1")],
            Logs,
            "http://collector/a/v1/logs?key=1",
        ),
        (
            &[("LOGS_ENDPOINT", "http://collector?x=1")],
            Logs,
            "http://collector/?x=1",
        ),
        (
            &[("ENDPOINT", "http://[::1]:4318/")],
            Logs,
            "http://[::1]:4318/v1/logs",
        ),
        (
            &[("ENDPOINT", "unix:/run/otlp.sock")],
            Logs,
            "unix:/run/otlp.sock/v1/logs",
        ),
        (
            &[("LOGS_ENDPOINT", "unix:/run/otlp.sock")],
            Logs,
            "unix:/run/otlp.sock/v1/logs",
        ),
    ];
    for (vars, signal, expected) in cases {
        assert_eq!(url(vars, *signal), *expected, "spec 34, 35: {vars:?}");
    }
    assert_eq!(
        settings(&[("ENDPOINT", "http://collector")]).lanes[0]
            .endpoint
            .port(),
        80,
        "spec 35"
    );
}

#[cfg(feature = "tls")]
#[test]
fn https_is_tls_on_port_443_unless_given() {
    let vars: Vars<'_> = &[("ENDPOINT", "https://collector.example.com/base")];
    // No roots are built into the tests, and an exporter that trusts nobody is not built.
    let error = config(vars)
        .settings()
        .err()
        .expect("nobody to trust")
        .to_string();
    assert!(error.contains("https://collector.example.com"), "{error}");
    let report = config(vars).report();
    let entry = report
        .entry(Some(Signal::Traces), "endpoint")
        .expect("an endpoint");
    assert_eq!(
        entry.value(),
        "https://collector.example.com/base/v1/traces",
        "spec 35"
    );
    assert_eq!(entry.origin(), "OTEL_EXPORTER_OTLP_ENDPOINT");
}

#[test]
fn grpc_takes_urls_bare_authorities_and_sockets() {
    for (endpoint, insecure, expected) in [
        ("http://collector:4317", "", "http://collector:4317"),
        ("http://collector", "", "http://collector:4317"),
        ("http://collector:4317/", "true", "http://collector:4317"),
        ("collector:1", "true", "http://collector:1"),
        ("collector", "TRUE", "http://collector:4317"),
        ("unix:///run/otlp.sock", "", "unix:/run/otlp.sock"),
        ("unix:otlp.sock", "", "unix:otlp.sock"),
        // A base that serves signals over HTTP as well.
        ("http://collector:4317/base?x#y", "", "http://collector:4317"),
    ] {
        let vars: Vars<'_> = &[
            ("ENDPOINT", endpoint),
            ("PROTOCOL", "grpc"),
            ("INSECURE", insecure),
        ];
        let settings = settings(vars);
        let lane = settings.lane(Signal::Logs);
        assert_eq!(lane.endpoint.to_string(), expected, "spec 36: {vars:?}");
        assert!(lane.is_grpc);
        assert_eq!(
            &*settings.route(Signal::Logs).path,
            "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
        );
        let notes = warnings(vars);
        assert_eq!(notes.is_empty(), endpoint.len() < 25, "{notes:?}");
    }
}

/// Off unless it is said (specification, "Insecure").
#[test]
fn a_bare_authority_means_tls_unless_insecure() {
    for insecure in ["", "false", "0", "1", "yes"] {
        let vars: Vars<'_> = &[
            ("ENDPOINT", "collector:4317"),
            ("PROTOCOL", "grpc"),
            ("INSECURE", insecure),
        ];
        let report = config(vars).report();
        let entry = report.entry(Some(Signal::Logs), "endpoint").expect("an endpoint");
        assert_eq!(entry.value(), "https://collector:4317", "spec 36: {insecure}");
    }
    assert!(
        refused(&[("INSECURE", "1")])[0].contains("neither true nor false"),
        "a boolean is true or false"
    );
}

#[test]
fn insecure_for_one_signal_wins() {
    let vars: Vars<'_> = &[
        ("ENDPOINT", "collector:4317"),
        ("PROTOCOL", "grpc"),
        ("INSECURE", "true"),
        ("LOGS_INSECURE", "false"),
    ];
    let report = config(vars).report();
    let of = |signal| {
        let entry = report.entry(Some(signal), "endpoint");
        entry.map(|entry| entry.value().to_owned())
    };
    assert_eq!(of(Signal::Traces).as_deref(), Some("http://collector:4317"));
    assert_eq!(
        of(Signal::Logs).as_deref(),
        Some("https://collector:4317"),
        "spec 33"
    );
}

#[test]
fn the_scheme_overrides_insecure() {
    for (endpoint, insecure, is_odd) in [
        ("http://collector:4317", "false", true),
        ("http://collector:4317", "true", false),
        ("https://collector:4317", "true", true),
        ("https://collector:4317", "false", false),
    ] {
        let vars: Vars<'_> = &[
            ("ENDPOINT", endpoint),
            ("PROTOCOL", "grpc"),
            ("INSECURE", insecure),
        ];
        let report = config(vars).report();
        let entry = report.entry(Some(Signal::Logs), "endpoint").expect("an endpoint");
        assert_eq!(entry.value(), endpoint, "spec 36");
        let is_warned = report
            .warnings()
            .any(|text| text.contains("INSECURE") && text.contains("decides against it"));
        assert_eq!(is_warned, is_odd, "{vars:?}: {report}");
    }
    let notes = warnings(&[("INSECURE", "true")]);
    assert!(notes[0].contains("over HTTP"), "spec 36: {notes:?}");
}

/// One variable, its value for all, and what each signal makes of it.
#[test]
fn every_setting_is_overridden_by_that_of_a_signal() {
    let vars: Vars<'_> = &[
        ("PROTOCOL", "grpc"),
        ("TRACES_PROTOCOL", "http/json"),
        ("TIMEOUT", "1500"),
        ("METRICS_TIMEOUT", "250"),
        ("COMPRESSION", "gzip"),
        ("LOGS_COMPRESSION", "none"),
        ("METRICS_COMPRESSION", "zstd"),
        ("HEADERS", "a=1,b=2"),
        ("LOGS_HEADERS", "c=3"),
        ("ENDPOINT", "http://general:4317"),
        ("PROFILES_ENDPOINT", "http://profiles:4317"),
    ];
    let settings = settings(vars);
    let all = Signal::ALL.map(|signal| settings.route(signal));
    use Compression::{Gzip, None, Zstd};
    use Protocol::{Grpc, HttpJson};
    assert_eq!(
        all.map(|route| route.protocol),
        [HttpJson, Grpc, Grpc, Grpc],
        "spec 33"
    );
    assert_eq!(
        all.map(|route| route.compression),
        [Gzip, Zstd, None, Gzip],
        "spec 33"
    );
    assert_eq!(
        all.map(|route| route.timeout.as_millis()),
        [1500, 250, 1500, 1500],
        "spec 33"
    );
    let names = |route: &Route| -> String { route.headers.iter().map(|(name, _)| &**name).collect() };
    assert_eq!(all.map(names), ["ab", "ab", "c", "ab"], "spec 33");
    let hosts = Signal::ALL.map(|signal| settings.lane(signal).endpoint.to_string());
    assert_eq!(
        hosts,
        [
            "http://general:4317",
            "http://general:4317",
            "http://general:4317",
            "http://profiles:4317"
        ]
    );
    // gRPC and HTTP never share a connection, even to the same port.
    assert_eq!(settings.lanes.len(), 3);
    assert_eq!(
        settings.route(Signal::Metrics).lane,
        settings.route(Signal::Logs).lane
    );
}

#[test]
fn empty_is_unset() {
    for empty in ["", "  ", "\t"] {
        let vars: Vec<(String, &str)> = [
            "ENDPOINT",
            "PROTOCOL",
            "TIMEOUT",
            "HEADERS",
            "COMPRESSION",
            "INSECURE",
            "CERTIFICATE",
            "CLIENT_KEY",
            "CLIENT_CERTIFICATE",
            "METRICS_TEMPORALITY_PREFERENCE",
            "NO_SUCH_VARIABLE",
        ]
        .iter()
        .flat_map(|name| [(*name).to_owned(), format!("TRACES_{name}")])
        .map(|name| (format!("OTEL_EXPORTER_OTLP_{name}"), empty))
        .collect();
        let report = Config::from_vars(vars).expect("nothing").report();
        assert_eq!(
            (report.refused().count(), report.warnings().count()),
            (0, 0),
            "spec 33: {report}"
        );
        assert!(
            report.entries().all(|entry| entry.origin() == "default"),
            "spec 33: {report}"
        );
    }
}

#[test]
fn words_know_no_case() {
    let settings = settings(&[
        ("PROTOCOL", " GRPC "),
        ("LOGS_PROTOCOL", "Http/Json"),
        ("COMPRESSION", "GZip"),
    ]);
    assert_eq!(settings.route(Signal::Traces).protocol, Protocol::Grpc, "spec 33");
    assert_eq!(
        settings.route(Signal::Logs).protocol,
        Protocol::HttpJson,
        "spec 33"
    );
    assert_eq!(
        settings.route(Signal::Logs).compression,
        Compression::Gzip,
        "spec 33"
    );
}

/// An invalid value is told, and gives way: a signal's to the general one, that to the default.
#[test]
fn invalid_values_are_reported_and_fall_through() {
    let settings = settings(&[
        ("TRACES_PROTOCOL", "http/grpc"),
        ("PROTOCOL", "grpc"),
        ("TRACES_TIMEOUT", "soon"),
        ("TIMEOUT", "2000"),
        ("COMPRESSION", "brotli"),
        ("TRACES_ENDPOINT", "ftp://collector"),
        ("ENDPOINT", "http://general"),
    ]);
    let route = settings.route(Signal::Traces);
    assert_eq!(&*route.endpoint_name, "http://general:4317", "spec 33");
    assert_eq!(route.protocol, Protocol::Grpc, "spec 33");
    assert_eq!(route.timeout, Duration::from_secs(2), "spec 33");
    assert_eq!(route.compression, Compression::None, "spec 33");

    let headers = self::settings(&[("TRACES_HEADERS", "=oops"), ("HEADERS", "a=1")]);
    assert_eq!(headers.route(Signal::Traces).headers.len(), 1, "spec 33");

    for (name, value, words) in [
        ("PROTOCOL", "http", "none of grpc, http/protobuf, http/json"),
        ("PROTOCOL", "http/protobuf2", "none of"),
        ("LOGS_COMPRESSION", "brotli", "none of none, gzip, zstd"),
        ("TIMEOUT", "10s", "number of milliseconds"),
        ("TIMEOUT", "-1", "number of milliseconds"),
        ("TIMEOUT", "+1", "number of milliseconds"),
        ("TIMEOUT", "1.5", "number of milliseconds"),
        ("TIMEOUT", "99999999999999999999", "number of milliseconds"),
        ("TRACES_INSECURE", "yes", "neither true nor false"),
        ("ENDPOINT", "collector:4318", "no scheme"),
        ("ENDPOINT", "ftp://collector", "takes http and https"),
        ("ENDPOINT", "http://collector:0", "port"),
        ("LOGS_ENDPOINT", "http://", "host is missing"),
        ("METRICS_TEMPORALITY_PREFERENCE", "deltas", "none of cumulative"),
        (
            "METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
            "exponential",
            "none of explicit",
        ),
    ] {
        let vars: Vars<'_> = &[(name, value)];
        let texts = refused(vars);
        assert_eq!(texts.len(), 1, "{vars:?}: {texts:?}");
        let text = &texts[0];
        assert!(text.starts_with(&format!("OTEL_EXPORTER_OTLP_{name}=")), "{text}");
        assert!(text.contains(value) && text.contains(words), "spec 33: {text}");
        let (with, without) = (self::settings(vars), self::settings(&[]));
        for signal in Signal::ALL {
            assert_eq!(
                with.route(signal).endpoint_name,
                without.route(signal).endpoint_name
            );
            assert_eq!(with.route(signal).timeout, without.route(signal).timeout);
        }
    }
}

#[test]
fn a_timeout_of_zero_is_no_limit() {
    let settings = settings(&[("TIMEOUT", "0"), ("LOGS_TIMEOUT", "99999999999")]);
    for signal in Signal::ALL {
        assert!(settings.route(signal).timeout >= Duration::from_secs(40 * 86_400));
    }
    let report = config(&[("TIMEOUT", "0")]).report();
    assert_eq!(
        report
            .entry(Some(Signal::Logs), "timeout")
            .map(|entry| entry.value()),
        Some("no limit")
    );
}

#[test]
fn headers_are_baggage_percent_decoded() {
    let settings = settings(&[("HEADERS", "Api-Key=a%2Cb%3D, x-tenant = acme ,,empty=,last=1;2")]);
    let headers: Vec<_> = settings
        .route(Signal::Traces)
        .headers
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    let expected = [
        ("api-key", "a,b="),
        ("x-tenant", "acme"),
        ("empty", ""),
        ("last", "1;2"),
    ];
    assert_eq!(headers, expected, "spec 40");
    assert!(warnings(&[("HEADERS", "last=1;2")])[0].contains("%3B"), "spec 40");

    let vars: Vars<'_> = &[("HEADERS", "hunter2,good=1,bad name=hunter2,b=hunter2%0Ax")];
    assert_eq!(
        self::settings(vars).route(Signal::Logs).headers.len(),
        1,
        "spec 33"
    );
    let texts = refused(vars);
    assert_eq!(texts.len(), 3, "{texts:?}");
    for text in texts {
        assert!(text.starts_with("OTEL_EXPORTER_OTLP_HEADERS: header "), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

/// They may be credentials: no endpoint gets the headers that were meant for another.
#[test]
fn a_malformed_endpoint_is_not_passed_over_beside_headers() {
    for vars in [
        &[
            ("ENDPOINT", "http//me:hunter2@collector"),
            ("HEADERS", "api-key=hunter2"),
        ][..],
        &[
            ("TRACES_ENDPOINT", "collector"),
            ("ENDPOINT", "http://collector"),
            ("HEADERS", "api-key=hunter2"),
        ],
        &[
            ("LOGS_ENDPOINT", "collector"),
            ("LOGS_HEADERS", "api-key=hunter2"),
        ],
    ] {
        let error = config(vars).settings().err().expect("headers").to_string();
        assert!(
            error.contains("ENDPOINT)") && error.contains("not passed over"),
            "{error}"
        );
        assert!(!error.contains("hunter2"), "{error}");
        let report = config(vars).report();
        assert!(report.refused().any(|text| text == error), "{report}");
        assert!(!report.to_string().contains("hunter2"), "{report}");
        // Where code sets the endpoint, the variable is not asked.
        config(vars)
            .with_endpoint("http://localhost:4318")
            .for_signal(Signal::Traces, |traces| traces)
            .settings()
            .expect("code wins");
    }
}

/// Those of code were meant for the endpoint of the environment as much as those of the environment.
#[test]
fn a_malformed_endpoint_is_not_passed_over_beside_credentials_of_code() {
    let with_header = |config: Config| config.with_header("authorization", "Bearer hunter2");
    let with_source = |config: Config| config.with_credentials(|| String::from("hunter2"));
    for vars in [
        &[("ENDPOINT", "http//collector")][..],
        &[("TRACES_ENDPOINT", "collector"), ("ENDPOINT", "http://elsewhere")],
    ] {
        config(vars).settings().expect("nothing that may be a secret");
        for config in [
            with_header(config(vars)),
            with_source(config(vars)),
            config(vars).for_signal(Signal::Traces, with_header),
            config(vars).for_signal(Signal::Traces, with_source),
        ] {
            let error = config.settings().err().expect("a secret").to_string();
            assert!(
                error.contains("ENDPOINT)") && error.contains("not passed over"),
                "{error}"
            );
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
    // Those of another signal go to its own endpoint, which is none of the malformed ones.
    config(&[("TRACES_ENDPOINT", "collector")])
        .for_signal(Signal::Logs, with_header)
        .settings()
        .expect("logs go where they are meant to go");
}

#[test]
fn code_wins_over_variables() {
    let config = config(&[
        ("ENDPOINT", "http://variable:4317"),
        ("TRACES_ENDPOINT", "http://variable:4317"),
        ("PROTOCOL", "http/json"),
        ("TIMEOUT", "1"),
        ("LOGS_TIMEOUT", "2"),
        ("COMPRESSION", "zstd"),
        ("HEADERS", "both=variable,variable=1"),
        ("METRICS_TEMPORALITY_PREFERENCE", "delta"),
    ])
    .with_endpoint("http://code:4317")
    .with_protocol(Protocol::Grpc)
    .with_timeout(Duration::from_secs(3))
    .with_compression(Compression::Gzip)
    .with_header("Both", "code")
    .with_temporality_preference(TemporalityPreference::LowMemory);
    let settings = config.settings().expect("settings that work");
    for signal in Signal::ALL {
        let route = settings.route(signal);
        assert_eq!(&*route.endpoint_name, "http://code:4317");
        assert_eq!(route.protocol, Protocol::Grpc);
        assert_eq!(route.timeout, Duration::from_secs(3));
        assert_eq!(route.compression, Compression::Gzip);
        let headers: Vec<_> = route
            .headers
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(headers, ["variable=1", "both=code"]);
    }
    assert_eq!(settings.lanes.len(), 1);
    let report = config.report();
    assert_eq!(report.temporality_preference(), TemporalityPreference::LowMemory);
    let headers = report.entry(Some(Signal::Logs), "headers").expect("headers");
    assert_eq!(headers.origin(), "OTEL_EXPORTER_OTLP_HEADERS, with_header");
    assert_eq!(headers.value(), "variable=…, both=…");
}

#[test]
fn preferences_are_kept_for_the_sdk() {
    use HistogramAggregation::{Base2ExponentialBucketHistogram, ExplicitBucketHistogram};
    use TemporalityPreference::{Cumulative, Delta, LowMemory};
    for (word, expected) in [
        ("", Cumulative),
        ("cumulative", Cumulative),
        ("Delta", Delta),
        ("LOWMEMORY", LowMemory),
        ("other", Cumulative),
    ] {
        let report = config(&[("METRICS_TEMPORALITY_PREFERENCE", word)]).report();
        assert_eq!(report.temporality_preference(), expected, "spec 33: {word}");
    }
    for (word, expected) in [
        ("", ExplicitBucketHistogram),
        ("explicit_bucket_histogram", ExplicitBucketHistogram),
        (
            "BASE2_exponential_bucket_histogram",
            Base2ExponentialBucketHistogram,
        ),
    ] {
        let report = config(&[("METRICS_DEFAULT_HISTOGRAM_AGGREGATION", word)]).report();
        assert_eq!(
            report.default_histogram_aggregation(),
            expected,
            "spec 33: {word}"
        );
    }
}

#[test]
fn misspelt_variables_are_named_without_their_values() {
    for (name, words) in [
        ("ENPOINT", "is OTEL_EXPORTER_OTLP_ENDPOINT meant?"),
        ("TRACE_ENDPOINT", "is OTEL_EXPORTER_OTLP_TRACES_ENDPOINT meant?"),
        ("TRACES_HEADER", "is OTEL_EXPORTER_OTLP_TRACES_HEADERS meant?"),
        (
            "TEMPORALITY_PREFERENCE_OF_ALL_METRICS",
            "no such variable is read",
        ),
        ("SPAN_INSECURE", "set OTEL_EXPORTER_OTLP_TRACES_INSECURE"),
        ("endpoint", "no such variable"),
        ("", "no such variable"),
    ] {
        let texts = warnings(&[(name, "hunter2")]);
        assert_eq!(texts.len(), 1, "{texts:?}");
        assert!(texts[0].contains(words), "{name}: {}", texts[0]);
        assert!(!texts[0].contains("hunter2"), "{}", texts[0]);
    }
    let many: Vec<_> = (0..100)
        .map(|at| (format!("OTEL_EXPORTER_OTLP_{at}"), "x"))
        .collect();
    let report = Config::from_vars(many).expect("not too much").report();
    assert_eq!(report.warnings().count(), 17, "{report}");
    let others = Config::from_vars([
        ("OTEL_SDK_DISABLED", "true"),
        ("OTEL_SERVICE_NAME", "x"),
        ("PATH", "/"),
    ]);
    let report = others.expect("not too much").report();
    assert!(report.warnings().all(|text| text.contains("OTEL_SDK_DISABLED")));
    assert_eq!(report.warnings().count(), 1, "{report}");
}

#[test]
fn what_is_probably_not_meant_is_warned_about() {
    let cases: &[(Vars<'_>, &str)] = &[
        (
            &[("ENDPOINT", "http://collector:4317")],
            "port 4317 is that of OTLP over gRPC",
        ),
        (
            &[("ENDPOINT", "http://collector:4318"), ("PROTOCOL", "grpc")],
            "port 4318 is that of OTLP over HTTP",
        ),
        (&[("TIMEOUT", "10")], "counts milliseconds"),
        (&[("TIMEOUT", "10000000")], "until the timeout"),
        (
            &[
                ("ENDPOINT", "http://collector"),
                ("HEADERS", "authorization=hunter2"),
            ],
            "plain text",
        ),
        (
            &[("ENDPOINT", "http://10.0.0.1"), ("HEADERS", "x-api-key=hunter2")],
            "x-api-key looks like a credential",
        ),
        (
            &[("TRACES_ENDPOINT", "http://collector:4318")],
            "requests go to /; collectors take traces at /v1/traces",
        ),
        (&[("CERTIFICATE", "/ca.pem")], "CERTIFICATE: traces go to"),
        (&[("LOGS_CLIENT_KEY", "/key.pem")], "LOGS_CLIENT_KEY: logs go to"),
    ];
    for (vars, words) in cases {
        let texts = warnings(vars);
        assert!(
            texts.iter().any(|text| text.contains(words)),
            "{vars:?}: {texts:?}"
        );
        assert!(texts.iter().all(|text| !text.contains("hunter2")), "{texts:?}");
    }
    let fine: &[Vars<'_>] = &[
        &[
            ("ENDPOINT", "http://localhost:4318"),
            ("HEADERS", "authorization=x"),
        ],
        &[
            ("ENDPOINT", "http://127.0.0.1:4317"),
            ("PROTOCOL", "grpc"),
            ("HEADERS", "api-key=x"),
        ],
        &[("ENDPOINT", "http://collector"), ("HEADERS", "x-tenant=acme")],
        &[("ENDPOINT", "unix:/run/otlp.sock"), ("HEADERS", "api-key=x")],
        &[("TRACES_ENDPOINT", "http://collector/v1/traces")],
    ];
    for vars in fine {
        assert_eq!(warnings(vars), Vec::<String>::new(), "{vars:?}");
    }
}

#[cfg(feature = "tls")]
#[test]
fn files_of_tls_are_kept_for_each_signal() {
    let vars: Vars<'_> = &[
        ("ENDPOINT", "https://collector"),
        ("CERTIFICATE", "/none/ca.pem"),
        ("LOGS_CERTIFICATE", "/none/logs.pem"),
        ("CLIENT_KEY", "/none/key.pem"),
        ("CLIENT_CERTIFICATE", "/none/chain.pem"),
    ];
    let report = config(vars).report();
    let of = |signal, name: &str| {
        let entry = report.entry(Some(signal), name).expect(name);
        (entry.value().to_owned(), entry.origin().to_owned())
    };
    for (signal, name, path, origin) in [
        (Signal::Traces, "certificate", "/none/ca.pem", "CERTIFICATE"),
        (Signal::Logs, "certificate", "/none/logs.pem", "LOGS_CERTIFICATE"),
        (Signal::Logs, "client key", "/none/key.pem", "CLIENT_KEY"),
        (
            Signal::Metrics,
            "client certificate",
            "/none/chain.pem",
            "CLIENT_CERTIFICATE",
        ),
    ] {
        assert_eq!(
            of(signal, name),
            (path.into(), format!("OTEL_EXPORTER_OTLP_{origin}")),
            "spec 33"
        );
    }
    // A file that is not there is an error of the building that names variable and path: trust never falls through.
    let error = config(vars).settings().err().expect("no such file").to_string();
    assert!(
        error.contains("OTEL_EXPORTER_OTLP_CERTIFICATE") && error.contains("/none/ca.pem"),
        "spec 54: {error}"
    );
    for (name, other) in [
        ("CLIENT_KEY", "CLIENT_CERTIFICATE"),
        ("CLIENT_CERTIFICATE", "CLIENT_KEY"),
    ] {
        let texts = refused(&[("ENDPOINT", "https://collector"), (name, "/none/x.pem")]);
        assert!(
            texts[0].contains(&format!("set OTEL_EXPORTER_OTLP_{other} too")),
            "{texts:?}"
        );
    }
}

#[test]
fn proxies_are_taken_from_variables_only_when_asked() {
    let vars = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector.example:4318"),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://logs.internal/v1/logs"),
        (
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
            "http://localhost/v1/metrics",
        ),
        ("http_proxy", "http://me:hunter2@proxy:3128"),
        ("NO_PROXY", "internal"),
    ];
    let config = Config::from_vars(vars).expect("not too much");
    let unasked = config.settings().expect("settings");
    assert!(unasked.lanes.iter().all(|lane| lane.proxy.is_none()));

    let config = config.with_proxy_from_env();
    let settings = config.settings().expect("settings");
    let through = |signal| settings.lane(signal).proxy.as_ref();
    let proxy = through(Signal::Traces).expect("a proxy");
    assert_eq!(
        (proxy.to_string(), proxy.port),
        ("http://proxy:3128 with credentials".into(), 3128)
    );
    assert_eq!(proxy.authorization.as_deref(), Some("Basic bWU6aHVudGVyMg=="));
    assert!(through(Signal::Logs).is_none() && through(Signal::Metrics).is_none());
    let report = config.report();
    let of = |signal| {
        let entry = report.entry(Some(signal), "proxy").expect("an entry");
        (entry.value(), entry.origin())
    };
    assert_eq!(
        of(Signal::Traces),
        ("http://proxy:3128 with credentials", "http_proxy")
    );
    assert_eq!(of(Signal::Logs), ("none", "NO_PROXY"));
    for shown in [report.to_string(), format!("{report:?}"), format!("{config:?}")] {
        assert!(
            !shown.contains("hunter2") && !shown.contains("bWU6aHVudGVyMg"),
            "{shown}"
        );
    }
}

/// Of two spellings the empty one is none (spec 33), wherever the variables come from.
#[test]
fn an_empty_proxy_variable_does_not_hide_its_other_spelling() {
    let vars = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector.example:4318"),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://logs.internal/v1/logs"),
        ("http_proxy", ""),
        ("HTTP_PROXY", "http://proxy:3128"),
        ("no_proxy", " "),
        ("NO_PROXY", "internal"),
    ];
    let config = Config::from_vars(vars)
        .expect("not too much")
        .with_proxy_from_env();
    let report = config.report();
    assert_eq!(report.refused().count(), 0, "{report}");
    let origin = |signal| report.entry(Some(signal), "proxy").expect("an entry").origin();
    assert_eq!(origin(Signal::Traces), "HTTP_PROXY");
    assert_eq!(origin(Signal::Logs), "NO_PROXY");
}

/// The same from the process itself; no other test of this file reads its environment.
#[test]
fn the_process_is_asked_by_from_env() {
    let report = Config::from_env().expect("not too much").report();
    let is_set =
        std::env::vars().any(|(name, value)| name.starts_with("OTEL_EXPORTER_OTLP_") && !value.is_empty());
    let is_read = report
        .entries()
        .any(|entry| entry.origin().starts_with("OTEL_EXPORTER_OTLP_"));
    assert!(is_set || !is_read, "{report}");

    let this = std::env::current_exe().expect("a program");
    let output = std::process::Command::new(this)
        .args(["--exact", "shown_by_a_child", "--nocapture"])
        .env("OTLP_EMBED_CHILD", "1")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://from-the-process:4318")
        .env("OTEL_EXPORTER_OTLP_HEADERS", "api-key=hunter2")
        .env("HTTP_PROXY", "http://proxy-of-the-process")
        .env_remove("http_proxy")
        .env_remove("REQUEST_METHOD")
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    for words in [
        "http://from-the-process:4318/v1/traces  (OTEL_EXPORTER_OTLP_ENDPOINT)",
        "api-key=…",
        "http://proxy-of-the-process:80  (HTTP_PROXY)",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!said.contains("hunter2"), "{said}");
}

/// Prints what it is told by its environment where it is the child of the test before.
#[test]
fn shown_by_a_child() {
    if std::env::var_os("OTLP_EMBED_CHILD").is_some() {
        let config = Config::from_env().expect("not too much").with_proxy_from_env();
        println!("{}", config.report());
        config.settings().expect("settings that work");
    }
    // Without variables the proxies are read at the call.
    assert!(Config::new().with_proxy_from_env().settings().is_ok());
}
