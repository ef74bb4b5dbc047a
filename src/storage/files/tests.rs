//! Storage with real files in a temporary folder.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use proptest::prelude::*;
use tempfile::{TempDir, tempdir};

use super::*;
use crate::storage::{FileSpec, PreparedFiles};

fn file(path: &str, length: u64) -> FileSpec {
    FileSpec { path: path.into(), length, is_pad: false }
}

fn pad(length: u64) -> FileSpec {
    FileSpec { path: format!(".pad/{length}").into(), length, is_pad: true }
}

fn storage(root: &Path, files: Vec<FileSpec>, max_open: usize) -> Storage {
    Storage::new(root.to_owned(), Layout::new(16, files).unwrap(), max_open)
}

fn kind<T: std::fmt::Debug>(result: Result<T, StorageError>) -> StorageErrorKind {
    result.unwrap_err().kind()
}

/// Numbered bytes, none of them zero.
fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8 + 1).collect()
}

#[test]
fn files_are_made_sparse_with_their_folders_and_pads_are_not() {
    let dir = tempdir().unwrap();
    let root = dir.path().join("new/out");
    let files = vec![file("a/b/c", 1 << 30), pad(7), file("a/empty", 0), file("top", 5)];
    let it = storage(&root, files, 4);
    assert_eq!(it.prepare().unwrap(), PreparedFiles::default());
    let big = fs::metadata(root.join("a/b/c")).unwrap();
    assert_eq!(big.len(), 1 << 30);
    assert!(big.blocks() * 512 < 1 << 20);
    assert_eq!(fs::metadata(root.join("a/empty")).unwrap().len(), 0);
    assert!(!root.join(".pad").exists());
    assert_eq!(it.prepare().unwrap().found_bytes, (1 << 30) + 5);
}

#[test]
fn long_files_are_cut_and_short_ones_extended_with_their_bytes_kept() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("long"), payload(112)).unwrap();
    fs::write(dir.path().join("longer"), payload(21)).unwrap();
    fs::write(dir.path().join("short"), payload(3)).unwrap();
    let it = storage(dir.path(), vec![file("long", 100), file("longer", 20), file("short", 10)], 4);
    let prepared = it.prepare().unwrap();
    assert_eq!(
        prepared.repaired,
        ["long was 12 bytes too long: truncated to 100", "longer was 1 byte too long: truncated to 20"]
    );
    assert_eq!(prepared.found_bytes, 100 + 20 + 3);
    assert_eq!(fs::read(dir.path().join("long")).unwrap(), payload(100));
    assert_eq!(fs::read(dir.path().join("short")).unwrap(), [1, 2, 3, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn spans_cross_files_pads_and_empty_files() {
    let dir = tempdir().unwrap();
    let it = storage(dir.path(), vec![file("a", 10), file("e", 0), pad(6), file("b", 4), file("c", 20)], 4);
    it.prepare().unwrap();
    let bytes = payload(40);
    let slices: Vec<IoSlice<'_>> =
        [&bytes[..3], &[], &bytes[3..12], &bytes[12..13], &bytes[13..]].map(IoSlice::new).into();
    it.write_vectored_at(0, &slices).unwrap();
    assert_eq!(fs::read(dir.path().join("a")).unwrap(), bytes[..10]);
    assert_eq!(fs::read(dir.path().join("b")).unwrap(), bytes[16..20]);
    assert_eq!(fs::read(dir.path().join("c")).unwrap(), bytes[20..]);
    let mut back = vec![9; 38];
    it.read_exact_at(1, &mut back).unwrap();
    let mut expected = bytes[1..39].to_vec();
    expected[9..15].fill(0);
    assert_eq!(back, expected);
}

#[test]
fn more_slices_than_one_system_call_takes() {
    let dir = tempdir().unwrap();
    let bytes = payload(5000);
    let it = storage(dir.path(), vec![file("a", 1), file("b", 4999)], 4);
    it.prepare().unwrap();
    let slices: Vec<IoSlice<'_>> = bytes.chunks(1).map(IoSlice::new).collect();
    it.write_vectored_at(0, &slices).unwrap();
    let mut back = vec![0; 5000];
    it.read_exact_at(0, &mut back).unwrap();
    assert_eq!(back, bytes);
}

#[test]
fn ranges_outside_of_the_torrent_are_refused() {
    let dir = tempdir().unwrap();
    let it = storage(dir.path(), vec![file("a", 10)], 4);
    it.prepare().unwrap();
    let bytes = [1; 4];
    for offset in [7, 10, u64::MAX - 1] {
        let outside = |result| assert!(matches!(result, Err(StorageError::OutOfRange { .. })), "{offset}");
        outside(it.write_vectored_at(offset, &[IoSlice::new(&bytes)]));
        outside(it.read_exact_at(offset, &mut [0; 4]));
    }
    assert_eq!(fs::read(dir.path().join("a")).unwrap(), [0; 10]);
}

#[test]
fn many_small_files_with_few_open() {
    let dir = tempdir().unwrap();
    let files = (0..1000).map(|i| file(&format!("d{}/f{i}", i % 10), i % 7)).collect();
    let it = storage(dir.path(), files, 4);
    it.prepare().unwrap();
    let bytes = payload(it.layout().total() as usize);
    for (n, chunk) in bytes.chunks(100).enumerate() {
        it.write_vectored_at(n as u64 * 100, &[IoSlice::new(chunk)]).unwrap();
        assert!(it.cache.ring.lock().len() <= 4);
    }
    it.sync().unwrap();
    it.close();
    assert_eq!(it.cache.ring.lock().len(), 0);
    let mut back = vec![0; bytes.len()];
    it.read_exact_at(0, &mut back).unwrap();
    assert!(back == bytes);
    assert_eq!(it.cache.ring.lock().len(), 4);
}

#[test]
fn a_file_that_vanished_or_shrank_is_missing() {
    let dir = tempdir().unwrap();
    let it = storage(dir.path(), vec![file("a", 10), file("b", 10)], 4);
    it.prepare().unwrap();
    fs::remove_file(dir.path().join("a")).unwrap();
    fs::write(dir.path().join("b"), [1; 9]).unwrap();
    let missing = StorageErrorKind::Missing;
    assert_eq!(kind(it.read_exact_at(0, &mut [0; 4])), missing);
    assert_eq!(kind(it.write_vectored_at(0, &[IoSlice::new(&[1])])), missing);
    assert_eq!(kind(it.has_data(0, 4)), missing);
    let short = it.read_exact_at(18, &mut [0; 2]).unwrap_err();
    assert_eq!(short.kind(), missing);
    let name = dir.path().join("b");
    assert_eq!(short.to_string(), format!("cannot read from {}: it is shorter than the torrent says", name.display()));
    assert_eq!(kind(it.has_data(19, 1)), missing);
}

#[test]
fn links_that_lead_out_or_nowhere_are_refused() {
    let dir = tempdir().unwrap();
    // Its name starts with the root's name; this must not count as inside.
    let (root, outside) = (dir.path().join("out"), dir.path().join("outside"));
    fs::create_dir_all(&root).unwrap();
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join("secret"), b"keep").unwrap();
    let long_way = vec![file("down/deeper/secret", 4)];
    for (link, target, files) in [
        ("name", "../outside/secret", vec![file("name", 1)]),
        ("name", "../outside/new", vec![file("name", 1)]),
        ("name", "nowhere", vec![file("name", 1)]),
        ("down", "../outside", vec![file("down/secret", 1)]),
        ("down", "..", long_way.clone()),
        ("down", "/", long_way),
    ] {
        symlink(target, root.join(link)).unwrap();
        let it = storage(&root, files, 4);
        assert_eq!(kind(it.prepare()), StorageErrorKind::Escapes, "{link} -> {target}");
        fs::remove_file(root.join(link)).unwrap();
    }
    assert_eq!(fs::read(outside.join("secret")).unwrap(), b"keep");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn a_link_that_appears_later_is_refused_too() {
    let dir = tempdir().unwrap();
    let (root, outside) = (dir.path().join("out"), dir.path().join("outside"));
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join("a"), [7; 10]).unwrap();
    let it = storage(&root, vec![file("d/a", 10)], 4);
    it.prepare().unwrap();
    fs::rename(root.join("d"), root.join("e")).unwrap();
    symlink(&outside, root.join("d")).unwrap();
    assert_eq!(kind(it.write_vectored_at(0, &[IoSlice::new(&[1])])), StorageErrorKind::Escapes);
    assert_eq!(kind(it.read_exact_at(0, &mut [0])), StorageErrorKind::Escapes);
    assert_eq!(fs::read(outside.join("a")).unwrap(), [7; 10]);
}

#[test]
fn links_that_stay_inside_are_followed_and_the_root_may_be_one() {
    let dir = tempdir().unwrap();
    fs::create_dir_all(dir.path().join("real/target")).unwrap();
    fs::write(dir.path().join("real/file"), b"").unwrap();
    symlink("target", dir.path().join("real/d")).unwrap();
    symlink("file", dir.path().join("real/name")).unwrap();
    symlink("real", dir.path().join("root")).unwrap();
    let it = storage(&dir.path().join("root"), vec![file("d/a", 2), file("name", 2)], 4);
    it.prepare().unwrap();
    it.write_vectored_at(0, &[IoSlice::new(b"abcd")]).unwrap();
    assert_eq!(fs::read(dir.path().join("real/target/a")).unwrap(), b"ab");
    assert_eq!(fs::read(dir.path().join("real/file")).unwrap(), b"cd");
}

#[test]
fn obstacles_are_named() {
    let dir = tempdir().unwrap();
    fs::create_dir(dir.path().join("folder")).unwrap();
    fs::write(dir.path().join("file"), b"x").unwrap();
    symlink("file", dir.path().join("link")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
    let prepare = |root: &Path, path| kind(storage(root, vec![file(path, 1)], 4).prepare());
    assert_eq!(prepare(dir.path(), "folder"), StorageErrorKind::Exists);
    assert_eq!(prepare(dir.path(), "file/x"), StorageErrorKind::NotAFolder);
    assert_eq!(prepare(dir.path(), "link/x"), StorageErrorKind::NotAFolder);
    assert_eq!(prepare(&dir.path().join("file"), "x"), StorageErrorKind::NotAFolder);
    assert_eq!(prepare(dir.path(), "socket"), StorageErrorKind::Exists);
    assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"x");
}

#[test]
fn a_pipe_where_a_file_must_be_does_not_block() {
    let dir = tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert_eq!(kind(storage(dir.path(), vec![file("pipe", 1)], 4).prepare()), StorageErrorKind::Exists);
}

/// Runs `work` as an unprivileged user, because permissions do not stop root.
fn unprivileged<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if rustix::process::geteuid().is_root() {
                // Affects this thread only; the thread ends with the closure.
                let nobody = rustix::process::Uid::from_raw(65534);
                rustix::thread::set_thread_res_uid(nobody, nobody, nobody).expect("a superuser may become nobody");
            }
            work()
        });
        thread.join().unwrap()
    })
}

fn set_mode(dir: &TempDir, name: &str, mode: u32) {
    fs::set_permissions(dir.path().join(name), Permissions::from_mode(mode)).unwrap();
}

#[test]
fn whole_files_in_a_read_only_folder_can_be_seeded() {
    let dir = tempdir().unwrap();
    fs::create_dir(dir.path().join("d")).unwrap();
    fs::write(dir.path().join("d/a"), payload(10)).unwrap();
    set_mode(&dir, "d/a", 0o444);
    set_mode(&dir, "d", 0o555);
    set_mode(&dir, "", 0o555);
    unprivileged(|| {
        let it = storage(dir.path(), vec![file("d/a", 10)], 4);
        assert_eq!(it.prepare().unwrap().found_bytes, 10);
        let mut back = [0; 10];
        it.read_exact_at(0, &mut back).unwrap();
        assert_eq!(back, payload(10)[..]);
        let refused = StorageErrorKind::Permission;
        assert_eq!(kind(it.write_vectored_at(0, &[IoSlice::new(&[1])])), refused);
        assert_eq!(kind(storage(dir.path(), vec![file("d/a", 9)], 4).prepare()), refused);
        assert_eq!(kind(storage(dir.path(), vec![file("d/new", 9)], 4).prepare()), refused);
        assert_eq!(kind(storage(dir.path(), vec![file("new/a", 9)], 4).prepare()), refused);
    });
    set_mode(&dir, "", 0o755);
    set_mode(&dir, "d", 0o755);
    assert_eq!(fs::read(dir.path().join("d/a")).unwrap(), payload(10));
}

#[test]
fn only_written_bytes_are_data() {
    let dir = tempdir().unwrap();
    let mib = 1 << 20;
    let it = storage(dir.path(), vec![file("a", 8 * mib), pad(mib), file("b", mib)], 4);
    it.prepare().unwrap();
    assert!(!it.has_data(0, 10 * mib).unwrap());
    it.write_vectored_at(4 * mib, &[IoSlice::new(&[1; 4096])]).unwrap();
    assert!(it.has_data(0, 10 * mib).unwrap());
    assert!(it.has_data(4 * mib + 100, 10).unwrap());
    // File systems allocate larger units than we write, but none of several megabytes.
    assert!(!it.has_data(6 * mib, 4 * mib).unwrap());
    assert!(!it.has_data(0, 2 * mib).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn writes_in_any_parts_are_read_back(
        lengths in proptest::collection::vec((0u64..60, prop::bool::weighted(0.2)), 1..8),
        cuts in proptest::collection::vec(1usize..50, 1..20),
    ) {
        let dir = tempdir().unwrap();
        let files = lengths.iter().enumerate();
        let files: Vec<_> = files.map(|(i, &(length, pad))| FileSpec { path: format!("{i}").into(), length, is_pad: pad }).collect();
        let it = storage(dir.path(), files, 2);
        it.prepare().unwrap();
        let bytes = payload(it.layout().total() as usize);
        let mut expected = bytes.clone();
        let mut at = 0;
        for &(length, pad) in &lengths {
            if pad {
                expected[at..at + length as usize].fill(0);
            }
            at += length as usize;
        }
        let mut cuts = cuts.into_iter().cycle();
        let mut done = 0;
        while done < bytes.len() {
            let end = (done + cuts.next().unwrap()).min(bytes.len());
            let slices: Vec<_> = bytes[done..end].chunks(cuts.next().unwrap()).map(IoSlice::new).collect();
            it.write_vectored_at(done as u64, &slices).unwrap();
            done = end;
        }
        let mut back = vec![9; bytes.len()];
        it.read_exact_at(0, &mut back).unwrap();
        prop_assert_eq!(back, expected);
    }
}
