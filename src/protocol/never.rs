//! What stands in for a connection in a build without any protocol.

use super::{CallId, Connection, Event, Failure, Outgoing, sealed};
use crate::config::Lane;
use crate::time::Instant;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;

/// The connection of a build that carries no protocol: it is never opened.
#[derive(Debug)]
pub enum Never {}

impl sealed::Sealed for Never {}

impl Connection for Never {
    fn open(_: &Lane, _: Instant) -> Result<Self, String> {
        Err("this build carries no protocol; enable the feature grpc or http".into())
    }

    fn can_start(&self) -> bool {
        match *self {}
    }

    fn is_draining(&self) -> bool {
        match *self {}
    }

    fn is_multiplexed(&self) -> bool {
        match *self {}
    }

    fn start(&mut self, _: Instant, _: CallId, _: &Outgoing<'_>) -> Result<(), Failure> {
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
