//! A whole service: torrents are added, run, survive restarts, and are removed.

mod checking;
mod dormant;
mod edited_files;
mod files;
mod links;
mod overwriting;
mod permitted;
mod text_limits;
mod watched;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use rustix::fs::{FileType, Mode};

use crate::metainfo::{CreateOptions, CreatePlan};
use crate::service::model::{
    Activity, AddRequest, AddSource, AddedTorrent, BandwidthGroup, Control, ControlError, DataFileId, FileIndexes,
    Priority, ProblemKind, QueueMove, TorrentChange, TorrentId, TorrentSummary,
};
use crate::service::settings::SettingsChange;
use crate::service::state_folder::{SessionRecord, read_json};
use crate::service::{Service, ServiceError, ServiceOptions};
use crate::tracker_server::{TrackerServer, TrackerServerConfig};

/// A service with its folders, in a folder of its own.
struct Fixture {
    folder: PathBuf,
    dormant_after: Duration,
    service: Option<Service>,
    control: Arc<dyn Control>,
}

impl Fixture {
    fn start(folder: &Path) -> Fixture {
        Fixture::with_dormant_after(folder, Duration::from_secs(60))
    }

    /// A service whose seeds run for so long without peers.
    fn with_dormant_after(folder: &Path, dormant_after: Duration) -> Fixture {
        let options = ServiceOptions { seed_dormant_after: dormant_after, ..options(folder) };
        let service = Service::start(options).expect("a service");
        let control = service.control();
        control
            .change_settings(&SettingsChange {
                uses_dht: Some(false),
                uses_lsd: Some(false),
                ..SettingsChange::default()
            })
            .expect("settings");
        Fixture { folder: folder.to_owned(), dormant_after, service: Some(service), control }
    }

    fn restart(&mut self) {
        self.service = None;
        let options = ServiceOptions { seed_dormant_after: self.dormant_after, ..options(&self.folder) };
        let service = Service::start(options).expect("a service");
        (self.control, self.service) = (service.control(), Some(service));
    }

    fn downloads(&self) -> PathBuf {
        self.folder.join("downloads")
    }

    fn add(&self, torrent: &[u8]) -> AddedTorrent {
        let request = AddRequest { source: AddSource::Metainfo(torrent.to_vec()), ..AddRequest::default() };
        self.control.add(request).expect("added")
    }

    fn summary(&self, id: TorrentId) -> TorrentSummary {
        self.control.torrent(id).expect("the torrent")
    }

    fn wait_for(&self, what: &str, id: TorrentId, condition: impl Fn(&TorrentSummary) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.control.torrent(id).is_some_and(|summary| condition(&summary)) {
            assert!(Instant::now() < deadline, "not in time: {what}: {:?}", self.control.torrent(id));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn options(folder: &Path) -> ServiceOptions {
    let mut options = ServiceOptions::new(folder.join("state"), folder.join("downloads"));
    options.dht.routers.clear();
    options.peer_port = Some(0);
    options
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Creates files in `folder` and returns their torrent.
fn torrent(folder: &Path, name: &str, tracker: Option<&str>) -> Vec<u8> {
    let content = folder.join(name);
    std::fs::create_dir_all(&content).expect("a folder");
    std::fs::write(content.join("a.bin"), vec![b'a'; 100_000]).expect("a file");
    std::fs::write(content.join("b.bin"), vec![b'b'; 50_000]).expect("a file");
    let plan = CreatePlan::scan(&content, &[]).expect("a plan");
    let mut options = CreateOptions::default();
    options.tiers.extend(tracker.map(|tracker| vec![tracker.to_owned()]));
    plan.create(&options, &AtomicU64::default(), &AtomicBool::default()).expect("a torrent").bytes
}

#[test]
fn one_service_downloads_from_another_and_both_remember_it() {
    let temp = tempfile::tempdir().expect("a folder");
    let tracker = TrackerServer::start(([127, 0, 0, 1], 0).into(), TrackerServerConfig::default()).expect("a tracker");
    let [mut seed, mut leecher] = ["seed", "leecher"].map(|name| Fixture::start(&temp.path().join(name)));
    let bytes = torrent(&seed.downloads(), "photos", Some(&format!("http://{}/announce", tracker.addr())));
    let seeding = seed.add(&bytes);
    seed.wait_for("the seed", seeding.id, |it| it.activity == Activity::Seeding && it.transfer.missing == 0);
    let added = leecher.add(&bytes);
    assert!(!added.is_duplicate && leecher.add(&bytes).is_duplicate);
    leecher
        .wait_for("the download", added.id, |it| it.activity == Activity::Seeding && it.transfer.downloaded >= 150_000);
    assert_eq!(std::fs::read(leecher.downloads().join("photos/b.bin")).expect("the file"), vec![b'b'; 50_000]);
    let done = leecher.summary(added.id);
    assert!(done.times.done.0 > 0, "{done:?}");
    for fixture in [&mut seed, &mut leecher] {
        fixture.restart();
    }
    leecher.wait_for("the seed after a restart", added.id, |it| it.activity == Activity::Seeding);
    let again = leecher.summary(added.id);
    assert_eq!((again.times.done, again.times.added), (done.times.done, done.times.added));
    assert!(again.transfer.downloaded >= 150_000);
    assert!(seed.summary(seeding.id).transfer.uploaded >= 150_000);
    let files = leecher.control.files(added.id);
    assert!(files.len() == 2 && files.iter().all(|file| file.have == file.length), "{files:?}");
}

#[test]
fn nothing_stays_of_a_torrent_that_is_refused() {
    let temp = tempfile::tempdir().expect("a folder");
    let it = Fixture::start(temp.path());
    let bytes = torrent(&it.downloads(), "x", None);
    let mut request = AddRequest { source: AddSource::Metainfo(bytes.clone()), ..AddRequest::default() };
    request.change.labels = Some(vec!["x".repeat(500)]);
    assert!(matches!(it.control.add(request), Err(ControlError::Invalid(_))));
    let names = || std::fs::read_dir(temp.path().join("state/torrents")).expect("a folder").flatten();
    // A record that is just being saved has another name at first.
    let is_saved = |name: &std::ffi::OsStr| !name.to_string_lossy().ends_with(".new");
    let files = || names().filter(|entry| is_saved(&entry.file_name())).count();
    assert_eq!(files(), 0);
    it.add(&bytes);
    assert_eq!(files(), 2);
}

#[test]
fn the_number_of_a_removed_torrent_is_not_used_again_after_a_kill() {
    let temp = tempfile::tempdir().expect("a folder");
    let it = Fixture::start(temp.path());
    let id = it.add(&torrent(&it.downloads(), "x", None)).id;
    it.control.remove(&[id], false).expect("removed");
    let state = temp.path().join("state");
    until("its record is gone", || std::fs::read_dir(state.join("torrents")).expect("a folder").count() == 0);
    // What a kill would leave now.
    let session: SessionRecord = read_json(&state.join("session.json")).expect("readable").expect("a file");
    assert!(session.next_id > id.0, "{session:?}");
}

#[test]
fn a_stopped_torrent_stays_stopped_over_a_restart_and_settings_stay() {
    let temp = tempfile::tempdir().expect("a folder");
    let mut it = Fixture::start(temp.path());
    let bytes = torrent(&it.downloads(), "x", None);
    let id = it.add(&bytes).id;
    it.wait_for("the seed", id, |it| it.activity == Activity::Seeding);
    it.control.stop(&[id]).expect("stopped");
    it.wait_for("the stop", id, |it| it.activity == Activity::Stopped);
    let change = TorrentChange {
        labels: Some(vec!["linux".into()]),
        seed_ratio: Some(3.5),
        unwanted: FileIndexes::Some(vec![1]),
        priority_high: FileIndexes::All,
        ..TorrentChange::default()
    };
    it.control.change(&[id], &change).expect("changed");
    it.control
        .change_settings(&SettingsChange { down_limit: Some(77), ..SettingsChange::default() })
        .expect("settings");
    it.restart();
    let summary = it.summary(id);
    assert_eq!(summary.activity, Activity::Stopped);
    assert_eq!((summary.settings.labels.as_slice(), summary.settings.seed_ratio), (&["linux".to_owned()][..], 3.5));
    let files = it.control.files(id);
    assert!(files[0].is_wanted && !files[1].is_wanted && files[1].priority == Priority::High, "{files:?}");
    assert_eq!(it.control.settings().down_limit.kilobytes, 77);
}

#[test]
fn an_incomplete_torrent_shows_what_it_has_of_its_files_before_it_runs_again() {
    let temp = tempfile::tempdir().expect("a folder");
    let mut it = Fixture::start(temp.path());
    let bytes = torrent(&it.downloads(), "x", None);
    std::fs::remove_file(it.downloads().join("x/a.bin")).expect("removed");
    let id = it.add(&bytes).id;
    it.wait_for("the check", id, |it| it.activity == Activity::Downloading && it.transfer.verified > 0);
    it.control.stop(&[id]).expect("stopped");
    it.wait_for("the stop", id, |it| it.activity == Activity::Stopped && it.peers.connected == 0);
    it.restart();
    let (files, verified) = (it.control.files(id), it.summary(id).transfer.verified);
    assert_eq!(files.iter().map(|file| file.have).sum::<u64>(), verified, "{files:?}");
    assert!(verified > 0 && files[1].have > files[0].have, "{files:?}");
    assert!(it.control.pieces(id).have.iter().any(|&byte| byte > 0));
}

#[test]
fn the_queue_decides_who_downloads() {
    let temp = tempfile::tempdir().expect("a folder");
    let it = Fixture::start(temp.path());
    it.control
        .change_settings(&SettingsChange { queue_downloads: Some(1), ..SettingsChange::default() })
        .expect("settings");
    let ids: Vec<TorrentId> =
        ["a", "b", "c"].iter().map(|name| it.add(&torrent(&temp.path().join("elsewhere"), name, None)).id).collect();
    it.wait_for("the first", ids[0], |it| it.activity == Activity::Downloading);
    it.wait_for("the others wait", ids[1], |it| it.activity == Activity::DownloadWaiting);
    it.control.move_in_queue(&[ids[2]], QueueMove::Top).expect("moved");
    it.wait_for("the last one is first now", ids[2], |it| it.activity == Activity::Downloading);
    it.wait_for("the first waits", ids[0], |it| it.activity == Activity::DownloadWaiting && it.queue_position == 1);
    it.control.start(&[ids[1]], true).expect("started");
    it.wait_for("one is forced", ids[1], |it| it.activity == Activity::Downloading);
    assert_eq!(it.summary(ids[2]).activity, Activity::Downloading);
}

#[test]
fn a_file_in_the_way_stops_a_torrent_until_it_may_overwrite_it() {
    let temp = tempfile::tempdir().expect("a folder");
    let it = Fixture::start(temp.path());
    let bytes = torrent(&temp.path().join("elsewhere"), "x", None);
    std::fs::create_dir_all(it.downloads().join("x")).expect("a folder");
    std::fs::write(it.downloads().join("x/a.bin"), vec![b'?'; 100_000]).expect("a file of the user's");
    let id = it.add(&bytes).id;
    let is_in_the_way =
        |it: &TorrentSummary| it.problem.as_ref().is_some_and(|problem| problem.kind == ProblemKind::FilesInTheWay);
    it.wait_for("the problem", id, |it| it.activity == Activity::Stopped && is_in_the_way(it));
    assert_eq!(std::fs::read(it.downloads().join("x/a.bin")).expect("the file"), vec![b'?'; 100_000]);
    it.control.overwrite(id).expect("overwritten");
    it.wait_for("it downloads", id, |it| it.activity == Activity::Downloading && it.problem.is_none());
}

#[test]
fn folders_outside_of_the_permitted_ones_are_refused() {
    let temp = tempfile::tempdir().expect("a folder");
    let it = Fixture::start(temp.path());
    let bytes = torrent(&temp.path().join("elsewhere"), "x", None);
    let bad = [temp.path().join("other"), it.downloads().join("../other"), "relative".into(), "/etc".into()];
    for folder in bad {
        let request = AddRequest {
            source: AddSource::Metainfo(bytes.clone()),
            folder: Some(folder.clone()),
            ..AddRequest::default()
        };
        assert!(matches!(it.control.add(request), Err(ControlError::OutsideFolders(_))), "{}", folder.display());
        let change = SettingsChange { download_folder: Some(folder.clone()), ..SettingsChange::default() };
        assert!(it.control.change_settings(&change).is_err());
        assert!(it.control.free_space(&folder).is_err());
    }
    assert!(it.control.free_space(&it.downloads().join("sub")).is_ok_and(|(free, total)| free <= total && total > 0));
}

#[test]
fn a_removed_torrent_is_gone_for_good_and_its_number_is_not_used_again() {
    let temp = tempfile::tempdir().expect("a folder");
    let mut it = Fixture::start(temp.path());
    let bytes = torrent(&it.downloads(), "x", None);
    let id = it.add(&bytes).id;
    it.wait_for("the seed", id, |it| it.activity == Activity::Seeding);
    it.control.remove(&[id], false).expect("removed");
    until("it is gone", || it.control.torrent(id).is_none());
    assert_eq!(it.control.recently_removed(), [id]);
    assert!(it.downloads().join("x/a.bin").exists(), "its files stay");
    it.restart();
    assert!(it.control.torrents().is_empty());
    // Its removal may go on for a moment.
    until("it is added again", || {
        let request = AddRequest { source: AddSource::Metainfo(bytes.clone()), ..AddRequest::default() };
        it.control.add(request).is_ok_and(|added| added.id > id)
    });
}

#[test]
fn torrents_of_the_watch_folder_are_added_but_those_of_downloads_are_not() {
    let temp = tempfile::tempdir().expect("a folder");
    let watched = temp.path().join("watched");
    std::fs::create_dir(&watched).expect("a folder");
    let elsewhere = temp.path().join("elsewhere");
    let start = || {
        let mut options = options(temp.path());
        options.watch_folder = Some(watched.clone());
        Service::start(options).expect("a service")
    };
    std::fs::write(watched.join("a.torrent"), torrent(&elsewhere, "a", None)).expect("written");
    rustix::fs::mknodat(rustix::fs::CWD, watched.join("b.torrent"), FileType::Fifo, Mode::RUSR, 0).expect("a FIFO");
    std::fs::create_dir_all(temp.path().join("downloads")).expect("a folder");
    std::fs::write(temp.path().join("downloads/c.torrent"), torrent(&elsewhere, "c", None)).expect("written");
    std::os::unix::fs::symlink(temp.path().join("downloads/c.torrent"), watched.join("c.torrent")).expect("a link");
    let service = start();
    let control = service.control();
    until("the first torrent", || watched.join("a.torrent.added").exists());
    // Written at once, then completed.
    let bytes = torrent(&elsewhere, "d", None);
    std::fs::write(watched.join("d.torrent"), &bytes[..100]).expect("written");
    std::fs::write(watched.join("d.torrent"), &bytes).expect("written");
    until("the second torrent", || watched.join("d.torrent.added").exists());
    control.change_settings(&SettingsChange { deletes_watched: Some(true), ..SettingsChange::default() }).expect("set");
    let links: String = ["a", "b"].map(|digit| format!("magnet:?xt=urn:btih:{}\n", digit.repeat(40))).concat();
    std::fs::write(temp.path().join("new"), links).expect("written");
    std::fs::rename(temp.path().join("new"), watched.join("e.magnet")).expect("moved");
    until("the links", || !watched.join("e.magnet").exists());
    assert_eq!(control.torrents().len(), 4);
    assert!(watched.join("c.torrent").exists() && watched.join("b.torrent").exists());
    drop(service);
    drop(start());
    let mut options = options(temp.path());
    options.watch_folder = Some(temp.path().join("none"));
    assert!(matches!(Service::start(options), Err(ServiceError::WatchFolder { .. })));
}

#[test]
fn the_selection_of_a_running_torrent_can_change() {
    let temp = tempfile::tempdir().expect("a folder");
    let tracker = TrackerServer::start(([127, 0, 0, 1], 0).into(), TrackerServerConfig::default()).expect("a tracker");
    let [seed, leecher] = ["seed", "leecher"].map(|name| Fixture::start(&temp.path().join(name)));
    let bytes = torrent(&seed.downloads(), "photos", Some(&format!("http://{}/announce", tracker.addr())));
    let seeding = seed.add(&bytes);
    seed.wait_for("the seed", seeding.id, |it| it.activity == Activity::Seeding && it.transfer.missing == 0);
    let change = TorrentChange { unwanted: FileIndexes::Some(vec![1]), ..TorrentChange::default() };
    let request = AddRequest { source: AddSource::Metainfo(bytes), change, ..AddRequest::default() };
    let id = leecher.control.add(request).expect("added").id;
    leecher.wait_for("the first file", id, |it| it.activity == Activity::Seeding);
    assert!(!leecher.downloads().join("photos/b.bin").exists());
    let all = TorrentChange { wanted: FileIndexes::All, ..TorrentChange::default() };
    leecher.control.change(&[id], &all).expect("changed");
    until("the second file", || {
        std::fs::read(leecher.downloads().join("photos/b.bin")).is_ok_and(|it| it == vec![b'b'; 50_000])
    });
    leecher.wait_for("it is complete", id, |it| it.activity == Activity::Seeding && it.transfer.missing == 0);
}

#[test]
fn a_torrent_that_is_refused_leaves_no_file() {
    let temp = tempfile::tempdir().expect("a folder");
    let it = Fixture::start(temp.path());
    let source = AddSource::Metainfo(torrent(&it.downloads(), "x", None));
    let change = TorrentChange { labels: Some(vec!["a,b".into()]), ..TorrentChange::default() };
    let refused = it.control.add(AddRequest { source, change, ..AddRequest::default() });
    assert!(matches!(refused, Err(ControlError::Invalid(_))), "{refused:?}");
    let files = std::fs::read_dir(temp.path().join("state/torrents")).expect("the state folder").count();
    assert_eq!((files, it.control.torrents().len()), (0, 0));
}

#[test]
fn a_bandwidth_group_that_cannot_be_saved_is_refused() {
    let temp = tempfile::tempdir().expect("a folder");
    let it = Fixture::start(temp.path());
    let group = |name: &str| BandwidthGroup { name: name.to_owned(), ..BandwidthGroup::default() };
    it.control.set_group(group("first")).expect("saved");
    let file = temp.path().join("state/session.json");
    std::fs::remove_file(&file).expect("removed");
    std::fs::create_dir(&file).expect("a folder in its place");
    assert!(matches!(it.control.set_group(group("second")), Err(ControlError::System(_))));
    assert_eq!(it.control.groups(), [group("first")]);
    std::fs::remove_dir(&file).expect("removed");
    it.control.set_group(group("second")).expect("saved");
    assert_eq!(it.control.groups().len(), 2);
}
