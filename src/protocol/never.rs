//! What stands in for a protocol in a build without any.

use super::{CallId, Event, Failure, Protocol, sealed};
use crate::config::Settings;
use crate::encode::Request;
use crate::time::Instant;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;

/// The protocol of a build that carries none: it opens no connection.
#[derive(Debug)]
pub enum Never {}

impl sealed::Sealed for Never {}

impl Protocol for Never {
    fn open(_: &Settings, _: Instant) -> Result<Self, String> {
        Err("this build carries no protocol; enable the feature grpc".into())
    }

    fn can_start(&self) -> bool {
        match *self {}
    }

    fn is_draining(&self) -> bool {
        match *self {}
    }

    fn start(&mut self, _: Instant, _: CallId, _: &Request, _: Instant) -> Result<(), Failure> {
        match *self {}
    }

    fn cancel(&mut self, _: Instant, _: CallId) -> bool {
        match *self {}
    }

    fn handle_input(&mut self, _: Instant, _: &[u8]) {
        match *self {}
    }

    fn handle_sent(&mut self, _: Instant, _: usize) {
        match *self {}
    }

    fn handle_eof(&mut self, _: Instant, _: &str) {
        match *self {}
    }

    fn handle_timeout(&mut self, _: Instant) {
        match *self {}
    }

    fn poll_transmit(&mut self) -> Option<Vec<Bytes>> {
        match *self {}
    }

    fn poll_event(&mut self) -> Option<Event> {
        match *self {}
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match *self {}
    }
}
