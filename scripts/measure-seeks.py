#!/usr/bin/env python3
"""Measures how long a player waits after a seek in a file that is downloading from four slow seeds: make bench-seeks.

    measure-seeks.py [BTSYNC] [SEEKS]

Each seed uploads 256 KiB/s, the last one of the second swarm only 32 KiB/s. The player reads from the start for ten seconds, then
seeks SEEKS times, to places that are not downloaded, and reads for five seconds at each. Prints the time to the first byte and to the
first MiB (median, range), and the wasted bytes: those that arrived twice. Run it in a network namespace of its own (`unshare -rn`).
"""

import base64
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BTSYNC = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else f"{ROOT}/target/release/btsync"
SEEKS = int(sys.argv[2]) if len(sys.argv) > 2 else 12
PORT = 29093
SIZE = 192 << 20
MIB = 1 << 20


def rpc(method, **params):
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
    connection.request("GET", "/transmission/rpc")
    answer = connection.getresponse()
    answer.read()
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    connection.request("POST", "/transmission/rpc", body,
                       {"X-Transmission-Session-Id": answer.headers["X-Transmission-Session-Id"]})
    return json.loads(connection.getresponse().read())["result"]


def torrent(*fields):
    return rpc("torrent_get", fields=list(fields))["torrents"][0]


def read(path, offset, seconds):
    """The times to the first byte and to the first MiB, of a reader that stays for some seconds."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=120)
    begun = time.monotonic()
    connection.request("GET", path, headers={"Range": f"bytes={offset}-"})
    answer = connection.getresponse()
    assert answer.status == 206, answer.status
    first, whole, count = None, None, 0
    while whole is None or time.monotonic() < begun + seconds:
        part = answer.read1(65536)
        assert part, "the answer ended"
        first = first or time.monotonic() - begun
        count += len(part)
        whole = whole or (time.monotonic() - begun if count >= MIB else None)
    connection.close()
    return first, whole


def missing_from(offset, count):
    """The first offset from this one on at which the next pieces are missing."""
    fields = torrent("pieces", "piece_size")
    bits, size = base64.b64decode(fields["pieces"]), fields["piece_size"]
    piece = offset // size
    while any(bits[at // 8] >> (7 - at % 8) & 1 for at in range(piece, piece + count)):
        piece += 1
    return piece * size


def figures(times):
    return f"median {statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f})"


def waits_until(condition):
    while not condition():
        time.sleep(0.05)


def measure(folder, rates, piece_length):
    """One swarm; the seeds have a loopback address each."""
    source, name = f"{folder}/source/film.bin", f"{folder}/film{piece_length}-{rates[-1]}.torrent"
    subprocess.run([BTSYNC, "create", source, "-o", name, "--piece-length", piece_length], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    started, quiet = [], {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    peers = []
    for number, rate in enumerate(rates):
        place, address = f"{folder}/seed{number}", f"127.0.0.{number + 2}"
        os.makedirs(place, exist_ok=True)
        if not os.path.exists(f"{place}/film.bin"):
            os.link(source, f"{place}/film.bin")
        words = [BTSYNC, name, place, "--seed", "--no-config", "--no-dht", "--no-lsd", "--quiet", "--interface", address,
                 "--listen-port", "29100", "--max-upload-limit", rate]
        environment = os.environ | {"XDG_STATE_HOME": f"{place}/state", "XDG_DATA_HOME": f"{place}/data"}
        started.append(subprocess.Popen(words, **quiet, env=environment))
        peers += ["--peer", f"{address}:29100"]
    state = tempfile.mkdtemp(dir=folder)
    words = [BTSYNC, "serve", "--no-port-mapping", "--state-dir", f"{state}/state", "--dir", f"{state}/down", "--web-listen", f"127.0.0.1:{PORT}"]
    started.append(subprocess.Popen(words + ["--peer-port", "29094"], **quiet))

    def is_up():
        try:
            rpc("session_set", dht_enabled=False, lpd_enabled=False)
            return True
        except OSError:
            return False
    waits_until(is_up)
    time.sleep(5)  # the seeds hash their file
    magnet = subprocess.run([BTSYNC, "magnet", name, *peers], check=True, capture_output=True, text=True).stdout.strip()
    rpc("torrent_add", filename=magnet)
    waits_until(lambda: torrent("peers_sending_to_us")["peers_sending_to_us"] == len(rates))
    path = "/" + rpc("btsync_file_link", id=torrent("id")["id"], file_index=0)["url"].lstrip("/")
    start = read(path, 0, 10)
    firsts, wholes = [], []
    for number in range(SEEKS):
        place = SIZE // (SEEKS + 1) * ((number * 7) % SEEKS + 1)
        first, whole = read(path, missing_from(place, 4), 5)
        firsts.append(first)
        wholes.append(whole)
    fields = torrent("downloaded_ever", "corrupt_ever")
    print(f"{' + '.join(rates)}, pieces of {piece_length}: start {start[0]:.2f} s; seeks: first byte {figures(firsts)}, "
          f"first MiB {figures(wholes)}; {fields['corrupt_ever'] / MIB:.2f} of {fields['downloaded_ever'] / MIB:.1f} MiB wasted",
          flush=True)
    for process in started:
        process.terminate()
    for process in started:
        process.wait()


with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/tmp")) as folder:
    os.makedirs(f"{folder}/source")
    with open(f"{folder}/source/film.bin", "wb") as file:
        for _ in range(SIZE // MIB):
            file.write(os.urandom(MIB))
    for piece_length in ("256K", "1M"):
        measure(folder, ["256K"] * 4, piece_length)
        measure(folder, ["256K"] * 3 + ["32K"], piece_length)
