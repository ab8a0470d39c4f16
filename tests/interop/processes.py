"""The processes of a scenario: started with logs of their own, ended by their ids whatever happens."""

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import verify

DRIVER_SECONDS = 60
START_SECONDS = 30
DRAIN_SECONDS = 30


class Failed(Exception):
    """A scenario did not come out as it should."""


def must(condition, words):
    if not condition:
        raise Failed(words)


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


def on_a_free_port(scenario, name, command_for):
    """Starts a process that cannot tell which port it got on one that was free a moment ago: the process, the port."""
    for _ in range(5):
        port = free_port()
        child = scenario.child(name, command_for(port), pipes=False)
        if accepts(child, port):
            return child, port
    raise Failed(f"{name} does not start: {child.tail()}")


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

    def run(self, server, driver, adapter, answers, arguments, seconds=DRIVER_SECONDS):
        """The manifest and the record of one run."""
        try:
            port = server.start(self, answers)
            manifest = self.folder / "manifest.jsonl"
            command = [*driver, "--adapter", adapter, "--manifest", manifest, *server.reach(port)]
            child = self.child("driver", [*command, *arguments], pipes=False)
            try:
                code = child.process.wait(seconds)
            except subprocess.TimeoutExpired:
                raise Failed(f"the driver is not done after {seconds} s: {child.tail()}") from None
            if code != 0:
                raise Failed(f"the driver ended with {code}: {child.tail()}")
            try:
                return verify.Manifest(manifest), server.finish()
            except json.JSONDecodeError as error:
                raise Failed(f"a record was cut short: {error}") from None
        finally:
            self.end()

    def end(self):
        """Ends every process that is left."""
        for child in reversed(self.children):
            child.kill()
