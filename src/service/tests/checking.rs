//! A check that the user asks for downloads nothing, and a torrent whose files are gone is not downloaded again.

use super::*;

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).map_or(0, Iterator::count) == 0
}

impl Fixture {
    /// Waits until the torrent neither runs nor is to run.
    fn wait_until_stopped(&self, id: TorrentId) {
        let service = self.service.as_ref().expect("it runs");
        let runs = || service.control.published.lock().torrents.get(&id).is_some_and(|entry| entry.handle.is_some());
        self.wait_for("the end", id, |it| it.activity == Activity::Stopped && !runs());
    }
}

#[test]
fn a_check_of_a_stopped_torrent_creates_and_replaces_no_file() {
    let temp = tempfile::tempdir().expect("a folder");
    let it = Fixture::start(temp.path());
    let bytes = torrent(&temp.path().join("elsewhere"), "x", None);
    let request = AddRequest { source: AddSource::Metainfo(bytes), starts_paused: Some(true), ..AddRequest::default() };
    let id = it.control.add(request).expect("added").id;
    it.control.verify(&[id]).expect("verified");
    it.wait_until_stopped(id);
    it.control.set_folder(&[id], &it.downloads().join("new"), false).expect("another folder");
    it.wait_until_stopped(id);
    assert!(is_empty(&it.downloads()), "nothing was created");
    // An empty file and one with some of the data, which a download would replace and complete.
    let new = it.downloads().join("new/x");
    std::fs::create_dir_all(&new).expect("a folder");
    std::fs::write(new.join("a.bin"), "").expect("a file");
    std::fs::write(new.join("b.bin"), vec![b'b'; 45_000]).expect("a file");
    let inode = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(new.join("a.bin")).expect("the file"));
    let before = inode();
    it.control.verify(&[id]).expect("verified");
    it.wait_until_stopped(id);
    assert!(it.summary(id).transfer.verified > 0 && it.summary(id).problem.is_none(), "{:?}", it.summary(id));
    assert_eq!((inode(), std::fs::read_dir(&new).expect("the folder").count()), (before, 2));
    assert_eq!(std::fs::metadata(new.join("b.bin")).expect("the file").len(), 45_000);
}

#[test]
fn a_check_of_a_stopped_torrent_finds_that_it_is_complete_and_a_start_during_the_check_seeds_it() {
    let temp = tempfile::tempdir().expect("a folder");
    let it = Fixture::start(temp.path());
    let bytes = torrent(&it.downloads(), "x", None);
    let request = AddRequest { source: AddSource::Metainfo(bytes), starts_paused: Some(true), ..AddRequest::default() };
    let id = it.control.add(request).expect("added").id;
    it.control.verify(&[id]).expect("verified");
    it.wait_for("the result", id, |it| it.transfer.missing == 0);
    it.wait_until_stopped(id);
    it.control.verify(&[id]).expect("verified");
    it.control.start(&[id], false).expect("started");
    it.wait_for("the seed", id, |it| it.activity == Activity::Seeding && it.transfer.missing == 0);
}

#[test]
fn a_torrent_whose_files_are_gone_is_not_downloaded_again_before_the_user_asks() {
    for is_complete in [true, false] {
        let temp = tempfile::tempdir().expect("a folder");
        let mut it = Fixture::start(temp.path());
        let bytes = torrent(&it.downloads(), "x", None);
        if !is_complete {
            std::fs::remove_file(it.downloads().join("x/a.bin")).expect("removed");
        }
        let id = it.add(&bytes).id;
        let wanted = if is_complete { Activity::Seeding } else { Activity::Downloading };
        it.wait_for("the check", id, |it| it.activity == wanted && it.transfer.verified > 0);
        it.control.stop(&[id]).expect("stopped");
        it.wait_until_stopped(id);
        it.service = None;
        std::fs::rename(it.downloads(), temp.path().join("unmounted")).expect("moved");
        std::fs::create_dir(it.downloads()).expect("the mount point");
        it.restart();
        let is_told = |it: &TorrentSummary| {
            it.problem.as_ref().is_some_and(|problem| problem.message.contains("none of the torrent's files is in"))
        };
        for _ in 0..2 {
            it.control.start(&[id], false).expect("started");
            it.wait_for("the problem", id, |it| it.activity == Activity::Stopped && is_told(it));
            assert!(is_empty(&it.downloads()), "nothing was created");
        }
        std::fs::remove_dir(it.downloads()).expect("removed");
        std::fs::rename(temp.path().join("unmounted"), it.downloads()).expect("mounted");
        it.control.start(&[id], false).expect("started");
        it.wait_for("it goes on", id, |it| it.activity == wanted && it.transfer.verified > 0 && it.problem.is_none());
        it.control.stop(&[id]).expect("stopped");
        it.wait_until_stopped(id);
        std::fs::remove_dir_all(it.downloads()).expect("deleted");
        it.control.verify(&[id]).expect("verified");
        it.wait_for("the result", id, |it| it.transfer.verified == 0 && is_told(it));
        it.wait_until_stopped(id);
        it.control.start(&[id], false).expect("started");
        it.wait_for("the download from the start", id, |it| it.activity == Activity::Downloading);
    }
}

#[test]
fn what_was_found_in_the_folder_before_is_not_credited_to_the_new_folder() {
    let temp = tempfile::tempdir().expect("a folder");
    let it = Fixture::start(temp.path());
    let bytes = torrent(&it.downloads(), "x", None);
    let id = it.add(&bytes).id;
    let [old, empty] = ["", "empty"].map(|name| it.downloads().join(name));
    std::fs::create_dir(&empty).expect("a folder");
    for round in 0..20 {
        // In every other round, the events of the check may still be unread when the folder changes.
        if round % 2 == 0 {
            it.wait_for("the seed", id, |it| it.activity == Activity::Seeding && it.transfer.missing == 0);
        }
        it.control.set_folder(&[id], &empty, false).expect("another folder");
        it.wait_for("the result", id, |it| {
            assert_eq!(it.transfer.verified, 0, "round {round}");
            it.activity == Activity::Stopped || it.activity == Activity::Downloading
        });
        it.control.set_folder(&[id], &old, false).expect("the folder again");
        it.control.start(&[id], false).expect("started");
    }
    it.wait_for("the seed", id, |it| it.activity == Activity::Seeding && it.transfer.missing == 0);
}
