#!/usr/bin/env python3
"""Draws a captured terminal screen (tmux capture-pane -p -e, on standard input) as an SVG picture on standard output.

Supports the styles that btsync uses: bold, dim, and the eight colours of the terminal's palette. Each run of one style is a text
of fixed length, so that columns stay aligned with any font. Usage: ansi2svg.py COLUMNS [TITLE]
"""

import html
import re
import sys
import unicodedata

WIDTH, HEIGHT, PAD = 8.4, 18, 14
PALETTE = ["#3b4252", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#dcdfe4"]
GROUND, INK = "#1e2127", "#dcdfe4"


def columns(text):
    """The number of terminal columns that a text takes."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 0 if unicodedata.combining(c) else 1 for c in text)


def runs(line, style):
    """Splits a line at its style changes: yields each part with its style (colour, dim, bold)."""
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        if not part.startswith("\x1b"):
            if part:
                yield part, dict(style)
            continue
        for code in (int(code or 0) for code in part[2:-1].split(";")):
            if code == 0:
                style.update(colour=None, dim=False, bold=False)
            elif code in (1, 2):
                style["bold" if code == 1 else "dim"] = True
            elif code == 22:
                style.update(dim=False, bold=False)
            elif 30 <= code <= 37:
                style["colour"] = code - 30
            elif code == 39:
                style["colour"] = None


def text(run, style, at, row):
    """A run as an SVG element. Leaves out blanks at both ends, which are invisible."""
    shown = run.strip(" ")
    if not shown:
        return ""
    at += columns(run) - columns(run.lstrip(" "))
    fill = INK if style["colour"] is None else PALETTE[style["colour"]]
    more = ' fill-opacity=".55"' if style["dim"] else ""
    more += ' font-weight="bold"' if style["bold"] else ""
    x, y, length = PAD + at * WIDTH, PAD + row * HEIGHT + 13, columns(shown) * WIDTH
    return (
        f'<text x="{x:.1f}" y="{y}" fill="{fill}"{more} textLength="{length:.1f}" '
        f'lengthAdjust="spacingAndGlyphs" xml:space="preserve">{html.escape(shown)}</text>'
    )


def main():
    width = int(sys.argv[1])
    title = sys.argv[2] if len(sys.argv) > 2 else "btsync"
    lines = sys.stdin.read().rstrip("\n").split("\n")
    style = {"colour": None, "dim": False, "bold": False}
    w, h = width * WIDTH + 2 * PAD, len(lines) * HEIGHT + 2 * PAD
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{w:.0f}" height="{h}" viewBox="0 0 {w:.0f} {h}" role="img">',
        f"<title>{html.escape(title)}</title>",
        f'<rect width="100%" height="100%" rx="8" fill="{GROUND}"/>',
        '<g font-family="DejaVu Sans Mono,Menlo,Consolas,monospace" font-size="14">',
    ]
    for row, line in enumerate(lines):
        at = 0
        for run, now in runs(line, style):
            out.append(text(run, now, at, row))
            at += columns(run)
    out += ["</g>", "</svg>"]
    print("\n".join(line for line in out if line))


main()
