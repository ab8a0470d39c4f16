//! Arbitrary producers, ends and times against a delivery and its reference model.
#![no_main]

#[path = "../../tests/support/fuzz/delivery_ops.rs"]
mod delivery_ops;

libfuzzer_sys::fuzz_target!(|data: &[u8]| delivery_ops::run(data));
