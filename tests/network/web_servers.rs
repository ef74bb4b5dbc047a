//! Downloads from web servers that people use, alone and beside other clients, and through TLS.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::bencode;
use crate::common::netns::{address, find, in_network_namespace, installed};
use crate::common::payload::Payload;
use crate::common::process::Running;
use crate::common::real::{Client, TrackerKind};
use crate::common::tls::{certificate, server_config};
use crate::common::web_seed::{TestWebSeed, WebSeedOptions, part, status};
use crate::common::{TestDir, btsync, free_port, until};
use crate::web_seeds::{single, start, tree};

/// The modules of Apache that it needs to serve files.
const APACHE_MODULES: [&str; 3] = ["mpm_event", "authz_core", "dir"];
/// Where Debian has them.
const APACHE_FOLDER: &str = "/usr/lib/apache2/modules";

/// Lets a server without root's rights read the test's files.
fn allow_all(temp: &TestDir) {
    let root = temp.path("");
    assert!(Command::new("chmod").args(["-R", "a+rX"]).arg(root).status().expect("chmod").success());
}

/// Starts nginx for the files in `root`.
fn nginx(temp: &TestDir, host: &str, root: &Path) -> (Running, String) {
    let (port, folder) = (free_port(), temp.folder("nginx"));
    let mut config =
        format!("daemon off; worker_processes 1; pid {0}/pid; error_log {0}/error.log;\n", folder.display());
    config += "events { worker_connections 64; }\nhttp { access_log off;\n";
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        let _ = writeln!(config, "{kind}_temp_path {}/{kind};", folder.display());
    }
    let _ = writeln!(config, "server {{ listen {host}:{port}; root {}; }} }}", root.display());
    std::fs::write(temp.path("nginx.conf"), config).expect("a configuration");
    let mut command = Command::new(find("nginx").expect("nginx"));
    command.arg("-p").arg(&folder).arg("-e").arg(folder.join("error.log")).arg("-c").arg(temp.path("nginx.conf"));
    serving(temp.start("nginx", &mut command), temp, host, port)
}

/// Starts Apache for the files in `root`.
fn apache(temp: &TestDir, host: &str, root: &Path) -> (Running, String) {
    let (port, folder) = (free_port(), temp.folder("apache"));
    let mut config =
        format!("ServerRoot {0}\nServerName test\nPidFile {0}/pid\nErrorLog {0}/error.log\n", folder.display());
    for module in APACHE_MODULES {
        let _ = writeln!(config, "LoadModule {module}_module {APACHE_FOLDER}/mod_{module}.so");
    }
    let _ = writeln!(config, "User nobody\nGroup nogroup\nListen {host}:{port}\nDocumentRoot {}", root.display());
    let _ = writeln!(config, "<Directory />\nRequire all granted\n</Directory>");
    std::fs::write(temp.path("apache.conf"), config).expect("a configuration");
    let mut command = Command::new(find("apache2").expect("apache2"));
    command.arg("-DFOREGROUND").arg("-f").arg(temp.path("apache.conf"));
    serving(temp.start("apache", &mut command), temp, host, port)
}

/// Waits until a server accepts connections. Returns its URL too.
fn serving(mut server: Running, temp: &TestDir, host: &str, port: u16) -> (Running, String) {
    allow_all(temp);
    until("the web server accepts connections", || {
        assert!(server.is_running(), "it has ended: {}", server.log());
        std::net::TcpStream::connect((host, port)).is_ok()
    });
    (server, format!("http://{host}:{port}/"))
}

fn downloads_from(begin: fn(&TestDir, &str, &Path) -> (Running, String)) {
    for payload in [single(), tree(), Payload::edge_cases()] {
        let temp = TestDir::new();
        let root = temp.folder_with("web", &payload);
        let (_server, url) = begin(&temp, "127.0.0.1", &root);
        start(&temp, &payload, &url, "", &[]).expect_exit(0);
        payload.assert_at(&temp.path("out"));
    }
}

#[test]
fn files_come_from_nginx() {
    if installed("files_come_from_nginx", &["nginx"]) {
        downloads_from(nginx);
    }
}

#[test]
fn files_come_from_apache() {
    if installed("files_come_from_apache", &["apache2"]) {
        downloads_from(apache);
    }
}

/// Python's server ignores ranges and has other habits of its own.
#[test]
fn a_server_without_ranges_sends_whole_files() {
    for payload in [single(), tree()] {
        let temp = TestDir::new();
        let root = temp.folder_with("web", &payload);
        let mut server = Command::new("python3");
        server.args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory"]).arg(root);
        server.stdin(Stdio::null());
        let server = temp.start("python", &mut server);
        until("python serves", || server.log().contains(" port "));
        let log = server.log();
        let port = log.split(" port ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a port");
        start(&temp, &payload, &format!("http://127.0.0.1:{port}/"), "", &[]).expect_exit(0);
        payload.assert_at(&temp.path("out"));
        drop(server);
    }
}

/// A torrent with these web seeds.
fn torrent_with_seeds(temp: &TestDir, payload: &Payload, announce: &str, url: &str) -> std::path::PathBuf {
    let torrent = bencode::dict([
        ("announce", bencode::bytes(announce.as_bytes())),
        ("info", payload.info()),
        ("url-list", bencode::bytes(url.as_bytes())),
    ]);
    let path = temp.path("seeds.torrent");
    std::fs::write(&path, torrent).expect("a torrent file");
    path
}

#[test]
fn libtorrent_and_aria2_download_from_the_same_web_seed() {
    let name = "libtorrent_and_aria2_download_from_the_same_web_seed";
    let programs = ["nginx", Client::Libtorrent.program(), Client::Aria2.program()];
    in_network_namespace(name, &programs, || {
        let (temp, payload) = (TestDir::new(), Payload::single("shared.bin", 12_345_678, 256 * 1024));
        let tracker = TrackerKind::Ours.start(&temp, &payload);
        let root = temp.folder_with("web", &payload);
        let (_server, url) = nginx(&temp, &address(1), &root);
        let torrent = torrent_with_seeds(&temp, &payload, &tracker.url(), &url);
        let folders = ["libtorrent", "aria2"].map(|name| temp.folder(name));
        let _libtorrent = Client::Libtorrent.start(&temp, 2, &torrent, &folders[0]);
        let _aria2 = Client::Aria2.start(&temp, 3, &torrent, &folders[1]);
        let out = temp.folder("out");
        let mut ours = temp.btsync("btsync", &torrent, &out, free_port(), &["--web-seed", &url]);
        ours.expect_exit(0);
        payload.assert_at(&out);
        for folder in folders {
            until("the other clients have everything", || payload.difference_in_content(&folder).is_none());
        }
        assert!(!ours.log().contains("is banned"), "{}", ours.log());
    });
}

#[test]
fn https_needs_a_certificate_of_a_trusted_authority() {
    let payload = single();
    let options = WebSeedOptions { tls: Some(server_config()), ..WebSeedOptions::default() };
    let seed = TestWebSeed::with_options(&payload, options);
    let temp = TestDir::new();
    let mut command = btsync();
    command.env("SSL_CERT_FILE", certificate("ca.pem")).env("XDG_CACHE_HOME", temp.path("cache"));
    command.arg(temp.torrent(&payload, "")).arg(temp.path("out")).args([
        "--web-seed",
        &seed.url(),
        "--no-dht",
        "--no-lsd",
    ]);
    temp.start("trusting", &mut command).expect_exit(0);
    payload.assert_at(&temp.path("out"));
    assert_eq!(seed.connections(), 1);
    let requests = seed.requests();
    let folder = temp.folder("refusing");
    let args = ["--web-seed", &seed.url()];
    let btsync = temp.btsync("refusing", &temp.torrent(&payload, ""), &folder, free_port(), &args);
    until("the certificate is refused", || btsync.log().contains("not used any more"));
    assert_eq!(seed.requests(), requests, "nothing is requested from a server that cannot prove who it is");
    drop(btsync);
}

#[test]
fn credentials_in_a_url_are_sent_and_not_shown() {
    let payload = tree();
    let seed = TestWebSeed::with(&payload, |request, file| {
        let is_right = |line: &String| line.eq_ignore_ascii_case("authorization: Basic bWU6cEBzcw==");
        let is_right = request.headers.iter().any(is_right);
        Some(if is_right { part(file, &request.bytes) } else { status("401 Unauthorized", "") })
    });
    let temp = TestDir::new();
    let url = seed.url().replace("//", "//me:p%40ss@");
    let mut btsync = start(&temp, &payload, &url, "", &["-v"]);
    btsync.expect_exit(0);
    payload.assert_at(&temp.path("out"));
    assert!(!btsync.log().contains("ss@") && !btsync.log().contains("bWU6"), "{}", btsync.log());
}
