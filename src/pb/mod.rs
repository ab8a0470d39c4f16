//! OTLP messages.
