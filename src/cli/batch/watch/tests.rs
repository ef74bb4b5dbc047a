use super::*;

#[test]
fn files_are_told_by_their_names() {
    let kind = |name: &str| watched_kind(OsStr::new(name));
    assert_eq!(
        (kind("x.torrent"), kind("X.Torrent")),
        (Some(WatchedKind::TorrentFile), Some(WatchedKind::TorrentFile))
    );
    assert_eq!(kind("x.magnet"), Some(WatchedKind::Magnets));
    for other in ["x", "x.torrent.part", ".x.torrent", ".torrent", "x.torrent~", "torrent"] {
        assert_eq!(kind(other), None, "{other}");
    }
}

#[test]
fn a_magnet_file_holds_links_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.magnet");
    let read = |text: &[u8]| {
        fs::write(&path, text).unwrap();
        magnets(File::open(&path), &path).map(|sources| sources.len()).map_err(|failure| failure.code)
    };
    let link = format!("magnet:?xt=urn:btih:{}", "a".repeat(40));
    assert_eq!(read(format!("# two\n{link}\n\n{link}\n").as_bytes()), Ok(2));
    let endless = vec![b'#'; MAX_MAGNET_FILE as usize + 1];
    for bad in [&b""[..], b"\xff", &endless, b"magnet:?xt=urn:btih:x", b"x.torrent", b"http://h/x"] {
        assert_eq!(read(bad), Err(Exit::BadMagnet), "{bad:?}");
    }
}

#[test]
fn a_watched_file_that_a_download_replaced_is_not_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.torrent");
    fs::write(&path, b"no torrent").unwrap();
    let read = |is_known| reload(&path, |_| is_known, || true).map(drop).map_err(|failure| failure.message);
    assert!(read(true).unwrap_err().contains("it now belongs to a download"));
    assert!(!read(false).unwrap_err().contains("belongs to a download"));
}

#[test]
fn links_into_the_download_folder_are_told_from_others() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let at = |name: &str| root.join(name);
    for folder in ["in", "out"] {
        fs::create_dir(at(folder)).unwrap();
    }
    for (name, target) in [("a", "../out/x"), ("b", "a"), ("c", "../outer/x"), ("d", "../x")] {
        fs::write(at("out/x"), "").unwrap();
        std::os::unix::fs::symlink(target, at("in").join(name)).unwrap();
    }
    let found = ["a", "b", "c", "d"].map(|name| is_link_into(&at("in").join(name), &at("out")));
    assert_eq!(found, [true, true, false, false]);
    assert!(!is_link_into(&at("out/x"), &at("out")), "not a link");
}

#[test]
fn a_folder_that_goes_away_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("in");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("x.torrent"), "no").unwrap();
    let (on_event, told) = crossbeam_channel::unbounded();
    let watch =
        FolderWatch::start(&folder, (dir.path(), None), || true, move |sight| drop(on_event.send(sight))).unwrap();
    let next = || told.recv_timeout(std::time::Duration::from_secs(60)).unwrap();
    assert!(matches!(next(), WatchEvent::File(path, Err(_)) if path.ends_with("x.torrent")));
    fs::remove_dir_all(&folder).unwrap();
    assert!(matches!(next(), WatchEvent::Ended(_)));
    drop(watch);
    assert!(FolderWatch::start(&folder, (dir.path(), None), || true, |_| {}).is_err());
}
