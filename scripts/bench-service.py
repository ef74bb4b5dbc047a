#!/usr/bin/env python3
"""Measures `btsync serve` with 1,000 torrents of one file and 1,000 pieces each: make bench-service.

    bench-service.py [BTSYNC] [TORRENTS]

Prints the time from a restart to the first answer, memory, processor time when idle, the time of torrent-get with the fields of a
list and with all fields, and the same for 100 clients that poll once a second: first with stopped torrents, then with as many
seeds without peers. Their files are sparse, so that they need no disk space. Run it in a network namespace of its own
(`unshare -rn`), so that the DHT asks nobody. Use an idle machine.
"""

import base64
import hashlib
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BTSYNC = sys.argv[1] if len(sys.argv) > 1 else f"{ROOT}/target/release/btsync"
TORRENTS = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
PORT = 29091
LIST = ["id", "name", "status", "error", "error_string", "eta", "is_finished", "is_stalled", "left_until_done", "percent_done",
        "peers_connected", "peers_getting_from_us", "peers_sending_to_us", "queue_position", "rate_download", "rate_upload",
        "recheck_progress", "size_when_done", "total_size", "uploaded_ever", "upload_ratio", "labels", "added_date"]


def all_fields():
    text = open(f"{ROOT}/docs/rpc.md", encoding="utf-8").read()
    table = text.split("## Fields of torrents")[1].split("## Fields of the session")[0]
    return re.findall(r"^\| `([a-z_]+)` \|", table, re.M)


class Client:
    def __init__(self):
        self.connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
        self.connection.request("GET", "/transmission/rpc")
        answer = self.connection.getresponse()
        answer.read()
        self.session = answer.headers["X-Transmission-Session-Id"]

    def call(self, method, **params):
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        self.connection.request("POST", "/transmission/rpc", body, {"X-Transmission-Session-Id": self.session})
        return self.connection.getresponse().read()


PIECES, PIECE = 1000, 16384
ZEROS = hashlib.sha1(bytes(PIECE)).digest()


def torrent(number):
    """A torrent whose file contains only zeros."""
    name = b"torrent %04d.bin" % number
    info = b"d6:lengthi%de4:name%d:%s12:piece lengthi%de6:pieces%d:%se" % (
        PIECES * PIECE, len(name), name, PIECE, 20 * PIECES, ZEROS * PIECES)
    return b"d4:info" + info + b"e"


def start(folder):
    words = [BTSYNC, "serve", "--no-port-mapping", "--state-dir", f"{folder}/state", "--dir", f"{folder}/down", "--web-listen", f"127.0.0.1:{PORT}"]
    begun = time.monotonic()
    process = subprocess.Popen(words + ["--peer-port", "29092"], stderr=subprocess.DEVNULL)
    while True:
        try:
            client = Client()
            answer = json.loads(client.call("torrent_get", fields=["id"]))
            return process, client, time.monotonic() - begun, len(answer["result"]["torrents"])
        except OSError:
            time.sleep(0.002)


def cpu(process):
    fields = open(f"/proc/{process.pid}/stat", encoding="ascii").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(process):
    text = open(f"/proc/{process.pid}/status", encoding="ascii").read()
    return {name: int(re.search(rf"{name}:\s*(\d+)", text)[1]) for name in ("VmRSS", "VmHWM", "Threads")}


def timed(client, fields, count=20):
    times, size = [], 0
    for _ in range(count):
        begun = time.monotonic()
        size = len(client.call("torrent_get", fields=fields))
        times.append((time.monotonic() - begun) * 1000)
    return f"median {statistics.median(times):.1f} ms, worst {max(times):.1f} ms, {size:,} bytes"


def polled(process, clients=100, seconds=5):
    times, lock = [], threading.Lock()

    def poll(number):
        client = Client()
        time.sleep(number / clients)
        for _ in range(seconds):
            begun = time.monotonic()
            client.call("torrent_get", ids="recently_active", fields=LIST)
            took = time.monotonic() - begun
            with lock:
                times.append(took * 1000)
            time.sleep(max(0, 1 - took))

    before = cpu(process)
    threads = [threading.Thread(target=poll, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times.sort()
    return (f"median {statistics.median(times):.1f} ms, p95 {times[len(times) * 95 // 100]:.1f} ms, "
            f"{cpu(process) - before:.2f} s of processor time")


def measure(process, client):
    before = cpu(process)
    time.sleep(10)
    print(f"idle for 10 s: {cpu(process) - before:.2f} s of processor time")
    print("fields of a list:", timed(client, LIST))
    print("all fields:", timed(client, all_fields()))
    print("100 clients, each once a second:", polled(process))
    print(f"in the end {memory(process)}")


def restarted(folder, what):
    """A service whose torrents are all there, after some restarts."""
    took = []
    for number in range(4):
        process, client, seconds, count = start(folder)
        assert count == TORRENTS, count
        took.append(f"{seconds:.2f} s")
        if number < 3:
            process.terminate()
            process.wait()
    time.sleep(3)
    print(f"{what}: from the start to the first answer {', '.join(took)}; then {memory(process)}")
    return process, client


def seed(folder, process, client):
    """Starts all torrents, whose files are there, and waits until they seed and those without peers sleep."""
    os.makedirs(f"{folder}/down", exist_ok=True)
    for number in range(TORRENTS):
        with open(f"{folder}/down/torrent {number:04d}.bin", "wb") as file:
            file.truncate(PIECES * PIECE)
    begun = time.monotonic()
    client.call("torrent_start")
    while True:
        torrents = json.loads(client.call("torrent_get", fields=["status", "error_string"]))["result"]["torrents"]
        if all(torrent["status"] == 6 for torrent in torrents) and memory(process)["Threads"] < 30:
            break
        assert not any(torrent["error_string"] for torrent in torrents), torrents
        time.sleep(1)
    print(f"{TORRENTS} torrents seed and sleep after {time.monotonic() - begun:.0f} s; then {memory(process)}")


with tempfile.TemporaryDirectory() as folder:
    process, client, _, _ = start(folder)
    print(f"an empty service: {memory(process)}")
    client.call("session_set", dht_enabled=False, lpd_enabled=False)
    begun = time.monotonic()
    for number in range(TORRENTS):
        client.call("torrent_add", metainfo=base64.b64encode(torrent(number)).decode(), paused=True)
    print(f"{TORRENTS} torrents added in {time.monotonic() - begun:.1f} s; then {memory(process)}")
    process.kill()
    process.wait()
    process, client = restarted(folder, "stopped torrents")
    measure(process, client)
    seed(folder, process, client)
    process.kill()
    process.wait()
    process, client = restarted(folder, "seeds")
    measure(process, client)
    process.terminate()
    process.wait()
