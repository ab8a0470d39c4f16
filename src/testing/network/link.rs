//! What lies between an exporter and a collector: how long bytes take, in what pieces they come, and what breaks.

use crate::time::Instant;
use alloc::collections::VecDeque;
use bytes::Bytes;
use core::time::Duration;
use fastrand::Rng;

/// The line between the exporters and one collector. Bytes always arrive in their order, whatever the jitter.
///
/// ```
/// use otlp_embed::testing::{Link, Network};
/// use std::time::Duration;
///
/// let network = Network::new(1);
/// let collector = network.collector();
/// // A poor line across an ocean.
/// collector.set_link(
///     Link::new()
///         .with_latency(Duration::from_millis(80))
///         .with_jitter(Duration::from_millis(40))
///         .with_bandwidth(1_000_000),
/// );
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    latency: Duration,
    jitter: Duration,
    bytes_per_second: u64,
    chunk_bytes_max: usize,
    buffer_bytes: usize,
    resets: f64,
}

impl Link {
    /// Half a millisecond each way, as much as is sent at a time, and nothing breaks.
    #[allow(
        clippy::new_without_default,
        reason = "what is usual of a line is said in words"
    )]
    pub fn new() -> Self {
        Self {
            latency: Duration::from_micros(500),
            jitter: Duration::ZERO,
            bytes_per_second: u64::MAX,
            chunk_bytes_max: CHUNK_BYTES,
            buffer_bytes: 256 << 10,
            resets: 0.0,
        }
    }

    /// How long a byte is on its way, in each direction; half a millisecond unless set. A connection opens after twice
    /// that.
    pub fn with_latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// How much longer a byte may be on its way, at random; zero unless set.
    pub fn with_jitter(mut self, jitter: Duration) -> Self {
        self.jitter = jitter;
        self
    }

    /// Bytes a second of each connection in each direction; without a limit unless set, and at least one.
    pub fn with_bandwidth(mut self, bytes_per_second: u64) -> Self {
        self.bytes_per_second = bytes_per_second.max(1);
        self
    }

    /// Breaks what is sent into pieces of one byte up to so many, at random, each of which arrives by itself.
    pub fn with_chunks(mut self, bytes_max: usize) -> Self {
        self.chunk_bytes_max = bytes_max.clamp(1, CHUNK_BYTES);
        self
    }

    /// Bytes that a socket takes and that have not been read at the other end; 256 KiB unless set, and at least one.
    pub fn with_buffer(mut self, bytes: usize) -> Self {
        self.buffer_bytes = bytes.max(1);
        self
    }

    /// How probable it is of each piece that the connection is reset in its place, from 0.0 to 1.0; zero unless set.
    pub fn with_resets(mut self, probability: f64) -> Self {
        self.resets = probability;
        self
    }

    pub(super) fn latency(&self) -> Duration {
        self.latency
    }

    pub(super) fn breaks(&self, rng: &mut Rng) -> bool {
        self.resets > 0.0 && rng.f64() < self.resets
    }
}

/// A piece that is broken no further.
const CHUNK_BYTES: usize = 64 << 10;

/// One direction of one connection.
#[derive(Debug, Default)]
pub(super) struct Direction {
    on_way: VecDeque<(Instant, Parcel)>,
    bytes: usize,
    /// When the line has taken everything sent so far.
    free_at: Instant,
    /// When the last parcel arrives: none overtakes another.
    last_at: Instant,
}

/// What arrives at once.
#[derive(Debug)]
pub(super) enum Parcel {
    Bytes(Bytes),
    /// The sender says no more.
    Fin,
    /// The connection is torn down.
    Reset,
}

impl Direction {
    /// Bytes that may still be sent.
    pub(super) fn room(&self, link: &Link) -> usize {
        link.buffer_bytes.saturating_sub(self.bytes)
    }

    /// Bytes on the way.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn send(&mut self, now: Instant, link: &Link, rng: &mut Rng, mut bytes: Bytes) {
        while !bytes.is_empty() {
            let largest = link.chunk_bytes_max.min(bytes.len());
            let count = match link.chunk_bytes_max {
                CHUNK_BYTES => largest,
                _ => rng.usize(1..=largest),
            };
            let piece = bytes.split_to(count);
            let nanos = (count as u128 * 1_000_000_000) / u128::from(link.bytes_per_second);
            let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
            self.free_at = self.free_at.max(now) + takes;
            self.bytes += count;
            self.post(self.free_at, link, rng, Parcel::Bytes(piece));
        }
    }

    /// Sends what has no bytes, after all that was sent before.
    pub(super) fn send_end(&mut self, now: Instant, link: &Link, rng: &mut Rng, end: Parcel) {
        self.post(self.free_at.max(now), link, rng, end);
    }

    fn post(&mut self, at: Instant, link: &Link, rng: &mut Rng, parcel: Parcel) {
        let jitter = u64::try_from(link.jitter.as_nanos()).unwrap_or(u64::MAX);
        let jitter = Duration::from_nanos(if jitter == 0 { 0 } else { rng.u64(..=jitter) });
        self.last_at = self.last_at.max(at + link.latency + jitter);
        self.on_way.push_back((self.last_at, parcel));
    }

    /// When the next parcel arrives.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.on_way.front().map(|(at, _)| *at)
    }

    pub(super) fn take(&mut self) -> Option<Parcel> {
        let (_, parcel) = self.on_way.pop_front()?;
        if let Parcel::Bytes(bytes) = &parcel {
            self.bytes -= bytes.len();
        }
        Some(parcel)
    }

    /// The line was interrupted until `at`: what should have arrived before arrives then.
    pub(super) fn delay_to(&mut self, at: Instant) {
        for (due, _) in &mut self.on_way {
            *due = (*due).max(at);
        }
        self.last_at = self.last_at.max(at);
    }

    /// Nobody is there any more to receive it.
    pub(super) fn clear(&mut self) {
        self.on_way.clear();
        self.bytes = 0;
    }
}
