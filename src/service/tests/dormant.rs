//! Seeds without peers are dormant: they do not run, and everything that works with a running seed works with them.

use super::*;
use crate::service::model::LimitMode;

const SOON: Duration = Duration::from_millis(300);
const NEVER: Duration = Duration::from_secs(3600);

impl Fixture {
    fn runs(&self, id: TorrentId) -> bool {
        let service = self.service.as_ref().expect("it runs");
        service.control.published.lock().torrents.get(&id).is_some_and(|entry| entry.handle.is_some())
    }

    fn wait_until_dormant(&self, id: TorrentId) {
        self.wait_for("it is dormant", id, |it| it.activity == Activity::Seeding && !self.runs(id));
    }
}

fn tracker() -> (TrackerServer, String) {
    let tracker = TrackerServer::start(([127, 0, 0, 1], 0).into(), TrackerServerConfig::default()).expect("a tracker");
    let url = format!("http://{}/announce", tracker.addr());
    (tracker, url)
}

/// A seed that is dormant since the start of its service.
fn dormant(temp: &Path, dormant_after: Duration, tracker: Option<&str>) -> (Fixture, TorrentId, Vec<u8>) {
    let mut it = Fixture::with_dormant_after(temp, dormant_after);
    let bytes = torrent(&it.downloads(), "x", tracker);
    let id = it.add(&bytes).id;
    it.wait_for("the seed", id, |it| {
        it.activity == Activity::Seeding && it.transfer.missing == 0 && it.times.done.0 > 0
    });
    it.restart();
    it.wait_until_dormant(id);
    (it, id, bytes)
}

#[test]
fn a_dormant_seed_wakes_for_each_leecher_and_is_dormant_again() {
    let temp = tempfile::tempdir().expect("a folder");
    let (_tracker, url) = tracker();
    let (mut seed, id, bytes) = dormant(&temp.path().join("seed"), SOON, Some(&url));
    for round in 1..=2 {
        let leecher = Fixture::start(&temp.path().join(format!("leecher {round}")));
        let copy = leecher.add(&bytes).id;
        leecher.wait_for("the copy", copy, |it| it.activity == Activity::Seeding && it.transfer.downloaded >= 150_000);
        drop(leecher);
        seed.wait_until_dormant(id);
        let uploaded = seed.summary(id).transfer.uploaded;
        assert!(uploaded >= round * 150_000, "{uploaded}");
        assert!(seed.control.stats().current.uploaded >= uploaded, "{:?}", seed.control.stats());
    }
    let uploaded = seed.summary(id).transfer.uploaded;
    seed.restart();
    assert_eq!(seed.summary(id).transfer.uploaded, uploaded);
}

#[test]
fn a_new_seed_becomes_dormant_after_a_while_and_not_before() {
    let temp = tempfile::tempdir().expect("a folder");
    let it = Fixture::with_dormant_after(&temp.path().join("patient"), NEVER);
    let id = it.add(&torrent(&it.downloads(), "x", None)).id;
    it.wait_for("the seed", id, |it| it.activity == Activity::Seeding && it.times.done.0 > 0);
    assert!(it.runs(id));
    let it = Fixture::with_dormant_after(&temp.path().join("impatient"), SOON);
    let id = it.add(&torrent(&it.downloads(), "x", None)).id;
    it.wait_until_dormant(id);
}

#[test]
fn trackers_of_a_dormant_seed_can_be_seen_and_changed() {
    let temp = tempfile::tempdir().expect("a folder");
    let ((_first, url), (_second, other)) = (tracker(), tracker());
    let (it, id, _) = dormant(temp.path(), NEVER, Some(&url));
    let is_answered = |of: &str| {
        let trackers = it.control.trackers(id);
        trackers.len() == 1
            && trackers[0].announce == of
            && trackers[0].next.is_some()
            && trackers[0].last.as_ref().is_some_and(|last| last.is_success && last.seeders == Some(1))
    };
    until("the tracker has answered", || is_answered(&url));
    it.control.reannounce(&[id]).expect("announced");
    let change = TorrentChange { trackers: Some(vec![vec![other.clone()]]), ..TorrentChange::default() };
    it.control.change(&[id], &change).expect("changed");
    until("the other tracker has answered", || is_answered(&other));
    let bad =
        TorrentChange { trackers: Some(vec![vec!["http://127.0.0.1:1/announce".into()]]), ..TorrentChange::default() };
    it.control.change(&[id], &bad).expect("changed");
    until("it fails", || it.control.trackers(id)[0].last.as_ref().is_some_and(|last| !last.is_success));
    assert!(!it.runs(id));
}

#[test]
fn a_dormant_seed_can_be_changed_verified_and_stopped() {
    let temp = tempfile::tempdir().expect("a folder");
    let (it, id, _) = dormant(temp.path(), SOON, None);
    let change = TorrentChange {
        labels: Some(vec!["linux".into()]),
        up_limit: Some(77),
        is_up_limited: Some(true),
        unwanted: FileIndexes::Some(vec![1]),
        ..TorrentChange::default()
    };
    it.control.change(&[id], &change).expect("changed");
    let summary = it.summary(id);
    assert_eq!((summary.settings.labels.len(), summary.settings.up_limit.kilobytes), (1, 77));
    assert_eq!((summary.activity, summary.transfer.wanted), (Activity::Seeding, 100_000));
    let all = TorrentChange { wanted: FileIndexes::All, ..TorrentChange::default() };
    it.control.change(&[id], &all).expect("changed");
    it.wait_for("everything is there", id, |it| it.transfer.wanted == 150_000 && it.transfer.missing == 0);
    it.wait_until_dormant(id);
    it.control.verify(&[id]).expect("verified");
    it.wait_for("it is checked", id, |it| it.activity == Activity::Seeding && it.check_progress == 0.0);
    it.wait_until_dormant(id);
    it.control.stop(&[id]).expect("stopped");
    it.wait_for("the stop", id, |it| it.activity == Activity::Stopped);
    it.control.start(&[id], true).expect("started");
    it.wait_until_dormant(id);
    it.control.remove(&[id], true).expect("removed");
    until("its files are gone", || !it.downloads().join("x").exists() && it.control.torrent(id).is_none());
}

#[test]
fn the_files_of_a_dormant_seed_can_be_read_moved_and_renamed() {
    let temp = tempfile::tempdir().expect("a folder");
    let (it, id, _) = dormant(temp.path(), SOON, None);
    let file = crate::service::model::DataFileId { torrent: id, index: 0 };
    assert!(it.control.open_file(file, [127, 0, 0, 1].into()).is_ok());
    it.control.rename(id, "x/b.bin", "c.bin").expect("renamed");
    until("the file has its new name", || it.downloads().join("x/c.bin").exists());
    it.wait_until_dormant(id);
    let new = it.downloads().join("new");
    it.control.set_folder(&[id], &new, true).expect("moved");
    it.wait_for("it has moved", id, |it| it.folder == new && it.activity == Activity::Seeding);
    it.wait_until_dormant(id);
    assert!(new.join("x/c.bin").exists() && it.summary(id).transfer.missing == 0);
}

#[test]
fn goals_count_while_a_seed_is_dormant() {
    let temp = tempfile::tempdir().expect("a folder");
    let (it, id, _) = dormant(temp.path(), NEVER, None);
    let change =
        TorrentChange { seed_idle_mode: Some(LimitMode::Own), seed_idle_minutes: Some(0), ..TorrentChange::default() };
    it.control.change(&[id], &change).expect("changed");
    it.wait_for("its goal", id, |it| it.activity == Activity::Stopped && it.is_finished);
}

#[test]
fn a_dormant_seed_without_files_says_so_when_it_wakes() {
    let temp = tempfile::tempdir().expect("a folder");
    let (_tracker, url) = tracker();
    let (seed, id, bytes) = dormant(&temp.path().join("seed"), NEVER, Some(&url));
    std::fs::remove_dir_all(seed.downloads().join("x")).expect("removed");
    let leecher = Fixture::start(&temp.path().join("leecher"));
    leecher.add(&bytes);
    seed.wait_for("it notices", id, |it| it.activity == Activity::Stopped && it.problem.is_some());
    assert!(!seed.downloads().join("x").exists(), "it is not downloaded again");
}

#[test]
fn dormant_seeds_survive_new_network_settings() {
    let temp = tempfile::tempdir().expect("a folder");
    let (_tracker, url) = tracker();
    let (seed, id, bytes) = dormant(&temp.path().join("seed"), NEVER, Some(&url));
    let port = seed.control.peer_port();
    let change = SettingsChange { peer_limit: Some(33), ..SettingsChange::default() };
    seed.control.change_settings(&change).expect("changed");
    until("there is a new client", || seed.control.peer_port() != port);
    seed.wait_until_dormant(id);
    let leecher = Fixture::start(&temp.path().join("leecher"));
    let copy = leecher.add(&bytes).id;
    leecher.wait_for("the copy", copy, |it| it.activity == Activity::Seeding && it.transfer.downloaded >= 150_000);
}
