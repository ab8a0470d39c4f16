//! Arbitrary waits that a collector asks for.
#![no_main]

#[path = "../../tests/support/fuzz/input.rs"]
mod input;
#[path = "../../tests/support/fuzz/retry_hints.rs"]
mod retry_hints;

libfuzzer_sys::fuzz_target!(|data: &[u8]| retry_hints::run(data));
