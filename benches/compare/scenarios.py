"""The scenarios. Each takes a `Stage` and a client's name, and returns figures: a dictionary from name to number or text.

Trackers and peers listen at `MAIN`. The client under test is in a network namespace of its own, at `BOX`, behind a virtual link whose
upload rate a scenario may limit (`stage.uplink`). In scenarios with several clients, they use addresses of `MAIN`'s network.
"""
import random
import time

from clients import CLIENTS, Running, is_installed
from swarm import BlackHole, Peer, Torrent, Tracker, UdpTracker, Watch

KB, KIB, MIB = 1000, 1 << 10, 1 << 20
MAIN, BOX = "10.90.9.1", "10.90.9.2"
MAIN6, BOX6 = "fd90:9::1", "fd90:9::2"
TWO_FAMILIES = "tracker.test"


def host(n):
    """An address of the swarm; `n` is 1 to 254."""
    return f"10.91.0.{n}"


def across(n):
    """An address at the near end of the virtual link; `n` is 1 to 9. libtorrent serves only the interface that has its address."""
    return f"10.90.9.{10 + n}"


def wait(seconds, done, step=0.05):
    """Waits until `done`. Returns the seconds that took, or None after `seconds`."""
    started = time.time()
    while time.time() < started + seconds:
        if done():
            return time.time() - started
        time.sleep(step)
    return None


def download(stage, client, torrent, tracker, limit, words=("plain",), what=None, have=None):
    """Starts the client. Returns the seconds until its download is complete."""
    out = stage.folder("out")
    if have:
        torrent.folder(out, have)
    what = what or torrent.write(stage.path("this.torrent"), tracker.url)
    run, watch = stage.start(client, what, out, BOX, words=words, inside=stage.box), Watch(torrent, out)
    end = wait(limit, lambda: tracker.completed(BOX) or run.exit_code() == 0 or watch.is_complete())
    return run, {"seconds": end} if end else {"seconds": f"> {limit}", "pieces": f"{watch.pieces()} of {torrent.pieces}"}


def mixed(stage, without=None):
    """A libtorrent seed of 3 MB/s and the five clients as leechers, all without limits: when each is complete, how much each uploads."""
    torrent = Torrent("mixed.bin", 48 * MIB + 77, 256 * KIB)
    tracker = Tracker(stage.loop, MAIN, introduces=True)
    what = torrent.write(stage.path("this.torrent"), tracker.url)
    source = torrent.folder(stage.folder("source"))
    seed = stage.start("libtorrent", what, source, host(1), words=["up=3000000", "show"])
    wait(30, lambda: any(said["left"] == 0 for said in tracker.of(host(1))))
    present = [client for client in CLIENTS if client != without and is_installed(client)]
    runs = {client: stage.start(client, what, stage.folder(f"out-{client}"), host(10 + n), words=["stay"])
            for n, client in enumerate(present)}
    watches = {client: Watch(torrent, stage.path(f"out-{client}")) for client in runs}
    started, ends = time.time(), {}

    def all_done():
        for client, run in runs.items():
            if client not in ends and (tracker.completed(run.host) or watches[client].is_complete()):
                ends[client] = (tracker.completed(run.host) or time.time()) - started
        return len(ends) == len(runs)
    wait(120, all_done)
    time.sleep(1.5)  # libtorrent prints its figures once per second
    given = seed.given()
    figures = {}
    for client, run in runs.items():
        run.stop()
        sent = max((said["uploaded"] for said in tracker.of(run.host)), default=0)
        from_seed = given.get(run.host, 0)
        figures[client] = {
            "ends": ends.get(client, "> 120"), "gave_mib": sent / MIB, "from_seed_mib": from_seed / MIB,
            "from_leechers_mib": (torrent.size - from_seed) / MIB}
    return figures


def super_seed(stage, client):
    """btsync's super-seed, and the client as its only leecher: seconds, and copies uploaded."""
    return super_seeded(stage, "btsync", client)


def super_seed_lt(stage, client):
    """libtorrent's super-seed, and three instances of the client as leechers: seconds until all are complete."""
    return super_seeded(stage, "libtorrent", client, 3)


def super_seeded(stage, seeder, client, leechers=1, limit=120):
    torrent = Torrent("super.bin", 16 * MIB, 128 * KIB)
    tracker = Tracker(stage.loop, MAIN, introduces=True)
    what = torrent.write(stage.path("this.torrent"), tracker.url)
    stage.start(seeder, what, torrent.folder(stage.folder("source")), host(1), words=["super", "stay"])
    wait(30, lambda: any(said["left"] == 0 for said in tracker.of(host(1))))
    runs = [stage.start(client, what, stage.folder(f"out-{n}"), host(10 + n), words=["stay"]) for n in range(leechers)]
    watches = [Watch(torrent, stage.path(f"out-{n}")) for n in range(leechers)]
    done = lambda run, watch: tracker.completed(run.host) or watch.is_complete()
    end = wait(limit, lambda: all([done(run, watch) for run, watch in zip(runs, watches)]))
    have = sum(watch.pieces() for watch in watches) / torrent.pieces / leechers
    return {"seconds": end} if end else {"seconds": f"> {limit}", "copies_each": have}


def stallers(stage, client):
    """One honest seed of 2 MB/s, and 12 peers that unchoke, accept requests and send nothing, keep-alives, a byte per second, or short
    blocks: 3 of each kind."""
    torrent = Torrent("stall.bin", 4 * MIB, 64 * KIB)
    kinds = ["silent", "alive", "drip", "short"]
    peers = [Peer(stage.loop, torrent, host(20 + n), behave=kinds[n % 4]) for n in range(12)]
    peers.append(Peer(stage.loop, torrent, host(1), rate=2_000_000))
    tracker = Tracker(stage.loop, MAIN, peers=[peer.addr for peer in peers])
    return download(stage, client, torrent, tracker, 90)[1]


def dial(stage, client):
    """200 addresses, 180 of which drop SYNs: seconds until the 20 others are connected."""
    torrent = Torrent("dial.bin", 64 * MIB, 256 * KIB)
    hole = BlackHole(7999)
    alive = [Peer(stage.loop, torrent, host(1 + n), rate=10 * KIB) for n in range(20)]
    addresses = [peer.addr for peer in alive] + [f"{host(21 + n)}:7999" for n in range(180)]
    random.Random(7).shuffle(addresses)
    tracker = Tracker(stage.loop, MAIN, peers=addresses, interval=1800)
    what = torrent.write(stage.path("this.torrent"), tracker.url)
    stage.start(client, what, stage.folder("out"), BOX, words=["plain"], inside=stage.box)
    end = wait(90, lambda: all(peer.connected for peer in alive))
    hole.close()
    return {"seconds": end or "> 90", "connected": sum(bool(peer.connected) for peer in alive)}


def reconnect(stage, client):
    """The only peer disconnects once: seconds until it is connected again."""
    torrent = Torrent("hangup.bin", 4 * MIB, 64 * KIB)
    peer = Peer(stage.loop, torrent, host(1), behave="hangup", rate=1_000_000)
    tracker = Tracker(stage.loop, MAIN, peers=[peer.addr], interval=1800)
    _, figures = download(stage, client, torrent, tracker, 60)
    gap = peer.connected[1] - peer.connected[0] if len(peer.connected) > 1 else "never"
    return {"again_after": gap, **figures}


def peer_list(stage, client):
    """A tracker that names 3,000 addresses that drop SYNs and a single good one: seconds until the good one is connected."""
    torrent = Torrent("list.bin", 4 * MIB, 64 * KIB)
    hole, peer = BlackHole(7999), Peer(stage.loop, torrent, host(1), rate=1_000_000)
    addresses = [peer.addr] + [f"10.92.{n // 250}.{n % 250 + 1}:7999" for n in range(3000)]
    random.Random(7).shuffle(addresses)
    tracker = Tracker(stage.loop, MAIN, peers=addresses, interval=1800)
    what = torrent.write(stage.path("this.torrent"), tracker.url)
    stage.start(client, what, stage.folder("out"), BOX, words=["plain"], inside=stage.box)
    end = wait(240, lambda: peer.connected)
    hole.close()
    return {"seconds": end or "> 240"}


def families(stage, client):
    """A tracker reachable over IPv4 and IPv6 that returns a seed over IPv4 only: seconds until the download is complete."""
    torrent = Torrent("families.bin", 4 * MIB, 64 * KIB)
    peer = Peer(stage.loop, torrent, host(1), rate=2_000_000)
    tracker = Tracker(stage.loop, MAIN, peers=[peer.addr], interval=1800, only_ipv4=True)
    stage.loop.listen(tracker._serve, MAIN6, 6900)
    what = torrent.write(stage.path("this.torrent"), f"http://{TWO_FAMILIES}:6900/announce")
    return download(stage, client, torrent, tracker, 60, what=what)[1]


def tiers(stage, client):
    """Two tiers of trackers, the first of which knows no peer: seconds until the download is complete."""
    torrent = Torrent("tiers.bin", 4 * MIB, 64 * KIB)
    peer = Peer(stage.loop, torrent, host(1), rate=2_000_000)
    first = Tracker(stage.loop, MAIN, interval=1800)
    second = Tracker(stage.loop, MAIN, port=6902, peers=[peer.addr], interval=1800)
    what = torrent.write(stage.path("this.torrent"), [[first.url], [second.url]])
    return download(stage, client, torrent, second, 60, what=what)[1]


def udp_loss(stage, client):
    """A UDP tracker on a link that loses the first packet: seconds until the download is complete."""
    torrent = Torrent("udp.bin", 4 * MIB, 64 * KIB)
    peer = Peer(stage.loop, torrent, host(1), rate=2_000_000)
    tracker = UdpTracker(stage.loop, MAIN, peers=[peer.addr], deaf=1)
    what = torrent.write(stage.path("this.torrent"), tracker.url)
    return download(stage, client, torrent, Tracker(stage.loop, MAIN), 60, what=what)[1]


def stopped(stage, client):
    """Eight seeds of 100 kB/s and pieces of 4 MiB; the client is stopped after 10 s and started again: bytes that the seeds upload
    beyond one copy, in percent."""
    torrent = Torrent("stopped.bin", 24 * MIB, 4 * MIB)
    peers = [Peer(stage.loop, torrent, host(1 + n), rate=100 * KB) for n in range(8)]
    tracker = Tracker(stage.loop, MAIN, peers=[peer.addr for peer in peers])
    what, out = torrent.write(stage.path("this.torrent"), tracker.url), stage.folder("out")
    run = stage.start(client, what, out, BOX, words=["plain"], inside=stage.box)
    time.sleep(10)
    run.stop()
    run = stage.start(client, what, out, BOX, words=["plain", "again"], inside=stage.box)
    watch = Watch(torrent, out)
    end = wait(90, lambda: run.exit_code() == 0 or watch.is_complete())
    return {"over_percent": 100 * (sum(peer.sent for peer in peers) / torrent.size - 1), "seconds": end or "> 90"}


def jitter(stage, client):
    """One seed whose answers take 20 to 200 ms: MB per second over 128 MiB."""
    torrent = Torrent("jitter.bin", 128 * MIB, 512 * KIB)
    rng = random.Random(3)
    peer = Peer(stage.loop, torrent, host(1), delay=lambda: rng.uniform(0.02, 0.2))
    tracker = Tracker(stage.loop, MAIN, peers=[peer.addr])
    _, figures = download(stage, client, torrent, tracker, 90)
    return {"mb_s": torrent.size / 1e6 / figures["seconds"], **figures} if "pieces" not in figures else figures


def slow_peers(stage, client):
    """20 seeds of 50 kB/s each and pieces of 8 MiB: seconds until the first piece is complete (announced to the seeds, or on disk)."""
    torrent = Torrent("large.bin", 64 * MIB, 8 * MIB)
    peers = [Peer(stage.loop, torrent, host(1 + n), rate=50 * KB) for n in range(20)]
    tracker = Tracker(stage.loop, MAIN, peers=[peer.addr for peer in peers])
    what = torrent.write(stage.path("this.torrent"), tracker.url)
    out = stage.folder("out")
    stage.start(client, what, out, BOX, words=["plain"], inside=stage.box)
    end = wait(60, lambda: any(peer.told for peer in peers) or Watch(torrent, out).pieces() > 0, 0.25)
    return {"first_piece": end or "> 60", "seeds_told": sum(bool(peer.told) for peer in peers)}


def over_fetch(stage, client):
    """Ten fast seeds and 256 MiB: bytes that they upload beyond one copy, in percent."""
    torrent = Torrent("fast.bin", 256 * MIB, MIB)
    peers = [Peer(stage.loop, torrent, host(1 + n), rate=8 * MIB) for n in range(10)]
    tracker = Tracker(stage.loop, MAIN, peers=[peer.addr for peer in peers])
    _, figures = download(stage, client, torrent, tracker, 90)
    return {"over_percent": 100 * (sum(peer.sent for peer in peers) / torrent.size - 1), **figures}


def very_slow(stage, client):
    """Two seeds of 1 KiB/s, for a minute: blocks that were requested more than once."""
    torrent = Torrent("crawl.bin", 4 * MIB, 256 * KIB)
    peers = [Peer(stage.loop, torrent, host(1 + n), rate=KIB) for n in range(2)]
    tracker = Tracker(stage.loop, MAIN, peers=[peer.addr for peer in peers])
    what = torrent.write(stage.path("this.torrent"), tracker.url)
    stage.start(client, what, stage.folder("out"), BOX, words=["plain"], inside=stage.box)
    time.sleep(75)
    asked = [block for peer in peers for block in peer.asked]
    return {"blocks_sent": sum(peer.sent for peer in peers) // (16 * KIB), "asked": len(asked),
            "asked_again": len(asked) - len(set(asked))}


def uplink(stage, client, words=()):
    """The client has one half of 32 MiB and a link with 100 kB/s upload, a libtorrent has the other half and no limit: seconds until the
    client is complete."""
    torrent = Torrent("halves.bin", 32 * MIB, 256 * KIB)
    tracker = Tracker(stage.loop, MAIN, introduces=True)
    what = torrent.write(stage.path("this.torrent"), tracker.url)
    other = torrent.folder(stage.folder("other"), lambda piece: piece % 2 == 1)
    stage.uplink(100 * KB)
    stage.start("libtorrent", what, other, across(1))
    wait(30, lambda: tracker.of(across(1)))
    return download(stage, client, torrent, tracker, 120, words=["stay", *words], have=lambda piece: piece % 2 == 0)[1]


def uplink_limited(stage, client):
    """The same with the client's own upload limit set to 90 kB/s, as an experienced user might do."""
    return uplink(stage, client, ["up=90000"])


def slow_seed(stage, client):
    """The client seeds over a link with 125 kB/s upload to 60 leechers, with pieces of 1 MiB: complete pieces after 100 s."""
    torrent = Torrent("slowseed.bin", 32 * MIB, MIB)
    leechers = [Peer(stage.loop, torrent, host(1 + n), behave="leech") for n in range(60)]
    tracker = Tracker(stage.loop, MAIN, peers=[peer.addr for peer in leechers])
    what = torrent.write(stage.path("this.torrent"), tracker.url)
    source = torrent.folder(stage.folder("source"))
    stage.uplink(125 * KB)
    stage.start(client, what, source, BOX, words=["plain", "stay"], inside=stage.box)
    first = wait(100, lambda: any(peer.whole_pieces() for peer in leechers), 0.25)
    time.sleep(max(0.0, 100 - (first or 100)))
    return {"first_piece": first or "> 100", "whole_pieces": sum(peer.whole_pieces() for peer in leechers),
            "mib_sent": sum(peer.received for peer in leechers) / MIB}


def magnet(stage, client):
    """A magnet link, with a libtorrent seed: seconds until the download is complete."""
    torrent = Torrent("magnet.bin", 4 * MIB, 64 * KIB)
    tracker = Tracker(stage.loop, MAIN, introduces=True)
    what = torrent.write(stage.path("seed.torrent"), tracker.url)
    stage.start("libtorrent", what, torrent.folder(stage.folder("source")), across(1))
    wait(30, lambda: any(said["left"] == 0 for said in tracker.of(across(1))))
    return download(stage, client, torrent, tracker, 60, words=(), what=torrent.magnet(tracker.url))[1]


def keep_alive(stage, client):
    """Six connections to libtorrents that have no more pieces than the client, so that the client would not dial them again: how many are
    lost in 150 s."""
    torrent = Torrent("idle.bin", MIB, 64 * KIB)
    tracker = Tracker(stage.loop, MAIN, introduces=True, interval=1800)
    what = torrent.write(stage.path("this.torrent"), tracker.url)
    idle = [stage.start("libtorrent", what, stage.folder(f"idle-{n}"), across(1 + n), words=["show"]) for n in range(6)]
    wait(30, lambda: all(tracker.of(run.host) for run in idle))
    stage.start(client, what, stage.folder("out"), BOX, words=["stay"], inside=stage.box)
    time.sleep(150)
    lost = sum(run.log().count(f"gone {BOX}:") for run in idle)
    return {"connected": sum(f"connected {BOX}:" in run.log() for run in idle), "lost": lost}


ONE_BY_ONE = {function.__name__: function for function in [
    super_seed, super_seed_lt, stallers, dial, peer_list, reconnect, families, tiers, udp_loss, jitter, slow_peers, stopped, over_fetch,
    very_slow, uplink, uplink_limited, slow_seed, magnet, keep_alive]}
