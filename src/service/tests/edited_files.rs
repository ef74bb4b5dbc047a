//! A complete file that its user changes is not downloaded again before the user asks for it: a service starts torrents by itself.

use std::os::unix::fs::FileExt;

use super::*;

const EDIT: &[u8] = b"my correction, precious";

struct EditedSeed {
    it: Fixture,
    id: TorrentId,
    bytes: Vec<u8>,
    /// Others have the torrent too.
    _others: (TrackerServer, Fixture),
}

fn edit(folder: &Path) {
    let file = std::fs::OpenOptions::new().write(true).open(folder.join("x/a.bin")).expect("the file");
    file.write_all_at(EDIT, 20_000).expect("edited");
}

/// The user moves the files, and then tells the service where they are.
fn move_by_hand(it: &Fixture, id: TorrentId) {
    let new = it.downloads().join("by hand");
    std::fs::create_dir(&new).expect("a folder");
    std::fs::rename(it.downloads().join("x"), new.join("x")).expect("moved");
    it.control.set_folder(&[id], &new, false).expect("another folder");
}

fn is_edited(folder: &Path) -> bool {
    let bytes = std::fs::read(folder.join("x/a.bin")).expect("the file");
    bytes.len() == 100_000 && &bytes[20_000..][..EDIT.len()] == EDIT
}

fn is_damaged(it: &TorrentSummary) -> bool {
    let says_so = |message: &str| message.contains("no longer verify") && message.contains("verify the torrent");
    it.activity == Activity::Stopped
        && it.problem.as_ref().is_some_and(|it| it.kind == ProblemKind::Local && says_so(&it.message))
}

fn seed(temp: &Path, dormant_after: Duration) -> EditedSeed {
    let tracker = TrackerServer::start(([127, 0, 0, 1], 0).into(), TrackerServerConfig::default()).expect("a tracker");
    let url = format!("http://{}/announce", tracker.addr());
    let other = Fixture::start(&temp.join("other"));
    let bytes = torrent(&other.downloads(), "x", Some(&url));
    let seeding = other.add(&bytes).id;
    other.wait_for("the other seed", seeding, |it| it.activity == Activity::Seeding && it.transfer.missing == 0);
    let it = Fixture::with_dormant_after(&temp.join("own"), dormant_after);
    torrent(&it.downloads(), "x", Some(&url));
    let id = it.add(&bytes).id;
    it.wait_for("the seed", id, |it| it.activity == Activity::Seeding && it.times.done.0 > 0);
    EditedSeed { it, id, bytes, _others: (tracker, other) }
}

#[test]
fn a_complete_file_that_was_edited_is_not_repaired_when_the_service_opens_it_again() {
    type Reason = fn(&mut EditedSeed);
    let reasons: [Reason; 6] = [
        |EditedSeed { it, id, .. }| move_by_hand(it, *id),
        |EditedSeed { it, id, .. }| {
            it.control.stop(&[*id]).expect("stopped");
            it.wait_for("the stop", *id, |it| it.activity == Activity::Stopped);
            move_by_hand(it, *id);
            it.wait_for("the check", *id, |it| it.activity == Activity::Stopped && it.transfer.missing > 0);
            it.control.start(&[*id], false).expect("started");
        },
        |EditedSeed { it, id, .. }| {
            it.control.stop(&[*id]).expect("stopped");
            it.wait_for("the stop", *id, |it| it.activity == Activity::Stopped);
            it.control.start(&[*id], false).expect("started");
        },
        |EditedSeed { it, id, .. }| {
            let change = TorrentChange { unwanted: FileIndexes::Some(vec![1]), ..TorrentChange::default() };
            it.control.change(&[*id], &change).expect("fewer files");
        },
        |EditedSeed { it, id, .. }| {
            it.control.set_folder(&[*id], &it.downloads().join("new"), true).expect("a move");
        },
        |EditedSeed { it, id, .. }| {
            it.control.stop(&[*id]).expect("stopped");
            it.wait_for("the stop", *id, |it| it.activity == Activity::Stopped);
            it.restart();
            it.control.start(&[*id], false).expect("started");
        },
    ];
    for (number, reason) in reasons.into_iter().enumerate() {
        let temp = tempfile::tempdir().expect("a folder");
        let mut seed = seed(temp.path(), Duration::from_secs(60));
        edit(&seed.it.downloads());
        reason(&mut seed);
        let EditedSeed { it, id, .. } = &seed;
        it.wait_for("the problem", *id, is_damaged);
        let folder = it.summary(*id).folder;
        assert!(is_edited(&folder), "reason {number}");
        // Without a check, the file stays as it is.
        it.control.start(&[*id], false).expect("started");
        it.wait_for("the problem again", *id, is_damaged);
        assert!(is_edited(&folder), "reason {number}");
        it.control.verify(&[*id]).expect("verified");
        it.wait_for("the result", *id, |it| it.problem.is_none() && it.transfer.missing > 0);
        it.wait_for("the end of the check", *id, |it| it.activity == Activity::Stopped);
        assert!(is_edited(&folder), "a check changes nothing: reason {number}");
        it.control.start(&[*id], false).expect("started");
        it.wait_for("the repair", *id, |it| it.activity == Activity::Seeding && it.transfer.missing == 0);
        assert!(!is_edited(&folder), "reason {number}");
    }
}

#[test]
fn a_stranger_who_wakes_a_seed_does_not_have_an_edited_file_repaired() {
    let temp = tempfile::tempdir().expect("a folder");
    let seed = seed(temp.path(), Duration::from_millis(300));
    let EditedSeed { it, id, bytes, .. } = &seed;
    let runs = || {
        let service = it.service.as_ref().expect("it runs");
        service.control.published.lock().torrents.get(id).is_some_and(|entry| entry.handle.is_some())
    };
    until("it is dormant", || !runs());
    edit(&it.downloads());
    let stranger = Fixture::start(&temp.path().join("stranger"));
    stranger.add(bytes);
    it.wait_for("the problem", *id, is_damaged);
    assert!(is_edited(&it.downloads()));
}

#[test]
fn a_complete_file_of_an_incomplete_torrent_is_not_repaired_either() {
    for is_moved_by_hand in [false, true] {
        let temp = tempfile::tempdir().expect("a folder");
        let mut it = Fixture::start(temp.path());
        let bytes = torrent(&it.downloads(), "x", None);
        let id = it.add(&bytes).id;
        it.wait_for("the seed", id, |it| it.activity == Activity::Seeding && it.times.done.0 > 0);
        let select = |it: &Fixture, wanted, unwanted| {
            it.control
                .change(&[id], &TorrentChange { wanted, unwanted, ..TorrentChange::default() })
                .expect("selected");
        };
        select(&it, FileIndexes::None, FileIndexes::Some(vec![1]));
        it.wait_for("a partial seed", id, |it| it.activity == Activity::Seeding);
        it.control.stop(&[id]).expect("stopped");
        it.wait_for("the stop", id, |it| it.activity == Activity::Stopped);
        it.restart();
        edit(&it.downloads());
        std::fs::remove_file(it.downloads().join("x/b.bin")).expect("removed");
        if is_moved_by_hand {
            move_by_hand(&it, id);
        }
        select(&it, FileIndexes::All, FileIndexes::None);
        it.control.start(&[id], false).expect("started");
        it.wait_for("the problem", id, is_damaged);
        let folder = it.summary(id).folder;
        assert!(is_edited(&folder) && !folder.join("x/b.bin").exists(), "{is_moved_by_hand}");
    }
}

#[test]
fn a_missing_file_is_downloaded_again_and_an_edit_of_a_piece_that_it_shares_stays() {
    for is_edit in [false, true] {
        let temp = tempfile::tempdir().expect("a folder");
        let seed = seed(temp.path(), Duration::from_secs(60));
        let EditedSeed { it, id, .. } = &seed;
        it.control.stop(&[*id]).expect("stopped");
        it.wait_for("the stop", *id, |it| it.activity == Activity::Stopped);
        let mine = it.downloads().join("x/a.bin");
        std::fs::remove_file(it.downloads().join("x/b.bin")).expect("removed");
        if is_edit {
            // In the last piece of this file, which it shares with the missing one. The zeros look like data that is missing.
            let file = std::fs::OpenOptions::new().write(true).open(&mine).expect("the file");
            file.write_all_at(&[0; 1600], 98_400).expect("edited");
        }
        let before = std::fs::read(&mine).expect("the file");
        it.control.start(&[*id], false).expect("started");
        if is_edit {
            it.wait_for("it ends", *id, |it| it.activity == Activity::Stopped && it.problem.is_some());
        } else {
            it.wait_for("it seeds", *id, |it| it.activity == Activity::Seeding && it.transfer.missing == 0);
        }
        assert!(std::fs::read(&mine).expect("the file") == before, "{:?}", it.summary(*id));
    }
}
