//! Requests that another library encoded: counted, checked, and refused with the place that is wrong.

use otlp_embed::pb::collector::ExportTraceServiceRequest;
use otlp_embed::pb::common::{AnyValue, ArrayValue, KeyValue, any_value};
use otlp_embed::pb::resource::Resource;
use otlp_embed::pb::trace::span::Event;
use otlp_embed::pb::trace::{ResourceSpans, ScopeSpans, Span};
use otlp_embed::{Request, Signal};
use prost::Message;

/// Two resources with two scopes with three spans each.
fn traces() -> ExportTraceServiceRequest {
    let span = |name: &str| Span {
        trace_id: vec![1; 16],
        name: name.into(),
        events: vec![Event {
            name: "an event".into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let scope = ScopeSpans {
        spans: ["first", "second", "third"].map(span).into(),
        ..Default::default()
    };
    let resource = ResourceSpans {
        resource: Some(Resource::default()),
        scope_spans: vec![scope; 2],
        schema_url: "url".into(),
    };
    ExportTraceServiceRequest {
        resource_spans: vec![resource; 2],
    }
}

fn refused(signal: Signal, bytes: &[u8]) -> String {
    let error = Request::from_encoded(signal, bytes.to_vec()).expect_err("not such a request");
    assert!(error.is_misuse());
    assert!(!error.is_retryable());
    error.to_string()
}

#[test]
fn items_are_counted_and_the_bytes_are_shared() {
    let bytes = bytes::Bytes::from(traces().encode_to_vec());
    let request = Request::from_encoded(Signal::Traces, bytes.clone()).expect("spans");
    assert_eq!(request.items(), 12);
    assert_eq!(request.refused(), 0);
    assert_eq!(request.signal(), Signal::Traces);
    let segments: Vec<_> = request.segments().collect();
    assert_eq!(segments.len(), 1);
    assert_eq!(segments[0].as_ptr(), bytes.as_ptr());
}

#[test]
fn envelopes_without_items_make_an_empty_request() {
    for signal in Signal::ALL {
        for bytes in [&b""[..], b"\x0a\x00", b"\x0a\x02\x12\x00\x0a\x00"] {
            let request = Request::from_encoded(signal, bytes.to_vec()).expect("a request");
            assert!(request.is_empty(), "spec 5");
            assert!(request.segments().all(|segment| !segment.is_empty()));
        }
    }
}

#[test]
fn errors_name_the_field_and_the_byte() {
    let bytes = traces().encode_to_vec();
    // The name of an event in the second resource's first scope's third span.
    let all = bytes.windows(8).enumerate();
    let at = all
        .filter(|(_, window)| *window == b"an event")
        .map(|(at, _)| at)
        .nth(8);
    let at = at.expect("nine events at least");
    let mut bad = bytes.clone();
    bad[at + 2] = 0xff;
    assert_eq!(
        refused(Signal::Traces, &bad),
        format!(
            "the bytes are no export request of traces: resource_spans[1].scope_spans[0].spans[2].events[0].name, \
             byte {}: the string is not UTF-8",
            at + 2
        )
    );
    // Its key says that it is a varint.
    let mut bad = bytes.clone();
    bad[at - 2] = 2 << 3;
    assert_eq!(
        refused(Signal::Traces, &bad),
        format!(
            "the bytes are no export request of traces: resource_spans[1].scope_spans[0].spans[2].events[0].name, \
             byte {}: wire type 0 is not that of the field",
            at - 1
        )
    );
    let text = refused(Signal::Traces, &bytes[..bytes.len() - 1]);
    assert!(text.contains("resource_spans[1], byte "), "{text}");
    assert!(text.ends_with("the value is cut off"), "{text}");
}

#[test]
fn another_signal_is_noticed_where_its_shape_differs() {
    // Spans have an id where metrics have a name, and ids are no text.
    let mut message = traces();
    message.resource_spans[0].scope_spans[0].spans[0].trace_id = vec![0xfe; 16];
    let bytes = message.encode_to_vec();
    let text = refused(Signal::Metrics, &bytes);
    assert!(
        text.contains("resource_metrics[0].scope_metrics[0].metrics[0].name, byte "),
        "{text}"
    );
    assert!(text.contains("no export request of metrics"), "{text}");
}

#[test]
fn fields_that_are_not_known_are_kept_and_not_looked_at() {
    // spec 6: of every wire type, a group with another inside among them.
    let unknown = b"\xa0\x06\x05\xa1\x06\0\0\0\0\0\0\0\0\xa2\x06\x01\xff\xa3\x06\xab\x06\xac\x06\xa4\x06\xa5\x06\0\0\0\0";
    let mut bytes = traces().encode_to_vec();
    bytes.extend(unknown);
    let request = Request::from_encoded(Signal::Traces, bytes.clone()).expect("spans and more");
    assert_eq!(request.items(), 12);
    assert_eq!(request.encoded_len(), bytes.len());
    // Groups that are not closed in order.
    bytes.extend(b"\xa3\x06\xab\x06\xa4\x06");
    let text = refused(Signal::Traces, &bytes);
    assert!(text.ends_with("the group ends without its start"), "{text}");
}

#[test]
fn values_nested_as_deep_as_decoders_go_pass_and_no_deeper() {
    let nested = |depth: usize| {
        let mut value = AnyValue { value: None };
        for _ in 0..depth {
            let values = vec![value];
            value = AnyValue {
                value: Some(any_value::Value::ArrayValue(ArrayValue { values })),
            };
        }
        let mut message = traces();
        message.resource_spans[0].scope_spans[0].spans[0].attributes = vec![KeyValue {
            value: Some(value),
            ..Default::default()
        }];
        message.encode_to_vec()
    };
    let mut deepest = 0;
    for depth in 40..60 {
        let bytes = nested(depth);
        let theirs = ExportTraceServiceRequest::decode(&bytes[..]).is_ok();
        match Request::from_encoded(Signal::Traces, bytes.clone()) {
            Ok(request) => {
                assert!(theirs);
                assert_eq!(request.items(), 12);
                deepest = depth;
            }
            Err(error) => {
                assert!(!theirs);
                assert!(
                    error.to_string().ends_with("messages are nested deeper than 100"),
                    "{error}"
                );
            }
        }
    }
    assert!((41..59).contains(&deepest), "{deepest}");
}

#[test]
fn a_hundred_thousand_claims_of_gigabytes_take_nothing() {
    // A length of 4 GiB in a few bytes, in every place where a length can be.
    for signal in Signal::ALL {
        for prefix in [&b""[..], b"\x0a\x10", b"\x0a\x10\x12\x0e"] {
            let bytes = [prefix, b"\x0a\xff\xff\xff\xff\x0f", &[0; 20]].concat();
            let text = refused(signal, &bytes);
            assert!(text.ends_with("the value is cut off"), "{text}");
        }
    }
}
