#!/usr/bin/env python3
"""Draws bars of a comparison: chart.py RESULTS.json OUT.svg FIGURE SCENARIO[,SCENARIO...] TITLE

RESULTS.json is what `throughput.py --json` wrote, FIGURE one of its keys (cpu_s_per_gib, wall_s, mib_s). Each bar is the median of the runs, the
line on it the smallest and largest value.
"""
import json
import statistics
import sys
from html import escape

COLOURS = {"floor": "#9aa0a6", "btsync": "#1a73e8", "libtorrent": "#5f9e4b", "aria2": "#c58f1c", "rqbit": "#a8511f",
           "qbittorrent": "#7b5aa6", "transmission": "#b5424d"}
LEFT, RIGHT, BAR, GAP, TOP = 130, 560, 16, 14, 44
UNITS = {"cpu_s_per_gib": "CPU seconds per GiB, less is better", "wall_s": "seconds, less is better", "mib_s": "MiB/s, more is better"}


def main():
    results, out, figure, names, title = sys.argv[1:6]
    everything = json.load(open(results))
    rows = []
    for name in names.split(","):
        for client, runs in everything[name].items():
            values = [run[figure] for run in runs if figure in run and "failed" not in run]
            if values:
                rows.append((name, client, statistics.median(values), min(values), max(values)))
    most = max(high for *_, high in rows)
    x = lambda value: LEFT + value / most * (RIGHT - LEFT)
    lines, y, last = [], TOP, None
    for name, client, middle, low, high in rows:
        if name != last:
            y += GAP if last else 0
            lines.append(f'<text x="8" y="{y + BAR - 4}" font-weight="bold">{escape(name)}</text>')
            last = name
        lines.append(f'<text x="{LEFT - 6}" y="{y + BAR - 4}" text-anchor="end">{escape(client)}</text>')
        lines.append(f'<rect x="{LEFT}" y="{y}" width="{x(middle) - LEFT:.1f}" height="{BAR - 3}" fill="{COLOURS.get(client, "#777")}"/>')
        lines.append(f'<path d="M{x(low):.1f} {y + BAR / 2 - 1.5}H{x(high):.1f}" stroke="#202124" stroke-width="1.5"/>')
        lines.append(f'<text x="{x(high) + 6:.1f}" y="{y + BAR - 4}">{middle:.2f}</text>')
        y += BAR
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {RIGHT + 60} {y + 12}" font-family="sans-serif" font-size="12" role="img">'
            f'<title>{escape(title)}</title><rect width="100%" height="100%" fill="#fff"/>'
            f'<text x="8" y="18" font-size="14" font-weight="bold">{escape(title)}</text><text x="8" y="34" fill="#5f6368">{escape(UNITS.get(figure, figure))}</text>')
    open(out, "w").write("\n".join([head, *lines, "</svg>", ""]))


main()
