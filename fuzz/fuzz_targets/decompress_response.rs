//! Arbitrary bytes as a compressed answer.
#![no_main]

#[path = "../../tests/support/fuzz/decompress_response.rs"]
mod decompress_response;
#[path = "../../tests/support/fuzz/input.rs"]
mod input;

libfuzzer_sys::fuzz_target!(|data: &[u8]| decompress_response::run(data));
