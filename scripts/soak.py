"""The soak test of scripts/soak.sh: a tracker, two seeders behind proxies that corrupt data, a download with injected faults."""

import hashlib
import os
import random
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

BTSYNC = os.path.abspath(sys.argv[1])
MINUTES = float(os.environ.get("SOAK_MINUTES", "30"))
SIZE = int(os.environ.get("SOAK_MB", "64")) << 20
SEED = int(os.environ.get("SOAK_SEED", str(random.randrange(1 << 30))))
DICE = random.Random(SEED)
COUNTS = {}


def count(what):
    COUNTS[what] = COUNTS.get(what, 0) + 1


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Proxy(threading.Thread):
    """Forwards a seeder's data. Depending on its mode it corrupts a byte, stalls, or resets the connection."""

    def __init__(self, target):
        super().__init__(daemon=True)
        self.target, self.mode = target, "honest"
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.start()

    def run(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        try:
            with client, socket.create_connection(("127.0.0.1", self.target)) as server:
                passed = 0
                while True:
                    ready, _, _ = select.select([client, server], [], [], 300)
                    if not ready:
                        return
                    if self.mode == "reset":
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                        return
                    if self.mode == "stall":
                        time.sleep(0.2)
                        continue
                    for side in ready:
                        data = bytearray(side.recv(65536))
                        if not data:
                            return
                        if side is server:
                            passed += len(data)
                            if self.mode == "corrupt" and passed > 100_000:
                                data[DICE.randrange(len(data))] ^= 1
                        (client if side is server else server).sendall(data)
        except OSError:
            pass


def start(name, *args, limit=None):
    def prepare():
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    env = dict(os.environ, XDG_CACHE_HOME=os.path.join(DIR, "cache-" + name), XDG_CONFIG_HOME="/nonexistent", BTSYNC_NO_PORT_MAPPING="yes")
    log = open(os.path.join(DIR, name + ".log"), "ab")
    return subprocess.Popen([BTSYNC, *args], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, preexec_fn=prepare)


def rss(pid, field="VmRSS:"):
    try:
        with open(f"/proc/{pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith(field))
    except (OSError, StopIteration):
        return 0


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seed(name, port):
    return start(name, TORRENT, DIR, "--seed", "--no-dht", "--no-lsd", "--listen-port", str(port), "--max-upload-limit", "6M")


def leech(limit=None):
    peers = [word for proxy in proxies for word in ("--peer", f"127.0.0.1:{proxy.port}")]
    return start("leecher", TORRENT, OUT, "--no-dht", "--no-lsd", "--listen-port", str(free_port()), *peers, limit=limit)


def misfortune(download):
    """Injects a random fault. Returns the download, which may be a new process."""
    global second
    what = DICE.choice(["kill", "stop", "seeder stalls", "seeder dies", "corrupt", "stall", "reset", "disk full", "disk spoils"])
    count(what)
    if what in ("corrupt", "stall", "reset"):
        proxy = DICE.choice(proxies)
        proxy.mode = what
        threading.Timer(DICE.uniform(1, 4), setattr, (proxy, "mode", "honest")).start()
    elif what == "seeder stalls":
        second.send_signal(signal.SIGSTOP)
        time.sleep(DICE.uniform(0.5, 3))
        second.send_signal(signal.SIGCONT)
    elif what == "seeder dies":
        second.kill()
        second.wait()
        second = seed("second", second_port)
    else:
        download.send_signal(signal.SIGINT if what == "stop" else signal.SIGKILL)
        code = download.wait(timeout=30)
        if what == "stop" and code not in (0, 7):
            sys.exit(f"soak: stopped, it ended with {code}")
        if what == "disk full" and os.path.getsize(file_out()) == SIZE:
            os.truncate(file_out(), SIZE // 2)
            full = leech(limit=SIZE * 3 // 4)
            code = full.wait(timeout=120)
            if code != 9:
                sys.exit(f"soak: with a full disk it ended with {code}")
        if what == "disk spoils":
            with open(file_out(), "r+b") as file:
                file.seek(DICE.randrange(SIZE))
                file.write(b"spoilt")
        download = leech()
    return download


def file_out():
    return os.path.join(OUT, "payload.bin")


def one_download():
    """Runs one download to its end, with faults on the way, and checks its content."""
    if os.path.exists(file_out()):
        os.remove(file_out())
    download, deadline, peak = leech(), time.monotonic() + 300, 0
    unlucky = time.monotonic() + DICE.uniform(0.3, 3)
    while download.poll() is None:
        samples.append((time.monotonic() - began, rss(steady.pid)))
        peak = max(peak, rss(download.pid, "VmHWM:"))
        time.sleep(0.1)
        if time.monotonic() > unlucky and os.path.exists(file_out()):
            download = misfortune(download)
            unlucky = time.monotonic() + DICE.uniform(0.3, 3)
        if time.monotonic() > deadline:
            sys.exit("soak: a download did not end within five minutes")
    if download.returncode != 0:
        sys.exit(f"soak: a download ended with {download.returncode}; see {DIR}/leecher.log")
    if digest(file_out()) != RIGHT:
        sys.exit("soak: WRONG CONTENT with exit code 0")
    if steady.poll() is not None:
        sys.exit("soak: the steady seeder is gone")
    peaks.append(peak)


DIR = tempfile.mkdtemp(prefix="btsync-soak-")
OUT = os.path.join(DIR, "out")
os.mkdir(OUT)
with open(os.path.join(DIR, "payload.bin"), "wb") as payload:
    payload.write(random.Random(1).randbytes(SIZE))
RIGHT = digest(os.path.join(DIR, "payload.bin"))
tracker_port, first_port, second_port = free_port(), free_port(), free_port()
tracker = start("tracker", "tracker", "--listen", f"127.0.0.1:{tracker_port}")
TORRENT = os.path.join(DIR, "payload.torrent")
announce = f"http://127.0.0.1:{tracker_port}/announce"
subprocess.run([BTSYNC, "create", os.path.join(DIR, "payload.bin"), "--announce", announce, "-o", TORRENT],
               check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
began, samples, peaks = time.monotonic(), [], []
steady, second = seed("steady", first_port), seed("second", second_port)
proxies = [Proxy(first_port), Proxy(second_port)]
try:
    while time.monotonic() - began < MINUTES * 60:
        one_download()
finally:
    for process in (steady, second, tracker):
        process.kill()
        process.wait()

quarter = len(samples) // 4
early, late = max(kib for _, kib in samples[:quarter] or samples), max(kib for _, kib in samples[-quarter:] or samples)
print(f"seed {SEED}, {MINUTES:g} minutes, {len(peaks)} downloads of {SIZE >> 20} MiB, all right")
print("faults: " + ", ".join(f"{what} {times}" for what, times in sorted(COUNTS.items())))
print(f"resident memory of the seeder: at most {early} KiB in the first quarter, {late} KiB in the last")
print(f"peak of a download: {min(peaks)} to {max(peaks)} KiB")
subprocess.run(["rm", "-rf", DIR], check=True)
if late > early * 1.25 + 4096:
    sys.exit("soak: memory has grown")
