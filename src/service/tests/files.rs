//! Moving, renaming and removing torrents with their files.

use super::*;
use crate::service::record::{Removal, TorrentRecord};
use crate::service::state_folder::{read_json, save_json};

/// A seeding torrent of a new service.
fn seeding(temp: &Path) -> (Fixture, TorrentId) {
    let it = Fixture::start(temp);
    let bytes = torrent(&it.downloads(), "x", None);
    let id = it.add(&bytes).id;
    it.wait_for("the seed", id, |it| it.activity == Activity::Seeding);
    (it, id)
}

fn read(path: &Path) -> Option<Vec<u8>> {
    std::fs::read(path).ok()
}

#[test]
fn a_seeding_torrent_moves_and_seeds_from_its_new_folder() {
    let temp = tempfile::tempdir().expect("a folder");
    let (mut it, id) = seeding(temp.path());
    let new = it.downloads().join("films/new");
    it.control.set_folder(&[id], &new, true).expect("moved");
    let is_moved = |it: &TorrentSummary| it.folder == new && it.activity == Activity::Seeding;
    it.wait_for("the seed in the new folder", id, is_moved);
    assert_eq!(read(&new.join("x/b.bin")), Some(vec![b'b'; 50_000]));
    assert!(!it.downloads().join("x").exists(), "the empty folder is gone");
    let summary = it.summary(id);
    assert_eq!((summary.transfer.downloaded, summary.transfer.missing), (0, 0), "nothing was downloaded");
    it.restart();
    it.wait_for("the seed after a restart", id, is_moved);
}

#[test]
fn a_file_in_the_way_of_a_move_stays_and_the_torrent_stays_where_it_is() {
    let temp = tempfile::tempdir().expect("a folder");
    let (it, id) = seeding(temp.path());
    let new = it.downloads().join("new");
    std::fs::create_dir_all(new.join("x")).expect("a folder");
    std::fs::write(new.join("x/b.bin"), "mine").expect("a file");
    it.control.set_folder(&[id], &new, true).expect("noted");
    it.wait_for("the problem", id, |it| it.problem.is_some() && it.activity == Activity::Stopped);
    let summary = it.summary(id);
    let problem = summary.problem.expect("a problem").message;
    assert!(problem.contains("new/x/b.bin") && summary.folder == it.downloads(), "{problem}");
    assert_eq!(read(&new.join("x/b.bin")), Some(b"mine".to_vec()));
    assert!(!new.join("x/a.bin").exists());
    std::fs::remove_file(new.join("x/b.bin")).expect("removed");
    it.control.set_folder(&[id], &new, true).expect("noted");
    it.wait_for("the move", id, |it| it.folder == new && it.problem.is_none());
    assert_eq!(read(&new.join("x/a.bin")), Some(vec![b'a'; 100_000]));
}

#[test]
fn a_file_and_a_folder_of_a_seeding_torrent_get_other_names() {
    let temp = tempfile::tempdir().expect("a folder");
    let (mut it, id) = seeding(temp.path());
    it.control.rename(id, "x/b.bin", "c.bin").expect("renamed");
    until("the file has its new name", || it.downloads().join("x/c.bin").exists());
    it.wait_for("the seed", id, |it| it.activity == Activity::Seeding && it.transfer.missing == 0);
    let renamed = || it.control.rename(id, "x", "y").is_ok();
    until("the job is over", renamed);
    until("the folder has its new name", || it.downloads().join("y/c.bin").exists());
    it.restart();
    it.wait_for("the seed", id, |it| it.activity == Activity::Seeding && it.transfer.missing == 0);
    assert_eq!(read(&it.downloads().join("y/a.bin")), Some(vec![b'a'; 100_000]));
    assert!(!it.downloads().join("x").exists());
}

#[test]
fn a_torrent_that_cannot_be_renamed_keeps_its_name_and_seeds() {
    let temp = tempfile::tempdir().expect("a folder");
    let (it, id) = seeding(temp.path());
    std::fs::create_dir_all(it.downloads().join("y")).expect("a folder");
    std::fs::write(it.downloads().join("y/a.bin"), "mine").expect("a file");
    for (path, name) in [("x", "y"), ("x", " "), ("x/a.bin", "b.bin"), ("x/a.bin", "\u{202e}")] {
        assert!(it.control.rename(id, path, name).is_err(), "{path} {name}");
    }
    let summary = it.summary(id);
    assert_eq!((summary.name.as_str(), summary.activity, summary.problem), ("x", Activity::Seeding, None));
    assert_eq!(read(&it.downloads().join("y/a.bin")), Some(b"mine".to_vec()));
    std::fs::remove_file(it.downloads().join("y/a.bin")).expect("removed");
    it.control.rename(id, "x", "y").expect("renamed");
    it.wait_for("the new name", id, |it| it.name == "y" && it.activity == Activity::Seeding);
}

#[test]
fn a_torrent_is_removed_with_its_files_and_without_those_of_the_user() {
    let temp = tempfile::tempdir().expect("a folder");
    let (mut it, id) = seeding(temp.path());
    std::fs::write(it.downloads().join("x/mine"), "mine").expect("a file");
    it.control.stop(&[id]).expect("stopped");
    it.wait_for("the stop", id, |it| it.activity == Activity::Stopped);
    std::fs::write(it.downloads().join("x/b.bin"), "changed").expect("a file");
    it.control.remove(&[id], true).expect("removed");
    until("it is gone", || it.control.torrent(id).is_none());
    // A torrent that is being removed is no longer shown.
    until("its file is deleted", || !it.downloads().join("x/a.bin").exists());
    it.service = None;
    assert_eq!(read(&it.downloads().join("x/mine")), Some(b"mine".to_vec()));
    assert_eq!(read(&it.downloads().join("x/b.bin")), Some(b"changed".to_vec()));
}

#[test]
fn a_complete_torrent_leaves_the_incomplete_folder() {
    let temp = tempfile::tempdir().expect("a folder");
    let it = Fixture::start(temp.path());
    let incomplete = it.downloads().join("incomplete");
    let change = SettingsChange {
        incomplete_folder: Some(incomplete.clone()),
        uses_incomplete_folder: Some(true),
        ..SettingsChange::default()
    };
    it.control.change_settings(&change).expect("settings");
    // The data is there already, so that a check completes it.
    let bytes = torrent(&incomplete, "x", None);
    let id = it.add(&bytes).id;
    it.wait_for("the seed in its final folder", id, |summary| {
        summary.activity == Activity::Seeding && it.downloads().join("x/b.bin").exists()
    });
    assert_eq!(it.summary(id).folder, it.downloads());
    assert!(!incomplete.join("x").exists());
}

/// Changes the record of the only torrent while the service does not run.
fn edit_record(folder: &Path, change: impl FnOnce(&mut TorrentRecord)) {
    let records = std::fs::read_dir(folder.join("state/torrents")).expect("the records").flatten();
    let path = records.map(|entry| entry.path()).find(|path| path.extension().is_some_and(|kind| kind == "json"));
    let path = path.expect("a record");
    let mut record: TorrentRecord = read_json(&path).expect("a record").expect("a record");
    change(&mut record);
    save_json(&path, &record).expect("saved");
}

#[test]
fn a_move_that_a_kill_interrupted_is_completed_at_the_next_start_also_before_a_removal() {
    for removal in [None, Some(Removal { deletes_data: true })] {
        let temp = tempfile::tempdir().expect("a folder");
        let (mut it, id) = seeding(temp.path());
        let new = it.downloads().join("new");
        it.service = None;
        std::fs::create_dir_all(new.join("x")).expect("a folder");
        std::fs::rename(it.downloads().join("x/a.bin"), new.join("x/a.bin")).expect("moved");
        edit_record(temp.path(), |record| (record.moving_to, record.removal) = (Some(new.clone()), removal));
        it.restart();
        if removal.is_some() {
            until("it is gone", || it.control.torrent(id).is_none());
            until("both files are deleted", || !new.join("x").exists() && !it.downloads().join("x").exists());
        } else {
            it.wait_for("the seed", id, |it| it.folder == new && it.activity == Activity::Seeding);
            assert_eq!(read(&new.join("x/a.bin")), Some(vec![b'a'; 100_000]));
            assert_eq!(read(&new.join("x/b.bin")), Some(vec![b'b'; 50_000]));
            assert_eq!(it.summary(id).transfer.downloaded, 0);
        }
        assert!(!it.downloads().join("x").exists());
    }
}

/// A torrent of two files without a common piece, and files of the same lengths on disk, of which only the first is the torrent's.
fn half_of_the_user(folder: &Path) -> Vec<u8> {
    let content = folder.join("x");
    std::fs::create_dir_all(&content).expect("a folder");
    std::fs::write(content.join("a.bin"), vec![b'a'; 98_304]).expect("a file");
    std::fs::write(content.join("taxes.pdf"), vec![b'b'; 50_000]).expect("a file");
    let plan = CreatePlan::scan(&content, &[]).expect("a plan");
    let made = plan.create(&CreateOptions::default(), &AtomicU64::default(), &AtomicBool::default());
    std::fs::write(content.join("taxes.pdf"), vec![b'm'; 50_000]).expect("a file");
    made.expect("a torrent").bytes
}

#[test]
fn a_file_of_the_user_that_a_torrent_only_names_stays_and_is_not_shown() {
    let temp = tempfile::tempdir().expect("a folder");
    let it = Fixture::start(temp.path());
    let mut request =
        AddRequest { source: AddSource::Metainfo(half_of_the_user(&it.downloads())), ..AddRequest::default() };
    request.change.unwanted = FileIndexes::Some(vec![1]);
    let id = it.control.add(request).expect("added").id;
    it.wait_for("the seed", id, |it| it.activity == Activity::Seeding);
    let is_served = |index: u32| it.control.open_file(DataFileId { torrent: id, index }, [127, 0, 0, 1].into()).is_ok();
    assert_eq!([0, 1].map(is_served), [true, false], "while it runs");
    it.control.stop(&[id]).expect("stopped");
    it.wait_for("the stop", id, |it| it.activity == Activity::Stopped);
    assert_eq!([0, 1].map(is_served), [true, false], "while it does not");
    let (mine, new) = (it.downloads().join("x/taxes.pdf"), it.downloads().join("new"));
    let is_there = || read(&mine) == Some(vec![b'm'; 50_000]);
    it.control.set_folder(&[id], &new, true).expect("noted");
    it.wait_for("the move", id, |it| it.folder == new);
    assert!(is_there() && new.join("x/a.bin").exists() && !new.join("x/taxes.pdf").exists());
    it.control.set_folder(&[id], &it.downloads(), true).expect("noted");
    it.wait_for("the move back", id, |summary| summary.folder == it.downloads());
    it.control.rename(id, "x/taxes.pdf", "mine.pdf").expect("renamed");
    until("the file has its name", || it.control.files(id)[1].path == "x/mine.pdf" && is_there());
    until("the job is over", || it.control.rename(id, "x/mine.pdf", "other.pdf").is_ok());
    assert!(is_there());
    // One that was verified, and that the user has changed since.
    std::fs::write(it.downloads().join("x/a.bin"), "changed").expect("written");
    assert!(!is_served(0));
    it.control.remove(&[id], true).expect("removed");
    until("it is gone", || it.control.torrent(id).is_none());
    assert!(is_there());
}

#[test]
fn a_torrent_that_was_never_checked_takes_no_file_of_the_user_along() {
    let temp = tempfile::tempdir().expect("a folder");
    let it = Fixture::start(temp.path());
    let request = AddRequest {
        source: AddSource::Metainfo(half_of_the_user(&it.downloads())),
        starts_paused: Some(true),
        ..AddRequest::default()
    };
    let id = it.control.add(request).expect("added").id;
    let new = it.downloads().join("new");
    it.control.set_folder(&[id], &new, true).expect("noted");
    it.wait_for("the move", id, |it| it.folder == new);
    assert!(new.join("x/a.bin").exists(), "its content is the torrent's");
    assert_eq!(read(&it.downloads().join("x/taxes.pdf")), Some(vec![b'm'; 50_000]));
}

#[test]
fn names_with_colons_get_others_that_are_not_kept() {
    let temp = tempfile::tempdir().expect("a folder");
    let it = Fixture::start(temp.path());
    let bytes = b"d4:infod5:filesld6:lengthi9e4:pathl3:a:beed6:lengthi9e4:pathl3:a_beee4:name3:t:112:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee";
    let id = it.add(bytes).id;
    it.wait_for("the download", id, |it| it.activity == Activity::Downloading);
    let summary = it.summary(id);
    assert_eq!((summary.name.as_str(), summary.problem), ("t_1", None));
    let paths: Vec<String> = it.control.files(id).into_iter().map(|file| file.path).collect();
    assert_eq!(paths, ["t_1/a_b", "t_1/a_b.1"]);
    let records = std::fs::read_dir(temp.path().join("state/torrents")).expect("a folder").flatten();
    let mut texts = records.filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    assert!(texts.any(|text| text.contains("\"renamed\":[]")));
}
