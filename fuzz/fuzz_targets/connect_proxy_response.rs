//! Arbitrary answers of a proxy to the request for a tunnel.
#![no_main]

#[path = "../../tests/support/fuzz/connect_proxy_response.rs"]
mod connect_proxy_response;
#[path = "../../tests/support/fuzz/input.rs"]
mod input;

libfuzzer_sys::fuzz_target!(|data: &[u8]| connect_proxy_response::run(data));
