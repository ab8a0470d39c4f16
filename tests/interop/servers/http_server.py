"""A collector on Python's `http.server`, HTTP/1.1 with protobuf or JSON, on a port of the loopback interface.

Prints one line `{"port": N}` when it listens. Every accepted item is a line in the file of `--record` before its
request is answered. It ends when its standard input does, so that it never outlives the suite.
"""

import argparse
import base64
import gzip
import json
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import records

SIGNALS = {
    "/v1/traces": (traces.ExportTraceServiceRequest, records.from_traces, "rejectedSpans"),
    "/v1/metrics": (metrics.ExportMetricsServiceRequest, records.from_metrics, "rejectedDataPoints"),
    "/v1/logs": (logs.ExportLogsServiceRequest, records.from_logs, "rejectedLogRecords"),
}
RESPONSES = {
    "/v1/traces": traces.ExportTraceServiceResponse,
    "/v1/metrics": metrics.ExportMetricsServiceResponse,
    "/v1/logs": logs.ExportLogsServiceResponse,
}
HEX_FIELDS = {"traceId", "spanId", "parentSpanId"}


def with_base64_ids(tree):
    """OTLP writes ids in hexadecimal, protobuf's own JSON writes every `bytes` in base64."""
    if isinstance(tree, list):
        return [with_base64_ids(each) for each in tree]
    if not isinstance(tree, dict):
        return tree
    return {
        key: base64.b64encode(bytes.fromhex(each)).decode() if key in HEX_FIELDS else with_base64_ids(each)
        for key, each in tree.items()
    }


class Faults:
    """What is to go wrong: the first requests are answered 503, 429, by an end of the connection, in turn."""

    def __init__(self, count):
        self.left = count
        self.seen = 0
        self.lock = threading.Lock()

    def next(self):
        with self.lock:
            self.seen += 1
            if self.left == 0:
                return self.seen, None
            self.left -= 1
            return self.seen, ["unavailable", "throttled", "closed"][self.left % 3]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        server = self.server
        length = int(self.headers["Content-Length"])
        if length > server.options.message_bytes_max:
            self.close_connection = True
            return self.answer(413, b"too large", "text/plain")
        body = self.rfile.read(length)
        number, fault = server.faults.next()
        if fault == "closed":
            self.close_connection = True
            return None
        if fault == "unavailable":
            return self.answer(503, b"<html>gone for a moment</html>", "text/html")
        if fault == "throttled":
            return self.answer(429, b"", "text/plain", ("Retry-After", "1"))
        if self.path not in SIGNALS:
            return self.answer(404, b"no such path", "text/plain")
        kind, read, rejected_field = SIGNALS[self.path]
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        content_type = self.headers["Content-Type"]
        message = kind()
        if content_type == "application/x-protobuf":
            message.ParseFromString(body)
        elif content_type == "application/json":
            json_format.ParseDict(with_base64_ids(json.loads(body)), message)
        else:
            return self.answer(415, b"protobuf or JSON", "text/plain")
        server.write({"request": number, **item} for item in read(message))
        response = {}
        if server.options.partial_success:
            response = {
                "partialSuccess": {
                    rejected_field: str(server.options.partial_success),
                    "errorMessage": "refused as asked",
                }
            }
        if content_type == "application/json":
            return self.answer(200, json.dumps(response).encode(), content_type)
        encoded = json_format.ParseDict(response, RESPONSES[self.path]()).SerializeToString()
        # Every other answer comes in chunks, of a byte each.
        return self.answer(200, encoded, content_type, chunked=number % 2 == 0)

    def answer(self, status, body, content_type, *headers, chunked=False):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        for name, value in headers:
            self.send_header(name, value)
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for each in body:
                self.wfile.write(b"1\r\n" + bytes([each]) + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, options):
        super().__init__(("127.0.0.1", 0), Handler)
        self.options = options
        self.faults = Faults(options.fail_first)
        self.file = open(options.record, "w", encoding="utf-8")
        self.lock = threading.Lock()
        self.tls = None
        if options.cert:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(options.cert, options.key)
            self.tls.set_alpn_protocols(["http/1.1"])
            if options.client_ca:
                self.tls.load_verify_locations(options.client_ca)
                self.tls.verify_mode = ssl.CERT_REQUIRED

    def finish_request(self, request, client_address):
        # In the thread of the connection, so that a slow handshake holds up no other.
        if self.tls:
            request = self.tls.wrap_socket(request, server_side=True)
        super().finish_request(request, client_address)

    def write(self, items):
        lines = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)
        with self.lock:
            self.file.write(lines)
            self.file.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", required=True, help="file to write what was accepted to")
    parser.add_argument("--message-bytes-max", type=int, default=64 << 20, help="largest request, as it comes")
    parser.add_argument("--partial-success", type=int, default=0, help="items to call rejected in every answer")
    parser.add_argument("--fail-first", type=int, default=0, help="requests to fail first, each in another way")
    parser.add_argument("--cert", help="certificate of the server; with it, TLS is spoken")
    parser.add_argument("--key", help="key of the certificate")
    parser.add_argument("--client-ca", help="authority of the certificates that clients have to show")
    server = Server(parser.parse_args())
    print(json.dumps({"port": server.server_address[1]}), flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.buffer.read()
    server.shutdown()
    server.file.close()


if __name__ == "__main__":
    main()
