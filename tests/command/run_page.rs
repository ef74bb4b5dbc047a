//! `--web`: the page of a single run.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::common::payload::Payload;
use crate::common::{TestDir, free_port};

/// Sends a request to the remote control of the page at `address`; returns the whole answer.
fn ask(address: &str, session: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("a connection");
    write!(
        stream,
        "POST /transmission/rpc HTTP/1.1\r\nHost: {address}\r\nX-Transmission-Session-Id: {session}\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// The word after `start` in a text, up to the end of the line.
fn after<'a>(text: &'a str, start: &str) -> &'a str {
    let rest = text.split_once(start).unwrap_or_else(|| panic!("no {start:?} in {text:?}")).1;
    rest.lines().next().expect("a line").trim()
}

#[test]
fn a_run_shows_its_torrents_and_lets_them_pause() {
    let (temp, payload) = (TestDir::new(), Payload::single("payload.bin", 300_001, 16 * 1024));
    let (torrent, home) = (temp.torrent(&payload, "http://127.0.0.1:9/announce"), temp.folder_with("home", &payload));
    let mut seed = temp.btsync("seed", &torrent, &home, free_port(), &["--seed", "--web"]);
    seed.wait_for_output("the page is at http://");
    seed.wait_for_output("seeding");
    let log = seed.log();
    let address = after(&log, "the page is at http://").trim_end_matches('/');
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    let session = ask(address, "", "{}");
    let session = after(&session, "X-Transmission-Session-Id: ");
    let call = |method: &str, arguments: &str| {
        ask(address, session, &format!("{{\"method\":\"{method}\",\"arguments\":{arguments}}}"))
    };
    let status = || call("torrent-get", "{\"fields\":[\"id\",\"name\",\"status\",\"percentDone\"]}");
    let shown = status();
    assert!(shown.contains("payload.bin") && shown.contains("\"status\":6"), "{shown}");
    assert!(call("torrent-stop", "{\"ids\":[1]}").contains("success"));
    assert!(status().contains("\"status\":0"));
    assert!(call("torrent-start", "{\"ids\":[1]}").contains("success"));
    assert!(status().contains("\"status\":6"));
    assert!(call("torrent-set", "{\"ids\":[1],\"uploadLimit\":50,\"uploadLimited\":true}").contains("success"));
    assert!(call("session-set", "{\"speed-limit-down\":70,\"speed-limit-down-enabled\":true}").contains("success"));
    assert!(call("session-get", "{}").contains("\"speed-limit-down\":70"));
    for (method, arguments) in [
        ("torrent-remove", "{\"ids\":[1]}"),
        ("torrent-add", "{\"filename\":\"magnet:?xt=urn:btih:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}"),
        ("torrent-set", "{\"ids\":[1],\"labels\":[\"x\"]}"),
    ] {
        assert!(call(method, arguments).contains("not possible here"), "{method}");
    }
    seed.terminate(0);
}

#[test]
fn the_page_of_a_run_is_for_this_machine_only() {
    let (temp, payload) = (TestDir::new(), Payload::single("payload.bin", 100, 16 * 1024));
    let (torrent, home) = (temp.torrent(&payload, "http://127.0.0.1:9/announce"), temp.folder_with("home", &payload));
    let mut refused = temp.btsync("refused", &torrent, &home, free_port(), &["--web-listen", "0.0.0.0:0"]);
    refused.expect_exit(28);
    assert!(refused.log().contains("without a password"), "{}", refused.log());
}
