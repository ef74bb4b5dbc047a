#!/usr/bin/env python3
"""libtorrent as a DHT node for tests/network/dht.rs: lt_dht.py LISTEN NODE DEED [HASH [PORT]]

LISTEN is ADDRESS:PORT; NODE is the ADDRESS:PORT of another node, or "-". DEED is "stay" (answer others), "announce" (HASH
with PORT) or "find" (prints "peer ADDRESS:PORT" for each peer of HASH). Prints "nodes N" the first time it knows N nodes.
"""
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
info_hash = lt.sha1_hash(bytes.fromhex(sys.argv[4])) if len(sys.argv) > 4 else None
seen, turn = set(), 0
while True:
    if turn % 20 == 0:
        if deed == "announce":
            session.dht_announce(info_hash, int(sys.argv[5]), 0)
        elif deed == "find":
            session.dht_get_peers(info_hash)
        session.post_dht_stats()
    turn += 1
    for alert in session.pop_alerts():
        lines = []
        if isinstance(alert, lt.dht_get_peers_reply_alert):
            lines = [f"peer {host}:{port}" for host, port in alert.peers()]
        elif isinstance(alert, lt.dht_stats_alert):
            lines = [f"nodes {sum(bucket['num_nodes'] for bucket in alert.routing_table)}"]
        else:
            lines = [alert.message()]
        for line in lines:
            if line not in seen:
                seen.add(line)
                print(line, flush=True)
    time.sleep(0.05)
