//! Many exports of one owner, waited for together.

use super::Exporter;
use super::channel::{Channel, Offer, Verdict};
use super::drive::ExportId;
use super::managed::Managed;
use super::origin::Origin;
use super::prepare::Prepared;
use super::waiters::Key;
use crate::encode::Request;
use crate::rt::Runtime;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::task::{Context, Poll};

/// Where the verdicts of one owner's exports are put.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MailboxId(pub(super) u64);

/// Many exports of one owner over one exporter.
///
/// One registration and one pump serve all of them, however many there are. It drives the connections, also while it has no
/// export, and is the channel's driver where there is no other: whoever polls it keeps polling it, or drops it. It keeps the
/// channel alive, but not an [`Exporter::driver`].
///
/// It does not call [`Runtime::drive`], since its owner waits for other things too: the owner wraps its whole poll in that.
///
/// # Cancel safety
///
/// Dropping it cancels the exports that it holds; the exporter and all other exports go on.
pub struct Flight<R: Runtime> {
    channel: Arc<Channel<R>>,
    runtime: Option<R>,
    mailbox: MailboxId,
    key: Option<Key>,
    /// The exports whose verdict was not taken, with their items.
    live: BTreeMap<ExportId, u64>,
    /// Verdicts that left the mailbox.
    ready: VecDeque<(ExportId, Verdict)>,
    /// Exports that were begun in another process than the exporter's.
    orphans: u64,
}

impl<R: Runtime> Flight<R> {
    /// A flight without exports.
    pub fn new(exporter: &Exporter<R>) -> Self {
        let channel = exporter.channel().clone();
        Self {
            runtime: channel.runtime(),
            mailbox: channel.open_mailbox(),
            channel,
            key: None,
            live: BTreeMap::new(),
            ready: VecDeque::new(),
            orphans: 0,
        }
    }

    /// The runtime; none in another process than the exporter's.
    pub fn runtime(&self) -> Option<&R> {
        self.runtime.as_ref()
    }

    /// Whether this is another process than the exporter's.
    pub(crate) fn is_foreign(&self) -> bool {
        self.channel.origin.is_foreign()
    }

    /// Exports whose verdict was not taken.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether it has no export.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// Begins an export; its deadline runs from here. It has to be polled for.
    pub fn submit(&mut self, request: Request, managed: Option<Managed>) -> ExportId {
        let items = request.items();
        let accepted = self
            .channel
            .submit_to(self.mailbox, self.key, request, managed)
            .unwrap_or_else(|| self.orphan());
        self.live.insert(accepted, items);
        accepted
    }

    /// Begins an export, unless the memory limit has no room for it beside others: it comes back then, to be offered again once one
    /// of them has its verdict. Its deadline runs from when it is taken.
    pub(crate) fn try_submit(&mut self, offer: Offer, items: u64) -> Result<ExportId, Box<Prepared>> {
        let accepted = self
            .channel
            .try_submit_to(self.mailbox, self.key, offer)?
            .unwrap_or_else(|| self.orphan());
        self.live.insert(accepted, items);
        Ok(accepted)
    }

    /// A number for an export that the exporter did not take: its own count upwards, and some of them may be inherited.
    fn orphan(&mut self) -> ExportId {
        self.orphans += 1;
        ExportId(u64::MAX - self.orphans)
    }

    /// Cancels an export, and takes its verdict, which may have come before; `None` where it was taken already.
    pub fn cancel(&mut self, id: ExportId) -> Option<Verdict> {
        let items = self.live.remove(&id)?;
        if self.channel.origin.is_foreign() {
            return Some(Err(Origin::error(items)));
        }
        match self.ready.iter().position(|(ready, _)| *ready == id) {
            Some(at) => self.ready.remove(at).map(|(_, verdict)| verdict),
            None => self.channel.cancel(self.mailbox, id),
        }
    }

    /// Cancels every export, and takes all verdicts, those that came before among them. The newest goes first, so that none
    /// begins in the place of another that is cancelled.
    pub fn cancel_all(&mut self) -> Vec<(ExportId, Verdict)> {
        let newest_first: Vec<ExportId> = self.live.keys().rev().copied().collect();
        let cancel = |id| Some((id, self.cancel(id)?));
        newest_first.into_iter().filter_map(cancel).collect()
    }

    /// The next verdict. Pending also while there is no export, after the connections were driven.
    ///
    /// Poll it until it is pending: only then will its waker be woken.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(ExportId, Verdict)> {
        if self.channel.origin.is_foreign() {
            return match self.live.pop_first() {
                Some((id, items)) => Poll::Ready((id, Err(Origin::error(items)))),
                None => Poll::Pending,
            };
        }
        if self.ready.is_empty() {
            // Before anything is looked at: an event after the look then finds this waker.
            self.channel.hub.register(&mut self.key, cx.waker());
            if let Some(key) = self.key {
                self.channel.hub.make_driver(key);
            }
            self.channel.poll_mailbox(self.mailbox, self.key, &mut self.ready);
        }
        match self.ready.pop_front() {
            Some((id, verdict)) => {
                self.live.remove(&id);
                Poll::Ready((id, verdict))
            }
            None => Poll::Pending,
        }
    }
}

impl<R: Runtime> fmt::Debug for Flight<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flight")
            .field("exports", &self.live.len())
            .finish_non_exhaustive()
    }
}

impl<R: Runtime> Drop for Flight<R> {
    fn drop(&mut self) {
        if self.channel.origin.is_foreign() {
            return;
        }
        if let Some(key) = self.key.take() {
            self.channel.hub.remove(key);
        }
        self.channel.close_mailbox(self.mailbox);
    }
}
