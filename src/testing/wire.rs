//! Encoded requests taken apart: what the exporter does with them, without an exporter.

use crate::encode::Request;
use crate::encode::split::{self, Part};

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
