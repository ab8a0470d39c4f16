#!/usr/bin/env bash
# Counts the instructions that encoding takes a span, and fails above a limit:
#
#   benches/encode_instructions.sh [LIMIT]
set -euo pipefail

limit=${1:-2200}
rounds=8
spans=512
cd "$(dirname "$0")/.."

command -v valgrind >/dev/null || { echo "valgrind is missing: install the package valgrind" >&2; exit 2; }
cargo build --quiet --release -p otlp-embed-benches --bin encode_span
binary=${CARGO_TARGET_DIR:-target}/release/encode_span
out=$(mktemp)
trap 'rm -f "$out"' EXIT
valgrind --tool=callgrind --callgrind-out-file="$out" "$binary" 2>/dev/null | grep -v '^ns_per_span'

counts=$(callgrind_annotate --inclusive=yes --threshold=100 "$out")
# Instructions a span of a function, everything that it calls included.
instructions() {
    local total
    total=$(grep -E "encode_span::$1( |\$)" <<<"$counts" | head -n 1 | awk '{gsub(",", "", $1); print $1}')
    [ -n "$total" ] || { echo "callgrind did not see $1" >&2; exit 2; }
    echo $((total / rounds / spans))
}
batch=$(instructions with_batch)
echo "instructions_per_span with_batch $batch"
echo "instructions_per_span from_owned $(instructions from_owned)"
echo "instructions_per_span with_prost $(instructions with_prost)"
if [ "$batch" -gt "$limit" ]; then
    echo "with_batch takes $batch instructions a span, more than the limit of $limit" >&2
    exit 1
fi
