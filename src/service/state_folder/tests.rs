//! Tests of the state folder.

use super::*;
use crate::service::model::UnixTime;

fn record(id: u32) -> TorrentRecord {
    let hash = InfoHash([u8::try_from(id).expect("a small number"); 20]);
    TorrentRecord::new(TorrentId(id), hash, format!("torrent {id}"), "/downloads".into(), UnixTime(1))
}

#[test]
fn all_that_is_saved_is_there_after_a_restart() {
    let temp = tempfile::tempdir().expect("a folder");
    let path = temp.path().join("state");
    let state = StateFolder::open(&path).expect("a state folder");
    assert!(state.load().expect("an empty state").settings.is_none());
    let settings = SessionSettings { download_folder: "/elsewhere".into(), ..SessionSettings::default() };
    state.save_settings(&settings).expect("saved");
    for id in [2, 1, 9] {
        state.save_record(&record(id)).expect("saved");
        state.save_torrent(record(id).info_hash, b"de").expect("saved");
    }
    state.remove(TorrentId(1), record(1).info_hash).expect("removed");
    drop(state);
    let state = StateFolder::open(&path).expect("a state folder");
    let saved = state.load().expect("the state");
    assert_eq!(saved.settings, Some(settings));
    assert_eq!(saved.records, [record(2), record(9)]);
    assert_eq!(saved.session.next_id, 10);
    assert!(!state.torrent_file(record(1).info_hash).exists() && state.torrent_file(record(2).info_hash).exists());
}

#[test]
fn a_torrent_file_without_a_record_is_not_replaced() {
    let temp = tempfile::tempdir().expect("a folder");
    let state = StateFolder::open(temp.path()).expect("a state folder");
    let path = state.torrent_file(record(1).info_hash);
    fs::write(&path, b"theirs").expect("written");
    state.save_torrent(record(1).info_hash, b"theirs").expect("saved");
    state.save_torrent(record(1).info_hash, b"de").expect("saved");
    let kept = path.with_extension("torrent.old");
    assert_eq!(
        (fs::read(&path).expect("ours"), fs::read(&kept).expect("theirs")),
        (b"de".to_vec(), b"theirs".to_vec())
    );
    state.save_record(&record(1)).expect("saved");
    state.save_torrent(record(1).info_hash, b"d1:a0:e").expect("saved");
    assert_eq!(fs::read(&kept).expect("theirs"), b"theirs");
}

#[test]
fn all_that_is_confirmed_was_synced() {
    use crate::util::atomic_file::synced::count;
    let temp = tempfile::tempdir().expect("a folder");
    let state = StateFolder::open(temp.path()).expect("a state folder");
    let records: Vec<TorrentRecord> = (1..=20).map(record).collect();
    assert!(state.save_records(&records).iter().all(Result::is_ok));
    state.save_torrent(records[0].info_hash, b"de").expect("saved");
    state.save_settings(&SessionSettings::default()).expect("saved");
    state.save_session(&SessionRecord::default()).expect("saved");
    for record in &records {
        assert_eq!(count(&state.record_file(record.info_hash)), 1);
    }
    for file in [state.torrent_file(records[0].info_hash), temp.path().join(SETTINGS), temp.path().join(SESSION)] {
        assert_eq!(count(&file), 1, "{}", file.display());
    }
    for _ in 0..2 {
        state.sync().expect("synced");
        assert_eq!((count(temp.path()), count(&temp.path().join(TORRENTS))), (1, 1), "only after a change");
    }
    state.save_record(&records[0]).expect("saved");
    state.sync().expect("synced");
    assert_eq!((count(temp.path()), count(&temp.path().join(TORRENTS))), (1, 2), "only the folder that has changed");
    assert_eq!(state.load().expect("the state").records, records);
}

#[test]
fn a_second_service_is_kept_out() {
    let temp = tempfile::tempdir().expect("a folder");
    let first = StateFolder::open(temp.path()).expect("a state folder");
    assert!(matches!(StateFolder::open(temp.path()), Err(StateError::InUse(_))));
    drop(first);
    assert!(StateFolder::open(temp.path()).is_ok());
}

#[test]
fn a_damaged_record_costs_its_torrent_only_and_damaged_settings_are_an_error() {
    let temp = tempfile::tempdir().expect("a folder");
    let state = StateFolder::open(temp.path()).expect("a state folder");
    state.save_record(&record(3)).expect("saved");
    fs::write(state.record_file(record(4).info_hash), b"{\"id\":4").expect("written");
    fs::write(state.record_file(record(5).info_hash), serde_json::to_vec(&record(6)).expect("JSON")).expect("written");
    let mut same_number = record(7);
    same_number.id = TorrentId(3);
    state.save_record(&same_number).expect("saved");
    let saved = state.load().expect("the state");
    assert_eq!((saved.records.len(), saved.records[0].id), (1, TorrentId(3)));
    assert_eq!(saved.left_out.len(), 3, "{:?}", saved.left_out);
    fs::write(temp.path().join(SETTINGS), b"{").expect("written");
    assert!(matches!(state.load(), Err(StateError::Damaged { .. })));
}

#[test]
fn nothing_is_saved_that_could_not_be_read_again() {
    let temp = tempfile::tempdir().expect("a folder");
    let state = StateFolder::open(temp.path()).expect("a state folder");
    state.save_record(&record(3)).expect("saved");
    let mut large = record(3);
    large.name = "x".repeat(MAX_FILE);
    assert!(matches!(state.save_record(&large), Err(StateError::TooLarge(_))));
    assert_eq!(state.load().expect("the state").records, [record(3)], "the old one stays");
    let file = File::create(state.record_file(record(4).info_hash)).expect("a file");
    file.set_len(MAX_FILE as u64 + 1).expect("a length");
    assert_eq!(state.load().expect("the state").left_out.len(), 1);
}

#[test]
fn only_the_user_can_read_the_state() {
    use std::os::unix::fs::PermissionsExt as _;
    let temp = tempfile::tempdir().expect("a folder");
    let path = temp.path().join("state");
    let state = StateFolder::open(&path).expect("a state folder");
    state.save_record(&record(3)).expect("saved");
    let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&state.record_file(record(3).info_hash))), (0o700, 0o600));
}
