//! What others encoded is read as `prost` reads it: checked, counted, split, turned into JSON and back.

mod arbitrary;
mod json;
mod signal;

use arbitrary::Input;
use bytes::Bytes;
use otlp_embed::testing::wire;
use otlp_embed::{Request, Signal};
use proptest::prelude::*;
use signal::{Messages, each_signal, reencode};

/// Bytes cut into pieces of the given lengths, the rest in the last.
pub fn cut(bytes: &[u8], lengths: &[usize]) -> Vec<Bytes> {
    let mut bytes = Bytes::copy_from_slice(bytes);
    let mut pieces: Vec<_> = lengths
        .iter()
        .map(|len| bytes.split_to((*len).min(bytes.len())))
        .collect();
    pieces.push(bytes);
    pieces
}

/// Counted as `prost` counts, and refused when `prost` refuses.
fn counts_as_prost<M: Messages>(bytes: &[u8]) {
    let ours = Request::from_encoded(M::SIGNAL, bytes.to_vec());
    let theirs = M::read(bytes);
    match (ours, theirs) {
        (Ok(request), Ok(message)) => {
            assert_eq!(request.items(), message.items(), "{:?} {bytes:?}", M::SIGNAL);
            assert_eq!(request.encoded_len(), bytes.len());
        }
        (Err(error), Err(_)) => assert!(error.is_misuse()),
        (ours, theirs) => panic!("{:?} {bytes:?}: {ours:?} but {:?}", M::SIGNAL, theirs.err()),
    }
}

/// Splits at a limit and checks every promise; what encloses the items has to be distinct.
fn splits<M: Messages>(message: &M, pieces: Vec<Bytes>, bytes_max: usize) {
    let whole = Request::from_segments(M::SIGNAL, message.items(), pieces)
        .with_timeout(core::time::Duration::from_secs(7))
        .with_header("x-of", "whole")
        .expect("a good header");
    let parts: Vec<_> = wire::split(&whole, bytes_max).collect();
    if whole.encoded_len() <= bytes_max {
        assert_eq!(parts.len(), 1);
        assert!(parts[0].0.segments().eq(whole.segments()));
        return;
    }
    let is_canonical = whole.segments().collect::<Vec<_>>().concat() == reencode(message);
    let all = message.flat();
    let mut left = &all[..];
    for (part, fits) in &parts {
        assert!(!part.is_empty());
        assert_eq!(*fits, part.encoded_len() <= bytes_max);
        assert!(*fits || part.items() == 1);
        assert_eq!(part.headers(), whole.headers());
        assert_eq!(part.timeout(), whole.timeout());
        assert_eq!(part.signal(), whole.signal());
        assert!(part.segments().all(|segment| !segment.is_empty()));
        let bytes = part.segments().collect::<Vec<_>>().concat();
        let decoded = M::read(&bytes).expect("a part that prost decodes").flat();
        assert_eq!(decoded.len() as u64, part.items());
        let count = decoded.len();
        // In order, each once, in what enclosed it.
        assert!(left.get(..count) == Some(&decoded[..]), "{:?}", M::SIGNAL);
        if is_canonical {
            assert_eq!(part.encoded_len(), signal::encoded_len(&decoded));
            // The next would not have fitted.
            if let Some(more) = left.get(..count + 1) {
                assert!(signal::encoded_len(more) > bytes_max, "room for one more");
            }
        }
        left = &left[count..];
    }
    assert!(left.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_message_is_counted(data in prop::collection::vec(any::<u8>(), 0..4_000)) {
        each_signal!(M => {
            let message = M::arbitrary(&mut Input::new(&data));
            counts_as_prost::<M>(&reencode(&message));
        });
    }

    #[test]
    fn what_prost_refuses_is_refused(
        data in prop::collection::vec(any::<u8>(), 0..2_000),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        len in any::<prop::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        each_signal!(M => {
            let mut bytes = reencode(&M::arbitrary(&mut Input::new(&data)));
            if !bytes.is_empty() {
                for (at, byte) in &changes {
                    let at = at.index(bytes.len());
                    bytes[at] = *byte;
                }
                if cuts {
                    bytes.truncate(len.index(bytes.len()));
                }
                counts_as_prost::<M>(&bytes);
            }
        });
    }

    #[test]
    fn parts_have_every_item_once_and_in_order(
        data in prop::collection::vec(any::<u8>(), 0..6_000),
        share in 0.0..1.2f64,
        cuts in prop::collection::vec(0..300usize, 0..8),
    ) {
        each_signal!(M => {
            let message = M::arbitrary(&mut Input::new(&data)).distinct();
            let bytes = reencode(&message);
            let bytes_max = (bytes.len() as f64 * share) as usize;
            splits(&message, cut(&bytes, &cuts), bytes_max);
            splits(&message, cut(&bytes, &cuts), 0);
        });
    }
}

#[test]
fn the_data_of_an_earlier_kind_are_no_points() {
    use opentelemetry_proto::tonic::metrics::v1::metric::Data;
    use opentelemetry_proto::tonic::metrics::v1::{Gauge, Metric, NumberDataPoint, Sum};
    use prost::Message as _;

    let points = |count| vec![NumberDataPoint::default(); count];
    let of = |data| {
        let metric = Metric {
            data: Some(data),
            ..Default::default()
        };
        metric.encode_to_vec()
    };
    let gauge = |count| {
        of(Data::Gauge(Gauge {
            data_points: points(count),
        }))
    };
    let sum = |count, is_monotonic| {
        of(Data::Sum(Sum {
            data_points: points(count),
            aggregation_temporality: 2,
            is_monotonic,
        }))
    };
    let enclose = |inner: Vec<u8>, number: u8| {
        let mut bytes = vec![number << 3 | 2];
        prost::encoding::encode_varint(inner.len() as u64, &mut bytes);
        bytes.extend(inner);
        bytes
    };
    for (metric, items) in [
        ([gauge(3), gauge(2)].concat(), 5),
        ([gauge(3), sum(2, true)].concat(), 2),
        ([gauge(3), sum(2, true), sum(4, false)].concat(), 6),
        ([sum(2, true), gauge(1), sum(1, false)].concat(), 1),
    ] {
        let bytes = enclose(enclose(enclose(metric, 2), 2), 1);
        counts_as_prost::<signal::Metrics>(&bytes);
        let message = signal::Metrics::read(&bytes).expect("a message");
        assert_eq!(message.items(), items);
        for bytes_max in 0..bytes.len() {
            splits(&message, cut(&bytes, &[7]), bytes_max);
        }
    }
}

#[test]
fn a_request_that_is_not_what_it_claims_is_left_whole() {
    for (bytes, items) in [
        (&b"\x0a\x02\x12\x00"[..], 3),
        (b"\x0a\xff", 1),
        (b"\x0d\x01\x02", 2),
    ] {
        let request = Request::from_segments(Signal::Traces, items, vec![Bytes::from_static(bytes)]);
        let parts: Vec<_> = wire::split(&request, 1).collect();
        assert_eq!(parts.len(), 1);
        assert!(!parts[0].1);
        assert_eq!(parts[0].0.items(), items);
        assert_eq!(parts[0].0.encoded_len(), bytes.len());
    }
}

#[test]
fn arbitrary_messages_hold_items() {
    each_signal!(M => {
        let items: u64 = (0..50u32)
            .map(|seed| {
                let next = |state: &u32| Some(state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
                let states = std::iter::successors(Some(seed * 40_503), next).skip(3).take(3_000);
                let data: Vec<u8> = states.map(|state| (state >> 24) as u8).collect();
                M::arbitrary(&mut Input::new(&data)).items()
            })
            .sum();
        assert!(items > 100, "{items} {:?}", M::SIGNAL);
    });
}
