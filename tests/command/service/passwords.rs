//! Wrong passwords are slowed down, and the right one is not.

use std::cell::Cell;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::common::TestDir;
use crate::common::netns::in_network_namespace;
use crate::common::payload::Payload;
use crate::common::service::{Service, base64};

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64(format!("{user}:{password}").as_bytes()))
}

fn with_password(temp: &TestDir) -> Service {
    let file = temp.path("password");
    std::fs::write(&file, "me:right\n").expect("a file");
    Service::start(temp, "service", &["--password-file", file.to_str().expect("text")])
}

fn status(service: &Service, path: &str, authorization: &str) -> u16 {
    service.get(path, &[("Authorization", authorization)]).status
}

#[test]
fn ten_wrong_passwords_are_enough_for_a_minute_but_not_for_those_who_knew_it() {
    let name = "ten_wrong_passwords_are_enough_for_a_minute_but_not_for_those_who_knew_it";
    in_network_namespace(name, &[], || {
        let temp = TestDir::new();
        let service = with_password(&temp);
        assert_eq!(status(&service, "/", &basic("me", "right")), 200);
        let last = Cell::new(Instant::now());
        for number in 0..10 {
            assert_eq!(status(&service, "/", &basic("me", &format!("wrong {number}"))), 401, "attempt {number}");
            last.set(Instant::now());
        }
        // On a machine so busy that there is another attempt, the test proves nothing.
        let is_refused = |path, user, password| {
            let status = status(&service, path, &basic(user, password));
            status == 429 || (status == 401 && last.replace(Instant::now()).elapsed() >= Duration::from_secs(6))
        };
        for path in ["/", "/transmission/rpc", "/events"] {
            assert!(is_refused(path, "me", "wrong again"), "{path}");
        }
        // It is compared with what was right before, and needs no hash: 300 would take more than ten seconds of a processor.
        for _ in 0..300 {
            assert_eq!(status(&service, "/", &basic("me", "right")), 200);
        }
        // Other machines have attempts of their own; this one has none left for a new password.
        assert!(is_refused("/", "you", "right"));
    });
}

#[test]
fn nothing_is_shown_or_done_without_the_password() {
    in_network_namespace("nothing_is_shown_or_done_without_the_password", &[], || {
        let temp = TestDir::new();
        let service = with_password(&temp);
        for path in ["/", "/main.js", "/events", "/metrics", "/transmission/rpc", "/nothing", "/files/1/0?token=1-2"] {
            let answer = service.get(path, &[]);
            assert_eq!(answer.status, 401, "{path}");
            assert!(answer.header("www-authenticate").starts_with("Basic"), "{path}");
            assert_eq!(answer.header("x-transmission-session-id"), "", "{path}");
            assert_eq!(answer.header("x-frame-options"), "DENY", "{path}");
        }
        for wrong in ["Basic", "Basic !!!", "Bearer bWU6cmlnaHQ=", "Basic bWU=", &basic("me", "right ")] {
            assert_eq!(status(&service, "/", wrong), 401, "{wrong}");
        }
    });
}

/// Players know no password, and a link is for one file.
#[test]
fn a_link_to_a_file_needs_no_password() {
    in_network_namespace("a_link_to_a_file_needs_no_password", &[], || {
        let temp = TestDir::new();
        let payload = Payload::single("film.mkv", 100_000, 16_384);
        payload.write_files(&Service::downloads(&temp, "service"));
        let path = {
            let service = Service::start(&temp, "service", &[]);
            let id = service.add(&payload, json!({}));
            service.wait_until_seeding(id);
            service.kill();
            format!("/files/{id}/0")
        };
        let service = with_password(&temp);
        let right = [("Authorization", &*basic("me", "right"))];
        assert_eq!(service.get("/", &right).status, 200);
        let session = service.get("/transmission/rpc", &right).header("x-transmission-session-id").to_owned();
        let body =
            json!({"jsonrpc": "2.0", "id": 1, "method": "btsync_file_link", "params": {"id": 1, "file_index": 0}});
        let headers = [right[0], ("X-Transmission-Session-Id", &*session)];
        let answer = service.request("POST", "/transmission/rpc", &headers, body.to_string().as_bytes());
        let answer: serde_json::Value = serde_json::from_slice(&answer.expect("an answer").body).expect("JSON");
        let link = format!("/{}", answer["result"]["url"].as_str().expect("a link"));
        assert!(link.starts_with(&path), "{link}");
        let served = service.get(&link, &[("Range", "bytes=0-99")]);
        assert_eq!((served.status, &served.body[..]), (206, &payload.content()[..100]));
        assert_eq!(service.get(&link, &[("Host", "evil.example")]).status, 421);
        for wrong in [path.clone(), format!("{path}?token=1-2"), link.replace("/0?", "/1?"), format!("{link}0")] {
            assert_eq!(service.get(&wrong, &[]).status, 401, "{wrong}");
        }
        assert_eq!(service.request("POST", &link, &[], b"").expect("an answer").status, 401);
    });
}

#[test]
fn the_first_request_may_be_one_that_adds_a_large_torrent_file() {
    in_network_namespace("the_first_request_may_be_one_that_adds_a_large_torrent_file", &[], || {
        let temp = TestDir::new();
        let service = with_password(&temp);
        let body = vec![b' '; 2 << 20];
        let post = |password: &str| {
            let headers = [("Authorization", basic("me", password))];
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            service.request("POST", "/transmission/rpc", &headers, &body).expect("an answer")
        };
        assert_eq!(post("wrong").status, 401);
        let answer = post("right");
        assert_eq!(answer.status, 409, "the client repeats it with the session id");
        assert_ne!(answer.header("x-transmission-session-id"), "");
    });
}
