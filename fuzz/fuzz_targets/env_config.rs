//! Arbitrary values of the environment variables.
#![no_main]

#[path = "../../tests/support/fuzz/env_config.rs"]
mod env_config;
#[path = "../../tests/support/fuzz/input.rs"]
mod input;

libfuzzer_sys::fuzz_target!(|data: &[u8]| env_config::run(data));
