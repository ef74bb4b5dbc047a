//! Requests that are too slow, too large, or made to cost memory and time.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::json;

use crate::common::netns::in_network_namespace;
use crate::common::payload::Payload;
use crate::common::service::Service;
use crate::common::{TestDir, until};

/// The most memory that a hostile request may make the service use, in KiB. An idle one uses about 10 MiB.
const MEMORY: u64 = 128 * 1024;

/// Whether the other end has closed the connection.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).expect("a socket");
    match stream.read(&mut [0; 4096]) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

#[test]
fn slow_requests_keep_nobody_waiting_and_end() {
    in_network_namespace("slow_requests_keep_nobody_waiting_and_end", &[], || {
        let temp = TestDir::new();
        let service = Service::start(&temp, "service", &[]);
        let head = format!(
            "POST /transmission/rpc HTTP/1.1\r\nHost: localhost\r\nX-Transmission-Session-Id: {}\r\n",
            service.session_id()
        );
        let body = format!("{head}Content-Length: 1000\r\n\r\n{{");
        let mut slow: Vec<TcpStream> = Vec::new();
        for number in 0..60 {
            let mut stream = service.connect().expect("a connection");
            let begun = if number % 2 == 0 { head.as_bytes() } else { body.as_bytes() };
            stream.write_all(begun).expect("a beginning");
            slow.push(stream);
        }
        for _ in 0..20 {
            assert_eq!(service.get("/", &[]).status, 200);
            service.rpc("session_get", json!({"fields": ["version"]}));
        }
        until("all slow requests have ended", || {
            slow.retain_mut(|stream| !is_closed(stream));
            slow.is_empty()
        });
        service.rpc("session_get", json!({"fields": ["version"]}));
    });
}

#[test]
fn bodies_that_are_too_large_are_refused_and_not_kept() {
    in_network_namespace("bodies_that_are_too_large_are_refused_and_not_kept", &[], || {
        let temp = TestDir::new();
        let service = Service::start(&temp, "service", &[]);
        let large = vec![b' '; 20 << 20];
        for _ in 0..4 {
            let answer = service.post(&large);
            assert!(answer.is_none_or(|answer| answer.status == 413), "a body of 20 MiB");
        }
        // The same in chunks, whose sum nobody announces.
        let mut request = format!(
            "POST /transmission/rpc HTTP/1.1\r\nHost: localhost\r\nX-Transmission-Session-Id: {}\r\n\
             Transfer-Encoding: chunked\r\n\r\n",
            service.session_id()
        )
        .into_bytes();
        for _ in 0..20 {
            request.extend_from_slice(b"100000\r\n");
            request.extend(std::iter::repeat_n(b' ', 1 << 20));
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"0\r\n\r\n");
        let answer = service.send(&request);
        assert!(answer.is_none_or(|answer| answer.status == 413), "chunks of 20 MiB");
        for announced in ["99999999999999999999", "18446744073709551615", "-1", "1e3", "0x10"] {
            let request =
                format!("POST /transmission/rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: {announced}\r\n\r\n");
            let answer = service.send(request.as_bytes());
            assert!(answer.is_none_or(|answer| matches!(answer.status, 400 | 413)), "{announced}");
        }
        assert!(service.running.peak_memory() < MEMORY, "{} KiB", service.running.peak_memory());
        service.rpc("session_get", json!({"fields": ["version"]}));
    });
}

/// JSON of 10 MiB can become a tree of many times its size, can overflow a stack, and can name more torrents than there are.
#[test]
fn json_bombs_are_refused() {
    in_network_namespace("json_bombs_are_refused", &[], || {
        let temp = TestDir::new();
        let service = Service::start(&temp, "service", &[]);
        let id = service.add(&Payload::single("one.bin", 100_000, 16_384), json!({"paused": true}));
        let digits = "9".repeat(5 << 20);
        let deep = |open: &str, close: &str, depth: usize| format!("{}{}", open.repeat(depth), close.repeat(depth));
        let million = (0..1_000_000).map(|number| number.to_string()).collect::<Vec<_>>().join(",");
        let set = |name: &str, value: &str| {
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"torrent_set","params":{{"ids":[{id}],"{name}":{value}}}}}"#)
        };
        let method = |ids: &str| format!(r#"{{"method":"torrent-get","arguments":{{"ids":{ids},"fields":["id"]}}}}"#);
        let bombs = [
            deep("[", "]", 4_000_000),
            "[".repeat(8_000_000),
            deep(r#"{"a":"#, "}", 1_000_000),
            method(&deep("[", "]", 100_000)),
            method(&deep("[", "]", 200)),
            method(&format!("[{million}]")),
            method(&format!("[{digits}]")),
            method("[1e999999999]"),
            method("[-1e999999999, 1.5, 1e18, -9223372036854775809, 18446744073709551616]"),
            set("download_limit", &digits),
            set("download_limit", "1e400"),
            set("download_limit", "-1"),
            set("download_limit", "9223372036854775808"),
            set("seed_ratio_limit", "1e999"),
            set("labels", &format!("[{}]", vec!["\"x\""; 400_000].join(","))),
            set("labels", &format!("[\"{}\"]", "x".repeat(8 << 20))),
            set("tracker_list", &format!("\"{}\"", "http://a/\\n".repeat(400_000))),
            format!("[{}]", vec![r#"{"jsonrpc":"2.0","id":1,"method":"session_get"}"#; 100_000].join(",")),
            format!(r#"{{"method":"{}"}}"#, "m".repeat(8 << 20)),
            format!("\"{}\"", "\\u0000".repeat(1 << 20)),
            "\u{0}".repeat(1 << 20),
        ];
        for bomb in &bombs {
            let start: String = bomb.chars().take(60).collect();
            let answer = service.post(bomb.as_bytes()).unwrap_or_else(|| panic!("no answer to {start}"));
            assert!(answer.body.len() < 1 << 20, "{start}: an answer of {} bytes", answer.body.len());
            assert!(matches!(answer.status, 200 | 204 | 400 | 413), "{start}: {}", answer.status);
        }
        for bytes in [&b"\xff\xfe{\"method\":1}"[..], b"{\"method\":\"torrent-\xff\"}", b""] {
            service.post(bytes).expect("an answer");
        }
        assert!(service.running.peak_memory() < 2 * MEMORY, "{} KiB", service.running.peak_memory());
        let torrent = service.torrent(id, &["labels", "download_limit", "tracker_list"]);
        assert_eq!(torrent["labels"], json!([]), "{torrent}");
        assert_eq!(torrent["tracker_list"], json!(""), "nothing has changed");
    });
}
