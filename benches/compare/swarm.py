"""The other side of a comparison: a torrent, a tracker that records every announce, and peers that behave as a scenario defines.

Peers and tracker are single-threaded asyncio on one background thread; a scenario's own code runs on the main thread and only
reads their counters.
"""
import asyncio
import hashlib
import random
import socket
import struct
import threading
import time
from pathlib import Path
from urllib.parse import parse_qs, unquote_to_bytes, urlsplit

BLOCK, MIB = 16 * 1024, 1 << 20
PROTOCOL = b"\x13BitTorrent protocol"
CHOKE, UNCHOKE, INTERESTED, NOT_INTERESTED, HAVE, BITFIELD, REQUEST, PIECE, CANCEL = range(9)


def bencode(value):
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, bytes):
        return b"%d:%s" % (len(value), value)
    if isinstance(value, str):
        return bencode(value.encode())
    if isinstance(value, list):
        return b"l" + b"".join(map(bencode, value)) + b"e"
    pairs = sorted((k.encode(), v) for k, v in value.items())
    return b"d" + b"".join(bencode(k) + bencode(v) for k, v in pairs) + b"e"


class Torrent:
    """A torrent of a single file with random bytes, which depend on `seed` only."""

    def __init__(self, name, size, piece_length, seed=1):
        self.name, self.size, self.piece_length = name, size, piece_length
        rng = random.Random(seed)
        self.data = b"".join(rng.randbytes(min(MIB, size - at)) for at in range(0, size, MIB))
        hashes = b"".join(hashlib.sha1(self.data[at:at + piece_length]).digest() for at in range(0, size, piece_length))
        self.pieces = len(hashes) // 20
        self.info = {"length": size, "name": name, "piece length": piece_length, "pieces": hashes}
        self.info_hash = hashlib.sha1(bencode(self.info)).digest()

    def write(self, path, announce):
        """Writes the .torrent file. `announce` is a URL or a list of tiers."""
        tiers = announce if isinstance(announce, list) else [[announce]]
        path.write_bytes(bencode({"announce": tiers[0][0], "announce-list": tiers, "info": self.info}))
        return path

    def magnet(self, announce):
        return f"magnet:?xt=urn:btih:{self.info_hash.hex()}&dn={self.name}&tr={announce}"

    def piece(self, index):
        return self.data[index * self.piece_length:(index + 1) * self.piece_length]

    def folder(self, path, have=lambda piece: True):
        """Creates a folder with the file, with zeros in the pieces that are missing from `have`."""
        path.mkdir(parents=True, exist_ok=True)
        with open(path / self.name, "wb") as file:
            for index in range(self.pieces):
                file.write(self.piece(index) if have(index) else bytes(len(self.piece(index))))
        return path


class Watch:
    """Checks whether a folder contains the complete file. Examines only pieces that were missing before."""

    def __init__(self, torrent, folder):
        self.torrent, self.path, self.missing = torrent, folder / torrent.name, list(range(torrent.pieces))

    def pieces(self):
        """The number of complete pieces."""
        try:
            with open(self.path, "rb") as file:
                self.missing = [index for index in self.missing if not self._is_there(file, index)]
        except FileNotFoundError:
            pass
        return self.torrent.pieces - len(self.missing)

    def is_complete(self):
        try:
            with open(self.path, "rb") as file:
                while self.missing and self._is_there(file, self.missing[-1]):
                    self.missing.pop()
        except FileNotFoundError:
            pass
        return not self.missing

    def _is_there(self, file, index):
        file.seek(index * self.torrent.piece_length)
        return file.read(self.torrent.piece_length) == self.torrent.piece(index)


class Loop:
    """The background thread on which peers and trackers run."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.servers = []

    def listen(self, handle, host, port, backlog=200):
        async def start():
            return await asyncio.start_server(handle, host, port, backlog=backlog)
        server = asyncio.run_coroutine_threadsafe(start(), self.loop).result(10)
        self.servers.append(server)

    def spawn(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def close(self):
        async def stop():
            for server in self.servers:
                server.close()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self.spawn(stop()).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)


class Tracker:
    """An HTTP tracker that returns `peers` ("host:port" each): to everyone, or with `only_ipv4` only over IPv4. With `introduces` it also
    returns the peers that have announced."""

    def __init__(self, loop, host, port=6900, peers=(), introduces=False, interval=2, only_ipv4=False):
        self.peers, self.introduces, self.interval, self.only_ipv4 = list(peers), introduces, interval, only_ipv4
        self.announces, self.known = [], {}
        self.url = f"http://{host}:{port}/announce"
        loop.listen(self._serve, host, port)

    async def _serve(self, reader, writer):
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            target = head.split()[1].decode("latin-1")
            answer = self._announce(writer.get_extra_info("peername")[0], target)
            writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
            await writer.drain()
        except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError, IndexError, KeyError, ValueError):
            pass
        finally:
            writer.close()

    def _announce(self, host, target):
        said = {key: values[0] for key, values in parse_qs(urlsplit(target).query, encoding="latin-1").items()}
        port, event = int(said["port"]), said.get("event", "")
        self.announces.append({
            "at": time.time(), "host": host, "port": port, "event": event,
            **{key: int(said.get(key, 0)) for key in ("left", "uploaded", "downloaded")}})
        if self.only_ipv4 and ":" in host:
            return bencode({"interval": self.interval, "min interval": self.interval, "peers": b""})
        peers = self.peers + [peer for peer in self.known if self.introduces and peer != f"{host}:{port}"]
        if event == "stopped":
            self.known.pop(f"{host}:{port}", None)
        else:
            self.known[f"{host}:{port}"] = True
        return bencode({"interval": self.interval, "min interval": self.interval, "peers": compact(peers)})

    def of(self, host):
        return [announce for announce in list(self.announces) if announce["host"] == host]

    def completed(self, host):
        return next((announce["at"] for announce in self.of(host) if announce["event"] == "completed"), None)


class UdpTracker(asyncio.DatagramProtocol):
    """A UDP tracker (BEP 15). It ignores its first `deaf` packets, as if the link had lost them."""

    def __init__(self, loop, host, port=6901, peers=(), deaf=0, interval=1800):
        self.peers, self.deaf, self.interval, self.url = list(peers), deaf, interval, f"udp://{host}:{port}/announce"

        async def start():
            running = asyncio.get_running_loop()
            return (await running.create_datagram_endpoint(lambda: self, local_addr=(host, port)))[0]
        loop.servers.append(loop.spawn(start()).result(10))

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, packet, addr):
        if len(packet) < 16:
            return
        if self.deaf > 0:
            self.deaf -= 1
            return
        action, transaction = struct.unpack(">II", packet[8:16])
        answer = struct.pack(">II", action, transaction)
        if action == 0:
            answer += bytes(8)
        elif action == 1:
            answer += struct.pack(">III", self.interval, 0, len(self.peers)) + compact(self.peers)
        else:
            return
        self.transport.sendto(answer, addr)


def compact(peers):
    pairs = (peer.rsplit(":", 1) for peer in peers)
    return b"".join(socket.inet_aton(host) + struct.pack(">H", int(port)) for host, port in pairs)


def message(kind, body=b""):
    return struct.pack(">IB", len(body) + 1, kind) + body


class Peer:
    """A peer that listens at `host:port`. By default it is an honest seed; `behave` selects another behavior:

    seed      answers requests with `rate` bytes per second per connection (0: as fast as it can)
    leech     has no piece, wants all, and downloads with `window` outstanding requests
    silent, alive, drip, short   unchokes and accepts requests; sends nothing, keep-alives, a byte per second, short blocks
    hangup    closes its first connection after the first block, then behaves as a seed
    """

    def __init__(self, loop, torrent, host, port=7000, behave="seed", rate=0, delay=lambda: 0.0):
        self.torrent, self.behave, self.rate, self.delay = torrent, behave, rate, delay
        self.addr = f"{host}:{port}"
        # Read by scenarios: connection times, bytes of blocks sent, pieces announced by HAVE, own pieces.
        self.connected, self.sent, self.told, self.have = [], 0, [], {}
        self.asked = []
        self.received = 0
        loop.listen(self._serve, host, port)

    async def _serve(self, reader, writer):
        try:
            await self._talk(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError, asyncio.CancelledError):
            pass  # the other side disconnected, or the scenario is over
        finally:
            writer.close()

    async def _talk(self, reader, writer):
        handshake = await asyncio.wait_for(reader.readexactly(68), 30)
        if not handshake.startswith(PROTOCOL):
            return  # encrypted: aria2 always tries that first, and dials again in plain text after the disconnect
        self.connected.append(time.time())
        peer_id = b"-XX0001-" + random.randbytes(12)
        writer.write(PROTOCOL + bytes(8) + self.torrent.info_hash + peer_id)
        queue = asyncio.Queue()
        sender = asyncio.ensure_future(self._send(queue, writer, len(self.connected) == 1))
        try:
            if self.behave == "leech":
                await self._leech(reader, writer)
            else:
                full = (1 << self.torrent.pieces) - 1 << -self.torrent.pieces % 8
                writer.write(message(BITFIELD, full.to_bytes((self.torrent.pieces + 7) // 8, "big")) + message(UNCHOKE))
                async for kind, body in frames(reader):
                    if kind == REQUEST:
                        self.asked.append(struct.unpack(">III", body))
                        await queue.put((time.time() + self.delay(), body))
                    elif kind == HAVE:
                        self.told.append((time.time(), struct.unpack(">I", body)[0]))
        finally:
            sender.cancel()

    async def _send(self, queue, writer, first):
        if self.behave == "alive":
            while True:
                await asyncio.sleep(1)
                writer.write(bytes(4))
        if self.behave == "silent":
            return
        latest = free_at = 0.0
        while True:
            due, body = await queue.get()
            index, begin, length = struct.unpack(">III", body)
            latest = max(latest, due)  # the link does not reorder
            now = time.time()
            free_at = max(free_at, now, latest) + (length / self.rate if self.rate else 0)
            if free_at > now + 0.002:
                await asyncio.sleep(free_at - now)
            block = self.torrent.piece(index)[begin:begin + length]
            if self.behave == "short":
                writer.write(message(PIECE, body[:8] + block[:1]))
                continue
            whole = message(PIECE, body[:8] + block)
            if self.behave == "drip":
                for byte in whole:
                    writer.write(bytes([byte]))
                    await asyncio.sleep(1)
            writer.write(whole)
            await writer.drain()
            self.sent += length
            if self.behave == "hangup" and first:
                writer.close()
                return

    async def _leech(self, reader, writer, window=8):
        """Downloads announced pieces in random order; of the received pieces it keeps only the count."""
        wants, waiting, open_requests, choked = [], {}, 0, True
        writer.write(message(INTERESTED))
        async for kind, body in frames(reader):
            if kind == BITFIELD:
                bits = int.from_bytes(body, "big") >> (-self.torrent.pieces % 8)
                has = [i for i in range(self.torrent.pieces) if bits >> (self.torrent.pieces - 1 - i) & 1]
                wants += [(i, b) for i in random.sample(has, len(has)) for b in range(0, len(self.torrent.piece(i)), BLOCK)]
            elif kind == HAVE:
                index = struct.unpack(">I", body)[0]
                wants += [(index, b) for b in range(0, len(self.torrent.piece(index)), BLOCK)]
            elif kind in (CHOKE, UNCHOKE):
                choked = kind == CHOKE
                if choked:  # outstanding requests are lost
                    wants = sorted(waiting) + wants
                    waiting, open_requests = {}, 0
            elif kind == PIECE:
                index, begin = struct.unpack(">II", body[:8])
                if waiting.pop((index, begin), None):
                    open_requests -= 1
                    self.received += len(body) - 8
                    self.have.setdefault(index, set()).add(begin)
            while not choked and wants and open_requests < window:
                index, begin = wants.pop(0)
                waiting[(index, begin)] = True
                open_requests += 1
                length = min(BLOCK, len(self.torrent.piece(index)) - begin)
                writer.write(message(REQUEST, struct.pack(">III", index, begin, length)))

    def whole_pieces(self):
        blocks = lambda index: -(-len(self.torrent.piece(index)) // BLOCK)
        return sum(len(have) == blocks(index) for index, have in list(self.have.items()))


async def frames(reader):
    """The messages of a connection, without keep-alives."""
    while True:
        length = struct.unpack(">I", await reader.readexactly(4))[0]
        if length == 0:
            continue
        frame = await reader.readexactly(length)
        yield frame[0], frame[1:]


class BlackHole:
    """A port on all addresses that drops every SYN, because the listener's queue is full."""

    def __init__(self, port):
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("0.0.0.0", port))
        self.socket.listen(0)
        self.fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            self.fillers.append(filler)
        time.sleep(0.2)

    def close(self):
        for opened in [self.socket, *self.fillers]:
            opened.close()
