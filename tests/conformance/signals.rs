//! Requests of every signal, with something of everything that their items can hold.

use otlp_embed::encode::{Buckets, ExponentialBuckets, array, kvlist};
use otlp_embed::pb::collector::{
    ExportLogsServiceRequest, ExportMetricsServiceRequest, ExportTraceServiceRequest,
};
use otlp_embed::pb::logs::SeverityNumber;
use otlp_embed::pb::trace::span::SpanKind;
use otlp_embed::pb::trace::status::StatusCode;
use otlp_embed::{LogBatch, MetricBatch, Request, Resource, Signal, Temporality, TraceBatch};
use prost::Message;

/// The items of each request.
pub const ITEMS: u64 = 5;

/// Referenced instead of copied, and worth compressing.
static PROMPT: [u8; 3_000] = [b'p'; 3_000];

/// A request that no other number gives.
pub fn request(signal: Signal, number: u64) -> Request {
    let request = match signal {
        Signal::Traces => spans(number),
        Signal::Metrics => points(number),
        Signal::Logs => logs(number),
        _ => profiles(number),
    };
    assert_eq!((request.signal(), request.items()), (signal, ITEMS));
    request
}

/// The message as `prost` writes what it says: equal where two messages say the same.
pub fn canonical(signal: Signal, message: &[u8]) -> Vec<u8> {
    fn again<M: Message + Default>(message: &[u8]) -> Vec<u8> {
        M::decode(message).expect("a message of OTLP").encode_to_vec()
    }
    match signal {
        Signal::Traces => again::<ExportTraceServiceRequest>(message),
        Signal::Metrics => again::<ExportMetricsServiceRequest>(message),
        Signal::Logs => again::<ExportLogsServiceRequest>(message),
        _ => message.to_vec(),
    }
}

fn resource() -> Resource {
    Resource::builder().attr("service.name", "conformance").build()
}

fn prompt() -> &'static str {
    core::str::from_utf8(&PROMPT).expect("it is ASCII")
}

fn spans(number: u64) -> Request {
    let mut batch = TraceBatch::new(&resource());
    batch.scope("suite", "1");
    for id in 1..=ITEMS {
        batch
            .span([7; 16], (number * ITEMS + id).to_be_bytes(), "chat \"täglich\"\n")
            .parent([9; 8])
            .kind(SpanKind::Client)
            .trace_state("a=b")
            .times(u64::MAX - 1..u64::MAX)
            .attr("number", number as i64)
            .attr("least", i64::MIN)
            .attr("not.finite", [f64::INFINITY, -0.0, 1e300])
            .attr("bytes", &[0_u8, 1, 255])
            .attr("nothing", None::<i64>)
            .attr("list", array(|list| _ = list.push("a").push(true)))
            .attr("pairs", kvlist(|pairs| _ = pairs.attr("x", 1)))
            .attr_shared("prompt", prompt())
            .event("said", 5, |event| _ = event.attr("words", 3))
            .link([1; 16], [2; 8], |link| _ = link.attr("why", "follows"))
            .status(StatusCode::Error, "too late")
            .end();
    }
    batch.finish()
}

fn logs(number: u64) -> Request {
    let mut batch = LogBatch::new(&resource());
    batch.scope("suite", "1");
    for id in 1..=ITEMS {
        batch
            .log()
            .time(number * ITEMS + id)
            .observed_time(u64::MAX)
            .severity(SeverityNumber::Warn, "WARN")
            .body_shared(prompt())
            .attr("number", number as i64)
            .attr("ratio", 0.1)
            .trace([1; 16], [2; 8])
            .event_name("cart.full")
            .end();
    }
    batch.finish()
}

/// A point of each of the five kinds.
fn points(number: u64) -> Request {
    let mut batch = MetricBatch::new(&resource());
    batch.scope("suite", "1");
    let value = number as i64;
    batch
        .metric("gauge")
        .description(prompt())
        .unit("{item}")
        .gauge()
        .point(0..u64::MAX, value)
        .exemplar(1.5, 7, |exemplar| _ = exemplar.trace([1; 16], [2; 8]))
        .end();
    batch
        .metric("sum")
        .monotonic_sum(Temporality::Cumulative)
        .point(1..2, -0.5)
        .attr("number", value)
        .end();
    batch
        .metric("histogram")
        .histogram(Temporality::Delta)
        .point(1..2, &[0.1, 1.0], &[u64::MAX >> 2, 3, 1])
        .sum(3.5)
        .min(0.0)
        .attr("number", value)
        .end();
    let buckets = ExponentialBuckets {
        scale: -3,
        zero_count: 1,
        negative: Buckets {
            offset: -2,
            counts: &[4, 0, 1],
        },
        ..ExponentialBuckets::default()
    };
    batch
        .metric("exponential")
        .exponential_histogram(Temporality::Delta)
        .point(1..2, buckets)
        .attr("number", value)
        .end();
    batch
        .metric("summary")
        .summary()
        .point(1..2, 9, 4.5)
        .quantile(0.5, 0.25)
        .attr("number", value)
        .end();
    batch.finish()
}

/// There is no writer of profiles: this is one as another library would have encoded it.
fn profiles(number: u64) -> Request {
    let field = |key: u8, content: &[u8]| {
        let mut bytes = vec![key << 3 | 2];
        prost::encoding::encode_varint(content.len() as u64, &mut bytes);
        bytes.extend_from_slice(content);
        bytes
    };
    let profiles: Vec<u8> = (1..=ITEMS)
        .flat_map(|id| {
            let mut profile_id = [3; 16];
            profile_id[..8].copy_from_slice(&(number * ITEMS + id).to_be_bytes());
            // A sample of the stack 1 with the values 5 and 6, then the id.
            let sample = field(2, &[0x08, 1, 0x22, 2, 5, 6]);
            field(2, &[sample, field(7, &profile_id)].concat())
        })
        .collect();
    let resource_profiles = field(1, &field(2, &profiles));
    let dictionary = field(2, &[field(5, b""), field(5, &PROMPT)].concat());
    let message = [resource_profiles, dictionary].concat();
    Request::from_encoded(Signal::Profiles, message).expect("a message of OTLP")
}
