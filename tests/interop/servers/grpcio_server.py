"""A collector on grpcio (gRPC's C core) for traces, metrics and logs, on a port of the loopback interface.

Prints one line `{"port": N}` when it listens. Every accepted item is a line in the file of `--record` before its
request is answered. It ends when its standard input does, so that it never outlives the suite.
"""

import argparse
import json
import sys
import threading
from concurrent import futures
from pathlib import Path

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2_grpc as logs_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as traces_grpc

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import records


class Record:
    """The answers that were asked for, and the file of what was accepted."""

    def __init__(self, options):
        self.file = open(options.record, "w", encoding="utf-8")
        self.fail_first = options.fail_first
        self.partial_success = options.partial_success
        self.requests = 0
        self.lock = threading.Lock()

    def take(self, items, context):
        """Records the items of one request; aborts the call instead while failures are due."""
        items = list(items)
        with self.lock:
            self.requests += 1
            request = self.requests
            if request <= self.fail_first:
                failed = True
            else:
                failed = False
                for item in items:
                    json.dump({"request": request, **item}, self.file, ensure_ascii=False)
                    self.file.write("\n")
                self.file.flush()
        if failed:
            context.abort(grpc.StatusCode.UNAVAILABLE, "failing as asked")

    def partial(self, response, field):
        """Fills in the partial success that was asked for."""
        if self.partial_success:
            setattr(response.partial_success, field, self.partial_success)
            response.partial_success.error_message = "refused as asked"
        return response


class Traces(traces_grpc.TraceServiceServicer):
    def __init__(self, record):
        self.record = record

    def Export(self, request, context):
        self.record.take(records.from_traces(request), context)
        return self.record.partial(traces.ExportTraceServiceResponse(), "rejected_spans")


class Metrics(metrics_grpc.MetricsServiceServicer):
    def __init__(self, record):
        self.record = record

    def Export(self, request, context):
        self.record.take(records.from_metrics(request), context)
        return self.record.partial(metrics.ExportMetricsServiceResponse(), "rejected_data_points")


class Logs(logs_grpc.LogsServiceServicer):
    def __init__(self, record):
        self.record = record

    def Export(self, request, context):
        self.record.take(records.from_logs(request), context)
        return self.record.partial(logs.ExportLogsServiceResponse(), "rejected_log_records")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", required=True, help="file to write what was accepted to")
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default one that is free)")
    parser.add_argument("--message-bytes-max", type=int, default=4 << 20, help="largest request (default 4 MiB)")
    parser.add_argument("--partial-success", type=int, default=0, help="items to call rejected in every answer")
    parser.add_argument("--fail-first", type=int, default=0, help="requests to answer UNAVAILABLE first")
    parser.add_argument("--cert", help="certificate of the server; with it, TLS is spoken")
    parser.add_argument("--key", help="key of the certificate")
    parser.add_argument("--client-ca", help="authority of the certificates that clients have to show")
    options = parser.parse_args()

    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=8),
        options=[("grpc.max_receive_message_length", options.message_bytes_max), ("grpc.so_reuseport", 0)],
    )
    record = Record(options)
    traces_grpc.add_TraceServiceServicer_to_server(Traces(record), server)
    metrics_grpc.add_MetricsServiceServicer_to_server(Metrics(record), server)
    logs_grpc.add_LogsServiceServicer_to_server(Logs(record), server)
    address = f"127.0.0.1:{options.port}"
    if options.cert:
        read = lambda path: Path(path).read_bytes() if path else None  # noqa: E731
        credentials = grpc.ssl_server_credentials(
            [(read(options.key), read(options.cert))],
            root_certificates=read(options.client_ca),
            require_client_auth=options.client_ca is not None,
        )
        port = server.add_secure_port(address, credentials)
    else:
        port = server.add_insecure_port(address)
    server.start()
    print(json.dumps({"port": port}), flush=True)
    sys.stdin.buffer.read()
    server.stop(grace=5).wait()
    record.file.close()


if __name__ == "__main__":
    main()
