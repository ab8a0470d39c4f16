"""Three collectors at a time, one of which is killed and started again while a pipeline delivers to them."""

import subprocess
import sys
import time

import records
import verify
from peers import HERE, MESSAGE_BYTES_MAX
from processes import DRIVER_SECONDS, Failed, Scenario, listening, must, on_a_free_port
from proxies import Envoy

COLLECTORS = 3
# Items that show that a collector takes part.
SHARE = 200
# Far longer than a pipeline of the driver's leaves a collector alone that failed.
WAIT_SECONDS = 60


class Collector:
    """A grpcio server that keeps its port over its lives; each life has a record of its own."""

    def __init__(self, scenario, number):
        self.scenario = scenario
        self.number = number
        self.port = 0
        self.lives = []
        self.start()

    def start(self):
        name = f"collector-{self.number}-{len(self.lives)}"
        record = self.scenario.folder / f"{name}.jsonl"
        program = HERE / "servers" / "grpcio_server.py"
        command = [sys.executable, program, "--record", record, "--port", self.port]
        child = self.scenario.child(name, [*command, "--message-bytes-max", MESSAGE_BYTES_MAX], pipes=True)
        self.port = listening(child)
        self.lives.append((child, record))

    def kill(self):
        """Ends it with SIGKILL, whatever it is doing."""
        self.lives[-1][0].kill()

    def end(self):
        self.lives[-1][0].end()

    def items(self, life=-1):
        """How many items it has taken in one of its lives."""
        with open(self.lives[life][1], "rb") as lines:
            return lines.read().count(b"\n")

    def record(self):
        return [line for _, path in self.lives for line in records.read_killed(path)]

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"


class Balancer(Envoy):
    """Envoy over several collectors, a request to each in turn, without retries of its own."""

    def __init__(self, collectors):
        super().__init__()
        self.collectors = collectors

    def start(self, scenario, _answers=None):
        ports = [collector.port for collector in self.collectors]
        self.proxy, port = on_a_free_port(scenario, self.name, lambda port: self.command(scenario.folder, port, *ports))
        return port


class Fleet:
    """The collectors, and the driver that delivers to them until it is told to end."""

    def __init__(self, scenario, driver, adapter):
        self.scenario = scenario
        self.command = [*driver, "--adapter", adapter, "--manifest", scenario.folder / "manifest.jsonl"]
        self.collectors = [Collector(scenario, number) for number in range(COLLECTORS)]

    def deliver(self, how, *urls):
        endpoints = [part for url in urls for part in ("--endpoint", url)]
        self.driver = self.scenario.child("driver", [*self.command, "--deliver", how, *endpoints], pipes=True)

    def wait(self, words, condition):
        """Waits until something has come about."""
        until = time.monotonic() + WAIT_SECONDS
        while not condition():
            must(self.driver.process.poll() is None, f"the driver ended before {words}: {self.driver.tail()}")
            counts = [collector.items() for collector in self.collectors]
            must(time.monotonic() < until, f"after {WAIT_SECONDS} s: not {words}; items: {counts}")
            time.sleep(0.02)

    def wait_for_shares(self, *numbers):
        """Waits until each of these has taken more."""
        goals = {number: self.collectors[number].items() + SHARE for number in numbers}
        reached = lambda: all(self.collectors[number].items() >= goal for number, goal in goals.items())  # noqa: E731
        self.wait(f"{SHARE} more items at each of {list(numbers)}", reached)

    def finish(self):
        """The manifest, and the record of each collector."""
        self.driver.process.stdin.close()
        try:
            code = self.driver.process.wait(DRIVER_SECONDS)
        except subprocess.TimeoutExpired:
            raise Failed(f"the driver is not done after {DRIVER_SECONDS} s: {self.driver.tail()}") from None
        must(code == 0, f"the driver ended with {code}: {self.driver.tail()}")
        for collector in self.collectors:
            collector.end()
        manifest = verify.Manifest(self.scenario.folder / "manifest.jsonl")
        return manifest, [collector.record() for collector in self.collectors]


def outage(fleet, number, *others):
    """One collector is killed while it takes items, and is started again once the others have taken more."""
    fleet.wait_for_shares(number)
    fleet.collectors[number].kill()
    fleet.wait_for_shares(*others)
    fleet.collectors[number].start()
    fleet.wait_for_shares(number)


def delivered(manifest, record, account):
    """Every item at least once, unchanged; twice only what the account says may have arrived twice."""
    problems, twice = verify.at_least_once(manifest, record)
    must(not problems, "; ".join(problems[:5]) + (f" … {len(problems)} problems" if len(problems) > 5 else ""))
    allowed = account["possible_duplicates"] + account["unknown"]
    must(twice <= allowed, f"{twice} items arrived twice, and the account says that at most {allowed} may have")
    must(account["delivered"] + account["unknown"] == len(manifest.items), f"the account is {account}")
    return twice


def told(manifest, records_of, twice):
    shares = " + ".join(str(len(record)) for record in records_of)
    return f"{len(manifest.items)} items, {shares} received, {twice} of them twice"


def balanced(fleet):
    """Through envoy, which gives each of three collectors a request in turn; one dies and comes back."""
    balancer = Balancer(fleet.collectors)
    fleet.deliver("one", f"http://127.0.0.1:{balancer.start(fleet.scenario)}")
    fleet.wait_for_shares(0, 1, 2)
    outage(fleet, 1, 0, 2)
    manifest, received = fleet.finish()
    twice = delivered(manifest, sum(received, []), manifest.accounts[0])
    return told(manifest, received, twice)


def round_robin(fleet):
    """To each of three collectors in turn, by the pipeline itself; one dies and comes back."""
    fleet.deliver("round-robin", *[collector.url for collector in fleet.collectors])
    fleet.wait_for_shares(0, 1, 2)
    outage(fleet, 1, 0, 2)
    manifest, received = fleet.finish()
    twice = delivered(manifest, sum(received, []), manifest.accounts[0])
    return told(manifest, received, twice)


def failover(fleet):
    """To the first of three that is up: the first dies, the second takes over, the first comes back."""
    fleet.deliver("failover", *[collector.url for collector in fleet.collectors])
    fleet.wait_for_shares(0)
    must(fleet.collectors[1].items() == 0, "the second collector got items while the first was up")
    outage(fleet, 0, 1)
    must(fleet.collectors[2].items() == 0, "the third collector got items while the second was up")
    manifest, received = fleet.finish()
    twice = delivered(manifest, sum(received, []), manifest.accounts[0])
    return told(manifest, received, twice)


def fan_out(fleet):
    """To all three; one dies and comes back, and gets what it missed."""
    fleet.deliver("fan-out", *[collector.url for collector in fleet.collectors])
    fleet.wait_for_shares(0, 1, 2)
    outage(fleet, 1, 0, 2)
    manifest, received = fleet.finish()
    must(len(manifest.accounts) == COLLECTORS, f"{len(manifest.accounts)} accounts and not {COLLECTORS}")
    twice = sum(delivered(manifest, record, account) for record, account in zip(received, manifest.accounts))
    return told(manifest, received, twice)


def everything():
    """What is run for the adapters that meet everything."""
    return [balanced, round_robin, failover, fan_out]


class Told:
    """A manifest of so many items, as a driver would have written it."""

    def __init__(self, count):
        items = [{"signal": "traces", "trace_id": "t", "span_id": str(number), "name": "work"} for number in range(count)]
        self.items = {records.key(item): (0, item) for item in items}
        self.problems = []

    def record(self):
        return [dict(item) for _, item in self.items.values()]


def self_test():
    """Records that lie, each with what is wrong if the lie is not noticed."""
    manifest = Told(5)
    account = {"delivered": 5, "unknown": 0, "possible_duplicates": 1}
    whole = manifest.record()
    altered = [{**whole[0], "name": "play"}, *whole[1:]]
    invented = [*whole, {**whole[0], "span_id": "9"}]
    for lie, record, told, telling in [
        ("a lost item", whole[1:], account, "was never received"),
        ("an altered item", altered, account, "was altered"),
        ("an invented item", invented, account, "never sent"),
        ("duplicates beyond the account", [*whole, *whole[:2]], account, "arrived twice"),
        ("an account that lacks items", whole, {**account, "delivered": 4}, "the account is"),
    ]:
        try:
            delivered(manifest, record, told)
            problem = "it is not noticed"
        except Failed as failure:
            problem = None if telling in str(failure) else str(failure)
        yield f"the fleet notices {lie}", problem
    problem = None if delivered(manifest, [*whole, whole[0]], account) == 1 else "it is not counted"
    yield "the fleet counts a duplicate that is accounted for", problem


def run(check, name, folder, driver, adapter):
    """One scenario: what it says of itself."""
    scenario = Scenario(name, folder)
    scenario.folder.mkdir(parents=True)
    try:
        return check(Fleet(scenario, driver, adapter))
    finally:
        scenario.end()
