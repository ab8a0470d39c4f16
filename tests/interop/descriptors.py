"""Writes the OTLP services of the opentelemetry-proto package to standard output as one descriptor set."""

import sys

from google.protobuf import descriptor_pb2
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2


def main():
    found = descriptor_pb2.FileDescriptorSet()
    seen = set()

    def add(file):
        if file.name in seen:
            return
        seen.add(file.name)
        for dependency in file.dependencies:
            add(dependency)
        file.CopyToProto(found.file.add())

    for service in (trace_service_pb2, metrics_service_pb2, logs_service_pb2):
        add(service.DESCRIPTOR)
    sys.stdout.buffer.write(found.SerializeToString())


if __name__ == "__main__":
    main()
