#!/usr/bin/env python3
"""Checks which types and traits of other crates the public API of otlp-embed shows.

    tests/external_types.py            compare with tests/external_types.txt, then show that the comparison bites
    tests/external_types.py --update   write the list anew

The list is read by whoever upgrades a dependency: a breaking release of a crate named there is a breaking release of
this one. It has two kinds of lines: `exposes PATH` for a type or trait in a public signature, field, bound or
re-export, with every feature on; `implements PATH` for a foreign trait that a public type implements. The standard
library is left out. Paths are those of the definitions.

Needs a nightly toolchain, for rustdoc's JSON.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / "tests" / "external_types.txt"
STANDARD = {"std", "core", "alloc", "proc_macro", "test"}


class Api:
    """The public API as rustdoc sees it: private and hidden items are not in it."""

    def __init__(self, doc):
        self.index = doc["index"]
        self.paths = doc["paths"]
        self.crates = {int(number): crate["name"] for number, crate in doc["external_crates"].items()}
        self.found = set()
        self.sealed = self.items_of_sealed_traits()
        # Whether what is walked may name types of ours that are private.
        self.in_sealed = False

    def items_of_sealed_traits(self):
        """The items of public traits that no module shows: they may be written with types that nobody else can name."""
        local = {int(number): item["inner"] for number, item in self.index.items() if item["crate_id"] == 0}
        shown = set()
        for inner in local.values():
            shown.update(inner["module"]["items"] if "module" in inner else [])
            shown.update([inner["use"]["id"]] if "use" in inner else [])
        traits = {number: inner["trait"] for number, inner in local.items() if "trait" in inner}
        return {item for number, trait in traits.items() if number not in shown for item in trait["items"]}

    def walk(self):
        foreign = set()
        for item in self.index.values():
            if item["crate_id"] == 0 and "impl" in item["inner"]:
                foreign.update(self.walk_impl(item["inner"]["impl"]))
        for number, item in self.index.items():
            kind, inner = next(iter(item["inner"].items()))
            # What stands in an implementation of a foreign trait is the trait's choice, not ours.
            if item["crate_id"] != 0 or kind == "impl" or int(number) in foreign:
                continue
            self.in_sealed = int(number) in self.sealed
            if kind == "use":
                self.add("exposes", inner["id"], inner["source"])
            else:
                self.walk_signature(inner)
        return self.found

    def walk_impl(self, inner):
        """Walks the head of an implementation; gives the items within that a foreign trait prescribes."""
        if inner["is_synthetic"] or inner["blanket_impl"] is not None:
            return inner["items"]
        trait = inner["trait"]
        # Its bounds are written by pin-project-lite and name private types of the macro, which nobody can use.
        if trait is not None and self.is_unpin(trait):
            return inner["items"]
        self.walk_signature(inner["for"])
        self.walk_signature(inner["generics"])
        if trait is None:
            return []
        self.add("implements", trait["id"], trait["path"])
        self.walk_signature(trait["args"])
        is_local = str(trait["id"]) in self.index and self.index[str(trait["id"])]["crate_id"] == 0
        return [] if is_local else inner["items"]

    def is_unpin(self, trait):
        return self.paths.get(str(trait["id"]), {}).get("path") == ["core", "marker", "Unpin"]

    def walk_signature(self, node):
        """Adds every path within: rustdoc writes each as an object of `path`, `id` and `args`."""
        if isinstance(node, list):
            for each in node:
                self.walk_signature(each)
        elif isinstance(node, dict):
            if {"path", "id", "args"} <= node.keys():
                self.add("exposes", node["id"], node["path"])
            for each in node.values():
                self.walk_signature(each)

    def add(self, how, number, written):
        # A re-export of a primitive has no number.
        if number is None:
            return
        summary = self.paths.get(str(number))
        if summary is None:
            # A foreign type always has a path.
            if str(number) in self.index or self.in_sealed:
                return
            sys.exit(f"external_types: rustdoc does not say where {written} comes from")
        if summary["crate_id"] == 0 or self.crates[summary["crate_id"]] in STANDARD:
            return
        self.found.add(f"{how} {'::'.join(summary['path'])}")


def rustdoc():
    """The JSON of the library with every feature."""
    command = ["cargo", "+nightly", "rustdoc", "--quiet", "--locked", "--package", "otlp-embed", "--lib", "--all-features"]
    subprocess.run([*command, "--", "-Zunstable-options", "--output-format", "json"], cwd=ROOT, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return json.loads((ROOT / target / "doc" / "otlp_embed.json").read_text())


def listed():
    lines = (line.split("#")[0].strip() for line in LIST.read_text().splitlines())
    return {line for line in lines if line}


def problems(found, allowed):
    return [f"not on the list: {line}" for line in sorted(found - allowed)] + [
        f"on the list and no longer public: {line}" for line in sorted(allowed - found)
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="write the list anew")
    options = parser.parse_args()
    found = Api(rustdoc()).walk()
    if options.update:
        head = [line for line in LIST.read_text().splitlines() if line.startswith("#")] if LIST.exists() else []
        LIST.write_text("\n".join([*head, *sorted(found)]) + "\n")
        return
    wrong = problems(found, listed())
    for line in wrong:
        print(line)
    if wrong:
        sys.exit(f"external_types: {len(wrong)} difference(s); if meant, run tests/external_types.py --update")
    # A comparison that lets a type pass would be worth nothing: without any one line it must complain.
    for line in found:
        if problems(found, listed() - {line}) != [f"not on the list: {line}"]:
            sys.exit(f"external_types: the check lets {line} pass")
    if not found:
        sys.exit("external_types: found no type of another crate, though requests are made of bytes")
    print(f"{len(found)} types and traits of other crates, all on the list")


if __name__ == "__main__":
    main()
