//! Bodies of the fuzz targets: `fuzz/` runs them on new input, `tests/oracle/tests/fuzz_corpus.rs` on the corpus.

pub mod batches;
pub mod connect_proxy_response;
pub mod decompress_response;
pub mod delivery_ops;
pub mod encode_logs;
pub mod encode_metrics;
pub mod encode_roundtrip;
pub mod engine_ops;
pub mod engine_parts;
pub mod engine_session;
pub mod env_config;
pub mod http1_response;
pub mod input;
pub mod json_from_wire;
pub mod policies;
pub mod retry_hints;
pub mod session_bytes;
mod skeleton;
pub mod wire_reader;
