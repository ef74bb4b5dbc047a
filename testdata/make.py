#!/usr/bin/env python3
"""Makes the small torrents of this folder, and hashes.json with what their readers must find.

Its own few lines of bencode, so that what btsync reads is not only what btsync wrote. Run it in this folder; the same
bytes come out every time.
"""
import hashlib
import json
from pathlib import Path

PIECE = 16384


def bencode(value, ordered=True):
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return b"%d:%s" % (len(value), value)
    if isinstance(value, list):
        return b"l" + b"".join(bencode(v, ordered) for v in value) + b"e"
    items = [(k.encode(), v) for k, v in value.items()]
    if ordered:
        items.sort()
    return b"d" + b"".join(bencode(k) + bencode(v, ordered) for k, v in items) + b"e"


def content(length, seed):
    """Bytes that look random and are the same everywhere."""
    blocks = (hashlib.sha256(b"%d %d" % (seed, i)).digest() for i in range(length // 32 + 1))
    return b"".join(blocks)[:length]


def pieces(data):
    return b"".join(hashlib.sha1(data[i : i + PIECE]).digest() for i in range(0, len(data), PIECE))


def single():
    data = content(50_000, 1)
    return {"name": "single.bin", "length": len(data), "piece length": PIECE, "pieces": pieces(data)}, {}


def multi():
    files = [(["a.txt"], content(20_000, 2)), (["d", "empty"], b""), (["d", "ünï.bin"], content(33_333, 3))]
    entries = [{"length": len(data), "path": path} for path, data in files]
    info = {"name": "multi", "files": entries, "piece length": PIECE, "pieces": pieces(b"".join(d for _, d in files))}
    trackers = {"announce-list": [["http://a.test/announce", "udp://b.test:1"], ["http://c.test/announce"]]}
    return info, trackers


def padded():
    files = [(["a"], content(10_000, 4), ""), ([".pad", "6384"], bytes(6384), "p"), (["b"], content(5, 5), "")]
    entries = [{"length": len(data), "path": path} | ({"attr": attr} if attr else {}) for path, data, attr in files]
    data = b"".join(d for _, d, _ in files)
    return {"name": "padded", "files": entries, "piece length": PIECE, "pieces": pieces(data), "private": 1}, {}


def main():
    expected = {}
    # `unsorted` has the keys of `single` in the order in which they stand above.
    for name, (info, extra), ordered in [
        ("single", single(), True),
        ("unsorted", single(), False),
        ("multi", multi(), True),
        ("padded", padded(), True),
    ]:
        top = {"announce": "http://a.test/announce", "creation date": 1_800_000_000, "info": info, **extra}
        Path(f"{name}.torrent").write_bytes(bencode(top, ordered))
        files = info.get("files", [{"path": [], "length": info.get("length")}])
        expected[name] = {
            "info_hash": hashlib.sha1(bencode(info, ordered)).hexdigest(),
            "pieces": len(info["pieces"]) // 20,
            "files": [["/".join([info["name"], *f["path"]]), f["length"], "attr" in f] for f in files],
        }
    text = json.dumps(expected, indent=1, sort_keys=True, ensure_ascii=False)
    Path("hashes.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
