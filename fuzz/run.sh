#!/bin/sh
# Runs each fuzz target for so many seconds. What it finds is in fuzz/artifacts; interesting inputs are kept in fuzz/corpus.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "fuzz: NOTHING WAS FUZZED: nightly is missing; run 'rustup toolchain install nightly'" >&2
    exit 1
fi
if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "fuzz: cargo-fuzz is missing, installing it"
    cargo install --locked --version 0.13.2 cargo-fuzz || {
        echo "fuzz: NOTHING WAS FUZZED: cargo-fuzz cannot be installed" >&2
        exit 1
    }
fi
cargo +nightly fuzz build
mkdir -p fuzz/artifacts
found=0
for target in envelope retry_after error_document configuration; do
    log=fuzz/artifacts/$target.log
    mkdir -p "fuzz/corpus/$target"
    if cargo +nightly fuzz run "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
        -max_total_time="$seconds" -max_len=65536 -timeout=10 -rss_limit_mb=1024 -malloc_limit_mb=64 \
        -print_final_stats=1 >"$log" 2>&1; then
        inputs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        echo "fuzz: $target: nothing found with $inputs inputs in $seconds s"
    else
        # The last lines say which input it was and how to repeat it.
        tail -n 40 "$log" >&2
        echo "fuzz: $target: FOUND SOMETHING; see $log" >&2
        found=1
    fi
done
exit "$found"
