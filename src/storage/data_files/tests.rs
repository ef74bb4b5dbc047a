//! Tests of moving files. Each step can be the last one before a kill: see [`KillAt`].

mod deletion;
mod interrupted;
mod provenance;
mod saved_documents;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::storage::marker::{Marker, marker_name, path_hash};
use crate::storage::snapshot::{FileSnapshot, identity};
use sha1::{Digest as _, Sha1};

use crate::storage::data_files::folders::lookup_file;
use crate::storage::data_files::moving::{FileMover, MovedFile};
use crate::storage::data_files::names::is_same_folder;
use crate::storage::data_files::provenance::FoundFiles;
use crate::storage::data_files::{FileEvidence, FileJobError};
use crate::storage::download_mark::ReportUnmarked;
use crate::storage::open::Root;
use crate::storage::{FileSpec, Layout, SpecialEntries, StopCheck, Storage, part_name};
use crate::types::{InfoHash, Sha1Hash};

const HASH: InfoHash = InfoHash([7; 20]);
/// No private folders, and nothing is reported.
const NOTHING: (&[PathBuf], ReportUnmarked<'static>) = (&[], &|_, _| ());
static GO_ON: AtomicBool = AtomicBool::new(false);

/// Ends a job at its n-th step. Nothing is cleaned up then, as if the process had been killed.
struct KillAt(AtomicUsize);

impl StopCheck for KillAt {
    fn is_stopped(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err()
    }
}

/// Calls a function at the n-th step.
struct CallAt<F>(AtomicUsize, F);

impl<F: Fn() + Sync> StopCheck for CallAt<F> {
    fn is_stopped(&self) -> bool {
        if self.0.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.1();
        }
        false
    }
}

struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    /// The folder `old` with the files of a torrent and one of the user's.
    fn new() -> Fixture {
        let it = Fixture { dir: tempfile::tempdir().unwrap() };
        let root = Root::new(it.old());
        root.create().unwrap();
        for folder in ["t", "t/d", "t/empty"] {
            root.create_folder(Path::new(folder)).unwrap();
        }
        it.with_files()
    }

    /// The same in folders that btsync did not create.
    fn in_folders_of_the_user() -> Fixture {
        let it = Fixture { dir: tempfile::tempdir().unwrap() };
        fs::create_dir_all(it.old().join("t/d")).unwrap();
        it.with_files()
    }

    fn with_files(self) -> Fixture {
        let it = self;
        fs::write(it.old().join("t/a"), vec![1; 3_000_000]).unwrap();
        fs::write(it.old().join("t/d/b"), vec![2; 20_000]).unwrap();
        fs::set_permissions(it.old().join("t/d/b"), fs::Permissions::from_mode(0o640)).unwrap();
        it
    }

    fn old(&self) -> PathBuf {
        self.dir.path().join("old")
    }

    fn new_folder(&self) -> PathBuf {
        self.dir.path().join("new")
    }

    fn storage(folder: &Path, names: [&str; 2]) -> Storage {
        let spec = |(name, length): (&str, u64)| FileSpec { path: name.into(), length, is_pad: false };
        let files = names.into_iter().zip([3_000_000, 20_000]).map(spec).collect();
        let special = SpecialEntries { links: vec![("t/link".into(), "t/a".into())], folders: vec!["t/empty".into()] };
        let layout = Layout::new(16_384, files).unwrap().with_special_entries(special);
        Storage::new(folder.to_owned(), layout, 4).select(&[true, true], &part_name(&HASH))
    }

    fn run(&self, copies: bool, stop: &dyn StopCheck) -> Result<Vec<MovedFile>, FileJobError> {
        self.run_to(&self.new_folder(), ["t/a", "t/d/b"], copies, stop)
    }

    fn run_to(
        &self,
        folder: &Path,
        names: [&str; 2],
        always_copies: bool,
        stop: &dyn StopCheck,
    ) -> Result<Vec<MovedFile>, FileJobError> {
        let source = Fixture::storage(&self.old(), ["t/a", "t/d/b"]);
        let target = Fixture::storage(folder, names);
        let is_same_folder = is_same_folder(&source.root, &target.root);
        let found = Fixture::found(&source);
        let (source, target, info_hash, report_unmarked) = (&source, &target, HASH, NOTHING.1);
        FileMover { source, target, info_hash, found, stop, is_same_folder, always_copies, report_unmarked }.run()
    }

    /// All files and the part file, as files of the torrent.
    fn found(source: &Storage) -> FoundFiles {
        let files = source.layout.files().iter().map(|spec| spec.path.as_path()).chain([source.placement.name()]);
        let seen = files
            .enumerate()
            .filter_map(|(file, name)| Some((file, FileSnapshot::of(&lookup_file(&source.root, name).ok()??))));
        FoundFiles { seen: seen.collect(), foreign: BTreeSet::new() }
    }
}

/// All files below a folder, with the first byte of each and its length.
fn files(folder: &Path) -> Vec<(String, u8, usize)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).into_iter().flatten().flatten() {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else if entry.file_type().unwrap().is_file() {
                let bytes = fs::read(entry.path()).unwrap();
                let name = entry.path().strip_prefix(folder).unwrap().display().to_string();
                found.push((name, bytes.first().copied().unwrap_or_default(), bytes.len()));
            }
        }
    }
    found.sort();
    found
}

/// The hashes of the torrent's pieces.
fn hashes() -> Vec<Sha1Hash> {
    let all = [vec![1; 3_000_000], vec![2; 20_000]].concat();
    all.chunks(16_384).map(|piece| Sha1::digest(piece).into()).collect()
}

fn torrent() -> Vec<(String, u8, usize)> {
    vec![("t/a".to_owned(), 1, 3_000_000), ("t/d/b".to_owned(), 2, 20_000)]
}

#[test]
fn a_move_takes_all_files_with_times_and_modes_and_leaves_those_of_others() {
    for copies in [false, true] {
        let it = Fixture::new();
        fs::write(it.old().join("t/mine"), "mine").unwrap();
        symlink("a", it.old().join("t/link")).unwrap();
        let before = fs::metadata(it.old().join("t/d/b")).unwrap();
        let moved = it.run(copies, &GO_ON).unwrap();
        assert_eq!(files(&it.new_folder()), torrent());
        assert_eq!(files(&it.old()), [("t/mine".to_owned(), b'm', 4)]);
        let after = fs::metadata(it.new_folder().join("t/d/b")).unwrap();
        let times = |found: &fs::Metadata| (found.mtime(), found.mtime_nsec(), found.mode());
        assert_eq!(times(&before), times(&after), "{copies}");
        assert_eq!(before.ino() == after.ino(), !copies);
        assert!(!it.old().join("t/d").exists() && !it.old().join("t/empty").exists(), "empty folders are gone");
        assert!(fs::symlink_metadata(it.old().join("t/link")).is_err());
        assert!(it.new_folder().join("t/empty").is_dir());
        assert_eq!(fs::read_link(it.new_folder().join("t/link")).unwrap(), Path::new("a"));
        let stamps: Vec<_> = moved.iter().map(|moved| (moved.file, moved.after.inode)).collect();
        let inode = |name: &str| fs::metadata(it.new_folder().join(name)).unwrap().ino();
        assert_eq!(stamps, [(0, inode("t/a")), (1, inode("t/d/b"))]);
    }
}

#[test]
fn a_move_overwrites_nothing_and_refuses_before_anything_moves() {
    let it = Fixture::new();
    let theirs = it.new_folder().join("t/d/b");
    fs::create_dir_all(it.new_folder().join("t/d")).unwrap();
    let in_the_way: [&dyn Fn(); 4] = [
        &|| fs::write(&theirs, vec![9; 20_000]).unwrap(),
        &|| symlink("/nowhere", &theirs).unwrap(),
        &|| fs::create_dir(&theirs).unwrap(),
        &|| {
            fs::remove_dir(it.new_folder().join("t/d")).unwrap();
            fs::write(it.new_folder().join("t/d"), "a file where a folder would be").unwrap();
        },
    ];
    for (number, make) in in_the_way.iter().enumerate() {
        make();
        for copies in [false, true] {
            let error = it.run(copies, &GO_ON).unwrap_err();
            assert!(error.to_string().contains("new/t/d"), "{number}: {error}");
            assert_eq!(files(&it.old()), torrent(), "{number}");
            assert!(!it.new_folder().join("t/a").exists(), "{number}");
        }
        let _ = fs::remove_file(&theirs).or_else(|_| fs::remove_dir(&theirs));
    }
    fs::remove_file(it.new_folder().join("t/d")).unwrap();
    let marker = it.new_folder().join(marker_name(&HASH));
    fs::write(&marker, Marker::default().encode(&HASH)).unwrap();
    assert!(matches!(it.run(false, &GO_ON), Err(FileJobError::Exists(path)) if path == marker));
}

#[test]
fn a_move_that_fails_halfway_moves_everything_back() {
    // Another program writes to a file at one of the steps. While the file is copied, the job notices it.
    let mut noticed = 0;
    for step in 1..20 {
        let it = Fixture::new();
        let edited = it.old().join("t/d/b");
        let edit = CallAt(AtomicUsize::new(step), || {
            if edited.exists() {
                fs::write(&edited, vec![3; 20_000]).unwrap();
            }
        });
        match it.run(true, &edit) {
            Ok(_) => assert_eq!(files(&it.old()), [], "{step}"),
            Err(FileJobError::Changed(path)) => {
                noticed += 1;
                assert_eq!(path, edited);
                assert_eq!(files(&it.old()), [("t/a".to_owned(), 1, 3_000_000), ("t/d/b".to_owned(), 3, 20_000)]);
                assert_eq!(files(&it.new_folder()), [], "{step}");
            }
            Err(error) => panic!("{step}: {error}"),
        }
    }
    assert!(noticed >= 3, "{noticed}");
}

#[test]
fn a_document_that_is_saved_over_a_file_during_a_rename_stays_where_it_is() {
    let mut noticed = 0;
    for step in 1..20 {
        let it = Fixture::new();
        let (file, document) = (it.old().join("t/d/b"), it.dir.path().join("document"));
        fs::write(&document, vec![3; 500]).unwrap();
        let save = CallAt(AtomicUsize::new(step), || {
            if file.exists() {
                fs::rename(&document, &file).unwrap();
            }
        });
        match it.run(false, &save) {
            // Before the job looked at the file, or after it had moved it.
            Ok(_) => assert!(document.exists() || files(&it.old()).is_empty(), "{step}"),
            Err(FileJobError::Changed(path)) => {
                noticed += 1;
                assert_eq!(path, file);
                assert_eq!(files(&it.old()), [("t/a".to_owned(), 1, 3_000_000), ("t/d/b".to_owned(), 3, 500)]);
                assert_eq!(files(&it.new_folder()), [], "{step}");
            }
            Err(error) => panic!("{step}: {error}"),
        }
    }
    assert!(noticed >= 1, "{noticed}");
}

#[test]
fn a_move_follows_no_symbolic_link() {
    let it = Fixture::new();
    let outside = it.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::create_dir_all(it.new_folder().join("t")).unwrap();
    symlink(&outside, it.new_folder().join("t/d")).unwrap();
    assert!(matches!(it.run(false, &GO_ON), Err(FileJobError::Link(_))));
    fs::remove_file(it.new_folder().join("t/d")).unwrap();
    fs::rename(it.old().join("t/d/b"), outside.join("b")).unwrap();
    symlink(outside.join("b"), it.old().join("t/d/b")).unwrap();
    assert!(matches!(it.run(false, &GO_ON), Err(FileJobError::NotAFile(_))));
    fs::remove_file(it.old().join("t/d/b")).unwrap();
    fs::remove_dir(it.old().join("t/d")).unwrap();
    symlink(&outside, it.old().join("t/d")).unwrap();
    assert!(matches!(it.run(false, &GO_ON), Err(FileJobError::Link(_))));
    assert_eq!(files(&outside), [("b".to_owned(), 2, 20_000)]);
    assert!(it.old().join("t/a").exists());
}

#[test]
fn a_move_to_the_same_folder_under_another_path_loses_nothing() {
    let it = Fixture::new();
    symlink(it.old(), it.new_folder()).unwrap();
    it.run(false, &GO_ON).unwrap();
    it.run(true, &GO_ON).unwrap();
    assert_eq!(files(&it.old()), torrent());
    // A folder of the torrent that leads back.
    fs::remove_file(it.new_folder()).unwrap();
    fs::create_dir(it.new_folder()).unwrap();
    symlink(it.old().join("t"), it.new_folder().join("t")).unwrap();
    assert!(it.run(false, &GO_ON).is_err());
    assert_eq!(files(&it.old()), torrent());
}

#[test]
fn nothing_is_moved_to_or_from_a_private_folder() {
    let it = Fixture::new();
    let (source, target) = (it.old(), it.new_folder());
    let [source, target] = [source, target].map(|folder| Fixture::storage(&folder, ["t/a", "t/d/b"]));
    let hashes = hashes();
    let evidence = FileEvidence { record: None, was_complete: true, hashes: &hashes };
    for private in [it.new_folder().join("t"), it.old().join("t/d")] {
        assert!(source.move_files(&target, HASH, evidence, (&[private], &|_, _| ()), &GO_ON).is_err());
        assert_eq!(files(&it.old()), torrent());
    }
    assert_eq!(
        source.move_files(&target, HASH, evidence, (&[it.dir.path().join("other")], &|_, _| ()), &GO_ON).unwrap().len(),
        2
    );
}

#[test]
fn files_get_other_names_in_the_same_folder() {
    for copies in [false, true] {
        let it = Fixture::new();
        it.run_to(&it.old(), ["t/a", "t/e/c"], copies, &GO_ON).unwrap();
        let expected = [("t/a".to_owned(), 1, 3_000_000), ("t/e/c".to_owned(), 2, 20_000)];
        assert_eq!(files(&it.old()), expected);
        assert!(!it.old().join("t/d").exists());
        fs::write(it.old().join("t/e/b"), "mine").unwrap();
        fs::create_dir(it.old().join("t/d")).unwrap();
        fs::write(it.old().join("t/d/b"), vec![4; 20_000]).unwrap();
        let error = it.run_to(&it.old(), ["t/a", "t/e/b"], copies, &GO_ON).unwrap_err();
        assert!(matches!(error, FileJobError::Exists(_)), "{error}");
    }
}

#[test]
fn the_marker_and_the_part_file_follow_the_files() {
    for (copies, kill) in [(false, usize::MAX), (true, usize::MAX), (true, 9)] {
        let it = Fixture::new();
        let id = |path: &Path| identity(&fs::metadata(path).unwrap());
        let (parts, file) = (it.old().join(part_name(&HASH)), it.old().join("t/d/b"));
        fs::write(&parts, "parts").unwrap();
        let mut marker = Marker::default();
        marker.created.insert(path_hash(&part_name(&HASH)), id(&parts));
        marker.created.insert(path_hash(Path::new("t/d/b")), id(&file));
        marker.user_files.push("t/a".into());
        fs::write(it.old().join(marker_name(&HASH)), marker.encode(&HASH)).unwrap();
        let before = fs::metadata(it.old().join(marker_name(&HASH))).unwrap();
        let _ = it.run_to(&it.new_folder(), ["t/a", "u/c"], copies, &KillAt(AtomicUsize::new(kill)));
        it.run_to(&it.new_folder(), ["t/a", "u/c"], copies, &GO_ON).unwrap();
        assert_eq!(files(&it.old()), []);
        let now = fs::metadata(it.new_folder().join(marker_name(&HASH))).unwrap();
        assert_eq!(now.modified().unwrap(), before.modified().unwrap());
        let moved = Fixture::storage(&it.new_folder(), ["t/a", "u/c"]).read_marker(&HASH).unwrap().unwrap();
        assert!(moved.has_path(Path::new("u/c")) && !moved.has_path(Path::new("t/d/b")));
        if kill == usize::MAX {
            assert!(moved.is_unfinished_file(Path::new("u/c"), id(&it.new_folder().join("u/c"))));
            assert!(moved.is_unfinished_file(&part_name(&HASH), id(&it.new_folder().join(part_name(&HASH)))));
        }
        assert_eq!(moved.user_files, [PathBuf::from("t/a")]);
    }
}

#[test]
fn a_copy_keeps_the_holes_of_a_file() {
    let it = Fixture::new();
    let sparse = fs::File::create(it.old().join("t/a")).unwrap();
    sparse.set_len(3_000_000).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"x", 1_500_000).unwrap();
    let blocks = sparse.metadata().unwrap().blocks();
    it.run(true, &GO_ON).unwrap();
    let copy = it.new_folder().join("t/a");
    assert!(fs::metadata(&copy).unwrap().blocks() <= blocks.max(64));
    let bytes = fs::read(copy).unwrap();
    assert!(bytes.len() == 3_000_000 && bytes[1_500_000] == b'x' && bytes[1_500_001] == 0);
}

#[test]
fn files_move_to_another_file_system_and_back() {
    let it = Fixture::new();
    // In memory, where the system has such a file system.
    let Ok(other) = tempfile::tempdir_in("/dev/shm") else { return };
    let new = other.path().join("new");
    for _ in 0..2 {
        it.run_to(&new, ["t/a", "t/d/b"], false, &GO_ON).unwrap();
        assert_eq!((files(&new), files(&it.old())), (torrent(), Vec::new()));
        let [source, target] = [new.clone(), it.old()].map(|folder| Fixture::storage(&folder, ["t/a", "t/d/b"]));
        let hashes = hashes();
        let evidence = FileEvidence { record: None, was_complete: true, hashes: &hashes };
        source.move_files(&target, HASH, evidence, NOTHING, &GO_ON).unwrap();
        assert_eq!((files(&it.old()), files(&new)), (torrent(), Vec::new()));
    }
}
