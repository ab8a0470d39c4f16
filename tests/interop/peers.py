"""Collectors that nobody here wrote. Each can `start` in a scenario and, told to `finish`, gives its record."""

import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import certificates
import records
from processes import START_SECONDS, Failed, accepts, free_port, listening

HERE = Path(__file__).resolve().parent
# Larger than the 5 MB batch, smaller than what a peer may be asked to hold.
MESSAGE_BYTES_MAX = 16 << 20


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


class Peer:
    """What the servers have in common: how a driver reaches them, and their certificates."""

    # Whether it is the one that keeps the record, and sees a request as it was sent.
    is_direct = True
    protocol = "grpc"

    def __init__(self, tls=None):
        # None, "tls" for a certificate of the server's, or "mtls" for one of the client's too.
        self.tls = tls
        self.made = None

    def certify(self, scenario):
        """The arguments that give a server its certificates."""
        if not self.tls:
            return []
        self.made = certificates.make(scenario.folder / "certificates")
        certificate, key = self.made.pair("server")
        arguments = ["--cert", certificate, "--key", key]
        if self.tls == "mtls":
            arguments += ["--client-ca", self.made.ca]
        return arguments

    def reach(self, port):
        """The arguments that lead a driver to this server."""
        if not self.tls:
            return ["--protocol", self.protocol, "--endpoint", f"http://127.0.0.1:{port}"]
        arguments = ["--protocol", self.protocol, "--endpoint", f"https://localhost:{port}", "--ca", self.made.ca]
        if self.tls == "mtls":
            certificate, key = self.made.pair("client")
            arguments += ["--cert", certificate, "--key", key]
        return arguments

    @property
    def title(self):
        return "-".join(part for part in (self.name, self.tls) if part)


class Grpcio(Peer):
    """gRPC's C core."""

    name = "grpcio"

    def start(self, scenario, answers):
        self.record = scenario.folder / "record.jsonl"
        program = HERE / "servers" / "grpcio_server.py"
        command = [sys.executable, program, "--record", self.record, *answers.arguments(), *self.certify(scenario)]
        self.server = scenario.child("grpcio", command, pipes=True)
        return listening(self.server)

    def finish(self):
        self.server.end()
        return records.read(self.record)


class GrpcJs(Peer):
    """@grpc/grpc-js on Node.js."""

    name = "grpc-js"

    def start(self, scenario, answers):
        self.record = scenario.folder / "record.jsonl"
        descriptors = scenario.folder / "descriptors.bin"
        with open(descriptors, "wb") as out:
            subprocess.run([sys.executable, HERE / "descriptors.py"], stdout=out, check=True, timeout=START_SECONDS)
        program = HERE / "servers" / "grpc_js_server.js"
        command = ["node", program, "--descriptors", descriptors, "--record", self.record]
        self.server = scenario.child("grpc-js", [*command, *answers.arguments(), *self.certify(scenario)], pipes=True)
        return listening(self.server)

    def finish(self):
        self.server.end()
        return records.read(self.record)


class HttpServer(Peer):
    """`http.server` of Python's standard library, in HTTP/1.1, with protobuf's own messages."""

    def __init__(self, protocol="http/protobuf", tls=None):
        super().__init__(tls)
        self.protocol = protocol
        self.name = "http-" + protocol.removeprefix("http/")

    def start(self, scenario, answers):
        self.record = scenario.folder / "record.jsonl"
        program = HERE / "servers" / "http_server.py"
        command = [sys.executable, program, "--record", self.record, *answers.arguments(), *self.certify(scenario)]
        self.server = scenario.child("http", command, pipes=True)
        return listening(self.server)

    def finish(self):
        self.server.end()
        return records.read(self.record)


class Rotel(Peer):
    """The collector `rotel`, which hands on what it takes to a grpcio server that keeps the record."""

    is_direct = False

    def __init__(self, protocol="grpc"):
        super().__init__()
        self.protocol = protocol
        self.name = "rotel" if protocol == "grpc" else "rotel-" + protocol.replace("/", "-")

    def start(self, scenario, answers):
        self.sink = Grpcio()
        sink = self.sink.start(scenario, Answers(message_bytes_max=64 << 20))
        agent = Path(sysconfig.get_path("purelib")) / "rotel" / "rotel-agent"
        # It does not tell which ports it got, so it is given two that were free a moment ago.
        for _ in range(5):
            ports = {"grpc": free_port(), "http/protobuf": free_port()}
            self.agent = scenario.child(
                "rotel",
                [
                    agent, "start",
                    "--pid-file", scenario.folder / "rotel.pid",
                    "--log-file", scenario.folder / "rotel-daemon.log",
                    "--otlp-grpc-endpoint", f"127.0.0.1:{ports['grpc']}",
                    "--otlp-http-endpoint", f"127.0.0.1:{ports['http/protobuf']}",
                    "--otlp-grpc-max-recv-msg-size-mib", str(answers.message_bytes_max >> 20),
                    "--exporter", "otlp",
                    "--otlp-exporter-endpoint", f"http://127.0.0.1:{sink}",
                    "--otlp-exporter-protocol", "grpc",
                    "--otlp-exporter-compression", "none",
                    # The sink may take its time where the machine is busy; what is sent to it twice is not ours to judge.
                    "--otlp-exporter-request-timeout", "60s",
                ],
                pipes=False,
            )  # fmt: skip
            if all(accepts(self.agent, port) for port in ports.values()):
                return ports[self.protocol]
        raise Failed(f"rotel does not start: {self.agent.tail()}")

    def finish(self):
        # Told to end, it first hands on what it holds.
        self.agent.end()
        return self.sink.finish()
