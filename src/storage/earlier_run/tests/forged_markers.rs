//! Markers from strangers' archives.

use super::*;

/// Changes the marker of a copied download, which keeps its time or gets another one.
fn forge(dir: &TempDir, at: Option<SystemTime>, change: impl FnOnce(&mut Marker)) {
    let path = dir.path().join(marker_name(&HASH));
    let at = at.unwrap_or_else(|| modified(path.clone()));
    let mut marker = storage(dir).read_marker(&HASH).unwrap().unwrap();
    change(&mut marker);
    fs::write(&path, marker.encode(&HASH)).unwrap();
    set_modified(path, at);
}

/// A stranger's archive can bring a marker with any times beside the user's own files.
#[test]
fn a_forged_marker_makes_no_file_of_the_users_ours() {
    let (now, hour) = (SystemTime::now(), Duration::from_secs(3600));
    let nanos = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as i64;
    // When the user's file was written and by which clock btsync ran; whether the file counts as moved with the marker.
    let case = |written: Option<SystemTime>, ran_until: i64| {
        let dir = moved();
        let one = dir.path().join("one");
        fs::write(&one, [vec![7; BLOCK], vec![0; 20_000 - BLOCK]].concat()).unwrap();
        let ran_until = if ran_until == 0 { nanos(modified(one.clone())) } else { ran_until };
        if let Some(at) = written {
            set_modified(one.clone(), at);
        }
        forge(&dir, Some(now - 2 * hour), |marker| (marker.earliest_write, marker.ran_until) = (1, ran_until));
        is_continued(&dir, OwnershipClaim::None)
    };
    assert!(case(Some(now - hour), nanos(now - hour)), "its times are those of a file that was moved");
    assert!(!case(Some(now - hour), nanos(now + 9 * hour)), "the clock was never there");
    assert!(!case(Some(now - hour), i64::MAX));
    assert!(!case(None, 0), "it was written where it is");
}

/// An archive of the torrent's folder may contain a marker.
#[test]
fn a_moved_marker_in_the_torrents_own_folder_proves_nothing_if_the_download_folder_is_writable() {
    let dir = moved();
    fs::create_dir(dir.path().join("t")).unwrap();
    let (marker, own) = (dir.path().join(marker_name(&HASH)), dir.path().join("t").join(marker_name(&HASH)));
    assert!(is_continued(&dir, OwnershipClaim::None));
    fs::rename(marker, own).unwrap();
    let mut it = storage(&dir);
    it.own_folder = "t".into();
    assert!(it.read_marker(&HASH).unwrap().is_some());
    assert_eq!(decide(&mut it, OwnershipClaim::None).1.unwrap()[1], FileAction::Compare);
}
