//! The side of the producers, who know no time.

use super::open::Closed;
use super::{Admission, Delivery, DeliveryAction, OpenKey, OpenTicket, Own};
use crate::encode::{Request, Signal};
use crate::outcome::DropReason;
use crate::pipeline::Overflow;

impl Delivery {
    /// Takes an open batch to write into. `items` and `bytes` are what is about to be written as far as that is known, at
    /// least one item: a place is reserved for so much, and so much counts as dropped where there is none.
    ///
    /// The ticket has to come back by [`put_back`](Self::put_back), whatever happens to the producer.
    ///
    /// # Errors
    ///
    /// Every [`Admission`] but `Admitted`.
    pub fn begin(&mut self, key: &OpenKey, items: u64, bytes: u64) -> Result<OpenTicket, Admission> {
        let (items, bytes) = (items.max(1), bytes.max(1));
        match self.admit(key.signal, items, bytes) {
            Admission::Admitted => {}
            other => return Err(other),
        }
        let mut close = (u64::MAX, u64::MAX);
        for leg in &self.legs {
            let bounds = leg.batch_bounds(key.signal);
            close = (close.0.min(bounds.0), close.1.min(bounds.1));
        }
        let epoch = self.shared.epochs.present();
        let ticket = self.open.take(key, &mut self.seq, epoch, (items, bytes), close);
        if let Some((closed, leftover)) = self.open.close_surplus() {
            self.shared.garbage.batches.extend(leftover);
            self.enqueue(closed);
        }
        Ok(ticket)
    }

    /// Puts an open batch back: what was written since it was taken is accepted.
    pub fn put_back(&mut self, ticket: OpenTicket) {
        let epoch = self.shared.epochs.present();
        let signal = ticket.key().signal;
        let returned = self.open.put_back(ticket, epoch);
        let added = returned.items_added;
        for leg in &mut self.legs {
            leg.accept(added);
        }
        let legs = self.legs.len() as u64;
        if added > 0 {
            self.shared.epochs.add(returned.epoch, added * legs);
        }
        if returned.items_lost > 0 {
            for leg in &mut self.legs {
                let (epoch, lost) = (returned.epoch, returned.items_lost);
                let reason = self.shared.over.unwrap_or(DropReason::Cancelled);
                leg.lose(&mut self.shared, signal, epoch, lost, reason);
            }
        }
        self.shared.garbage.batches.extend(returned.leftover);
        self.shared.garbage.requests.extend(returned.sealed);
        match returned.closed {
            Some(closed) => self.enqueue(closed),
            None if self.policy(signal) == Overflow::DropOldest => {
                for at in 0..self.legs.len() {
                    self.make_room(at, signal, 0, 0, true);
                }
            }
            None => {}
        }
        if returned.is_unseen || self.is_closed {
            self.signal();
        }
        // What the reservation kept others from is free again.
        if self.wanted.is_some() {
            self.signal();
        }
        debug_assert!(
            self.is_conserved(),
            "items are lost or counted twice: {:?}",
            self.stats()
        );
    }

    /// Takes a whole request; one without items is admitted and forgotten.
    pub fn push(&mut self, request: &Request) -> Admission {
        let (signal, items) = (request.signal(), request.items());
        let bytes = request.encoded_len() as u64;
        if items == 0 && request.refused() == 0 {
            return if self.is_closed {
                Admission::Closed
            } else {
                Admission::Admitted
            };
        }
        match self.admit(signal, items, bytes) {
            Admission::Admitted => {}
            other => return other,
        }
        let key = OpenKey {
            signal,
            own: Own::of(request),
        };
        // What was written before it goes before it.
        let mut before = alloc::vec::Vec::new();
        self.open
            .close_all(Some(&key), |closed, leftover| before.push((closed, leftover)));
        for (closed, leftover) in before {
            self.shared.garbage.batches.extend(leftover);
            self.enqueue(closed);
        }
        let epoch = self.shared.epochs.present();
        for leg in &mut self.legs {
            leg.accept(items);
        }
        self.shared.epochs.add(epoch, items * self.legs.len() as u64);
        self.seq += 1;
        self.enqueue(Closed {
            key,
            seq: self.seq,
            epoch,
            born: None,
            request: request.clone(),
        });
        // The driver has not seen it.
        self.signal();
        debug_assert!(
            self.is_conserved(),
            "items are lost or counted twice: {:?}",
            self.stats()
        );
        Admission::Admitted
    }

    /// Refuses items of one who may not wait for room: they are counted as dropped, as where the signal drops what comes.
    pub fn refuse_full(&mut self, signal: Signal, items: u64) -> Admission {
        if self.is_closed {
            return Admission::Closed;
        }
        for at in 0..self.legs.len() {
            self.legs[at].full = self.used(&self.legs[at]);
            self.legs[at].refuse(&mut self.shared, signal, items);
        }
        Admission::Dropped(DropReason::QueueFull)
    }

    /// Counts items that were refused as dropped: accepted, and of no epoch.
    #[cfg(feature = "opentelemetry_0_33")]
    pub fn turn_away(&mut self, signal: Signal, items: u64, reason: DropReason) {
        for leg in &mut self.legs {
            leg.turn_away(signal, items, reason);
        }
    }

    /// Takes a whole request if that costs nobody anything: not where there is no room, and nothing is counted then. Whether
    /// it was taken.
    pub fn push_spare(&mut self, request: &Request) -> bool {
        let (items, bytes) = self.room();
        let fits = request.items() <= items && request.encoded_len() as u64 <= bytes;
        fits && self.push(request) == Admission::Admitted
    }

    /// Whether the driver is to be woken, now, after the lock is released. True once for all that happened.
    pub fn take_wake(&mut self) -> bool {
        if core::mem::take(&mut self.shared.overflows) {
            self.signal();
        }
        core::mem::take(&mut self.wake)
    }

    /// Items and bytes that there is room for in every leg.
    pub fn room(&self) -> (u64, u64) {
        let (mut items, mut bytes) = (u64::MAX, u64::MAX);
        for leg in self.legs.iter().filter(|leg| !leg.is_gone) {
            let used = self.used(leg);
            items = items.min(self.shared.config.items_max.saturating_sub(used.0));
            bytes = bytes.min(self.shared.config.bytes_max.saturating_sub(used.1));
        }
        (items, bytes)
    }

    /// Finds room for so much of a signal, by its overflow. Where there is none and the signal drops, it is counted.
    fn admit(&mut self, signal: Signal, items: u64, bytes: u64) -> Admission {
        if self.is_closed {
            return Admission::Closed;
        }
        let config = &self.shared.config;
        let (items_max, bytes_max) = (config.items_max, config.bytes_max);
        let policy = self.policy(signal);
        let never_fits = items > items_max || bytes > bytes_max;
        let room = self.room();
        if items <= room.0 && bytes <= room.1 {
            return Admission::Admitted;
        }
        if policy == Overflow::Block && !never_fits {
            let wanted = self.wanted.unwrap_or((u64::MAX, u64::MAX));
            self.wanted = Some((wanted.0.min(items), wanted.1.min(bytes)));
            return Admission::Full;
        }
        // One leg with room is enough: the others drop it when it comes to them.
        let mut is_admitted = false;
        if !never_fits {
            for at in 0..self.legs.len() {
                is_admitted |= !self.legs[at].is_gone && self.make_room(at, signal, items, bytes, false);
            }
        }
        if is_admitted {
            return Admission::Admitted;
        }
        for at in 0..self.legs.len() {
            if never_fits {
                self.legs[at].full = self.used(&self.legs[at]);
            }
            let leg = &mut self.legs[at];
            leg.refuse(&mut self.shared, signal, items);
        }
        Admission::Dropped(DropReason::QueueFull)
    }

    /// Whether a leg has room for so much, after evicting where the signal does, and only where that makes the room. What was
    /// admitted before `has_place`.
    pub(super) fn make_room(
        &mut self,
        at: usize,
        signal: Signal,
        items: u64,
        bytes: u64,
        has_place: bool,
    ) -> bool {
        let policy = self.policy(signal);
        let may_evict = policy == Overflow::DropOldest && {
            let (config, used) = (&self.shared.config, self.used(&self.legs[at]));
            let free = self.legs[at].evictable(signal);
            let fits = (used.0 - free.0).saturating_add(items) <= config.items_max
                && (used.1 - free.1).saturating_add(bytes) <= config.bytes_max;
            // What has its place stays: every item that gives way brings the leg nearer to its bounds.
            fits || has_place
        };
        loop {
            let config = &self.shared.config;
            let used = self.used(&self.legs[at]);
            let fits = used.0.saturating_add(items) <= config.items_max
                && used.1.saturating_add(bytes) <= config.bytes_max;
            if fits || self.legs[at].is_gone {
                return true;
            }
            self.legs[at].full = used;
            if may_evict && self.legs[at].evict(&mut self.shared, signal) {
                continue;
            }
            return has_place || policy == Overflow::Block;
        }
    }

    /// Tells the producers that there is room, where one of them waits for no more than that.
    pub(super) fn wake_producers(&mut self) {
        let room = self.room();
        for at in 0..self.legs.len() {
            let used = self.used(&self.legs[at]);
            let config = &self.shared.config;
            if used.0 <= config.items_max / 2 && used.1 <= config.bytes_max / 2 {
                self.legs[at].has_room();
            }
        }
        let Some(wanted) = self.wanted else { return };
        if wanted.0 <= room.0 && wanted.1 <= room.1 {
            self.wanted = None;
            self.shared.actions.push_back(DeliveryAction::WakeProducers {
                items: room.0,
                bytes: room.1,
                is_closed: false,
            });
        }
    }

    /// Items and bytes that share the bounds of a leg.
    fn used(&self, leg: &super::Leg) -> (u64, u64) {
        let (held, reserved) = (leg.held(), self.open.reserved());
        (
            held.0 + self.open.items() + reserved.0,
            held.1 + self.open.bytes() + reserved.1,
        )
    }

    fn policy(&self, signal: Signal) -> Overflow {
        self.shared.config.overflow[signal.index()]
    }
}
