#!/usr/bin/env python3
"""Compares a download from one web seed with curl, on loopback: bench-web-seed.py [--mib N] [--rounds N] [--btsync PROGRAM] [--proxy].

nginx, and a server of this script that is one thread and one sendfile() a request, each serve a file from memory. Each round runs curl,
btsync, and a program that only hashes the file. With --proxy, it runs them directly and through a SOCKS 5 proxy
(microsocks), and downloads from a peer in both ways. The table has medians and ranges, in seconds of wall time and of CPU time. Use an idle
machine, and `unshare -rn` to be sure that nothing leaves it (`make bench-web-seed`).
"""

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time


def bencode(value):
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, bytes):
        return b"%d:%s" % (len(value), value)
    return b"d" + b"".join(bencode(key) + bencode(value[key]) for key in sorted(value)) + b"e"


def make_torrent(path, payload, piece_length=1 << 20):
    import hashlib

    pieces = bytearray()
    with open(payload, "rb") as file:
        while piece := file.read(piece_length):
            pieces += hashlib.sha1(piece).digest()
    info = {b"length": os.path.getsize(payload), b"name": b"payload", b"piece length": piece_length, b"pieces": bytes(pieces)}
    with open(path, "wb") as file:
        file.write(bencode({b"info": info}))


def start_nginx(folder, root):
    config = f"""daemon off; user root; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{ access_log off; sendfile on; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
server {{ listen 127.0.0.1:8081; root {root}; }} }}
"""
    path = os.path.join(folder, "nginx.conf")
    with open(path, "w") as file:
        file.write(config)
    server = subprocess.Popen(["nginx", "-c", path], env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin"})
    while server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", 8081)).close()
            return server
        except OSError:
            time.sleep(0.05)
    sys.exit("nginx does not start")


def start_and_wait(command, port):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return process
        except OSError:
            time.sleep(0.05)
    sys.exit(f"{command[0]} does not start")


def serve(listener, root):
    """Answers ranges with sendfile(), one connection at a time."""
    while True:
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as reader:
            while (first := reader.readline()).strip():
                headers = {}
                while (line := reader.readline()).strip():
                    name, _, value = line.decode().partition(":")
                    headers[name.lower()] = value.strip()
                with open(root + first.split()[1].decode(), "rb") as file:
                    size = os.fstat(file.fileno()).st_size
                    start, end, status = 0, size, "200 OK"
                    extra = ""
                    if wanted := headers.get("range"):
                        start, _, last = wanted.removeprefix("bytes=").partition("-")
                        start, end = int(start), int(last) + 1
                        status, extra = "206 Partial Content", f"Content-Range: bytes {start}-{end - 1}/{size}\r\n"
                    connection.sendall(f"HTTP/1.1 {status}\r\n{extra}Content-Length: {end - start}\r\n\r\n".encode())
                    try:
                        connection.sendfile(file, start, end - start)
                    except OSError:
                        break


def run(command):
    """The wall time and the CPU time of a command."""
    begun = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    output = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{command[0]} failed: {output.decode()}")
    return time.monotonic() - begun, usage.ru_utime + usage.ru_stime


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--proxy", action="store_true")
    parser.add_argument("--btsync", default="target/release/btsync")
    args = parser.parse_args()
    folder = tempfile.mkdtemp(dir="/dev/shm")
    os.chmod(folder, 0o755)
    root, out = os.path.join(folder, "www"), os.path.join(folder, "out")
    os.mkdir(root)
    payload, torrent = os.path.join(root, "payload"), os.path.join(folder, "payload.torrent")
    with open(payload, "wb") as file:
        for _ in range(args.mib):
            file.write(os.urandom(1 << 20))
    make_torrent(torrent, payload)
    listener = socket.create_server(("127.0.0.1", 8082))
    threading.Thread(target=serve, args=(listener, root), daemon=True).start()
    nginx = start_nginx(folder, root)
    offline = ["--no-dht", "--no-lsd", "--no-port-mapping"]
    servers = [nginx]
    curl = ["curl", "-sS", "-o", out]
    download = [args.btsync, torrent, out, *offline]

    def of_web_seed(name, port):
        url = f"http://127.0.0.1:{port}/payload"
        return [(name, "curl", [*curl, url]), (name, "btsync", [*download, "--web-seed", url])]

    cases = of_web_seed("nginx", 8081)
    if args.proxy:
        seed = [args.btsync, torrent, root, "--seed", "--listen-port", "8083", *offline]
        servers.append(start_and_wait(seed, 8083))
        servers.append(start_and_wait(["microsocks", "-i", "127.0.0.1", "-p", "8084"], 8084))
        cases.append(("a peer", "btsync", [*download, "--peer", "127.0.0.1:8083"]))
        by = {"curl": ["-x", "socks5h://127.0.0.1:8084"], "btsync": ["--proxy", "socks5://127.0.0.1:8084"]}
        cases += [(f"{name}, through the proxy", program, command + by[program]) for name, program, command in cases]
    else:
        cases += of_web_seed("sendfile", 8082)
    cases.append(("–", "hashing", [args.btsync, "verify", torrent, root]))
    rows = {}
    try:
        for _ in range(args.rounds):
            for name, program, command in cases:
                rows.setdefault((name, program), []).append(run(command))
                if os.path.isdir(out):
                    shutil.rmtree(out)
                elif os.path.exists(out):
                    os.remove(out)
    finally:
        for server in servers:
            server.terminate()
            server.wait()
        shutil.rmtree(folder)
    print("| server | program | wall s | CPU s |\n|---|---|---|---|")
    for (server, program), figures in rows.items():
        cells = [f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})" for values in zip(*figures)]
        print(f"| {server} | {program} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
