//! Export requests as JSON and back (OTLP specification, "JSON Protobuf Encoding").
//!
//! [`from_wire`] writes JSON straight from the encoded request, [`to_wire`] encodes straight from the JSON; neither builds
//! messages in between. Both read the same [tables](super::tables).

mod input;
mod output;
mod text;

use super::reader::{DEPTH_MAX, Reader};
use super::request::{Body, Signal};
use super::tables;
use crate::error::Error;
use alloc::format;
use alloc::vec::Vec;

/// An encoded request as JSON, in chunks, or the length of its JSON where that is more than `bytes_max`. A hostile message
/// makes thirty times its length, no more of which is held than is wanted.
///
/// Ids are hexadecimal, enumerations integers, names in lowerCamelCase, 64-bit integers decimal strings, bytes base64, and
/// numbers that are none the strings `NaN`, `Infinity` and `-Infinity`. Fields that are not set are left out, but for those
/// that receivers are known to insist on; fields that are not known are left out as well.
///
/// # Errors
///
/// A misuse error, when the bytes are no export request of the signal.
pub(crate) fn from_wire(signal: Signal, body: &Body, bytes_max: usize) -> Result<Result<Body, usize>, Error> {
    let request = Reader::new(body.segments());
    let mut chunks = text::Chunks::new(body.len(), bytes_max);
    output::message(&mut chunks, &[request], tables::request(signal), DEPTH_MAX).map_err(|fault| {
        Error::misuse(format!(
            "the bytes are no export request of {}, byte {}: {}",
            signal.name(),
            fault.at,
            fault.why
        ))
    })?;
    Ok(chunks.finish().map(Body::new))
}

/// Encodes a request of JSON.
///
/// Names may be those of JSON or those of the `.proto` files, 64-bit integers strings or numbers, enumerations integers or
/// names, base64 of either alphabet, padded or not. Fields that are not known are ignored (OTLP specification, "JSON Protobuf
/// Encoding"), `null` is as good as absent. JSON nested deeper than 128 levels is refused; the memory it takes is a small
/// multiple of the input's.
///
/// # Errors
///
/// A misuse error that says at which line and column the text is no JSON or no export request of the signal.
pub(crate) fn to_wire(signal: Signal, json: &[u8]) -> Result<Vec<u8>, Error> {
    input::request(tables::request(signal), json).map_err(|error| {
        Error::misuse(format!(
            "the text is no export request of {} in JSON: {error}",
            signal.name()
        ))
    })
}
