//! Moves and renames where two paths lead to one file.

use std::fs::File;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::json;

use crate::common::case_fs::{self, has_case_fs};
use crate::common::netns::in_network_namespace;
use crate::common::payload::Payload;
use crate::common::service::Service;
use crate::common::{TestDir, until};

/// Two files of the user's, as the service seeds them in `folder`.
fn seeding(service: &Service, folder: &std::path::Path) -> (u64, Payload) {
    let payload = Payload::tree("film", &[("a.txt", 50_000), ("b.txt", 70_000)], 16_384);
    payload.write_files(folder);
    for (path, _) in payload.paths_with_content(folder) {
        // The file system of the tests knows no fractions of a second.
        let file = File::options().write(true).open(path).expect("the file");
        file.set_modified(UNIX_EPOCH + Duration::from_secs(1_700_000_000)).expect("a time");
    }
    let id = service.add(&payload, json!({"download_dir": folder.to_str()}));
    service.wait_until_seeding(id);
    (id, payload)
}

#[test]
fn a_rename_that_changes_only_the_case_keeps_the_file() {
    const TEST: &str = "a_rename_that_changes_only_the_case_keeps_the_file";
    in_network_namespace(TEST, &[], || {
        if !has_case_fs(TEST) {
            return;
        }
        let temp = TestDir::new();
        let (backing, downloads) = (temp.folder("backing"), temp.folder("service-downloads"));
        let _mounted = case_fs::mount_with_inodes(&temp, &downloads, &backing);
        let service = Service::start(&temp, "service", &[]);
        let (id, payload) = seeding(&service, &downloads);
        let content = payload.content();
        service.rpc("torrent_rename_path", json!({"ids": [id], "path": "film/a.txt", "name": "A.txt"}));
        until("the file has its new name", || backing.join("film/A.txt").exists());
        service.wait_until_seeding(id);
        assert_eq!(std::fs::read(backing.join("film/A.txt")).expect("the file"), &content[..50_000]);
        service.rpc("torrent_rename_path", json!({"ids": [id], "path": "film", "name": "FILM"}));
        until("the folder is renamed", || service.torrent(id, &["name"])["name"] == "FILM");
        service.wait_until_seeding(id);
        for (name, content) in [("A.txt", &content[..50_000]), ("b.txt", &content[50_000..])] {
            assert_eq!(std::fs::read(downloads.join("FILM").join(name)).expect("the file"), content);
        }
        service.kill();
        case_fs::unmount(&downloads);
    });
}

#[test]
fn a_move_to_another_path_of_the_same_folder_keeps_the_files() {
    const TEST: &str = "a_move_to_another_path_of_the_same_folder_keeps_the_files";
    in_network_namespace(TEST, &[], || {
        if !has_case_fs(TEST) {
            return;
        }
        let temp = TestDir::new();
        let downloads = temp.folder("service-downloads");
        let (disk, pool) = (downloads.join("disk"), downloads.join("pool"));
        for folder in [&disk, &pool] {
            std::fs::create_dir(folder).expect("a folder");
        }
        let service = Service::start(&temp, "service", &[]);
        let (id, payload) = seeding(&service, &disk);
        let _mounted = case_fs::mount(&temp, &pool, &disk, 9_000_000);
        service.rpc("torrent_set_location", json!({"ids": [id], "location": pool.to_str(), "move": true}));
        until("the torrent is in the pool", || {
            let torrent = service.torrent(id, &["download_dir", "btsync_is_moving"]);
            torrent["download_dir"] == json!(pool.to_str()) && torrent["btsync_is_moving"] == json!(false)
        });
        service.wait_until_seeding(id);
        payload.assert_at(&disk);
        payload.assert_at(&pool);
        service.kill();
        case_fs::unmount(&pool);
    });
}
