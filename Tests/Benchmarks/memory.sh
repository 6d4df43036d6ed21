#!/usr/bin/env bash
# Peak memory with 1,000,000 distinct patients and 100,000 records that are parked behind 100 patients' first events. Needs gcc,
# librdkafka-dev, python3, and some 3 GB of memory for the broker that holds the events.
#
#   swift build -c release --product Benchmarks && Tests/Benchmarks/memory.sh [PATIENTS [PARKED]]
set -euo pipefail
cd "$(dirname "$0")/../.."
patients=${1:-1000000} parked=${2:-100000}
benchmarks=$(swift build -c release --show-bin-path)/Benchmarks
fixtures=Tests/Benchmarks/Fixtures
work=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; rm -rf "$work"' EXIT
gcc -O2 -w -o "$work/broker" $fixtures/broker.c -lpthread
gcc -O2 -w -o "$work/consume" $fixtures/consume.c -lrdkafka
python3 $fixtures/generate-events.py 100000 "$work/events.tsv"
kafka=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$work/broker" "$kafka" 6 & pids+=($!)
sleep 1
export BROKERS=127.0.0.1:$kafka OTEL_SDK_DISABLED=true
# Keys alone tell patients apart: lanes and queues go by them. Every so often comes one of 100 whose first event fails.
total=$((patients + parked + 100))
passes=()
for ((at = 0; at < total; at += 100000)); do passes+=("$work/events.tsv"); done
awk -F '\t' -v OFS='\t' -v t=$total -v b=$((parked + 100)) '
    NR > t { exit }
    { $1 = int(NR * b / t) != int((NR - 1) * b / t) ? "blocked-" (n++ % 100) : "patient-" NR } 1' "${passes[@]}" >"$work/many.tsv"
"$work/consume" load "$work/many.tsv" fhir.Patient.many >/dev/null
"$benchmarks" parked "$BROKERS" fhir.Patient.many m-1 $total
