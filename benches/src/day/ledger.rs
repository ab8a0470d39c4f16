//! Which spans the collector took, and how often.

use otlp_embed::pb::collector::ExportTraceServiceRequest;
use otlp_embed::testing::collector::ReceivedRequest;
use prost::Message;
use std::sync::{Arc, Mutex};

/// A bit for each span, by its producer and its number. Clones are the same ledger.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<Pages>>);

#[derive(Default)]
struct Pages {
    producers: Vec<Vec<u64>>,
    arrived: u64,
    again: u64,
    strange: u64,
}

/// What a ledger comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    /// Spans that were taken.
    pub arrived: u64,
    /// How often one was that had been taken before.
    pub again: u64,
    /// Spans that no producer wrote.
    pub strange: u64,
}

/// The id of a producer's span; none is all zero.
pub fn span_id(producer: usize, number: u64) -> [u8; 8] {
    ((producer as u64 + 1) << 40 | number).to_be_bytes()
}

impl Ledger {
    /// Notes a request that is taken.
    pub fn note(&self, request: &ReceivedRequest) {
        let mut pages = self.0.lock().expect("nobody panics with it");
        let Ok(message) = ExportTraceServiceRequest::decode(&request.message[..]) else {
            pages.strange += request.items;
            return;
        };
        let scopes = message.resource_spans.iter().flat_map(|spans| &spans.scope_spans);
        for span in scopes.flat_map(|scope| &scope.spans) {
            pages.note(&span.span_id);
        }
    }

    /// What it comes to now.
    pub fn sum(&self) -> Sum {
        let pages = self.0.lock().expect("nobody panics with it");
        Sum {
            arrived: pages.arrived,
            again: pages.again,
            strange: pages.strange,
        }
    }

    /// How many of the first spans of a producer were taken.
    pub fn count_first(&self, producer: usize, count: u64) -> u64 {
        let pages = self.0.lock().expect("nobody panics with it");
        let bits = pages.producers.get(producer);
        (0..count)
            .filter(|number| bits.is_some_and(|bits| is_set(bits, *number)))
            .count() as u64
    }
}

impl Pages {
    fn note(&mut self, span_id: &[u8]) {
        let id = <[u8; 8]>::try_from(span_id).map_or(0, u64::from_be_bytes);
        let (producer, number) = (id >> 40, id & ((1 << 40) - 1));
        // A peer that makes up numbers does not get all memory for them.
        if !(1..=64).contains(&producer) || number >= 1 << 32 {
            self.strange += 1;
            return;
        }
        let producer = producer as usize - 1;
        if self.producers.len() <= producer {
            self.producers.resize_with(producer + 1, Vec::new);
        }
        let bits = &mut self.producers[producer];
        let word = (number / 64) as usize;
        if bits.len() <= word {
            bits.resize(word + 1, 0);
        }
        match is_set(bits, number) {
            true => self.again += 1,
            false => self.arrived += 1,
        }
        bits[word] |= 1 << (number % 64);
    }
}

fn is_set(bits: &[u64], number: u64) -> bool {
    let word = bits.get((number / 64) as usize).copied().unwrap_or(0);
    word >> (number % 64) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_apart() {
        let ledger = Ledger::default();
        let mut pages = ledger.0.lock().unwrap();
        for number in [0, 1, 200, 1] {
            pages.note(&span_id(2, number));
        }
        pages.note(&[0; 8]);
        pages.note(b"short");
        drop(pages);
        let sum = Sum {
            arrived: 3,
            again: 1,
            strange: 2,
        };
        assert_eq!(ledger.sum(), sum);
        assert_eq!((ledger.count_first(2, 201), ledger.count_first(2, 3)), (3, 2));
        assert_eq!((ledger.count_first(1, 201), ledger.count_first(9, 1)), (0, 0));
    }
}
