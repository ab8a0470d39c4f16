//! TLS around a session, sans-IO: `rustls` with its buffers.

use crate::testing::collector::connections::ReceivedTls;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use rustls::{ServerConfig, ServerConnection};
use std::io::{self, Read, Write};

/// The server's side of TLS on one connection.
pub(super) struct Tls(ServerConnection);

impl Tls {
    /// # Errors
    ///
    /// Where the configuration cannot serve, as without a provider of cryptography for its versions.
    pub(super) fn new(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        let mut connection = ServerConnection::new(config)?;
        // The session's owner bounds what goes out.
        connection.set_buffer_limit(None);
        Ok(Self(connection))
    }

    /// Takes bytes of the client and gives what is in them; an alert may be left to go out even after an error.
    pub(super) fn read(&mut self, mut bytes: &[u8], plain: &mut Vec<u8>) -> Result<(), rustls::Error> {
        while !bytes.is_empty() {
            match self.0.read_tls(&mut bytes) {
                // After the client's close_notify nothing is taken any more.
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(rustls::Error::General(format!("{error}"))),
            }
            self.0.process_new_packets()?;
            self.read_plain(plain);
        }
        Ok(())
    }

    fn read_plain(&mut self, plain: &mut Vec<u8>) {
        let mut buffer = [0; 4096];
        // Stops at what has come, and at the end of the connection, which `is_closed` tells.
        while let Ok(count @ 1..) = self.0.reader().read(&mut buffer) {
            plain.extend_from_slice(&buffer[..count]);
        }
    }

    /// Whether the client has said close_notify.
    pub(super) fn is_closed(&mut self) -> bool {
        matches!(self.0.reader().read(&mut [0; 1]), Ok(0))
    }

    pub(super) fn write(&mut self, plain: &[u8]) {
        self.0
            .writer()
            .write_all(plain)
            .expect("a buffer without a limit takes every byte");
    }

    pub(super) fn close(&mut self) {
        self.0.send_close_notify();
    }

    pub(super) fn take_egress(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while self.0.wants_write() {
            self.0.write_tls(&mut bytes)?;
        }
        Ok(bytes)
    }

    /// What was agreed on, once the handshake has ended.
    pub(super) fn agreed(&self) -> Option<ReceivedTls> {
        if self.0.is_handshaking() {
            return None;
        }
        let certificates = self.0.peer_certificates().unwrap_or_default();
        Some(ReceivedTls {
            version: self
                .0
                .protocol_version()
                .map_or_else(String::new, |version| format!("{version:?}")),
            alpn: self
                .0
                .alpn_protocol()
                .map(|name| String::from_utf8_lossy(name).into_owned()),
            server_name: self.0.server_name().map(String::from),
            peer_certificates: certificates
                .iter()
                .map(|certificate| certificate.to_vec())
                .collect(),
        })
    }
}
