//! Exports without futures: many of one owner, whose verdicts come into one place.

use super::held::Slot;
use super::{Channel, Verdict};
use crate::encode::Request;
use crate::export::drive::ExportId;
use crate::export::flight::MailboxId;
use crate::export::managed::Managed;
use crate::export::prepare::Prepared;
use crate::export::sync::lock;
use crate::export::waiters::Key;
use crate::rt::Runtime;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// The verdicts of the exports of one owner.
#[derive(Default)]
pub(super) struct Mailbox {
    /// The owner's place among the waiters, once it was polled.
    pub(super) key: Option<Key>,
    pub(super) verdicts: VecDeque<(ExportId, Verdict)>,
}

/// A request that is submitted if there is room for it.
pub(crate) enum Offer {
    /// It was not tried yet.
    New(Request),
    /// There was no room before; it is ready to be sent.
    Held(Box<Prepared>),
}

/// The exports of mailboxes.
impl<R: Runtime> Channel<R> {
    /// As [`submit`](Self::submit), the verdict going to a mailbox. `key` is the place of its owner among the waiters, who
    /// need not be woken.
    pub(crate) fn submit_to(
        &self,
        mailbox: MailboxId,
        key: Option<Key>,
        request: Request,
        managed: Option<Managed>,
    ) -> Option<ExportId> {
        let (id, _) = self.submit_as(Slot::Mailed(mailbox), request, managed)?;
        self.hub.wake_other_driver(key);
        Some(id)
    }

    /// As [`submit_to`](Self::submit_to), unless the request would be refused for what other exports hold: it comes back then, as
    /// it was made ready.
    pub(crate) fn try_submit_to(
        &self,
        mailbox: MailboxId,
        key: Option<Key>,
        offer: Offer,
    ) -> Result<Option<ExportId>, Box<Prepared>> {
        if self.origin.is_foreign() {
            match offer {
                Offer::New(request) => self.origin.refuse(&request),
                Offer::Held(prepared) => self.origin.refuse(&prepared.request),
            }
            return Ok(None);
        }
        let (prepared, begun) = match offer {
            Offer::New(request) => {
                let is_long = self.preparer.has_work(&request);
                let begun = is_long.then(|| lock(&self.core).runtime.now());
                (self.preparer.prepare(request), begun)
            }
            // Its deadline runs from now: it has waited for room, as its source has.
            Offer::Held(prepared) => (*prepared, None),
        };
        let id = {
            let mut core = lock(&self.core);
            if core.engine.must_wait(&prepared) {
                return Err(Box::new(prepared));
            }
            let now = core.runtime.now();
            let begun = begun.unwrap_or(now);
            let id = core.engine.submit_prepared(now, begun, prepared, None);
            core.has_submitted = true;
            core.exports.insert(id, Slot::Mailed(mailbox));
            id
        };
        self.hub.wake_other_driver(key);
        Ok(Some(id))
    }

    /// A place for the verdicts of one owner.
    pub(crate) fn open_mailbox(&self) -> MailboxId {
        if self.origin.is_foreign() {
            return MailboxId(0);
        }
        let mut core = lock(&self.core);
        core.mailboxes_opened += 1;
        let id = MailboxId(core.mailboxes_opened);
        core.mailboxes.insert(id, Mailbox::default());
        id
    }

    /// Cancels what was submitted to a mailbox, and forgets it.
    pub(crate) fn close_mailbox(&self, mailbox: MailboxId) {
        let of_mailbox = |(id, slot): (&ExportId, &Slot)| {
            matches!(slot, Slot::Mailed(other) if *other == mailbox).then_some(*id)
        };
        let verdicts = self.hold(None, |core, after| {
            let mut left: Vec<ExportId> = core.exports.iter().filter_map(of_mailbox).collect();
            // The newest first: the place of one that is gone is not for another that goes as well.
            left.sort_unstable_by(|one, other| other.cmp(one));
            let verdicts = core.mailboxes.remove(&mailbox);
            for id in left {
                core.exports.remove(&id);
                self.cancel_held(core, after, id);
            }
            core.check_closed(after);
            verdicts
        });
        drop(verdicts);
    }

    /// Cancels an export, and takes its verdict out of the mailbox.
    pub(crate) fn cancel(&self, mailbox: MailboxId, id: ExportId) -> Option<Verdict> {
        self.hold(None, |core, after| {
            self.cancel_held(core, after, id);
            core.check_closed(after);
            let verdicts = &mut core.mailboxes.get_mut(&mailbox)?.verdicts;
            let at = verdicts.iter().rposition(|(settled, _)| *settled == id)?;
            verdicts.remove(at).map(|(_, verdict)| verdict)
        })
    }

    /// Pumps, and moves the verdicts of a mailbox into `verdicts`, which is empty. `key` is its owner's place among the
    /// waiters, where the waker is registered already.
    pub(crate) fn poll_mailbox(
        &self,
        mailbox: MailboxId,
        key: Option<Key>,
        verdicts: &mut VecDeque<(ExportId, Verdict)>,
    ) {
        let _ = self.pump(key, |core| {
            let mailbox = core.mailboxes.get_mut(&mailbox)?;
            mailbox.key = key;
            core::mem::swap(verdicts, &mut mailbox.verdicts);
            (!verdicts.is_empty()).then_some(())
        });
    }
}
