#!/usr/bin/env bash
# A soak: downloads one after the other for SOAK_MINUTES (30), while what can go wrong goes wrong at random: kill -9, stalls, resets,
# corrupt data on the wire and on disk, a full disk. Ends with 0 where every download had the right bytes and memory stayed flat.
# SOAK_MB sizes the payload (64), SOAK_SEED repeats a run's dice, BTSYNC names another binary. Needs python3 and nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."
btsync=${BTSYNC:-${CARGO_TARGET_DIR:-target}/release/btsync}
[ -x "$btsync" ] || { echo "soak: no binary: run make build first, or set BTSYNC" >&2; exit 1; }
exec python3 scripts/soak.py "$btsync"
