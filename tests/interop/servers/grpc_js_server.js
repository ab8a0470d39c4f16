// A collector on @grpc/grpc-js for traces, metrics and logs, on a port of the loopback interface.
//
// Prints one line `{"port": N}` when it listens. Every accepted item is a line in the file of `--record`, in the form
// of records.py, before its request is answered. It ends when its standard input does, so that it never outlives the
// suite. The messages come from a descriptor set, which `descriptors.py` writes.
"use strict";

const fs = require("fs");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

function options(argv) {
  const known = {
    descriptors: undefined,
    record: undefined,
    "message-bytes-max": 4 << 20,
    "partial-success": 0,
    "fail-first": 0,
    cert: "",
    key: "",
    "client-ca": "",
  };
  for (let i = 0; i < argv.length; i += 2) {
    const name = argv[i].replace(/^--/, "");
    if (!(name in known) || argv[i + 1] === undefined) {
      throw new Error(`unknown option or no value: ${argv[i]}`);
    }
    known[name] = typeof known[name] === "number" ? Number(argv[i + 1]) : argv[i + 1];
  }
  for (const name of ["descriptors", "record"]) {
    if (known[name] === undefined) throw new Error(`--${name} is missing`);
  }
  return known;
}

const hex = (bytes) => Buffer.from(bytes || []).toString("hex");

function value(any) {
  switch (any && any.value) {
    case "string_value":
      return { string: any.string_value };
    case "int_value":
      return { int: any.int_value };
    case "double_value":
      return { double: any.double_value };
    case "bool_value":
      return { bool: any.bool_value };
    case "bytes_value":
      return { bytes: hex(any.bytes_value) };
    case "array_value":
      return { array: any.array_value.values.map(value) };
    case "kvlist_value":
      return { kvlist: attributes(any.kvlist_value.values) };
    case undefined:
    case "":
      return {};
    default:
      throw new Error(`attribute value of an unknown kind: ${any.value}`);
  }
}

const attributes = (keyValues) => keyValues.map((each) => [each.key, value(each.value)]);
const resourceOf = (group) => attributes(group.resource ? group.resource.attributes : []);
const scopeOf = (scoped) => (scoped.scope ? [scoped.scope.name, scoped.scope.version] : ["", ""]);

function* fromTraces(request) {
  for (const group of request.resource_spans) {
    const resource = resourceOf(group);
    for (const scoped of group.scope_spans) {
      const scope = scopeOf(scoped);
      for (const span of scoped.spans) {
        yield {
          signal: "traces",
          resource,
          scope,
          trace_id: hex(span.trace_id),
          span_id: hex(span.span_id),
          parent_span_id: hex(span.parent_span_id),
          name: span.name,
          kind: span.kind,
          start: span.start_time_unix_nano,
          end: span.end_time_unix_nano,
          attributes: attributes(span.attributes),
          events: span.events.map((event) => [event.name, event.time_unix_nano, attributes(event.attributes)]),
          status: span.status ? [span.status.code, span.status.message] : [0, ""],
        };
      }
    }
  }
}

const numberPoint = (point) =>
  point.value === "as_int" ? { int: point.as_int } : { double: point.as_double };
const bucketsOf = (buckets) => (buckets ? [buckets.offset, buckets.bucket_counts] : [0, []]);
const points = {
  gauge: numberPoint,
  sum: numberPoint,
  histogram: (point) => ({
    count: point.count,
    sum: point.sum || 0,
    buckets: point.bucket_counts,
    bounds: point.explicit_bounds,
    min: point.min || 0,
    max: point.max || 0,
  }),
  exponential_histogram: (point) => ({
    count: point.count,
    sum: point.sum || 0,
    scale: point.scale,
    zero: point.zero_count,
    positive: bucketsOf(point.positive),
    negative: bucketsOf(point.negative),
  }),
  summary: (point) => ({
    count: point.count,
    sum: point.sum,
    quantiles: point.quantile_values.map((each) => [each.quantile, each.value]),
  }),
};

function* fromMetrics(request) {
  for (const group of request.resource_metrics) {
    const resource = resourceOf(group);
    for (const scoped of group.scope_metrics) {
      const scope = scopeOf(scoped);
      for (const metric of scoped.metrics) {
        const data = metric[metric.data];
        for (const point of data.data_points) {
          yield {
            signal: "metrics",
            resource,
            scope,
            name: metric.name,
            unit: metric.unit,
            data: metric.data,
            temporality: data.aggregation_temporality || 0,
            monotonic: data.is_monotonic || false,
            start: point.start_time_unix_nano,
            time: point.time_unix_nano,
            attributes: attributes(point.attributes),
            point: points[metric.data](point),
          };
        }
      }
    }
  }
}

function* fromLogs(request) {
  for (const group of request.resource_logs) {
    const resource = resourceOf(group);
    for (const scoped of group.scope_logs) {
      const scope = scopeOf(scoped);
      for (const log of scoped.log_records) {
        yield {
          signal: "logs",
          resource,
          scope,
          time: log.time_unix_nano,
          severity: log.severity_number,
          severity_text: log.severity_text,
          event: log.event_name,
          body: value(log.body),
          attributes: attributes(log.attributes),
          trace_id: hex(log.trace_id),
          span_id: hex(log.span_id),
        };
      }
    }
  }
}

function main() {
  const asked = options(process.argv.slice(2));
  const file = fs.openSync(asked.record, "w");
  let requests = 0;

  const service = (read, rejectedField) => ({
    Export(call, answer) {
      requests += 1;
      if (requests <= asked["fail-first"]) {
        answer({ code: grpc.status.UNAVAILABLE, details: "failing as asked" });
        return;
      }
      let lines = "";
      for (const item of read(call.request)) {
        lines += `${JSON.stringify({ request: requests, ...item })}\n`;
      }
      fs.appendFileSync(file, lines);
      const rejected = asked["partial-success"];
      answer(
        null,
        rejected ? { partial_success: { [rejectedField]: rejected, error_message: "refused as asked" } } : {},
      );
    },
  });

  const messages = loader.loadFileDescriptorSetFromBuffer(fs.readFileSync(asked.descriptors), {
    keepCase: true,
    longs: String,
    defaults: true,
    oneofs: true,
  });
  const definition = (name) => {
    const found = messages[`opentelemetry.proto.collector.${name}`];
    if (!found) throw new Error(`the descriptor set lacks the service ${name}`);
    return found;
  };
  const server = new grpc.Server({ "grpc.max_receive_message_length": asked["message-bytes-max"] });
  server.addService(definition("trace.v1.TraceService"), service(fromTraces, "rejected_spans"));
  server.addService(definition("metrics.v1.MetricsService"), service(fromMetrics, "rejected_data_points"));
  server.addService(definition("logs.v1.LogsService"), service(fromLogs, "rejected_log_records"));
  const read = (path) => (path ? fs.readFileSync(path) : null);
  const credentials = asked.cert
    ? grpc.ServerCredentials.createSsl(
        read(asked["client-ca"]),
        [{ private_key: read(asked.key), cert_chain: read(asked.cert) }],
        asked["client-ca"] !== "",
      )
    : grpc.ServerCredentials.createInsecure();
  server.bindAsync("127.0.0.1:0", credentials, (error, port) => {
    if (error) throw error;
    process.stdout.write(`${JSON.stringify({ port })}\n`);
  });
  process.stdin.resume();
  process.stdin.on("end", () => server.tryShutdown(() => process.exit(0)));
}

main();
