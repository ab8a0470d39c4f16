"""Compares what a driver says it sent (its manifest) with what a server recorded.

A manifest has two kinds of lines. `{"batch": N, "item": {...}}` is a span, a data point or a log record in the form of
records.py; `{"batch": N, "outcome": "ok", "delivered": N, "rejected": N, "attempts": N}` or
`{"batch": N, "outcome": "error", "error": "...", "grpc_status": N}` is the verdict of a batch. Of what went through a
pipeline there are no verdicts; `{"account": {...}}` is its account, one for each collector that gets everything.
"""

import argparse
import sys
from collections import Counter

import records

# Past this many, further problems say nothing new.
PROBLEMS_MAX = 20


class Manifest:
    def __init__(self, path):
        self.items = {}
        self.verdicts = {}
        self.accounts = []
        self.problems = []
        for line in records.read(path):
            if "account" in line:
                self.accounts.append(line["account"])
                continue
            batch = line["batch"]
            if "item" in line:
                key = records.key(line["item"])
                if key in self.items:
                    self.problems.append(f"the manifest lists {key} twice")
                self.items[key] = (batch, line["item"])
            elif batch in self.verdicts:
                self.problems.append(f"the manifest has two verdicts on batch {batch}")
            else:
                self.verdicts[batch] = line
        # What went through a pipeline has an account in place of verdicts.
        for batch in set() if self.accounts else {batch for batch, _ in self.items.values()} - self.verdicts.keys():
            self.problems.append(f"batch {batch} has no verdict")

    def is_accepted(self, batch):
        return self.verdicts.get(batch, {}).get("outcome") == "ok"

    def total(self, figure):
        return sum(verdict.get(figure, 0) for verdict in self.verdicts.values())

    def failed(self):
        return [verdict for verdict in self.verdicts.values() if verdict["outcome"] != "ok"]


def difference(sent, got):
    """The first member of `sent` that `got` holds otherwise, in words."""
    for name, expected in sent.items():
        if got.get(name) != expected:
            return f"{name}: sent {str(expected)[:200]}, received {str(got.get(name))[:200]}"
    return None


def compare(manifest, record):
    """Problems in words: items lost, duplicated, altered, never sent, or recorded though their batch failed."""
    problems = list(manifest.problems)
    received = Counter()
    for line in record:
        key = records.key(line)
        received[key] += 1
        if key not in manifest.items:
            problems.append(f"{key} was received and never sent")
            continue
        batch, sent = manifest.items[key]
        if not manifest.is_accepted(batch):
            problems.append(f"{key} was received, though batch {batch} failed")
        differs = difference(sent, line)
        if differs:
            problems.append(f"{key} was altered: {differs}")
    for key, (batch, _) in manifest.items.items():
        if manifest.is_accepted(batch) and received[key] != 1:
            problems.append(f"{key} of batch {batch} was received {received[key]} times")
    return problems


def at_least_once(manifest, record):
    """Problems in words (items lost, altered, never sent), and how many receipts were not the first of their item."""
    problems = list(manifest.problems)
    received = Counter()
    for line in record:
        key = records.key(line)
        received[key] += 1
        if key not in manifest.items:
            problems.append(f"{key} was received and never sent")
            continue
        differs = difference(manifest.items[key][1], line)
        if differs:
            problems.append(f"{key} was altered: {differs}")
    problems += [f"{key} was never received" for key in manifest.items if not received[key]]
    return problems, sum(count - 1 for count in received.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest")
    parser.add_argument("record")
    options = parser.parse_args()
    manifest = Manifest(options.manifest)
    problems = compare(manifest, records.read(options.record))
    for problem in problems[:PROBLEMS_MAX]:
        print(problem)
    print(f"{len(manifest.items)} items in {len(manifest.verdicts)} batches compared, {len(problems)} problem(s)")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
