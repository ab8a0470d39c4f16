//! Encoded requests taken apart and turned into JSON: what the exporter does with them, without an exporter.

use crate::encode::split::{self, Part};
use crate::encode::{Body, Request, Signal, json};
use crate::error::Error;
use alloc::vec::Vec;

/// Splits a request as an exporter does whose requests may have `bytes_max` bytes.
///
/// With each part comes whether it is within the limit; those that are not have a single item, unless the request is not
/// what it claims to be.
pub fn split(request: &Request, bytes_max: usize) -> impl Iterator<Item = (Request, bool)> {
    split::split(request, bytes_max)
        .into_iter()
        .map(|part| match part {
            Part::Fits(request) => (request, true),
            Part::TooLarge(request) => (request, false),
        })
}

/// An encoded export request as JSON, as it is sent with [`Protocol::HttpJson`](crate::Protocol::HttpJson) (OTLP
/// specification, "JSON Protobuf Encoding").
///
/// # Errors
///
/// A misuse error, when the body is no export request of the signal.
pub fn json_from_wire(signal: Signal, body: &Body) -> Result<Body, Error> {
    let json = json::from_wire(signal, body, usize::MAX)?;
    Ok(json.unwrap_or_else(|_| unreachable!("nothing is longer")))
}

/// The encoded export request of its JSON, as the [`Collector`](crate::testing::Collector) reads it: lenient where the
/// specification lets writers differ, and deaf to fields that it does not know.
///
/// # Errors
///
/// A misuse error that says at which line and column the text is no export request of the signal.
pub fn json_to_wire(signal: Signal, json: &[u8]) -> Result<Vec<u8>, Error> {
    json::to_wire(signal, json)
}
