//! Arbitrary peers and facts against the engine over the real session.
#![no_main]

#[path = "../../tests/support/fuzz/engine_session.rs"]
mod engine_session;
#[path = "../../tests/support/fuzz/input.rs"]
mod input;

libfuzzer_sys::fuzz_target!(|data: &[u8]| engine_session::run(data));
