#!/usr/bin/env bash
# Runs tests under the thread sanitizer: tests/swarm/loopback.rs (whole programs on loopback) and tests/files/pieces_stress.rs, or
# those named: scripts/tsan.sh network::tracker. Builds the standard library too, so that the sanitizer sees its locks. Needs a
# nightly compiler with rust-src. Exit code: that of the tests, which fail if a program that they start reports a race.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! [ -d "$(rustc +nightly --print sysroot 2>/dev/null)/lib/rustlib/src/rust" ]; then
    printf 'tsan: no nightly compiler with its sources: rustup component add rust-src --toolchain nightly\n' >&2
    exit 1
fi
tests=("$@")
[ "${#tests[@]}" -gt 0 ] || tests=(files::pieces_stress swarm::loopback)
binaries=() filters=()
for test in "${tests[@]}"; do
    binaries+=("--test=${test%%::*}") filters+=("${test#*::}::")
done
target="$(rustc +nightly -vV | sed -n 's/^host: //p')"
export RUSTFLAGS="-Zsanitizer=thread" CARGO_PROFILE_DEV_OPT_LEVEL=1
export TSAN_OPTIONS="halt_on_error=1 second_deadlock_stack=1 ${TSAN_OPTIONS:-}"
cargo +nightly test -Zbuild-std --target "$target" --target-dir "${CARGO_TARGET_DIR:-target}/tsan" \
    "${binaries[@]}" -- --test-threads=1 "${filters[@]}"
