"""Compares what a driver says it sent (its manifest) with what a server recorded.

A manifest has two kinds of lines. `{"batch": N, "span": {...}}` is a span in the form of records.py, with at least
`trace_id` and `span_id`; `{"batch": N, "outcome": "ok", "delivered": N, "rejected": N, "attempts": N}` or
`{"batch": N, "outcome": "error", "error": "...", "grpc_status": N}` is the verdict of a batch.
"""

import argparse
import sys
from collections import Counter

import records

# Past this many, further problems say nothing new.
PROBLEMS_MAX = 20


class Manifest:
    def __init__(self, path):
        self.spans = {}
        self.verdicts = {}
        self.problems = []
        for line in records.read(path):
            batch = line["batch"]
            if "span" in line:
                key = (line["span"]["trace_id"], line["span"]["span_id"])
                if key in self.spans:
                    self.problems.append(f"the manifest lists span {key} twice")
                self.spans[key] = (batch, line["span"])
            elif batch in self.verdicts:
                self.problems.append(f"the manifest has two verdicts on batch {batch}")
            else:
                self.verdicts[batch] = line
        for batch in {batch for batch, _ in self.spans.values()} - self.verdicts.keys():
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
    """Problems in words: spans lost, duplicated, altered, never sent, or recorded though their batch failed."""
    problems = list(manifest.problems)
    received = Counter()
    for line in record:
        if line["signal"] != "traces":
            problems.append(f"a record of {line['signal']} that nobody sent")
            continue
        key = (line["trace_id"], line["span_id"])
        received[key] += 1
        if key not in manifest.spans:
            problems.append(f"span {key} was received and never sent")
            continue
        batch, sent = manifest.spans[key]
        if not manifest.is_accepted(batch):
            problems.append(f"span {key} was received, though batch {batch} failed")
        differs = difference(sent, line)
        if differs:
            problems.append(f"span {key} was altered: {differs}")
    for key, (batch, _) in manifest.spans.items():
        if manifest.is_accepted(batch) and received[key] != 1:
            problems.append(f"span {key} of batch {batch} was received {received[key]} times")
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest")
    parser.add_argument("record")
    options = parser.parse_args()
    manifest = Manifest(options.manifest)
    problems = compare(manifest, records.read(options.record))
    for problem in problems[:PROBLEMS_MAX]:
        print(problem)
    print(f"{len(manifest.spans)} spans in {len(manifest.verdicts)} batches compared, {len(problems)} problem(s)")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
