#!/usr/bin/env bash
# Fuzzes every target, or those named, for FUZZ_SECONDS each (60). Seeds come from testdata/fuzz; new inputs go to fuzz/corpus,
# crashing inputs to fuzz/artifacts. Fix the bug, then keep the input as testdata/fuzz/<target>/found-<what>.
# No address sanitizer, because we have no unsafe code: the targets look for panics, with overflow checks on.
# Exit code: 0 if nothing was found, 1 if a target failed, or if the nightly compiler or cargo-fuzz is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'fuzz: %s\n' "$*" >&2; }

if ! rustc +nightly --version >/dev/null 2>&1; then
    say "no nightly compiler: rustup toolchain install nightly --profile minimal"
    exit 1
fi
if ! cargo fuzz --version >/dev/null 2>&1; then
    say "installing cargo-fuzz"
    cargo install --locked --quiet cargo-fuzz || { say "cargo-fuzz could not be installed"; exit 1; }
fi

targets=("$@")
[ "${#targets[@]}" -gt 0 ] || mapfile -t targets < <(cargo fuzz list)
failed=()
for target in "${targets[@]}"; do
    mkdir -p "fuzz/corpus/$target"
    say "$target, ${FUZZ_SECONDS:-60} s"
    cargo +nightly fuzz run --sanitizer=none "$target" "fuzz/corpus/$target" "testdata/fuzz/$target" -- \
        -max_total_time="${FUZZ_SECONDS:-60}" -timeout=10 -rss_limit_mb=512 -print_final_stats=1 || failed+=("$target")
done
if [ "${#failed[@]}" -gt 0 ]; then
    say "found something: ${failed[*]}"
    exit 1
fi
say "nothing found"
