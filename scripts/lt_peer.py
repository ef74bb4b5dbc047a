#!/usr/bin/env python3
"""libtorrent as a peer for tests/real_clients.rs: lt_peer.py TORRENT FOLDER ADDRESS PORT [SETTING=NUMBER...]

Checks what is in FOLDER, fetches the rest, says "complete" on a line of its own, and seeds until it is killed.
"""
import sys
import time

import libtorrent as lt

torrent, folder, address, port = sys.argv[1:5]
settings = {name: int(number) for name, number in (word.split("=") for word in sys.argv[5:])}
session = lt.session({
    "listen_interfaces": f"{address}:{port}",
    "outgoing_interfaces": address,
    "enable_dht": False, "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False,
    "enable_incoming_utp": False, "enable_outgoing_utp": False,
    # Several peers of a test share an address and differ by their ports.
    "allow_multiple_connections_per_ip": True,
    "min_announce_interval": 2,
    "alert_mask": lt.alert.category_t.error_notification | lt.alert.category_t.tracker_notification
    | lt.alert.category_t.status_notification | lt.alert.category_t.connect_notification,
    **settings,
})
params = lt.add_torrent_params()
params.ti = lt.torrent_info(torrent)
params.save_path = folder
params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
handle = session.add_torrent(params)
complete = False
while True:
    for alert in session.pop_alerts():
        print(alert.message(), flush=True)
    if not complete and handle.status().is_seeding:
        complete = True
        print("complete", flush=True)
    time.sleep(0.05)
