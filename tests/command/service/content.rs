//! Paths and the content of torrents: neither leads out of the folders of downloads, and content runs nothing in the browser.

use std::os::unix::fs::symlink;

use serde_json::json;

use crate::common::netns::in_network_namespace;
use crate::common::payload::Payload;
use crate::common::service::{Service, base64};
use crate::common::{TestDir, until};

/// The path of a link to a file, with its token.
fn link(service: &Service, id: u64, file: u64) -> String {
    let answer = service.rpc("btsync_file_link", json!({"id": id, "file_index": file}));
    format!("/{}", answer["url"].as_str().expect("a link").trim_start_matches('/'))
}

#[test]
fn no_address_leads_to_files_beside_the_page() {
    in_network_namespace("no_address_leads_to_files_beside_the_page", &[], || {
        let temp = TestDir::new();
        let service = Service::start(&temp, "service", &[]);
        let id = service.add(&Payload::single("one.bin", 100_000, 16_384), json!({"paused": true}));
        let up = ["../", "..%2f", "%2e%2e/", "..\\", "%2e%2e%2f", "....//", "..%252f", "..;/", "%c0%ae%c0%ae/"];
        let starts = ["/", "//", "/lang/", "/files/", "/transmission/web/", "/page/"];
        for (start, up) in starts.iter().flat_map(|start| up.iter().map(move |up| (start, up))) {
            let path = format!("{start}{}etc/passwd", up.repeat(12));
            let answer = service.get(&path, &[]);
            assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.status);
            assert!(!answer.text().contains("root:"), "{path}");
        }
        for path in ["/etc/passwd", "//etc/passwd", "/.", "/..", "/index.html/", "/lang", "/lang/", "/main.js%00.html"]
        {
            assert!(matches!(service.get(path, &[]).status, 400 | 404), "{path}");
        }
        for rest in ["0/../../../etc/passwd", "../../etc/passwd", "-1", "4294967296", "0x0", "", "0/extra"] {
            let answer = service.get(&format!("/files/{id}/{rest}?token=1-2"), &[]);
            assert!(matches!(answer.status, 400 | 403 | 404), "{rest}: {}", answer.status);
        }
    });
}

#[test]
fn a_remote_control_cannot_leave_the_allowed_folders() {
    in_network_namespace("a_remote_control_cannot_leave_the_allowed_folders", &[], || {
        let temp = TestDir::new();
        let (outside, extra) = (temp.folder("outside"), temp.folder("extra"));
        let service = Service::start(&temp, "service", &["--allow-dir", extra.to_str().expect("text")]);
        let downloads = Service::downloads(&temp, "service");
        symlink(&outside, downloads.join("way-out")).expect("a link");
        let payload = Payload::tree("tree", &[("a.bin", 40_000), ("b.bin", 40_000)], 16_384);
        let inside = |name: &str| downloads.join(name).to_str().expect("text").to_owned();
        let folders = [
            outside.to_str().expect("text").to_owned(),
            "/".to_owned(),
            "/etc".to_owned(),
            "relative".to_owned(),
            inside("../outside"),
            inside("way-out"),
            inside("way-out/below"),
            format!("{}-and-more", downloads.display()),
        ];
        let metainfo = base64(&payload.torrent(""));
        for folder in &folders {
            service.refused("torrent_add", json!({"metainfo": metainfo, "download_dir": folder, "paused": true}));
        }
        assert!(service.torrents(&["id"]).is_empty());
        let id = service.add(&payload, json!({"paused": true, "download_dir": extra.to_str()}));
        for folder in &folders {
            for moves in [true, false] {
                let params = json!({"ids": [id], "location": folder, "move": moves});
                service.refused("torrent_set_location", params);
            }
            service.refused("torrent_set", json!({"ids": [id], "location": folder}));
            service.refused("session_set", json!({"download_dir": folder}));
            service.refused("session_set", json!({"incomplete_dir": folder, "incomplete_dir_enabled": true}));
        }
        for name in ["../up", "..", ".", "", "/abs", "a/b", "nul\0byte"] {
            for path in ["tree", "tree/a.bin"] {
                service.refused("torrent_rename_path", json!({"ids": [id], "path": path, "name": name}));
            }
        }
        for path in ["..", "/", "../outside", "tree/../..", ""] {
            service.refused("torrent_rename_path", json!({"ids": [id], "path": path, "name": "other"}));
        }
        assert_eq!(service.torrent(id, &["download_dir"])["download_dir"], json!(extra.to_str()));
        assert_eq!(std::fs::read_dir(&outside).expect("a folder").count(), 0, "nothing is outside");
        // A file of this machine that is no torrent is not told.
        let secret = temp.path("secret");
        std::fs::write(&secret, "a secret line\n").expect("a file");
        let error = service.refused("torrent_add", json!({"filename": secret.to_str()}));
        assert!(!error.contains("a secret line"), "{error}");
    });
}

/// Torrents of strangers contain web pages, too.
#[test]
fn content_runs_nothing_and_links_are_for_one_file() {
    in_network_namespace("content_runs_nothing_and_links_are_for_one_file", &[], || {
        let temp = TestDir::new();
        let service = Service::start(&temp, "service", &[]);
        let names =
            ["film.mp4", "page.html", "photo.jpg", "picture.svg", "script.js", "song.mp3", "text.txt", "doc.pdf"];
        let files: Vec<_> = names.iter().map(|name| (*name, 20_000)).collect();
        let payload = Payload::tree("tree", &files, 16_384);
        payload.write_files(&Service::downloads(&temp, "service"));
        let id = service.add(&payload, json!({}));
        service.wait_until_seeding(id);
        let paths: Vec<_> = (0..names.len() as u64).map(|file| link(&service, id, file)).collect();
        for (name, path) in names.iter().zip(&paths) {
            let answer = service.get(path, &[]);
            assert_eq!((answer.status, answer.body.len()), (200, 20_000), "{name} at {path}");
            let policy = answer.header("content-security-policy");
            assert!(policy.starts_with("sandbox") && policy.contains("default-src 'none'"), "{name}: {policy}");
            assert!(!policy.contains("allow-"), "{name}: {policy}");
            assert_eq!(answer.header("x-content-type-options"), "nosniff", "{name}");
            let is_shown = ["film.mp4", "photo.jpg", "song.mp3"].contains(name);
            let start = if is_shown { "inline" } else { "attachment" };
            let disposition = answer.header("content-disposition");
            assert!(disposition.starts_with(start), "{name}: {disposition}");
            assert!(!answer.header("content-type").contains("html"), "{name}");
            assert!(!answer.header("content-type").contains("script"), "{name}");
        }
        // The token of one file opens no other, none of another torrent, and none later.
        let (path, token) = paths[0].split_once("?token=").expect("a token");
        let (end, digest) = token.split_once('-').expect("an end");
        let end = u64::from_str_radix(end, 16).expect("a time");
        let later = format!("{:x}-{digest}", end + 1);
        let tree = path.trim_end_matches("/0");
        assert_eq!(
            service.get(&format!("{path}?token={token}"), &[("Range", "bytes=5-9")]).body,
            &payload.content()[5..10]
        );
        for (path, token) in
            [(&*format!("{tree}/1"), token), (&format!("/files/{}/0", id + 1), token), (path, &later), (path, "")]
        {
            assert_eq!(service.get(&format!("{path}?token={token}"), &[]).status, 403, "{path} {token}");
        }
        assert_eq!(service.get(path, &[]).status, 404, "no token");
        service.kill();
        let service = Service::start(&temp, "service", &[]);
        until("the torrent seeds again", || service.torrent(id, &["status"])["status"] == 6);
        assert_eq!(service.get(&format!("{path}?token={token}"), &[]).status, 403, "after a restart");
    });
}

/// A file of the torrent's folder may have become a link to something else.
#[test]
fn a_link_in_place_of_a_file_is_not_followed() {
    in_network_namespace("a_link_in_place_of_a_file_is_not_followed", &[], || {
        let temp = TestDir::new();
        let service = Service::start(&temp, "service", &[]);
        let downloads = Service::downloads(&temp, "service");
        let payload = Payload::tree("tree", &[("a.txt", 20_000), ("b/c.txt", 20_000)], 16_384);
        payload.write_files(&downloads);
        let id = service.add(&payload, json!({}));
        service.wait_until_seeding(id);
        service.rpc("torrent_stop", json!({"ids": [id]}));
        until("it is stopped", || service.torrent(id, &["status"])["status"] == 0);
        let secret = temp.folder("private");
        for name in ["a.txt", "c.txt"] {
            std::fs::write(secret.join(name), vec![b's'; 20_000]).expect("a secret");
        }
        std::fs::remove_file(downloads.join("tree/a.txt")).expect("removed");
        symlink(secret.join("a.txt"), downloads.join("tree/a.txt")).expect("a link");
        std::fs::remove_dir_all(downloads.join("tree/b")).expect("removed");
        symlink(&secret, downloads.join("tree/b")).expect("a link");
        for file in 0..2 {
            // Until the run has ended, the service reads the file that the run has opened.
            until("the files of the run are closed", || {
                let answer = service.get(&link(&service, id, file), &[]);
                assert!(!answer.text().contains("sss"), "file {file}: {}", answer.status);
                answer.status != 200
            });
        }
    });
}
