//! Other clients and trackers, each started as its users start it, on its own address.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use crate::common::netns::{address, find};
use crate::common::payload::Payload;
use crate::common::process::Running;
use crate::common::tracker::{Tracker, scrape};
use crate::common::{TestDir, free_port, until};

/// A client that seeds the files it finds in a folder and downloads the missing ones.
#[derive(Clone, Copy, Debug)]
pub enum Client {
    Transmission,
    Aria2,
    Libtorrent,
    Rtorrent,
    Qbittorrent,
}

/// Python with libtorrent; scripts/test-setup.sh creates it.
pub const PYTHON: &str = ".venv/bin/python";

impl Client {
    /// The program that the client needs.
    pub fn program(self) -> &'static str {
        match self {
            Client::Transmission => "transmission-daemon",
            Client::Aria2 => "aria2c",
            Client::Libtorrent => PYTHON,
            Client::Rtorrent => "rtorrent",
            Client::Qbittorrent => "qbittorrent-nox",
        }
    }

    /// Starts the client at 10.88.0.`host`. It checks the files in `folder`, downloads the missing data, and seeds. `torrent` is
    /// a .torrent file or a magnet link.
    pub fn start(self, temp: &TestDir, host: u8, torrent: &Path, folder: &Path) -> Running {
        self.start_with(temp, host, torrent, folder, &[])
    }

    /// Like [`Client::start`] with more options: command line arguments, or for libtorrent settings as name=number.
    pub fn start_with(self, temp: &TestDir, host: u8, torrent: &Path, folder: &Path, more: &[&str]) -> Running {
        self.start_at(temp, (host, free_port()), torrent, folder, more)
    }

    /// Like [`Client::start_with`], listening on the given port.
    pub fn start_at(
        self,
        temp: &TestDir,
        (host, port): (u8, u16),
        torrent: &Path,
        folder: &Path,
        more: &[&str],
    ) -> Running {
        let (port, remote) = (port.to_string(), free_port());
        let name = format!("{self:?}-{host}");
        let mut command = match self {
            Client::Transmission => transmission(temp, &name, (host, &port, remote), torrent, folder),
            Client::Aria2 => aria2(host, &port, torrent, folder),
            Client::Libtorrent => libtorrent(&address(host), &port, torrent, folder),
            Client::Rtorrent => rtorrent(temp, &name, host, &port, torrent, folder),
            Client::Qbittorrent => qbittorrent(temp, &name, (host, &port, remote), torrent, folder),
        };
        let running = temp.start(&name, command.args(more).env("HOME", temp.folder(&format!("{name}-home"))));
        if let (Client::Transmission, Some(link)) = (self, link(torrent)) {
            remote_control(remote, &format!(r#"{{"method":"torrent-add","arguments":{{"filename":"{link}"}}}}"#));
        }
        running
    }
}

/// Passes a .torrent file through the watch folder, and a magnet link through [`remote_control`].
fn transmission(
    temp: &TestDir,
    name: &str,
    (host, port, remote): (u8, &str, u16),
    torrent: &Path,
    folder: &Path,
) -> Command {
    let watch = temp.folder(&format!("{name}-watch"));
    if link(torrent).is_none() {
        std::fs::copy(torrent, watch.join("this.torrent")).expect("a torrent in the watch folder");
    }
    let mut command = Command::new("transmission-daemon");
    command.arg("-f").arg("-g").arg(temp.folder(&format!("{name}-config"))).arg("-c").arg(watch);
    command.arg("-w").arg(folder).args(["-P", port, "-i", &address(host), "-p", &remote.to_string()]);
    command.args(["-O", "-Y", "-M", "-GSR", "--no-incomplete-dir", "--no-utp", "--log-info"]);
    command
}

/// The magnet link, if `torrent` is one.
fn link(torrent: &Path) -> Option<&str> {
    torrent.to_str().filter(|text| text.starts_with("magnet:"))
}

/// Sends a request to transmission's RPC. The first answer is an error with the session id that every request must carry.
fn remote_control(port: u16, request: &str) {
    let ask = |id: &str| -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        let head = format!("POST /transmission/rpc HTTP/1.0\r\nHost: 127.0.0.1\r\nX-Transmission-Session-Id: {id}\r\n");
        write!(stream, "{head}Content-Length: {}\r\n\r\n{request}", request.len())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let mut id = String::new();
    until("transmission takes the link", || {
        let answer = ask(&id).unwrap_or_default();
        let given = answer.lines().find_map(|line| line.strip_prefix("X-Transmission-Session-Id: "));
        id = given.map_or_else(String::new, |id| id.trim().to_owned());
        answer.contains(r#""result":"success""#)
    });
}

fn aria2(host: u8, port: &str, torrent: &Path, folder: &Path) -> Command {
    let mut command = Command::new("aria2c");
    command.arg("--dir").arg(folder).args(["--listen-port", port, "--interface", &address(host)]);
    command.args(["--no-conf", "--enable-dht=false", "--enable-dht6=false", "--bt-enable-lpd=false"]);
    command.args(["--enable-peer-exchange=false", "--disable-ipv6=true", "--file-allocation=none"]);
    // Check existing files first. A ratio of 0 means no limit.
    command.args(["--check-integrity=true", "--seed-ratio=0.0", "--summary-interval=5"]).arg(torrent);
    command
}

/// Starts libtorrent at an IPv4 or IPv6 address.
pub fn libtorrent(address: &str, port: &str, torrent: &Path, folder: &Path) -> Command {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(repository.join(PYTHON));
    command.arg(repository.join("scripts/lt_peer.py")).arg(torrent).arg(folder).args([address, port]);
    command
}

/// Runs rtorrent as a daemon, without a terminal, configured by commands only.
fn rtorrent(temp: &TestDir, name: &str, host: u8, port: &str, torrent: &Path, folder: &Path) -> Command {
    let mut command = Command::new("rtorrent");
    command.arg("-n");
    for option in [
        "system.daemon.set=true".to_owned(),
        format!("session.path.set={}", temp.folder(&format!("{name}-session")).display()),
        format!("directory.default.set={}", folder.display()),
        format!("network.bind_address.set={}", address(host)),
        format!("network.port_range.set={port}-{port}"),
        "dht.mode.set=disable".to_owned(),
        "protocol.pex.set=no".to_owned(),
    ] {
        command.arg("-o").arg(option);
    }
    command.arg(torrent);
    command
}

/// Starts qBittorrent, configured by its configuration file only. Its web interface listens on `remote`.
fn qbittorrent(
    temp: &TestDir,
    name: &str,
    (host, port, remote): (u8, &str, u16),
    torrent: &Path,
    folder: &Path,
) -> Command {
    let profile = temp.folder(&format!("{name}-profile"));
    let config = temp.folder(&format!("{name}-profile/qBittorrent/config"));
    let text = format!(
        "[LegalNotice]\nAccepted=true\n[BitTorrent]\nSession\\DHTEnabled=false\nSession\\LSDEnabled=false\n\
         Session\\PeXEnabled=false\nSession\\BTProtocol=TCP\nSession\\Port={port}\nSession\\Interface=lo\n\
         Session\\InterfaceName=lo\nSession\\InterfaceAddress={}\nSession\\MultiConnectionsPerIp=true\n\
         Session\\AddTorrentPaused=false\n[Preferences]\nWebUI\\Enabled=true\nWebUI\\Port={remote}\n\
         WebUI\\Address=127.0.0.1\nWebUI\\UseUPnP=false\n[Network]\nPortForwardingEnabled=false\n",
        address(host)
    );
    std::fs::write(config.join("qBittorrent.conf"), text).expect("a configuration");
    let mut command = Command::new("qbittorrent-nox");
    command.arg(format!("--profile={}", profile.display())).arg(format!("--save-path={}", folder.display()));
    command.arg("--skip-dialog=true").arg(torrent);
    command
}

/// The tracker through which the peers find each other.
#[derive(Clone, Copy, Debug)]
pub enum TrackerKind {
    /// opentracker, announced to over HTTP.
    Opentracker,
    /// opentracker, announced to over UDP.
    OpentrackerUdp,
    /// The tests' own tracker.
    Ours,
}

impl TrackerKind {
    /// The programs that it needs.
    pub fn programs(self) -> &'static [&'static str] {
        match self {
            TrackerKind::Opentracker | TrackerKind::OpentrackerUdp => &["opentracker"],
            TrackerKind::Ours => &[],
        }
    }

    /// Starts the tracker for one swarm; it listens on all ten addresses.
    pub fn start(self, temp: &TestDir, payload: &Payload) -> RunningTracker {
        match self {
            TrackerKind::Opentracker => opentracker(temp, &payload.hex(), "http"),
            TrackerKind::OpentrackerUdp => opentracker(temp, &payload.hex(), "udp"),
            TrackerKind::Ours => {
                let tracker = Tracker::start(&[]);
                RunningTracker { scheme: "http", port: tracker.port(), _running: None, _tracker: Some(tracker) }
            }
        }
    }
}

/// Starts Debian's opentracker. It serves only the swarms on a list, which it reads from the folder it changes its root to.
fn opentracker(temp: &TestDir, info_hash: &str, scheme: &'static str) -> RunningTracker {
    let (port, folder) = (free_port(), temp.folder("opentracker"));
    std::fs::write(folder.join("whitelist"), format!("{info_hash}\n")).expect("a whitelist");
    let mut command = Command::new(find("opentracker").expect("opentracker"));
    command.args(["-p", &port.to_string(), "-P", &port.to_string(), "-w", "whitelist", "-d"]).arg(folder);
    RunningTracker { scheme, port, _running: Some(temp.start("opentracker", &mut command)), _tracker: None }
}

/// A running tracker.
pub struct RunningTracker {
    /// The scheme of the announce URL; scrapes always use HTTP.
    scheme: &'static str,
    port: u16,
    _running: Option<Running>,
    _tracker: Option<Tracker>,
}

impl RunningTracker {
    /// A running `btsync tracker` whose announce URL starts with `http` or `udp`.
    pub fn from_process(scheme: &'static str, port: u16, running: Running) -> RunningTracker {
        RunningTracker { scheme, port, _running: Some(running), _tracker: None }
    }

    /// The announce URL.
    pub fn url(&self) -> String {
        format!("{}://{}:{}/announce", self.scheme, address(1), self.port)
    }

    /// Waits until the tracker counts `seeds` complete peers.
    pub fn wait_for_seeds(&self, info_hash: [u8; 20], seeds: u64) {
        until(&format!("the tracker knows {seeds} seeds"), || {
            self.scrape(info_hash).is_some_and(|(complete, _)| complete >= seeds)
        });
    }

    /// Waits until the tracker counts `leechers` incomplete peers.
    pub fn wait_for_leechers(&self, info_hash: [u8; 20], leechers: u64) {
        until(&format!("the tracker knows {leechers} leechers"), || {
            self.scrape(info_hash).is_some_and(|(_, incomplete)| incomplete >= leechers)
        });
    }

    /// The tracker's counts of complete and incomplete peers.
    fn scrape(&self, info_hash: [u8; 20]) -> Option<(u64, u64)> {
        scrape(&format!("http://{}:{}/announce", address(1), self.port), info_hash)
    }
}
