//! Many exports of one owner, waited for together.

use super::Exporter;
use super::channel::{Channel, Verdict};
use super::drive::ExportId;
use super::managed::Managed;
use super::origin::Origin;
use super::waiters::Key;
use crate::encode::Request;
use crate::rt::Runtime;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
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
pub(crate) struct Flight<R: Runtime> {
    channel: Arc<Channel<R>>,
    runtime: Option<R>,
    mailbox: MailboxId,
    key: Option<Key>,
    /// The exports without a verdict, with their items.
    live: BTreeMap<ExportId, u64>,
    /// Numbers for exports of another process than the exporter's.
    orphans: u64,
}

impl<R: Runtime> Flight<R> {
    pub(crate) fn new(exporter: &Exporter<R>) -> Self {
        let channel = exporter.channel().clone();
        Self {
            runtime: channel.runtime(),
            mailbox: channel.open_mailbox(),
            channel,
            key: None,
            live: BTreeMap::new(),
            orphans: 0,
        }
    }

    /// The runtime; none in another process than the exporter's.
    pub(crate) fn runtime(&self) -> Option<&R> {
        self.runtime.as_ref()
    }

    /// Whether this is another process than the exporter's.
    pub(crate) fn is_foreign(&self) -> bool {
        self.channel.origin.is_foreign()
    }

    /// Exports whose verdict was not taken.
    pub(crate) fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether it has no export.
    pub(crate) fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// Begins an export; its deadline runs from here. It has to be polled for.
    pub(crate) fn submit(&mut self, request: Request, managed: Option<Managed>) -> ExportId {
        let items = request.items();
        let accepted = self
            .channel
            .submit_to(self.mailbox, self.key, request, managed)
            .unwrap_or_else(|| {
                self.orphans += 1;
                ExportId(self.orphans)
            });
        self.live.insert(accepted, items);
        accepted
    }

    /// Cancels an export; its verdict comes as any other.
    pub(crate) fn cancel(&mut self, id: ExportId) {
        if self.live.contains_key(&id) {
            self.channel.cancel(id);
        }
    }

    /// The next verdict. Pending also while there is no export, after the connections were driven.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(ExportId, Verdict)> {
        if self.channel.origin.is_foreign() {
            return match self.live.pop_first() {
                Some((id, items)) => Poll::Ready((id, Err(Origin::error(items)))),
                None => Poll::Pending,
            };
        }
        // Before anything is looked at: an event after the look then finds this waker.
        self.channel.hub.register(&mut self.key, cx.waker());
        if let Some(key) = self.key {
            self.channel.hub.make_driver(key);
        }
        let settled = self.channel.poll_mailbox(self.mailbox, self.key);
        if let Poll::Ready((id, _)) = &settled {
            self.live.remove(id);
        }
        settled
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
