//! Remote controls for Transmission, as their users run them: they add, list, set, verify and remove torrents.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::common::netns::{find, in_network_namespace};
use crate::common::payload::Payload;
use crate::common::real::PYTHON;
use crate::common::service::{Answer, SESSION_HEADER, Service, base64, succeeds};
use crate::common::{PATIENCE, TestDir, until};

/// What the npm client needs.
const NODE_PACKAGE: &str = "tests/rpc/node_modules/@ctrl/transmission/package.json";
const STIG: &str = ".venv/bin/stig";

fn payload() -> Payload {
    Payload::tree("tree", &[("a.bin", 50_000), ("b.bin", 70_000)], 16_384)
}

#[test]
fn transmission_remote_manages_torrents() {
    in_network_namespace("transmission_remote_manages_torrents", &["transmission-remote"], || {
        let (temp, payload) = (TestDir::new(), payload());
        let service = Service::start(&temp, "service", &[]);
        let torrent = temp.torrent(&payload, "");
        let remote = |words: &[&str]| {
            let mut command = Command::new("transmission-remote");
            succeeds(command.arg(format!("127.0.0.1:{}", service.port)).args(words), &temp, PATIENCE)
        };
        remote(&["--start-paused", "--add", torrent.to_str().expect("text")]);
        let list = remote(&["--list"]);
        assert!(list.contains("tree") && list.contains("Stopped"), "{list}");
        payload.write_files(&Service::downloads(&temp, "service"));
        remote(&["-t", "1", "--verify"]);
        until("it is verified", || service.torrent(1, &["percent_done"])["percent_done"] == 1.0);
        remote(&["-t", "1", "--start"]);
        service.wait_until_seeding(1);
        for words in [
            &["-t1", "--uplimit", "66"][..],
            &["-t1", "--seedratio", "1.5"],
            &["-t1", "-L", "remote,second"],
            &["-t1", "--priority-high", "1"],
            &["-t1", "--tracker-add", "http://a.invalid/announce"],
            &["-t1", "--no-get", "1"],
            &["-t1", "--get", "all"],
            &["--downlimit", "555"],
            &["--no-dht"],
            &["--seedratio", "3"],
        ] {
            remote(words);
        }
        let fields =
            ["upload_limit", "upload_limited", "seed_ratio_limit", "labels", "priorities", "wanted", "tracker_list"];
        let torrent = service.torrent(1, &fields);
        let expected = json!({
            "upload_limit": 66, "upload_limited": true, "seed_ratio_limit": 1.5, "labels": ["remote", "second"],
            "wanted": [true, true], "tracker_list": "http://a.invalid/announce\n", "priorities": [0, 1],
        });
        assert_eq!(torrent, expected);
        let session = service.rpc("session_get", json!({}));
        assert_eq!((&session["speed_limit_down"], &session["dht_enabled"]), (&json!(555), &json!(false)));
        for words in ["-i", "-if", "-ip", "-ic", "-it"] {
            remote(&["-t", "1", words]);
        }
        for words in ["-si", "-st"] {
            remote(&[words]);
        }
        remote(&["-t", "1", "--stop"]);
        until("it is stopped", || service.torrent(1, &["status"])["status"] == 0);
        remote(&["-t", "1", "--remove"]);
        assert!(service.torrents(&["id"]).is_empty());
        payload.assert_at(&Service::downloads(&temp, "service"));
    });
}

#[test]
fn the_python_package_manages_torrents() {
    let name = "the_python_package_manages_torrents";
    in_network_namespace(name, &[".venv/bin/stig"], || {
        let (temp, payload) = (TestDir::new(), payload());
        let service = Service::start(&temp, "service", &[]);
        let downloads = Service::downloads(&temp, "service");
        payload.write_files(&downloads.join("other"));
        let mut command = Command::new(find(PYTHON).expect("Python"));
        command.arg(in_repository("tests/rpc/python_client.py")).arg(service.port.to_string());
        let log = succeeds(command.arg(temp.torrent(&payload, "")).arg(&downloads), &temp, PATIENCE);
        assert!(log.contains("done"), "{log}");
        assert_eq!(service.rpc("session_get", json!({}))["speed_limit_up"], 321);
    });
}

#[test]
fn the_npm_package_manages_torrents() {
    in_network_namespace("the_npm_package_manages_torrents", &["node", NODE_PACKAGE], || {
        let (temp, payload) = (TestDir::new(), payload());
        let service = Service::start(&temp, "service", &[]);
        let mut command = Command::new("node");
        command.arg(in_repository("tests/rpc/node_client.mjs")).arg(service.url()).arg(temp.torrent(&payload, ""));
        let log = succeeds(&mut command, &temp, PATIENCE);
        assert!(log.contains("done"), "{log}");
        assert_eq!(service.rpc("session_get", json!({}))["speed_limit_down"], 777);
        assert!(service.torrents(&["id"]).is_empty());
    });
}

#[test]
fn stig_manages_torrents() {
    in_network_namespace("stig_manages_torrents", &[STIG], || {
        let (temp, payload) = (TestDir::new(), payload());
        let service = Service::start(&temp, "service", &[]);
        let torrent = temp.torrent(&payload, "");
        let stig = |words: &[&str]| {
            let mut command = Command::new(find(STIG).expect("stig"));
            command.env("HOME", temp.folder("stig-home")).env("TERM", "dumb").args(["--no-rc-file", "--no-tui"]);
            let port = service.port.to_string();
            command.args(["set", "connect.host", "127.0.0.1", ";", "set", "connect.port", &port, ";"]);
            succeeds(command.args(words), &temp, PATIENCE)
        };
        stig(&["add", "--stopped", torrent.to_str().expect("text")]);
        let list = stig(&["ls", "--columns", "name"]);
        assert!(list.contains("tree"), "{list}");
        payload.write_files(&Service::downloads(&temp, "service"));
        stig(&["verify", "name=tree"]);
        until("it is verified", || service.torrent(1, &["percent_done"])["percent_done"] == 1.0);
        stig(&["start", "name=tree"]);
        service.wait_until_seeding(1);
        stig(&["ratelimit", "up", "100kB", "name=tree"]);
        assert_eq!(service.torrent(1, &["upload_limited"])["upload_limited"], true);
        stig(&["lsf", "name=tree"]);
        stig(&["stop", "name=tree"]);
        until("it is stopped", || service.torrent(1, &["status"])["status"] == 0);
        stig(&["remove", "--force", "name=tree"]);
        assert!(service.torrents(&["id"]).is_empty());
    });
}

fn in_repository(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A client as Sonarr and Radarr are one: a GET that is refused has the session id, and bodies of JSON claim to be forms or nothing.
struct Arr<'a> {
    service: &'a Service,
    id: String,
    content_type: Option<&'a str>,
}

impl Arr<'_> {
    fn shake_hands<'a>(service: &'a Service, content_type: Option<&'a str>) -> Arr<'a> {
        let answer = service.get("/transmission/rpc", &[("Accept", "application/json")]);
        assert_eq!(answer.status, 409);
        Arr { service, id: answer.header(SESSION_HEADER).to_owned(), content_type }
    }

    fn call(&self, method: &str, arguments: &Value) -> Value {
        let body = json!({"method": method, "arguments": arguments}).to_string();
        let mut headers = vec![("X-Transmission-Session-Id", self.id.as_str()), ("Accept", "application/json")];
        headers.extend(self.content_type.map(|kind| ("Content-Type", kind)));
        let answer = self.service.request("POST", "/transmission/rpc", &headers, body.as_bytes());
        let Answer { status, body, .. } = answer.expect("an answer");
        assert_eq!(status, 200, "{method}");
        let mut answer: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(answer["result"], "success", "{method} {arguments}");
        answer["arguments"].take()
    }
}

/// What Sonarr's and Radarr's `TransmissionProxy` sends, in its order: the handshake, the version, the list, a torrent of a file and
/// one of a link in the category's folder, the seed limits, the place in the queue, the label, the removal.
#[test]
fn sonarr_and_radarr_manage_torrents() {
    in_network_namespace("sonarr_and_radarr_manage_torrents", &[], || {
        for (app, content_type) in [("sonarr", Some("application/x-www-form-urlencoded")), ("radarr", None)] {
            let (temp, payload) = (TestDir::new(), payload());
            let service = Service::start(&temp, app, &[]);
            let arr = Arr::shake_hands(&service, content_type);
            let session = arr.call("session-get", &json!({}));
            let version = session["version"].as_str().expect("text");
            let number: f64 =
                version.split(['.', ' ']).take(2).collect::<Vec<_>>().join(".").parse().expect("a number");
            assert!(number >= 2.4, "{version}");
            assert!(session["rpc-version"].as_u64() >= Some(17), "labels need 17");
            let folder = format!("{}/{app}", session["download-dir"].as_str().expect("text"));
            let other = Payload::single("other.bin", 30_000, 16_384);
            other.write_files(Path::new(&folder));
            let add = |metainfo: Option<String>, link: Option<String>| {
                let mut arguments = json!({"paused": false, "download-dir": folder});
                let (name, value) =
                    metainfo.map_or_else(|| ("filename", link), |metainfo| ("metainfo", Some(metainfo)));
                arguments[name] = value.into();
                arr.call("torrent-add", &arguments)["torrent-added"]["hashString"].as_str().expect("text").to_owned()
            };
            let hash = add(Some(base64(&other.torrent(""))), None);
            let linked = add(None, Some(payload.magnet("")));
            for hash in [&hash, &linked] {
                let seeding = json!({
                    "ids": [hash], "seedRatioLimit": 1.5, "seedRatioMode": 1, "seedIdleLimit": 60, "seedIdleMode": 1,
                });
                arr.call("torrent-set", &seeding);
                arr.call("torrent-set", &json!({"ids": [hash], "labels": [app]}));
                arr.call("queue-move-top", &json!({"ids": [hash]}));
            }
            let fields = [
                "id",
                "hashString",
                "name",
                "downloadDir",
                "totalSize",
                "leftUntilDone",
                "isFinished",
                "eta",
                "status",
                "secondsDownloading",
                "secondsSeeding",
                "errorString",
                "uploadedEver",
                "downloadedEver",
                "seedRatioLimit",
                "seedRatioMode",
                "seedIdleLimit",
                "seedIdleMode",
                "fileCount",
                "file-count",
                "labels",
            ];
            let list = || {
                let mut list = arr.call("torrent-get", &json!({"fields": fields}));
                let list: Vec<Value> = serde_json::from_value(list["torrents"].take()).expect("a list");
                list
            };
            until("the first is complete", || {
                list().iter().any(|torrent| torrent["hashString"] == hash && torrent["leftUntilDone"] == 0)
            });
            for torrent in list() {
                assert_eq!((&torrent["downloadDir"], &torrent["labels"]), (&json!(folder), &json!([app])), "{torrent}");
                assert_eq!((&torrent["seedRatioLimit"], &torrent["seedRatioMode"]), (&json!(1.5), &json!(1)));
                assert_eq!((&torrent["seedIdleLimit"], &torrent["seedIdleMode"]), (&json!(60), &json!(1)));
            }
            let order = service.torrents(&["hash_string", "queue_position"]);
            let first = order.iter().find(|torrent| torrent["queue_position"] == 0).expect("the first of the queue");
            assert_eq!(first["hash_string"], linked);
            arr.call("torrent-remove", &json!({"ids": [linked], "delete-local-data": false}));
            arr.call("torrent-remove", &json!({"ids": [hash], "delete-local-data": true}));
            assert!(list().is_empty());
            // It is complete and nobody has changed it: it goes, a moment after the answer.
            until("its data is deleted", || !Path::new(&folder).join("other.bin").exists());
        }
    });
}
