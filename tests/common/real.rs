//! Other people's clients and trackers, each started the way its users start it, on an address of its own.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use crate::common::netns::{address, find};
use crate::common::payload::Payload;
use crate::common::process::Running;
use crate::common::tracker::{Tracker, scrape};
use crate::common::{Stage, free_port, until};

/// A client that can seed what it finds in a folder and fetch what it misses.
#[derive(Clone, Copy, Debug)]
pub enum Client {
    Transmission,
    Aria2,
    Libtorrent,
    Rtorrent,
    Qbittorrent,
}

/// Python with libtorrent in it; scripts/test-setup.sh makes it.
pub const PYTHON: &str = ".venv/bin/python";

impl Client {
    /// The program it needs.
    pub fn program(self) -> &'static str {
        match self {
            Client::Transmission => "transmission-daemon",
            Client::Aria2 => "aria2c",
            Client::Libtorrent => PYTHON,
            Client::Rtorrent => "rtorrent",
            Client::Qbittorrent => "qbittorrent-nox",
        }
    }

    /// Starts it at 10.88.0.`host` with the files in `folder`; it checks what is there, fetches the rest, and seeds. `torrent` is a
    /// file, or a magnet link.
    pub fn start(self, stage: &Stage, host: u8, torrent: &Path, folder: &Path) -> Running {
        self.start_with(stage, host, torrent, folder, &[])
    }

    /// The same, with options of its own: words of a command line, and for libtorrent its settings as name=number.
    pub fn start_with(self, stage: &Stage, host: u8, torrent: &Path, folder: &Path, more: &[&str]) -> Running {
        self.start_at(stage, (host, free_port()), torrent, folder, more)
    }

    /// The same, listening on this port.
    pub fn start_at(
        self,
        stage: &Stage,
        (host, port): (u8, u16),
        torrent: &Path,
        folder: &Path,
        more: &[&str],
    ) -> Running {
        let (port, remote) = (port.to_string(), free_port());
        let name = format!("{self:?}-{host}");
        let mut command = match self {
            Client::Transmission => transmission(stage, &name, (host, &port, remote), torrent, folder),
            Client::Aria2 => aria2(host, &port, torrent, folder),
            Client::Libtorrent => libtorrent(&address(host), &port, torrent, folder),
            Client::Rtorrent => rtorrent(stage, &name, host, &port, torrent, folder),
            Client::Qbittorrent => qbittorrent(stage, &name, (host, &port, remote), torrent, folder),
        };
        let running = stage.start(&name, command.args(more).env("HOME", stage.folder(&format!("{name}-home"))));
        if let (Client::Transmission, Some(link)) = (self, link(torrent)) {
            remote_control(remote, &format!(r#"{{"method":"torrent-add","arguments":{{"filename":"{link}"}}}}"#));
        }
        running
    }
}

/// The torrent goes in by the watch folder, and a link by [`remote_control`].
fn transmission(
    stage: &Stage,
    name: &str,
    (host, port, remote): (u8, &str, u16),
    torrent: &Path,
    folder: &Path,
) -> Command {
    let watch = stage.folder(&format!("{name}-watch"));
    if link(torrent).is_none() {
        std::fs::copy(torrent, watch.join("this.torrent")).expect("a torrent in the watch folder");
    }
    let mut command = Command::new("transmission-daemon");
    command.arg("-f").arg("-g").arg(stage.folder(&format!("{name}-config"))).arg("-c").arg(watch);
    command.arg("-w").arg(folder).args(["-P", port, "-i", &address(host), "-p", &remote.to_string()]);
    command.args(["-O", "-Y", "-M", "-GSR", "--no-incomplete-dir", "--no-utp", "--log-info"]);
    command
}

/// A torrent that is given as a magnet link.
fn link(torrent: &Path) -> Option<&str> {
    torrent.to_str().filter(|text| text.starts_with("magnet:"))
}

/// Transmission's RPC. The first answer is an error with the session's id, which every request must bear.
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
    // Look at what is there first; a ratio of 0 is no limit.
    command.args(["--check-integrity=true", "--seed-ratio=0.0", "--summary-interval=5"]).arg(torrent);
    command
}

/// libtorrent at an address of either family.
pub fn libtorrent(address: &str, port: &str, torrent: &Path, folder: &Path) -> Command {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(repository.join(PYTHON));
    command.arg(repository.join("scripts/lt_peer.py")).arg(torrent).arg(folder).args([address, port]);
    command
}

/// Without a terminal it is a daemon; everything is said by commands, none by a file.
fn rtorrent(stage: &Stage, name: &str, host: u8, port: &str, torrent: &Path, folder: &Path) -> Command {
    let mut command = Command::new("rtorrent");
    command.arg("-n");
    for option in [
        "system.daemon.set=true".to_owned(),
        format!("session.path.set={}", stage.folder(&format!("{name}-session")).display()),
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

/// Everything is said by its configuration file; its web page listens on `remote`.
fn qbittorrent(
    stage: &Stage,
    name: &str,
    (host, port, remote): (u8, &str, u16),
    torrent: &Path,
    folder: &Path,
) -> Command {
    let profile = stage.folder(&format!("{name}-profile"));
    let config = stage.folder(&format!("{name}-profile/qBittorrent/config"));
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

/// Who introduces the peers to each other.
#[derive(Clone, Copy, Debug)]
pub enum Introducer {
    /// The tracker most swarms have.
    Opentracker,
    /// The same, announced to over UDP.
    OpentrackerUdp,
    /// The tests' own.
    Ours,
}

impl Introducer {
    /// The programs that it needs.
    pub fn programs(self) -> &'static [&'static str] {
        match self {
            Introducer::Opentracker | Introducer::OpentrackerUdp => &["opentracker"],
            Introducer::Ours => &[],
        }
    }

    /// Starts it for one swarm; it listens on all ten addresses.
    pub fn start(self, stage: &Stage, payload: &Payload) -> Introduction {
        match self {
            Introducer::Opentracker => opentracker(stage, &payload.hex(), "http"),
            Introducer::OpentrackerUdp => opentracker(stage, &payload.hex(), "udp"),
            Introducer::Ours => {
                let tracker = Tracker::start(&[]);
                Introduction { scheme: "http", port: tracker.port(), _running: None, _tracker: Some(tracker) }
            }
        }
    }
}

/// Debian's opentracker serves only the swarms on a list, which it reads from the folder it locks itself into.
fn opentracker(stage: &Stage, info_hash: &str, scheme: &'static str) -> Introduction {
    let (port, folder) = (free_port(), stage.folder("opentracker"));
    std::fs::write(folder.join("whitelist"), format!("{info_hash}\n")).expect("a whitelist");
    let mut command = Command::new(find("opentracker").expect("opentracker"));
    command.args(["-p", &port.to_string(), "-P", &port.to_string(), "-w", "whitelist", "-d"]).arg(folder);
    Introduction { scheme, port, _running: Some(stage.start("opentracker", &mut command)), _tracker: None }
}

/// A tracker that runs.
pub struct Introduction {
    /// Of the announce URL; figures are always asked for over HTTP.
    scheme: &'static str,
    port: u16,
    _running: Option<Running>,
    _tracker: Option<Tracker>,
}

impl Introduction {
    /// A running `btsync tracker`, announced to over `http` or `udp`.
    pub fn by(scheme: &'static str, port: u16, running: Running) -> Introduction {
        Introduction { scheme, port, _running: Some(running), _tracker: None }
    }

    /// The announce URL.
    pub fn url(&self) -> String {
        format!("{}://{}:{}/announce", self.scheme, address(1), self.port)
    }

    /// Waits until the tracker knows so many complete peers.
    pub fn knows_seeds(&self, info_hash: [u8; 20], seeds: u64) {
        until(&format!("the tracker knows {seeds} seeds"), || {
            let url = format!("http://{}:{}/announce", address(1), self.port);
            scrape(&url, info_hash).is_some_and(|(complete, _)| complete >= seeds)
        });
    }
}
