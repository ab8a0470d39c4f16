//! Arbitrary bytes from a peer against a session.
#![no_main]

#[path = "../../tests/support/fuzz/input.rs"]
mod input;
#[path = "../../tests/support/fuzz/session_bytes.rs"]
mod session_bytes;

libfuzzer_sys::fuzz_target!(|data: &[u8]| session_bytes::run(data));
