"""Adds, lists, sets, moves, verifies and removes a torrent with the package transmission-rpc.

    python_client.py PORT TORRENT FOLDER

FOLDER has the complete files of the torrent below the folder "other".
"""

import sys
import time
from pathlib import Path

from transmission_rpc import Client
from transmission_rpc.error import TransmissionError


def wait_for(what, condition):
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"gave up waiting until {what}")
        time.sleep(0.1)


def main():
    port, torrent_file, folder = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    client = Client(host="127.0.0.1", port=port)
    session = client.get_session()
    assert session.rpc_version == 18, session.rpc_version
    assert session.version.startswith("4.1.0 (btsync"), session.version
    client.set_session(speed_limit_up=321, speed_limit_up_enabled=True)
    assert client.get_session().speed_limit_up == 321

    added = client.add_torrent(torrent_file.read_bytes(), paused=True, labels=["python"])
    torrent = client.get_torrent(added.id)
    assert torrent.hash_string == added.hash_string
    assert torrent.labels == ["python"] and torrent.status == "stopped", torrent.status
    files = torrent.get_files()
    assert [file.selected for file in files] == [True, True], files

    client.change_torrent(added.id, files_unwanted=[1], priority_high=[0], upload_limit=55, upload_limited=True,
                          seed_ratio_limit=2.5, seed_ratio_mode=1, labels=["python", "second"])
    torrent = client.get_torrent(added.id)
    assert [file.selected for file in torrent.get_files()] == [True, False]
    assert torrent.upload_limit == 55 and torrent.seed_ratio_limit == 2.5
    client.change_torrent(added.id, files_wanted=[1])
    client.change_torrent(added.id, tracker_list=[["http://a.invalid/announce"], ["http://b.invalid/announce"]])
    assert [tracker.announce for tracker in client.get_torrent(added.id).trackers] == [
        "http://a.invalid/announce", "http://b.invalid/announce"]

    client.move_torrent_data(added.id, f"{folder}/other", move=False)
    client.verify_torrent(added.id)
    wait_for("it is complete", lambda: client.get_torrent(added.id).percent_done == 1.0)
    client.start_torrent(added.id)
    wait_for("it seeds", lambda: client.get_torrent(added.id).status == "seeding")
    client.stop_torrent(added.id)
    wait_for("it is stopped", lambda: client.get_torrent(added.id).status == "stopped")
    client.queue_top(added.id)
    assert client.session_stats().torrent_count == 1
    assert client.free_space(folder) > 0
    for one in client.get_torrents():
        one.__repr__()
        assert one.fields, "all fields of a torrent"

    client.remove_torrent(added.id, delete_data=False)
    assert client.get_torrents() == []
    assert (Path(folder) / "other").exists()
    try:
        client.add_torrent("magnet:?xt=urn:btih:nothing")
        sys.exit("a link without an info-hash was added")
    except TransmissionError:
        pass
    print("done")


main()
