//! What a batch of spans promises beyond its bytes.

#[path = "../../support/mod.rs"]
mod support;

use bytes::Bytes;
use otlp_embed::encode::{array, kvlist};
use otlp_embed::pb::collector::ExportTraceServiceRequest;
use otlp_embed::pb::common::any_value::Value;
use otlp_embed::pb::common::{AnyValue, ArrayValue, KeyValue};
use otlp_embed::pb::trace::status::StatusCode;
use otlp_embed::pb::trace::{ResourceSpans, ScopeSpans, Span};
use otlp_embed::{Request, Resource, Signal, TraceBatch};
use prost::Message;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use support::fuzz::encode_roundtrip::message;

const TRACE: [u8; 16] = [1; 16];
const SPAN: [u8; 8] = [2; 8];

fn batch() -> TraceBatch {
    TraceBatch::new(&Resource::builder().attr("service.name", "test").build())
}

fn decoded(request: &Request) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest::decode(&*message(request)).expect("it is valid protobuf")
}

/// Every span of a request, with nothing said about scopes.
fn spans(request: &Request) -> Vec<Span> {
    let resources = decoded(request).resource_spans.into_iter();
    resources
        .flat_map(|resource| resource.scope_spans)
        .flat_map(|scope| scope.spans)
        .collect()
}

fn attribute(span: &Span, key: &str) -> Option<Value> {
    let pair = span.attributes.iter().find(|pair| pair.key == key)?;
    pair.value.clone()?.value
}

fn addresses(bytes: &[u8]) -> Range<usize> {
    let begin = bytes.as_ptr() as usize;
    begin..begin + bytes.len()
}

/// Whether exactly these bytes are a segment of the request, in place.
fn references(request: &Request, value: Range<usize>) -> bool {
    request.segments().any(|segment| addresses(&segment) == value)
}

#[test]
fn a_batch_without_spans_makes_an_empty_request() {
    // spec 5: no empty envelopes.
    let mut batch = batch();
    batch.scope("named", "1.0");
    let request = batch.finish();
    assert!(request.is_empty() && batch.is_empty());
    assert_eq!(
        (request.items(), request.encoded_len(), request.segment_count()),
        (0, 0, 0)
    );
    assert_eq!(request.signal(), Signal::Traces);
}

#[test]
fn ids_of_zeros_are_refused_and_reported() {
    let mut batch = batch();
    let no_trace = batch
        .span([0; 16], SPAN, "no trace")
        .attr("a", 1)
        .try_end()
        .expect_err("no trace id");
    assert!(no_trace.is_misuse());
    assert!(no_trace.to_string().contains("trace id"), "{no_trace}");
    batch
        .span(TRACE, [0; 8], "no span")
        .event("e", 1, |event| _ = event.attr("b", 2))
        .end();
    batch
        .span(TRACE, SPAN, "good")
        .link([0; 16], SPAN, |_| ())
        .try_end()
        .expect("a good span");
    assert_eq!((batch.len(), batch.refused()), (1, 2));

    let error = batch.try_finish().expect_err("two spans were refused");
    assert!(error.is_misuse());
    assert!(
        error.to_string().starts_with("2 spans and 1 links were refused"),
        "{error}"
    );
    let request = batch.finish();
    assert_eq!((request.items(), request.refused()), (1, 2));
    let [good] = &spans(&request)[..] else {
        panic!("one span is good")
    };
    assert_eq!((&*good.name, good.links.len()), ("good", 0));
    assert!(batch.try_finish().expect("nothing was refused since").is_empty());
}

#[test]
fn a_dropped_writer_finishes_its_span() {
    let mut batch = batch();
    batch.span(TRACE, SPAN, "dropped").attr("a", 1);
    drop(batch.span(TRACE, SPAN, "bare"));
    let names: Vec<_> = spans(&batch.finish()).into_iter().map(|span| span.name).collect();
    assert_eq!(names, ["dropped", "bare"]);
}

#[test]
fn nothing_is_added_after_the_end() {
    let mut batch = batch();
    let mut span = batch.span(TRACE, SPAN, "ended");
    span.end();
    span.attr("late", 1)
        .parent([9; 8])
        .status(StatusCode::Error, "late")
        .event("late", 1, |_| ());
    span.trace_state("late=1")
        .link(TRACE, SPAN, |_| ())
        .flags(1)
        .times(1..2);
    span.end();
    drop(span);
    let expected = Span {
        trace_id: TRACE.to_vec(),
        span_id: SPAN.to_vec(),
        name: "ended".into(),
        ..Span::default()
    };
    assert_eq!(spans(&batch.finish()), [expected]);
}

#[test]
fn a_panic_in_the_middle_of_a_span_takes_it_out_again() {
    let mut batch = batch();
    batch.span(TRACE, SPAN, "before").end();
    let result = catch_unwind(AssertUnwindSafe(|| {
        let nested = array(|list| _ = list.push(kvlist(|_| panic!("in the middle"))));
        batch
            .span(TRACE, SPAN, "broken")
            .event("e", 1, |event| _ = event.attr("nested", nested));
    }));
    assert!(result.is_err());
    let result = catch_unwind(AssertUnwindSafe(|| {
        _ = batch.scope_with("broken", "", |_| panic!("as well"))
    }));
    assert!(result.is_err());
    // A panic that the closure catches itself leaves lengths open all the same.
    batch.span(TRACE, SPAN, "caught").event("e", 1, |event| {
        let nested = array(|_| panic!("in the middle"));
        _ = catch_unwind(AssertUnwindSafe(|| _ = event.attr("nested", nested)));
    });
    batch.scope("named", "");
    batch.span(TRACE, SPAN, "after").end();
    let request = batch.finish();
    assert_eq!(request.refused(), 2);
    let names: Vec<_> = spans(&request).into_iter().map(|span| span.name).collect();
    assert_eq!(names, ["before", "after"]);
}

/// Nothing of the scope that was being named carries away what is written after it.
#[test]
fn a_panic_while_a_scope_is_named_costs_no_span() {
    let mut batch = batch();
    batch.scope("first", "");
    batch.span(TRACE, SPAN, "before").end();
    let named = catch_unwind(AssertUnwindSafe(|| {
        batch.scope_with("second", "", |to| {
            to.attr("half", "written");
            panic!("while it is named");
        });
    }));
    assert!(named.is_err());
    batch.span(TRACE, SPAN, "after").end();
    batch.scope("third", "");
    batch.span(TRACE, SPAN, "last").end();
    let request = batch.finish();
    let mut names: Vec<_> = spans(&request).into_iter().map(|span| span.name).collect();
    names.sort();
    assert_eq!(
        (request.refused(), &*names),
        (0, &["after", "before", "last"].map(String::from)[..])
    );
}

#[test]
fn each_resource_and_scope_is_in_the_request_once() {
    let (a, b) = (
        Resource::builder().attr("r", "a").build(),
        Resource::builder().attr("r", "b"),
    );
    let mut batch = TraceBatch::new(&a);
    for round in 0..3 {
        // Built anew each time: what counts is what a resource says.
        for resource in [
            a.clone(),
            Resource::builder().attr("r", "b").schema_url("s").build(),
        ] {
            batch.resource(&resource);
            for scope in ["x", "y"] {
                batch.scope(scope, "1");
                batch.span(TRACE, SPAN, &format!("{scope}{round}")).end();
            }
        }
    }
    batch
        .resource(&b.schema_url("s").build())
        .scope_with("y", "1", |scope| _ = scope.attr("k", 1));
    batch.span(TRACE, SPAN, "other scope").end();
    let request = batch.finish();
    assert_eq!(request.items(), 13);
    let tree: Vec<Vec<Vec<String>>> = decoded(&request)
        .resource_spans
        .into_iter()
        .map(|resource| {
            let names = |scope: ScopeSpans| scope.spans.into_iter().map(|span| span.name).collect();
            resource.scope_spans.into_iter().map(names).collect()
        })
        .collect();
    let (x, y) = (vec!["x0", "x1", "x2"], vec!["y0", "y1", "y2"]);
    assert_eq!(
        tree,
        [vec![x.clone(), y.clone()], vec![x, y, vec!["other scope"]]]
    );
}

#[test]
fn long_values_are_referenced_and_short_ones_copied() {
    let mut batch = batch();
    let text: Arc<str> = "t".repeat(1024).into();
    let bytes = Bytes::from(vec![7; 5000]);
    let owned = "o".repeat(200_000);
    const FIXED: &str = include_str!("encode_batch.rs");
    let short: Arc<str> = "s".repeat(1023).into();
    let places = [
        addresses(text.as_bytes()),
        addresses(&bytes),
        addresses(owned.as_bytes()),
    ];
    batch
        .span(TRACE, SPAN, "prompt")
        .attr_shared("text", text.clone())
        .attr_shared("bytes", bytes.clone())
        .attr_shared("owned", owned)
        .attr_shared("fixed", FIXED)
        .attr_shared("short", short.clone())
        .event("e", 1, |event| _ = event.attr_shared("again", text.clone()));
    let request = batch.finish();
    assert!(places.into_iter().all(|place| references(&request, place)));
    assert!(references(&request, addresses(FIXED.as_bytes())));
    assert!(
        !request
            .segments()
            .any(|segment| addresses(&segment).start == short.as_ptr() as usize)
    );
    // Clones and their segments are the same memory.
    let at = |request: &Request| {
        request
            .segments()
            .map(|bytes| addresses(&bytes))
            .collect::<Vec<_>>()
    };
    assert_eq!(at(&request), at(&request.clone()));

    let [span] = &spans(&request)[..] else {
        panic!("one span")
    };
    assert_eq!(
        attribute(span, "text"),
        Some(Value::StringValue(text.to_string()))
    );
    assert_eq!(attribute(span, "bytes"), Some(Value::BytesValue(bytes.to_vec())));
    assert_eq!(attribute(span, "fixed"), Some(Value::StringValue(FIXED.into())));
    assert_eq!(
        attribute(span, "short"),
        Some(Value::StringValue(short.to_string()))
    );
    // The request holds on to what it references, and to nothing else.
    assert_eq!((Arc::strong_count(&text), Arc::strong_count(&short)), (3, 1));
    drop(request);
    assert_eq!(Arc::strong_count(&text), 1);
}

#[test]
fn owned_spans_are_referenced_in_place() {
    let long = "l".repeat(3_000);
    let place = addresses(long.as_bytes());
    let value = AnyValue {
        value: Some(Value::StringValue(long)),
    };
    let span = Span {
        attributes: vec![KeyValue {
            key: "k".into(),
            value: Some(value),
            key_strindex: 0,
        }],
        ..Span::default()
    };
    let scope_spans = vec![ScopeSpans {
        spans: vec![span],
        ..ScopeSpans::default()
    }];
    let request = Request::from_spans([ResourceSpans {
        scope_spans,
        ..ResourceSpans::default()
    }]);
    assert!(references(&request, place.clone()));
    let kept: Vec<Bytes> = request.segments().collect();
    drop(request);
    assert!(
        kept.iter()
            .any(|segment| addresses(segment) == place && segment.iter().all(|byte| *byte == b'l'))
    );
}

#[test]
fn large_batches_span_chunks_of_bounded_size() {
    let mut batch = batch();
    batch.scope("large", "1");
    let payload = "p".repeat(900);
    for number in 1..=6_000_u64 {
        batch
            .span(TRACE, number.to_be_bytes(), "span")
            .attr("payload", &payload)
            .end();
    }
    let request = batch.finish();
    assert!(request.encoded_len() > 5_000_000);
    assert!(request.segments().all(|segment| segment.len() <= 1024 * 1024));
    let spans = spans(&request);
    let expected = |number: u64| number.to_be_bytes().to_vec();
    assert!(
        spans
            .iter()
            .map(|span| span.span_id.clone())
            .eq((1..=6_000).map(expected))
    );
    assert!(
        spans
            .iter()
            .all(|span| attribute(span, "payload") == Some(Value::StringValue(payload.clone())))
    );
    // The next one of the kind gets along with few chunks.
    batch.scope("large", "1");
    for number in 1..=600_u64 {
        batch
            .span(TRACE, number.to_be_bytes(), "span")
            .attr("payload", &payload)
            .end();
    }
    assert_eq!(batch.finish().segment_count(), 1);
}

#[test]
fn a_value_larger_than_any_chunk_is_copied_whole() {
    let mut batch = batch();
    let text: String = ('a'..='z').cycle().take(3_000_000).collect();
    batch
        .span(TRACE, SPAN, "large")
        .attr("a", 1)
        .attr("text", &text)
        .attr("b", 2)
        .end();
    let [span] = &spans(&batch.finish())[..] else {
        panic!("one span")
    };
    assert_eq!(attribute(span, "text"), Some(Value::StringValue(text)));
    assert_eq!(attribute(span, "b"), Some(Value::IntValue(2)));
}

#[test]
fn chunks_are_reused_when_the_last_reader_is_gone() {
    let mut batch = batch();
    // Fills most of a chunk: what fills little of one is copied out of it.
    let text = "x".repeat(900);
    let mut write = || {
        for _ in 0..4 {
            batch.span(TRACE, SPAN, "span").attr("a", &*text).end();
        }
        batch.finish()
    };
    // The chunks after it have the size that it took.
    drop(write());
    let first = write();
    let place = addresses(&first.segments().next().expect("a segment"));
    let reader = first.segments().next().expect("a segment").slice(3..);
    drop(first);
    let second = write();
    assert_ne!(
        addresses(&second.segments().next().expect("a segment")),
        place,
        "still being read"
    );
    drop(reader);
    // Had it been freed, these would take its place.
    let _others: Vec<_> = (0..8).map(|_| vec![0_u8; place.len()]).collect();
    let third = write();
    assert_eq!(addresses(&third.segments().next().expect("a segment")), place);
}

#[test]
fn numbers_become_what_otlp_knows() {
    let mut batch = batch();
    let text = "text";
    batch
        .span(TRACE, SPAN, "numbers")
        .attr("i8", -1_i8)
        .attr("u32", u32::MAX)
        .attr("u64", i64::MAX as u64)
        .attr("more", u64::MAX)
        .attr("len", text.len())
        .attr("f32", 0.5_f32)
        .attr("none", None::<i64>)
        .attr("some", Some(text));
    let [span] = &spans(&batch.finish())[..] else {
        panic!("one span")
    };
    let expected = [
        ("i8", Some(Value::IntValue(-1))),
        ("u32", Some(Value::IntValue(u32::MAX.into()))),
        ("u64", Some(Value::IntValue(i64::MAX))),
        ("more", Some(Value::StringValue("18446744073709551615".into()))),
        ("len", Some(Value::IntValue(4))),
        ("f32", Some(Value::DoubleValue(0.5))),
        ("none", None),
        ("some", Some(Value::StringValue("text".into()))),
    ];
    for (key, value) in expected {
        assert_eq!(attribute(span, key), value, "{key}");
    }
    assert_eq!(span.attributes.len(), 8);
}

#[test]
fn lists_become_arrays_and_bytes_stay_bytes() {
    let mut batch = batch();
    let strings = vec!["a".to_owned(), "b".to_owned()];
    batch
        .span(TRACE, SPAN, "lists")
        .attr("slice of strings", &strings[..])
        .attr("vec of strings", strings.clone())
        .attr("array of strs", ["a", "b"])
        .attr("vec of numbers", vec![1, 2])
        .attr("slice of numbers", &[1_i64, 2][..])
        .attr("nested", vec![vec![true]])
        .attr("vec of bytes", vec![1_u8, 2])
        .attr("array of bytes", b"ab")
        .attr("empty", Vec::<i64>::new());
    let [span] = &spans(&batch.finish())[..] else {
        panic!("one span")
    };
    let array = |values: Vec<Value>| {
        let values = values
            .into_iter()
            .map(|value| AnyValue { value: Some(value) })
            .collect();
        Some(Value::ArrayValue(ArrayValue { values }))
    };
    let texts = || {
        array(vec![
            Value::StringValue("a".into()),
            Value::StringValue("b".into()),
        ])
    };
    let numbers = || array(vec![Value::IntValue(1), Value::IntValue(2)]);
    let nested = array(vec![array(vec![Value::BoolValue(true)]).expect("an array")]);
    let expected = [
        ("slice of strings", texts()),
        ("vec of strings", texts()),
        ("array of strs", texts()),
        ("vec of numbers", numbers()),
        ("slice of numbers", numbers()),
        ("nested", nested),
        ("vec of bytes", Some(Value::BytesValue(vec![1, 2]))),
        ("array of bytes", Some(Value::BytesValue(b"ab".to_vec()))),
        ("empty", array(vec![])),
    ];
    for (key, value) in expected {
        assert_eq!(attribute(span, key), value, "{key}");
    }
}

#[test]
fn headers_and_timeouts_belong_to_one_clone() {
    let mut batch = batch();
    batch.span(TRACE, SPAN, "span").end();
    let plain = batch.finish();
    let timeout = std::time::Duration::from_secs(3);
    let special = plain
        .clone()
        .with_header("x-scope-orgid", "acme")
        .expect("a header")
        .with_timeout(timeout);
    assert_eq!((plain.headers(), plain.timeout()), (&[][..], None));
    assert_eq!(special.headers(), [("x-scope-orgid".into(), "acme".into())]);
    assert_eq!(special.timeout(), Some(timeout));
    assert!(
        plain
            .with_header("bad name", "x")
            .expect_err("no header")
            .is_misuse()
    );
}

#[test]
fn batches_and_requests_move_between_threads() {
    fn send<T: Send>(value: T) -> T {
        value
    }
    fn share<T: Sync>(_: &T) {}
    let mut batch = send(batch());
    batch.span(TRACE, SPAN, "here").end();
    let request = send(batch.finish());
    share(&request);
    let there = request.clone();
    let message_there = std::thread::spawn(move || message(&there))
        .join()
        .expect("no panic");
    assert_eq!(message_there, message(&request));
}

#[test]
fn naming_the_same_resource_and_scope_anew_is_one_run() {
    let (own, other) = (
        Resource::builder().attr("service.name", "own").build(),
        Resource::builder().attr("service.name", "other").build(),
    );
    let write = |name_anew: bool, scopes: [&str; 6]| {
        let mut batch = TraceBatch::new(&own);
        for (number, scope) in scopes.into_iter().enumerate() {
            if name_anew || number == 0 || scopes[number - 1] != scope {
                // As producers in turn do, of whom each begins with the resource of all.
                batch.resource(&own).resource(&other).scope(scope, "1.0");
            }
            batch.span(TRACE, [number as u8 + 1; 8], "span").end();
        }
        batch.finish()
    };
    let (anew, once) = (write(true, ["a"; 6]), write(false, ["a"; 6]));
    assert_eq!(message(&anew), message(&once));
    assert_eq!(anew.segment_count(), once.segment_count());
    let mixed = ["a", "a", "b", "b", "a", "a"];
    assert_eq!(message(&write(true, mixed)), message(&write(false, mixed)));
    assert_eq!(
        decoded(&write(true, mixed)).resource_spans[0].scope_spans.len(),
        2
    );
}

#[test]
fn a_resource_named_after_a_scope_ends_that_scope() {
    let mut batch = batch();
    let other = Resource::builder().attr("service.name", "other").build();
    batch.scope("lib", "1.0");
    batch.span(TRACE, [1; 8], "in the scope").end();
    batch.resource(&other);
    batch.span(TRACE, [2; 8], "in none").end();
    batch.scope("lib", "1.0");
    batch.span(TRACE, [3; 8], "in the scope of the other").end();
    batch.resource(&other);
    let decoded = decoded(&batch.finish());
    let names: Vec<_> = decoded
        .resource_spans
        .iter()
        .flat_map(|resource| &resource.scope_spans)
        .map(|scope| {
            (
                scope.scope.as_ref().map(|scope| scope.name.as_str()),
                scope.spans.len(),
            )
        })
        .collect();
    assert_eq!(names, [(Some("lib"), 1), (None, 1), (Some("lib"), 1)]);
}

/// Whatever resources and scopes are named in whatever order, each span is where it was told to be, and no two groups are alike.
#[test]
fn spans_are_under_the_resource_and_the_scope_named_last() {
    for seed in 0..400_u64 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut below = |end: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % end
        };
        let resources = ["a", "b", "c"].map(|name| Resource::builder().attr("service.name", name).build());
        let (mut resource, mut scope) = (0, None);
        let mut batch = TraceBatch::new(&resources[0]);
        let mut expected = Vec::new();
        for number in 1..=below(120) {
            for _ in 0..below(4) {
                match below(4) {
                    0 | 1 => {
                        resource = below(3) as usize;
                        scope = None;
                        batch.resource(&resources[resource]);
                    }
                    2 => {
                        let name = ["lib", "other"][below(2) as usize];
                        scope = Some((name, false));
                        batch.scope(name, "1");
                    }
                    _ => {
                        // Large enough for the next chunk, so that items before it and after it lie apart.
                        let (name, len) = (["lib", "other"][below(2) as usize], 40_000);
                        scope = Some((name, true));
                        batch.scope_with(name, "1", |scope| {
                            scope.attr("long", "x".repeat(len).as_str());
                        });
                    }
                }
            }
            if below(10) == 0 {
                // A scope whose naming panics, a span that is not taken, and one whose closure panics: none is there.
                let unnamed = catch_unwind(AssertUnwindSafe(|| {
                    batch.scope_with("unnamed", "", |scope| {
                        scope.attr("half", "written");
                        panic!("while it is named");
                    });
                }));
                assert!(unnamed.is_err());
                scope = None;
                batch.span([0; 16], SPAN, "refused").end();
                let torn = catch_unwind(AssertUnwindSafe(|| {
                    batch
                        .span(TRACE, SPAN, "torn")
                        .event("event", 1, |_| panic!("in the middle"));
                }));
                assert!(torn.is_err());
            }
            let name = "n".repeat(below(3_000) as usize);
            batch.span(TRACE, number.to_be_bytes(), &name).end();
            expected.push((["a", "b", "c"][resource].to_owned(), scope, number));
        }
        let request = batch.finish();
        let mut found = Vec::new();
        let mut groups = std::collections::HashSet::new();
        for of_resource in decoded(&request).resource_spans {
            let attributes = &of_resource.resource.as_ref().expect("a resource").attributes;
            let Some(Value::StringValue(name)) = attributes[0]
                .value
                .as_ref()
                .and_then(|value| value.value.as_ref())
            else {
                panic!("no name");
            };
            for of_scope in &of_resource.scope_spans {
                let scope = of_scope.scope.as_ref();
                let scope = scope.map(|scope| {
                    (
                        if scope.name == "lib" { "lib" } else { "other" },
                        !scope.attributes.is_empty(),
                    )
                });
                assert!(groups.insert((name.clone(), scope)), "seed {seed}: a group twice");
                for span in &of_scope.spans {
                    let number = span
                        .span_id
                        .as_slice()
                        .try_into()
                        .map(u64::from_be_bytes)
                        .expect("an id");
                    found.push((name.clone(), scope, number));
                }
            }
        }
        found.sort_by_key(|(_, _, number)| *number);
        assert_eq!(found, expected, "seed {seed}");
    }
}
