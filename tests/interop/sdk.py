"""Programs with the OpenTelemetry SDK against a grpcio collector: every span once and unchanged, and an account that says so."""

import verify
from peers import Answers, Grpcio
from processes import Scenario, must

BATCHES = 200
ITEMS = 500
# The server writes every span to a file.
SECONDS = 240
# The thread that ends the spans: one without an async runtime, tokio's `current_thread`, a tokio runtime's only worker.
PLACES = ["none", "current-thread", "one-worker"]


def batch_processor(run):
    """The SDK's batch processor over our exporter, with a queue that holds all."""
    return all_once(run, "batch-processor")


def span_processor(run):
    """Our processor over a pipeline."""
    return all_once(run, "span-processor")


def all_once(run, processor):
    manifest, record = run(["--sdk", processor, "--batches", str(BATCHES), "--items", str(ITEMS)])
    sent = BATCHES * ITEMS
    must(len(manifest.items) == sent, f"the driver lists {len(manifest.items)} spans and not {sent}")
    problems, again = verify.at_least_once(manifest, record)
    must(not problems, "; ".join(problems[:5]) + (f" … {len(problems)} problems" if len(problems) > 5 else ""))
    must(again == 0, f"{again} spans were received twice")
    must(len(manifest.accounts) == 1, f"{len(manifest.accounts)} accounts and not 1")
    account = manifest.accounts[0]
    found = (account["accepted"], account["delivered"], account["possible_duplicates"])
    must(found == (sent, sent, 0), f"(accepted, delivered, possible duplicates) is {found} of {sent}")
    requests = len({line["request"] for line in record})
    return f"{len(record)} spans in {requests} requests, each once"


def everything():
    for check in (batch_processor, span_processor):
        for place in PLACES:
            yield check, place


def run(check, place, name, folder, driver):
    """One scenario: what it says of itself."""
    scenario = Scenario(name, folder)
    scenario.folder.mkdir(parents=True)

    def run_driver(arguments):
        return scenario.run(Grpcio(), driver, "blocking", Answers(), [*arguments, "--place", place], SECONDS)

    return check(run_driver)
