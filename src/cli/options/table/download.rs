//! The options of a download, by group.

use super::ValueCompletion::{File, Folder, Interface, Words};
use super::{OptionEntry, OptionGroup, OptionScope};

const fn files(long: &'static str) -> OptionEntry {
    OptionEntry::new(OptionGroup::Files, long)
}

const fn seeding(long: &'static str) -> OptionEntry {
    OptionEntry::new(OptionGroup::Seeding, long)
}

const fn network(long: &'static str) -> OptionEntry {
    OptionEntry::new(OptionGroup::Network, long)
}

const fn several(long: &'static str) -> OptionEntry {
    OptionEntry::new(OptionGroup::Several, long)
}

const fn output(long: &'static str) -> OptionEntry {
    OptionEntry::new(OptionGroup::Output, long)
}

const fn configuration(long: &'static str) -> OptionEntry {
    OptionEntry::new(OptionGroup::Configuration, long)
}

pub(super) const OPTIONS: &[OptionEntry] = &[
    files("dir").default(".").complete(Folder).manual(
        "Save the files in this folder. A folder after the torrent does the same. It is an error to give both on the \
         command line. A folder after the torrent takes precedence over a _DIR_ from the configuration file or the \
         environment. The default is the current folder.",
    ),
    files("list").aliases(&["show-files"]).manual(
        "Print the numbers, sizes and names of the torrent's files to standard output, mark the selected files, and \
         download nothing. For a magnet link, btsync first downloads the metadata. `btsync list` does the same. With \
         `--json`, the list is one event.",
    ),
    files("select").aliases(&["select-file"]).manual(
        "Download only these files. _FILES_ is a list of numbers and ranges such as `1-5,8,12-`, a pattern, or a \
         folder. A pattern without `/` matches a file name in any folder; a pattern with `/` matches a path below the \
         torrent's own folder. _FILES_ must match at least one file; otherwise btsync exits with code 28. btsync \
         does not create unselected files. If a selected piece contains data of an unselected file, btsync keeps that \
         data in the hidden file `.INFOHASH.parts`.",
    ),
    files("exclude").manual("Do not download these files. _FILES_ has the same form as for `--select`."),
    files("out").aliases(&["index-out"]).manual(
        "Rename or move a file: save the file with this number as _PATH_, relative to the download folder. `--list` \
         shows the numbers. To resume, use the same option again. Not allowed with several torrents.",
    ),
    files("sequential").manual("Download the pieces in order instead of the rarest first."),
    files("first-and-last").manual("Download the first and the last piece of each file before all other pieces."),
    files("file-allocation").default("sparse").complete(Words(&["none", "sparse", "falloc"])).manual(
        "Choose when files take disk space. *sparse* gives files their full length at once, but uses disk space only \
         as data arrives. *falloc* allocates all disk space at the start; on a file system that cannot do that, it is \
         the same as *sparse*. *none* uses disk space as data arrives, and a file grows to the end of the \
         furthest data received.",
    ),
    files("incomplete-suffix").complete(Words(&[".part"])).manual(
        "Append _SUFFIX_, such as `.part`, to the names of files until all selected files are complete; then btsync \
         renames them. To resume such a download, use the same option again.",
    ),
    files("allow-hidden").manual(
        "Keep the dot if the torrent's name begins with one. Otherwise btsync replaces the dot with `_`, so that no \
         torrent can write to `.ssh` or `.bashrc` in the download folder. Names deeper inside the torrent always keep \
         their dots.",
    ),
    files("overwrite").aliases(&["allow-overwrite"]).manual(
        "Overwrite existing files that btsync did not create. btsync keeps the pieces that verify. It replaces a file \
         that has several hard links with a copy; the other links keep the old content. This option also allows \
         `--save-torrent` to replace an existing file.",
    ),
    files("fsync").manual(
        "Wait until the disk has all files and folders before the download counts as complete. Without this \
         option, a power failure can lose the data written last; killing btsync does not.",
    ),
    files("verify").aliases(&["check-integrity"]).manual(
        "Hash all data on disk, even if the resume data says that it is unchanged. btsync then downloads the blocks \
         of unfinished pieces again.",
    ),
    files("save-torrent").complete(File).manual(
        "Save the torrent file of a magnet link or a URL as this file. If _F_ is a folder, save it there under the \
         torrent's info-hash. With several torrents, _F_ must be a folder.",
    ),
    seeding("seed").manual("Keep seeding until stopped."),
    seeding("seed-time").manual(
        "Seed for this many minutes after the download; fractions are allowed. 0 means no seeding, even with \
         `--seed-ratio`. `--seed` takes precedence over this option.",
    ),
    seeding("seed-ratio").manual(
        "Seed until the ratio is _R_: until _R_ times the torrent's size has been uploaded, as in `1.5`. Uploads of \
         earlier runs count if the resume data records them. 0 means no seeding.",
    ),
    seeding("super-seed").manual(
        "Super-seeding (BEP 16), for the first seeder of a new torrent. Together with `--seed`, btsync shows each \
         peer only a few pieces at a time, and shows it further pieces when other peers have the first ones. So btsync \
         uploads little more than one copy before two other peers are complete. This works only if all data is \
         complete at the start.",
    ),
    network("listen-port").default("6881-6889").manual(
        "Listen on this TCP port. The DHT uses the UDP port of the same number. If _P_ is a range `A-B`, btsync uses \
         the first free port in it. While it seeds and in longer downloads, btsync requests port forwarding from the \
         router; see `--port-mapping`. If the router refuses or a firewall blocks the port, set up port forwarding for \
         TCP and UDP yourself.",
    ),
    network("max-peers").default("300").manual(
        "Allow at most this many connections, incoming and outgoing, for all torrents together. _N_ is from 1 to \
         5000.",
    ),
    network("max-download-limit").aliases(&["max-overall-download-limit"]).default("0").manual(
        "Limit the download rate of all peers and all torrents together to this many bytes per second. `K` stands for \
         1024 and `M` for 1048576, as in `500K` or `1.5M`. 0 means no limit. Signals remove and restore the limit \
         while btsync runs; see {SIGNALS}.",
    ),
    network("max-upload-limit")
        .aliases(&["max-overall-upload-limit"])
        .default("0")
        .manual("Limit the upload rate to all peers together, in the same way as `--max-download-limit`."),
    network("encryption").default("allow").complete(Words(&["allow", "require", "off"])).manual(
        "Encrypt connections to peers (MSE/PE, protocol encryption). *allow* allows plain and encrypted connections, \
         and tries the other kind if one fails; *prefer* is an older name for it. *require* allows encrypted \
         connections only. *off* allows plain connections only.",
    ),
    network("transport").default("both").complete(Words(&["both", "tcp", "utp"])).manual(
        "Connect to peers, and accept connections, by *tcp*, by *utp* or by *both*. uTP (BEP 29, the micro transport \
         protocol) uses UDP at the same port. It gives way to other traffic of the network, such as a video call. With \
         *both*, btsync begins with TCP or with what worked before, tries the other after a quarter of a second, and \
         uses the one that connects first. Through a proxy (`--proxy`), btsync uses TCP only.",
    ),
    network("dscp").default("le").complete(Words(&["le", "none", "cs1", "af11", "ef"])).manual(
        "Mark packets to peers with this class (DSCP, the differentiated services code point), for IPv4 and IPv6. \
         *le* (lower effort) asks routers to send all other traffic first. *none* sets no mark. Give other classes by \
         name, such as *cs1* or *af11*, or by number, 0 to 63.",
    ),
    network("interface").aliases(&["bind"]).complete(Interface).manual(
        "Use only this network interface, such as `wg0` of a VPN, for peers, trackers, web seeds, URLs, the DHT, local \
         discovery and incoming connections. _IF_ can also be a local address: btsync then uses that address and the \
         interface that has it. If the interface or the address disappears, btsync sends nothing.\n\n\
         Host name look-ups are not bound: the system's resolver may send DNS queries for trackers and peers outside \
         the VPN. To prevent this, configure the resolver to use the VPN, or use addresses instead of host names. With \
         this option, btsync ignores the proxy variables of the environment. It connects to the proxy of `--proxy` \
         from this interface. Before Linux 5.7, the option needs the capability `CAP_NET_RAW`.",
    ),
    network("proxy").complete(Words(&["socks5://", "socks4a://", "http://"])).manual(
        "Connect to peers, trackers, web seeds and URLs through this proxy only: `socks5://HOST:PORT`, \
         `socks4a://HOST:PORT` or `http://HOST:PORT`. If the proxy needs a user name and a password, write \
         `USER:PASSWORD@` before the host (`USER@` for SOCKS 4a), with special characters encoded as in `%40`. \
         `socks5h` means the same as `socks5`: the proxy resolves all host names. An HTTP proxy must allow CONNECT to \
         the ports of peers.\n\n\
         Nothing bypasses the proxy. If it does not work, downloads wait for it; if btsync needs it for the URL of a \
         torrent or a block list, it exits. btsync turns off what the proxy cannot carry: incoming connections, port \
         forwarding, local discovery, host names of peers and, except with SOCKS 5, UDP trackers and the DHT. Through a \
         SOCKS 5 proxy, the DHT only searches over IPv4. SOCKS 4a proxies reach IPv4 peers only. btsync ignores the \
         proxy variables of the environment.\n\n\
         Other users of the machine can see a password on the command line in the list of processes. Set \
         `BTSYNC_PROXY` or write the option to the configuration file instead.",
    ),
    network("anonymous").manual(
        "Send nothing that names btsync or this machine. The peer ID is random and new for each torrent and run. \
         btsync sends no `User-Agent` to trackers, web seeds and URLs of torrents, and no client name, no port and no \
         addresses in the extension handshake with peers (BEP 10). DHT packets contain no version, and announces \
         contain no address of this machine. Local discovery and port forwarding are off, and the DHT has new node IDs \
         in each run.\n\n\
         Other hosts still see the IP address from which the packets come; to hide it, use a VPN (`--interface`) or \
         `--proxy`. Without a proxy, btsync listens and announces its port to trackers and the DHT. Private trackers \
         may refuse a client without a name. If you combine this option with `--peer-id-prefix`, `--user-agent` or \
         `--port-mapping`, btsync exits with code 28.",
    ),
    network("port-mapping").manual(
        "Request port forwarding from the router at once, so that peers can connect to this machine. With \
         `--interface`, btsync sends the request only to the gateway of that interface, such as the server of a VPN \
         that forwards ports. With `--proxy`, this option has no effect. Without this option, btsync sends the request \
         if this machine has a private address, no interface is given, and btsync seeds or has downloaded for 60 \
         seconds.\n\n\
         btsync uses PCP, NAT-PMP or UPnP, renews the forwarding while it runs, and removes it at the end. For IPv6, \
         it requests that the router let connections through its firewall.",
    ),
    network("no-port-mapping")
        .manual("Never request port forwarding from the router. This option takes precedence over `--port-mapping`."),
    network("block-list").complete(File).manual(
        "Neither connect to the addresses in this block list nor accept connections from them, whatever the source of \
         the address: a tracker, a peer, the DHT, the local network or `--peer`. Exchange no DHT packets with them, \
         and use no web seeds at these addresses. _LIST_ is a file or an HTTP(S) URL, plain or packed with gzip or \
         zip. Each line is in P2P form (`NAME:1.2.3.0-1.2.3.255`), in DAT form (`001.002.003.000 - 001.002.003.255 , \
         000 , NAME`) or in CIDR form (`1.2.3.0/24`), for IPv4 or IPv6. If btsync cannot load the list, it exits with \
         code 28; for a URL, it first tries the last list from this URL.\n\n\
         When the file changes, btsync loads it again within a minute and closes connections to addresses in it. It \
         fetches a URL again once a day. If the new list cannot be used, the old one stays in force. The list does not \
         apply to trackers, and not to URLs of torrent files.",
    ),
    network("peer-id-prefix").manual(
        "The first eight bytes of the peer ID in announces and handshakes, for trackers that allow only certain \
         clients: eight printable ASCII characters, such as `-qB4650-`. The rest is random.\n\n\
         Without this option, the prefix consists of `-BY`, one digit each for the major version, the minor version \
         and the patch level, and `0-`; for version 0.1.0 it is `-BY0100-`. The code BY is btsync's own: no other \
         client in the lists of BEP 20, libtorrent, Transmission and WebTorrent uses it.",
    ),
    network("user-agent").manual(
        "The name of the client in HTTP requests to trackers, web seeds and URLs of torrents (`User-Agent`), and in \
         the extension handshake with peers (BEP 10, `v`). Without this option it is `btsync/VERSION` in HTTP requests \
         and `btsync VERSION` to peers.",
    ),
    network("peer").manual("Connect to this peer. With `--proxy`, give its address instead of a host name."),
    network("bt-tracker").manual(
        "Always announce to this tracker, in addition to the torrent's own trackers. _URL_ can be a list separated by \
         commas.",
    ),
    network("bt-exclude-tracker").manual(
        "Do not announce to this tracker of the torrent. _URL_ can be a list separated by commas. `*` stands for all \
         trackers of the torrent.",
    ),
    network("web-seed").manual(
        "Also download from this web server, which has the files of the torrent (a web seed, BEP 19). If the torrent \
         has several files, _URL_ is the folder that contains the torrent's folder. If it has one file, _URL_ is that \
         file, or its folder if _URL_ ends with a slash. The URL may contain a user name and a password, and lead to a \
         local address. btsync also uses the web seeds that the torrent or the magnet link names, but only those with \
         public addresses. It uses at most 16 web seeds of a torrent.",
    ),
    network("no-web-seeds").manual(
        "Do not use the web seeds that the torrent or the magnet link names. btsync still uses those of `--web-seed`.",
    ),
    network("no-dht").manual("Do not use the DHT (distributed hash table, BEP 5 and 32)."),
    network("dht-entry-point").manual("Also join the DHT through this node."),
    network("no-lsd").manual("Do not look for peers in the local network (local service discovery, BEP 14)."),
    network("no-pex").manual("Do not exchange peer addresses with connected peers (PEX, BEP 11)."),
    several("input-file").complete(File).manual(
        "Also download the torrents listed in this file: one torrent file, magnet link or URL on each line. Relative \
         paths start at the current folder. btsync ignores blank lines and lines that begin with `#`. `-` is standard \
         input.",
    ),
    several("max-concurrent").aliases(&["max-concurrent-downloads"]).default("5").manual(
        "Download at most this many torrents at once; the others wait in a queue, in order. A torrent that is \
         complete and only seeds does not count.",
    ),
    several("watch").complete(Folder).manual(
        "Start each `.torrent` file in this folder, and the links in `.magnet` files: the existing files, and the \
         files that are written, moved or linked there later. btsync runs until stopped. If a file is not valid yet, \
         btsync reads it again when it changes. btsync does not change or delete these files.\n\n\
         btsync does not start a torrent or link that is part of a download, even if downloads go to the same folder. \
         To start such a torrent, copy it.",
    ),
    output("json").manual(
        "Write events for programs to standard output, one JSON object per line; `docs/json.md` describes them. \
         Messages for people go to standard error, as without this option.",
    ),
    output("plain").manual("Print plain lines instead of the screen, even on a terminal. This suits screen readers."),
    output("web").manual(
        "Show the torrents of this run in a browser, at an address of this machine that btsync prints. The page and \
         remote controls for Transmission can pause and resume them and set their limits. For everything else, such as \
         adding torrents, use `btsync serve`.",
    ),
    output("web-listen").manual(
        "The same as `--web`, on this address and port, or with `unix:PATH` on a Unix socket that only its owner can \
         use. btsync accepts only loopback addresses and Unix sockets (otherwise exit code 28).",
    ),
    output("quiet").manual("Print errors only."),
    output("verbose").manual(
        "Print debug logs. By default btsync prints warnings and errors. The environment variable `RUST_LOG` selects \
         log messages more precisely.",
    ),
    output("stop-timeout")
        .manual("Give up if no data arrives for _S_ seconds. btsync then exits with code 2 and prints the reason."),
    output("on-download-complete").aliases(&["on-complete", "on-bt-download-complete"]).manual(
        "Run _CMD_ in a shell when a download becomes complete. Its environment contains `BTSYNC_NAME`, \
         `BTSYNC_PATH`, `BTSYNC_FOLDER`, `BTSYNC_INFO_HASH` and `BTSYNC_TOTAL`. The paths are absolute. `BTSYNC_PATH` \
         is the path of the only file, or of the torrent's own folder; it is empty if `--out` moved one of several \
         files.\n\n\
         The command runs at least once, if necessary at the next start after a crash. It does not run for data that \
         was complete at the first start, except with `--on-complete-always`. btsync waits for the command before it \
         exits. If the command fails, btsync reports that, and exits with code 1 instead of 0.",
    ),
    output("on-complete-always")
        .manual("Also run the command of `--on-download-complete` if all data was complete at the start."),
    configuration("config")
        .aliases(&["conf-path"])
        .scope(OptionScope::NotInFile)
        .complete(File)
        .manual("Read options from this file instead of the default one. The file must exist. See {FILES}."),
    configuration("no-config").scope(OptionScope::NotInFile).manual("Read no configuration file."),
    configuration("show-config").scope(OptionScope::CommandLine).manual(
        "Print every option with its value and where the value comes from, one on each line, and exit. btsync \
         shows only the scheme, host and port of URLs.",
    ),
    configuration("help")
        .scope(OptionScope::CommandLine)
        .help("show the most common options")
        .manual("Print the most common options and exit. `btsync help all` prints all options of a download."),
    configuration("version").scope(OptionScope::CommandLine).manual(
        "Print the version and exit. With `-v`, also print the processor instructions that btsync uses to hash pieces.",
    ),
];
