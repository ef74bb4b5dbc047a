#!/usr/bin/env python3
"""Measures BitTorrent clients side by side on loopback, against neutral seeders, downloaders and the floor: a program that receives,
hashes and writes, and does nothing else.

    python3 throughput.py SCENARIO[,SCENARIO...] CLIENT[,CLIENT...] [--runs N] [--json FILE]

Scenarios   d1 one seeder, 1 GiB          d1pin the same, seeder and client pinned to a core each
            d20 twenty seeders, 1 GiB     rtt1 / rtt10 one / ten seeders 100 ms away, 256 MiB
            rate50 fifty seeders of 1 MiB/s, 256 MiB      bad5 five good seeders and one that corrupts, 256 MiB
            stall 9 seeders and one that stalls, 256 MiB  files 10,000 files of 20 KiB
            s1 / s20 / s200 seeding 1 GiB to 1 / 20 / 200 neutral downloaders      check  rehash 2 GiB that are all there (floor: openssl on one core)
            idle200 seeding to 200 connected, silent peers for 20 s
            create a torrent file of 2 GiB in pieces of 1 MiB (floor: openssl on one core; also mktorrent, imdl, transmission-create)
            swarm  one seeder of 20 MiB/s, six instances of the client, 128 MiB: seconds until the last is done
Clients     floor btsync aria2 transmission libtorrent rqbit qbittorrent   (those that are installed)
            (apt-get install aria2 qbittorrent-nox transmission-daemon transmission-cli mktorrent; cargo install rqbit imdl)
Environment BTSYNC  the btsync binary (target/release/btsync)      LT_PYTHON  a python with the `libtorrent` wheel (.venv/bin/python)
            RQBIT   the rqbit binary          SCRATCH    a folder with 20 GiB free (default: a new temporary one)
CPU seconds are the client's own (user + system of it and its children), never the seeders'. Clients run in turn, round
after round; each figure is the median (min-max) of the rounds. Every download is compared byte by byte at the end.
It needs root, or a system that allows user namespaces, because it runs in a network namespace of its own. Compare figures of one run
only. The settings are those of a demanding user: no DHT, local discovery, uTP, encryption or rate limit, sparse files, many connections.
"""
import argparse, filecmp, json, mmap, os, re, resource, shutil, signal, socket, statistics, subprocess, sys, tempfile, threading, time, urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
SCRATCH = Path(os.environ.get("SCRATCH") or tempfile.mkdtemp(prefix="swarmbench-"))
MIB, GIB = 1 << 20, 1 << 30
HOST = "10.77.0.1"  # an address of the network namespace that this program makes for itself: some clients shun 127.0.0.0/8
TRACKER = f"{HOST}:6900"
EXITS = {"btsync", "aria2", "libtorrent", "rqbit"}  # end by themselves once all is on disk; of the others the tracker hears


def swarmload():
    target = SCRATCH / "target"
    subprocess.run(["cargo", "build", "--release", "-q", "--manifest-path", str(HERE / "swarmload/Cargo.toml")],
                   env={**os.environ, "CARGO_TARGET_DIR": str(target)}, check=True)
    return str(target / "release/swarmload")


def payload(load, name, size, piece, files=1):
    folder = SCRATCH / "payload"
    if not (folder / f"{name}.swarm").exists():
        subprocess.run([load, "make", "--out", folder, "--name", name, "--size", str(size), "--piece", str(piece),
                        "--files", str(files), "--announce", f"http://{TRACKER}/announce"], check=True)
    return folder / name


class Helper:
    """A process of the harness itself, pinned to `cpu` where asked; its printed lines are kept."""
    def __init__(self, *command, cpu=None, wait=None):
        command = [str(c) for c in command]
        if cpu is not None:
            command = ["taskset", "-c", str(cpu)] + command
        self.lines = []
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        deadline = time.time() + 60
        while wait and not any(wait in line for line in self.lines):
            if time.time() > deadline or self.process.poll() is not None:
                raise RuntimeError(f"{command[:3]} did not come up")
            time.sleep(0.01)

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line)

    def stop(self):
        self.process.kill()
        self.process.wait()


# ---- the clients ------------------------------------------------------------------------------------------------

def wait_port(port, seconds=30):
    deadline = time.time() + seconds
    while time.time() < deadline:
        with socket.socket() as s:
            s.settimeout(0.2)
            if s.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.02)


def command(client, torrent, out, port, seed, home):
    """The command line that downloads `torrent` into `out`, listening on `port`; with `seed`, that goes on seeding.
    Tuned as a demanding user would: no DHT, no local discovery, plain TCP, no rate limit, sparse files."""
    home.mkdir(parents=True, exist_ok=True)
    if client == "btsync":
        words = [os.environ.get("BTSYNC", str(ROOT / "target/release/btsync")), str(torrent), str(out)]
        options = os.environ.get("BTSYNC_OPTIONS", "--listen-port {port} --no-dht --no-lsd").format(port=port).split()
        return words + options + (["--seed-time", "1000"] if seed else [])
    if client == "aria2":
        return ["aria2c", f"--dir={out}", "--enable-dht=false", "--enable-dht6=false", "--bt-enable-lpd=false", "--enable-peer-exchange=false",
                f"--listen-port={port}", "--file-allocation=none", "--bt-max-peers=0", "--bt-request-peer-speed-limit=2000M", "--disk-cache=64M",
                "--summary-interval=0", "--console-log-level=error", "--no-conf", "--check-integrity=" + ("true" if seed else "false"),
                "--allow-overwrite=true", "--disable-ipv6", "--bt-tracker-interval=2", "--max-upload-limit=0",
                "--seed-time=" + ("1000" if seed else "0"), "--seed-ratio=0.0", str(torrent)]
    if client == "transmission":
        (home / "settings.json").write_text(json.dumps({
            "dht-enabled": False, "lpd-enabled": False, "pex-enabled": False, "utp-enabled": False, "port-forwarding-enabled": False, "encryption": 0,
            "preallocation": 1, "cache-size-mb": 64, "peer-limit-global": 2000, "peer-limit-per-torrent": 1000, "upload-slots-per-torrent": 500,
            "download-dir": str(out), "peer-port": port, "rpc-port": port + 1000, "rpc-bind-address": HOST, "rpc-authentication-required": False,
            "rpc-host-whitelist-enabled": False, "start-added-torrents": True, "bind-address-ipv4": HOST, "bind-address-ipv6": "::1",
            "watch-dir-enabled": True, "watch-dir": str(home / "watch")}))
        (home / "watch").mkdir(exist_ok=True)
        shutil.copy(torrent, home / "watch")
        return ["transmission-daemon", "-f", "-g", str(home), "--no-auth", "-e", "/dev/null"]
    if client == "libtorrent":
        return [os.environ.get("LT_PYTHON", str(ROOT / ".venv/bin/python")), str(HERE / "lt_client.py"), str(torrent), str(out), str(port), "seed" if seed else "get"]
    if client == "rqbit":
        return [os.environ.get("RQBIT", "rqbit"), "--disable-dht", "--disable-lsd", "--disable-upnp-port-forward", "--listen-port", str(port), "--listen-ip", HOST,
                "-i", "2s", "--peer-limit", "1000", "-v", "error", "download", "-o", str(out), "--overwrite", "--disable-http-api"] + ([] if seed else ["-e"]) + [str(torrent)]
    if client == "qbittorrent":
        conf = home / "qBittorrent/config"
        conf.mkdir(parents=True, exist_ok=True)
        (conf / "qBittorrent.conf").write_text(
            "[LegalNotice]\nAccepted=true\n[BitTorrent]\nSession\\DHTEnabled=false\nSession\\LSDEnabled=false\nSession\\PeXEnabled=false\nSession\\BTProtocol=TCP\n"
            f"Session\\Port={port}\nSession\\DefaultSavePath={out}\nSession\\MaxConnections=2000\nSession\\MaxConnectionsPerTorrent=1000\nSession\\MaxUploads=-1\n"
            "Session\\MaxUploadsPerTorrent=-1\nSession\\MultiConnectionsPerIp=true\nSession\\AddTorrentPaused=false\nSession\\Interface=lo\nSession\\InterfaceName=lo\n"
            f"Session\\IgnoreLimitsOnLAN=true\n[Preferences]\nWebUI\\Enabled=true\nWebUI\\Port={port + 1000}\nWebUI\\Address={HOST}\nWebUI\\LocalHostAuth=false\n")
        return ["qbittorrent-nox", f"--profile={home}", f"--save-path={out}", "--skip-dialog=true", str(torrent)]
    raise SystemExit(f"no such client: {client}")


class Client:
    """One run of a client: its own process, its CPU seconds, peak RSS and most threads."""
    def __init__(self, client, torrent, out, port, seed=False, cpu=None):
        self.home = SCRATCH / f"home-{client}-{port}"
        shutil.rmtree(self.home, ignore_errors=True)
        words = command(client, torrent, out, port, seed, self.home)
        if cpu is not None:
            words = ["taskset", "-c", str(cpu)] + words
        env = {**os.environ, "HOME": str(self.home), "XDG_CONFIG_HOME": str(self.home), "XDG_DATA_HOME": str(self.home), "XDG_CACHE_HOME": str(self.home)}
        self.log = open(self.home / "log", "w")
        self.start = time.time()
        self.process = subprocess.Popen(words, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL, env=env)
        self.threads = self.rss = 0
        self.usage = self.code = None
        self.watcher = threading.Thread(target=self._watch, daemon=True)
        self.watcher.start()

    def _watch(self):
        while self.code is None:
            try:
                text = Path(f"/proc/{self.process.pid}/status").read_text()
                self.threads = max(self.threads, int(re.search(r"Threads:\s+(\d+)", text)[1]))
                self.rss = max(self.rss, int((re.search(r"VmHWM:\s+(\d+)", text) or [0, 0])[1]) * 1024)
            except (OSError, TypeError):
                pass
            time.sleep(0.02)

    def ended(self):
        if self.code is None:
            pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
            if pid:
                self.usage, self.code = usage, os.waitstatus_to_exitcode(status)
                self.process.returncode = self.code
                self.end = time.time()
        return self.code is not None

    def cpu(self):
        if self.usage:
            return self.usage.ru_utime + self.usage.ru_stime
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        if not self.ended():
            self.process.send_signal(signal.SIGKILL)
            while not self.ended():
                time.sleep(0.01)
        self.log.close()


def completed(tracker, port):
    """When the client that listens on `port` told the tracker that it is done (else None)."""
    for line in tracker.lines:
        if f":{port} event=completed" in line:
            return float(line.split()[0])
    return None


# ---- the scenarios ----------------------------------------------------------------------------------------------

def warm(size):
    """Touches `size` bytes of memory and frees them: on a virtual machine whose host takes idle pages back, the first use
    of a page costs far more than anything a client does, and would fall on whoever runs first."""
    with mmap.mmap(-1, size) as room:
        for at in range(0, size, 4096):
            room[at] = 1


def addresses(n, first=1):
    return [f"10.77.1.{first + i}:7000" for i in range(n)]


def download(load, client, data, seeders, limit=300, pin=False, port=6951):
    """seeders: [(addresses, options), ...]"""
    torrent, out = data.with_name(data.name + ".torrent"), SCRATCH / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    helpers = [Helper(load, "seed", "--swarm", data.with_name(data.name + ".swarm"), "--listen", ",".join(a), *o, wait="ready", cpu=0 if pin else None)
               for a, o in seeders]
    peers = SCRATCH / "peers"
    peers.write_text("\n".join(a for group, _ in seeders for a in group))
    tracker = Helper(load, "tracker", "--listen", TRACKER, "--peers", peers, "--interval", "2")
    wait_port(6900)
    warm(8 * GIB)
    try:
        rates = [int(o[o.index("--rate") + 1]) * len(a) for a, o in seeders if "--rate" in o]
        if client == "floor" and rates:  # no work to time: what the honest seeders can give together
            return {"wall_s": data.stat().st_size / sum(r for r, (_, o) in zip(rates, seeders) if "--corrupt-every" not in o)}
        if client == "floor":
            words = [load, "floor", "--depth", "2000" if "--rtt-ms" in seeders[0][1] else "128", "--swarm", data.with_name(data.name + ".swarm"), "--peer", seeders[0][0][0], "--out", str(out / data.name)]
            text = subprocess.run((["taskset", "-c", "1"] if pin else []) + words, capture_output=True, text=True, check=True).stdout.split()
            figures = {"wall_s": float(text[3]), "cpu_s": float(text[5])}
        else:
            run = Client(client, torrent, out, port, cpu=1 if pin else None)
            deadline, done = time.time() + limit, None
            while done is None and time.time() < deadline:
                if run.ended():
                    done = run.end
                elif client not in EXITS:
                    done = completed(tracker, port)
                time.sleep(0.005)
            figures = {"wall_s": (done or time.time()) - run.start, "cpu_s": run.cpu(), "rss_mib": run.rss / MIB, "threads": run.threads}
            run.stop()
            if done is None:
                return {"failed": f"not done in {limit} s"}
        listing = [line.split(" ", 2)[2] for line in data.with_name(data.name + ".swarm").read_text().splitlines() if line.startswith("file ")]
        for name in listing if client != "floor" or len(listing) == 1 else []:
            got = out / name
            if not got.exists() and client == "rqbit" and "/" in name:
                got = out / name.split("/", 1)[1]
            if not got.exists() or not filecmp.cmp(data.parent / name, got, shallow=False):
                return {"failed": f"{name} differs"}
        total = sum((data.parent / name).stat().st_size for name in listing)
        figures["cpu_s_per_gib"] = figures["cpu_s"] / (total / GIB)
        figures["mib_s"] = total / MIB / figures["wall_s"]
        return figures
    finally:
        tracker.stop()
        for helper in helpers:
            helper.stop()


def seeding(load, client, data, conns, total, idle=0, port=6951):
    torrent = data.with_name(data.name + ".torrent")
    if client == "floor":
        helper = Helper(load, "seed", "--swarm", data.with_name(data.name + ".swarm"), "--listen", f"{HOST}:{port}", wait="ready")
        before, cpu = time.time(), lambda: sum(map(int, Path(f"/proc/{helper.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13])) / os.sysconf("SC_CLK_TCK")
        run, tracker = None, None
    else:
        tracker = Helper(load, "tracker", "--listen", TRACKER, "--interval", "2")
        wait_port(6900)
        run = Client(client, torrent, data.parent, port, seed=True)
        deadline = time.time() + 120
        while time.time() < deadline and not any(f":{port} " in line and "left=0" in line for line in tracker.lines):
            time.sleep(0.02)
        wait_port(port)
        cpu = run.cpu
        time.sleep(1)
    try:
        before = cpu()
        words = [load, "leech", "--swarm", data.with_name(data.name + ".swarm"), "--peer", f"{HOST}:{port}", "--conns", str(conns), "--bytes", str(total)]
        if idle:
            words += ["--idle-s", str(idle)]
        text = subprocess.run(words, capture_output=True, text=True, timeout=280).stdout.split()
        used = cpu() - before
        figures = {"cpu_s": used}
        if run:
            figures |= {"rss_mib": run.rss / MIB, "threads": run.threads}
        if not idle:
            moved = int(text[1])
            figures |= {"wall_s": float(text[3]), "mib_s": float(text[5]), "cpu_s_per_gib": used / max(moved / GIB, 1e-9)}
            if moved < total * 0.99:
                figures["failed"] = f"{text[7]} of {conns} connections ended early, {moved / MIB:.0f} MiB moved"
        return figures
    finally:
        if run:
            run.stop()
            tracker.stop()
        else:
            helper.stop()


def recheck(load, client, data):
    subprocess.run(["cat", str(data)], stdout=subprocess.DEVNULL, check=True)  # into the page cache
    torrent = data.with_name(data.name + ".torrent")
    if client == "floor":
        started = time.time()
        subprocess.run(["openssl", "dgst", "-sha1", str(data)], stdout=subprocess.DEVNULL, check=True)  # one core, SHA-NI
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return {"wall_s": time.time() - started, "mib_s": data.stat().st_size / MIB / (time.time() - started)}
    tracker = Helper(load, "tracker", "--listen", TRACKER, "--interval", "2")
    wait_port(6900)
    run = Client(client, torrent, data.parent, 6951, seed=True)
    try:
        deadline, done = time.time() + 200, None
        while done is None and time.time() < deadline:
            done = next((float(line.split()[0]) for line in tracker.lines if ":6951 " in line and "left=0" in line), None)
            time.sleep(0.005)
        if done is None:
            return {"failed": "never announced left=0"}
        size = data.stat().st_size
        return {"wall_s": done - run.start, "mib_s": size / MIB / (done - run.start), "cpu_s": run.cpu(), "cpu_s_per_gib": run.cpu() / (size / GIB), "rss_mib": run.rss / MIB}
    finally:
        run.stop()
        tracker.stop()


def creating(load, client, data):
    subprocess.run(["cat", str(data)], stdout=subprocess.DEVNULL, check=True)  # into the page cache
    out = SCRATCH / "created.torrent"
    out.unlink(missing_ok=True)
    btsync = os.environ.get("BTSYNC", str(ROOT / "target/release/btsync"))
    words = {
        "floor": ["openssl", "dgst", "-sha1", data],
        "btsync": [btsync, "create", data, "-o", out, "--piece-length", "1M"],
        "mktorrent": ["mktorrent", "-l", "20", "-t", str(os.cpu_count()), "-a", f"http://{TRACKER}/announce", "-o", out, data],
        "imdl": ["imdl", "torrent", "create", "--input", data, "--output", out, "--piece-length", "1MiB"],
        "transmission": ["transmission-create", "-o", out, "-s", "1024", data],
    }.get(client)
    if words is None:
        return {"failed": "has no command for it"}
    started = time.time()
    process = subprocess.Popen([str(word) for word in words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall, cpu, size = time.time() - started, usage.ru_utime + usage.ru_stime, data.stat().st_size
    if status or (client != "floor" and not out.exists()):
        return {"failed": f"status {status}"}
    return {"wall_s": wall, "mib_s": size / MIB / wall, "cpu_s": cpu, "cpu_s_per_gib": cpu / (size / GIB)}


def whole_swarm(load, client, data, instances=6, limit=280):
    if client == "floor":
        return {"wall_s": data.stat().st_size / (20 * MIB)}
    torrent = data.with_name(data.name + ".torrent")
    # one connection's worth of 20 MiB/s: six connections share it
    seeder = Helper(load, "seed", "--swarm", data.with_name(data.name + ".swarm"), "--listen", "10.77.1.1:7000", "--rate", str(20 * MIB // instances), wait="ready")
    (SCRATCH / "peers").write_text("10.77.1.1:7000")
    tracker = Helper(load, "tracker", "--listen", TRACKER, "--peers", SCRATCH / "peers", "--interval", "2")
    wait_port(6900)
    outs = [SCRATCH / f"out{i}" for i in range(instances)]
    runs = []
    for i, out in enumerate(outs):
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        runs.append(Client(client, torrent, out, 6951 + i, seed=client != "rqbit"))
    started = time.time()
    try:
        done = {}
        while len(done) < instances and time.time() < started + limit:
            for i, run in enumerate(runs):
                at = completed(tracker, 6951 + i)
                if at is None and run.ended():
                    at = run.end
                if at is not None:
                    done.setdefault(i, at)
            time.sleep(0.01)
        if len(done) < instances:
            return {"failed": f"{len(done)} of {instances} done in {limit} s"}
        served = int(([line for line in seeder.lines if line.startswith("served")] or ["served 0"])[-1].split()[1])
        return {"wall_s": max(done.values()) - started, "seed_copies": served / data.stat().st_size, "cpu_s": sum(run.cpu() for run in runs)}
    finally:
        for run in runs:
            run.stop()
        tracker.stop()
        seeder.stop()


def scenario(name, load, client):
    g1 = lambda: payload(load, "g1", GIB, MIB)
    q1 = lambda: payload(load, "q1", GIB // 4, MIB // 2)
    if name in ("d1", "d1pin"):
        return download(load, client, g1(), [(addresses(1), [])], pin=name == "d1pin")
    if name == "d20":
        return download(load, client, g1(), [(addresses(20), [])])
    if name == "rtt1":
        return download(load, client, q1(), [(addresses(1), ["--rtt-ms", "100"])])
    if name == "rtt10":
        return download(load, client, q1(), [(addresses(10), ["--rtt-ms", "100"])])
    if name == "rate50":
        return download(load, client, q1(), [(addresses(50), ["--rate", str(MIB)])])
    if name == "bad5":
        return download(load, client, q1(), [(addresses(5), ["--rate", str(10 * MIB)]), (addresses(1, 100), ["--corrupt-every", "20", "--rate", str(10 * MIB)])])
    if name == "stall":
        return download(load, client, q1(), [(addresses(9), ["--rate", str(4 * MIB)]), (addresses(1, 100), ["--stall-after", "50"])])
    if name == "files":
        return download(load, client, payload(load, "files", 10_000 * 20480, MIB // 4, 10_000), [(addresses(4), [])])
    if name in ("s1", "s20", "s200"):
        return seeding(load, client, g1(), int(name[1:]), 4 * GIB)
    if name == "idle200":
        return seeding(load, client, q1(), 200, 0, idle=20)
    if name == "check":
        return recheck(load, client, payload(load, "g2", 2 * GIB, MIB))
    if name == "create":
        return creating(load, client, payload(load, "g2", 2 * GIB, MIB))
    if name == "swarm":
        return whole_swarm(load, client, payload(load, "m128", 128 * MIB, MIB // 4))
    raise SystemExit(f"no such scenario: {name}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios")
    parser.add_argument("clients")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json")
    args = parser.parse_args()
    if "SWARMLOAD" not in os.environ:  # again, in a network namespace of its own, with a hundred addresses
        # The build comes first, because cargo may have to download crates.
        os.environ |= {"SWARMLOAD": swarmload(), "SCRATCH": str(SCRATCH)}
        rootless = [] if os.geteuid() == 0 else ["--map-root-user"]
        os.execvp("unshare", ["unshare", *rootless, "-n", sys.executable, *sys.argv])
    subprocess.run(["sh", "-c", f"ip link set lo up && ip addr add {HOST}/16 dev lo && for i in $(seq 1 120); do ip addr add 10.77.1.$i/32 dev lo; done"], check=True)
    load = os.environ["SWARMLOAD"]
    everything = {}
    for name in args.scenarios.split(","):
        rows = {}
        for turn in range(args.runs):
            for client in args.clients.split(","):
                try:
                    figures = scenario(name, load, client)
                except Exception as error:  # one client's failure must not end the comparison
                    figures = {"failed": f"{type(error).__name__}: {error}"}
                rows.setdefault(client, []).append(figures)
                print(f"  {name} {client} run {turn + 1}: " + " ".join(f"{k}={v:.2f}" if isinstance(v, float) else f"{k}={v}" for k, v in figures.items()), file=sys.stderr, flush=True)
        everything[name] = rows
        print(f"\n## {name}")
        keys = ["wall_s", "mib_s", "cpu_s_per_gib", "cpu_s", "rss_mib", "threads", "seed_copies"]
        print("| client | " + " | ".join(keys) + " | failed |\n|---" * 1 + "|---" * (len(keys) + 1) + "|")
        for client, runs in rows.items():
            good = [r for r in runs if "failed" not in r] or [{}]
            cells = []
            for key in keys:
                values = [r[key] for r in good if key in r]
                cells.append(f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})" if values else "")
            print(f"| {client} | " + " | ".join(cells) + f" | {len([r for r in runs if 'failed' in r])}/{len(runs)} |", flush=True)
    if args.json:
        Path(args.json).write_text(json.dumps(everything, indent=1))


main()
