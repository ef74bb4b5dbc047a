//! Web servers that misbehave. Those of the first table still send everything; those of the second are of no use, so a peer has to.

use std::time::Duration;

use crate::common::TestDir;
use crate::common::payload::Payload;
use crate::common::web_seed::{CLOSE, HANG, SeedRequest, TestWebSeed, WebSeedOptions, part, response, status, whole};
use crate::web_seeds::{inverted, single, start, tree, with_peer};

type Respond = fn(&SeedRequest, &[u8]) -> Option<Vec<u8>>;

/// How many servers are tested at a time.
const AT_ONCE: usize = 4;

/// The `Content-Range` of a correct response.
fn content_range(request: &SeedRequest, file: &[u8]) -> String {
    format!("Content-Range: bytes {}-{}/{}\r\n", request.bytes.start, request.bytes.end - 1, file.len())
}

fn body<'f>(request: &SeedRequest, file: &'f [u8]) -> &'f [u8] {
    &file[request.bytes.clone()]
}

/// A 206 with these headers.
fn part_with(request: &SeedRequest, file: &[u8], headers: &str) -> Vec<u8> {
    response("206 Partial Content", headers, body(request, file))
}

fn chunked(head: &str, body: &[u8]) -> Vec<u8> {
    let mut sent = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for chunk in body.chunks(10_000) {
        sent.extend(format!("{:x}\r\n", chunk.len()).bytes().chain(chunk.iter().copied()).chain(*b"\r\n"));
    }
    sent.extend(b"0\r\n\r\n");
    sent
}

/// A gzip file with one stored block for each 60,000 bytes.
fn gzipped(content: &[u8]) -> Vec<u8> {
    let crc = !content.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1)))
    });
    let mut sent = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    for block in content.chunks(60_000) {
        let length = block.len() as u16;
        sent.extend([&[0][..], &length.to_le_bytes(), &(!length).to_le_bytes(), block].concat());
    }
    sent.extend([&[1, 0, 0, 255, 255][..], &crc.to_le_bytes(), &(content.len() as u32).to_le_bytes()].concat());
    sent
}

/// Where the same server has the file under another host name.
fn elsewhere(request: &SeedRequest) -> String {
    let host =
        request.headers.iter().find_map(|line| line.to_ascii_lowercase().strip_prefix("host: ").map(str::to_owned));
    format!("http://{}{}?moved", host.expect("a host").replace("127.0.0.1", "localhost"), request.target)
}

/// Each of these servers fails at first, or always in a way that does not matter.
const SURVIVED: [(&str, Respond); 20] = [
    ("closes each connection", |request, file| {
        Some(part_with(request, file, &format!("Connection: close\r\n{}", content_range(request, file))))
    }),
    ("closes each connection without a word", |request, file| {
        Some(part_with(request, file, &format!("{CLOSE}{}", content_range(request, file))))
    }),
    ("speaks HTTP/1.0", |request, file| {
        let head = format!("HTTP/1.0 206\r\n{}\r\n", content_range(request, file));
        Some([head.as_bytes(), body(request, file)].concat())
    }),
    ("sends at most 50,000 bytes", |request, file| {
        let end = request.bytes.end.min(request.bytes.start + 50_000);
        Some(part(file, &(request.bytes.start..end)))
    }),
    ("is busy at first", |request, file| match request.number {
        0 => Some(status("503 Busy", "Retry-After: 1\r\n")),
        1 => Some(status("429 Too Many", "Retry-After: 1\r\n")),
        _ => Some(part(file, &request.bytes)),
    }),
    ("is busy for no time", |request, file| match request.number {
        0 => Some(status("503 Busy", "Retry-After: 0\r\n")),
        _ => Some(part(file, &request.bytes)),
    }),
    ("is busy until a date that has passed", |request, file| match request.number {
        0 => Some(status("503 Busy", "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\n")),
        _ => Some(part(file, &request.bytes)),
    }),
    ("redirects", |request, file| {
        let to = format!("Location: {}?moved\r\n", request.target);
        let is_moved = request.target.ends_with("?moved");
        Some(if is_moved { part(file, &request.bytes) } else { status("302 Found", &to) })
    }),
    ("redirects to another host", |request, file| {
        let is_moved = request.target.ends_with("?moved");
        let to = || status("307 Temporary Redirect", &format!("Location: {}\r\n", elsewhere(request)));
        Some(if is_moved { part(file, &request.bytes) } else { to() })
    }),
    ("sends whole files", |_, file| Some(whole(file))),
    ("sends whole files of unknown length", |_, file| {
        Some([b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", file].concat())
    }),
    ("sends whole files in chunks", |_, file| Some(chunked("HTTP/1.1 200 OK\r\n", file))),
    ("packs whole files", |_, file| Some(response("200 OK", "Content-Encoding: gzip\r\n", &gzipped(file)))),
    ("sends chunks", |request, file| {
        let head = format!("HTTP/1.1 206 Partial\r\n{}", content_range(request, file));
        Some(chunked(&head, body(request, file)))
    }),
    ("does not know the length", |request, file| {
        let range = format!("Content-Range: bytes {}-{}/*\r\n", request.bytes.start, request.bytes.end - 1);
        Some(part_with(request, file, &range))
    }),
    ("breaks off once", |request, file| {
        let mut sent = part_with(request, file, &format!("{CLOSE}{}", content_range(request, file)));
        if request.number == 1 {
            sent.truncate(sent.len() / 2);
        }
        Some(sent)
    }),
    ("fails once", |request, file| match request.number {
        0 => Some(status("500 Internal Server Error", "")),
        _ => Some(part(file, &request.bytes)),
    }),
    ("closes a connection instead of answering", |request, file| {
        (request.number != 1).then(|| part(file, &request.bytes))
    }),
    ("writes headers in its own way", |request, file| {
        let range = content_range(request, file).replace("Content-Range: bytes ", "cOnTeNt-rAnGe:   BYTES=");
        Some(part_with(request, file, &range))
    }),
    ("sends many headers", |request, file| {
        let junk = format!("X-Junk: {:0100}\r\n", 7).repeat(60);
        Some(part_with(request, file, &(junk + &content_range(request, file))))
    }),
];

/// None of these servers sends the whole torrent.
const USELESS: [(&str, Respond); 28] = [
    ("does not have one file", |request, file| {
        let is_missing = request.target.ends_with("/z");
        Some(if is_missing { status("404 Not Found", "") } else { part(file, &request.bytes) })
    }),
    ("has no file any more", |_, _| Some(status("410 Gone", ""))),
    ("forbids", |_, _| Some(status("403 Forbidden", ""))),
    ("wants a password", |_, _| Some(status("401 Unauthorized", "WWW-Authenticate: Basic realm=x\r\n"))),
    ("has shorter files", |_, _| Some(status("416 Range Not Satisfiable", "Content-Range: bytes */3\r\n"))),
    ("has longer files", |request, file| {
        let range =
            format!("Content-Range: bytes {}-{}/{}\r\n", request.bytes.start, request.bytes.end - 1, file.len() + 1);
        Some(part_with(request, file, &range))
    }),
    ("sends shorter whole files", |_, file| Some(whole(&file[..file.len() / 2]))),
    ("sends a page to log in", |_, _| {
        Some(response("200 OK", "Content-Type: text/html\r\n", b"<html>Welcome!</html>"))
    }),
    ("sends another range", |request, file| {
        let end = request.bytes.end - request.bytes.start;
        Some(part(file, &(0..end.min(file.len() - 1))))
    }),
    ("does not name the range", |request, file| Some(part_with(request, file, ""))),
    ("names a range without sense", |request, file| Some(part_with(request, file, "Content-Range: bytes 9-1/3\r\n"))),
    ("sends more than was asked for", |request, file| {
        Some(part(file, &(request.bytes.start.saturating_sub(1)..file.len())))
    }),
    ("sends a longer body than it says", |request, file| {
        Some(response("206 Partial Content", &content_range(request, file), &[body(request, file), b"x"].concat()))
    }),
    ("sends chunks beyond the range", |request, file| {
        let head = format!("HTTP/1.1 206 Partial\r\n{}", content_range(request, file));
        Some(chunked(&head, &[body(request, file), &[7; 100_000]].concat()))
    }),
    ("sends chunks of no length", |request, file| {
        let head =
            format!("HTTP/1.1 206 Partial\r\n{}Transfer-Encoding: chunked\r\n\r\n", content_range(request, file));
        Some([head.as_bytes(), b"zz\r\n", body(request, file)].concat())
    }),
    ("sends several parts", |request, file| {
        let kind = "Content-Type: multipart/byteranges; boundary=x\r\n";
        Some(response("206 Partial Content", kind, &[b"--x\r\n\r\n", body(request, file), b"\r\n--x--\r\n"].concat()))
    }),
    ("packs parts", |request, file| {
        let headers = format!("Content-Encoding: gzip\r\n{}", content_range(request, file));
        Some(response("206 Partial Content", &headers, &gzipped(body(request, file))))
    }),
    ("redirects for ever", |request, _| Some(status("302 Found", &format!("Location: {}\r\n", request.target)))),
    ("redirects to FTP", |_, _| Some(status("301 Moved", "Location: ftp://127.0.0.1/f\r\n"))),
    ("redirects nowhere", |_, _| Some(status("302 Found", ""))),
    ("sends endless headers", |request, file| Some(part_with(request, file, &"X-Junk: junk\r\n".repeat(5000)))),
    ("does not speak HTTP", |_, _| Some(b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec())),
    ("has other content", |request, file| Some(part(&inverted(file), &request.bytes))),
    ("has one wrong byte", |request, file| {
        let mut file = file.to_vec();
        file[request.bytes.start] ^= 1;
        Some(part(&file, &request.bytes))
    }),
    ("is silent in the middle", |request, file| {
        let mut sent = part_with(request, file, &format!("{HANG}{}", content_range(request, file)));
        sent.truncate(sent.len() - body(request, file).len() / 2);
        Some(sent)
    }),
    ("is busy for ever", |_, _| Some(status("429 Too Many Requests", "Retry-After: 99999999999\r\n"))),
    ("always fails", |_, _| Some(status("502 Bad Gateway", ""))),
    ("never answers", |_, _| {
        std::thread::sleep(std::time::Duration::from_secs(3600)); // its thread ends with the test process
        None
    }),
];

/// Runs `test` for all servers of a table, a few at a time.
fn for_each(servers: &[(&'static str, Respond)], test: impl Fn(&str, Respond) + Sync) {
    for some in servers.chunks(AT_ONCE) {
        std::thread::scope(|scope| {
            let test = &test;
            for (what, respond) in some {
                scope.spawn(move || test(what, *respond));
            }
        });
    }
}

#[test]
fn bad_habits_of_servers_are_survived() {
    for_each(&SURVIVED, |what, respond| {
        let payload = tree();
        let seed = TestWebSeed::with(&payload, respond);
        let temp = TestDir::new();
        let mut btsync = start(&temp, &payload, &seed.url(), "", &[]);
        assert_eq!(btsync.end_within(crate::common::PATIENCE), Some(0), "{what}: {}", btsync.log());
        payload.assert_at(&temp.path("out"));
    });
}

/// They are asked neither often nor in vain for long, and no peer is blamed for them.
#[test]
fn peers_replace_useless_servers() {
    for_each(&USELESS, |what, respond| {
        for payload in [single(), tree()] {
            let seed = TestWebSeed::with(&payload, respond);
            let log = with_peer(&payload, &seed);
            assert!(!log.contains("is banned"), "{what}: {log}");
            assert!(seed.requests() < 40, "{what}: {} requests", seed.requests());
        }
    });
}

/// Slow is not wrong: such a server is used as long as nobody else has the data, and delays nobody who has.
#[test]
fn a_server_that_sends_byte_by_byte_is_of_use_and_delays_no_peer() {
    let trickle = || WebSeedOptions { part: 1, pause: Duration::from_millis(10), ..WebSeedOptions::default() };
    let (temp, payload) = (TestDir::new(), Payload::single("x.bin", 100, 16 * 1024));
    let seed = TestWebSeed::with_options(&payload, trickle());
    let mut btsync = start(&temp, &payload, &seed.url(), "", &[]);
    btsync.expect_exit(0);
    payload.assert_at(&temp.path("out"));
    assert_eq!(seed.requests(), 1);
    for payload in [single(), tree()] {
        let seed = TestWebSeed::with_options(&payload, trickle());
        let log = with_peer(&payload, &seed);
        assert!(!log.contains("is banned"), "{log}");
        assert!(seed.sent() < 100_000, "the peer has sent the payload, not the web seed: {}", seed.sent());
    }
}
