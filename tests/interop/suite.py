"""Runs drivers against collectors that nobody here wrote and compares what was sent with what arrived.

Every scenario has servers of its own, on ports of the loopback interface that are free at the time. Whatever happens,
each process that was started is ended by its id before the suite ends.
"""

import argparse
import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass, field
from pathlib import Path

import records
import verify

HERE = Path(__file__).resolve().parent
ADAPTERS = ["tokio", "smol", "futures-io", "blocking", "custom"]
DRIVER_SECONDS = 60
START_SECONDS = 30
DRAIN_SECONDS = 30
# Larger than the 5 MB batch, smaller than what a peer may be asked to hold.
MESSAGE_BYTES_MAX = 16 << 20
BIG_BYTES = 5_000_000
RESOURCE_EXHAUSTED = 8


class Failed(Exception):
    """A scenario did not come out as it should."""


def die_with_parent():
    """Asks the kernel to end this child when the suite dies without having been able to."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


class Child:
    """One process of a scenario, with a log of its own."""

    def __init__(self, name, command, folder, pipes):
        self.name = name
        self.log = folder / f"{name}.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipes else log,
                stderr=log,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
                preexec_fn=die_with_parent,
            )

    def tail(self):
        return self.log.read_text(errors="replace")[-2000:]

    def end(self):
        """Ends the process in order, by force after a while."""
        if self.process.stdin:
            self.process.stdin.close()
        elif self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(DRAIN_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Failed(f"{self.name} did not end within {DRAIN_SECONDS} s") from None
        finally:
            if self.process.stdout:
                self.process.stdout.close()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@dataclass
class Answers:
    """How a server is to answer."""

    message_bytes_max: int = MESSAGE_BYTES_MAX
    partial_success: int = 0
    fail_first: int = 0

    def arguments(self):
        return [
            "--message-bytes-max", str(self.message_bytes_max),
            "--partial-success", str(self.partial_success),
            "--fail-first", str(self.fail_first),
        ]  # fmt: skip


class Grpcio:
    """gRPC's C core."""

    name = "grpcio"
    is_direct = True

    def start(self, scenario, answers):
        self.record = scenario.folder / "record.jsonl"
        program = HERE / "servers" / "grpcio_server.py"
        command = [sys.executable, program, "--record", self.record, *answers.arguments()]
        self.server = scenario.child("grpcio", command, pipes=True)
        return listening(self.server)

    def finish(self):
        self.server.end()
        return records.read(self.record)


class GrpcJs:
    """@grpc/grpc-js on Node.js."""

    name = "grpc-js"
    is_direct = True

    def start(self, scenario, answers):
        self.record = scenario.folder / "record.jsonl"
        descriptors = scenario.folder / "descriptors.bin"
        with open(descriptors, "wb") as out:
            subprocess.run([sys.executable, HERE / "descriptors.py"], stdout=out, check=True, timeout=START_SECONDS)
        program = HERE / "servers" / "grpc_js_server.js"
        command = ["node", program, "--descriptors", descriptors, "--record", self.record, *answers.arguments()]
        self.server = scenario.child("grpc-js", command, pipes=True)
        return listening(self.server)

    def finish(self):
        self.server.end()
        return records.read(self.record)


class Rotel:
    """The collector `rotel`, which hands on what it takes to a grpcio server that keeps the record."""

    name = "rotel"
    is_direct = False

    def start(self, scenario, answers):
        self.sink = Grpcio()
        sink = self.sink.start(scenario, Answers(message_bytes_max=64 << 20))
        agent = Path(sysconfig.get_path("purelib")) / "rotel" / "rotel-agent"
        # It does not tell which ports it got, so it is given two that were free a moment ago.
        for _ in range(5):
            grpc_port, http_port = free_port(), free_port()
            self.agent = scenario.child(
                "rotel",
                [
                    agent, "start",
                    "--pid-file", scenario.folder / "rotel.pid",
                    "--log-file", scenario.folder / "rotel-daemon.log",
                    "--otlp-grpc-endpoint", f"127.0.0.1:{grpc_port}",
                    "--otlp-http-endpoint", f"127.0.0.1:{http_port}",
                    "--otlp-grpc-max-recv-msg-size-mib", str(answers.message_bytes_max >> 20),
                    "--exporter", "otlp",
                    "--otlp-exporter-endpoint", f"http://127.0.0.1:{sink}",
                    "--otlp-exporter-protocol", "grpc",
                    "--otlp-exporter-compression", "none",
                ],
                pipes=False,
            )  # fmt: skip
            if accepts(self.agent, grpc_port):
                return grpc_port
        raise Failed(f"rotel does not start: {self.agent.tail()}")

    def finish(self):
        # Told to end, it first hands on what it holds.
        self.agent.end()
        return self.sink.finish()


def listening(child):
    """The port that a server says it listens on."""
    line = child.process.stdout.readline()
    if not line:
        child.process.wait(START_SECONDS)
        raise Failed(f"{child.name} does not start: {child.tail()}")
    return json.loads(line)["port"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def accepts(child, port):
    """Waits until the process accepts connections; false when it ended instead."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and child.process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        time.sleep(0.02)
    return False


@dataclass
class Scenario:
    """One run of a driver against one server."""

    name: str
    folder: Path
    children: list = field(default_factory=list)

    def child(self, name, command, pipes):
        child = Child(name, [str(part) for part in command], self.folder, pipes)
        self.children.append(child)
        return child

    def run(self, server, driver, adapter, answers, arguments):
        """The manifest and the record of one run."""
        try:
            port = server.start(self, answers)
            manifest = self.folder / "manifest.jsonl"
            command = [*driver, "--adapter", adapter, "--endpoint", f"http://127.0.0.1:{port}", "--manifest", manifest]
            child = self.child("driver", [*command, *arguments], pipes=False)
            try:
                code = child.process.wait(DRIVER_SECONDS)
            except subprocess.TimeoutExpired:
                raise Failed(f"the driver is not done after {DRIVER_SECONDS} s: {child.tail()}") from None
            if code != 0:
                raise Failed(f"the driver ended with {code}: {child.tail()}")
            record = server.finish()
            return verify.Manifest(manifest), record
        finally:
            for child in reversed(self.children):
                child.kill()


def must(condition, words):
    if not condition:
        raise Failed(words)


def told(verdicts):
    """Verdicts, as many as a line can take."""
    return f"{len(verdicts)} batch(es) failed: {str(verdicts)[:400]}"


def check_arrival(server, manifest, record, sent, requests):
    """Every span of every accepted batch once, unchanged, nothing else; direct servers saw no request twice."""
    must(len(manifest.spans) == sent, f"the driver lists {len(manifest.spans)} spans and not {sent}")
    problems = verify.compare(manifest, record)
    must(not problems, "; ".join(problems[:5]) + (f" … {len(problems)} problems" if len(problems) > 5 else ""))
    if server.is_direct:
        seen = len({line["request"] for line in record})
        must(seen == requests, f"{seen} requests were accepted and not {requests}")


def load(run, server):
    """20 batches of 500 spans from 4 callers on one exporter, then one batch of 5 MB."""
    sizes = ["--callers", "4", "--batches", "20", "--spans", "500", "--big-bytes", str(BIG_BYTES)]
    manifest, record = run(Answers(), sizes)
    must(not manifest.failed(), told(manifest.failed()))
    big = [span for batch, span in manifest.spans.values() if batch == 20]
    must(len(manifest.spans) == 20 * 500 + len(big), f"the driver lists {len(manifest.spans)} spans")
    text = sum(len(value.get("string", "")) for span in big for _, value in span["attributes"])
    must(text >= BIG_BYTES * 0.99, f"the big batch carries {text} bytes")
    check_arrival(server, manifest, record, 20 * 500 + len(big), 21)
    must(manifest.total("delivered") == len(manifest.spans), "not everything was delivered")
    return f"{len(record)} spans in 21 batches"


def retry(run, server):
    """The first 3 requests are answered UNAVAILABLE (spec 15): all is delivered once, with retries."""
    manifest, record = run(Answers(fail_first=3), ["--callers", "4", "--batches", "8", "--spans", "50"])
    must(not manifest.failed(), told(manifest.failed()))
    check_arrival(server, manifest, record, 400, 8)
    attempts = manifest.total("attempts")
    must(attempts == 8 + 3, f"{attempts} attempts and not 11")
    return f"{attempts} attempts for 8 batches"


def partial(run, server):
    """Every answer is a partial success (spec 12): reported and never sent again."""
    manifest, record = run(Answers(partial_success=3), ["--callers", "4", "--batches", "8", "--spans", "50"])
    must(not manifest.failed(), told(manifest.failed()))
    check_arrival(server, manifest, record, 400, 8)
    found = (manifest.total("rejected"), manifest.total("delivered"), manifest.total("attempts"))
    must(found == (24, 376, 8), f"(rejected, delivered, attempts) is {found} and not (24, 376, 8)")
    return "24 of 400 spans reported as rejected"


def oversize(run, server):
    """A batch above the server's limit (RESOURCE_EXHAUSTED without RetryInfo, spec 16) fails alone."""
    sizes = ["--callers", "4", "--batches", "4", "--spans", "50", "--big-bytes", str(BIG_BYTES)]
    manifest, record = run(Answers(message_bytes_max=4 << 20), sizes)
    failed = manifest.failed()
    must([verdict["batch"] for verdict in failed] == [4], told(failed))
    status = failed[0].get("grpc_status")
    must(status == RESOURCE_EXHAUSTED, f"the status is {status} and not {RESOURCE_EXHAUSTED}")
    check_arrival(server, manifest, record, len(manifest.spans), 4)
    return "the large batch alone was refused"


def scenarios():
    for server in (Grpcio, GrpcJs):
        for check in (load, retry, partial, oversize):
            yield server, check
    # It answers before it hands on, and as it likes.
    yield Rotel, load


def run_all(driver, adapters, folder, only):
    """The number of scenarios that passed and of those that failed."""
    passed = failed = 0
    for adapter in adapters:
        for kind, check in scenarios():
            name = f"{adapter}-{kind.name}-{check.__name__}"
            if only not in name:
                continue
            scenario = Scenario(name, folder / name)
            scenario.folder.mkdir(parents=True)
            server = kind()
            began = time.monotonic()
            try:
                said = check(lambda answers, sizes: scenario.run(server, driver, adapter, answers, sizes), server)
            except Failed as failure:
                failed += 1
                print(f"FAIL {name}: {failure} (logs: {scenario.folder})", flush=True)
                continue
            passed += 1
            print(f"ok   {name}: {said} ({time.monotonic() - began:.1f} s)", flush=True)
            shutil.rmtree(scenario.folder)
    return passed, failed


def self_test(folder):
    """The suite with a driver on grpcio, metrics and logs too, then with manifests that lie."""
    client = [sys.executable, str(HERE / "client.py")]
    passed, failed = run_all(client, ["python"], folder, "")
    for kind in (Grpcio, GrpcJs):
        scenario = Scenario("signals", folder / f"signals-{kind.name}")
        scenario.folder.mkdir(parents=True)
        _, record = scenario.run(kind(), client, "python", Answers(), ["--batches", "0", "--other-signals"])
        metric = {"signal": "metrics", "name": "queue.length", "unit": "1", "data": "gauge", "points": 2}
        log = {"signal": "logs", "time": "3", "severity": 9, "body": {"string": "started"}}
        differences = [verify.difference(sent, got) for sent, got in zip([metric, log], record)]
        if len(record) == 2 and differences == [None, None]:
            passed += 1
            print(f"ok   metrics and logs reach {kind.name}")
            shutil.rmtree(scenario.folder)
        else:
            failed += 1
            print(f"FAIL metrics and logs at {kind.name}: {differences}, {record}")
    for lie, telling in [
        ("lose", "was received 0 times"),
        ("invent", "was received and never sent"),
        ("alter", "was altered"),
    ]:
        scenario = Scenario(lie, folder / f"sabotage-{lie}")
        scenario.folder.mkdir(parents=True)
        sizes = ["--batches", "2", "--spans", "5", "--sabotage", lie]
        manifest, record = scenario.run(Grpcio(), client, "python", Answers(), sizes)
        problems = verify.compare(manifest, record)
        if len(problems) == 1 and telling in problems[0]:
            passed += 1
            print(f"ok   the verifier notices: {lie}")
            shutil.rmtree(scenario.folder)
        else:
            failed += 1
            print(f"FAIL the verifier does not notice: {lie}: {problems}")
    return passed, failed


def stop(number, _frame):
    """Turns a signal into an exception, so that every `finally` runs."""
    sys.exit(128 + number)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--driver", help="the program that sends")
    parser.add_argument("--adapter", action="append", choices=ADAPTERS, help="run this adapter alone (repeatable)")
    parser.add_argument("--only", default="", help="run scenarios whose name contains this text")
    parser.add_argument("--work", type=Path, required=True, help="folder for logs, manifests and records")
    parser.add_argument("--self-test", action="store_true", help="test the suite itself, with a driver on grpcio")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    # The folder of another run is never touched.
    folder = options.work / f"run-{os.getpid()}"
    if options.self_test:
        passed, failed = self_test(folder)
    else:
        if not options.driver:
            parser.error("--driver is missing")
        passed, failed = run_all([options.driver], options.adapter or ADAPTERS, folder, options.only)
    if not failed:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
