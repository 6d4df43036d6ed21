#!/usr/bin/env bash
# The whole of `triage run` against the fixtures: 200,000 events of 1 KiB from an in-memory broker, a no-op handler, spans to a
# sink that counts; once with distinct keys, once with 1,000 patients of whom one is hot; and the retry path, where each event
# fails once. Beside it, in the same run, the bare C loop on the same topic. Prints CPU µs an event, events a second, peak
# memory; alternating runs, since machines are noisy. Needs gcc, librdkafka-dev, python3, curl.
#
#   swift build -c release --product triage && swift build -c release --product Benchmarks && Tests/Benchmarks/throughput.sh [RUNS [EVENTS]]
set -euo pipefail
cd "$(dirname "$0")/../.."
runs=${1:-5} events=${2:-200000}
triage=$(swift build -c release --show-bin-path)/triage
fixtures=Tests/Benchmarks/Fixtures
work=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; rm -rf "$work"' EXIT
gcc -O2 -w -o "$work/broker" $fixtures/broker.c -lpthread
gcc -O2 -w -o "$work/consume" $fixtures/consume.c -lrdkafka
gcc -O2 -w -o "$work/retry" $fixtures/retry.c -lrdkafka
gcc -O2 -w -o "$work/sink" $fixtures/otlp-sink.c
python3 $fixtures/generate-events.py "$events" "$work/events.tsv"
port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
kafka=$(port) otlp=$(port)
"$work/broker" "$kafka" 6 & pids+=($!)
"$work/sink" "$otlp" & pids+=($!)
sleep 1
export BROKERS=127.0.0.1:$kafka
"$work/consume" load "$work/events.tsv" fhir.Patient.created >/dev/null
# The same events of 1,000 patients, of whom one has a tenth.
awk -F '\t' -v OFS='\t' '{ $1 = NR % 10 ? "patient-" (NR % 999) : "patient-hot" } 1' "$work/events.tsv" >"$work/hot.tsv"
"$work/consume" load "$work/hot.tsv" fhir.Patient.updated >/dev/null
benchmarks=${triage%/*}/Benchmarks
show() { # label, reads the summary
    python3 -c '
import json, sys
d = json.load(sys.stdin)
if "user" in d: n, cpu, wall, rss = d["n"], d["user"] + d["sys"], d["wall"], d["rss_kb"] / 1024
else: n, cpu, wall, rss = d["completed"], d["cpu_seconds"], d["duration_seconds"], d["max_rss_bytes"] / 1048576
print("%-14s %6.2f us/event %9.0f events/s %5.0f MiB  %s" % (sys.argv[1], cpu / n * 1e6, n / wall, rss,
    "" if "user" in d else "spans exported %d dropped %d" % (d["spans_exported"], d["spans_dropped"])))' "$1"
}
for run in $(seq "$runs"); do
    "$work/consume" consume fhir.Patient.created "c-$run" "$events" | show "C loop"
    "$work/consume" load "$work/events.tsv" "c-retries-$run" >/dev/null
    "$work/retry" "c-retries-$run" "cr-$run" "$events" | show "C retry"
    for disabled in true false; do
        label=$([ $disabled = true ] && echo untraced || echo traced)
        export OTEL_SDK_DISABLED=$disabled OTEL_METRICS_EXPORTER=none OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:$otlp
        for keys in created updated; do
            "$triage" run -b "$BROKERS" --group "t-$disabled-$keys-$run" -t fhir.Patient.$keys --handler none -e -o json --http off \
                2>/dev/null | show "$label$([ $keys = updated ] && echo " hot")"
        done
        if [[ -x $benchmarks ]]; then
            # A topic of its own each time: its retry topic is full afterwards.
            "$work/consume" load "$work/events.tsv" "retries-$disabled-$run" >/dev/null
            "$benchmarks" retry-path "$BROKERS" "retries-$disabled-$run" "r-$disabled-$run" "$events" 2>/dev/null | show "retry $label"
        fi
    done
done
