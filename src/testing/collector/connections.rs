//! What the collector knows of its connections.

use super::call::HttpVersion;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

/// One connection.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ReceivedConnection {
    /// Its number, from zero in the order of accepting; [`ReceivedRequest::connection`](super::ReceivedRequest::connection)
    /// refers to it.
    pub number: u64,
    /// The version of HTTP that is spoken on it; nothing before the client has shown which.
    pub version: Option<HttpVersion>,
    /// What TLS agreed on; nothing in plain text, and before the handshake has ended.
    pub tls: Option<ReceivedTls>,
    /// Why TLS failed, where it did.
    pub tls_error: Option<String>,
    /// Requests that arrived whole on it.
    pub requests: u64,
    /// Whether it is still open.
    pub is_open: bool,
}

/// What a TLS handshake agreed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReceivedTls {
    /// The version, like `TLSv1_3`.
    pub version: String,
    /// The protocol chosen by ALPN, like `h2`; nothing where none was.
    pub alpn: Option<String>,
    /// The name that the client asked for (SNI).
    pub server_name: Option<String>,
    /// The client's certificates in DER, its own first; none unless the server's configuration asks for them.
    pub peer_certificates: Vec<Vec<u8>>,
}

/// The records of all connections.
#[derive(Debug, Default)]
pub(super) struct Connections(BTreeMap<u64, ReceivedConnection>);

impl Connections {
    pub(super) fn open(&mut self, number: u64) {
        let record = ReceivedConnection {
            number,
            is_open: true,
            ..ReceivedConnection::default()
        };
        self.0.insert(number, record);
    }

    pub(super) fn update(&mut self, number: u64, update: impl FnOnce(&mut ReceivedConnection)) {
        if let Some(record) = self.0.get_mut(&number) {
            update(record);
        }
    }

    /// The connection is over; its record stays only if it is to be kept.
    pub(super) fn close(&mut self, number: u64, keep: bool) {
        if keep {
            self.update(number, |record| record.is_open = false);
        } else {
            self.0.remove(&number);
        }
    }

    /// Forgets what is over, and the requests of what is not.
    pub(super) fn clear(&mut self) {
        self.0.retain(|_, record| record.is_open);
        self.0.values_mut().for_each(|record| record.requests = 0);
    }

    pub(super) fn all(&self) -> Vec<ReceivedConnection> {
        self.0.values().cloned().collect()
    }
}
