#!/usr/bin/env bash
# Instructions and allocations of one operation of each benchmark: the difference between a run of 2N and one of N, so that
# starting up doesn't count. Needs valgrind. Build first: swift build -c release --product Benchmarks
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
binary=$work/Benchmarks
# valgrind gives up on Swift's debug information.
strip -o "$binary" "$(swift build -c release --show-bin-path)/Benchmarks"

instructions() { # name count
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$binary" "$1" "$2" 2>&1 | sed -n 's/.*Collected : *//p'
}
allocations() { # name count
    valgrind --tool=memcheck --leak-check=no "$binary" "$1" "$2" 2>&1 | sed -n 's/.*total heap usage: \([0-9,]*\) allocs.*/\1/p' | tr -d ,
}
for name in ${*:-decode span encode span-unsampled event-unsampled engine engine-traced webhook webhook-traced command counter counter-exemplar-pushed histogram histogram-exemplar-pushed histogram-exponential}; do
    count=2000
    i1=$(instructions "$name" $count) i2=$(instructions "$name" $((2 * count)))
    a1=$(allocations "$name" $count) a2=$(allocations "$name" $((2 * count)))
    awk -v n="$name" -v i=$((i2 - i1)) -v a=$((a2 - a1)) -v c=$count 'BEGIN { printf "%-26s %8.0f instructions %6.2f allocations\n", n, i / c, a / c }'
done
