#!/usr/bin/env python3
"""libtorrent as a DHT node for tests/network/dht.rs: lt_dht.py LISTEN NODE DEED [HASH [PORT]]

LISTEN is ADDRESS:PORT; NODE is the ADDRESS:PORT of another node, or "-". DEED is "stay" (answer others), "announce" (HASH
with PORT) or "find" (prints "peer ADDRESS:PORT" for each peer of HASH). Prints "nodes N" the first time it knows N nodes.

Further deeds: "put VALUE" and "get HASH" for immutable items; "put-signed SEED KEY SALT VALUE" and "get-signed KEY SALT" for mutable
ones; "sample ADDRESS:PORT" for the info-hashes that a node stores. They print "item VALUE", "signed SEQUENCE VALUE", "sample HASH".
"""
import hashlib
import sys
import time

import libtorrent as lt

listen, node, deed = sys.argv[1:4]
session = lt.session({
    "listen_interfaces": listen,
    "enable_dht": True, "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False,
    "dht_bootstrap_nodes": "" if node == "-" else node,
    # All nodes of a test are in one small local network, which libtorrent would otherwise distrust.
    "dht_restrict_routing_ips": False, "dht_restrict_search_ips": False, "dht_ignore_dark_internet": False,
    "dht_enforce_node_id": False, "dht_prefer_verified_node_ids": False,
    "alert_mask": lt.alert.category_t.error_notification | lt.alert.category_t.status_notification
    | lt.alert.category_t.dht_notification | lt.alert.category_t.dht_operation_notification,
})
if node != "-":
    host, port = node.rsplit(":", 1)
    session.add_dht_node((host.strip("[]"), int(port)))
arguments = sys.argv[4:]
info_hash = lt.sha1_hash(bytes.fromhex(arguments[0])) if deed in ("announce", "find", "get") else None


def private_key(seed):
    """libtorrent's form of a private key: the hash of its seed."""
    key = bytearray(hashlib.sha512(seed).digest())
    key[0] &= 248
    key[31] = key[31] & 63 | 64
    return bytes(key)


seen, turn = set(), 0
while True:
    if turn % 20 == 0:
        if deed == "announce":
            session.dht_announce(info_hash, int(arguments[1]), 0)
        elif deed == "find":
            session.dht_get_peers(info_hash)
        elif deed == "put":
            session.dht_put_immutable_item(arguments[0])
        elif deed == "get":
            session.dht_get_immutable_item(info_hash)
        elif deed == "put-signed":
            seed, key = map(bytes.fromhex, arguments[:2])
            session.dht_put_mutable_item(private_key(seed), key, arguments[3].encode(), arguments[2].encode())
        elif deed == "get-signed":
            session.dht_get_mutable_item(bytes.fromhex(arguments[0]), arguments[1].encode())
        elif deed == "sample":
            host, port = arguments[0].rsplit(":", 1)
            session.dht_sample_infohashes((host.strip("[]"), int(port)), lt.sha1_hash(bytes(20)))
        session.post_dht_stats()
    turn += 1
    for alert in session.pop_alerts():
        lines = []
        if isinstance(alert, lt.dht_get_peers_reply_alert):
            lines = [f"peer {host}:{port}" for host, port in alert.peers()]
        elif isinstance(alert, lt.dht_immutable_item_alert):
            lines = [f"item {alert.item['value'].decode()}"]
        elif isinstance(alert, lt.dht_mutable_item_alert):
            try:
                lines = [f"signed {alert.item['seq']} {alert.item['value'].decode()}"]
            except RuntimeError:
                pass  # nothing was found
        elif isinstance(alert, lt.dht_sample_infohashes_alert):
            lines = [f"sample {sample}" for sample in alert.samples]
        elif isinstance(alert, lt.dht_stats_alert):
            lines = [f"nodes {sum(bucket['num_nodes'] for bucket in alert.routing_table)}"]
        else:
            lines = [alert.message()]
        for line in lines:
            if line not in seen:
                seen.add(line)
                print(line, flush=True)
    time.sleep(0.05)
