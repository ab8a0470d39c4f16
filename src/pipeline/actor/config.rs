//! What a user sets about an actor, checked when it is made.

use crate::error::Error;
use alloc::format;

/// The settings of an [`ExporterActor`](super::ExporterActor). Nothing is checked before that is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActorConfig {
    pub(super) mailbox: usize,
    pub(super) mailbox_bytes_max: usize,
    pub(super) concurrency_max: usize,
}

impl Default for ActorConfig {
    fn default() -> Self {
        Self {
            mailbox: 1_000,
            mailbox_bytes_max: 64 << 20,
            concurrency_max: 32,
        }
    }
}

impl ActorConfig {
    /// A mailbox of 1,000 messages and 64 MiB, and 32 exports in flight.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many messages wait at most, at least 1; 1,000 unless set. What is in flight is not among them.
    pub fn with_mailbox(mut self, messages: usize) -> Self {
        self.mailbox = messages;
        self
    }

    /// Sets how many bytes of encoded messages wait at most, at least 1; 64 MiB unless set. A request with more is refused.
    pub fn with_mailbox_bytes_max(mut self, bytes: usize) -> Self {
        self.mailbox_bytes_max = bytes;
        self
    }

    /// Sets how many exports run at a time, at least 1; 32 unless set.
    pub fn with_concurrency_max(mut self, exports: usize) -> Self {
        self.concurrency_max = exports;
        self
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let refuse = |text: &str| Err(Error::config(format!("ActorConfig::{text}")));
        if self.mailbox == 0 {
            return refuse(
                "with_mailbox: a mailbox of 0 messages takes nothing; give it room for 1 at least",
            );
        }
        if self.mailbox_bytes_max == 0 {
            return refuse(
                "with_mailbox_bytes_max: a mailbox of 0 bytes takes nothing; give it room for a request",
            );
        }
        if self.concurrency_max == 0 {
            return refuse(
                "with_concurrency_max: with 0 exports in flight nothing is ever sent; allow 1 at least",
            );
        }
        Ok(())
    }
}
