#!/usr/bin/env python3
"""Measures uTP: make bench-utp, or measure-utp.py [--btsync PROGRAM] [--rounds N] [PART...]

loss      8 MB over 100 ms with 1 % loss in both directions: btsync and libtorrent with each other, in both roles
loopback  without a path between: btsync, libtorrent and Transmission with themselves; also the CPU time of both sides
beside    through a bottleneck of 20 Mbit/s: alone, and beside a TCP transfer (CUBIC, BBR) that came first
idle      how often the threads of an idle connection wake up

The table has medians and ranges. scripts/tun_relay.py is the path. Use an idle machine, and `unshare -rn`, because addresses and
rules of the firewall are set.
"""
import argparse
import atexit
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PYTHON = os.environ.get("LT_PYTHON", f"{ROOT}/.venv/bin/python")
NEAR, FAR = "10.90.0.1", "10.90.0.2"
ONE, OTHER, TRACKER = "10.91.0.1", "10.91.0.2", "10.91.0.3"
PORT, PATIENCE = 51000, 120
TICKS = os.sysconf("SC_CLK_TCK")
# What each client transfers without a path between, in MiB, so that each takes a while and none too long.
SIZES = {"btsync": 512, "libtorrent": 128, "transmission": 64}


def bencode(value):
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, bytes):
        return b"%d:%s" % (len(value), value)
    return b"d" + b"".join(bencode(key) + bencode(value[key]) for key in sorted(value)) + b"e"


class Swarm:
    """A payload, its torrent, and the processes of one measurement."""

    def __init__(self, size, piece_length=1 << 18):
        self.folder = tempfile.mkdtemp(prefix="btsync-utp-", dir="/dev/shm")
        self.processes, self.count = [], 0
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        atexit.register(self.stop)
        os.mkdir(f"{self.folder}/seed")
        pieces, self.digest, left = bytearray(), hashlib.sha1(), size
        with open(f"{self.folder}/seed/payload", "wb") as file:
            while left > 0:
                piece = os.urandom(min(piece_length, left))
                pieces += hashlib.sha1(piece).digest()
                self.digest.update(piece)
                file.write(piece)
                left -= len(piece)
        info = {b"length": size, b"name": b"payload", b"piece length": piece_length, b"pieces": bytes(pieces)}
        self.torrent = f"{self.folder}/payload.torrent"
        with open(self.torrent, "wb") as file:
            file.write(bencode({b"announce": f"http://{TRACKER}:6969/announce".encode(), b"info": info}))

    def start(self, command, **more):
        self.count += 1
        log = open(f"{self.folder}/log{self.count}", "wb")
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "HOME": self.folder}, **more)
        process.log = log.name
        self.processes.append(process)
        return process

    def stop(self):
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()
        self.processes.clear()

    def client(self, name, address, peer, seeds, prefix=()):
        """Starts a client; a leecher dials `peer`. Returns its process, and the folder of a leecher."""
        self.count += 1
        port = PORT + self.count
        out = f"{self.folder}/seed" if seeds else f"{self.folder}/out{self.count}"
        os.makedirs(out, exist_ok=True)
        if name == "btsync":
            command = [BTSYNC, self.torrent, out, "--listen-port", str(port), "--no-dht", "--no-lsd", "--plain", "--interface", address,
                       "--transport", "utp", "--encryption", "off", "--bt-exclude-tracker", "*", "--verbose"]
            command += ["--seed"] if seeds else ["--peer", peer] if peer else []
        elif name == "libtorrent":
            command = [PYTHON, f"{ROOT}/scripts/lt_peer.py", self.torrent, out, address, str(port), "enable_incoming_utp=1",
                       "enable_outgoing_utp=1", "enable_incoming_tcp=0", "enable_outgoing_tcp=0", "in_enc_policy=2", "out_enc_policy=2"]
            command += [] if seeds else [f"peer={peer}"]
        else:
            command = self.transmission(address, port, out)
        process = self.start([*prefix, *command])
        process.port, process.out = port, out
        return process

    def transmission(self, address, port, out):
        home = f"{self.folder}/home{self.count}"
        os.makedirs(f"{home}/watch")
        shutil.copy(self.torrent, f"{home}/watch")
        with open(f"{home}/done", "w") as script:
            script.write(f"#!/bin/sh\necho complete > {out}.complete\n")
        os.chmod(f"{home}/done", 0o755)
        with open(f"{home}/settings.json", "w") as file:
            json.dump({"dht-enabled": False, "lpd-enabled": False, "pex-enabled": False, "utp-enabled": True, "encryption": 0,
                       "port-forwarding-enabled": False, "download-dir": out, "incomplete-dir-enabled": False, "peer-port": port,
                       "rpc-enabled": False, "bind-address-ipv4": address, "bind-address-ipv6": "::1", "watch-dir": f"{home}/watch",
                       "watch-dir-enabled": True, "script-torrent-done-enabled": True, "script-torrent-done-filename": f"{home}/done"},
                      file)
        return ["transmission-daemon", "-f", "-g", home, "-e", "/dev/null"]

    def await_seed(self, process):
        """Waits until a seed has checked its files."""
        if process.args[-1] != "/dev/null":
            while not any(word in open(process.log).read() for word in ("complete", "seeding", "Seeding")):
                assert process.poll() is None, open(process.log).read()
                time.sleep(0.05)
        else:
            time.sleep(5)

    def fetch(self, leecher, name, begun):
        """Waits for the leecher. Returns the seconds since `begun`, and the CPU seconds of the leecher."""
        while time.monotonic() < begun + PATIENCE:
            if name == "btsync":
                pid, status, usage = os.wait4(leecher.pid, os.WNOHANG)
                if pid:
                    leecher.returncode = os.waitstatus_to_exitcode(status)
                    assert leecher.returncode == 0, open(leecher.log).read()[-2000:]
                    return time.monotonic() - begun, usage.ru_utime + usage.ru_stime
            elif os.path.exists(f"{leecher.out}.complete") or "\ncomplete" in "\n" + open(leecher.log).read():
                return time.monotonic() - begun, cpu(leecher)
            time.sleep(0.005)
        print(f"  {name} has not finished after {PATIENCE} s:\n{open(leecher.log).read()[-1000:]}", file=sys.stderr, flush=True)
        return None, None

    def check(self, leecher):
        digest = hashlib.sha1()
        with open(f"{leecher.out}/payload", "rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
        assert digest.digest() == self.digest.digest(), "wrong bytes"
        shutil.rmtree(leecher.out)


def cpu(process):
    with open(f"/proc/{process.pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Path:
    """A second namespace behind the relay, and the counts of each second."""

    def __init__(self, **options):
        self.far = subprocess.Popen(["unshare", "-n", "sleep", "100000"])
        atexit.register(self.close)
        own = os.readlink("/proc/self/ns/net")
        while os.readlink(f"/proc/{self.far.pid}/ns/net") == own:
            time.sleep(0.01)
        words = [f"{name}={value}" for name, value in options.items()]
        self.relay = subprocess.Popen([sys.executable, f"{ROOT}/scripts/tun_relay.py", str(self.far.pid), *words], stdout=subprocess.PIPE)
        assert self.relay.stdout.readline() == b"ready\n"
        if os.getuid() == 0:
            subprocess.run(["renice", "-n", "-15", "-p", str(self.relay.pid)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.inside = ["nsenter", "-t", str(self.far.pid), "-n", "--"]
        self.seconds = []
        threading.Thread(target=lambda: self.seconds.extend(map(json.loads, iter(self.relay.stdout.readline, b""))), daemon=True).start()

    def close(self):
        for process in (self.relay, self.far):
            process.kill()
            process.wait()


def row(name, values, unit):
    middle = statistics.median(values)
    print(f"{name:48} {middle:8.2f} {unit} ({min(values):.2f}–{max(values):.2f})", flush=True)


def loss(rounds):
    swarm, rates = Swarm(8_000_000), {}
    pairs = [("btsync", "btsync"), ("libtorrent", "libtorrent"), ("btsync", "libtorrent"), ("libtorrent", "btsync")]
    for number in range(rounds):
        for seeder, leecher in pairs:
            path = Path(delay=50, loss=10, seed=number + 1)
            seed = swarm.client(seeder, NEAR, None, True)
            swarm.await_seed(seed)
            begun = time.monotonic()
            fetching = swarm.client(leecher, FAR, f"{NEAR}:{seed.port}", False, path.inside)
            seconds, _ = swarm.fetch(fetching, leecher, begun)
            if seconds:
                swarm.check(fetching)
                rates.setdefault((seeder, leecher), []).append(8000 / seconds)
                print(f"  {seeder} to {leecher}: {8000 / seconds:.0f} KB/s", file=sys.stderr, flush=True)
            swarm.stop()
            path.close()
    for (seeder, leecher), values in rates.items():
        row(f"loss: {seeder} to {leecher}", values, "KB/s")


def loopback(rounds):
    swarms, rates, costs = {name: Swarm(size << 20, 1 << 20) for name, size in SIZES.items()}, {}, {}
    for address in (ONE, OTHER, TRACKER):
        subprocess.run(["ip", "addr", "replace", f"{address}/24", "dev", "lo"], check=True)
    # Transmission cannot turn TCP off.
    rules = f"add table inet utp; add chain inet utp input {{ type filter hook input priority 0; }}; " \
            f"add rule inet utp input tcp dport {PORT}-{PORT + 999} reject with tcp reset"
    subprocess.run(["nft", rules], check=True)
    for _ in range(rounds):
        for name, swarm in swarms.items():
            swarm.start([BTSYNC, "tracker", "--listen", f"{TRACKER}:6969", "--interval", "10"])
            seed = swarm.client(name, ONE, None, True)
            swarm.await_seed(seed)
            before, begun = cpu(seed), time.monotonic()
            leecher = swarm.client(name, OTHER, f"{ONE}:{seed.port}", False)
            seconds, used = swarm.fetch(leecher, name, begun)
            assert seconds, "not finished"
            used += cpu(seed) - before
            swarm.check(leecher)
            swarm.stop()
            rates.setdefault(name, []).append(SIZES[name] / seconds)
            costs.setdefault(name, []).append(used * 1024 / SIZES[name])
            print(f"  {name}: {rates[name][-1]:.1f} MiB/s, {costs[name][-1]:.2f} s/GiB", file=sys.stderr, flush=True)
    for name in rates:
        row(f"loopback: {name}", rates[name], "MiB/s")
        row(f"loopback: {name}, CPU of both sides", costs[name], "s/GiB")


SINK = f"""import socket
connection, _ = socket.create_server(("{FAR}", 5555)).accept()
while connection.recv(1 << 16): pass"""
SOURCE = f"""import socket
connection = socket.create_connection(("{FAR}", 5555))
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"{{}}")
while True: connection.sendall(bytes(1 << 16))"""


def beside(rounds):
    swarm, results = Swarm(256 << 20, 1 << 20), {}
    with open("/proc/sys/net/ipv4/tcp_available_congestion_control") as file:
        kinds = ["", *sorted({"cubic", "bbr"} & set(file.read().split()), reverse=True)]
    cases = [(tcp, round_trip, queue) for tcp in kinds for round_trip, queue in [(20, 100), (50, 200), (50, 500)]]
    for _ in range(rounds):
        for case in cases:
            tcp, round_trip, queue = case
            path = Path(delay=round_trip / 2, rate=20_000, queue=2500 * queue)
            if tcp:
                swarm.start([*path.inside, sys.executable, "-c", SINK])
                time.sleep(0.5)
                swarm.start([sys.executable, "-c", SOURCE.replace("{}", tcp)])
                time.sleep(5)
            seed = swarm.client("btsync", NEAR, None, True)
            swarm.await_seed(seed)
            leecher = swarm.client("btsync", FAR, f"{NEAR}:{seed.port}", False, path.inside)
            time.sleep(10)
            first = len(path.seconds)
            time.sleep(40)
            seconds = [second["there"] for second in path.seconds[first:]]
            start = max(second["there"]["wait_max"] for second in path.seconds[:first])
            swarm.stop()
            path.close()
            shutil.rmtree(leecher.out)
            share = [100 * sum(second[kind] for second in seconds) / len(seconds) / 2.5e6 for kind in ("udp", "tcp")]
            waits = statistics.median(second["wait_median"] for second in seconds), max(second["wait_max"] for second in seconds), start
            results.setdefault(case, []).append((*share, *waits))
            print(" ", case, results[case][-1], file=sys.stderr, flush=True)
    for (tcp, round_trip, queue), values in results.items():
        name = f"{f'beside {tcp}' if tcp else 'alone'}, {round_trip} ms, queue {queue} ms"
        for text, column, unit in [("uTP", 0, "%"), ("TCP", 1, "%")][: 2 if tcp else 1]:
            row(f"{name}: {text}", [value[column] for value in values], unit)
        row(f"{name}: median wait", [value[2] for value in values], "ms")
        row(f"{name}: longest wait after 10 s", [value[3] for value in values], "ms")
        row(f"{name}: longest wait before", [value[4] for value in values], "ms")


def switches(process):
    """How often each thread of a process has slept, by name."""
    counts = {}
    for task in os.listdir(f"/proc/{process.pid}/task"):
        with open(f"/proc/{process.pid}/task/{task}/status") as file:
            fields = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        counts[fields["Name"]] = counts.get(fields["Name"], 0) + int(fields["voluntary_ctxt_switches"])
    return counts


def idle(_):
    swarm = Swarm(1 << 20)
    for address in (ONE, OTHER):
        subprocess.run(["ip", "addr", "replace", f"{address}/24", "dev", "lo"], check=True)
    one = swarm.client("btsync", ONE, None, False)
    time.sleep(1)
    other = swarm.client("btsync", OTHER, f"{ONE}:{one.port}", False)
    time.sleep(20)
    before = switches(other)
    time.sleep(120)
    after = switches(other)
    for name in sorted(after):
        print(f"idle: {name:42} {(after[name] - before.get(name, 0)) / 2:8.1f} wake-ups a minute")
    swarm.stop()


PARTS = {"loss": loss, "loopback": loopback, "beside": beside, "idle": idle}
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("parts", nargs="*", metavar="PART", help="loss, loopback, beside, idle; by default all")
parser.add_argument("--btsync", default=f"{ROOT}/target/release/btsync", metavar="PROGRAM")
parser.add_argument("--rounds", type=int, default=3, metavar="N")
options = parser.parse_args()
BTSYNC = os.path.abspath(options.btsync)
for part in options.parts or PARTS:
    PARTS[part](options.rounds)
