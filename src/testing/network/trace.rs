//! What happened on the network.

use crate::time::Instant;
use alloc::collections::VecDeque;
use core::fmt;
use core::net::SocketAddr;

/// Events that are kept: those before are forgotten.
const EVENTS_MAX: usize = 100_000;

/// One event of a [`Network`](super::Network).
///
/// ```
/// use otlp_embed::testing::Network;
/// use otlp_embed::{Config, Resource, TraceBatch};
///
/// # fn main() -> Result<(), otlp_embed::Error> {
/// let network = Network::new(1);
/// let collector = network.collector();
/// let exporter = Config::new().with_endpoint(collector.endpoint()).build(network.clone())?;
/// let mut batch = TraceBatch::new(&Resource::builder().build());
/// batch.span([1; 16], [2; 8], "work").end();
/// network.block_on(exporter.export(batch.finish()))?;
/// let first = network.trace().remove(0);
/// assert_eq!(first.to_string(), "1.001000000s connection 0 opens to 10.0.0.1:4317");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetworkEvent {
    /// When it happened.
    pub at: Instant,
    /// What happened.
    pub kind: NetworkEventKind,
}

/// What happens on a network. Connections have numbers, from zero in the order of their opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NetworkEventKind {
    /// A connection opens.
    Opened {
        /// The connection.
        connection: u64,
        /// The collector's address.
        to: SocketAddr,
    },
    /// A connect is refused.
    Refused {
        /// The address.
        to: SocketAddr,
    },
    /// Bytes arrive.
    Arrived {
        /// The connection.
        connection: u64,
        /// Whether they go to the collector, and not to the exporter.
        is_upward: bool,
        /// How many.
        bytes: usize,
    },
    /// A side has said everything: the other one hears of it.
    Closed {
        /// The connection.
        connection: u64,
        /// Whether the exporter closed, and not the collector.
        is_upward: bool,
    },
    /// The exporter's socket is reset.
    Reset {
        /// The connection.
        connection: u64,
    },
}

#[derive(Debug, Default)]
pub(super) struct Trace(VecDeque<NetworkEvent>);

impl Trace {
    pub(super) fn add(&mut self, at: Instant, kind: NetworkEventKind) {
        if self.0.len() == EVENTS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(NetworkEvent { at, kind });
    }

    pub(super) fn events(&self) -> &VecDeque<NetworkEvent> {
        &self.0
    }
}

impl fmt::Display for NetworkEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.at, self.kind)
    }
}

impl fmt::Display for NetworkEventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |is_upward| if is_upward { "exporter" } else { "collector" };
        match *self {
            Self::Opened { connection, to } => write!(f, "connection {connection} opens to {to}"),
            Self::Refused { to } => write!(f, "connect to {to} is refused"),
            Self::Arrived {
                connection,
                is_upward,
                bytes,
            } => {
                let to = side(!is_upward);
                write!(f, "connection {connection}: {bytes} bytes arrive at the {to}")
            }
            Self::Closed {
                connection,
                is_upward,
            } => write!(f, "connection {connection}: closed by the {}", side(is_upward)),
            Self::Reset { connection } => write!(f, "connection {connection}: reset"),
        }
    }
}
