#!/usr/bin/env python3
"""Makes the seeds of the fuzz targets: a few honest examples of each form. What fuzzing found is kept beside them, as `found-*`."""
import hashlib
import pathlib
import random
import struct

HERE = pathlib.Path(__file__).resolve().parent


def bencode(value):
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, (bytes, str)):
        value = value.encode() if isinstance(value, str) else value
        return b"%d:%s" % (len(value), value)
    if isinstance(value, list):
        return b"l" + b"".join(map(bencode, value)) + b"e"
    items = sorted((k.encode() if isinstance(k, str) else k, v) for k, v in value.items())
    return b"d" + b"".join(bencode(k) + bencode(v) for k, v in items) + b"e"


def frame(kind, body=b""):
    return struct.pack(">IB", len(body) + 1, kind) + body


def put(target, **seeds):
    folder = HERE / target
    folder.mkdir(exist_ok=True)
    for name, content in seeds.items():
        (folder / name).write_bytes(content)


FOUR = bytes([81, 2, 3, 4]) + struct.pack(">H", 6881)
SIX = bytes([0x2A, 0, 0x14, 0x50] + [0] * 11 + [1]) + struct.pack(">H", 6882)
HASH = b"a" * 20
ID = b"b" * 20

single = {"name": "a.bin", "piece length": 16384, "pieces": b"h" * 40, "length": 20000}
multi = {
    "name": "folder", "piece length": 32768, "pieces": b"h" * 20, "private": 1,
    "files": [{"path": ["x", "y.txt"], "length": 700}, {"path": [".pad", "0"], "attr": "p", "length": 99}],
}


def parent(left, right):
    return hashlib.sha256(left + right).digest()


# A file of three blocks, which are pieces, and a file of one byte in a folder.
leaves = [hashlib.sha256(block).digest() for block in (b"a" * 16384, b"b" * 16384, b"c")]
large_root = parent(parent(leaves[0], leaves[1]), parent(leaves[2], bytes(32)))
tree = {
    "d": {"small": {"": {"length": 1, "pieces root": hashlib.sha256(b"x").digest()}}},
    "large": {"": {"length": 32769, "pieces root": large_root}},
    "none": {"": {"length": 0}},
}
layers = {large_root: b"".join(leaves)}
v2 = {"name": "v2", "piece length": 16384, "meta version": 2}
halves = [{"path": ["d", "small"], "length": 1}, {"path": [".pad", "16383"], "attr": "p", "length": 16383},
          {"path": ["large"], "length": 32769}, {"path": ["none"], "length": 0}]
trackers = [["http://t.example/announce"], ["udp://u.example:6969/announce"]]
put("metainfo",
    single=bencode({"announce": trackers[0][0], "info": single}),
    multi=bencode({"announce-list": trackers, "comment": "c", "creation date": 9, "info": multi, "url-list": ["http://w.example/"]}),
    info=bencode(multi),
    v2=bencode({"info": {**v2, "file tree": tree}, "piece layers": layers}),
    hybrid=bencode({"info": {**v2, "file tree": tree, "files": halves, "pieces": b"h" * 80}, "piece layers": layers}))
put("file_tree",
    tree=bencode(tree),
    layers=bencode(tree) + bencode(layers),
    links=bencode({"l": {"": {"attr": "l", "symlink path": ["x", "a"]}}, "x": {"a": {"": {"attr": "x", "length": 0}}}}))

block = struct.pack(">III", 1, 16384, 16384)
handshake = b"\x13BitTorrent protocol" + bytes([0, 0, 0, 0, 0, 0x10, 0, 5]) + HASH + ID
plain = b"\0\0\0\0" + frame(5, b"\xf0\x08") + frame(1) + frame(2) + frame(4, bytes(4)) + frame(6, block) + frame(8, block)
fast = frame(14) + frame(15) + frame(16, block) + frame(17, bytes(4)) + frame(13, bytes(4)) + frame(9, b"\x1a\xe1")
put("messages",
    handshake=b"\x01" + handshake + plain,
    plain=b"\x02" + plain + frame(7, bytes(8) + b"data") + frame(0) + frame(3),
    fast=b"\x03" + fast + frame(20, b"\x00de") + frame(99, b"x"))

random.seed(1)
put("hash", many=bytes([18]) + random.randbytes(6000), two=bytes([1]) + random.randbytes(700))

put("extension",
    handshake=bencode({"m": {"ut_metadata": 3, "ut_pex": 1}, "metadata_size": 31235, "p": 6881, "reqq": 250, "v": "Some 1.0",
                       "yourip": FOUR[:4], "upload_only": 1}),
    request=bencode({"msg_type": 0, "piece": 1}),
    data=bencode({"msg_type": 1, "piece": 1, "total_size": 16389}) + b"hello",
    reject=bencode({"msg_type": 2, "piece": 0}),
    pex=bencode({"added": FOUR, "added.f": b"\x02", "added6": SIX, "added6.f": b"\x01", "dropped": FOUR, "dropped6": SIX}),
    punch=b"\0\0" + FOUR[:6] + bytes(4), punched=b"\1\1" + SIX[:18], not_punched=b"\2\0" + FOUR[:6] + bytes([0, 0, 0, 2]))

put("http_tracker",
    compact=bencode({"interval": 1800, "min interval": 60, "complete": 3, "incomplete": 4, "peers": FOUR, "peers6": SIX,
                     "external ip": FOUR[:4], "tracker id": "t", "warning message": "slow"}),
    long=bencode({"interval": 1800, "peers": [{"ip": "81.2.3.4", "port": 6881, "peer id": ID}]}),
    failure=bencode({"failure reason": "no such torrent", "retry in": 5}),
    scrape=bencode({"files": {HASH: {"complete": 1, "downloaded": 2, "incomplete": 3}}}))

put("udp_tracker",
    connected=struct.pack(">IIQ", 0, 7, 8),
    announced=struct.pack(">IIIII", 1, 7, 1800, 2, 3) + FOUR,
    announced6=struct.pack(">IIIII", 1, 7, 1800, 2, 3) + SIX,
    scraped=struct.pack(">IIIII", 2, 7, 1, 2, 3),
    error=struct.pack(">II", 3, 7) + b"no",
    ask_connect=struct.pack(">QII", 0x41727101980, 0, 7),
    ask_announce=struct.pack(">QII20s20sQQQIIIiH", 9, 1, 7, HASH, ID, 1, 2, 3, 2, 0, 0, -1, 6881) + b"\x02\x04/ann",
    ask_scrape=struct.pack(">QII20s", 9, 2, 7, HASH))

put("magnet",
    hex=b"magnet:?xt=urn:btih:" + b"a1" * 20 + b"&dn=a+b%20c&tr=http%3A%2F%2Ft.example%2Fannounce&x.pe=81.2.3.4:6881&so=0,2-4",
    base32=b"magnet:?xt=urn:btih:" + b"ABCDEFGH234567AB" * 2 + b"&ws=http://w.example/&x.pe=[2a00::1]:6881&x.pe=h.example:1",
    both=b"magnet:?xt.1=urn:btmh:1220" + b"a1" * 32 + b"&xt.2=urn:btih:" + b"A1" * 20 + b"#f")

put("rpc",
    old=b'{"method":"torrent-get","arguments":{"fields":["id","name","percentDone"],"ids":[1,"%s"]},"tag":7}' % (b"a1" * 20),
    add=b'{"method":"torrent-add","arguments":{"filename":"magnet:?xt=urn:btih:%s","paused":true,"labels":["a"]}}' % (b"a1" * 20),
    rpc=b'{"jsonrpc":"2.0","id":"x","method":"torrent_set","params":{"ids":"recently_active","files_wanted":[0,2],"seed_ratio_limit":1.5}}',
    session=b'{"jsonrpc":"2.0","id":null,"method":"session_set","params":{"speed_limit_down":100,"download_dir":"/d","alt_speed_time_day":127}}',
    group=b'{"jsonrpc":"2.0","id":1,"method":"group_set","params":{"name":"g","speed_limit_down":5,"speed_limit_down_enabled":true}}',
    batch=b'[{"jsonrpc":"2.0","id":1,"method":"session_get"},{"jsonrpc":"2.0","method":"torrent_stop","params":{"ids":[]}}]',
    broken=b'{"method":"torrent-get","arguments":')

put("mse",
    honest=b"\x00\x00\x00\x00",
    rc4=b"\x03\x00\x00\x00",
    key=b"\x04\x00\x00\x01",
    answer=b"\x00\x02\x00" + b"\x80" * 8,
    initiator=b"\x04\x02\x00" + b"\x80" * 8,
    raw=b"\x08\x00\x00" + b"\x02" * 120)


def krpc(**more):
    return bencode({"t": "aa", **more})


put("dht",
    ping=krpc(y="q", q="ping", a={"id": ID}),
    find=krpc(y="q", q="find_node", a={"id": ID, "target": HASH, "want": ["n4", "n6"]}, ro=1),
    get=krpc(y="q", q="get_peers", a={"id": ID, "info_hash": HASH}),
    announce=krpc(y="q", q="announce_peer", a={"id": ID, "info_hash": HASH, "port": 6881, "implied_port": 1, "token": "t"}),
    nodes=krpc(y="r", r={"id": ID, "nodes": ID + FOUR, "nodes6": ID + SIX, "token": "t"}, ip=FOUR),
    values=krpc(y="r", r={"id": ID, "values": [FOUR, SIX], "token": "t"}),
    error=krpc(y="e", e=[203, "bad token"]),
    scrape=krpc(y="q", q="get_peers", a={"id": ID, "info_hash": HASH, "scrape": 1, "noseed": 1}),
    filters=krpc(y="r", r={"id": ID, "BFsd": b"\x01" * 256, "BFpe": b"\x80" * 256}),
    sample=krpc(y="q", q="sample_infohashes", a={"id": ID, "target": HASH}),
    samples=krpc(y="r", r={"id": ID, "interval": 600, "num": 2, "samples": HASH * 2}),
    get_item=krpc(y="q", q="get", a={"id": ID, "target": HASH, "seq": 3}),
    put_item=krpc(y="q", q="put", a={"id": ID, "token": "t", "v": [1, "x"]}),
    put_signed=krpc(y="q", q="put", a={"id": ID, "token": "t", "v": "x", "k": b"k" * 32, "sig": b"s" * 64, "seq": 4,
                                       "salt": "salt", "cas": 3}),
    item=krpc(y="r", r={"id": ID, "token": "t", "v": "x", "k": b"k" * 32, "sig": b"s" * 64, "seq": 4}),
    not_newer=krpc(y="r", r={"id": ID, "token": "t", "seq": 4}))

text = "BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 6881\r\nInfohash: %s\r\ncookie: c\r\n\r\n\r\n"
put("lsd", one=(text % ("a1" * 20)).encode(), two=(text % ("A1" * 20 + "\r\nInfohash: " + "0" * 40)).encode())

get = b"GET /a%20b/c?d=%65&f=g HTTP/1.1\r\nHost: h\r\nRange: bytes=1-5\r\nIf-None-Match: \"x\"\r\n\r\n"
put("http_server",
    get=get + get,
    whole_url=b"GET http://h/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n\r\nOPTIONS * HTTP/1.0\r\n\r\n",
    post=b"POST /rpc HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody" + get,
    chunked=b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0a;x=y\r\n0123456789\r\n0\r\nT: x\r\n\r\n" + get,
    refused=get + b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")

# A record of three files of 800,000 bytes in pieces of 64 KiB; the target itself puts the checksum in front.
entry = lambda number: struct.pack(">IQqqQ", number, 800_000, 10**18, 10**18 + 5, 77)
record = lambda files, version=1, **more: bencode({
    **more, "boot": "b" * 36, "files": files, "have": b"\xff" * 4 + b"\xf8", "info_hash": HASH, "version": version})
put("resume", whole=record(entry(0) + entry(1) + entry(2)), some=record(entry(1)), strange=record(entry(9)), old=record(b"", 0),
    blocks=record(entry(1), blocks=b"\1" + struct.pack(">IHB", 2, 1, 0xA0) + struct.pack(">IHB", 5, 1, 0x10)),
    misfits=record(entry(1), blocks=b"\1" + struct.pack(">IHB", 99, 1, 0xA0) + struct.pack(">IHH", 5, 2, 0x10) + b"\0"))

utp = struct.Struct(">BBHIIIHH")
header = (0x1234, 123456, 7890, 1 << 20, 0xFFFE, 7)
put("utp_packet",
    data=utp.pack(0x01, 0, *header) + b"data",
    state=utp.pack(0x21, 1, *header) + bytes([0, 4, 1, 0, 0, 0x80]),
    padded=utp.pack(0x01, 0x7F, *header) + bytes([0x7F, 9]) + bytes(9) + bytes([0, 0]),
    syn=utp.pack(0x41, 2, *header) + bytes([0, 8]) + bytes(8),
    reset=utp.pack(0x31, 0, *header))
data = bytes([5, 30, 0, 0, 1, 0, 16, 0, 0, 0, 5, 0, 9, 1, 0])
ack = bytes([6, 2, 2, 0, 1, 0, 16, 0, 0, 0, 9, 0, 9, 1, 0])
late = bytes([5, 8, 0, 0, 1, 0, 16, 0, 0, 0, 5, 0, 9, 3, 255])
fin = bytes([7, 0, 1, 0, 0, 0, 16, 0, 0, 0, 5, 0, 9, 1, 0])
put("utp_endpoint",
    exchange=bytes([1, 200]) + data + ack + bytes([2, 50, 0, 40]) + data + bytes([1, 250]) + ack + bytes([0, 200]),
    gaps=late + late + data + bytes([2, 255]) + ack + bytes([0, 5]) + late + data,
    timeouts=bytes([1, 255]) + bytes([0, 110]) * 20 + ack,
    finish=bytes([1, 9, 3, 2]) + data + ack + fin + bytes([0, 1]),
    raw=bytes([4, 24]) + utp.pack(0x01, 0, *header) + b"data" + bytes([1, 30]) + ack)
