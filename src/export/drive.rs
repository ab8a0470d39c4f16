//! The words between an engine and the shell that drives it.

use crate::credentials::{Authorization, CredentialHeaders};
use crate::endpoint::{Name, Target};
use crate::protocol::Failure;
use alloc::vec::Vec;
use bytes::Bytes;
use core::net::SocketAddr;

/// One export of one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExportId(pub(crate) u64);

/// One connection of one engine, from the resolving of its name to its close. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub(crate) u64);

/// What a shell tells the engine.
///
/// A fact about a connection that the engine has closed is ignored, so that a completion may come late.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Fact<'a> {
    /// [`Action::Resolve`] found addresses, none being a failure.
    Resolved(ConnId, &'a [SocketAddr]),
    /// [`Action::Resolve`] failed, in words.
    ResolveFailed(ConnId, &'a str),
    /// [`Action::Connect`] opened the socket.
    Connected(ConnId),
    /// [`Action::Connect`] failed, in words.
    ConnectFailed(ConnId, &'a str),
    /// The socket delivered bytes.
    Input(ConnId, &'a [u8]),
    /// The socket took so many of the bytes of [`Action::Transmit`], in their order. All that it took is told before
    /// [`Eof`](Self::Eof) or [`Failed`](Self::Failed): what was not told then counts as not sent.
    Sent(ConnId, usize),
    /// The peer closed its side in order.
    Eof(ConnId),
    /// The socket failed, in words.
    Failed(ConnId, &'a str),
    /// The time of [`poll_timeout`](super::Engine::poll_timeout) has come.
    Timeout,
    /// [`Action::Authorize`] found these headers.
    Authorized(ExportId, &'a CredentialHeaders),
    /// [`Action::Authorize`] found none.
    AuthorizeFailed(ExportId, &'a Failure),
    /// Nobody waits for this export any more.
    Cancel(ExportId),
    /// Refuse further exports; those without a verdict go on.
    Drain,
    /// Refuse further exports and close every connection; those without a verdict are dropped now.
    Shutdown,
}

/// What the engine wants of its shell.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Resolve the name and answer [`Fact::Resolved`] or [`Fact::ResolveFailed`].
    Resolve(ConnId, Name),
    /// Open a socket and answer [`Fact::Connected`] or [`Fact::ConnectFailed`]. A connection gets a further one for its
    /// next address after the first failed or took too long; the earlier attempt is then to be abandoned.
    Connect(ConnId, Target),
    /// Ask for the credentials of an attempt, with no lock held, and answer [`Fact::Authorized`] or
    /// [`Fact::AuthorizeFailed`]. The id is that of the export or of a part that it was split into.
    Authorize(ExportId, Authorization),
    /// Write the bytes, after those of earlier actions, and answer with [`Fact::Sent`] as the socket takes them.
    Transmit(ConnId, Vec<Bytes>),
    /// Close the connection in whatever state it is, dropping bytes not yet written, and forget it.
    Close(ConnId),
}
