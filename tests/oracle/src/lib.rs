//! otlp-embed checked against the upstream OpenTelemetry crates.
