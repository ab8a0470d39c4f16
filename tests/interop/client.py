"""A driver on grpcio with the options of the Rust driver: what the suite's own test sends with.

`--sabotage` falsifies the manifest after sending, so that the suite can show that its verifier notices.
"""

import argparse
import json
import threading
import time
from pathlib import Path

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

import records

ATTEMPTS_MAX = 10


def set_value(any_value, python):
    if isinstance(python, bool):
        any_value.bool_value = python
    elif isinstance(python, int):
        any_value.int_value = python
    elif isinstance(python, float):
        any_value.double_value = python
    elif isinstance(python, bytes):
        any_value.bytes_value = python
    elif isinstance(python, list):
        any_value.array_value.SetInParent()
        for each in python:
            set_value(any_value.array_value.values.add(), each)
    elif isinstance(python, dict):
        any_value.kvlist_value.SetInParent()
        set_attributes(any_value.kvlist_value.values, python)
    else:
        any_value.string_value = python


def set_attributes(key_values, python):
    for key, each in python.items():
        entry = key_values.add(key=key)
        set_value(entry.value, each)


def request(batch, spans, big_bytes):
    """One export request; with `big_bytes`, about that many bytes of attribute text in all."""
    message = trace_service_pb2.ExportTraceServiceRequest()
    group = message.resource_spans.add()
    set_attributes(group.resource.attributes, {"service.name": "interop-python"})
    scoped = group.scope_spans.add()
    scoped.scope.name = "interop"
    scoped.scope.version = "1.0"
    for index in range(spans):
        start = 1_700_000_000_000_000_000 + batch * 1_000_000_000 + index
        span = scoped.spans.add(
            trace_id=(batch + 1).to_bytes(16, "big"),
            span_id=((batch + 1) << 32 | index + 1).to_bytes(8, "big"),
            name=f"span {index}",
            kind=1 + index % 5,
            start_time_unix_nano=start,
            end_time_unix_nano=start + 1_500,
        )
        set_attributes(
            span.attributes,
            {
                "text": "grüße \"quoted\"\n",
                "negative": -index,
                "large": (1 << 62) + index,
                "ratio": index / 3,
                "flag": index % 2 == 0,
                "raw": bytes([0, 255, index % 256]),
                "list": ["a", 1, [True]],
                "map": {"inner": {"deep": 1.5}},
            },
        )
        if big_bytes:
            span.attributes.add(key="prompt").value.string_value = str(index % 10) * (big_bytes // spans)
        if index % 10 == 0:
            event = span.events.add(name="event", time_unix_nano=start + 5)
            set_attributes(event.attributes, {"n": index})
            span.status.code = 2
            span.status.message = "failed"
    return message


class Driver:
    def __init__(self, options, manifest):
        self.options = options
        self.manifest = manifest
        self.lock = threading.Lock()
        limits = [("grpc.max_send_message_length", -1)]
        scheme, target = options.endpoint.split("://")
        if scheme == "https":
            read = lambda path: Path(path).read_bytes() if path else None  # noqa: E731
            credentials = grpc.ssl_channel_credentials(read(options.ca), read(options.key), read(options.cert))
            self.channel = grpc.secure_channel(target, credentials, options=limits)
        else:
            self.channel = grpc.insecure_channel(target, options=limits)
        self.service = trace_service_pb2_grpc.TraceServiceStub(self.channel)

    def export(self, batch, message):
        verdict = self.attempt(batch, message)
        lines = [json.dumps({"batch": batch, "item": item}) for item in records.from_traces(message)]
        with self.lock:
            self.manifest.write("\n".join([*lines, json.dumps(verdict)]) + "\n")

    def attempt(self, batch, message):
        total = sum(len(scoped.spans) for group in message.resource_spans for scoped in group.scope_spans)
        for attempts in range(1, ATTEMPTS_MAX + 1):
            try:
                answer = self.service.Export(message, timeout=10)
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.UNAVAILABLE and attempts < ATTEMPTS_MAX:
                    time.sleep(0.05)
                    continue
                code = error.code().value[0]
                return {"batch": batch, "outcome": "error", "error": error.details(), "grpc_status": code}
            rejected = answer.partial_success.rejected_spans
            return {
                "batch": batch,
                "outcome": "ok",
                "delivered": total - rejected,
                "rejected": rejected,
                "attempts": attempts,
            }
        raise AssertionError("the last attempt returns")

    def other_signals(self):
        """Sends one metric of two points and one log record."""
        metrics = metrics_service_pb2.ExportMetricsServiceRequest()
        metric = metrics.resource_metrics.add().scope_metrics.add().metrics.add(name="queue.length", unit="1")
        metric.gauge.data_points.add(as_int=1, time_unix_nano=1)
        metric.gauge.data_points.add(as_double=2.5, time_unix_nano=2)
        metrics_service_pb2_grpc.MetricsServiceStub(self.channel).Export(metrics, timeout=10)
        logs = logs_service_pb2.ExportLogsServiceRequest()
        log = logs.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=3, severity_number=9)
        log.body.string_value = "started"
        logs_service_pb2_grpc.LogsServiceStub(self.channel).Export(logs, timeout=10)

    def call(self, caller):
        for batch in range(caller, self.options.batches, self.options.callers):
            self.export(batch, request(batch, self.options.items, self.options.batch_bytes))


def falsify(path, how):
    lines = records.read(path)
    at = next(i for i, line in enumerate(lines) if "item" in line)
    if how == "lose":
        lost = json.loads(json.dumps(lines[at]))
        lost["item"]["span_id"] = "ffffffffffffffff"
        lines.append(lost)
    elif how == "invent":
        del lines[at]
    else:
        lines[at]["item"]["attributes"][0][1] = {"string": "altered"}
    with open(path, "w", encoding="utf-8") as manifest:
        manifest.writelines(json.dumps(line) + "\n" for line in lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--adapter", choices=["python"], required=True)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--protocol", choices=["grpc"], required=True)
    parser.add_argument("--ca", help="certificate of the authority to trust")
    parser.add_argument("--cert", help="certificate to show")
    parser.add_argument("--key", help="its key")
    parser.add_argument("--callers", type=int, default=4)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--batch-bytes", type=int, default=0, help="bytes of text in each batch")
    parser.add_argument("--big-bytes", type=int, default=0)
    parser.add_argument("--other-signals", action="store_true", help="send a metric and a log record too")
    parser.add_argument("--sabotage", choices=["lose", "invent", "alter"])
    options = parser.parse_args()
    with open(options.manifest, "w", encoding="utf-8") as manifest:
        driver = Driver(options, manifest)
        callers = [threading.Thread(target=driver.call, args=(n,)) for n in range(options.callers)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        if options.big_bytes:
            driver.export(options.batches, request(options.batches, 50, options.big_bytes))
        if options.other_signals:
            driver.other_signals()
        driver.channel.close()
    if options.sabotage:
        falsify(options.manifest, options.sabotage)


if __name__ == "__main__":
    main()
