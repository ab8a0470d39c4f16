//! Arbitrary bytes from a server against a session of HTTP/1.1.
#![no_main]

#[path = "../../tests/support/fuzz/http1_response.rs"]
mod http1_response;
#[path = "../../tests/support/fuzz/input.rs"]
mod input;

libfuzzer_sys::fuzz_target!(|data: &[u8]| http1_response::run(data));
