//! See `tests/support/fuzz/encode_roundtrip.rs`.
#![no_main]

#[path = "../../tests/support/mod.rs"]
mod support;

libfuzzer_sys::fuzz_target!(|data: &[u8]| support::fuzz::encode_roundtrip::run(data));
