//! The options of commands other than a download.

use super::ValueCompletion::{File, Folder, Interface, Words};
use super::{OptionEntry, OptionGroup};

const SIZES: &[&str] = &["16K", "32K", "64K", "128K", "256K", "512K", "1M", "2M", "4M", "8M", "16M"];

const fn option(long: &'static str) -> OptionEntry {
    OptionEntry::new(OptionGroup::Command, long)
}

const HELP: OptionEntry =
    option("help").help("show the options of this command").manual("Print these options and exit.");

pub(super) const CREATE: &[OptionEntry] = &[
    option("output").complete(File).manual(
        "The torrent file to write. By default, this is the name of the source with `.torrent` appended, in the \
         current folder.",
    ),
    option("announce").manual(
        "The URL of a tracker. Repeat the option for another tier; separate the trackers of one tier with commas.",
    ),
    option("piece-length").complete(Words(SIZES)).manual(
        "The piece length in bytes, a power of two such as `256K` or `1M`. By default, it depends on the size of the \
         source.",
    ),
    option("private").manual("Create a private torrent: clients find peers through its trackers only (BEP 27)."),
    option("comment").manual("A comment."),
    option("web-seed").manual("The URL of a web seed."),
    option("source").manual(
        "A tag in the info dictionary. It changes the info-hash, so that the swarms of different trackers stay \
         separate.",
    ),
    option("exclude")
        .manual("Leave out files and folders that match this pattern, such as `*.tmp`, `.git` or `docs/**`."),
    option("pad-files").manual("Insert padding files, so that every file begins at a piece boundary (BEP 47)."),
    option("v1").manual("Create a torrent for BitTorrent v1, which every client can use. This is the default."),
    option("v2").manual(
        "Create a torrent for BitTorrent v2 only (BEP 52). Few clients can use it, and btsync cannot download it yet.",
    ),
    option("hybrid").manual(
        "Create a torrent for BitTorrent v1 and v2 (BEP 52). It has padding files, and every client can use it.",
    ),
    option("node").manual("A DHT node through which clients can join the DHT (BEP 5)."),
    option("no-date").manual(
        "Omit the creation date. Otherwise it is the current time, or the time in `SOURCE_DATE_EPOCH`, in seconds.",
    ),
    option("force").manual("Overwrite an existing torrent file."),
    HELP,
];

pub(super) const INFO: &[OptionEntry] = &[option("json").manual("Print one JSON object instead of text."), HELP];

pub(super) const LIST: &[OptionEntry] = &[
    option("select")
        .aliases(&["select-file"])
        .help("select these files; numbers such as 1-5,8, a name pattern, or a folder")
        .manual("Select these files: numbers, a pattern or a folder."),
    option("exclude").help("do not select these files").manual("Do not select these files."),
    option("json").help("print one event instead of text").manual("Print one event instead of text."),
    option("peer")
        .help("download the metadata of a magnet link from this peer")
        .manual("Download the metadata of a magnet link from this peer."),
    option("stop-timeout")
        .help("give up if no data arrives for S seconds")
        .manual("Give up if no data arrives for _S_ seconds."),
    HELP,
];

pub(super) const MAGNET: &[OptionEntry] = &[
    option("no-trackers").manual("Leave the trackers out of the link."),
    option("peer").manual("Add the address of a peer to the link."),
    HELP,
];

pub(super) const EDIT: &[OptionEntry] = &[
    option("output")
        .complete(File)
        .manual("The file to write; `-` is standard output. By default, btsync replaces the torrent file itself."),
    option("announce").manual(
        "Replace all trackers with this one. Repeat the option for another tier; separate the trackers of one tier \
         with commas.",
    ),
    option("add-announce").manual("Add a tracker, as a tier after the existing ones."),
    option("remove-announce").manual("Remove a tracker."),
    option("no-announce").manual("Remove all trackers."),
    option("comment").manual("Set the comment."),
    option("no-comment").manual("Remove the comment."),
    option("web-seed").manual("Replace all web seeds with this one."),
    option("no-web-seed").manual("Remove all web seeds."),
    option("force").manual("Overwrite the file of `--output` if it exists."),
    HELP,
];

pub(super) const VERIFY: &[OptionEntry] = &[
    option("select").aliases(&["select-file"]).manual("Check only these files, named as for a download."),
    option("exclude").manual("Do not check these files."),
    option("incomplete-suffix").complete(Words(&[".part"])).manual(
        "If a file does not exist, check the file with _SUFFIX_ appended to its name, as a download with this option \
         leaves it. btsync names such files in lines that begin with `unfinished`.",
    ),
    option("json").manual("Print one JSON object instead of lines."),
    option("quiet").manual("Show no progress bar, and print nothing if all files are intact."),
    HELP,
];

pub(super) const SERVE: &[OptionEntry] = &[
    option("dir").complete(Folder).manual(
        "Download to this folder, and allow downloads only below it. The default is `Downloads` in the home folder. \
         The settings on the page can name a folder below it.",
    ),
    option("allow-dir").complete(Folder).manual("Allow downloads below this folder too."),
    option("web-listen").aliases(&["listen"]).default("127.0.0.1:9091").manual(
        "Serve the page and the remote control on this address and port, or with `unix:PATH` on a Unix socket that \
         only its owner can use. Without a password, btsync accepts only loopback addresses and Unix sockets \
         (otherwise exit code 28).",
    ),
    option("state-dir").aliases(&["state"]).complete(Folder).manual(
        "Keep the torrents, the settings and the resume data in this folder. The default is `btsync/serve` in the \
         user's state folder (`$XDG_STATE_HOME` or `~/.local/state`). Only one service at a time can use it. btsync \
         refuses a folder that is not empty and that it did not create.",
    ),
    option("watch").complete(Folder).manual(
        "Add the `.torrent` files that appear in this folder, and the magnet links in `.magnet` files, one a line. \
         btsync then renames the file to `NAME.added`, or deletes it if the settings say so. It does not add files \
         that a download created. If it cannot add a file, it leaves the file and names it in the log.",
    ),
    option("peer-port")
        .manual("Listen for peers on this port instead of the port in the settings, which is 51413 at first."),
    option("port-mapping").manual(
        "Request port forwarding from the router even if this machine has a public address. Without this option, the \
         service sends the request at its start if the address is private.",
    ),
    option("no-port-mapping")
        .manual("Never request port forwarding from the router. This option takes precedence over `--port-mapping`."),
    option("transport").complete(Words(&["both", "tcp", "utp"])).manual(
        "Connect to peers, and accept connections, by *tcp*, by *utp* or by *both*, as for a download. Without this option, the \
         setting of the remote control (`utp_enabled`) decides, which is *both* at first.",
    ),
    option("proxy").complete(Words(&["socks5://", "socks4a://", "http://"])).manual(
        "Connect to peers, trackers, web seeds and URLs through this proxy only, as for a download. The option does \
         not affect the page and the remote control. Without it, btsync reads the variable `BTSYNC_PROXY`, which hides \
         the password from other users of the machine.",
    ),
    option("anonymous").manual(
        "Send nothing that names btsync or this machine, as for a download. The option does not affect the page and \
         the remote control.",
    ),
    option("no-web-seeds").manual("Do not use the web seeds that torrents and magnet links name."),
    option("block-list").complete(File).manual(
        "Neither connect to the addresses in this list nor accept connections from them, as for a download. The \
         service does not start if it cannot load the list. Without this option, the remote control can set a URL \
         (`blocklist_url`).",
    ),
    option("import-transmission").complete(Folder).manual(
        "Import the torrents of Transmission, and exit. _DIR_ is the folder of its configuration, such as \
         `~/.config/transmission-daemon`. btsync skips torrents that the service has already. The files stay where \
         they are, so `--dir` or `--allow-dir` must permit their folders. The service hashes the files at its next \
         start.",
    ),
    option("import-qbittorrent").complete(Folder).manual(
        "Import the torrents of qBittorrent in the same way. _DIR_ is its folder `BT_backup`, such as \
         `~/.local/share/qBittorrent/BT_backup`.",
    ),
    option("set-password").manual(
        "Read a password from standard input, save its hash in the state folder for this user, and exit. An empty \
         password removes it.",
    ),
    option("password-file").complete(File).manual(
        "Read user and password from the first line of this file, as `USER:PASSWORD`, and ignore the saved password.",
    ),
    option("web-host").manual(
        "Accept requests that browsers send to this host name. btsync always accepts IP addresses and `localhost`. It \
         refuses all other names, because a website can point a name of its own at this machine (DNS rebinding).",
    ),
    option("web-prefix").manual("Serve the page below this path, such as `/btsync`, for a reverse proxy."),
    option("metrics").manual("Serve metrics for Prometheus at `/metrics`."),
    HELP,
];

pub(super) const TRACKER: &[OptionEntry] = &[
    option("listen").manual(
        "Listen on this address and port. The default is `[::]:6969`, or `0.0.0.0:6969` on a machine without IPv6.",
    ),
    option("interval").default("120").manual("Ask peers to announce every _SECONDS_ seconds."),
    HELP,
];

pub(super) const DHT: &[OptionEntry] = &[
    option("salt").manual(
        "Tells the values that an author stores from each other; at most 64 bytes. `get` needs the salt that `put` had.",
    ),
    option("value").complete(File).manual(
        "For `put`: store the contents of this file, at most 996 bytes. `-` stands for standard input. DHT nodes drop a \
         value after about two hours, unless it is stored again.",
    ),
    option("key").complete(File).manual(
        "For `put`: sign the value with the private key in this file. Others find the value by the public key, which `put` \
         prints, and a later `put` with the same key and salt replaces it. If the file does not exist, btsync creates it \
         with a new key. Without this option, others find the value by its hash, and it cannot be replaced.",
    ),
    option("wait").default("60").manual("Give up after this time."),
    option("listen-port").default("6881-6889").manual("Use this port, or the first free port of a range."),
    option("interface").aliases(&["bind"]).complete(Interface).manual("Use only this network interface."),
    option("proxy").complete(Words(&["socks5://", "socks4a://", "http://"])).manual("Use this proxy, as for a download."),
    option("dht-entry-point").manual("Also join the DHT through this node."),
    option("config")
        .aliases(&["conf-path"])
        .complete(File)
        .manual("Read options from this file instead of the default one."),
    option("no-config").manual("Read no configuration file."),
    HELP,
];

pub(super) const DOCTOR: &[OptionEntry] = &[
    option("wait").default("20").manual(
        "Wait at most this long for the router, the DHT and incoming connections. The wait ends earlier if all results \
         are known. The longer the wait, the more likely a peer connects.",
    ),
    option("json").manual("Print one JSON object for each check instead of lines for people; see `docs/json.md`."),
    option("listen-port")
        .default("6881-6889")
        .manual("Check this port, or the first free port of a range, as for a download."),
    option("interface")
        .aliases(&["bind"])
        .complete(Interface)
        .manual("Check this network interface, as for a download."),
    option("proxy").complete(Words(&["socks5://", "socks4a://", "http://"])).manual(
        "Check this proxy, and use it for all traffic, as for a download. Without this option, btsync checks the \
         proxies of the environment, which carry HTTP and HTTPS requests only.",
    ),
    option("port-mapping")
        .manual("Request port forwarding from the router even with `--interface` or a public address."),
    option("no-port-mapping").manual("Do not request port forwarding from the router."),
    option("no-dht").manual("Do not use the DHT."),
    option("dht-entry-point").manual("Also join the DHT through this node."),
    option("config")
        .aliases(&["conf-path"])
        .complete(File)
        .manual("Read options from this file instead of the default one."),
    option("no-config").manual("Read no configuration file."),
    HELP,
];
