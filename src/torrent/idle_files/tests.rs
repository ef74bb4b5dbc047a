use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};

use super::*;
use crate::metainfo::{CreateOptions, CreatePlan};

static GO_ON: AtomicBool = AtomicBool::new(false);

struct Fixture {
    dir: tempfile::TempDir,
    metainfo: Metainfo,
}

impl Fixture {
    fn new() -> Fixture {
        Fixture::named("t")
    }

    /// A torrent of this name, under which its files are in the folder `old`.
    fn named(name: &str) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let content = dir.path().join("old").join(name);
        fs::create_dir_all(&content).unwrap();
        fs::write(content.join("a"), vec![1; 100_000]).unwrap();
        fs::write(content.join("b"), vec![2; 50_000]).unwrap();
        let plan = CreatePlan::scan(&content, &[]).unwrap();
        let made = plan.create(&CreateOptions::default(), &AtomicU64::default(), &AtomicBool::default()).unwrap();
        let it = Fixture { dir, metainfo: Metainfo::parse(&made.bytes).unwrap() };
        fs::create_dir(it.path("resume")).unwrap();
        it
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs `job` with the torrent in `folder`.
    fn at<T>(&self, folder: &str, renamed: &[(u32, PathBuf)], job: impl FnOnce(IdleTorrent<'_>) -> T) -> T {
        job(IdleTorrent {
            metainfo: &self.metainfo,
            place: FilesPlace { folder: &self.path(folder), renamed },
            unwanted: &[],
            suffix: ".part",
            resume_folder: &self.path("resume"),
            private_folders: &[],
            downloaded_torrents_folder: None,
        })
    }

    /// Writes resume data for the files in `folder` as they are.
    fn record(&self, folder: &str) {
        self.at(folder, &[], |torrent| {
            let (layout, _) = torrent.layouts(torrent.place).unwrap();
            let storage = torrent.storage(torrent.place.folder, layout, &Arc::default());
            let stamps = (0..2).map(|file| (file as u32, storage.stamp(file).unwrap()));
            let record = ResumeData {
                info_hash: self.metainfo.info_hash,
                boot: "b".to_owned(),
                files: stamps.collect(),
                have: Bitfield::full(self.metainfo.piece_count()),
                owned_files: Some(Vec::new()),
                uploaded: 7,
                partial: Vec::new(),
            };
            let path = torrent.record_path(torrent.place.folder).unwrap();
            replace(&path, &record.encode(), ResumeData::is_encoded).unwrap();
        });
    }

    /// The pieces that need not be hashed with the torrent in `folder`.
    fn trusted(&self, folder: &str, renamed: &[(u32, PathBuf)]) -> u32 {
        self.at(folder, renamed, |torrent| {
            let (layout, _) = torrent.layouts(torrent.place).unwrap();
            let path = torrent.record_path(torrent.place.folder).unwrap();
            let Some(record) = torrent.read_record(&path, &layout).unwrap() else { return 0 };
            assert_eq!(record.uploaded, 7);
            let storage = torrent.storage(torrent.place.folder, layout, &Arc::default());
            let stamps: Vec<_> = (0..2).map(|file| storage.stamp(file)).collect();
            record.trusted_pieces(storage.layout(), &stamps).count()
        })
    }

    fn move_to(&self, from: (&str, &[(u32, PathBuf)]), to: (&str, &[(u32, PathBuf)])) {
        let folder = self.path(to.0);
        let place = FilesPlace { folder: &folder, renamed: to.1 };
        self.at(from.0, from.1, |torrent| torrent.move_to(place, true, &GO_ON)).unwrap();
    }

    fn records(&self) -> usize {
        fs::read_dir(self.path("resume")).unwrap().count()
    }
}

#[test]
fn the_resume_data_follows_the_files_so_that_nothing_is_hashed() {
    let it = Fixture::new();
    it.record("old");
    let all = it.metainfo.piece_count();
    assert_eq!(it.trusted("old", &[]), all);
    it.move_to(("old", &[]), ("new", &[]));
    assert_eq!((it.trusted("new", &[]), it.trusted("old", &[]), it.records()), (all, 0, 1));
    let renamed = [(1, PathBuf::from("t/c"))];
    it.move_to(("new", &[]), ("new", &renamed));
    assert!(it.path("new/t/c").exists() && !it.path("new/t/b").exists());
    assert_eq!((it.trusted("new", &renamed), it.records()), (all, 1));
    // A job that is repeated changes nothing.
    it.move_to(("new", &[]), ("new", &renamed));
    assert!(it.path("new/t/c").exists());
}

#[test]
fn files_that_were_changed_before_a_move_are_hashed_after_it() {
    let it = Fixture::new();
    it.record("old");
    fs::write(it.path("old/t/b"), vec![3; 50_000]).unwrap();
    it.move_to(("old", &[]), ("new", &[]));
    assert!(it.trusted("new", &[]) < it.metainfo.piece_count());
}

#[test]
fn unfinished_files_keep_their_suffix() {
    let it = Fixture::new();
    fs::rename(it.path("old/t/b"), it.path("old/t/b.part")).unwrap();
    it.move_to(("old", &[]), ("new", &[]));
    assert!(it.path("new/t/a").exists() && it.path("new/t/b.part").exists());
    let renamed = [(1, PathBuf::from("t/c"))];
    it.move_to(("new", &[]), ("new", &renamed));
    assert!(it.path("new/t/c.part").exists());
    it.move_to(("new", &[]), ("new", &renamed));
    assert!(it.path("new/t/c.part").exists() && !it.path("new/t/b.part").exists());
}

#[test]
fn a_torrent_is_deleted_or_forgotten_with_its_resume_data() {
    let it = Fixture::new();
    it.record("old");
    it.at("old", &[], |torrent| torrent.forget()).unwrap();
    assert!(it.records() == 0 && it.path("old/t/a").exists());
    it.record("old");
    fs::write(it.path("old/t/mine"), "mine").unwrap();
    let kept = it.at("old", &[], |torrent| torrent.delete(true, &GO_ON)).unwrap();
    assert!(kept.is_empty() && it.records() == 0, "{kept:?}");
    assert!(!it.path("old/t/a").exists() && it.path("old/t/mine").exists());
}

#[test]
fn files_under_names_that_btsync_gives_to_no_file_are_neither_moved_nor_renamed_nor_deleted() {
    for name in [".t", "t\\x", "t\u{200b}"] {
        let it = Fixture::named(name);
        let (safe, has_all) =
            (&it.metainfo.name, || ["a", "b"].iter().all(|file| it.path("old").join(name).join(file).exists()));
        assert_ne!(safe, name);
        for (folder, renamed) in [("new", vec![]), ("old", vec![(0, PathBuf::from("film"))])] {
            let folder = it.path(folder);
            let place = FilesPlace { folder: &folder, renamed: &renamed };
            let refused = it.at("old", &[], |torrent| torrent.move_to(place, true, &GO_ON));
            assert!(matches!(refused, Err(IdleFilesError::Job(FileJobError::OriginalName(_)))), "{name}: {refused:?}");
            assert!(has_all(), "{name}");
        }
        let kept = it.at("old", &[], |torrent| torrent.delete(true, &GO_ON)).unwrap();
        assert!(kept.len() == 2 && has_all(), "{name}: {kept:?}");
        // A file of the user's that only has the name is in nobody's way.
        for file in ["a", "b"] {
            fs::write(it.path("old").join(name).join(file), "mine").unwrap();
        }
        it.move_to(("old", &[]), ("new", &[]));
        assert!(has_all(), "{name}");
    }
}

#[test]
fn a_file_with_a_colon_that_an_earlier_version_may_have_created_is_moved_and_deleted() {
    let mut it = Fixture::named("t:1");
    it.metainfo.replace_colons();
    assert_eq!(it.metainfo.name, "t_1");
    it.move_to(("old", &[]), ("new", &[]));
    assert!(it.path("new/t:1/a").exists() && !it.path("old/t:1").exists());
    let kept = it.at("new", &[], |torrent| torrent.delete(true, &GO_ON)).unwrap();
    assert!(kept.is_empty() && !it.path("new/t:1").exists(), "{kept:?}");
}

#[test]
fn a_file_in_a_private_folder_is_not_taken_for_the_torrents() {
    let it = Fixture::named(".t");
    let (new, private) = (it.path("new"), [it.path("old/.t")]);
    let place = FilesPlace { folder: &new, renamed: &[] };
    it.at("old", &[], |torrent| {
        let torrent = IdleTorrent { private_folders: &private, ..torrent };
        let (source, _) = torrent.layouts(torrent.place).unwrap();
        assert_eq!(source.files().first().map(|spec| spec.path.as_path()), Some(Path::new("_t/a")));
        torrent.move_to(place, true, &GO_ON)
    })
    .unwrap();
    assert!(it.path("old/.t/a").exists() && !new.join("_t").exists());
}

#[test]
fn a_file_cannot_be_renamed_to_a_name_of_btsyncs_own() {
    let it = Fixture::new();
    let marker = PathBuf::from(format!(".{}.btsync", it.metainfo.info_hash));
    let old = it.path("old");
    let place = FilesPlace { folder: &old, renamed: &[(0, marker)] };
    let refused = it.at("old", &[], |torrent| torrent.move_to(place, true, &GO_ON));
    assert!(matches!(refused, Err(IdleFilesError::Layout(LayoutError::Reserved { .. }))));
    assert!(Path::new(&it.path("old/t/a")).exists());
}
