//! The setters of a configuration: what they make of it, and what they refuse.

use otlp_embed::endpoint::{Endpoint, Host};
use otlp_embed::policy::RetryPolicy;
use otlp_embed::protocol::Settings;
use otlp_embed::rt::Blocking;
use otlp_embed::{Compression, Config, Keepalive, Protocol, Signal};
use std::net::SocketAddr;
use std::time::Duration;

fn settings(config: &Config) -> Settings {
    config.settings().unwrap_or_else(|error| panic!("{error}"))
}

fn refused(config: &Config) -> String {
    let error = config.settings().err().expect("it cannot work");
    assert!(error.is_misuse() && !error.is_retryable());
    let text = error.to_string();
    assert!(
        config.report().refused().any(|refused| refused == text),
        "the report says so too: {text}"
    );
    text
}

#[test]
fn every_setter_reaches_the_settings() {
    let keepalive = Keepalive::new(Duration::from_secs(60))
        .with_timeout(Duration::from_secs(7))
        .with_while_idle(true);
    let address: SocketAddr = "192.0.2.1:4317".parse().expect("an address");
    let config = Config::new()
        .with_endpoint("http://collector:4317")
        .with_protocol(Protocol::Grpc)
        .with_compression(Compression::Gzip)
        .with_timeout(Duration::from_secs(3))
        .with_connect_timeout(Duration::from_secs(1))
        .with_header("X-One", "1")
        .with_headers([("x-two", "2"), ("x-three", "3")])
        .with_addresses([address])
        .with_retry_policy(RetryPolicy::never())
        .with_memory_limit(1 << 20)
        .with_request_limit(2 << 20)
        .with_response_limit(3 << 10)
        .with_keepalive(keepalive)
        .with_max_connection_age(Duration::from_secs(600))
        .with_http1_connections(9)
        .with_user_agent("shop/1.2")
        .with_proxy("http://me:hunter2@proxy:3128")
        .with_tracing_isolated(false);
    let settings = settings(&config);
    assert_eq!(
        settings.lanes.len(),
        1,
        "every signal goes to the same destination"
    );
    assert_eq!(settings.retry, RetryPolicy::never());
    assert_eq!(settings.memory_limit_bytes, 1 << 20);
    assert_eq!(settings.request_bytes_max, 2 << 20, "spec 1");
    assert!(!settings.isolate_tracing);
    let lane = &settings.lanes[0];
    assert_eq!(&*lane.endpoint_name, "http://collector:4317");
    assert!(lane.is_grpc && !lane.isolate_tracing);
    assert_eq!(lane.connect_timeout, Duration::from_secs(1));
    assert_eq!(lane.addresses, [address]);
    assert_eq!(lane.keepalive, Some(keepalive), "spec 51");
    assert_eq!(lane.max_connection_age, Some(Duration::from_secs(600)));
    assert_eq!(lane.http1_connections_max, 9, "spec 8");
    assert_eq!(lane.response_bytes_max, 3 << 10, "spec 3");
    let own = concat!("OTel-OTLP-Exporter-Rust/", env!("CARGO_PKG_VERSION"));
    assert_eq!(&*lane.user_agent, format!("shop/1.2 {own}"), "spec 42");
    let proxy = lane.proxy.as_ref().expect("a proxy");
    assert_eq!((&proxy.host, proxy.port), (&Host::Name("proxy".into()), 3128));
    for signal in Signal::ALL {
        let route = settings.route(signal);
        assert_eq!(route.protocol, Protocol::Grpc);
        assert_eq!(route.compression, Compression::Gzip);
        assert_eq!(route.timeout, Duration::from_secs(3));
        assert_eq!(&*route.path, signal.grpc_path());
        let names: Vec<_> = route.headers.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["x-one", "x-two", "x-three"]);
    }
}

#[test]
fn defaults_are_those_of_the_specification() {
    let settings = settings(&Config::new());
    assert_eq!(settings.request_bytes_max, 64 << 20, "spec 1");
    let lane = &settings.lanes[0];
    assert_eq!(lane.response_bytes_max, 4 << 20, "spec 3");
    assert_eq!(
        lane.keepalive, None,
        "spec 51: off unless asked for, for the sake of servers"
    );
    assert_eq!(lane.max_connection_age, None);
    assert!(lane.proxy.is_none() && lane.addresses.is_empty());
    assert_eq!(
        &*lane.user_agent,
        concat!("OTel-OTLP-Exporter-Rust/", env!("CARGO_PKG_VERSION")),
        "spec 42"
    );
    assert!(settings.retry.attempts_max > 1, "spec 41");
    assert_eq!(
        settings.route(Signal::Profiles).path.as_ref(),
        "/v1development/profiles",
        "spec 27"
    );
}

#[test]
fn a_signal_overrides_what_holds_for_all() {
    let config = Config::new()
        .with_endpoint("http://collector:4318/base")
        .with_timeout(Duration::from_secs(5))
        .with_header("x-tenant", "acme")
        .with_header("x-all", "1")
        .for_signal(Signal::Logs, |logs| {
            logs.with_endpoint("http://logs:9/take?these")
                .with_timeout(Duration::from_secs(1))
                .with_header("X-Tenant", "logs")
        })
        .for_signal(Signal::Metrics, |metrics| {
            metrics.with_protocol(Protocol::HttpJson)
        })
        .for_signal(Signal::Metrics, |metrics| {
            metrics.with_compression(Compression::Zstd)
        });
    let settings = settings(&config);
    let [traces, metrics, logs, _] = &settings.routes;
    assert_eq!(
        &*traces.endpoint_name, "http://collector:4318/base/v1/traces",
        "spec 35"
    );
    assert_eq!(&*logs.path, "/take?these", "spec 35");
    assert_eq!(
        &*logs.endpoint_name, "http://logs:9/take?…",
        "a query may be a secret"
    );
    assert_eq!(
        (traces.timeout.as_secs(), logs.timeout.as_secs()),
        (5, 1),
        "spec 33"
    );
    assert_eq!(
        (metrics.protocol, metrics.compression),
        (Protocol::HttpJson, Compression::Zstd)
    );
    let pairs = |route: &otlp_embed::protocol::Route| -> Vec<String> {
        let pairs = route.headers.iter();
        pairs.map(|(name, value)| format!("{name}={value}")).collect()
    };
    assert_eq!(pairs(traces), ["x-tenant=acme", "x-all=1"]);
    assert_eq!(pairs(logs), ["x-all=1", "x-tenant=logs"]);
    // Both forms of HTTP share their connections.
    assert_eq!((traces.lane, metrics.lane, settings.lanes.len()), (0, 0, 2));
    assert_eq!(settings.lanes[logs.lane].endpoint.port(), 9);
    // Setting the same signal twice adds to what was set, whatever the order.
    let before = Config::new()
        .for_signal(Signal::Logs, |logs| {
            logs.with_endpoint("http://logs:9/take?these")
        })
        .with_endpoint("http://collector:4318/base");
    assert_eq!(&*self::settings(&before).route(Signal::Logs).path, "/take?these");
}

#[test]
fn destinations_are_shared_by_the_signals_that_want_the_same() {
    let own = |endpoint: &'static str| move |signal: Config| signal.with_endpoint(endpoint);
    for (config, lanes) in [
        (Config::new(), 1),
        (
            Config::new().for_signal(Signal::Logs, own("http://localhost:4318/other")),
            1,
        ),
        (
            Config::new().for_signal(Signal::Logs, own("http://LOCALHOST:4318")),
            1,
        ),
        (
            Config::new().for_signal(Signal::Logs, own("http://localhost:4317")),
            2,
        ),
        (
            Config::new()
                .with_endpoint("http://c:80")
                .for_signal(Signal::Logs, own("http://c")),
            1,
        ),
        (
            Config::new()
                .with_endpoint("http://c:4317")
                .for_signal(Signal::Logs, |logs| logs.with_protocol(Protocol::Grpc)),
            2,
        ),
        (
            Config::new()
                .with_endpoint("unix:/a")
                .for_signal(Signal::Logs, own("unix:///a")),
            1,
        ),
        (
            Config::new()
                .with_endpoint("unix:/a")
                .for_signal(Signal::Logs, own("unix:/b")),
            2,
        ),
        (
            Config::new().for_signal(Signal::Logs, |logs| {
                logs.with_addresses(["192.0.2.1:1".parse().expect("an address")])
            }),
            2,
        ),
    ] {
        assert_eq!(settings(&config).lanes.len(), lanes, "{config:?}");
    }
}

/// Given addresses stand in for one host: a signal that goes elsewhere does not go to them.
#[test]
fn addresses_belong_to_the_endpoint_they_were_given_for() {
    let address: SocketAddr = "192.0.2.1:4318".parse().expect("an address");
    let other: SocketAddr = "192.0.2.2:4318".parse().expect("an address");
    let config = Config::new()
        .with_endpoint("http://general")
        .with_addresses([address])
        .for_signal(Signal::Logs, |logs| logs.with_endpoint("http://logs/"))
        .for_signal(Signal::Metrics, |metrics| metrics.with_addresses([other]));
    let settings = settings(&config);
    assert_eq!(settings.lane(Signal::Traces).addresses, [address]);
    assert_eq!(settings.lane(Signal::Logs).addresses, []);
    assert_eq!(settings.lane(Signal::Metrics).addresses, [other]);
}

#[test]
fn headers_of_a_lane_are_those_its_signals_have_in_common() {
    let config = Config::new()
        .with_header("x-all", "1")
        .for_signal(Signal::Logs, |logs| {
            logs.with_endpoint("http://logs/").with_header("x-logs", "1")
        });
    let settings = settings(&config);
    assert_eq!(settings.lane(Signal::Traces).headers.len(), 1);
    assert_eq!(settings.lane(Signal::Logs).headers.len(), 2);
    let config = Config::new().for_signal(Signal::Logs, |logs| logs.with_header("x-logs", "1"));
    assert!(self::settings(&config).lanes[0].headers.is_empty());
}

#[test]
fn what_cannot_work_is_refused_and_names_the_setter() {
    let second = Duration::from_secs(1);
    let of = |signal, set: fn(Config) -> Config| Config::new().for_signal(signal, set);
    for (config, words) in [
        (Config::new().with_timeout(Duration::ZERO), "with_timeout: zero"),
        (
            Config::new().with_connect_timeout(Duration::ZERO),
            "with_connect_timeout: zero",
        ),
        (Config::new().with_memory_limit(0), "with_memory_limit: zero"),
        (Config::new().with_request_limit(0), "with_request_limit: zero"),
        (Config::new().with_response_limit(0), "with_response_limit: zero"),
        (
            Config::new().with_http1_connections(0),
            "with_http1_connections: 0 lies outside",
        ),
        (
            Config::new().with_http1_connections(1_001),
            "with_http1_connections: 1001 lies outside",
        ),
        (
            Config::new().with_keepalive(Keepalive::new(Duration::ZERO)),
            "with_keepalive: interval",
        ),
        (
            Config::new().with_keepalive(Keepalive::new(second).with_timeout(Duration::ZERO)),
            "with_keepalive: interval",
        ),
        (
            Config::new().with_max_connection_age(Duration::ZERO),
            "with_max_connection_age: zero",
        ),
        (
            Config::new().with_retry_policy(RetryPolicy::default().with_attempts_max(0)),
            "with_retry_policy: ",
        ),
        (
            Config::new().with_user_agent(""),
            "with_user_agent \"\": it is no product",
        ),
        (
            Config::new().with_user_agent("shop/1.2\r\nx: y"),
            "with_user_agent \"shop/1.2\\r\\nx: y\"",
        ),
        (Config::new().with_user_agent("shop/1/2"), "with_user_agent"),
        (Config::new().with_user_agent("a  b"), "with_user_agent"),
        (
            Config::new().with_proxy("socks5://proxy"),
            "with_proxy \"socks5://proxy\": only HTTP proxies",
        ),
        (
            Config::new().with_proxy("http://me:hunter2@proxy:0"),
            "with_proxy \"http://…@proxy:0\": the port",
        ),
        (
            Config::new().with_header("", "x"),
            "with_header \"\": a name consists",
        ),
        (
            Config::new().with_headers([("a", "1"), ("host", "hunter2")]),
            "with_header \"host\": the exporter sets",
        ),
        (
            Config::new().with_header("content-encoding", "gzip"),
            "with_header \"content-encoding\"",
        ),
        (
            Config::new().with_header("x", "hunter2\n2"),
            "with_header \"x\": the value",
        ),
        (
            Config::new().with_endpoint(""),
            "endpoint \"\" (with_endpoint): it is empty",
        ),
        (
            Config::new().with_endpoint("collector:4318"),
            "(with_endpoint): it has no scheme",
        ),
        (
            Config::new().with_endpoint("http://me:hunter2@collector"),
            "endpoint \"http://…@collector\" (with_endpoint): it carries user information",
        ),
        (
            Config::new()
                .with_protocol(Protocol::Grpc)
                .with_endpoint("http://collector/v1/traces?hunter2"),
            "endpoint \"http://collector/v1/traces?…\" (with_endpoint): OTLP over gRPC takes no path",
        ),
        (
            of(Signal::Logs, |logs| logs.with_endpoint("http://collector/a b")),
            "endpoint \"http://collector/a b\" (for_signal(Logs).with_endpoint): the path is not percent-encoded",
        ),
        (
            of(Signal::Logs, |logs| logs.with_timeout(Duration::ZERO)),
            "for_signal(Logs).with_timeout: zero",
        ),
        (
            of(Signal::Traces, |traces| traces.with_header("te", "x")),
            "for_signal(Traces).with_header \"te\"",
        ),
        (
            of(Signal::Traces, |traces| traces.with_memory_limit(1)),
            "for_signal(Traces).with_memory_limit: this holds for the whole exporter",
        ),
        (
            of(Signal::Traces, |traces| {
                traces.with_keepalive(Keepalive::new(Duration::from_secs(60)))
            }),
            "for_signal(Traces).with_keepalive: this holds",
        ),
        (
            of(Signal::Traces, |_| {
                Config::from_vars([("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).expect("not too much")
            }),
            "for_signal(Traces).from_env: this holds",
        ),
        (
            of(Signal::Traces, |traces| {
                traces.for_signal(Signal::Logs, |logs| logs.with_timeout(Duration::from_secs(1)))
            }),
            "for_signal(Traces): a signal has no signals",
        ),
    ] {
        let text = refused(&config);
        assert!(text.contains(words), "{words}: {text}");
        assert!(!text.contains("hunter2"), "{text}");
        let built = Blocking::new().map(|runtime| config.build(runtime));
        let error = built.expect("a reactor").expect_err("it is not built");
        assert_eq!(error.to_string(), text, "building says the same");
    }
}

#[cfg(feature = "tls")]
#[test]
fn tls_goes_with_the_scheme() {
    use otlp_embed::Tls;
    let plain = Config::new()
        .with_endpoint("http://collector")
        .with_tls(Tls::new());
    assert!(
        refused(&plain).contains("with_tls: traces go to http://collector (with_endpoint) in plain text")
    );
    // An endpoint of a signal's own is an exception from what holds for all, and told.
    let exception = Config::new()
        .with_endpoint("https://collector")
        .with_tls(Tls::new())
        .for_signal(Signal::Logs, |logs| {
            logs.with_endpoint("http://localhost/v1/logs")
        });
    let report = exception.report();
    assert_eq!(report.refused().count(), 0, "{report}");
    assert!(
        report
            .warnings()
            .any(|text| text.contains("logs go to http://localhost")),
        "{report}"
    );
    // An operator's endpoint is no misuse of the program's.
    let vars = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector")];
    let config = Config::from_vars(vars)
        .expect("not too much")
        .with_tls(Tls::new());
    let settings = settings(&config);
    assert!(settings.lanes[0].tls.is_none());
    assert!(
        config
            .report()
            .warnings()
            .any(|text| text.contains("in plain text"))
    );
    // Trusting nobody is not trusting everybody.
    let nobody = Config::new().with_endpoint("https://collector");
    let text = refused_when_built(&nobody);
    assert!(
        text.contains("endpoint \"https://collector\"") && text.contains("TLS"),
        "spec 54: {text}"
    );
    let missing = nobody.with_tls(Tls::new().with_ca_file("/none/ca.pem"));
    let text = refused_when_built(&missing);
    assert!(text.contains("/none/ca.pem"), "spec 54: {text}");
}

/// What is found in files is not in the report, which reads none.
#[cfg(feature = "tls")]
fn refused_when_built(config: &Config) -> String {
    let runtime = Blocking::new().expect("a reactor");
    let error = config.clone().build(runtime).expect_err("it is not built");
    assert!(error.is_misuse());
    error.to_string()
}

#[test]
fn no_secret_is_ever_shown() {
    const SECRET: &str = "hunter2";
    let config = Config::from_vars([
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=hunter2,x=%68unter2"),
        ("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "hunter2"),
        (
            "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
            "http://hunter2:hunter2@collector/v1",
        ),
        ("OTEL_EXPORTER_OTLP_TOKEN", "hunter2"),
        ("https_proxy", "http://hunter2:hunter2@proxy"),
    ])
    .expect("not too much")
    .with_endpoint("http://collector:4317/base?token=hunter2")
    .with_header("authorization", "Bearer hunter2")
    .with_header("x-hint-bin", "aHVudGVyMg==")
    .with_proxy("http://hunter2:hunter2@proxy:1")
    .for_signal(Signal::Logs, |logs| logs.with_header("cookie", "hunter2"));
    let exporter = config
        .clone()
        .build(Blocking::new().expect("a reactor"))
        .expect("it works");
    for shown in [
        format!("{config:?}"),
        format!("{config:#?}"),
        config.report().to_string(),
        format!("{:#?}", config.report()),
        exporter.config_report().to_string(),
        format!("{exporter:?}"),
    ] {
        assert!(
            !shown.contains(SECRET) && !shown.contains("aHVudGVyMg"),
            "{shown}"
        );
    }
    let shown = config.report().to_string();
    for words in [
        "http://collector:4317/base/v1/traces?…",
        "authorization=…",
        "http://proxy:1 with credentials",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let slash = Config::new().with_endpoint("http://me/hunter2@collector");
    let name = &settings(&slash).routes[0].endpoint_name;
    assert_eq!(&**name, "http://me/…", "a password may have a slash in it");
    for bad in [
        Config::new().with_endpoint("https//hunter2@collector"),
        Config::new().with_endpoint("http://me:hun?ter2hunter2@collector"),
        Config::new().with_endpoint("http://collector/a b?me@hunter2"),
        Config::new().with_endpoint("http://collector#hunter2"),
        Config::new().with_endpoint("ftp://collector?hunter2"),
        Config::new().with_header("te", "hunter2"),
        Config::new().with_header("x-bin", "hunter2!"),
        Config::new().with_proxy("http://hunter2@"),
        Config::new().with_proxy("hunter2:hunter2@proxy:0"),
    ] {
        for shown in [refused(&bad), format!("{bad:?}"), bad.report().to_string()] {
            assert!(!shown.contains(SECRET), "{shown}");
        }
    }
}

#[test]
fn a_report_is_read_by_people() {
    let config = Config::from_vars([
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=hunter2"),
    ])
    .expect("not too much")
    .with_endpoint("http://collector:4318")
    .for_signal(Signal::Logs, |logs| {
        logs.with_timeout(Duration::from_millis(1_500))
    });
    let shown = config.report().to_string();
    for line in [
        "OTLP exporter",
        "  traces",
        "    endpoint                http://collector:4318  (with_endpoint)",
        "    protocol                grpc  (OTEL_EXPORTER_OTLP_PROTOCOL)",
        "    timeout                 10s  (default)",
        "    timeout                 1.5s  (for_signal(Logs).with_timeout)",
        "    headers                 api-key=…  (OTEL_EXPORTER_OTLP_HEADERS)",
        "  all signals",
        "    memory limit            67108864 bytes  (default)",
        "  refused",
        "    OTEL_EXPORTER_OTLP_TIMEOUT=\"soon\": it is no number of milliseconds, such as 10000",
        "  warnings",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}\nin\n{shown}");
    }
}

#[test]
fn endpoints_are_public_words() {
    let endpoint = Endpoint::parse_http("https://collector/v1/logs?x").expect("a URL");
    assert_eq!(
        (&**endpoint.authority(), &**endpoint.path(), endpoint.port()),
        ("collector", "/v1/logs?x", 443)
    );
    assert_eq!(
        endpoint.to_string(),
        "https://collector",
        "a query may be a secret"
    );
    assert_eq!(
        Endpoint::unix("/run/otlp.sock").to_string(),
        "unix:/run/otlp.sock"
    );
}
