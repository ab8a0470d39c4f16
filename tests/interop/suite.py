"""Runs drivers against collectors that nobody here wrote and compares what was sent with what arrived.

Every scenario has servers of its own, on ports of the loopback interface that are free at the time. Whatever happens,
each process that was started is ended by its id before the suite ends.
"""

import argparse
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import fleet
import sdk
import verify
from peers import Answers, Grpcio, GrpcJs
from processes import Failed, Scenario
from proxies import Envoy, Haproxy, Nginx
from scenarios import core, everything, load, partial, plain, retry

HERE = Path(__file__).resolve().parent
ADAPTERS = ["tokio", "smol", "futures-io", "blocking", "custom"]
# The others differ from these in their sockets alone and meet the core of the scenarios, unless more is asked for.
THOROUGH = ["tokio", "blocking"]


def run_all(driver, adapters, folder, only, scenarios_of):
    """The number of scenarios that passed and of those that failed."""
    passed = failed = 0
    for adapter in adapters:
        for make, check in scenarios_of(adapter):
            server = make()
            name = f"{adapter}-{server.title}-{check.__name__}"
            if only not in name:
                continue
            began = time.monotonic()
            runs = []

            def run(answers, arguments):
                # A scenario may run several times, each with servers of its own.
                scenario = Scenario(name, folder / f"{name}-{len(runs)}")
                scenario.folder.mkdir(parents=True)
                runs.append(scenario)
                return scenario.run(server, driver, adapter, answers, arguments)

            try:
                said = check(run, server)
            except Failed as failure:
                failed += 1
                print(f"FAIL {name}: {failure} (logs: {runs[-1].folder if runs else folder})", flush=True)
                continue
            passed += 1
            print(f"ok   {name}: {said} ({time.monotonic() - began:.1f} s)", flush=True)
            for scenario in runs:
                shutil.rmtree(scenario.folder)
    return passed, failed


def run_fleets(driver, adapters, folder, only):
    """As `run_all`, against several collectors at a time."""
    passed = failed = 0
    for adapter in adapters:
        for check in fleet.everything():
            name = f"{adapter}-fleet-{check.__name__}"
            if only not in name:
                continue
            began = time.monotonic()
            try:
                said = fleet.run(check, name, folder / name, driver, adapter)
            except Failed as failure:
                failed += 1
                print(f"FAIL {name}: {failure} (logs: {folder / name})", flush=True)
                continue
            passed += 1
            print(f"ok   {name}: {said} ({time.monotonic() - began:.1f} s)", flush=True)
            shutil.rmtree(folder / name)
    return passed, failed


def run_sdk(driver, folder, only):
    """As `run_all`, with the OpenTelemetry SDK before the exporter."""
    passed = failed = 0
    for check, place in sdk.everything():
        name = f"sdk-{place}-{check.__name__}"
        if only not in name:
            continue
        began = time.monotonic()
        try:
            said = sdk.run(check, place, name, folder / name, driver)
        except Failed as failure:
            failed += 1
            print(f"FAIL {name}: {failure} (logs: {folder / name})", flush=True)
            continue
        passed += 1
        print(f"ok   {name}: {said} ({time.monotonic() - began:.1f} s)", flush=True)
        shutil.rmtree(folder / name)
    return passed, failed


def self_test(folder):
    """The suite with a driver on grpcio, metrics and logs too, then with manifests that lie."""
    client = [sys.executable, str(HERE / "client.py")]
    # It neither compresses nor splits what is too large.
    wanted = [(make, check) for make in (Grpcio, GrpcJs) for check in (load, retry, partial)]
    wanted += [(lambda make=make, tls=tls: make(tls=tls), load) for make in (Grpcio, GrpcJs) for tls in ("tls", "mtls")]
    wanted += [(make, plain) for make in (Envoy, Nginx, Haproxy)]
    passed, failed = run_all(client, ["python"], folder, "", lambda _: wanted)
    for kind in (Grpcio, GrpcJs):
        scenario = Scenario("signals", folder / f"signals-{kind.name}")
        scenario.folder.mkdir(parents=True)
        _, record = scenario.run(kind(), client, "python", Answers(), ["--batches", "0", "--other-signals"])
        metric = {"signal": "metrics", "name": "queue.length", "unit": "1", "data": "gauge"}
        points = [{**metric, "time": "1", "point": {"int": "1"}}, {**metric, "time": "2", "point": {"double": 2.5}}]
        log = {"signal": "logs", "time": "3", "severity": 9, "body": {"string": "started"}}
        differences = [verify.difference(sent, got) for sent, got in zip([*points, log], record)]
        if len(record) == 3 and differences == [None] * 3:
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
        sizes = ["--batches", "2", "--items", "5", "--sabotage", lie]
        manifest, record = scenario.run(Grpcio(), client, "python", Answers(), sizes)
        problems = verify.compare(manifest, record)
        if len(problems) == 1 and telling in problems[0]:
            passed += 1
            print(f"ok   the verifier notices: {lie}")
            shutil.rmtree(scenario.folder)
        else:
            failed += 1
            print(f"FAIL the verifier does not notice: {lie}: {problems}")
    for told, problem in fleet.self_test():
        passed, failed = (passed, failed + 1) if problem else (passed + 1, failed)
        print(f"FAIL {told}: {problem}" if problem else f"ok   {told}")
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
        is_thorough = options.adapter or options.only
        passed, failed = run_all(
            [options.driver],
            options.adapter or ADAPTERS,
            folder,
            options.only,
            lambda adapter: everything() if is_thorough or adapter in THOROUGH else core(),
        )
        fleets = run_fleets([options.driver], options.adapter or THOROUGH, folder, options.only)
        passed, failed = passed + fleets[0], failed + fleets[1]
        # The SDK is driven over plain sockets.
        if "blocking" in (options.adapter or THOROUGH):
            with_sdk = run_sdk([options.driver], folder, options.only)
            passed, failed = passed + with_sdk[0], failed + with_sdk[1]
    if not failed:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
