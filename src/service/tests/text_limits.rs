//! What a service keeps has limits, so that it starts again with everything.

use super::{Fixture, options, torrent};
use crate::service::Service;
use crate::service::model::{AddRequest, AddSource, BandwidthGroup, ControlError, RateLimit, TorrentChange};
use crate::service::settings::SettingsChange;

#[test]
fn what_a_remote_control_sends_cannot_grow_a_record_or_the_settings_without_limit() {
    let temp = tempfile::tempdir().expect("a folder");
    let mut it = Fixture::start(temp.path());
    let bytes = torrent(&it.downloads(), "x", None);
    let id = it.add(&bytes).id;
    let group = TorrentChange { group: Some("x".repeat(129)), ..TorrentChange::default() };
    assert!(matches!(it.control.change(&[id], &group), Err(ControlError::Invalid(_))));
    let group = BandwidthGroup {
        name: "x".repeat(129),
        honors_session_limits: true,
        down_limit: RateLimit::default(),
        up_limit: RateLimit::default(),
    };
    assert!(matches!(it.control.set_group(group), Err(ControlError::Invalid(_))));
    let many: Vec<Vec<String>> = (0..513).map(|n| vec![format!("udp://{n}:1")]).collect();
    let long = vec![vec!["udp://a".to_owned() + &"b".repeat(2048)]];
    for trackers in [many, long] {
        let change = SettingsChange { default_trackers: Some(trackers.clone()), ..SettingsChange::default() };
        assert!(matches!(it.control.change_settings(&change), Err(ControlError::Invalid(_))));
        let change = TorrentChange { trackers: Some(trackers), ..TorrentChange::default() };
        assert!(matches!(it.control.change(&[id], &change), Err(ControlError::Invalid(_))));
    }
    let long = it.downloads().join("a/".repeat(3000));
    let change = SettingsChange { download_folder: Some(long.clone()), ..SettingsChange::default() };
    assert!(matches!(it.control.change_settings(&change), Err(ControlError::Invalid(_))));
    assert!(matches!(it.control.free_space(&long), Err(ControlError::Invalid(_))));
    assert!(matches!(it.control.set_folder(&[id], &long, false), Err(ControlError::Invalid(_))));
    let request = AddRequest { source: AddSource::Metainfo(bytes), folder: Some(long), ..AddRequest::default() };
    assert!(matches!(it.control.add(request), Err(ControlError::Invalid(_))));
    it.restart();
    assert_eq!(it.control.torrents().len(), 1);
}

#[test]
fn a_torrent_whose_record_cannot_be_read_is_reported() {
    let temp = tempfile::tempdir().expect("a folder");
    let mut it = Fixture::start(temp.path());
    let id = it.add(&torrent(&it.downloads(), "x", None)).id;
    let record = temp.path().join(format!("state/torrents/{}.json", it.summary(id).info_hash));
    it.service = None;
    std::fs::write(&record, "{").expect("written");
    let service = Service::start(options(temp.path())).expect("a service");
    let notices = service.control().notices();
    assert!(notices.len() == 1 && notices[0].contains(&*record.to_string_lossy()), "{notices:?}");
    assert!(service.control().torrents().is_empty());
}
