//! Arbitrary facts against the engine and its reference model.
#![no_main]

#[path = "../../tests/support/fuzz/engine_parts.rs"]
mod engine_parts;

libfuzzer_sys::fuzz_target!(|data: &[u8]| engine_parts::run(data));
