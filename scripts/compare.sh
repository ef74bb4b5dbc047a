#!/usr/bin/env bash
# Compares the throughput of clients: compare.sh SCENARIOS CLIENTS RUNS. Prints tables, and draws the charts of docs/pictures if d1 and d20
# are among the scenarios. The results stay in the folder COMPARE_OUT (target/compare).
set -euo pipefail
cd "$(dirname "$0")/.."
out=${COMPARE_OUT:-target/compare}
mkdir -p "$out"
export SCRATCH=${SCRATCH:-$PWD/$out/scratch} # payloads are made once
throughput=benches/compare/throughput
python3 "$throughput/throughput.py" "$1" "$2" --runs "$3" --json "$out/results.json" | tee "$out/tables.md"
case ",$1," in
*,d1,*d20,*)
    python3 "$throughput/chart.py" "$out/results.json" docs/pictures/compare-cpu.svg cpu_s_per_gib d1,d20 "CPU time of a download of 1 GiB from 1 and 20 seeders"
    python3 "$throughput/chart.py" "$out/results.json" docs/pictures/compare-wall.svg wall_s d1,d20 "Time of a download of 1 GiB from 1 and 20 seeders"
    ;;
esac
