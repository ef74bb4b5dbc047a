//! A real `btsync serve` with folders of its own, and a small HTTP client that can also send what no honest client would.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::payload::Payload;
use super::process::Running;
use super::{PATIENCE, TestDir, btsync, free_port, until};

/// The header of the session id, in lower case.
pub const SESSION_HEADER: &str = "x-transmission-session-id";

/// A service that listens on a port of the loopback interface.
pub struct Service {
    /// The process.
    pub running: Running,
    /// The port of its page.
    pub port: u16,
    session_id: String,
}

/// An answer over HTTP.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header, given in lower case; empty if it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn parse(bytes: &[u8]) -> Option<Answer> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
        Some(Answer { status, headers, body: bytes[end + 4..].to_vec() })
    }
}

/// The command `btsync serve` with its folders below `temp`, without an address.
pub fn serve(temp: &TestDir, name: &str) -> Command {
    let mut command = btsync();
    command.arg("serve").arg("--no-port-mapping").arg("--state-dir").arg(temp.path(&format!("{name}-state")));
    command.arg("--dir").arg(temp.folder(&format!("{name}-downloads")));
    command.args(["--peer-port", &free_port().to_string()]);
    command
        .env("XDG_CACHE_HOME", temp.path(&format!("{name}-cache")))
        .env("HOME", temp.folder(&format!("{name}-home")));
    command
}

impl Service {
    /// Starts it and waits until it listens.
    pub fn start(temp: &TestDir, name: &str, more: &[&str]) -> Service {
        let port = free_port();
        let mut command = serve(temp, name);
        command.args(["--web-listen", &format!("127.0.0.1:{port}")]).args(more);
        let mut service = Service { running: temp.start(name, &mut command), port, session_id: String::new() };
        service.running.wait_for_output("the page is at");
        let refused = service.get("/transmission/rpc", &[]);
        refused.header(SESSION_HEADER).clone_into(&mut service.session_id);
        service
    }

    /// The folder of its downloads.
    pub fn downloads(temp: &TestDir, name: &str) -> PathBuf {
        temp.path(&format!("{name}-downloads"))
    }

    /// The URL of the page.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// The session id of the remote control.
    pub fn session_id(&self) -> &str {
        &self.session_id
    }

    /// Sends these bytes on a new connection, and returns all that comes back; what was read before an error counts.
    pub fn send(&self, bytes: &[u8]) -> Option<Answer> {
        let mut stream = self.connect()?;
        // A service that refuses a request need not read all of it.
        let _ = stream.write_all(bytes);
        let mut received = Vec::new();
        let _ = stream.read_to_end(&mut received);
        Answer::parse(&received)
    }

    /// A connection to the page.
    pub fn connect(&self) -> Option<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        Some(stream)
    }

    /// A request with these headers, which replace our `Host`. `None` if there is no answer.
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<Answer> {
        let host = format!("127.0.0.1:{}", self.port);
        let length = body.len().to_string();
        let mut all = vec![("Connection", "close")];
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            all.push(("Host", &host));
        }
        all.extend_from_slice(headers);
        if !body.is_empty() || method == "POST" {
            all.push(("Content-Length", &length));
        }
        let lines: String = all.iter().flat_map(|(name, value)| [*name, ": ", value, "\r\n"]).collect();
        let head = format!("{method} {path} HTTP/1.1\r\n{lines}\r\n");
        self.send(&[head.as_bytes(), body].concat())
    }

    /// A GET that is answered.
    pub fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.request("GET", path, headers, b"").unwrap_or_else(|| panic!("no answer to GET {path}"))
    }

    /// A request of the remote control with the session id. `None` if there is no answer.
    pub fn post(&self, body: &[u8]) -> Option<Answer> {
        self.request("POST", "/transmission/rpc", &[("X-Transmission-Session-Id", &self.session_id)], body)
    }

    /// A JSON-RPC request. `None` if there is no answer, otherwise the result or the message of the error.
    pub fn try_rpc(&self, method: &str, params: &Value) -> Option<Result<Value, String>> {
        let body = json!({"jsonrpc": "2.0", "method": method, "params": params, "id": 1}).to_string();
        let answer = self.post(body.as_bytes())?;
        let length: usize = answer.header("content-length").parse().unwrap_or(usize::MAX);
        if answer.status != 200 || answer.body.len() < length {
            return None;
        }
        let mut answer: Value = serde_json::from_slice(&answer.body).expect("JSON");
        match answer.get("error") {
            Some(error) => Some(Err(error.to_string())),
            None => Some(Ok(answer["result"].take())),
        }
    }

    /// A JSON-RPC request that succeeds.
    #[allow(clippy::needless_pass_by_value, reason = "tests read better without a borrow of each `json!`")]
    pub fn rpc(&self, method: &str, params: Value) -> Value {
        let answer = self.try_rpc(method, &params).unwrap_or_else(|| panic!("no answer to {method}"));
        answer.unwrap_or_else(|error| panic!("{method} {params}: {error}"))
    }

    /// A JSON-RPC request that fails; returns the error as text.
    #[allow(clippy::needless_pass_by_value, reason = "tests read better without a borrow of each `json!`")]
    pub fn refused(&self, method: &str, params: Value) -> String {
        let answer = self.try_rpc(method, &params).unwrap_or_else(|| panic!("no answer to {method}"));
        answer.expect_err(&format!("{method} {params} must fail"))
    }

    /// Adds a payload's torrent and returns its number.
    pub fn add(&self, payload: &Payload, mut params: Value) -> u64 {
        params["metainfo"] = base64(&payload.torrent("")).into();
        let added = self.rpc("torrent_add", params);
        added["torrent_added"]["id"].as_u64().unwrap_or_else(|| panic!("not added: {added}"))
    }

    /// Fields of one torrent.
    pub fn torrent(&self, id: u64, fields: &[&str]) -> Value {
        let mut answer = self.rpc("torrent_get", json!({"ids": [id], "fields": fields}));
        answer["torrents"][0].take()
    }

    /// All torrents, with these fields.
    pub fn torrents(&self, fields: &[&str]) -> Vec<Value> {
        let answer = self.rpc("torrent_get", json!({"fields": fields}));
        answer["torrents"].as_array().expect("a list").clone()
    }

    /// Waits until a torrent is complete and seeds.
    pub fn wait_until_seeding(&self, id: u64) {
        until("the torrent seeds", || self.torrent(id, &["status"])["status"] == 6);
    }

    /// Kills it, as a power failure would.
    pub fn kill(mut self) {
        self.running.signal("KILL");
        self.running.end_within(PATIENCE);
    }
}

/// Standard base64 with padding.
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = |group: &[u8]| {
        let number = group.iter().chain(&[0; 2]).take(3).fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
        let digit = |at: usize| if at > group.len() { '=' } else { char::from(DIGITS[number >> (18 - 6 * at) & 63]) };
        [0, 1, 2, 3].map(digit)
    };
    bytes.chunks(3).flat_map(digits).collect()
}

/// Runs a program to its end, with its output; panics with all of it unless it succeeds, and after `patience`.
pub fn succeeds(command: &mut Command, temp: &TestDir, patience: Duration) -> String {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let started = Instant::now();
    let mut running = temp.start(&format!("program-{number}"), command);
    let code = running.end_within(patience);
    let log = running.log();
    assert_eq!(code, Some(0), "{command:?} after {:?}:\n{log}", started.elapsed());
    log
}

/// The lines of `text` that contain a word.
pub fn lines_with<'a>(text: &'a str, word: &str) -> Vec<&'a str> {
    text.lines().filter(|line| line.contains(word)).collect()
}

/// The bits of a file's mode.
pub fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).permissions().mode() & 0o777
}
