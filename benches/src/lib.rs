//! Benchmarks of otlp-embed.
