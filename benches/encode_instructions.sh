#!/usr/bin/env bash
# Counts the instructions that encoding takes a span, a log record and a data point, and fails above the limits:
#
#   benches/encode_instructions.sh [SPAN [LOG [POINT]]]
set -euo pipefail

span_limit=${1:-2000}
log_limit=${2:-1100}
point_limit=${3:-600}
rounds=8
# The same for all: SPANS, LOGS and POINTS in benches/src.
items=512
cd "$(dirname "$0")/.."

command -v valgrind >/dev/null || { echo "valgrind is missing: install the package valgrind" >&2; exit 2; }
cargo build --quiet --release -p otlp-embed-benches --bins
out=$(mktemp)
trap 'rm -f "$out"' EXIT

# Instructions an item of a function of a program, everything that it calls included.
instructions() {
    local total
    total=$(grep -E "$1::$2( |\$)" <<<"$counts" | head -n 1 | awk '{gsub(",", "", $1); print $1}')
    [ -n "$total" ] || { echo "callgrind did not see $1::$2" >&2; exit 2; }
    echo $((total / rounds / items))
}

failed=
# Counts for one program, which encodes one kind of item.
count() {
    local kind=$1 limit=$2 binary batch way
    binary=${CARGO_TARGET_DIR:-target}/release/encode_$kind
    valgrind --tool=callgrind --callgrind-out-file="$out" "$binary" 2>/dev/null |
        grep -v '^ns_per_item' | sed "s/^/$kind /"
    counts=$(callgrind_annotate --inclusive=yes --threshold=100 "$out")
    for way in with_batch from_owned with_prost; do
        echo "$kind instructions_per_item $way $(instructions "encode_$kind" $way)"
    done
    batch=$(instructions "encode_$kind" with_batch)
    if [ "$batch" -gt "$limit" ]; then
        echo "with_batch takes $batch instructions a $kind, more than the limit of $limit" >&2
        failed=yes
    fi
}

count span "$span_limit"
count log "$log_limit"
count metric "$point_limit"
[ -z "$failed" ]
