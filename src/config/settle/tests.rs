use super::*;
use crate::{Compression, Config, Protocol};

const NOTHING: Built = Built {
    grpc: false,
    http: false,
    json: false,
    tls: false,
    gzip: false,
    zstd: false,
};

fn refused(config: &Config, built: Built) -> String {
    let mut report = ConfigReport::default();
    let error = settle(config, built, &mut report)
        .err()
        .expect("it cannot be built");
    assert!(error.is_misuse());
    error.to_string()
}

/// A build without a feature is told apart from one with it by nothing but this.
#[test]
fn what_is_not_built_in_names_its_feature() {
    let grpc = Built {
        grpc: true,
        ..NOTHING
    };
    let http = Built {
        http: true,
        ..NOTHING
    };
    for (config, built, words) in [
        (
            Config::new().with_protocol(Protocol::Grpc),
            http,
            &[
                "protocol grpc of traces (with_protocol)",
                "feature `grpc`",
                "set http/protobuf",
            ][..],
        ),
        (
            Config::new().with_protocol(Protocol::HttpProtobuf),
            grpc,
            &["protocol http/protobuf", "feature `http`", "set grpc"],
        ),
        (
            Config::new().with_protocol(Protocol::HttpJson),
            Built { grpc: true, ..http },
            &[
                "protocol http/json",
                "feature `json`",
                "set grpc or http/protobuf",
            ],
        ),
        (
            Config::new().for_signal(Signal::Logs, |logs| logs.with_protocol(Protocol::Grpc)),
            http,
            &["protocol grpc of logs (for_signal(Logs).with_protocol)"],
        ),
        (
            Config::new().with_compression(Compression::Gzip),
            http,
            &[
                "compression gzip (with_compression)",
                "feature `gzip`",
                "set none",
            ],
        ),
        (
            Config::new().with_compression(Compression::Zstd),
            Built { gzip: true, ..http },
            &["compression zstd", "feature `zstd`"],
        ),
        (
            Config::new().with_endpoint("https://collector"),
            http,
            &[
                "endpoint \"https://collector\" (with_endpoint)",
                "never falls back to plain text",
                "`tls-ring` or `tls-aws-lc`",
            ],
        ),
        (
            Config::new()
                .with_protocol(Protocol::Grpc)
                .with_endpoint("collector:4317"),
            grpc,
            &[
                "endpoint \"https://collector:4317\"",
                "without a scheme it means TLS",
                "http:// before it",
            ],
        ),
    ] {
        let text = refused(&config, built);
        for words in words {
            assert!(text.contains(words), "{words}: {text}");
        }
    }
}

#[test]
fn variables_that_ask_for_what_is_not_built_in_are_named() {
    let grpc = Built {
        grpc: true,
        ..NOTHING
    };
    for (name, value, words) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "feature `json`"),
        (
            "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL",
            "http/protobuf",
            "feature `http`",
        ),
        ("OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "gzip", "feature `gzip`"),
        (
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "https://collector",
            "feature `tls-ring`",
        ),
    ] {
        let config = Config::from_vars([("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), (name, value)]).expect(name);
        let text = refused(&config, grpc);
        assert!(text.contains(name) && text.contains(words), "{name}: {text}");
    }
}

/// Its layers are driven by hand, with protocols that are not built in.
#[test]
fn a_build_without_protocols_takes_any() {
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf, Protocol::HttpJson] {
        let config = Config::new().with_protocol(protocol);
        let settings = settle(&config, NOTHING, &mut ConfigReport::default()).expect("nothing is checked");
        assert_eq!(settings.route(Signal::Traces).protocol, protocol);
    }
}

#[test]
fn what_is_built_in_is_taken() {
    let all = Built {
        grpc: true,
        http: true,
        json: true,
        tls: true,
        gzip: true,
        zstd: true,
    };
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf, Protocol::HttpJson] {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            for scheme in ["http", "https"] {
                let config = Config::new()
                    .with_endpoint(format!("{scheme}://collector"))
                    .with_protocol(protocol)
                    .with_compression(compression);
                let settings = settle(&config, all, &mut ConfigReport::default()).expect("it is built in");
                let route = settings.route(Signal::Metrics);
                assert_eq!((route.protocol, route.compression), (protocol, compression));
                let lane = settings.lane(Signal::Metrics);
                assert_eq!(lane.endpoint.scheme().as_str(), scheme);
            }
        }
    }
}
