//! The text of `btsync --help`: every option of a download on one screen of 24 lines, which a test holds it to.

/// What `btsync --help` prints.
pub(super) const TEXT: &str = "\
btsync FILE.torrent|MAGNET [FOLDER] [options]   download, verify, exit (into .)
btsync create SOURCE [options]           make a .torrent of a file or folder
btsync info|magnet|edit FILE.torrent     show it; print its link; change it
btsync verify FILE.torrent [FOLDER]      say which files are bad or missing
btsync tracker|help [COMMAND]            serve a closed network; show options
Sharing (without these, btsync exits as soon as the download is whole):
  --seed             give until stopped; --super-seed: as the first seeder
  --seed-time MIN, --seed-ratio R   give so long; until R times the size is sent
Network:
  --listen-port P    TCP and UDP port, or a range A-B: the first free 6881-6889
  --max-peers N      connections at most (300)
  --max-download-limit R, --max-upload-limit R   bytes/s, 500K, 2M (0: no limit)
  --encryption MODE  disguise connections: prefer, require or off (prefer)
  --peer HOST:PORT, --bt-tracker URL, --bt-exclude-tracker URL|*   more, or less
  --no-dht, --no-lsd, --no-pex, --dht-entry-point HOST:PORT   ways to find peers
  --interface IF     this interface or address of ours alone, or nothing
Output:
  --json, --verify   one event a line on stdout; hash all, believing no record
  --save-torrent F, --stop-timeout S   keep a link's .torrent; give up after S s
  --on-download-complete CMD   for the shell, with BTSYNC_* in its environment
  -v, --verbose; -q, --quiet; -h, --help; --version   RUST_LOG=...: finer logs
Ctrl-C stops; run it again to go on. ./create is a file's name.
Exit codes: 0 whole, 7 stopped, 6 network, 9 disk full, 25-27 input: README.md
";
