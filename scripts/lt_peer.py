#!/usr/bin/env python3
"""libtorrent as a peer for tests/real_clients/transfers.rs and others: lt_peer.py TORRENT|MAGNET FOLDER ADDRESS PORT [WORD...]

Checks the files in FOLDER, downloads the rest, prints the line "complete", and seeds until it is killed. Prints
"connected ADDRESS:PORT" once for each peer. A WORD is SETTING=NUMBER for the session (enable_dht=1), peer=ADDRESS:PORT to connect
to a peer, node=ADDRESS:PORT to bootstrap the DHT, want=nothing to download no file, super=1 to super-seed, lan=no to apply limits
and upload slots in local networks too, resume=FILE to save resume data there on SIGTERM, or show=peers to print once a second
"gave ADDRESS:PORT BYTES PROGRESS" for each peer, and "gone ADDRESS:PORT" for each that has disconnected.
"""
import os
import signal
import sys
import time

import libtorrent as lt

torrent, folder, address, port = sys.argv[1:5]
words = [word.split("=", 1) for word in sys.argv[5:]]
settings = {name: int(value) for name, value in words if name not in ("peer", "node", "want", "super", "lan", "show", "resume")}


def endpoint(text):
    host, number = text.rsplit(":", 1)
    return host.strip("[]"), int(number)


def named(name):
    return [value for key, value in words if key == name]


session = lt.session({
    "listen_interfaces": f"[{address}]:{port}" if ":" in address else f"{address}:{port}",
    "outgoing_interfaces": address,
    "enable_dht": False, "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False,
    "enable_incoming_utp": False, "enable_outgoing_utp": False,
    # Several peers of a test have the same address and different ports.
    "allow_multiple_connections_per_ip": True,
    "min_announce_interval": 2,
    # All nodes of a test are in one small local network, which libtorrent would otherwise distrust.
    "dht_bootstrap_nodes": "", "dht_announce_interval": 5,
    "dht_restrict_routing_ips": False, "dht_restrict_search_ips": False, "dht_ignore_dark_internet": False,
    "dht_enforce_node_id": False, "dht_prefer_verified_node_ids": False,
    "alert_mask": lt.alert.category_t.error_notification | lt.alert.category_t.tracker_notification
    | lt.alert.category_t.status_notification | lt.alert.category_t.connect_notification
    | lt.alert.category_t.dht_notification,
    **settings,
})
if "no" in named("lan"):
    everybody = lt.ip_filter()
    everybody.add_rule("0.0.0.0", "255.255.255.255", 1 << lt.session.global_peer_class_id)
    session.set_peer_class_filter(everybody)
for node in named("node"):
    session.add_dht_node(endpoint(node))
stopped = []
if named("resume"):
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
if named("resume") and os.path.exists(named("resume")[0]):
    with open(named("resume")[0], "rb") as file:
        params = lt.read_resume_data(file.read())
    params.ti = lt.torrent_info(torrent)
elif torrent.startswith("magnet:"):
    params = lt.parse_magnet_uri(torrent)
else:
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(torrent)
params.save_path = folder
params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
if named("super"):
    params.flags |= lt.torrent_flags.super_seeding
if "nothing" in named("want"):
    params.file_priorities = [0] * params.ti.num_files()
handle = session.add_torrent(params)
for peer in named("peer"):
    handle.connect_peer(endpoint(peer))
complete, connected, shown = False, set(), 0
while True:
    for alert in session.pop_alerts():
        print(alert.message(), flush=True)
        if isinstance(alert, lt.save_resume_data_alert):
            with open(named("resume")[0], "wb") as file:
                file.write(lt.write_resume_data_buf(alert.params))
            sys.exit(0)
    if stopped == [True]:
        stopped.append(True)
        handle.pause()
        handle.save_resume_data(lt.save_resume_flags_t.flush_disk_cache)
    for peer in handle.get_peer_info():
        if not peer.flags & (lt.peer_info.connecting | lt.peer_info.handshake) and peer.ip not in connected:
            connected.add(peer.ip)
            print("connected %s:%d" % peer.ip, flush=True)
    if named("show") and time.monotonic() > shown + 1:
        shown, peers = time.monotonic(), handle.get_peer_info()
        for peer in peers:
            print("gave %s:%d" % peer.ip, peer.total_upload, round(peer.progress, 3), flush=True)
        for gone in connected - {peer.ip for peer in peers}:
            print("gone %s:%d" % gone, flush=True)
        connected &= {peer.ip for peer in peers}
    if not complete and handle.status().is_seeding:
        complete = True
        print("complete", flush=True)
    time.sleep(0.05)
