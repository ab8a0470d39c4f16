"""What is sent, and what must come of it. A scenario is a function of `run` (answers, arguments -> manifest, record)."""

import verify
from peers import Answers, Grpcio, GrpcJs, HttpServer, Rotel
from processes import must
from proxies import Envoy, Haproxy, Nginx

BIG_BYTES = 5_000_000
MIDDLE_BYTES = 300_000
RESOURCE_EXHAUSTED = 8


def told(verdicts):
    """Verdicts, as many as a line can take."""
    return f"{len(verdicts)} batch(es) failed: {str(verdicts)[:400]}"


def check_arrival(server, manifest, record, sent, requests):
    """Every item of every accepted batch once, unchanged, nothing else; direct servers saw no request twice."""
    must(len(manifest.items) == sent, f"the driver lists {len(manifest.items)} items and not {sent}")
    problems = verify.compare(manifest, record)
    must(not problems, "; ".join(problems[:5]) + (f" … {len(problems)} problems" if len(problems) > 5 else ""))
    if server.is_direct and requests is not None:
        seen = len({line["request"] for line in record})
        must(seen == requests, f"{seen} requests were accepted and not {requests}")


def load(run, server, *arguments, callers=4, middle=0):
    """20 batches of 500 items from several callers on one exporter, then one batch of 5 MB."""
    sizes = ["--callers", str(callers), "--batches", "20", "--items", "500", "--big-bytes", str(BIG_BYTES)]
    manifest, record = run(Answers(), [*sizes, "--batch-bytes", str(middle), *arguments])
    must(not manifest.failed(), told(manifest.failed()))
    big = [item for batch, item in manifest.items.values() if batch == 20]
    must(len(manifest.items) == 20 * 500 + len(big), f"the driver lists {len(manifest.items)} items")
    text = sum(len(value.get("string", "")) for item in big for _, value in item["attributes"])
    must(text >= BIG_BYTES * 0.99, f"the big batch carries {text} bytes")
    check_arrival(server, manifest, record, 20 * 500 + len(big), 21)
    must(manifest.total("delivered") == len(manifest.items), "not everything was delivered")
    return f"{len(record)} items in 21 batches"


def six_callers(run, server):
    """As `load`, with six callers."""
    return load(run, server, callers=6)


def gzip(run, server):
    """As `load`, with batches of 300 KB, compressed."""
    return load(run, server, "--compression", "gzip", middle=MIDDLE_BYTES)


def plain(run, server):
    """As `load`, with batches of 300 KB, not compressed."""
    return load(run, server, middle=MIDDLE_BYTES)


def signals(run, server):
    """Metrics of every kind and logs, 10 batches of each."""
    said = []
    for signal in ("metrics", "logs"):
        manifest, record = run(Answers(), ["--signal", signal, "--callers", "2", "--batches", "10", "--items", "100"])
        must(not manifest.failed(), told(manifest.failed()))
        check_arrival(server, manifest, record, 1_000, 10)
        said.append(f"{len(record)} of {signal}")
    return ", ".join(said)


def retry(run, server):
    """The first 3 requests fail in ways that pass (spec 15, 19, 22): all is delivered once, with retries."""
    manifest, record = run(Answers(fail_first=3), ["--callers", "4", "--batches", "8", "--items", "50"])
    must(not manifest.failed(), told(manifest.failed()))
    check_arrival(server, manifest, record, 400, 8)
    attempts = manifest.total("attempts")
    must(attempts == 8 + 3, f"{attempts} attempts and not 11")
    return f"{attempts} attempts for 8 batches"


def partial(run, server):
    """Every answer is a partial success (spec 12): reported and never sent again."""
    manifest, record = run(Answers(partial_success=3), ["--callers", "4", "--batches", "8", "--items", "50"])
    must(not manifest.failed(), told(manifest.failed()))
    check_arrival(server, manifest, record, 400, 8)
    found = (manifest.total("rejected"), manifest.total("delivered"), manifest.total("attempts"))
    must(found == (24, 376, 8), f"(rejected, delivered, attempts) is {found} and not (24, 376, 8)")
    return "24 of 400 items reported as rejected"


def oversize(run, server):
    """A batch above the server's limit, which is refused for its size: it is split until all of it is taken."""
    sizes = ["--callers", "4", "--batches", "4", "--items", "50", "--big-bytes", str(BIG_BYTES)]
    manifest, record = run(Answers(message_bytes_max=4 << 20), sizes)
    must(not manifest.failed(), told(manifest.failed()))
    check_arrival(server, manifest, record, len(manifest.items), None)
    requests = len({line["request"] for line in record})
    must(requests >= 6, f"{requests} requests were accepted: nothing was split")
    return f"5 batches in {requests} requests"


def core():
    """What every adapter meets: each protocol, TLS, failures that pass, a proxy that drains."""
    yield Grpcio, load
    yield Grpcio, retry
    yield GrpcJs, partial
    yield Grpcio, oversize
    yield (lambda: GrpcJs(tls="mtls")), load
    yield HttpServer, load
    yield HttpServer, retry
    yield (lambda: HttpServer(tls="tls")), load
    yield (lambda: HttpServer("http/json")), signals
    yield Rotel, load
    yield (lambda: Nginx(requests=2)), six_callers


def everything():
    """Each server, as a function that makes one, with what is sent to it."""
    for make in (Grpcio, GrpcJs):
        for check in (load, gzip, signals, retry, partial, oversize):
            yield make, check
        for tls in ("tls", "mtls"):
            yield (lambda make=make, tls=tls: make(tls=tls)), load
    for protocol in ("http/protobuf", "http/json"):
        for check in (load, gzip, signals, retry, partial, oversize):
            yield (lambda protocol=protocol: HttpServer(protocol)), check
    for tls in ("tls", "mtls"):
        yield (lambda tls=tls: HttpServer(tls=tls)), load
    # It answers before it hands on, and as it likes; its JSON loses histograms, so that JSON is not asked of it.
    for protocol in ("grpc", "http/protobuf"):
        yield (lambda protocol=protocol: Rotel(protocol)), load
        yield (lambda protocol=protocol: Rotel(protocol)), gzip
    for make in (Envoy, Nginx, Haproxy):
        for check in (plain, gzip):
            yield make, check
        yield (lambda make=make: make(streams=1)), six_callers
    for make in (Envoy, Nginx):
        yield (lambda make=make: make(requests=2)), six_callers
