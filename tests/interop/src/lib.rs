//! otlp-embed against collectors that nobody here wrote.
