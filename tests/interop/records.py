"""The form in which servers record telemetry, drivers list what they sent, and the verifier compares the two.

One JSON object a line. Integers of 64 bits are decimal strings, since not every JSON reader keeps them whole; ids and
bytes are hexadecimal. The JavaScript server writes the same form.
"""

import json


def value(any_value):
    """An attribute's value as an object with one member, which names its kind."""
    kind = any_value.WhichOneof("value")
    if kind is None:
        return {}
    if kind == "string_value":
        return {"string": any_value.string_value}
    if kind == "int_value":
        return {"int": str(any_value.int_value)}
    if kind == "double_value":
        return {"double": any_value.double_value}
    if kind == "bool_value":
        return {"bool": any_value.bool_value}
    if kind == "bytes_value":
        return {"bytes": any_value.bytes_value.hex()}
    if kind == "array_value":
        return {"array": [value(each) for each in any_value.array_value.values]}
    if kind == "kvlist_value":
        return {"kvlist": attributes(any_value.kvlist_value.values)}
    raise ValueError(f"attribute value of an unknown kind: {kind}")


def attributes(key_values):
    """Attributes in the order of the wire."""
    return [[each.key, value(each.value)] for each in key_values]


def from_traces(request):
    for group in request.resource_spans:
        resource = attributes(group.resource.attributes)
        for scoped in group.scope_spans:
            scope = [scoped.scope.name, scoped.scope.version]
            for span in scoped.spans:
                yield {
                    "signal": "traces",
                    "resource": resource,
                    "scope": scope,
                    "trace_id": span.trace_id.hex(),
                    "span_id": span.span_id.hex(),
                    "parent_span_id": span.parent_span_id.hex(),
                    "name": span.name,
                    "kind": int(span.kind),
                    "start": str(span.start_time_unix_nano),
                    "end": str(span.end_time_unix_nano),
                    "attributes": attributes(span.attributes),
                    "events": [
                        [event.name, str(event.time_unix_nano), attributes(event.attributes)]
                        for event in span.events
                    ],
                    "status": [int(span.status.code), span.status.message],
                }


def number_point(point):
    kind = point.WhichOneof("value")
    return {"int": str(point.as_int)} if kind == "as_int" else {"double": point.as_double}


def histogram_point(point):
    return {
        "count": str(point.count),
        "sum": point.sum,
        "buckets": [str(count) for count in point.bucket_counts],
        "bounds": list(point.explicit_bounds),
        "min": point.min,
        "max": point.max,
    }


def exponential_point(point):
    return {
        "count": str(point.count),
        "sum": point.sum,
        "scale": point.scale,
        "zero": str(point.zero_count),
        "positive": [point.positive.offset, [str(count) for count in point.positive.bucket_counts]],
        "negative": [point.negative.offset, [str(count) for count in point.negative.bucket_counts]],
    }


def summary_point(point):
    quantiles = [[each.quantile, each.value] for each in point.quantile_values]
    return {"count": str(point.count), "sum": point.sum, "quantiles": quantiles}


POINTS = {
    "gauge": number_point,
    "sum": number_point,
    "histogram": histogram_point,
    "exponential_histogram": exponential_point,
    "summary": summary_point,
}


def key(item):
    """What tells an item from every other of a run."""
    if item["signal"] == "metrics":
        return ("metrics", item["name"], item["time"])
    return (item["signal"], item["trace_id"], item["span_id"])


def from_metrics(request):
    for group in request.resource_metrics:
        resource = attributes(group.resource.attributes)
        for scoped in group.scope_metrics:
            scope = [scoped.scope.name, scoped.scope.version]
            for metric in scoped.metrics:
                kind = metric.WhichOneof("data")
                data = getattr(metric, kind)
                for point in data.data_points:
                    yield {
                        "signal": "metrics",
                        "resource": resource,
                        "scope": scope,
                        "name": metric.name,
                        "unit": metric.unit,
                        "data": kind,
                        "temporality": int(getattr(data, "aggregation_temporality", 0)),
                        "monotonic": bool(getattr(data, "is_monotonic", False)),
                        "start": str(point.start_time_unix_nano),
                        "time": str(point.time_unix_nano),
                        "attributes": attributes(point.attributes),
                        "point": POINTS[kind](point),
                    }


def from_logs(request):
    for group in request.resource_logs:
        resource = attributes(group.resource.attributes)
        for scoped in group.scope_logs:
            scope = [scoped.scope.name, scoped.scope.version]
            for log in scoped.log_records:
                yield {
                    "signal": "logs",
                    "resource": resource,
                    "scope": scope,
                    "time": str(log.time_unix_nano),
                    "severity": int(log.severity_number),
                    "severity_text": log.severity_text,
                    "event": log.event_name,
                    "body": value(log.body),
                    "attributes": attributes(log.attributes),
                    "trace_id": log.trace_id.hex(),
                    "span_id": log.span_id.hex(),
                }


def read(path):
    """The lines of a file, in order."""
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def read_killed(path):
    """As `read`, of a writer that may have been killed: what it had not written to its end was not answered."""
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.endswith("\n")]
