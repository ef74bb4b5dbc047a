#!/usr/bin/env python3
"""libtorrent as a creator and reader of torrents for tests/real_clients/v2.rs.

lt_create.py create v2|hybrid SOURCE PIECE_LENGTH OUTPUT writes a torrent file. lt_create.py read FILE... prints a line for each
torrent file: its v1 and v2 info-hash ("-" if it has none), and the length and path of each of its files with data, or "refused".
"""
import pathlib
import sys

import libtorrent as lt


def create(version, source, piece_length, output):
    source = pathlib.Path(source).resolve()
    files = lt.file_storage()
    # btsync leaves attributes out, and symbolic links, which libtorrent would follow.
    lt.add_files(files, str(source), lambda path: not pathlib.Path(path).is_symlink(), int(lt.create_torrent.no_attributes))
    flags = lt.create_torrent.no_attributes
    if version == "v2":
        flags |= lt.create_torrent.v2_only
    torrent = lt.create_torrent(files, int(piece_length), flags)
    lt.set_piece_hashes(torrent, str(source.parent))
    pathlib.Path(output).write_bytes(lt.bencode(torrent.generate()))


def read(paths):
    for path in paths:
        try:
            torrent = lt.torrent_info(path)
        except RuntimeError:
            print("refused")
            continue
        hashes, files = torrent.info_hashes(), torrent.files()
        v1 = str(hashes.v1) if hashes.has_v1() else "-"
        v2 = str(hashes.v2) if hashes.has_v2() else "-"
        numbers = range(files.num_files())
        real = [n for n in numbers if not files.file_flags(n) & lt.file_flags_t.flag_pad_file and files.file_size(n) > 0]
        print(v1, v2, *(f"{files.file_size(n)}:{files.file_path(n)}" for n in real))


if sys.argv[1] == "create":
    create(*sys.argv[2:])
else:
    read(sys.argv[2:])
