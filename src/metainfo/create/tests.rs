//! Created torrents parse back to the same content, with the same hashes as a naive implementation.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sha1::{Digest, Sha1};

use super::*;
use crate::metainfo::*;

/// Creates files in a new folder `t`; each item is a path and its content.
fn tree(files: &[(&str, Vec<u8>)]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("t");
    for (path, content) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    (dir, root)
}

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..length).map(|_| rng.u8(..)).collect()
}

fn make(source: &Path, options: &CreateOptions) -> (CreatedTorrent, Metainfo) {
    let progress = AtomicU64::new(0);
    let made = create(source, options, &progress, &AtomicBool::new(false)).unwrap();
    assert_eq!(progress.load(Ordering::Relaxed), made.total);
    let read = Metainfo::parse(&made.bytes).unwrap();
    assert_eq!(
        (read.info_hash, read.piece_length, read.piece_count()),
        (made.info_hash, made.piece_length, made.pieces)
    );
    assert_eq!(read.total(), made.total);
    (made, read)
}

/// The piece hashes by a naive single-threaded implementation.
fn naive(files: &[Vec<u8>], piece_length: u32) -> Vec<[u8; 20]> {
    files.concat().chunks(piece_length as usize).map(|piece| Sha1::digest(piece).into()).collect()
}

#[test]
fn created_torrents_are_read_back_with_the_right_hashes() {
    let contents = [
        ("B", noise(5 << 20, 1)),
        ("a/empty", vec![]),
        ("a/x", noise(1, 2)),
        ("a/y/z", noise((1 << 20) + 12345, 3)),
        ("a.b", noise(70_000, 4)),
        ("zero", vec![]),
    ];
    let (_dir, root) = tree(&contents);
    // Paths sort by components: `a/…` comes before `a.b`.
    let in_order: Vec<_> = contents.iter().map(|(_, content)| content.clone()).collect();
    for (piece_length, threads) in [(16 << 10, 1), (64 << 10, 3), (8 << 20, 2), (16 << 20, 0)] {
        let options = CreateOptions { piece_length: Some(piece_length), threads, ..CreateOptions::default() };
        let (_, read) = make(&root, &options);
        let paths: Vec<_> = read.files.iter().map(|f| f.path.to_str().unwrap()).collect();
        assert_eq!(paths, ["t/B", "t/a/empty", "t/a/x", "t/a/y/z", "t/a.b", "t/zero"]);
        assert!(read.pieces == naive(&in_order, piece_length), "piece length {piece_length}");
    }
}

#[test]
fn every_option_arrives_and_the_keys_are_sorted() {
    let (_dir, root) = tree(&[("one.bin", noise(100_000, 5))]);
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let options = CreateOptions {
        tiers: vec![words("http://a http://b"), vec![], words("udp://c")],
        is_private: true,
        comment: Some("für dich".into()),
        web_seeds: words("http://w"),
        nodes: vec![("dht.example".into(), 6881), ("2001:db8::7".into(), 1)],
        source: Some("tracker x".into()),
        created_by: Some("btsync".into()),
        creation_date: Some(1_800_000_000),
        ..CreateOptions::default()
    };
    let (made, read) = make(&root.join("one.bin"), &options);
    assert_eq!((read.name.as_str(), read.is_multi_file, read.is_private), ("one.bin", false, true));
    assert_eq!(read.tiers, [words("http://a http://b"), words("udp://c")]);
    assert_eq!((read.comment, read.created_by), (options.comment, options.created_by));
    assert_eq!((read.creation_date, read.web_seeds), (options.creation_date, options.web_seeds));
    let holds = |bytes: &[u8], part: &str| bytes.windows(part.len()).any(|w| w == part.as_bytes());
    assert!(holds(&made.bytes, "5:nodesll11:dht.examplei6881eel11:2001:db8::7i1eee"));
    assert!(holds(&read.info, "7:privatei1e6:source9:tracker xe"));
    // serde_bencode sorts what it writes.
    let value: serde_bencode::value::Value = serde_bencode::from_bytes(&made.bytes).unwrap();
    assert_eq!(serde_bencode::to_bytes(&value).unwrap(), made.bytes);
}

#[test]
fn padding_lets_every_file_begin_with_a_piece() {
    const PIECE: usize = 16 << 10;
    let contents = [
        ("a", noise(1, 10)),
        ("b", vec![]),
        ("c", noise(PIECE, 11)),
        ("d", noise(3 * PIECE + 5, 12)),
        ("e", noise(7, 13)),
    ];
    let (_dir, root) = tree(&[&contents[..], &[("f", vec![])]].concat());
    let options = CreateOptions { piece_length: Some(PIECE as u32), adds_pad_files: true, ..CreateOptions::default() };
    let progress = AtomicU64::new(0);
    let made = create(&root, &options, &progress, &AtomicBool::new(false)).unwrap();
    let read = Metainfo::parse(&made.bytes).unwrap();
    let files: Vec<_> =
        read.files.iter().map(|f| (f.path.to_str().unwrap(), f.length as usize, f.is_virtual)).collect();
    let (one, other) = (format!("t/.pad/{}", PIECE - 1), format!("t/.pad/{}", PIECE - 5));
    let expected = [
        ("t/a", 1, false),
        ("t/b", 0, false),
        (&one, PIECE - 1, true),
        ("t/c", PIECE, false),
        ("t/d", 3 * PIECE + 5, false),
        (&other, PIECE - 5, true),
        ("t/e", 7, false),
        ("t/f", 0, false),
    ];
    assert_eq!(files, expected);
    let zeros = |bytes: &[u8], padding: usize| [bytes, &vec![0; padding]].concat();
    let padding = [PIECE - 1, 0, 0, PIECE - 5, 0];
    let content: Vec<_> = contents.iter().zip(padding).map(|((_, bytes), padding)| zeros(bytes, padding)).collect();
    assert_eq!(read.pieces, naive(&content, PIECE as u32));
    // The total and the progress do not count padding.
    assert_eq!((made.total, progress.into_inner()), ((4 * PIECE + 13) as u64, (4 * PIECE + 13) as u64));
}

#[test]
fn excluded_entries_of_any_kind_are_left_out() {
    let (dir, root) =
        tree(&[("a.tmp", noise(1, 1)), ("d/a", noise(2, 2)), ("d/.git/x", noise(3, 3)), ("e/z", noise(4, 4))]);
    fs::write(root.join("a\\b.tmp"), "a name that no torrent may have").unwrap();
    std::os::unix::fs::symlink("nowhere", root.join("link.tmp")).unwrap();
    std::os::unix::fs::symlink("nowhere", root.join("link")).unwrap();
    let globs = |words: &[&str]| words.iter().map(|word| word.parse().unwrap()).collect::<Vec<Glob>>();
    let plan = CreatePlan::scan(&root, &globs(&["*.tmp", ".git", "e/*"])).unwrap();
    assert_eq!(plan.total(), 2);
    let [note] = plan.notes() else { panic!("{:?}", plan.notes()) };
    assert!(note.ends_with("t/link is left out: a symbolic link"), "{note}");
    assert!(matches!(CreatePlan::scan(&root, &globs(&["*"])), Err(CreateError::Empty { .. })));
    assert!(dir.path().join("t/e").is_dir());
}

#[test]
fn files_that_downloads_have_beside_theirs_are_left_out() {
    let own = format!(".{}", "0123456789".repeat(4));
    let names = [".parts", ".btsync", ".btsync.new", ".btsync.parts", ".PARTS"].map(|end| format!("{own}{end}"));
    let others = [".parts".to_owned(), format!("{own}.txt"), own.clone(), "x.btsync".to_owned()];
    let all = names.iter().chain(&others).map(String::as_str).chain(["d/.0123456789abcdef.btsync-copy"]);
    let (_dir, root) = tree(&all.map(|name| (name, noise(1, 1))).collect::<Vec<_>>());
    let plan = CreatePlan::scan(&root, &[]).unwrap();
    assert_eq!(plan.total(), others.len() as u64);
    let is_told =
        |name: &str| plan.notes().iter().any(|note| note.contains(&format!("{name} is left out: it belongs")));
    assert!(names.iter().all(|name| is_told(name)) && is_told("btsync-copy"), "{:?}", plan.notes());
}

#[test]
fn the_piece_length_follows_the_size() {
    let table =
        [(0, 16 << 10), (1, 16 << 10), (2000 << 14, 16 << 10), ((2000 << 14) + 1, 32 << 10), (1 << 30, 1 << 20)];
    for (total, expected) in table {
        assert_eq!(create::choose_piece_length(total), expected, "{total}");
    }
    assert_eq!(create::choose_piece_length(u64::MAX), 16 << 20);
}

#[test]
fn links_are_left_out_and_nothing_is_no_torrent() {
    let (dir, root) = tree(&[("a", noise(10, 6))]);
    fs::write(dir.path().join("secret"), "secret").unwrap();
    std::os::unix::fs::symlink("../secret", root.join("link")).unwrap();
    std::os::unix::fs::symlink("..", root.join("up")).unwrap();
    let (_, read) = make(&root, &CreateOptions::default());
    assert_eq!(read.files.len(), 1);

    let fail = |source: &Path, options: CreateOptions| {
        create(source, &options, &AtomicU64::new(0), &AtomicBool::new(false)).unwrap_err()
    };
    fs::create_dir_all(dir.path().join("hollow/below")).unwrap();
    assert!(matches!(fail(&dir.path().join("hollow"), CreateOptions::default()), CreateError::Empty { .. }));
    assert!(matches!(fail(&dir.path().join("none"), CreateOptions::default()), CreateError::Open { .. }));
    assert!(matches!(fail(Path::new("/dev/null"), CreateOptions::default()), CreateError::Kind { .. }));
    for length in [0, 1, 8 << 10, 48 << 10, 1 << 30] {
        let options = CreateOptions { piece_length: Some(length), ..CreateOptions::default() };
        assert!(matches!(fail(&root, options), CreateError::PieceLength(l) if l == length));
    }
    let odd = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"a\xff");
    fs::write(root.join(odd), "x").unwrap();
    assert!(matches!(fail(&root, CreateOptions::default()), CreateError::Name { .. }));
}

#[test]
fn the_torrent_file_itself_is_left_out() {
    let (dir, root) = tree(&[("a", noise(10, 1)), ("t.torrent", noise(5, 2)), ("d/t.torrent", noise(6, 3))]);
    std::os::unix::fs::symlink(&root, dir.path().join("link")).unwrap();
    for output in ["t/t.torrent", "t/d/../t.torrent", "link/t.torrent"] {
        let plan = CreatePlan::scan_without_output(&root, &[], |_| dir.path().join(output)).unwrap();
        assert_eq!(plan.total(), 16, "{output}");
        assert_eq!(plan.notes().len(), 1, "{:?}", plan.notes());
    }
    let named = CreatePlan::scan_without_output(&root, &[], |name| root.join(format!("{name}.torrent"))).unwrap();
    assert_eq!(named.total(), 16);
    for elsewhere in ["t.torrent", "t/none.torrent", "nowhere/t.torrent"] {
        assert_eq!(CreatePlan::scan_without_output(&root, &[], |_| dir.path().join(elsewhere)).unwrap().total(), 21);
    }
    let itself = CreatePlan::scan_without_output(&root.join("a"), &[], |_| root.join("d/../a"));
    assert!(matches!(itself, Err(CreateError::Output { .. })));
}

#[test]
fn awkward_names_are_taken_as_they_are_and_told() {
    let files = [("a\\b", noise(10, 1)), ("c\x01/d\ne", noise(11, 2)), (".hidden", noise(12, 3))];
    let (dir, root) = tree(&files);
    let (_, read) = make(&root, &CreateOptions::default());
    let places = |read: &Metainfo| read.files.iter().map(|file| read.alternative_paths(file)).collect::<Vec<_>>();
    assert_eq!(places(&read), [vec![], vec![PathBuf::from("t/a\\b")], vec![PathBuf::from("t/c\x01/d\ne")]]);
    let notes = CreatePlan::scan(&root, &[]).unwrap().notes().join("\n");
    assert_eq!(notes.lines().count(), 3, "{notes}");
    assert!(notes.contains("download it as `a_b`"), "{notes}");

    let hidden = dir.path().join(".t\\x");
    fs::rename(&root, &hidden).unwrap();
    let (_, read) = make(&hidden, &CreateOptions::default());
    assert_eq!((read.name.as_str(), read.hidden_name.as_deref()), ("_t_x", Some(".t_x")));
    assert_eq!(places(&read)[1][0], Path::new(".t\\x/a\\b"));
    let notes = CreatePlan::scan(&hidden, &[]).unwrap().notes().join("\n");
    assert!(notes.contains("download it as `_t_x`"), "{notes}");
}

#[test]
fn stopping_and_changing_files_end_the_work() {
    let (_dir, root) = tree(&[("a", noise(100_000, 7)), ("b", noise(100_000, 8))]);
    let plan = CreatePlan::scan(&root, &[]).unwrap();
    assert_eq!((plan.name(), plan.total()), ("t", 200_000));
    let stopped = plan.create(&CreateOptions::default(), &AtomicU64::new(0), &AtomicBool::new(true));
    assert!(matches!(stopped, Err(CreateError::Stopped)));
    for content in [noise(5, 9), noise(100_001, 9)] {
        fs::write(root.join("b"), content).unwrap();
        let changed = plan.create(&CreateOptions::default(), &AtomicU64::new(0), &AtomicBool::new(false));
        assert!(matches!(changed, Err(CreateError::Changed { path }) if path.ends_with("b")));
    }
}

/// The threads that hash read the file before and after the change: its hashes would match no version of it.
#[test]
fn a_file_that_changes_without_another_length_ends_the_work() {
    let (_dir, root) = tree(&[("a", noise(100_000, 7)), ("b", noise(100_000, 8))]);
    let create =
        |plan: &CreatePlan| plan.create(&CreateOptions::default(), &AtomicU64::new(0), &AtomicBool::new(false));
    let plan = CreatePlan::scan(&root, &[]).unwrap();
    assert!(create(&plan).is_ok());
    let file = fs::File::options().write(true).open(root.join("b")).unwrap();
    file.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(1)).unwrap();
    assert!(matches!(create(&plan), Err(CreateError::Changed { path }) if path.ends_with("b")));
    // It has been hashed already when it changes. A fast machine may be done before the change, so try a few times.
    let (_dir, root) = tree(&[("a", noise(100, 7)), ("b", vec![8; 32 << 20])]);
    let is_noticed = || {
        let (plan, progress) = (CreatePlan::scan(&root, &[]).unwrap(), AtomicU64::new(0));
        let file = fs::File::options().write(true).open(root.join("a")).unwrap();
        let options = CreateOptions { threads: 1, ..CreateOptions::default() };
        let created = std::thread::scope(|scope| {
            scope.spawn(|| {
                while progress.load(std::sync::atomic::Ordering::Relaxed) < 100 {
                    std::thread::yield_now();
                }
                file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
            });
            plan.create(&options, &progress, &AtomicBool::new(false))
        });
        file.set_modified(std::time::SystemTime::now()).unwrap();
        matches!(created, Err(CreateError::Changed { path }) if path.ends_with("a"))
    };
    assert!((0..50).any(|_| is_noticed()));
}

#[test]
fn torrents_for_v2_and_hybrids_have_the_roots_of_their_files() {
    const PIECE: usize = 32 << 10;
    let same = noise(3 * PIECE + 1, 31);
    let contents = [
        ("a", noise(1, 30)),
        ("a.b", vec![]),
        ("b/c/d", same.clone()),
        ("b/c/e", same),
        ("b/f", noise(PIECE, 32)),
        ("g", noise(PIECE + 16_385, 33)),
        ("h", noise(20_000, 34)),
        ("i", noise(5 * PIECE, 35)),
    ];
    let (_dir, root) = tree(&contents);
    for version in [TorrentVersion::V2, TorrentVersion::Hybrid] {
        let options =
            CreateOptions { version, piece_length: Some(PIECE as u32), threads: 2, ..CreateOptions::default() };
        let progress = AtomicU64::new(0);
        let made = create(&root, &options, &progress, &AtomicBool::new(false)).unwrap();
        assert_eq!(progress.load(Ordering::Relaxed), made.total);
        let read = Metainfo::parse(&made.bytes).unwrap();
        assert_eq!((read.info_hash, read.info_hash_v2), (made.info_hash, made.info_hash_v2));
        assert_eq!((read.version(), read.piece_count()), (version, made.pieces));
        let v2 = read.v2_hashes().unwrap();
        let with_data: Vec<_> = contents.iter().filter(|(_, content)| !content.is_empty()).collect();
        assert_eq!(v2.files().len(), with_data.len());
        for (file, (path, content)) in v2.files().iter().zip(with_data) {
            assert_eq!(read.files[file.file as usize].path, Path::new("t").join(path));
            assert_eq!(file.root, naive_root(content), "{path}");
            assert!(v2.layer(file).is_some(), "{path}");
        }
        // serde_bencode sorts what it writes.
        let value: serde_bencode::value::Value = serde_bencode::from_bytes(&made.bytes).unwrap();
        assert!(serde_bencode::to_bytes(&value).unwrap() == made.bytes);
        let again = create(&root, &CreateOptions { threads: 1, ..options }, &progress, &AtomicBool::new(false));
        assert_eq!(again.unwrap(), made);
    }
}

#[test]
fn empty_files_have_no_root_and_a_single_file_stands_alone() {
    let (_dir, root) = tree(&[("one", noise(50_000, 36)), ("none", vec![])]);
    for version in [TorrentVersion::V2, TorrentVersion::Hybrid] {
        let options = CreateOptions { version, ..CreateOptions::default() };
        let (_, one) = make(&root.join("one"), &options);
        assert_eq!((one.name.as_str(), one.is_multi_file, one.piece_count()), ("one", false, 4));
        let (_, none) = make(&root.join("none"), &options);
        assert_eq!(
            (none.version(), none.piece_count(), none.v2_hashes().map(|v2| v2.files().len())),
            (version, 0, Some(0))
        );
    }
}

/// The root of a file by the definition.
fn naive_root(content: &[u8]) -> [u8; 32] {
    let mut layer: Vec<[u8; 32]> = content.chunks(16 << 10).map(|block| sha2::Sha256::digest(block).into()).collect();
    layer.resize(layer.len().next_power_of_two(), [0; 32]);
    while layer.len() > 1 {
        layer = layer.chunks(2).map(|pair| sha2::Sha256::digest(pair.concat()).into()).collect();
    }
    layer[0]
}
