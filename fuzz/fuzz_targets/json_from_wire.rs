//! See `tests/support/fuzz/json_from_wire.rs`.
#![no_main]

#[path = "../../tests/support/mod.rs"]
mod support;

libfuzzer_sys::fuzz_target!(|data: &[u8]| support::fuzz::json_from_wire::run(data));
