"""The compared clients. Each is started the way its users start it, on an address of its own."""
import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
CLIENTS = ["btsync", "libtorrent", "transmission", "qbittorrent", "aria2"]
BTSYNC = os.environ.get("BTSYNC", str(REPOSITORY / "target/release/btsync"))
PYTHON = os.environ.get("LT_PYTHON", str(REPOSITORY / ".venv/bin/python"))


def is_installed(client):
    program = {"btsync": BTSYNC, "libtorrent": PYTHON, "transmission": "transmission-daemon",
               "qbittorrent": "qbittorrent-nox", "aria2": "aria2c"}[client]
    return shutil.which(program) is not None


def command(client, what, out, host, port, home, words):
    """The command line of a client. `what` is a .torrent file or a magnet link. `words` are options: up=BYTES limits the upload rate,
    super makes a seed super-seed, stay keeps seeding after a download (all clients but btsync do so anyway), plain disables encryption,
    again reuses the home folder of an earlier run."""
    up = next((int(word[3:]) for word in words if word.startswith("up=")), 0)
    plain, is_magnet = "plain" in words, str(what).startswith("magnet:")
    if client == "btsync":
        options = ["--listen-port", port, "--no-dht", "--no-lsd", "--plain", "--interface", host]
        options += ["--seed"] * ("stay" in words) + ["--super-seed"] * ("super" in words)
        options += ["--max-upload-limit", up] * (up > 0) + ["--encryption", "off"] * plain
        return [BTSYNC, what, out, *options]
    if client == "libtorrent":
        settings = ["lan=no", f"resume={home}/resume"] + [f"upload_rate_limit={up}"] * (up > 0) + ["super=1"] * ("super" in words)
        settings += ["in_enc_policy=2", "out_enc_policy=2"] * plain + ["show=peers"] * ("show" in words)
        return [PYTHON, REPOSITORY / "scripts/lt_peer.py", what, out, host, port, *settings]
    if client == "transmission":
        (home / "watch").mkdir(exist_ok=True)
        (home / "settings.json").write_text(json.dumps({
            "dht-enabled": False, "lpd-enabled": False, "utp-enabled": False, "port-forwarding-enabled": False,
            "encryption": 0 if plain else 1, "download-dir": str(out), "incomplete-dir-enabled": False, "peer-port": int(port),
            "rpc-enabled": True, "rpc-port": int(port) + 1000, "rpc-bind-address": host, "rpc-authentication-required": False,
            "rpc-whitelist-enabled": False, "rpc-host-whitelist-enabled": False, "start-added-torrents": True,
            "bind-address-ipv4": host, "bind-address-ipv6": "::1", "watch-dir-enabled": True, "watch-dir": str(home / "watch"),
            "speed-limit-up": up // 1000, "speed-limit-up-enabled": up > 0}))
        if not is_magnet:  # a magnet link is added once the client runs
            shutil.copy(what, home / "watch")
        return ["transmission-daemon", "-f", "-g", home, "-e", "/dev/null"]
    if client == "qbittorrent":
        conf = home / "qBittorrent/config"
        conf.mkdir(parents=True, exist_ok=True)
        lines = ["[LegalNotice]", "Accepted=true", "[BitTorrent]", r"Session\DHTEnabled=false", r"Session\LSDEnabled=false",
                 r"Session\BTProtocol=TCP", rf"Session\Port={port}", rf"Session\InterfaceAddress={host}",
                 r"Session\MultiConnectionsPerIp=true", r"Session\AddTorrentPaused=false", r"Session\IgnoreLimitsOnLAN=false",
                 *[rf"Session\GlobalUPSpeedLimit={up // 1024}"] * (up > 0), *[r"Session\Encryption=2"] * plain,
                 "[Preferences]", r"WebUI\Enabled=true", rf"WebUI\Port={int(port) + 1000}", rf"WebUI\Address={host}",
                 r"WebUI\UseUPnP=false", "[Network]", "PortForwardingEnabled=false", ""]
        (conf / "qBittorrent.conf").write_text("\n".join(lines))
        return ["qbittorrent-nox", f"--profile={home}", f"--save-path={out}", "--skip-dialog=true", what]
    assert client == "aria2"
    return ["aria2c", f"--dir={out}", "--enable-dht=false", "--enable-dht6=false", "--bt-enable-lpd=false", "--no-conf",
            f"--listen-port={port}", "--interface", host, "--disable-ipv6=true", "--file-allocation=none", "--summary-interval=0",
            "--check-integrity=true", "--allow-overwrite=true", "--seed-ratio=0.0", f"--max-upload-limit={up}",
            "--bt-tracker-interval=2", what]


def add_link(link, host, port, patience=10):
    """Adds a magnet link to a Transmission that has just started. Its first answer is an error that contains the session id."""
    url, session = f"http://{host}:{port}/transmission/rpc", ""
    body = json.dumps({"method": "torrent-add", "arguments": {"filename": link}}).encode()
    deadline = time.time() + patience
    while time.time() < deadline:
        try:
            request = urllib.request.Request(url, body, {"X-Transmission-Session-Id": session})
            urllib.request.urlopen(request, timeout=2).read()
            return
        except urllib.error.HTTPError as error:
            session = error.headers.get("X-Transmission-Session-Id", "")
        except OSError:
            time.sleep(0.05)


class Running:
    """One running client."""

    def __init__(self, scratch, client, what, out, host, port=6951, words=(), inside=None):
        self.client, self.host = client, host
        self.home = scratch / f"home-{client}-{host}"
        if "again" not in words:
            shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(parents=True, exist_ok=True)
        out.mkdir(parents=True, exist_ok=True)
        line = [str(word) for word in command(client, what, out, host, str(port), self.home, words)]
        prefix = ["nsenter", "-t", str(inside), "-n", "--"] if inside else []
        places = {f"XDG_{name}_HOME": str(self.home) for name in ("CONFIG", "DATA", "CACHE")}
        keep = {name: value for name, value in os.environ.items() if not name.startswith("BTSYNC_")}
        with open(self.home / "log", "w") as log:
            self.process = subprocess.Popen(prefix + line, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                            env={**keep, "HOME": str(self.home), "RUST_LOG": "info", **places})
        self.started = time.time()
        if client == "transmission" and str(what).startswith("magnet:"):
            add_link(str(what), host, int(port) + 1000)

    def log(self):
        return (self.home / "log").read_text(errors="replace")

    def exit_code(self):
        return self.process.poll()

    def stop(self, patience=8):
        """Asks the client to exit, so that it sends its final figures to the tracker."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(patience)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def given(self):
        """How many bytes libtorrent has uploaded to each address over all its connections, according to its `show` output."""
        last = {(host, port): int(sent) for host, port, sent in re.findall(r"^gave ([\d.]+):(\d+) (\d+)", self.log(), re.M)}
        total = {}
        for (host, _), sent in last.items():
            total[host] = total.get(host, 0) + sent
        return total
