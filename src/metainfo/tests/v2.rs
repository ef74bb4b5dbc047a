//! Torrents for v2 and hybrids: what is read of them, and which are refused.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64};

use super::*;
use crate::hash::{merkle, sha256};
use crate::types::{BLOCK_SIZE, InfoHashV2, Sha256Hash};

const PIECE: u32 = 2 * BLOCK_SIZE;

/// A file of a tree, with its content.
type Content<'a> = (&'a str, &'a [u8]);

fn leaves(content: &[u8]) -> Vec<Sha256Hash> {
    content.chunks(BLOCK_SIZE as usize).map(sha256).collect()
}

/// The hashes of the pieces, of which there are several.
fn layer(content: &[u8]) -> Vec<Sha256Hash> {
    let width = (PIECE / BLOCK_SIZE) as usize;
    content.chunks(PIECE as usize).map(|piece| merkle::root(leaves(piece), 0, width)).collect()
}

fn root(content: &[u8]) -> Sha256Hash {
    let leaves = leaves(content);
    let width = leaves.len().next_power_of_two();
    merkle::root(leaves, 0, width)
}

fn leaf(content: &[u8]) -> Vec<u8> {
    let length = ("length", i(i64::try_from(content.len()).expect("a length")));
    let file = if content.is_empty() { d(&[length]) } else { d(&[length, ("pieces root", s(root(content)))]) };
    d(&[("", file)])
}

fn tree(files: &[Content<'_>]) -> Vec<u8> {
    let entries: Vec<_> = files.iter().map(|(name, content)| (*name, leaf(content))).collect();
    d(&entries)
}

/// A v2-only torrent with this tree and these piece layers.
fn with_tree(tree: Vec<u8>, layers: Option<Vec<u8>>) -> Vec<u8> {
    let info = [("file tree", tree), ("meta version", i(2)), ("name", s("t")), ("piece length", i(PIECE.into()))];
    let layers = layers.map(|layers| ("piece layers", layers));
    d(&[("info", d(&info))].into_iter().chain(layers).collect::<Vec<_>>())
}

fn bytes_d(entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let body: Vec<u8> = entries.iter().flat_map(|(key, value)| [s(key), value.clone()].concat()).collect();
    [b"d".as_slice(), &body, b"e"].concat()
}

fn layers_of(contents: &[&[u8]]) -> Vec<u8> {
    let mut entries: Vec<_> =
        contents.iter().map(|content| (root(content).to_vec(), s(layer(content).as_flattened()))).collect();
    entries.sort();
    bytes_d(&entries)
}

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..length).map(|_| rng.u8(..)).collect()
}

fn said(bytes: &[u8]) -> String {
    Metainfo::parse(bytes).map_or_else(|error| error.to_string(), |_| "a torrent".to_owned())
}

#[test]
fn each_file_with_data_starts_at_a_piece() {
    let large = noise(70_000, 1);
    let folder = tree(&[("x", b"xx"), ("y", &large)]);
    let entries = [("a", leaf(b"")), ("b", leaf(b"bbb")), ("c", leaf(b"")), ("d", folder), ("e", leaf(b""))];
    let bytes = with_tree(d(&entries), Some(layers_of(&[&large])));
    let read = Metainfo::parse(&bytes).unwrap();
    let shown: Vec<_> = read.files.iter().map(|f| (f.path.to_str().unwrap(), f.length, f.is_virtual)).collect();
    let gaps = [u64::from(PIECE) - 3, u64::from(PIECE) - 2];
    let expected = [
        ("t/a", 0, false),
        ("t/b", 3, false),
        ("t/.pad/32765", gaps[0], true),
        ("t/c", 0, false),
        ("t/d/x", 2, false),
        ("t/.pad/32766", gaps[1], true),
        ("t/d/y", 70_000, false),
        ("t/e", 0, false),
    ];
    assert_eq!(shown, expected);
    assert_eq!((read.piece_count(), read.total(), read.pieces.len()), (5, 2 * u64::from(PIECE) + 70_000, 0));
    assert_eq!((read.version(), read.is_multi_file, read.name.as_str()), (TorrentVersion::V2, true, "t"));
    assert_eq!(read.info_hash_v2, Some(InfoHashV2(sha256(&read.info))));
    assert_eq!(read.info_hash.0, sha256(&read.info)[..20]);
    let v2 = read.v2_hashes().unwrap();
    let roots: Vec<_> = v2.files().iter().map(|file| (file.file, file.root, file.pieces.clone())).collect();
    assert_eq!(roots, [(1, root(b"bbb"), 0..1), (4, root(b"xx"), 1..2), (6, root(&large), 2..5)]);
    assert_eq!(v2.layer(&v2.files()[2]), Some(layer(&large).as_slice()));
    assert_eq!(
        (0..6).map(|p| v2.data_length(PieceIndex(p))).collect::<Vec<_>>(),
        [3, 2, PIECE, PIECE, 70_000 - 2 * PIECE, 0]
    );
    let again = Metainfo::parse(&read.to_bytes()).unwrap();
    assert_eq!(again, read);
}

#[test]
fn one_file_at_the_top_is_a_single_file_with_its_own_name() {
    let content = noise(40_000, 2);
    let bytes = with_tree(tree(&[("own.bin", &content)]), Some(layers_of(&[&content])));
    let read = Metainfo::parse(&bytes).unwrap();
    assert_eq!((read.name.as_str(), read.is_multi_file, read.files.len()), ("own.bin", false, 1));
    assert_eq!((read.files[0].path.to_str(), read.total(), read.piece_count()), (Some("own.bin"), 40_000, 2));
    let below = with_tree(d(&[("d", tree(&[("own.bin", &content)]))]), None);
    let read = Metainfo::parse(&below).unwrap();
    assert_eq!((read.name.as_str(), read.is_multi_file), ("t", true));
    assert_eq!(read.files[0].path.to_str(), Some("t/d/own.bin"));
    let hidden = Metainfo::parse(&with_tree(tree(&[(".rc", b"x")]), None)).unwrap();
    assert_eq!((hidden.name.as_str(), hidden.hidden_name.as_deref()), ("_rc", Some(".rc")));
}

#[test]
fn attributes_and_links_count_as_in_v1() {
    let script = d(&[("attr", s("xh")), ("length", i(1)), ("pieces root", s(root(b"a")))]);
    let link = d(&[("attr", s("l")), ("length", i(7)), ("symlink path", l(&[s("d"), s("run")]))]);
    let lost = d(&[("attr", s("l")), ("symlink path", l(&[s("gone")]))]);
    let entries = [("d", d(&[("run", d(&[("", script)]))])), ("link", d(&[("", link)])), ("lost", d(&[("", lost)]))];
    let read = Metainfo::parse(&with_tree(d(&entries), None)).unwrap();
    assert!(read.files[0].is_executable && !read.files[0].is_virtual);
    assert_eq!(read.files[1].special_entry(), Some(&SpecialEntry::Link("t/d/run".into())));
    assert!(read.files[2].is_virtual && read.files[2].special_entry().is_none());
    let away = d(&[("attr", s("l")), ("symlink path", l(&[s(".."), s("etc")]))]);
    assert!(said(&with_tree(d(&[("a", leaf(b"x")), ("away", d(&[("", away)]))]), None)).contains("leads out"));
}

#[test]
fn unsound_trees_are_refused_with_the_reason() {
    let file = |entries: &[(&str, Vec<u8>)]| d(&[("f", d(&[("", d(entries))]))]);
    let root = || ("pieces root", s([1; 32]));
    let mut deep = leaf(b"x");
    (0..100).for_each(|_| deep = d(&[("a", deep.clone())]));
    let long = "n".repeat(5000);
    let table: Vec<(Vec<u8>, &str)> = vec![
        (i(1), "`file tree` is not a dictionary"),
        (d(&[]), "no files"),
        (d(&[("a", d(&[]))]), "no files"),
        (d(&[("", d(&[("length", i(0))]))]), "`/` has an empty name"),
        (d(&[("a", i(1))]), "`/` has an entry that is not a dictionary"),
        (d(&[("a", d(&[("", i(1))]))]), "`a` has an entry that is not a dictionary"),
        (d(&[("a", d(&[("", d(&[("length", i(0))])), ("b", leaf(b"x"))]))]), "`a` is both a file and a folder"),
        (d(&[("a", d(&[("b", leaf(b"x")), ("", d(&[("length", i(0))]))]))]), "`a` is both a file and a folder"),
        (d(&[("b", leaf(b"x")), ("a", leaf(b"x"))]), "`/` has entries that are not sorted"),
        (d(&[("a", leaf(b"x")), ("a", leaf(b"x"))]), "the key `a` occurs twice"),
        (d(&[("..", leaf(b"x"))]), "the component `..`"),
        (d(&[(".", leaf(b"x"))]), "the component `.`"),
        (d(&[("a", deep)]), "more than 100 folders deep"),
        (d(&[(&long, leaf(b"x"))]), "too long"),
        (file(&[]), "`length` is missing"),
        (file(&[("length", s("1")), root()]), "`length` is not an integer"),
        (file(&[("length", i(-1)), root()]), "negative length"),
        (file(&[("length", i(0)), root()]), "`f` is empty, but has a `pieces root`"),
        (file(&[("length", i(1))]), "`f` has no valid `pieces root`"),
        (file(&[("length", i(1)), ("pieces root", s([1; 31]))]), "`f` has no valid `pieces root`"),
        (file(&[("length", i(1)), ("pieces root", s([1; 33]))]), "`f` has no valid `pieces root`"),
        (file(&[("length", i(1)), ("pieces root", s([0; 32]))]), "`f` has no valid `pieces root`"),
        (file(&[("length", i(1)), ("pieces root", i(1))]), "`f` has no valid `pieces root`"),
        (file(&[("attr", s("p")), ("length", i(1)), root()]), "`f` is padding"),
        (file(&[("length", i(i64::MAX)), root()]), "more than 2097152 pieces"),
        (file(&[("length", i((1 << 21) * i64::from(PIECE) + 1)), root()]), "more than 2097152 pieces"),
    ];
    for (tree, word) in table {
        let said = said(&with_tree(tree.clone(), None));
        assert!(said.contains(word), "{}: {said}", tree.escape_ascii());
    }
    let most = file(&[("length", i((1 << 21) * i64::from(PIECE))), root()]);
    assert_eq!(said(&with_tree(most, None)), "a torrent");
    let two = [("a", leaf(b"x")), ("b", d(&[("", d(&[("length", i(i64::MAX)), root()]))]))];
    assert!(said(&with_tree(d(&two), None)).contains("too large"));
    let mut deep = leaf(b"x");
    (0..99).for_each(|_| deep = d(&[("a", deep.clone())]));
    assert_eq!(said(&with_tree(d(&[("a", deep)]), None)), "a torrent");
}

#[test]
fn versions_and_piece_lengths_that_do_not_fit_are_refused() {
    let info = |key: &str, value: Option<Vec<u8>>| {
        let tree = tree(&[("a", b"x")]);
        let info = [("file tree", tree), ("meta version", i(2)), ("name", s("a")), ("piece length", i(PIECE.into()))];
        let mut info: Vec<_> = info.into_iter().filter(|(k, _)| *k != key).collect();
        info.extend(value.map(|value| (key, value)));
        said(&torrent(&info))
    };
    assert_eq!(info("", None), "a torrent");
    for (key, value, word) in [
        ("meta version", Some(i(3)), "a torrent of version 3, which btsync does not know"),
        ("meta version", None, "`meta version` is missing"),
        ("meta version", Some(i(1)), "`meta version` is missing"),
        ("file tree", None, "`file tree` is missing"),
        ("piece length", None, "`piece length` is missing"),
        ("piece length", Some(i(8192)), "the piece length 8192 is not allowed"),
        ("piece length", Some(i(49152)), "the piece length 49152 is not allowed"),
        ("piece length", Some(i(1 << 30)), "the piece length 1073741824 is not allowed"),
        ("pieces", Some(s([1; 20])), "neither `length` nor `files`"),
    ] {
        let said = info(key, value);
        assert!(said.contains(word), "{key}: {said}");
    }
}

#[test]
fn piece_layers_must_lead_to_the_roots_of_their_files() {
    let (one, other, small) = (noise(70_000, 3), noise(90_000, 4), noise(30_000, 5));
    let files = || tree(&[("a", &one), ("b", &one), ("c", &other), ("d", &small)]);
    let entry = |root: Sha256Hash, layer: &[Sha256Hash]| (root.to_vec(), s(layer.as_flattened()));
    let sorted = |mut entries: Vec<(Vec<u8>, Vec<u8>)>| {
        entries.sort();
        bytes_d(&entries)
    };
    let (right, other_right) = (entry(root(&one), &layer(&one)), entry(root(&other), &layer(&other)));
    let mut wrong = layer(&one);
    wrong[1][0] ^= 1;
    let extra = entry(root(&small), &[root(&small)]);
    let table: Vec<(Vec<u8>, &str)> = vec![
        (sorted(vec![right.clone(), other_right.clone()]), "a torrent"),
        (i(1), "are not a dictionary"),
        (sorted(vec![entry(root(&one), &layer(&one)[1..]), other_right.clone()]), "length does not fit its file"),
        (sorted(vec![entry(root(&one), &layer(&other)[..3]), other_right.clone()]), "does not lead to the root"),
        (sorted(vec![entry(root(&one), &wrong), other_right.clone()]), "does not lead to the root"),
        (sorted(vec![right.clone(), extra]), "a layer of no file of several pieces"),
        (sorted(vec![right.clone(), entry([9; 32], &layer(&one))]), "a layer of no file of several pieces"),
        (sorted(vec![(vec![1; 31], s([0; 32]))]), "a key that is no root"),
        (sorted(vec![(right.0.clone(), s([0; 33]))]), "not a multiple of 32"),
        (sorted(vec![(right.0.clone(), i(1))]), "a layer that is not a string"),
        (bytes_d(&[right.clone(), right.clone()]), "occurs twice"),
    ];
    for (layers, word) in table {
        let said = said(&with_tree(files(), Some(layers)));
        assert!(said.contains(word), "{word}: {said}");
    }
    // Layers that are missing can come from peers.
    for layers in [None, Some(bytes_d(&[])), Some(bytes_d(&[right]))] {
        let has = layers.as_ref().is_some_and(|layers| layers.len() > 2);
        let read = Metainfo::parse(&with_tree(files(), layers)).unwrap();
        let v2 = read.v2_hashes().unwrap();
        let known: Vec<_> = v2.files().iter().map(|file| v2.layer(file).is_some()).collect();
        assert_eq!(known, [has, has, false, true]);
        assert_eq!(Metainfo::parse(&read.to_bytes()).unwrap(), read);
    }
}

/// A hybrid with the files of `v1` (`None`: padding) and of `tree`.
fn hybrid(v1: &[(Option<&str>, u64)], tree: &[Content<'_>]) -> Vec<u8> {
    let entry = |(path, length): &(Option<&str>, u64)| match path {
        Some(path) => file(&[path], (*length).cast_signed()),
        None => d(&[("attr", s("p")), ("length", i((*length).cast_signed())), ("path", l(&[s(".pad"), s("1")]))]),
    };
    let total: u64 = v1.iter().map(|(_, length)| length).sum();
    torrent(&[
        ("file tree", self::tree(tree)),
        ("files", l(&v1.iter().map(entry).collect::<Vec<_>>())),
        ("meta version", i(2)),
        ("name", s("t")),
        ("piece length", i(PIECE.into())),
        ("pieces", s(vec![1; total.div_ceil(PIECE.into()) as usize * 20])),
    ])
}

#[test]
fn both_halves_of_a_hybrid_have_the_same_files() {
    let large = noise(40_000, 6);
    let (pad, tail) = (u64::from(PIECE) - 3, 2 * u64::from(PIECE) - 40_000);
    let files: &[Content<'_>] = &[("a", b"abc"), ("b", b""), ("c", &large)];
    let a = (Some("a"), 3);
    let (b, c) = ((Some("b"), 0), (Some("c"), 40_000));
    for sound in [vec![a, (None, pad), b, c], vec![a, b, (None, pad), c], vec![a, (None, pad), b, c, (None, tail)]] {
        let read = Metainfo::parse(&hybrid(&sound, files)).unwrap();
        assert_eq!((read.version(), read.piece_count()), (TorrentVersion::Hybrid, 3));
        assert_eq!(read.info_hash.0, <[u8; 20]>::from(Sha1::digest(&read.info)));
        let v2 = read.v2_hashes().unwrap();
        let places: Vec<_> = v2.files().iter().map(|tree| read.files[tree.file as usize].path.to_str()).collect();
        assert_eq!(places, [Some("t/a"), Some("t/c")]);
    }
    let table: Vec<(Vec<_>, &str)> = vec![
        (vec![a, (None, pad), b], "only the v2 half has `c`"),
        (vec![a, (None, pad), b, c, (Some("d"), 0)], "only the v1 half has `d`"),
        (vec![a, (None, pad), c, b], "`c` in one is `b` in the other"),
        (vec![a, (None, pad), b, (Some("C"), 40_000)], "`C` in one is `c` in the other"),
        (vec![a, (None, pad), b, (Some("c"), 40_001)], "`c` has 40001 bytes in one and 40000 in the other"),
        (vec![a, b, c], "`c` does not start at its piece"),
        (vec![a, (None, pad + u64::from(PIECE)), b, c], "`c` does not start at its piece"),
        (vec![(None, u64::from(PIECE)), a, (None, pad), b, c], "`a` does not start at its piece"),
        (vec![a, (None, pad), b, c, (None, tail + 1)], "the v1 half has more pieces"),
    ];
    for (v1, word) in table {
        let said = said(&hybrid(&v1, files));
        assert!(said.contains("describe different files") && said.contains(word), "{word}: {said}");
    }
    assert!(said(&hybrid(&[a, (None, pad), b, c], &[("a", b"abc"), ("b", b"")])).contains("only the v1 half has `c`"));
}

#[test]
fn a_hybrid_of_one_file_has_its_name_and_length_in_both_halves() {
    let single = |name: &str, length: i64| {
        torrent(&[
            ("file tree", tree(&[("a", b"abc")])),
            ("length", i(length)),
            ("meta version", i(2)),
            ("name", s(name)),
            ("piece length", i(PIECE.into())),
            ("pieces", s([1; 20])),
        ])
    };
    let read = Metainfo::parse(&single("a", 3)).unwrap();
    assert_eq!((read.version(), read.is_multi_file, read.files.len()), (TorrentVersion::Hybrid, false, 1));
    assert!(said(&single("b", 3)).contains("`b` in one is `a` in the other"));
    assert!(said(&single("a", 4)).contains("`a` has 4 bytes in one and 3 in the other"));
}

#[test]
fn links_of_v2_and_hybrid_torrents_name_their_hashes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    fs::write(&path, noise(50_000, 7)).unwrap();
    for version in [TorrentVersion::V2, TorrentVersion::Hybrid] {
        let options = CreateOptions { version, ..CreateOptions::default() };
        let made = create(&path, &options, &AtomicU64::new(0), &AtomicBool::new(false)).unwrap();
        let read = Metainfo::parse(&made.bytes).unwrap();
        assert_eq!((read.info_hash, read.info_hash_v2), (made.info_hash, made.info_hash_v2));
        let link = Magnet::parse(&Magnet::of(&read).to_string()).unwrap();
        assert_eq!((link.info_hash, link.info_hash_v2), (read.info_hash, read.info_hash_v2));
        assert_eq!(link.has_v1(), version == TorrentVersion::Hybrid);
    }
}
