//! Links show only bytes that a run or the resume data verified, and that nobody has changed since.

use std::net::Ipv4Addr;

use super::*;
use crate::http_server::test_waker;
use crate::service::model::{DataFileId, OpenDataFile};

static SECRET: [u8; 100_000] = [b'?'; 100_000];

fn seeding(temp: &Path) -> (Fixture, TorrentId) {
    let it = Fixture::start(temp);
    let id = it.add(&torrent(&it.downloads(), "x", None)).id;
    it.wait_for("the seed", id, |it| it.activity == Activity::Seeding && it.times.done.0 > 0);
    (it, id)
}

fn open(it: &Fixture, id: TorrentId) -> Option<OpenDataFile> {
    it.control.open_file(DataFileId { torrent: id, index: 0 }, Ipv4Addr::LOCALHOST.into()).ok()
}

/// What the open file shows; `None` if it shows nothing.
fn shown(file: &OpenDataFile) -> Option<Vec<u8>> {
    (file.read)(0, 100, &test_waker()).ok()
}

#[test]
fn a_link_does_not_show_an_unverified_file_of_another_folder() {
    let temp = tempfile::tempdir().expect("a folder");
    let (it, id) = seeding(temp.path());
    let (old, new) = (it.downloads(), it.downloads().join("new"));
    std::fs::create_dir_all(new.join("x")).expect("a folder");
    std::fs::write(new.join("x/a.bin"), SECRET).expect("a file of the user's");
    let opened_before = open(&it, id).expect("a file");
    let is_harmless = || {
        let files = open(&it, id).into_iter().collect::<Vec<_>>();
        let mut shown = files.iter().chain([&opened_before]).filter_map(shown);
        assert!(shown.all(|bytes| bytes.is_empty() || bytes == [b'a'; 100]));
    };
    for round in 0..6 {
        let folder = if round % 2 == 0 { &new } else { &old };
        if round < 2 {
            it.control.set_folder(&[id], folder, false).expect("another folder");
        } else {
            let change = TorrentChange { folder: Some(folder.clone()), ..TorrentChange::default() };
            it.control.change(&[id], &change).expect("another folder");
        }
        is_harmless();
        it.wait_for("the check", id, |it| {
            is_harmless();
            if folder == &new { it.activity == Activity::Stopped } else { it.activity != Activity::Checking }
        });
        is_harmless();
        it.control.start(&[id], false).expect("started");
        is_harmless();
        let is_checked = |it: &TorrentSummary| {
            if folder == &old {
                it.activity == Activity::Seeding && it.transfer.missing == 0
            } else {
                it.activity == Activity::Stopped && it.problem.is_some()
            }
        };
        it.wait_for("the result", id, is_checked);
    }
}

#[test]
fn an_open_link_does_not_show_what_another_program_writes_into_the_file() {
    for runs in [true, false] {
        let temp = tempfile::tempdir().expect("a folder");
        let (it, id) = seeding(temp.path());
        if !runs {
            it.control.stop(&[id]).expect("stopped");
            it.wait_for("the stop", id, |it| it.activity == Activity::Stopped);
            until("it can be read", || open(&it, id).is_some());
        }
        let file = open(&it, id).expect("a file");
        assert_eq!(shown(&file), Some(vec![b'a'; 100]), "runs: {runs}");
        std::fs::write(it.downloads().join("x/a.bin"), SECRET).expect("written");
        assert_eq!(shown(&file), None, "runs: {runs}");
        assert!(open(&it, id).is_none_or(|file| shown(&file).is_none()), "runs: {runs}");
    }
}

#[test]
fn a_link_goes_on_when_its_seed_stops_and_runs_again() {
    let temp = tempfile::tempdir().expect("a folder");
    let (it, id) = seeding(temp.path());
    let running = open(&it, id).expect("a file");
    it.control.stop(&[id]).expect("stopped");
    until("the run has ended", || shown(&running).is_none());
    // A run that has just ended counts as ended, even if the manager does not know it yet.
    let stopped = open(&it, id).expect("a file");
    assert_eq!(shown(&stopped), Some(vec![b'a'; 100]));
    it.control.start(&[id], false).expect("started");
    let is_shown = || open(&it, id).and_then(|file| shown(&file)) == Some(vec![b'a'; 100]);
    until("it is shown again", is_shown);
}
