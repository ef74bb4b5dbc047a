//! The permission to overwrite files ends with the first check, and with a change of what it was given for.

use super::*;

const MINE: [u8; 3000] = [b'?'; 3000];

fn is_in_the_way(it: &TorrentSummary) -> bool {
    it.activity == Activity::Stopped
        && it.problem.as_ref().is_some_and(|problem| problem.kind == ProblemKind::FilesInTheWay)
}

fn put_file_in_the_way(folder: &Path) -> PathBuf {
    std::fs::create_dir_all(folder.join("x")).expect("a folder");
    std::fs::write(folder.join("x/a.bin"), MINE).expect("a file of the user's");
    folder.join("x/a.bin")
}

fn set_queue(it: &Fixture, downloads: usize) {
    let change = SettingsChange { queue_downloads: Some(downloads), ..SettingsChange::default() };
    it.control.change_settings(&change).expect("settings");
}

/// A torrent that waits in the queue and may then overwrite files in its first folder.
fn permitted(temp: &Path) -> (Fixture, TorrentId) {
    let it = Fixture::start(temp);
    put_file_in_the_way(&it.downloads());
    let id = it.add(&torrent(&temp.join("elsewhere"), "x", None)).id;
    it.wait_for("the problem", id, is_in_the_way);
    set_queue(&it, 0);
    it.control.overwrite(id).expect("permitted");
    assert_eq!(it.summary(id).activity, Activity::DownloadWaiting);
    (it, id)
}

#[test]
fn a_permission_to_overwrite_does_not_follow_a_torrent_to_other_files() {
    type Change = fn(&Fixture, TorrentId, &Path);
    let changes: [Change; 4] = [
        |it, id, new| it.control.set_folder(&[id], new, false).expect("another folder"),
        |it, id, new| {
            let change = TorrentChange { folder: Some(new.to_owned()), ..TorrentChange::default() };
            it.control.change(&[id], &change).expect("another folder");
        },
        |it, id, new| {
            it.control.set_folder(&[id], new, true).expect("a move");
            it.wait_for("the move", id, |it| it.folder == new && !it.is_moving);
        },
        |it, id, _| {
            let change = |unwanted| TorrentChange { unwanted, ..TorrentChange::default() };
            it.control.change(&[id], &change(FileIndexes::Some(vec![1]))).expect("another selection");
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let temp = tempfile::tempdir().expect("a folder");
        let (it, id) = permitted(temp.path());
        let new = it.downloads().join("new");
        if number < 2 {
            put_file_in_the_way(&new);
        }
        change(&it, id, &new);
        if number == 2 {
            put_file_in_the_way(&new);
        }
        set_queue(&it, 5);
        if it.summary(id).activity == Activity::Stopped {
            it.control.start(&[id], false).expect("started");
        }
        it.wait_for("the file is in the way again", id, is_in_the_way);
        let kept = std::fs::read(it.summary(id).folder.join("x/a.bin"));
        assert_eq!(kept.expect("the file"), MINE, "change {number}");
    }
}

#[test]
fn a_permission_to_overwrite_is_for_the_files_that_were_there() {
    const DOCUMENT: &[u8] = b"my document";
    for (number, restarts) in [(0, false), (0, true), (1, false), (2, false)] {
        let temp = tempfile::tempdir().expect("a folder");
        let (mut it, id) = permitted(temp.path());
        if restarts {
            it.restart();
        }
        let at = |name: &str| it.downloads().join("x").join(name);
        let saved = at(if number == 0 { "b.bin" } else { "a.bin" });
        if number < 2 {
            std::fs::write(&saved, DOCUMENT).expect("a new document");
        } else {
            // An older document that is moved there.
            std::fs::write(temp.path().join("older"), DOCUMENT).expect("a document");
            let file = std::fs::File::options().write(true).open(temp.path().join("older")).expect("the document");
            file.set_modified(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).expect("old");
            std::fs::rename(temp.path().join("older"), &saved).expect("moved");
        }
        set_queue(&it, 5);
        it.wait_for("a file is in the way again", id, is_in_the_way);
        assert_eq!(std::fs::read(&saved).expect("the document"), DOCUMENT, "{number}");
        if number == 0 {
            assert_eq!(std::fs::read(at("a.bin")).expect("the file"), MINE);
        }
        // The new permission is for all that is there now.
        it.control.overwrite(id).expect("permitted");
        it.wait_for("it downloads", id, |it| it.activity == Activity::Downloading);
    }
}

#[test]
fn a_permission_to_overwrite_ends_with_a_stop() {
    let temp = tempfile::tempdir().expect("a folder");
    let (mut it, id) = permitted(temp.path());
    it.control.stop(&[id]).expect("stopped");
    it.restart();
    set_queue(&it, 5);
    it.control.start(&[id], false).expect("started");
    it.wait_for("the file is in the way again", id, is_in_the_way);
}

#[test]
fn a_permission_to_overwrite_ends_with_a_check_that_finds_no_data() {
    let temp = tempfile::tempdir().expect("a folder");
    let (mut it, id) = permitted(temp.path());
    let file = it.downloads().join("x/a.bin");
    std::fs::remove_file(&file).expect("the user clears the way");
    set_queue(&it, 5);
    it.wait_for("it downloads", id, |it| it.activity == Activity::Downloading);
    let record = || -> serde_json::Value {
        let records = std::fs::read_dir(temp.path().join("state/torrents")).expect("the records").flatten();
        let path = records.map(|entry| entry.path()).find(|path| path.extension().is_some_and(|kind| kind == "json"));
        read_json(&path.expect("a record")).expect("a record").expect("a record")
    };
    until("the permission has ended", || record().get("may_overwrite_in").is_none());
    it.service = None;
    std::fs::write(&file, MINE).expect("a new file of the user's");
    it.restart();
    it.wait_for("the file is in the way", id, is_in_the_way);
    assert_eq!(std::fs::read(&file).expect("the file"), MINE);
}

#[test]
fn a_torrent_is_not_added_to_a_folder_that_only_the_change_names() {
    let temp = tempfile::tempdir().expect("a folder");
    let it = Fixture::start(temp.path());
    let mut request = AddRequest {
        source: AddSource::Metainfo(torrent(&temp.path().join("elsewhere"), "x", None)),
        folder: Some(it.downloads()),
        ..AddRequest::default()
    };
    request.change.folder = Some("/etc".into());
    let id = it.control.add(request).expect("added").id;
    assert_eq!(it.summary(id).folder, it.downloads());
}
