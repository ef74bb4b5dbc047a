//! The output of a download, and where it goes: text from strangers reaches a terminal only sanitised, and missing or closed
//! output streams do not stop a download.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::common::payload::Payload;
use crate::common::seeder::{FakePeer, Gate};
use crate::common::torrents::{dictionary, string, torrent_with};
use crate::common::tracker::Tracker;
use crate::common::{PATIENCE, TestDir, btsync, free_port};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

fn payload() -> Payload {
    Payload::single("forty.bin", 40 * 64 * 1024 - 1_234, 64 * 1024)
}

/// A torrent whose seeder serves `blocks` blocks before its gate is opened.
struct Swarm {
    temp: TestDir,
    payload: Payload,
    torrent: PathBuf,
    gate: std::sync::Arc<Gate>,
    _rest: (FakePeer, Tracker),
}

impl Swarm {
    fn new(blocks: usize) -> Swarm {
        let (temp, payload, gate) = (TestDir::new(), payload(), Gate::new(blocks));
        let peer = FakePeer::honest(&payload, &gate);
        let tracker = Tracker::start(&[peer.addr]);
        let torrent = temp.torrent(&payload, &tracker.url("127.0.0.1"));
        Swarm { temp, payload, torrent, gate, _rest: (peer, tracker) }
    }

    fn out(&self) -> PathBuf {
        self.temp.path("out")
    }

    fn download(&self) -> Command {
        let mut command = btsync();
        command.arg(&self.torrent).arg(self.out()).arg("--listen-port").arg(free_port().to_string());
        // The tests of this file have the same torrent, and must not find each other.
        command.args(["--no-dht", "--no-lsd"]).env("XDG_CACHE_HOME", self.temp.path("cache"));
        command.stdin(Stdio::null()).env("TERM", "xterm");
        command
    }

    fn is_there(&self) {
        let found = std::fs::read(self.out().join("forty.bin")).expect("the download");
        assert!(found == self.payload.content(), "the download differs");
    }
}

fn ends(mut child: Child) -> Option<i32> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return status.code();
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("it still runs");
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// A pseudo-terminal of this size: our end, and the program's.
fn terminal(rows: u16, columns: u16) -> (OwnedFd, File) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
    grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("a terminal");
    let name = ptsname(&ours, Vec::new()).expect("its name");
    let path = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(ours.as_fd(), size).expect("a terminal's size");
    let theirs = File::options().read(true).write(true).open(path).expect("the terminal's other end");
    (ours, theirs)
}

fn on(terminal: &File) -> Stdio {
    Stdio::from(terminal.try_clone().expect("another handle"))
}

/// Collects everything written to the terminal until its last writer has closed it.
fn collect_output(ours: OwnedFd) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let (mut file, mut all, mut buffer) = (File::from(ours), Vec::new(), [0; 4096]);
        // Reading a closed terminal fails.
        while let Ok(count @ 1..) = file.read(&mut buffer) {
            all.extend_from_slice(&buffer[..count]);
        }
        all
    })
}

#[test]
fn nobody_to_talk_to_stops_no_download() {
    let closed = || Stdio::from(std::io::pipe().expect("a pipe").1);
    let full = || Stdio::from(File::options().write(true).open("/dev/full").expect("/dev/full"));
    for (name, out) in [("closed pipes", &closed as &dyn Fn() -> Stdio), ("full disks", &full)] {
        for verbose in [false, true] {
            let swarm = Swarm::new(usize::MAX);
            let mut command = swarm.download();
            command.args(verbose.then_some("--verbose")).stdout(out()).stderr(out());
            assert_eq!(ends(command.spawn().expect("the program starts")), Some(0), "{name}");
            swarm.is_there();
        }
    }
    // Without standard streams, the first files that btsync opens must not get their descriptors.
    let swarm = Swarm::new(usize::MAX);
    let mut shell = Command::new("sh");
    crate::common::process::without_settings(&mut shell)
        .args(["-c", "exec \"$@\" <&- >&- 2>&-", "sh"])
        .arg(swarm.download().get_program());
    shell.args(swarm.download().get_args()).arg("--verbose").env("XDG_CACHE_HOME", swarm.temp.path("cache"));
    assert_eq!(ends(shell.spawn().expect("the program starts")), Some(0), "closed streams");
    swarm.is_there();
}

#[test]
fn a_terminal_of_any_size_stops_no_download() {
    for (rows, columns) in [(0, 0), (1, 1), (2, 1), (1, 500), (24, 3), (5, 65_535)] {
        let swarm = Swarm::new(usize::MAX);
        let (ours, theirs) = terminal(rows, columns);
        let child = swarm.download().stdout(on(&theirs)).stderr(on(&theirs)).spawn().expect("the program starts");
        drop(theirs);
        let output = collect_output(ours);
        assert_eq!(ends(child), Some(0), "{rows} rows, {columns} columns");
        swarm.is_there();
        assert!(output.join().is_ok());
    }
}

#[test]
fn a_terminal_that_goes_away_stops_no_download() {
    let swarm = Swarm::new(20);
    let (ours, theirs) = terminal(24, 80);
    let child = swarm.download().stdout(on(&theirs)).stderr(on(&theirs)).spawn().expect("the program starts");
    drop(theirs);
    // The view has started to draw; then the terminal disappears.
    let mut reader = File::from(ours);
    assert!(reader.read(&mut [0; 64]).expect("something on the terminal") > 0);
    drop(reader);
    swarm.gate.open();
    assert_eq!(ends(child), Some(0));
    swarm.is_there();
}

#[test]
fn info_says_when_it_cannot_be_heard() {
    let swarm = Swarm::new(0);
    let info = |out: Stdio| {
        let mut command = btsync();
        command.arg("info").arg(&swarm.torrent).stdout(out).stderr(Stdio::piped());
        command.spawn().and_then(Child::wait_with_output).expect("the program runs")
    };
    let full = info(Stdio::from(File::options().write(true).open("/dev/full").expect("/dev/full")));
    let words = String::from_utf8_lossy(&full.stderr).into_owned();
    assert_eq!((full.status.code(), words.lines().count()), (Some(17), 1), "{words}");
    let closed = info(Stdio::from(std::io::pipe().expect("a pipe").1));
    assert_eq!((closed.status.code(), closed.stderr.len()), (Some(0), 0));
}

/// The first character that a stranger's text must not send to a terminal.
fn first_unsafe_char(text: &str) -> Option<char> {
    let hidden = "\u{200b}\u{2060}\u{feff}\u{ad}\u{202e}\u{2066}\u{200f}";
    text.chars().find(|&c| (c.is_control() && c != '\n') || hidden.contains(c))
}

/// Clears the screen, sets the title, rings the bell, reverses the text, hides a letter; with C0, C1 and Unicode characters.
const UNSAFE_TEXT: &str = "x\x1b[2J\x1b]0;owned\x07\u{9b}31m\r\u{202e}moc\u{2066}.\u{200b}y\u{2060}z\u{feff}\u{ad}";

/// A torrent with such text in every possible place, announced to this port.
fn foul_torrent(port: u16) -> Vec<u8> {
    let announce = format!("http://127.0.0.1:{port}/announce");
    let info = torrent_with("name", Some(&string(UNSAFE_TEXT)));
    let top = dictionary(&[
        ("announce", &string(announce)),
        ("comment", &string(UNSAFE_TEXT)),
        ("created by", &string(UNSAFE_TEXT)),
        ("url-list", &string(UNSAFE_TEXT)),
    ]);
    [&top[..top.len() - 1], &info[1..]].concat()
}

/// A tracker that answers every announce with such text as the failure reason.
fn foul_tracker() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let body = dictionary(&[("failure reason", &string(UNSAFE_TEXT))]);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(&[head.as_bytes(), &body].concat());
        }
    });
    port
}

#[test]
fn strangers_words_are_washed() {
    let temp = TestDir::new();
    let torrent = temp.path("foul.torrent");
    std::fs::write(&torrent, foul_torrent(foul_tracker())).expect("a file");
    for json in [None, Some("--json")] {
        let output = btsync().arg("info").arg(&torrent).args(json).output().expect("the program runs");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(text.contains("owned") && output.status.success(), "{text:?}");
        assert_eq!(first_unsafe_char(&text), None, "{text:?}");
    }
    let mut plain = temp.btsync("plain", &torrent, &temp.path("out"), free_port(), &["--verbose"]);
    plain.wait_for_output("next try");
    plain.terminate(7);
    let said = plain.log();
    assert!(said.contains("owned"), "{said:?}");
    assert_eq!(first_unsafe_char(&said), None, "{said:?}");

    // On a terminal, the output contains our control sequences and none of theirs.
    let (ours, theirs) = terminal(24, 200);
    let mut command = btsync();
    command.arg(&torrent).arg(temp.path("out")).arg("--listen-port").arg(free_port().to_string());
    command.args(["--no-dht", "--no-lsd"]).env("XDG_CACHE_HOME", temp.path("cache"));
    let child = command.env("TERM", "xterm").stdin(Stdio::null()).stdout(on(&theirs)).stderr(on(&theirs)).spawn();
    let child = child.expect("the program starts");
    drop((command, theirs));
    let mut screen = File::from(ours);
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    let deadline = Instant::now() + PATIENCE;
    while !String::from_utf8_lossy(&seen).contains("next try") {
        // The view redraws constantly, so a read never waits for long.
        assert!(Instant::now() < deadline, "not said: {:?}", String::from_utf8_lossy(&seen));
        let count = screen.read(&mut buffer).expect("a terminal that says it");
        seen.extend_from_slice(&buffer[..count]);
    }
    let kill = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(kill.expect("kill").success());
    let output = collect_output(OwnedFd::from(screen));
    assert_eq!(ends(child), Some(7));
    seen.extend(output.join().expect("the terminal's end"));
    let text = String::from_utf8_lossy(&seen);
    for theirs in ["\x1b[2J", "\x1b]", "\x07", "\u{9b}", "\u{202e}", "\u{200b}", "\u{feff}"] {
        assert!(!text.contains(theirs), "{theirs:?} in {text:?}");
    }
}
