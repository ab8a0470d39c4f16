//! Arbitrary settings, events and times for every policy.
#![no_main]

#[path = "../../tests/support/fuzz/input.rs"]
mod input;
#[path = "../../tests/support/fuzz/policies.rs"]
mod policies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| policies::run(data));
