use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::*;
use crate::service::Service;
use crate::service::model::{Activity, LimitMode};
use crate::service::record::DesiredState;

/// State folders of Transmission 3.00 and qBittorrent 4.5.2: `photos` with two files, of which the second is not wanted, and
/// `single.bin`, which is paused.
fn fixture(client: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/import").join(client)
}

fn options(folder: &Path) -> ServiceOptions {
    let mut options = ServiceOptions::new(folder.join("state"), folder.join("downloads"));
    options.dht.routers.clear();
    options.peer_port = Some(0);
    options
}

/// The records of a state folder after an import.
fn imported(from: &str) -> Vec<TorrentRecord> {
    let temp = tempfile::tempdir().expect("a folder");
    let mut options = options(temp.path());
    let import = |options: &ServiceOptions| match from {
        "transmission" => Service::import_transmission(options, &fixture(from)),
        _ => Service::import_qbittorrent(options, &fixture(from)),
    };
    let refused = import(&options).expect_err("the folder is not permitted");
    assert!(matches!(&refused, ServiceError::ImportFolders(folders) if folders == &[PathBuf::from("/srv/torrents")]));
    options.allowed_folders.push("/srv".into());
    let mut lines = import(&options).expect("imported");
    // A complete torrent is not in qBittorrent's queue.
    lines.sort();
    assert_eq!(lines, [Ok("photos: imported".to_owned()), Ok("single.bin: imported".to_owned())]);
    let mut again = import(&options).expect("imported");
    again.sort();
    assert_eq!(again, [Ok("photos: is there already".to_owned()), Ok("single.bin: is there already".to_owned())]);
    let state = StateFolder::open(&options.state_folder).expect("the state");
    let mut records = state.load().expect("the state").records;
    records.sort_by(|one, other| one.name.cmp(&other.name));
    for record in &records {
        let metainfo = Metainfo::read(&state.torrent_file(record.info_hash)).expect("its torrent");
        assert_eq!((metainfo.info_hash, record.metainfo.is_some()), (record.info_hash, true));
    }
    records
}

/// What both clients say of the torrents in the same words.
fn assert_common(records: &[TorrentRecord]) {
    let [photos, single] = records else { panic!("{records:?}") };
    assert_eq!((photos.name.as_str(), single.name.as_str()), ("photos", "single.bin"));
    assert_eq!((photos.desired_state, single.desired_state), (DesiredState::Queued, DesiredState::Stopped));
    assert!(photos.needs_check && single.needs_check && photos.id != single.id);
    assert_eq!((photos.folder.as_path(), &photos.final_folder), (Path::new("/srv/torrents"), &None));
    assert_eq!((photos.files.unwanted.as_slice(), photos.files.high.as_slice()), (&[1][..], &[0][..]));
    assert_eq!((photos.progress.total, photos.progress.wanted), (150_000, 100_000));
    assert!(photos.files.renamed.is_empty(), "{photos:?}");
    assert!(photos.times.added.0 > 1_000_000_000 && photos.may_overwrite_in.is_none());
    assert_eq!(photos.settings.seed_ratio_mode, LimitMode::Own);
    assert_eq!(single.settings.seed_ratio_mode, LimitMode::Session);
    assert!(photos.settings.down_limit.is_enabled && !single.settings.down_limit.is_enabled);
}

#[test]
fn the_torrents_of_transmission_are_taken_over() {
    let records = imported("transmission");
    assert_common(&records);
    let settings = &records[0].settings;
    assert_eq!((settings.down_limit.kilobytes, settings.seed_ratio), (100, 3.5));
    assert_eq!((settings.labels.as_slice(), settings.honors_session_limits), (&["linux".to_owned()][..], false));
    assert_eq!((settings.peer_limit, &records[0].trackers), (50, &None));
}

#[test]
fn the_torrents_of_qbittorrent_are_taken_over() {
    let records = imported("qbittorrent");
    assert_common(&records);
    let settings = &records[0].settings;
    assert_eq!((settings.down_limit.kilobytes, settings.seed_ratio), (102, 1.5));
    assert_eq!(settings.labels, ["films", "x", "y"]);
    assert_eq!(settings.peer_limit, 100);
    // Its copies of torrent files have no trackers.
    assert_eq!(records[0].trackers, Some(vec![vec!["http://127.0.0.1:9/announce".to_owned()]]));
    assert!(records[0].times.done.0 > 0 && records[1].may_overwrite_in.is_none());
}

/// A folder of Transmission's with this torrent; its resume data has `more` beside its folder.
fn transmission(folder: &Path, torrent: &[u8], downloads: &Path, more: &str) -> PathBuf {
    let config = folder.join("transmission");
    for (part, content) in [
        ("torrents/x.torrent", torrent.to_vec()),
        (
            "resume/x.resume",
            format!("d11:destination{}:{}{more}e", downloads.as_os_str().len(), downloads.display()).into_bytes(),
        ),
    ] {
        let path = config.join(part);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("created");
        std::fs::write(path, content).expect("written");
    }
    config
}

/// A torrent of one file with this content.
fn torrent(content: &[u8]) -> Vec<u8> {
    use sha1::Digest as _;
    let start = format!("d4:infod6:lengthi{}e4:name1:x12:piece lengthi16384e6:pieces20:", content.len());
    [start.as_bytes(), &sha1::Sha1::digest(content), b"ee"].concat()
}

#[test]
fn an_imported_torrent_is_hashed_where_it_is_and_seeds() {
    let temp = tempfile::tempdir().expect("a folder");
    let options = options(temp.path());
    std::fs::create_dir_all(&options.download_folder).expect("a folder");
    std::fs::write(options.download_folder.join("x"), b"content").expect("written");
    let config = transmission(temp.path(), &torrent(b"content"), &options.download_folder, "8:uploadedi7e");
    Service::import_transmission(&options, &config).expect("imported");
    let service = Service::start(options).expect("a service");
    let deadline = Instant::now() + Duration::from_secs(60);
    let torrents = || service.control().torrents();
    while !torrents().iter().any(|torrent| torrent.activity == Activity::Seeding && torrent.transfer.missing == 0) {
        assert!(Instant::now() < deadline, "{:?}", torrents());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(torrents()[0].transfer.uploaded, 7);
    let options = super::tests::options(temp.path());
    assert!(matches!(Service::import_transmission(&options, &config), Err(ServiceError::State(_))), "it is in use");
}

#[test]
fn long_texts_are_cut_or_refused() {
    let mut record = TorrentRecord::new(TorrentId(1), InfoHash([1; 20]), "é".repeat(1000), "/down".into(), UnixTime(1));
    record.settings.group = "g".repeat(129);
    assert_eq!(limit_texts(&mut record).expect("accepted"), "é".repeat(255));
    assert_eq!((record.name.chars().count(), record.settings.group.as_str()), (255, ""));
    record.trackers = Some(vec![vec!["wss://a/announce".to_owned()], vec!["udp://a:1".to_owned(); 513]]);
    limit_texts(&mut record).expect("accepted");
    assert_eq!(record.trackers, Some(vec![vec!["udp://a:1".to_owned(); 512]]));
    record.final_folder = Some("/a".repeat(3000).into());
    assert!(limit_texts(&mut record).is_err());
}

#[test]
fn damaged_and_hostile_files_cost_their_torrent_only() {
    let temp = tempfile::tempdir().expect("a folder");
    let options = options(temp.path());
    let downloads = &options.download_folder;
    let paths = "5:filesl7:../evile";
    let config = transmission(temp.path(), &torrent(b"content"), downloads, paths);
    let found = of_transmission(&config).expect("a folder of Transmission's");
    assert!(found[0].as_ref().is_ok_and(|found| found.record.files.renamed.is_empty()), "{found:?}");
    std::fs::write(config.join("torrents/y.torrent"), b"no torrent").expect("written");
    std::fs::write(config.join("resume/y.resume"), b"d11:destination2:/xe").expect("written");
    std::fs::write(config.join("torrents/z.torrent"), torrent(b"z")).expect("written");
    std::fs::write(config.join("resume/z.resume"), b"l".repeat(100_000)).expect("written");
    std::fs::write(config.join("torrents/q.torrent"), torrent(b"q")).expect("written");
    std::fs::write(config.join("resume/q.resume"), b"d11:destination8:relative").expect("written");
    let lines = Service::import_transmission(&options, &config).expect("imported");
    assert_eq!((lines.len(), lines.iter().filter(|line| line.is_ok()).count()), (4, 1), "{lines:?}");
    for folder in [temp.path().join("none"), temp.path().join("transmission")] {
        assert!(matches!(Service::import_qbittorrent(&options, &folder), Err(ServiceError::ImportFrom { .. })));
    }
}

#[test]
fn links_without_metadata_are_taken_over() {
    let temp = tempfile::tempdir().expect("a folder");
    let options = options(temp.path());
    let magnet = format!("d11:magnet-infod12:display-name1:n9:info_hash20:{}ee", "a".repeat(20));
    let config = transmission(temp.path(), magnet.as_bytes(), &options.download_folder, "6:pausedi1e");
    std::fs::write(config.join("torrents/y.magnet"), format!("magnet:?xt=urn:btih:{}", "b".repeat(40)))
        .expect("written");
    std::fs::copy(config.join("resume/x.resume"), config.join("resume/y.resume")).expect("copied");
    let lines = Service::import_transmission(&options, &config).expect("imported");
    assert_eq!(lines.iter().filter(|line| line.is_ok()).count(), 2, "{lines:?}");
    let backup = temp.path().join("BT_backup");
    std::fs::create_dir(&backup).expect("a folder");
    let folder = options.download_folder.display().to_string();
    let resume = format!("d9:info-hash20:{}9:save_path{}:{folder}8:trackersll3:u:/eee", "c".repeat(20), folder.len());
    std::fs::write(backup.join("c.fastresume"), resume).expect("written");
    let lines = Service::import_qbittorrent(&options, &backup).expect("imported");
    assert!(matches!(&lines[..], [Ok(_)]), "{lines:?}");
    let records = StateFolder::open(&options.state_folder).expect("the state").load().expect("the state").records;
    assert_eq!(records.iter().filter(|record| record.link.is_some() && !record.needs_check).count(), 3, "{records:?}");
}

/// A torrent `doc` of four pieces, and files of its length: one of the user's, and one with a single right piece.
fn doc() -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    use sha1::Digest as _;
    let content: Vec<u8> = (0..65_536_u32).map(|at| (at % 251) as u8).collect();
    let hashes: Vec<u8> = content.chunks(16_384).flat_map(sha1::Sha1::digest).collect();
    let start = b"d4:infod6:lengthi65536e4:name3:doc12:piece lengthi16384e6:pieces80:";
    let torrent = [&start[..], &hashes, b"ee"].concat();
    let users = vec![b'u'; 65_536];
    let begun = [&content[..16_384], &users[16_384..]].concat();
    (torrent, users, begun)
}

/// Imports a torrent whose file has this content, starts it, and waits until it has a problem or a verified piece.
fn started(from: &str, resume: &[u8], content: &[u8]) -> (Option<crate::service::model::ProblemKind>, Vec<u8>) {
    started_beside(from, resume, content, None)
}

/// As [`started`], with another file: suffix and content.
fn started_beside(
    from: &str,
    resume: &[u8],
    content: &[u8],
    beside: Option<(&str, &[u8])>,
) -> (Option<crate::service::model::ProblemKind>, Vec<u8>) {
    started_until(from, resume, (content, beside), |torrent| {
        torrent.problem.is_some() || torrent.transfer.missing < 65_536
    })
}

/// As [`started_beside`], but waits for something else.
fn started_until(
    from: &str,
    resume: &[u8],
    (content, beside): (&[u8], Option<(&str, &[u8])>),
    is_over: impl Fn(&crate::service::model::TorrentSummary) -> bool,
) -> (Option<crate::service::model::ProblemKind>, Vec<u8>) {
    let temp = tempfile::tempdir().expect("a folder");
    let options = options(temp.path());
    let path = options.download_folder.join("doc");
    std::fs::create_dir_all(&options.download_folder).expect("a folder");
    std::fs::write(&path, content).expect("written");
    if let Some((suffix, content)) = beside {
        std::fs::write(options.download_folder.join(format!("doc{suffix}")), content).expect("written");
    }
    let (torrent, folder) = (doc().0, options.download_folder.display().to_string());
    let folder = format!("{}:{folder}", folder.len());
    let lines = if from == "transmission" {
        let config = transmission(temp.path(), &torrent, &options.download_folder, "");
        let resume = [b"d11:destination", folder.as_bytes(), b"8:progressd6:blocks", resume, b"ee"].concat();
        std::fs::write(config.join("resume/x.resume"), resume).expect("written");
        Service::import_transmission(&options, &config)
    } else {
        let backup = temp.path().join("BT_backup");
        std::fs::create_dir(&backup).expect("a folder");
        std::fs::write(backup.join("x.torrent"), torrent).expect("written");
        let resume = [resume, b"9:save_path", folder.as_bytes(), b"e"].concat();
        std::fs::write(backup.join("x.fastresume"), resume).expect("written");
        Service::import_qbittorrent(&options, &backup)
    };
    assert!(matches!(&lines.expect("imported")[..], [Ok(_)]));
    let service = Service::start(options).expect("a service");
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let torrent = service.control().torrents().pop().expect("the torrent");
        if is_over(&torrent) {
            drop(service);
            return (torrent.problem.map(|problem| problem.kind), std::fs::read(&path).expect("the file"));
        }
        assert!(Instant::now() < deadline, "{torrent:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_import_overwrites_only_files_that_the_other_client_has_begun() {
    use crate::service::model::ProblemKind;
    let (_, users, begun) = doc();
    // Nothing is begun, or nothing is known: it is the user's.
    let transmission: [&[u8]; 3] = [b"4:none", b"1:\0", b"3:odd"];
    for resume in transmission {
        let (problem, content) = started("transmission", resume, &users);
        assert_eq!(problem, Some(ProblemKind::FilesInTheWay), "{}", resume.escape_ascii());
        assert!(content == users, "{}", resume.escape_ascii());
    }
    let qbittorrent: [&[u8]; 2] = [b"d", b"d6:pieces4:\0\0\0\0"];
    for resume in qbittorrent {
        let (problem, content) = started("qbittorrent", resume, &users);
        assert_eq!(problem, Some(ProblemKind::FilesInTheWay), "{}", resume.escape_ascii());
        assert!(content == users, "{}", resume.escape_ascii());
    }
    // One piece is there, which alone would not be enough.
    let (first, block): (&[u8], &[u8]) =
        (b"d6:pieces4:\x01\0\0\0", b"d6:pieces4:\x00\x00\x00\x0010:unfinishedld7:bitmask1:\x805:piecei0eee");
    for (from, resume) in [("transmission", &b"1:\x80"[..]), ("qbittorrent", first), ("qbittorrent", block)] {
        let (problem, _) = started(from, resume, &begun);
        assert_eq!(problem, None, "{from} {}", resume.escape_ascii());
    }
}

#[test]
fn an_import_overwrites_no_file_of_the_user_that_has_the_name_of_a_begun_one() {
    use crate::service::model::ProblemKind;
    let (_, users, begun) = doc();
    let (pieces, block): (&[u8], &[u8]) =
        (b"d6:pieces4:\x01\0\0\0", b"d6:pieces4:\x00\x00\x00\x0010:unfinishedld7:bitmask1:\x805:piecei0eee");
    for (from, resume, suffix) in
        [("transmission", &b"1:\x80"[..], ".part"), ("qbittorrent", pieces, ".!qB"), ("qbittorrent", block, ".!qB")]
    {
        for beside in [None, Some((suffix, &begun[..]))] {
            let (problem, content) = started_beside(from, resume, &users, beside);
            assert_eq!(problem, Some(ProblemKind::FilesInTheWay), "{from} {}", beside.is_some());
            assert!(content == users, "{from} {}", beside.is_some());
        }
    }
}

/// The user has saved another version over the unfinished file. Its first piece is the same.
#[test]
fn an_import_overwrites_no_version_of_the_user_that_begins_like_the_file() {
    use crate::service::model::ProblemKind;
    let (_, _, version) = doc();
    for (from, resume) in [("transmission", &b"1:\xe0"[..]), ("qbittorrent", b"d6:pieces4:\x01\x01\x01\x00")] {
        let (problem, content) = started_until(from, resume, (&version, None), |torrent| torrent.problem.is_some());
        assert_eq!(problem, Some(ProblemKind::FilesInTheWay), "{from}");
        assert!(content == version, "{from}");
    }
}

/// The other client had all of the file, and the user has edited a piece since.
#[test]
fn an_import_overwrites_no_edit_of_a_file_that_the_other_client_completed() {
    use crate::service::model::ProblemKind;
    let (_, users, _) = doc();
    let mut edited: Vec<u8> = (0..65_536_u32).map(|at| (at % 251) as u8).collect();
    edited[20_000..20_005].copy_from_slice(b"mine!");
    let resumes: [(&str, &[u8]); 3] =
        [("transmission", b"3:all"), ("transmission", b"1:\xf0"), ("qbittorrent", b"d6:pieces4:\x01\x01\x01\x01")];
    for (from, resume) in resumes {
        for version in [&edited, &users] {
            let (problem, content) = started_until(from, resume, (version, None), |torrent| torrent.problem.is_some());
            assert_eq!(problem, Some(ProblemKind::Local), "{from}");
            assert!(content == *version, "{from}");
        }
    }
}

#[test]
fn files_keep_the_names_that_the_other_client_gave_them() {
    let temp = tempfile::tempdir().expect("a folder");
    let options = options(temp.path());
    let torrent = b"d4:infod5:filesld6:lengthi9e4:pathl3:a:beed6:lengthi9e4:pathl3:a_beee4:name1:t12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee";
    let config = transmission(temp.path(), torrent, &options.download_folder, "6:pausedi1e");
    Service::import_transmission(&options, &config).expect("imported");
    let records = StateFolder::open(&options.state_folder).expect("the state").load().expect("the state").records;
    assert_eq!(records[0].files.renamed, [(0, "t/a:b".into()), (1, "t/a_b".into())]);
}
