//! Arbitrary facts against the engine and its reference model.
#![no_main]

#[path = "../../tests/support/fuzz/engine_ops.rs"]
mod engine_ops;

libfuzzer_sys::fuzz_target!(|data: &[u8]| engine_ops::run(data));
