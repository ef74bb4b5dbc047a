//! btsync reveals no secrets: neither the passkeys in tracker URLs, wherever they occur and whatever happens to the request, nor
//! its own files, which only their user can read.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::common::batch::Swarm;
use crate::common::bencode::{bytes, dict, int, list};
use crate::common::payload::Payload;
use crate::common::tmux::Tmux;
use crate::common::{TestDir, btsync, free_port};

/// Short and plain, so that no heuristic recognises it as a key.
const SECRET: &str = "qz-77";

/// A tracker that behaves as the `uid` in the URL's query says, and repeats path and query in its answers.
fn tracker() -> u16 {
    // Also for 127.0.0.2: btsync uses few trackers of one host.
    let listener = TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            drop(answer(&stream)); // the client sees the failure
        }
    });
    port
}

fn answer(stream: &TcpStream) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    let target = request.split(' ').nth(1).unwrap_or_default();
    let words = format!("no such user: {target}");
    let (status, head, body) = match target.split(['=', '&']).nth(3).unwrap_or_default() {
        "refuses" => ("200 OK", String::new(), dict([("failure reason", bytes(words.as_bytes()))])),
        "warns" => ("200 OK", String::new(), {
            dict([("interval", int(600)), ("peers", bytes(b"")), ("warning message", bytes(words.as_bytes()))])
        }),
        "moves" => {
            ("302 Found", format!("Location: http://nowhere.invalid/{SECRET}/announce?{SECRET}\r\n"), Vec::new())
        }
        "loops" => ("302 Found", format!("Location: {target}\r\n"), Vec::new()),
        "talks" => ("200 OK", String::new(), words.into_bytes()),
        _ => ("404 Not Found", String::new(), Vec::new()),
    };
    let mut stream = stream;
    write!(stream, "HTTP/1.1 {status}\r\n{head}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    stream.write_all(&body)
}

/// URLs with the secret in path, query, user name and password, one for each possible outcome of a request.
fn urls(port: u16) -> Vec<String> {
    let closed = free_port();
    let mut urls: Vec<String> = ["refuses", "moves", "loops", "talks", "missing"]
        .iter()
        .map(|what| format!("http://{SECRET}:{SECRET}@127.0.0.1:{port}/announce?passkey={SECRET}&uid={what}"))
        .collect();
    for form in [
        format!("http://127.0.0.1:{closed}/{SECRET}/announce"),
        format!("https://127.0.0.1:{port}/{SECRET}/announce"),
        format!("http://127.0.0.1:{port}/{SECRET}"),
        format!("http://nowhere.invalid/{SECRET}/announce"),
        format!("http://[::/{SECRET}/announce"),
        format!("http://127.0.0.1:99999/{SECRET}/announce"),
        format!("http:///{SECRET}/announce"),
        format!("udp://127.0.0.1:{closed}/{SECRET}/announce"),
        format!("udp://{SECRET}@nowhere.invalid:1/{SECRET}/announce"),
        format!("udp://127.0.0.1:{closed}/{SECRET}"),
        format!("udp://127.0.0.1:x/{SECRET}/announce"),
        // Tried last, because it answers.
        format!("http://127.0.0.2:{port}/announce?passkey={SECRET}&uid=warns"),
        format!("wss://tracker.invalid/{SECRET}"),
        format!("tracker.invalid/{SECRET}/announce"),
        SECRET.to_owned(),
    ] {
        urls.push(form);
    }
    urls
}

struct Home {
    temp: TestDir,
    payload: Payload,
    torrent: PathBuf,
    urls: Vec<String>,
}

impl Home {
    fn new() -> Home {
        let (temp, payload) = (TestDir::new(), Payload::single("payload.bin", 50_000, 16 * 1024));
        let urls = urls(tracker());
        let tiers = urls.iter().map(|url| list([bytes(url.as_bytes())]));
        let torrent = temp.path("x.torrent");
        let whole = [("announce", bytes(urls[0].as_bytes())), ("announce-list", list(tiers)), ("info", payload.info())];
        fs::write(&torrent, dict(whole)).expect("a torrent");
        Home { temp, payload, torrent, urls }
    }

    /// `btsync` with all logging, and with neither the DHT nor local discovery.
    fn download(&self, args: &[&str]) -> Command {
        let mut command = self.endless_download(args);
        command.args(["--stop-timeout", "3"]);
        command
    }

    fn endless_download(&self, args: &[&str]) -> Command {
        let mut command = self.command(args);
        command.args(["--no-dht", "--no-lsd", "--listen-port", &free_port().to_string()]);
        command
    }

    /// The output of a download that is stopped once it has said all of `words`. Panics if it contains the secret.
    fn says(&self, what: &str, command: &mut Command, words: &[&str]) -> String {
        let mut running = self.temp.start("download", command);
        for word in words {
            running.wait_for_output(word);
        }
        running.terminate(7);
        let said = running.log();
        assert_no_secret(what, &said);
        said
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = btsync();
        command.args(args).env("RUST_LOG", "trace,ureq=trace,ureq::run=trace,ureq_proto::client=trace");
        command.env("XDG_CACHE_HOME", self.temp.path("cache")).stdin(Stdio::null());
        command.current_dir(self.temp.path(""));
        command
    }
}

fn assert_no_secret(what: &str, said: &str) {
    let told: Vec<&str> = said.lines().filter(|line| line.contains(SECRET)).collect();
    assert!(told.is_empty(), "{what}: {told:#?}");
}

/// Panics if the output contains the secret, or too little output to prove anything.
fn keeps_the_secret(what: &str, output: &Output, words: &[&str]) -> String {
    let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat();
    assert_no_secret(what, &said);
    for word in words {
        assert!(said.contains(word), "{what}: nothing of {word:?} in\n{said}");
    }
    said
}

/// What the output of a run with all URLs contains at least.
const OUTCOMES: [&str; 6] = [
    "refused: no such user",
    "warns: no such user",
    "nowhere.invalid cannot be resolved",
    "HTTP status 404",
    "too many",
    "https://127.0.0.1",
];

#[test]
fn no_passkey_of_a_torrent_is_told() {
    let home = Home::new();
    let torrent = home.torrent.to_str().expect("UTF-8");
    for form in ["--plain", "-v", "--json"] {
        home.says(form, &mut home.endless_download(&[torrent, "out", form]), &OUTCOMES);
    }
    keeps_the_secret("-q", &home.download(&[torrent, "out", "-q"]).output().expect("btsync runs"), &[]);
    // These commands exist to show the URLs.
    for command in ["info", "magnet"] {
        let output = home.command(&[command, torrent]).output().expect("btsync runs");
        assert!(String::from_utf8_lossy(&output.stdout).contains(SECRET), "{command}");
    }
    let listed = home.download(&[torrent, "--list"]).output().expect("btsync runs");
    keeps_the_secret("--list", &listed, &["payload.bin"]);
}

#[test]
fn no_passkey_of_a_link_is_told() {
    let home = Home::new();
    let escape = |url: &String| format!("&tr={}", url.replace(':', "%3A").replace('/', "%2F").replace('&', "%26"));
    // Also as the URL of the link's .torrent. btsync does not connect to local addresses on a link's request.
    let sources = home.urls.iter().filter(|url| url.starts_with("http:")).take(5);
    let sources = sources.map(|url| escape(url).replace("&tr=", "&xs=")).collect::<String>();
    let link = home.payload.magnet(&(home.urls.iter().map(escape).collect::<String>() + &sources));
    for form in ["-v", "--json"] {
        let more = if form == "-v" { &["no metadata from this URL"][..] } else { &[] };
        home.says(form, &mut home.endless_download(&[&link, "out", form]), &[&OUTCOMES, more].concat());
    }
    for bad in [link.replace("urn:btih:", "urn:btih:x"), link.replace("xt=", "yt=")] {
        keeps_the_secret("a bad link", &home.download(&[&bad, "out"]).output().expect("btsync runs"), &["magnet link"]);
        let several = home.download(&[&bad, "x.torrent", "out"]).output().expect("btsync runs");
        keeps_the_secret("a bad link of several", &several, &["magnet"]);
    }
}

#[test]
fn no_passkey_of_a_torrents_own_url_is_told() {
    let home = Home::new();
    for url in home.urls.iter().filter(|url| url.contains("://")) {
        for more in [&["out"][..], &["other.torrent", "out"], &["out", "--json"]] {
            let output = home.download(&[&[url.as_str()], more].concat()).output().expect("btsync runs");
            keeps_the_secret(url, &output, &[]);
            assert_ne!(output.status.code(), Some(0), "{url}");
        }
    }
    let list = home.temp.path("list");
    for url in &home.urls {
        fs::write(&list, format!("{url}\n")).expect("a list");
        let output = home.download(&["-i", "list", "-d", "out"]).output().expect("btsync runs");
        // A line without a scheme is a file name.
        if url.contains("://") {
            keeps_the_secret(url, &output, &[]);
        }
    }
}

#[test]
fn no_passkey_of_the_users_own_trackers_is_told() {
    let home = Home::new();
    let plain = home.temp.path("plain.torrent");
    fs::write(&plain, dict([("info", home.payload.info())])).expect("a torrent");
    let asked = |url: &&String| ["http://", "https://", "udp://"].iter().any(|scheme| url.starts_with(scheme));
    let trackers: Vec<&str> = home.urls.iter().filter(asked).map(String::as_str).collect();
    let all = trackers.join(",");
    let config = home.temp.path("config");
    fs::write(&config, format!("bt-tracker = {all}\n")).expect("a file");
    let config = config.to_str().expect("UTF-8");
    let run = |what: &str, mut command: Command, words: &[&str]| {
        keeps_the_secret(what, &command.output().expect("btsync runs"), words)
    };
    let says = |what, mut command| home.says(what, &mut command, &OUTCOMES);
    says("an option", home.endless_download(&["plain.torrent", "out", "-v", "--bt-tracker", &all]));
    says("the file", home.endless_download(&["plain.torrent", "out", "--json", "--config", config]));
    let mut environment = home.endless_download(&["plain.torrent", "out", "-v"]);
    environment.env("BTSYNC_BT_TRACKER", trackers.join(" "));
    says("the environment", environment);
    // `--show-config`, and errors in the lists.
    for list in [vec!["--config", config], vec!["--bt-tracker", &all], vec!["--bt-exclude-tracker", &all]] {
        let shown = run("--show-config", home.command(&[&["--show-config"], &list[..]].concat()), &["tracker = "]);
        assert!(shown.contains("http://nowhere.invalid"), "{shown}");
    }
    let hook = format!("curl 'https://me:{SECRET}@h.example/{SECRET}'");
    run("a hook", home.command(&["--show-config", "--on-download-complete", &hook]), &["curl 'https://h.example/…"]);
    for bad in home.urls.iter().filter(|url| !asked(url)) {
        run(bad, home.download(&["plain.torrent", "out", "--bt-tracker", bad]), &["begins with"]);
        let mut environment = home.download(&["plain.torrent"]);
        environment.env("BTSYNC_BT_TRACKER", bad);
        run(bad, environment, &["BTSYNC_BT_TRACKER="]);
        fs::write(config, format!("bt-tracker = {bad}\n")).expect("a file");
        run(bad, home.download(&["plain.torrent", "--config", config]), &["bt-tracker = "]);
    }
    for line in [format!("http://t.example/{SECRET}"), format!("seed = http://t.example/{SECRET}")] {
        fs::write(config, line).expect("a file");
        run("a bad line", home.download(&["plain.torrent", "--config", config]), &[":1: "]);
    }
    run("a bad word", home.download(&["plain.torrent", &format!("--http://t.example/{SECRET}")]), &["unknown option"]);
}

#[test]
fn a_udp_tracker_that_repeats_its_url_is_not_repeated() {
    let home = Home::new();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let url = format!("udp://{}/announce?{SECRET}", socket.local_addr().expect("an address"));
    std::thread::spawn(move || {
        let mut packet = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            let request = &packet[..length];
            let mut reply = vec![0, 0, 0, 0];
            if request.get(8..12) == Some(&[0, 0, 0, 0]) {
                reply.extend_from_slice(&request[12..16]);
                reply.extend_from_slice(&[7; 8]);
            } else {
                reply = vec![0, 0, 0, 3];
                reply.extend_from_slice(request.get(12..16).unwrap_or_default());
                reply.extend_from_slice(format!("who is /announce?{SECRET}").as_bytes());
            }
            let _ = socket.send_to(&reply, from); // the client asks again
        }
    });
    fs::write(home.temp.path("udp.torrent"), home.payload.torrent(&url)).expect("a torrent");
    home.says(&url, &mut home.endless_download(&["udp.torrent", "out", "-v"]), &["who is", "udp://127.0.0.1"]);
}

#[test]
fn the_live_view_keeps_the_secret() {
    let home = Home::new();
    let port = home.urls[0].split([':', '/', '@']).find_map(|part| part.parse::<u16>().ok()).expect("a port");
    let url = format!("http://127.0.0.1:{port}/announce?passkey={SECRET}&uid=refuses");
    fs::write(home.temp.path("one.torrent"), home.payload.torrent(&url)).expect("a torrent");
    let tmux = Tmux::start(&home.temp, 150, 30);
    let program = env!("CARGO_BIN_EXE_btsync");
    tmux.types(&format!(
        "clear; XDG_CONFIG_HOME=none XDG_CACHE_HOME=cache RUST_LOG=trace {program} one.torrent out --no-dht --no-lsd \
         --listen-port {}; echo over $?",
        free_port()
    ));
    tmux.wait_for_text("no such user");
    tmux.press(&["s"]);
    let why = tmux.wait_for_text("no incoming connections");
    tmux.press(&["q"]);
    let last = tmux.wait_for_text("over 7");
    for screen in [why, last] {
        assert!(!screen.contains(SECRET), "{screen}");
    }
}

/// The permission bits of a file or folder.
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).permissions().mode() & 0o7777
}

/// Everything below a folder, and the folder itself.
fn below(folder: &Path) -> Vec<PathBuf> {
    let mut all = vec![folder.to_owned()];
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() { all.extend(below(&path)) } else { all.push(path) }
    }
    all
}

#[test]
fn btsyncs_own_files_are_private_and_the_users_have_the_usual_modes() {
    let home = Home::new();
    let cache = home.temp.path("deep/cache");
    let swarm = Swarm::new(&home.temp, "fresh.bin", usize::MAX);
    let mut command = Command::new("sh");
    let program = env!("CARGO_BIN_EXE_btsync");
    command.args([
        "-c",
        &format!(
            "umask 022; exec {program} fresh.bin.torrent out --no-lsd --dht-entry-point 127.0.0.1:9 --listen-port {}",
            free_port()
        ),
    ]);
    crate::common::process::without_settings(&mut command);
    command.env("XDG_CACHE_HOME", &cache).current_dir(home.temp.path(""));
    let output = command.stdin(Stdio::null()).output().expect("a shell");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(mode(&home.temp.path("out/fresh.bin")), 0o644, "the user asked for it");
    swarm.assert_complete_in(&home.temp.path("out"));
    let kept = below(&home.temp.path("deep"));
    assert!(kept.iter().any(|path| path.is_file()), "{kept:?}");
    for path in kept {
        assert_eq!(mode(&path), if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
    }
}
