#!/usr/bin/env python3
"""Compares clients in realistic swarms: slow uplinks, dead addresses, large pieces, stalling peers, magnet links.

    python3 benches/compare/compare.py [SCENARIO[,SCENARIO...] [CLIENT[,CLIENT...]]] [--runs N]

Scenarios   `mixed` (all clients in one swarm), and those in scenarios.py; by default all. `--list` prints them.
Clients     btsync libtorrent transmission qbittorrent aria2; by default those that are installed
Environment BTSYNC  the btsync binary (target/release/btsync)      LT_PYTHON  a python with the libtorrent wheel (.venv/bin/python)
            SCRATCH a folder for downloads (default: a new temporary one, removed at the end)

It needs root, or a system that allows user namespaces, because it creates network namespaces: no packet leaves the machine. Every wait
is bounded; all scenarios with five clients take more than an hour. The table is in Markdown.
"""
import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import scenarios
from clients import CLIENTS, Running, is_installed
from scenarios import BOX, MAIN, ONE_BY_ONE
from swarm import Loop


class Stage:
    """The environment of one run of a scenario: network, folders and processes, all removed at its end."""

    def __init__(self, scratch):
        self.scratch = Path(tempfile.mkdtemp(dir=scratch))
        self.loop, self.runs = Loop(), []
        self.keeper = subprocess.Popen(["unshare", "-n", "sleep", "1000"])
        self.box = self.keeper.pid
        while os.readlink(f"/proc/{self.box}/ns/net") == os.readlink("/proc/self/ns/net"):
            time.sleep(0.01)
        inside = f"nsenter -t {self.box} -n"
        shell(f"ip link add near type veth peer name far && ip link set far netns {self.box}",
              f"ip addr add {MAIN}/24 dev near && ip link set near up",
              *[f"ip addr add {scenarios.across(n)}/24 dev near" for n in range(1, 10)],
              f"{inside} sh -c 'ip addr add {BOX}/24 dev far && ip link set lo up && ip link set far up'",
              f"{inside} ip route add default via {MAIN}",
              f"ip addr add {scenarios.MAIN6}/64 dev near nodad || true",
              f"{inside} ip addr add {scenarios.BOX6}/64 dev far nodad || true")

    def path(self, name):
        return self.scratch / name

    def folder(self, name):
        self.path(name).mkdir(exist_ok=True)
        return self.path(name)

    def start(self, client, what, out, host, words=(), inside=None):
        run = Running(self.scratch, client, what, out, host, words=words, inside=inside)
        self.runs.append(run)
        return run

    def uplink(self, rate):
        """Limits the box's upload to `rate` bytes per second, with a queue of a quarter second. Connections use cubic, as on most systems,
        whatever this system's default is."""
        inside = f"nsenter -t {self.box} -n"
        shell(f"{inside} tc qdisc add dev far root tbf rate {rate * 8}bit burst 16kb latency 250ms",
              f"{inside} ip route change 10.90.9.0/24 dev far proto kernel scope link src {BOX} congctl cubic || true")

    def close(self):
        for run in self.runs:
            run.kill()
        self.loop.close()
        self.keeper.kill()
        self.keeper.wait()
        subprocess.run(["ip", "link", "del", "near"], stderr=subprocess.DEVNULL, check=False)
        if not os.environ.get("KEEP"):
            shutil.rmtree(self.scratch, ignore_errors=True)


def shell(*lines):
    for line in lines:
        subprocess.run(["sh", "-c", line], check=True)


def name_the_tracker():
    """Adds a host name with both of the trackers' addresses, in this mount namespace only."""
    with tempfile.NamedTemporaryFile("w", delete=False) as hosts:
        hosts.write(Path("/etc/hosts").read_text())
        hosts.write(f"\n{MAIN} {scenarios.TWO_FAMILIES}\n{scenarios.MAIN6} {scenarios.TWO_FAMILIES}\n")
    os.chmod(hosts.name, 0o644)
    shell(f"mount --bind {hosts.name} /etc/hosts")
    os.unlink(hosts.name)


def once(scratch, play):
    """Runs a scenario once on a stage of its own. A failure is returned as a figure."""
    stage = Stage(scratch)
    try:
        return play(stage)
    except Exception as error:  # one client's failure must not end the comparison
        return {"failed": f"{type(error).__name__}: {error}"}
    finally:
        stage.close()


def cell(values):
    """The median and range of numbers, or the texts if there are any."""
    texts = [value for value in values if isinstance(value, str)]
    if texts or not values:
        return ", ".join(sorted(set(texts)))
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.2f}" if len(values) == 1 else f"{middle:.2f} ({low:.2f}-{high:.2f})"


def table(title, about, rows):
    """Prints a table. `rows` maps each client to a list of figures, one per run."""
    keys = list(dict.fromkeys(key for runs in rows.values() for figures in runs for key in figures))
    print(f"\n### {title}\n\n{about}\n\n| client | {' | '.join(keys)} |\n|---{'|---' * len(keys)}|")
    for client, runs in rows.items():
        cells = [cell([figures[key] for figures in runs if key in figures]) for key in keys]
        print(f"| {client} | {' | '.join(cells)} |", flush=True)


def about(function):
    return " ".join(function.__doc__.split())


def note(name, client, turn, figures):
    shown = " ".join(f"{key}={value:.2f}" if isinstance(value, float) else f"{key}={value}" for key, value in figures.items())
    print(f"  {name} {client} run {turn + 1}: {shown}", file=sys.stderr, flush=True)


def mixed(scratch, runs):
    rows, without = {}, {}
    for turn in range(runs):
        for client, figures in once(scratch, scenarios.mixed).items():
            rows.setdefault(client, []).append(figures)
            note("mixed", client, turn, figures)
        for client, figures in once(scratch, lambda stage: scenarios.mixed(stage, "btsync")).items():
            without.setdefault(client, []).append(figures)
            note("mixed without btsync", client, turn, figures)
    table("mixed", about(scenarios.mixed), rows)
    table("mixed, without btsync", "The same swarm: nobody should end later with btsync in it than without.", without)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="?", default=",".join(["mixed", *ONE_BY_ONE]))
    parser.add_argument("clients", nargs="?", default=",".join(CLIENTS))
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    if args.list:
        for function in [scenarios.mixed, *ONE_BY_ONE.values()]:
            print(f"{function.__name__:14} {about(function)}")
        return
    if os.environ.get("COMPARE_INSIDE") != "1":
        os.environ["COMPARE_INSIDE"] = "1"
        rootless = ["-r"] if os.getuid() else []
        os.execvp("unshare", ["unshare", *rootless, "-n", "-m", "--kill-child", "--fork", sys.executable, *sys.argv])
    addresses = " ".join(f"ip addr add {scenarios.host(n)}/32 dev lo;" for n in range(1, 255))
    shell(f"ip link set lo up; {addresses}", "ip route add local 10.92.0.0/16 dev lo")
    name_the_tracker()
    missing = [client for client in args.clients.split(",") if not is_installed(client)]
    if missing:
        print(f"not installed, left out: {', '.join(missing)} (scripts/test-setup.sh; make build)", file=sys.stderr)
    scratch = os.environ.get("SCRATCH") or tempfile.mkdtemp(prefix="compare-")
    for name in args.scenarios.split(","):
        if name == "mixed":
            mixed(scratch, args.runs)
            continue
        play, rows = ONE_BY_ONE[name], {}
        for turn in range(args.runs):
            for client in [client for client in args.clients.split(",") if client not in missing]:
                figures = once(scratch, lambda stage, client=client: play(stage, client))
                rows.setdefault(client, []).append(figures)
                note(name, client, turn, figures)
        table(name, about(play), rows)
    if not os.environ.get("SCRATCH"):
        shutil.rmtree(scratch, ignore_errors=True)


main()
