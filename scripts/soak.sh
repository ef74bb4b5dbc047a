#!/usr/bin/env bash
# Soak test: runs one download after the other for SOAK_MINUTES (30) with random faults: kill -9, stalls, resets, corrupt data on
# the wire and on disk, a full disk. Exit code: 0 if every download had the right bytes and memory use did not grow.
# SOAK_MB sets the payload's size (64), SOAK_SEED repeats a run's random choices, BTSYNC sets another binary. Needs only python3.
set -euo pipefail
cd "$(dirname "$0")/.."
btsync=${BTSYNC:-${CARGO_TARGET_DIR:-target}/release/btsync}
[ -x "$btsync" ] || { echo "soak: no binary: run make build first, or set BTSYNC" >&2; exit 1; }
exec python3 scripts/soak.py "$btsync"
