//! See `tests/support/fuzz/wire_reader.rs`.
#![no_main]

#[path = "../../tests/support/mod.rs"]
mod support;

libfuzzer_sys::fuzz_target!(|data: &[u8]| support::fuzz::wire_reader::run(data));
