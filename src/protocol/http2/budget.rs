//! What a peer may send to no purpose.
//!
//! Frames that bring no call further are paid for from a budget that calls refill as they end, and time as it passes.
//! A peer that floods the connection empties it at once; one that pings, answers late or splits its answers never does.

use crate::protocol::http2::frames::{Head, Kind};
use crate::time::Instant;
use core::time::Duration;

/// A frame without purpose.
const IDLE_COST: u32 = 8;
/// Bytes of a frame without purpose that cost one unit more.
const BYTES_PER_UNIT: usize = 128;
/// A DATA frame that hardly carries more than its own head.
const SMALL_DATA_COST: u32 = 1;
/// Payloads below this many bytes are small.
const SMALL_DATA_LEN: usize = 64;
/// What a call that ends brings back.
const CALL_REFILL: u32 = 32 * IDLE_COST;
/// What a second brings back while the peer reads.
const SECOND_REFILL: u64 = 100 * IDLE_COST as u64;
/// The most that can be saved: enough for the late answers of every call that can be under way.
const SAVED_MAX: u32 = 8_000 * IDLE_COST;

/// The account of one connection.
pub(super) struct Budget {
    saved: u32,
    refilled_at: Instant,
}

impl Budget {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            saved: SAVED_MAX,
            refilled_at: now,
        }
    }

    /// Time has passed; `is_read` tells whether the peer takes what it is sent, without which nothing is given back.
    pub(super) fn refill(&mut self, now: Instant, is_read: bool) {
        let passed = now.since(self.refilled_at).as_nanos();
        let gained = passed.saturating_mul(u128::from(SECOND_REFILL)) / 1_000_000_000;
        if gained > 0 {
            let counted = gained.saturating_mul(1_000_000_000) / u128::from(SECOND_REFILL);
            self.refilled_at =
                self.refilled_at + Duration::from_nanos(u64::try_from(counted).unwrap_or(u64::MAX));
            if is_read {
                self.give(u32::try_from(gained).unwrap_or(SAVED_MAX));
            }
        }
    }

    /// A call ended.
    pub(super) fn refill_call(&mut self) {
        self.give(CALL_REFILL);
    }

    /// Pays for a frame; `is_ours` tells whether its stream has a call. `false` once the budget is spent.
    pub(super) fn pay(&mut self, frame: &Head, is_ours: bool) -> bool {
        let cost = match frame.kind {
            Kind::Data if is_ours && frame.len >= SMALL_DATA_LEN => 0,
            Kind::Data if is_ours && frame.ends_stream() => 0,
            Kind::Data if is_ours && frame.len > 0 => SMALL_DATA_COST,
            Kind::WindowUpdate => 0,
            _ => IDLE_COST.saturating_add(u32::try_from(frame.len / BYTES_PER_UNIT).unwrap_or(u32::MAX)),
        };
        match self.saved.checked_sub(cost) {
            Some(left) => {
                self.saved = left;
                true
            }
            None => false,
        }
    }

    fn give(&mut self, amount: u32) {
        self.saved = self.saved.saturating_add(amount).min(SAVED_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::http2::frames::END_STREAM;

    const PING: Head = Head {
        len: 8,
        kind: Kind::Ping,
        flags: 0,
        stream: 0,
    };

    #[test]
    fn a_flood_empties_the_budget_and_a_second_refills_some() {
        let mut budget = Budget::new(Instant::ZERO);
        let paid = (0..10_000).take_while(|_| budget.pay(&PING, false)).count();
        assert_eq!(paid, 8_000, "spec 52");
        budget.refill(Instant::from_millis(500), false);
        assert!(
            !budget.pay(&PING, false),
            "a peer that does not read gains nothing"
        );
        budget.refill(Instant::from_millis(1_000), true);
        assert_eq!((0..100).take_while(|_| budget.pay(&PING, false)).count(), 50);
    }

    #[test]
    fn refills_in_small_steps_lose_nothing() {
        let mut budget = Budget::new(Instant::ZERO);
        while budget.pay(&PING, false) {}
        for step in 1..=500 {
            budget.refill(Instant::from_millis(step * 2), true);
        }
        let paid = (0..200).take_while(|_| budget.pay(&PING, false)).count();
        assert_eq!(paid, 100, "a second in steps of 2 ms, each worth 1.6 units");
    }

    #[test]
    fn answers_pay_for_themselves() {
        let mut budget = Budget::new(Instant::ZERO);
        let head = |kind, flags| Head {
            len: 20,
            kind,
            flags,
            stream: 1,
        };
        for _ in 0..100_000 {
            assert!(budget.pay(&head(Kind::Headers, 0), true));
            assert!(budget.pay(&head(Kind::Data, 0), true));
            assert!(budget.pay(&head(Kind::Headers, END_STREAM), true));
            budget.refill_call();
        }
    }
}
