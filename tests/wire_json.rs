//! JSON as the specification has it, and what is taken for it.

use otlp_embed::pb::collector::ExportTraceServiceRequest;
use otlp_embed::pb::trace::span::SpanKind;
use otlp_embed::testing::wire::{json_from_wire, json_to_wire};
use otlp_embed::{Request, Resource, Signal, TraceBatch, encode};
use prost::Message;

fn json(request: &Request) -> String {
    let body = json_from_wire(request.signal(), request.body()).expect("a request");
    String::from_utf8(body.segments().concat()).expect("text")
}

fn read(json: &str) -> Result<ExportTraceServiceRequest, otlp_embed::Error> {
    let bytes = json_to_wire(Signal::Traces, json.as_bytes())?;
    Ok(ExportTraceServiceRequest::decode(&bytes[..]).expect("what was just encoded"))
}

/// What a span of one field is, in JSON and read.
fn span(field: &str) -> Result<otlp_embed::pb::trace::Span, otlp_embed::Error> {
    let message = read(&format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{field}}}]}}]}}]}}"#
    ))?;
    Ok(message.resource_spans[0].scope_spans[0].spans[0].clone())
}

/// Hex ids, integer enums, lowerCamelCase, 64-bit integers as decimal strings (spec 31).
#[test]
fn a_span_looks_as_the_specification_says() {
    let mut batch = TraceBatch::new(&Resource::builder().attr("service.name", "shop").build());
    batch.scope("my-lib", "1.0");
    let mut span = batch.span([0xab; 16], [0x0c; 8], "say \"hi\"\n");
    span.kind(SpanKind::Server);
    span.times(1_544_712_660_000_000_000..1_544_712_661_000_000_000);
    span.attr("int", i64::MAX)
        .attr("double", 0.5)
        .attr("nan", f64::NAN)
        .attr("bool", true)
        .attr(
            "list",
            encode::array(|list| {
                list.push("a").push(1);
            }),
        );
    span.end();
    drop(span);
    assert_eq!(
        json(&batch.finish()),
        concat!(
            r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},"#,
            r#""scopeSpans":[{"scope":{"name":"my-lib","version":"1.0"},"spans":[{"#,
            r#""traceId":"abababababababababababababababab","spanId":"0c0c0c0c0c0c0c0c","name":"say \"hi\"\n","#,
            r#""kind":2,"startTimeUnixNano":"1544712660000000000","endTimeUnixNano":"1544712661000000000","#,
            r#""attributes":[{"key":"int","value":{"intValue":"9223372036854775807"}},"#,
            r#"{"key":"double","value":{"doubleValue":0.5}},{"key":"nan","value":{"doubleValue":"NaN"}},"#,
            r#"{"key":"bool","value":{"boolValue":true}},"#,
            r#"{"key":"list","value":{"arrayValue":{"values":[{"stringValue":"a"},{"intValue":"1"}]}}}]"#,
            r#"}]}]}]}"#
        )
    );
}

/// As spec 31 has bytes.
#[test]
fn bytes_are_base64_and_what_receivers_insist_on_is_there() {
    // A log record whose body is bytes, with an attribute without a key and an empty array.
    let record = b"\x2a\x05\x3a\x03\xfb\xef\xff\x32\x04\x12\x02\x2a\x00";
    let mut bytes = vec![
        0x0a,
        record.len() as u8 + 4,
        0x12,
        record.len() as u8 + 2,
        0x12,
        record.len() as u8,
    ];
    bytes.extend(record);
    let request = Request::from_encoded(Signal::Logs, bytes).expect("a record");
    assert_eq!(
        json(&request),
        r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"bytesValue":"++//"},"attributes":[{"value":{"arrayValue":{"values":[]}},"key":""}]}]}]}]}"#
    );
    let empty = Request::from_encoded(Signal::Metrics, Vec::new()).expect("nothing");
    assert_eq!(json(&empty), r#"{"resourceMetrics":[]}"#);
}

/// Fields that are not known are ignored (spec 6), the others taken in every form that spec 31 allows.
#[test]
fn writers_may_differ() {
    let name = |field| span(field).expect("a span").name;
    assert_eq!(
        name(r#""name":"A😀","unknown":{"a":[1,{"b":null}]},"links":null"#),
        "A😀"
    );
    let nanos = |field| span(field).expect("a span").start_time_unix_nano;
    for field in [
        r#""startTimeUnixNano":"1544712660300000000""#,
        r#""startTimeUnixNano":1544712660300000000"#,
        r#""start_time_unix_nano":1544712660300000000"#,
        r#""startTimeUnixNano":15447126603e8"#,
        r#""startTimeUnixNano":1,"startTimeUnixNano":"1544712660300000000""#,
    ] {
        assert_eq!(nanos(field), 1_544_712_660_300_000_000, "{field}");
    }
    for field in [
        r#""kind":3"#,
        r#""kind":"SPAN_KIND_CLIENT""#,
        r#""kind":"3""#,
        r#""kind":3.0"#,
    ] {
        assert_eq!(span(field).expect("a span").kind, 3, "{field}");
    }
    for field in [
        r#""traceId":"5B8EFFF798038103D269B633813FC60C""#,
        r#""trace_id":"5b8efff798038103d269b633813fc60c""#,
    ] {
        assert_eq!(
            span(field).expect("a span").trace_id[..3],
            [0x5b, 0x8e, 0xff],
            "{field}"
        );
    }
    for (value, expected) in [
        (r#""bytesValue":"++//""#, &[0xfb, 0xef, 0xff][..]),
        (r#""bytesValue":"--__""#, &[0xfb, 0xef, 0xff]),
        (r#""bytesValue":"+w==""#, &[0xfb]),
        (r#""bytesValue":"-w""#, &[0xfb]),
        (r#""bytesValue":"""#, &[]),
    ] {
        let read = span(&format!(r#""attributes":[{{"key":"k","value":{{{value}}}}}]"#)).expect("a span");
        let value = read.attributes[0].value.clone().and_then(|value| value.value);
        assert_eq!(
            value,
            Some(otlp_embed::pb::common::any_value::Value::BytesValue(
                expected.to_vec()
            ))
        );
    }
    assert_eq!(read("{}").expect("nothing"), ExportTraceServiceRequest::default());
}

#[test]
fn what_is_no_such_request_is_refused_with_its_place() {
    for (field, expected) in [
        (r#""name":5"#, "a string for name"),
        (r#""name":["a"]"#, "a string for name"),
        (r#""traceId":"abc""#, "hexadecimal digits for traceId"),
        (r#""traceId":"+1""#, "hexadecimal digits for traceId"),
        (r#""kind":"CLIENT""#, "the number or name of a member for kind"),
        (r#""kind":2147483648"#, "the number or name of a member for kind"),
        (r#""flags":-1"#, "an integer of 32 bits for flags"),
        (r#""flags":1.5"#, "an integer of 32 bits for flags"),
        (
            r#""startTimeUnixNano":"18446744073709551616""#,
            "an integer of 64 bits for startTimeUnixNano",
        ),
        (
            r#""startTimeUnixNano":true"#,
            "an integer of 64 bits for startTimeUnixNano",
        ),
        (r#""status":[]"#, "an object for status"),
        (r#""status":"ok""#, "an object for status"),
        (r#""links":{}"#, "links is an array"),
        (r#""links":[null]"#, "an object for links"),
        (r#""name":"\ud800""#, "hex escape"),
        ("\"name\":\"a\nb\"", "control character"),
        (r#""name""#, "expected `:`"),
    ] {
        let error = span(field).expect_err(field);
        let text = error.to_string();
        assert!(error.is_misuse());
        assert!(text.contains(expected), "{text}");
        assert!(
            text.contains("line 1 column ") || text.contains("line 2 column "),
            "{text}"
        );
    }
    for text in ["", "[]", "null", "5", "{} {}", "{", "\u{feff}{}"] {
        assert!(read(text).is_err(), "{text}");
    }
    for text in [
        &b"{\"resourceSpans\":[{\"schemaUrl\":\"\xff\"}]}"[..],
        b"{\"unknown\":\"\xff\"}",
    ] {
        let error = json_to_wire(Signal::Traces, text).expect_err("no UTF-8");
        assert!(error.is_misuse());
    }
}

#[test]
fn depth_is_bounded_on_the_way_in() {
    for open in ["[", r#"{"resourceSpans":["#, r#"{"a":"#] {
        assert!(read(&open.repeat(1_000_000)).is_err());
    }
    let nested = |depth: usize| {
        let (open, close) = (r#"{"arrayValue":{"values":["#.repeat(depth), "]}}".repeat(depth));
        span(&format!(
            r#""attributes":[{{"key":"k","value":{open}{{}}{close}}}]"#
        ))
    };
    assert!(nested(30).is_ok());
    assert!(nested(60).is_err());
}

#[test]
fn large_requests_come_in_chunks() {
    let payload: String = "all work and \"no\" play\n".repeat(150_000);
    let mut batch = TraceBatch::new(&Resource::new());
    batch.scope("suite", "1");
    for id in 1..=2_000u64 {
        let mut span = batch.span([7; 16], id.to_be_bytes(), "work");
        span.times(1_000..2_000);
        if id == 1_000 {
            span.attr_shared("payload", payload.clone());
        }
        span.end();
    }
    let request = batch.finish();
    assert!(request.segment_count() > 1);
    let body = json_from_wire(Signal::Traces, request.body()).expect("a request");
    let chunks = body.segments();
    assert!(chunks.len() > 3 && chunks.iter().all(|chunk| (1..=1 << 20).contains(&chunk.len())));
    assert_eq!(chunks.iter().map(bytes::Bytes::len).sum::<usize>(), body.len());
    let read = read(&json(&request)).expect("our own");
    let whole = request.segments().collect::<Vec<_>>().concat();
    assert!(read == ExportTraceServiceRequest::decode(&whole[..]).expect("a request"));
}
