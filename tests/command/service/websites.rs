//! What other websites and other machines must not reach: another name for our address, requests that a browser sends for a
//! website, frames, addresses that nobody asked for, settings that run programs.

use serde_json::json;

use crate::common::TestDir;
use crate::common::netns::in_network_namespace;
use crate::common::payload::Payload;
use crate::common::process::wait_for_exit;
use crate::common::service::{Service, mode, serve};

/// A website can make its name lead to 127.0.0.1. The browser then sends our requests with that name.
#[test]
fn a_website_whose_name_leads_here_is_refused() {
    in_network_namespace("a_website_whose_name_leads_here_is_refused", &[], || {
        let temp = TestDir::new();
        let service = Service::start(&temp, "service", &["--web-host", "nas.example"]);
        for path in ["/", "/main.js", "/transmission/rpc", "/events", "/files/1/0?token=x", "/nothing"] {
            for host in ["evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.evil.example", ""] {
                let answer = service.get(path, &[("Host", host)]);
                assert_eq!(answer.status, 421, "{path} for {host:?}");
                assert_eq!(answer.header("x-transmission-session-id"), "", "{path} for {host:?}");
            }
        }
        for host in ["localhost", "LOCALHOST:9091", "127.0.0.1", "[::1]:9091", "nas.example", "Nas.Example:443"] {
            assert_eq!(service.get("/", &[("Host", host)]).status, 200, "{host}");
        }
        let two = [("Host", "localhost"), ("Host", "evil.example")];
        assert_eq!(service.get("/", &two).status, 400, "two names");
    });
}

/// A website can send us forms, but cannot read our answers, and a browser asks us before it adds headers.
#[test]
fn a_website_cannot_send_commands() {
    in_network_namespace("a_website_cannot_send_commands", &[], || {
        let temp = TestDir::new();
        let service = Service::start(&temp, "service", &[]);
        let id = service.add(&Payload::single("one.bin", 100_000, 16_384), json!({"paused": true}));
        let command = json!({"method": "torrent-remove", "arguments": {"ids": [id]}}).to_string();
        for kind in ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"] {
            let headers = [("Content-Type", kind), ("Origin", "http://evil.example")];
            let answer = service.request("POST", "/transmission/rpc", &headers, command.as_bytes()).expect("an answer");
            assert_eq!(answer.status, 403, "{kind}");
            assert_eq!(answer.header("access-control-allow-origin"), "");
            assert_eq!(answer.header("x-transmission-session-id"), "");
        }
        for wrong in ["", "x", &"A".repeat(48), &service.session_id().to_ascii_lowercase()] {
            let headers = [("X-Transmission-Session-Id", wrong)];
            let answer = service.request("POST", "/transmission/rpc", &headers, command.as_bytes()).expect("an answer");
            assert_eq!(answer.status, 409, "{wrong}");
        }
        // What a browser asks before it sends another site's request with our header.
        let headers = [
            ("Origin", "http://evil.example"),
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", "x-transmission-session-id"),
        ];
        let answer = service.request("OPTIONS", "/transmission/rpc", &headers, b"").expect("an answer");
        assert!(answer.headers.iter().all(|(name, _)| !name.starts_with("access-control-")), "{answer:?}");
        // A GET changes nothing, even with the session id.
        let headers = [("X-Transmission-Session-Id", service.session_id())];
        let answer = service.get("/transmission/rpc?method=torrent-remove&ids=1", &headers);
        assert_eq!(answer.status, 405);
        assert_eq!(service.torrents(&["id"]).len(), 1, "the torrent is still there");
    });
}

/// A browser says for which website it sends a request that changes something. Other programs say nothing.
#[test]
fn requests_of_other_websites_are_refused() {
    in_network_namespace("requests_of_other_websites_are_refused", &[], || {
        let temp = TestDir::new();
        let options = ["--web-host", "nas.example", "--web-prefix", "/btsync"];
        let service = Service::start(&temp, "service", &options);
        let status = |headers: &[(&str, &str)]| {
            let answer = service.request("POST", "/btsync/transmission/rpc", headers, b"{}").expect("an answer");
            answer.status
        };
        // Without the session id, a request that is let in gets 409.
        let own = [
            ("127.0.0.1:9091", "http://127.0.0.1:9091"),
            ("localhost:9091", "http://localhost:9091"),
            ("[::1]:9091", "http://[::1]:9091"),
            ("nas.example", "https://nas.example"),
            // Behind a reverse proxy that has replaced the name, or the port.
            ("127.0.0.1:9091", "https://nas.example"),
            ("nas.example", "https://nas.example:8443"),
            ("127.0.0.1:9091", "moz-extension://2c127fa4-62c7-7e4f-90e5-472b45eecfdc"),
            ("127.0.0.1:9091", "chrome-extension://aicmkgpgakddgnaphhhpliifpcfhicfo"),
        ];
        for (host, origin) in own {
            assert_eq!(status(&[("Host", host), ("Origin", origin)]), 409, "{origin} for {host}");
        }
        assert_eq!(status(&[]), 409, "no browser");
        let others = ["http://evil.example", "https://evil.example:9091", "http://127.0.0.1.evil.example", "null", ""];
        for origin in others {
            assert_eq!(status(&[("Origin", origin)]), 403, "{origin}");
        }
        for other in ["http://localhost:9091", "http://127.0.0.2:9091", "http://nas.example.evil"] {
            assert_eq!(status(&[("Host", "127.0.0.1:9091"), ("Origin", other)]), 403, "{other}");
        }
        // Only a browser sets this header: a proxy has replaced the name.
        let proxied = [("Origin", "https://home.example"), ("Sec-Fetch-Site", "same-origin")];
        assert_eq!(status(&proxied), 409);
        assert_eq!(status(&[("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")]), 403);
        assert_eq!(service.get("/btsync/", &[("Origin", "http://evil.example")]).status, 200, "it changes nothing");
    });
}

#[test]
fn no_answer_can_be_framed_or_loaded_by_another_site() {
    in_network_namespace("no_answer_can_be_framed_or_loaded_by_another_site", &[], || {
        let temp = TestDir::new();
        let service = Service::start(&temp, "service", &[]);
        let cases = [("/", 200), ("/main.js", 200), ("/nothing", 404), ("/transmission/rpc", 409), ("/files/1/0", 404)];
        for (path, status) in cases {
            let answer = service.get(path, &[]);
            assert_eq!(answer.status, status, "{path}");
            assert_eq!(answer.header("x-frame-options"), "DENY", "{path}");
            assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
            assert_eq!(answer.header("cross-origin-resource-policy"), "same-origin", "{path}");
            let policy = answer.header("content-security-policy");
            assert!(
                policy.contains("frame-ancestors 'none'") && policy.contains("default-src 'none'"),
                "{path}: {policy}"
            );
            assert!(!policy.contains("unsafe") && !policy.contains("http"), "{path}: {policy}");
        }
        let answer = service.get("/", &[("Host", "evil.example")]);
        assert_eq!(answer.header("x-frame-options"), "DENY", "a refusal");
    });
}

/// The sockets of this namespace that listen for TCP, as `address:port` in the notation of /proc.
fn listening() -> Vec<String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let text = read("/proc/self/net/tcp") + &read("/proc/self/net/tcp6");
    let fields = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields.filter(|fields| fields.get(3) == Some(&"0A")).map(|fields| fields[1].to_owned()).collect()
}

#[test]
fn nothing_listens_unless_asked() {
    in_network_namespace("nothing_listens_unless_asked", &[], || {
        let temp = TestDir::new();
        let payload = Payload::single("one.bin", 100_000, 16_384);
        let torrent = temp.torrent(&payload, "");
        // A single torrent's btsync listens for peers only.
        let port = crate::common::free_port();
        let mut seeder = temp.btsync("seeder", &torrent, &temp.folder_with("out", &payload), port, &["--seed"]);
        let end = format!(":{port:04X}");
        crate::common::until("it listens", || !listening().is_empty());
        assert!(listening().iter().all(|address| address.ends_with(&end)), "{:?}", listening());
        seeder.terminate(0);

        // A service on a Unix socket has no other address for its page, and only the user can connect.
        let socket = temp.path("page.socket");
        let mut command = serve(&temp, "quiet");
        command.args(["--web-listen", &format!("unix:{}", socket.display())]);
        let mut quiet = temp.start("quiet", &mut command);
        quiet.wait_for_output("the page is at");
        assert!(listening().len() <= 2, "more than the port for peers, over IPv4 and IPv6: {:?}", listening());
        assert_eq!(mode(&socket), 0o600);
        quiet.terminate(0);

        // Without an address, only this machine can reach the page.
        let mut usual = temp.start("usual", &mut serve(&temp, "usual"));
        usual.wait_for_output("the page is at http://127.0.0.1:9091");
        let page: Vec<_> = listening().into_iter().filter(|address| address.ends_with(":2383")).collect();
        assert_eq!(page, ["0100007F:2383"]);
        usual.terminate(0);
    });
}

#[test]
fn listening_elsewhere_without_a_password_ends_with_28() {
    in_network_namespace("listening_elsewhere_without_a_password_ends_with_28", &[], || {
        let temp = TestDir::new();
        for address in ["0.0.0.0:9091", "[::]:9091", "10.88.0.1:9091"] {
            let mut refused = temp.start("refused", serve(&temp, "service").args(["--web-listen", address]));
            refused.expect_exit(28);
            assert!(refused.log().contains("--set-password"), "{}", refused.log());
        }
        assert_eq!(listening(), [""; 0]);
    });
}

#[test]
fn a_remote_control_cannot_set_programs_to_run() {
    in_network_namespace("a_remote_control_cannot_set_programs_to_run", &[], || {
        let temp = TestDir::new();
        let service = Service::start(&temp, "service", &[]);
        let (script, witness) = (temp.path("script.sh"), temp.path("witness"));
        std::fs::write(&script, format!("#!/bin/sh\ntouch {}\n", witness.display())).expect("a script");
        assert!(std::process::Command::new("chmod").arg("+x").arg(&script).status().expect("chmod").success());
        let mut change = json!({});
        for event in ["added", "done", "done_seeding"] {
            change[format!("script_torrent_{event}_filename")] = script.to_str().into();
            change[format!("script_torrent_{event}_enabled")] = true.into();
        }
        service.rpc("session_set", change.clone());
        let session = service.rpc("session_get", json!({}));
        for (name, value) in change.as_object().expect("an object") {
            let expected = if value.is_boolean() { json!(false) } else { json!("") };
            assert_eq!(session[name], expected, "{name}");
        }
        let payload = Payload::single("one.bin", 100_000, 16_384);
        payload.write_files(&Service::downloads(&temp, "service"));
        let id = service.add(&payload, json!({}));
        service.wait_until_seeding(id);
        service.rpc("torrent_remove", json!({"ids": [id]}));
        service.rpc("session_close", json!({}));
        let mut running = service.running;
        running.expect_exit(0);
        assert!(!witness.exists(), "the script has run");
    });
}

/// `wait_for_exit` is for a child with a standard input of its own.
#[test]
fn a_saved_password_is_only_the_users_and_not_in_clear() {
    use std::io::Write as _;
    in_network_namespace("a_saved_password_is_only_the_users_and_not_in_clear", &[], || {
        let temp = TestDir::new();
        let mut command = serve(&temp, "service");
        command.args(["--set-password", "me"]).stdin(std::process::Stdio::piped());
        let mut child = command.spawn().expect("btsync");
        child.stdin.take().expect("standard input").write_all(b"a secret\n").expect("written");
        assert_eq!(wait_for_exit(&mut child), Some(0));
        let state = temp.path("service-state");
        assert_eq!(mode(&state), 0o700);
        let file = state.join("password.json");
        assert_eq!(mode(&file), 0o600);
        let text = std::fs::read_to_string(&file).expect("the file");
        assert!(!text.contains("secret"), "{text}");
        // It counts at the next start, also on other addresses.
        let service = Service::start(&temp, "service", &["--web-listen", "10.88.0.2:9091"]);
        assert_eq!(service.get("/", &[]).status, 401);
        assert_eq!(service.get("/", &[("Authorization", "Basic bWU6YSBzZWNyZXQ=")]).status, 200);
        service.kill();
        // An empty line removes it; no line at all, as from a script that failed, does not.
        for (line, expected) in [("", 28), ("\n", 0), ("\n", 0)] {
            let mut command = serve(&temp, "service");
            command.args(["--set-password", "me"]).stdin(std::process::Stdio::piped());
            let mut child = command.spawn().expect("btsync");
            child.stdin.take().expect("standard input").write_all(line.as_bytes()).expect("written");
            assert_eq!(wait_for_exit(&mut child), Some(expected), "{line:?}");
            assert_eq!(file.exists(), expected != 0);
        }
    });
}
