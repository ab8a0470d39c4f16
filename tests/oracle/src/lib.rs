//! otlp-embed checked against the upstream OpenTelemetry crates, and against properties that hold for any input.
