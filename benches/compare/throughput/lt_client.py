"""libtorrent-rasterbar as a client for throughput.py: lt_client.py TORRENT OUT PORT get|seed"""
import sys
import time
import libtorrent as lt

torrent, out, port, mode = sys.argv[1:5]
session = lt.session({
    "listen_interfaces": f"10.77.0.1:{port}", "enable_dht": False, "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False,
    "enable_incoming_utp": False, "enable_outgoing_utp": False, "in_enc_policy": 2, "out_enc_policy": 2, "allow_multiple_connections_per_ip": True,
    "connections_limit": 2000, "unchoke_slots_limit": -1, "connection_speed": 500, "max_out_request_queue": 1500, "max_queued_disk_bytes": 64 << 20,
    "send_buffer_watermark": 3 << 20, "min_announce_interval": 2, "aio_threads": 4, "hashing_threads": 2})
params = lt.add_torrent_params()
params.ti = lt.torrent_info(torrent)
params.save_path = out
params.flags &= ~lt.torrent_flags.auto_managed
params.flags &= ~lt.torrent_flags.paused
handle = session.add_torrent(params)
while True:
    status = handle.status()
    if mode == "get" and status.is_seeding:
        break
    time.sleep(0.02)
del handle, session  # waits until the disk threads have written everything
