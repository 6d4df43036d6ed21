#!/usr/bin/env bash
# Requests that the ingress server takes in, each with one Patient of 1 KiB and answered when Kafka has acknowledged it, against a
# bare route of Hummingbird that only reads the body. An in-memory broker on loopback, wrk on the same two cores, 64 connections.
# Prints requests a second, p50 and p99, CPU µs of the server a request, and records of a produce batch; alternating runs.
# Needs gcc, wrk, python3, curl.
#
#   swift build -c release --product triage && swift build -c release --product Benchmarks && Tests/Benchmarks/ingress.sh [RUNS [SECONDS]]
#
# ROUTE is "/commands" by default; "/webhooks/fhir" measures webhooks.
set -euo pipefail
cd "$(dirname "$0")/../.."
runs=${1:-3} seconds=${2:-10} route=${ROUTE:-/commands} connections=${CONNECTIONS:-64}
bin=${BIN:-$(swift build -c release --show-bin-path)}
fixtures=Tests/Benchmarks/Fixtures
work=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; rm -rf "$work"' EXIT
gcc -O2 -w -o "$work/broker" $fixtures/broker.c -lpthread
gcc -O2 -w -o "$work/sink" $fixtures/otlp-sink.c
port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
kafka=$(port) otlp=$(port) bare=$(port)
"$work/broker" "$kafka" 6 >"$work/batches" & broker=$!; pids+=($!)
"$work/sink" "$otlp" >/dev/null & pids+=($!)
echo benchmark-token-0123456789 >"$work/token"
python3 $fixtures/generate-events.py 1 "$work/event.tsv"
# The patient has an id in a webhook, and none in a command to create one.
python3 - "$work" "$route" <<'PYTHON'
import json, sys
work, route = sys.argv[1:]
resource = json.loads(open(work + "/event.tsv").read().split("\t")[2])["data"]
resource["text"] = {"status": "generated", "div": "<div>" + "x" * max(0, 1024 - len(json.dumps(resource, separators=(",", ":"))) - 40) + "</div>"}
if route == "/commands":
    del resource["id"]
    body = {"type": "CreatePatient", "data": resource}
else:
    body = resource
body = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
# Each webhook is about another Patient: what was captured before isn't published again.
before, _, after = body.partition(resource.get("id", "\0"))
open(work + "/load.lua", "w").write(
    'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/fhir+json"\n'
    'wrk.headers["Authorization"] = "Bearer benchmark-token-0123456789"\n'
    'local before, after, isFixed = [==[' + before + ']==], [==[' + after + ']==], ' + ("false" if after else "true") + '\n'
    'local count, run = 0, string.format("%x", os.time())\n'
    'function init() math.randomseed(os.time()); run = run .. string.format("-%08x-", math.random(0, 2147483647)) end\n'
    'function request()\n  count = count + 1\n'
    '  return wrk.format(nil, nil, nil, isFixed and before or before .. run .. string.format("%012x", count) .. after)\nend\n'
    'done = function(summary, latency, requests)\n'
    '  local e = summary.errors\n'
    '  io.write(string.format("%d %d %.0f %.0f %d\\n", summary.requests, summary.duration, latency:percentile(50),\n'
    '    latency:percentile(99), e.connect + e.read + e.write + e.status + e.timeout))\nend\n')
PYTHON
ticks=$(getconf CLK_TCK)
cpu() { awk '{ sub(/.*\) /, ""); print $12 + $13 }' "/proc/$1/stat"; }
batches() { : >"$work/batches"; kill -USR1 "$broker"; sleep 0.2; awk '{ b += $2; r += $3 } END { print b + 0, r + 0 }' "$work/batches"; }
measure() { # label, pid, url
    wrk -t 1 -c "$connections" -d 2 -s "$work/load.lua" "$3" >/dev/null
    local before after first last
    first=$(batches) before=$(cpu "$2")
    line=$(wrk -t 1 -c "$connections" -d "$seconds" -s "$work/load.lua" "$3" | tail -1)
    after=$(cpu "$2") last=$(batches)
    echo "$line $((after - before)) $ticks $first $last" | awk -v label="$1" '{
        printf "%-16s %7.0f requests/s  p50 %6.2f ms  p99 %6.2f ms  %6.1f us CPU a request  %s%s\n", label, $1 / $2 * 1e6, $3 / 1000,
            $4 / 1000, $6 / $7 / $1 * 1e6, ($10 > $8 ? sprintf("%.1f records a batch", ($11 - $9) / ($10 - $8)) : ""), ($5 ? "  errors " $5 : "") }'
}
until_listening() { for _ in $(seq 100); do curl -s -o /dev/null "http://127.0.0.1:$1/" && return; sleep 0.1; done; echo "nobody listens" >&2; exit 1; }
for _ in $(seq "$runs"); do
    "$bin/Benchmarks" bare-route "$bare" & bare_pid=$!; pids+=($!)
    until_listening "$bare"
    measure "bare route" "$bare_pid" "http://127.0.0.1:$bare$route"
    kill "$bare_pid"; wait "$bare_pid" 2>/dev/null || true
    for disabled in true false; do
        listen=$(port)
        export OTEL_SDK_DISABLED=$disabled OTEL_METRICS_EXPORTER=none OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:$otlp
        if [[ $route == /commands ]]; then taking=(--accept-commands --command-token-file "$work/token")
        else taking=(--webhooks --webhook-token-file "$work/token"); fi
        "$bin/triage" run -b "127.0.0.1:$kafka" --no-events --http off --listen "127.0.0.1:$listen" \
            "${taking[@]}" >"$work/out" 2>"$work/err" & triage=$!; pids+=($!)
        until_listening "$listen"
        measure "$([ $disabled = true ] && echo untraced || echo traced)" "$triage" "http://127.0.0.1:$listen$route"
        kill "$triage"; wait "$triage" 2>/dev/null || { tail -3 "$work/err" >&2; }
    done
done
