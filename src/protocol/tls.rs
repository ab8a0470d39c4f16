//! TLS on one connection, without I/O.
//!
//! Owns the handshake, the encryption of what goes out, the decryption of what comes in, and the knowledge of which
//! plaintext the socket has taken. Never looks into the plaintext, and never lets a byte of it out unencrypted.

mod failure;

use super::Failure;
use crate::config::{Lane, Tls};
use crate::endpoint::{Endpoint, Host};
use alloc::borrow::ToOwned;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use rustls::pki_types::{DnsName, ServerName};
use rustls::{ClientConnection, ProtocolVersion};
use std::io::{BufRead, IoSlice, Write};

/// Plaintext of one record (RFC 8446, section 5.1).
const RECORD_BYTES: usize = 16 << 10;

/// What a record adds to its plaintext, at most: its head, a nonce, a content type and a tag.
const RECORD_OVERHEAD: usize = 64;

/// Pieces of plaintext that go into one record.
const RECORD_PIECES: usize = 64;

/// Plaintext that is encrypted at a time.
const BATCH_BYTES: usize = 4 * RECORD_BYTES;

/// Encrypted bytes handed to the socket and not taken yet, above which nothing more is encrypted: what waits behind can
/// still be given up, and memory holds one copy of it.
const OUTSTANDING_MAX: u64 = 256 << 10;

/// Bytes of the peer that are kept to tell what it speaks instead of TLS.
const FIRST_BYTES: usize = 16;

/// One connection under TLS.
///
/// Bytes of the socket go in by [`read`](Self::read), after which [`plaintext`](Self::plaintext) has what they held.
/// Plaintext goes in by [`queue`](Self::queue) and comes out encrypted by [`poll_transmit`](Self::poll_transmit), a few
/// records at a time.
pub(super) struct Secured {
    connection: ClientConnection,
    /// The collector as errors name it.
    name: String,
    /// Plaintext that is to be encrypted.
    queue: VecDeque<Bytes>,
    /// Records with plaintext that the socket has not taken whole: where each ends among the encrypted bytes, and how much
    /// plaintext it holds.
    records: VecDeque<(u64, usize)>,
    /// Encrypted bytes that were handed out, and that the socket has taken.
    produced: u64,
    sent: u64,
    /// What the peer said first.
    first: Vec<u8>,
    /// The peer sent data, which it does once it is content with the handshake.
    is_heard: bool,
    is_closing: bool,
}

/// What came of bytes that were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// There may be plaintext, and the input goes on.
    Some,
    /// The peer closed the connection in order (close_notify).
    End,
}

impl Secured {
    /// Begins a handshake, and tells what is wrong with the files of the settings, if anything is.
    ///
    /// # Errors
    ///
    /// In words, when the settings cannot work.
    pub(super) fn open(tls: &Tls, lane: &Lane) -> Result<(Self, Option<String>), String> {
        let opening = tls.open(lane.is_grpc)?;
        let server = match opening.server_name {
            Some(name) => name,
            None => server_name(&lane.endpoint)?,
        };
        let connection = ClientConnection::new(opening.config, server)
            .map_err(|error| format!("TLS cannot be set up: {error}"))?;
        let secured = Self {
            connection,
            name: (**lane.endpoint.authority()).to_owned(),
            queue: VecDeque::new(),
            records: VecDeque::new(),
            produced: 0,
            sent: 0,
            first: Vec::new(),
            is_heard: false,
            is_closing: false,
        };
        Ok((secured, opening.warning))
    }

    /// Whether the handshake is still under way.
    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// The version that both sides agreed on.
    pub(super) fn version(&self) -> Option<&'static str> {
        match self.connection.protocol_version()? {
            ProtocolVersion::TLSv1_2 => Some("TLS 1.2"),
            ProtocolVersion::TLSv1_3 => Some("TLS 1.3"),
            _ => None,
        }
    }

    /// The protocol that both sides agreed on (ALPN, RFC 7301).
    pub(super) fn alpn(&self) -> Option<&[u8]> {
        self.connection.alpn_protocol()
    }

    /// Takes some of the socket's bytes off `input`.
    ///
    /// # Errors
    ///
    /// The connection cannot be secured, or is not any more; an alert for the peer may wait for the socket.
    pub(super) fn read(&mut self, input: &mut &[u8]) -> Result<Read, Failure> {
        let room = FIRST_BYTES - self.first.len();
        self.first.extend(input.iter().take(room));
        match self.connection.read_tls(input) {
            Ok(0) => return Ok(Read::End),
            Ok(_) => {}
            // Its buffers are bounded, and emptied after each read: what does not fit is no handshake.
            Err(error) => return Err(failure::overfull(&self.name, &error)),
        }
        match self.connection.process_new_packets() {
            Ok(state) if state.peer_has_closed() => Ok(Read::End),
            Ok(_) => Ok(Read::Some),
            Err(error) => Err(failure::explain(
                &self.name,
                &error,
                self.is_handshaking(),
                &self.first,
            )),
        }
    }

    /// What the bytes read so far held, piece by piece.
    pub(super) fn plaintext(&mut self, mut take: impl FnMut(&[u8])) {
        let mut reader = self.connection.reader();
        while let Ok(piece) = reader.fill_buf() {
            let len = piece.len();
            if len == 0 {
                return;
            }
            self.is_heard = true;
            take(piece);
            reader.consume(len);
        }
    }

    /// Whether the peer has sent data.
    pub(super) fn is_heard(&self) -> bool {
        self.is_heard
    }

    /// Whether more plaintext would be encrypted now.
    pub(super) fn has_room(&self) -> bool {
        self.queue.is_empty() && self.is_flowing()
    }

    /// Whether plaintext waits that was not encrypted: it has not left, and does not once the connection is over.
    pub(super) fn holds_back(&self) -> bool {
        !self.queue.is_empty()
    }

    /// The failure where both sides agreed on no protocol that can be spoken here.
    pub(super) fn no_protocol(&self) -> Failure {
        failure::no_protocol(&self.name)
    }

    /// Takes plaintext to send.
    pub(super) fn queue(&mut self, pieces: Vec<Bytes>) {
        if !self.is_closing {
            self.queue
                .extend(pieces.into_iter().filter(|piece| !piece.is_empty()));
        }
    }

    /// Encrypted bytes for the socket.
    ///
    /// # Errors
    ///
    /// The connection takes no more plaintext: too much was sent under its keys.
    pub(super) fn poll_transmit(&mut self) -> Result<Option<Bytes>, Failure> {
        let waiting: usize = self.queue.iter().map(Bytes::len).sum();
        let len = waiting.min(BATCH_BYTES) + RECORD_OVERHEAD * (1 + BATCH_BYTES / RECORD_BYTES);
        let is_flowing = self.is_flowing() && !self.is_handshaking();
        if !self.connection.wants_write() && (waiting == 0 || !is_flowing) {
            return Ok(None);
        }
        let mut out = BytesMut::with_capacity(if is_flowing { len } else { RECORD_OVERHEAD });
        self.flush(&mut out);
        while is_flowing && out.len() < BATCH_BYTES && !self.queue.is_empty() {
            let mut taken = self.encrypt()?;
            if taken == 0 {
                // The keys are worn out: new ones are announced first.
                self.flush(&mut out);
                taken = self.encrypt()?;
            }
            if taken == 0 {
                return Err(failure::exhausted(&self.name, "it takes no more data"));
            }
            self.flush(&mut out);
            self.records.push_back((self.produced, taken));
        }
        Ok((!out.is_empty()).then(|| out.freeze()))
    }

    /// The socket took `count` bytes: how much plaintext it has now taken for certain. A record counts with its last byte.
    pub(super) fn handle_sent(&mut self, count: usize) -> usize {
        self.sent = self.produced.min(self.sent.saturating_add(count as u64));
        let mut plain = 0;
        while let Some(&(end, len)) = self.records.front() {
            if end > self.sent {
                break;
            }
            plain += len;
            self.records.pop_front();
        }
        plain
    }

    /// Says goodbye (close_notify) behind what was encrypted; the rest is given up.
    pub(super) fn close(&mut self) {
        self.is_closing = true;
        self.queue.clear();
        self.connection.send_close_notify();
    }

    /// What to say when the connection ended in the handshake.
    pub(super) fn unfinished(&self, why: &str) -> Failure {
        failure::unfinished(&self.name, why, &self.first)
    }

    /// What to say when the socket ended and the peer had not closed the connection in order.
    pub(super) fn truncated(why: &str) -> String {
        format!("{why}, without the end of TLS (close_notify)")
    }

    fn is_flowing(&self) -> bool {
        self.produced - self.sent < OUTSTANDING_MAX
    }

    /// Encrypts one record of what waits.
    fn encrypt(&mut self) -> Result<usize, Failure> {
        let mut slices = [IoSlice::new(&[]); RECORD_PIECES];
        let mut left = RECORD_BYTES;
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.queue) {
            let piece = &piece[..piece.len().min(left)];
            *slice = IoSlice::new(piece);
            left -= piece.len();
            count += 1;
            if left == 0 {
                break;
            }
        }
        let written = self.connection.writer().write_vectored(&slices[..count]);
        let taken = written.map_err(|error| failure::exhausted(&self.name, &error.to_string()))?;
        let mut rest = taken;
        while let Some(piece) = self.queue.front_mut().filter(|_| rest > 0) {
            if rest < piece.len() {
                piece.advance(rest);
                break;
            }
            rest -= piece.len();
            self.queue.pop_front();
        }
        Ok(taken)
    }

    /// Moves what is encrypted to `out`.
    fn flush(&mut self, out: &mut BytesMut) {
        let before = out.len();
        while self.connection.wants_write() {
            // Memory takes everything.
            if !matches!(self.connection.write_tls(&mut out.writer()), Ok(1..)) {
                break;
            }
        }
        self.produced += (out.len() - before) as u64;
    }
}

/// The name that the collector's certificate is to be made out for.
fn server_name(endpoint: &Endpoint) -> Result<ServerName<'static>, String> {
    match endpoint.host() {
        Host::Name(name) => {
            let bare = name.strip_suffix('.').unwrap_or(name);
            let name = DnsName::try_from(bare.to_owned());
            name.map(ServerName::DnsName)
                .map_err(|_| format!("{bare} is no name that a certificate can be made out for"))
        }
        Host::Ip(ip) => Ok(ServerName::IpAddress((*ip).into())),
        Host::Unix(_) => {
            Err("a Unix socket has no name to verify a certificate for; give Tls::with_server_name".into())
        }
    }
}
