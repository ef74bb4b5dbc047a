//! Parsing whole torrent files: valid ones, and the error for each kind of invalid one.

mod nonsense;
mod refused;
mod v2;

use crate::bencode::encode;
use std::path::Path;

use proptest::prelude::*;
use sha1::{Digest, Sha1};

use super::*;
use crate::types::PieceIndex;

/// Bencodes a string.
fn s(text: impl AsRef<[u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    encode::bytes(&mut out, text.as_ref());
    out
}

fn i(value: i64) -> Vec<u8> {
    format!("i{value}e").into_bytes()
}

fn l(items: &[Vec<u8>]) -> Vec<u8> {
    [b"l".as_slice(), &items.concat(), b"e"].concat()
}

fn d(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let body: Vec<u8> = entries.iter().flat_map(|(key, value)| [s(key), value.clone()].concat()).collect();
    [b"d".as_slice(), &body, b"e"].concat()
}

fn file(path: &[&str], length: i64) -> Vec<u8> {
    d(&[("length", i(length)), ("path", l(&path.iter().map(s).collect::<Vec<_>>()))])
}

fn torrent(info: &[(&str, Vec<u8>)]) -> Vec<u8> {
    d(&[("info", d(info))])
}

fn link(target: &[&str]) -> Vec<u8> {
    let target = target.iter().map(s).collect::<Vec<_>>();
    d(&[("attr", s("l")), ("path", l(&[s("link")])), ("symlink path", l(&target))])
}

/// A valid single-file torrent of two pieces, with one entry of `info` replaced, added, or (`None`) removed.
fn single_but(key: &str, value: Option<Vec<u8>>) -> Vec<u8> {
    let info = [("length", i(30)), ("name", s("a.bin")), ("piece length", i(16)), ("pieces", s([7; 40]))];
    let mut info: Vec<_> = info.into_iter().filter(|(k, _)| *k != key).collect();
    info.extend(value.map(|v| (key, v)));
    torrent(&info)
}

/// A multi-file torrent with pieces of 16 bytes.
fn multi(files: &[Vec<u8>], total: u64) -> Vec<u8> {
    let pieces = vec![1; total.div_ceil(16) as usize * 20];
    torrent(&[("files", l(files)), ("name", s("t")), ("piece length", i(16)), ("pieces", s(pieces))])
}

fn error(bytes: &[u8]) -> MetainfoError {
    Metainfo::parse(bytes).expect_err(&bytes.escape_ascii().to_string())
}

#[test]
fn reads_a_single_file() {
    let bytes = d(&[
        ("announce", s("http://a/announce")),
        ("comment", s("hello")),
        ("created by", s("me")),
        ("creation date", i(12)),
        ("info", d(&[("length", i(30)), ("name", s("a.bin")), ("piece length", i(16)), ("pieces", s([7; 40]))])),
        ("url-list", s("http://seed/")),
    ]);
    let t = Metainfo::parse(&bytes).unwrap();
    assert_eq!(
        (t.name.as_str(), t.total(), t.piece_count(), t.is_multi_file, t.is_private),
        ("a.bin", 30, 2, false, false)
    );
    assert_eq!(t.files, [FileEntry::new("a.bin", 30)]);
    assert_eq!([0, 1, 2, u32::MAX].map(|p| t.piece_size(PieceIndex(p))), [16, 14, 0, 0]);
    assert_eq!(t.pieces, [[7; 20]; 2]);
    assert_eq!(t.tiers, [["http://a/announce"]]);
    assert_eq!(t.web_seeds, ["http://seed/"]);
    assert_eq!((t.comment.as_deref(), t.created_by.as_deref(), t.creation_date), (Some("hello"), Some("me"), Some(12)));
}

#[test]
fn the_info_hash_is_that_of_the_bytes_as_they_stand() {
    // Unsorted keys, a key that is not UTF-8, and an unknown one: re-encoding would change each of them.
    let info = [&b"d12:piece lengthi16e6:pieces20:"[..], &[9; 20], b"2:\xff\xfei1e4:name1:x1:zle6:lengthi3ee"].concat();
    let bytes = [&b"d4:info"[..], &info, b"8:announce9:udp://t:1e\n"].concat();
    let t = Metainfo::parse(&bytes).unwrap();
    assert_eq!(t.info, info);
    assert_eq!(t.info_hash.0, <[u8; 20]>::from(Sha1::digest(&info)));
    assert_eq!((t.total(), t.tiers), (3, vec![vec!["udp://t:1".to_owned()]]));
}

#[test]
fn reads_many_files_with_pads_links_and_empty_ones() {
    let attr = |path: &[&str], length, attr: &str| {
        let path = l(&path.iter().map(s).collect::<Vec<_>>());
        d(&[("attr", s(attr)), ("length", i(length)), ("path", path)])
    };
    let link = d(&[("attr", s("l")), ("path", l(&[s("link")])), ("symlink path", l(&[s("d"), s("run")]))]);
    let pad = attr(&[".pad", "6"], 6, "p");
    let files = [file(&["a"], 10), pad.clone(), file(&["d", "empty"], 0), attr(&["d", "run"], 10, "x"), pad, link];
    let t = Metainfo::parse(&multi(&files, 32)).unwrap();
    let seen: Vec<_> = t.files.iter().map(|f| (f.path.to_str().unwrap(), f.length, f.is_virtual)).collect();
    let expected = [
        ("t/a", 10, false),
        ("t/.pad/6", 6, true),
        ("t/d/empty", 0, false),
        ("t/d/run", 10, false),
        ("t/.pad/6", 6, true),
        ("t/link", 0, true),
    ];
    assert_eq!(seen, expected);
    assert_eq!(
        t.files.iter().map(|file| file.is_executable).collect::<Vec<_>>(),
        [false, false, false, true, false, false]
    );
    assert_eq!(t.files[5].special_entry(), Some(&SpecialEntry::Link("t/d/run".into())));
    assert!(t.is_multi_file);
    let empty = multi(&[file(&["x"], 0), file(&["y"], 0)], 0);
    assert_eq!(Metainfo::parse(&empty).map(|t| (t.total(), t.piece_count())).unwrap(), (0, 0));
}

#[test]
fn prefers_the_utf8_names() {
    let entry = d(&[("length", i(1)), ("path", l(&[s(b"\xe9")])), ("path.utf-8", l(&[s("é")]))]);
    let info = [
        ("files", l(&[entry])),
        ("name", s(b"\xe8")),
        ("name.utf-8", s("è")),
        ("piece length", i(16)),
        ("pieces", s([0; 20])),
    ];
    let t = Metainfo::parse(&torrent(&info)).unwrap();
    assert_eq!((t.name.as_str(), t.files[0].path.as_path()), ("è", Path::new("è/é")));
}

#[test]
fn nodes_that_make_no_sense_cost_themselves_only() {
    let node = |host: &[u8], port: i64| l(&[s(host), i(port)]);
    let bad = [s("h"), i(1), d(&[]), l(&[]), l(&[s("h")]), l(&[i(1), s("h")]), node(b"", 1), node(b"\xff", 1)];
    let odd =
        [node(b"h", 0), node(b"h", 65536), node(b"h", -1), node(b"a b", 1), node(b"h\n", 1), node(&[b'h'; 256], 1)];
    let good = [node(b"dht.example", 6881), l(&[s("2001:db8::7"), i(1), s("more")]), node(b"dht.example", 6881)];
    let read = |nodes: Vec<u8>| {
        let info = single_but("private", Some(i(0)));
        let bytes = d(&[("info", info[7..info.len() - 1].to_vec()), ("nodes", nodes)]);
        Metainfo::parse(&bytes).unwrap().nodes
    };
    let all = [&bad[..], &odd[..], &good[..]].concat();
    assert_eq!(read(l(&all)), [("dht.example".to_owned(), 6881), ("2001:db8::7".to_owned(), 1)]);
    let many: Vec<_> = (1..100).map(|port| node(b"h", port)).collect();
    assert_eq!(read(l(&many)).len(), 32);
}

#[test]
fn optional_keys_of_the_wrong_type_do_not_matter() {
    let sound = single_but("private", Some(s("1")));
    let info = &sound[7..sound.len() - 1];
    let tiers = l(&[
        i(3),
        l(&[s("http://a"), i(1), s(""), s("http://b\n"), s("x\x1b")]),
        s("udp://c"),
        l(&[]),
        l(&[s("http://a")]),
    ]);
    let bytes = d(&[
        ("announce", l(&[])),
        ("announce-list", tiers),
        ("comment", i(5)),
        ("creation date", s("now")),
        ("httpseeds", l(&[s("http://s?a"), i(1), s("http://s?a"), s("")])),
        ("info", info.to_vec()),
        ("nodes", d(&[("a", l(&[i(1)]))])),
        ("url-list", l(&[s("http://w"), l(&[]), s(""), s("http://w")])),
    ]);
    let t = Metainfo::parse(&bytes).unwrap();
    assert_eq!(Metainfo::parse(&t.to_bytes()).unwrap().http_seeds, ["http://s?a"]);
    assert_eq!(t.tiers, [vec!["http://a", "http://b"], vec!["udp://c"]]);
    assert_eq!((t.comment, t.creation_date, t.is_private), (None, None, false));
    assert_eq!(t.web_seeds, ["http://w"]);
    assert_eq!(t.http_seeds, ["http://s?a"]);
    assert!(Metainfo::parse(&single_but("private", Some(i(1)))).unwrap().is_private);
    let useless = d(&[("announce", s("http://a")), ("announce-list", l(&[l(&[s("")])])), ("info", info.to_vec())]);
    assert_eq!(Metainfo::parse(&useless).unwrap().tiers, [["http://a"]]);
}

/// The paths of a multi-file torrent's files, without the torrent's name.
fn paths_of(files: &[Vec<u8>], total: u64) -> Vec<String> {
    let t = Metainfo::parse(&multi(files, total)).unwrap_or_else(|e| panic!("{e}: {}", files.concat().escape_ascii()));
    assert_eq!((t.total(), t.name.as_str()), (total, "t"));
    let stored = t.files.iter().filter(|file| !file.is_virtual);
    stored.map(|file| file.path.strip_prefix("t").expect("in its folder").to_string_lossy().into_owned()).collect()
}

#[test]
fn awkward_paths_get_safe_ones() {
    let table: [(&[Vec<u8>], &[&str]); 18] = [
        // Separators in a component.
        (&[file(&["a\\b.txt"], 9)], &["a_b.txt"]),
        (&[file(&["a/b"], 9)], &["a_b"]),
        (&[file(&["d\\e", "f"], 9)], &["d_e/f"]),
        (&[file(&["../../etc/passwd"], 9)], &[".._.._etc_passwd"]),
        (&[file(&["C:\\x"], 9)], &["C:_x"]),
        // Components that are empty or `.`.
        (&[file(&["", "a"], 9)], &["a"]),
        (&[file(&["d", "", "a"], 9)], &["d/a"]),
        (&[file(&[".", "a"], 9)], &["a"]),
        (&[file(&["a", ""], 9)], &["a"]),
        (&[file(&["", ""], 9), file(&[], 0)], &["_"]),
        (&[file(&[], 9)], &["_"]),
        // Conflicting paths.
        (&[file(&["a.txt"], 4), file(&["a.txt"], 5)], &["a.txt", "a.1.txt"]),
        (&[file(&["e"], 9), file(&["e"], 0), file(&["e"], 0)], &["e", "e.1", "e.2"]),
        (&[file(&["a"], 4), file(&["a", "b"], 5)], &["a.1", "a/b"]),
        (&[file(&["a", "b"], 4), file(&["a"], 5)], &["a/b", "a.1"]),
        (&[file(&["a\\b"], 4), file(&["a_b"], 5)], &["a_b", "a_b.1"]),
        (&[file(&["a", "", "b"], 4), file(&["a", "b"], 5)], &["a/b", "a/b.1"]),
        (&[file(&["d", "x.tar.gz"], 4), file(&["d", "x.tar.gz"], 5)], &["d/x.tar.gz", "d/x.tar.1.gz"]),
    ];
    for (files, expected) in table {
        assert_eq!(paths_of(files, 9), expected);
    }
}

#[test]
fn an_empty_file_with_an_open_end_stands_for_a_folder() {
    for open in [&["sub", ""][..], &["sub", "."], &["", "sub", ""]] {
        let t = Metainfo::parse(&multi(&[file(open, 0), file(&["a"], 9)], 9)).unwrap();
        assert_eq!(
            (t.files[0].special_entry(), t.files[0].is_virtual),
            (Some(&SpecialEntry::Folder), true),
            "{open:?}"
        );
        assert_eq!(t.files[0].path, Path::new("t/sub"));
    }
    let t = Metainfo::parse(&multi(&[file(&["sub", ""], 0), file(&["sub", "a"], 9)], 9)).unwrap();
    assert_eq!(
        (t.files[0].special_entry(), t.files[1].path.as_path()),
        (Some(&SpecialEntry::Folder), Path::new("t/sub/a"))
    );
}

#[test]
fn a_torrent_without_a_name_is_named_after_its_file_or_its_hash() {
    let nameless = |name: Option<Vec<u8>>| {
        let mut info = vec![("files", l(&[file(&["x"], 16)])), ("piece length", i(16)), ("pieces", s([1; 20]))];
        info.extend(name.map(|name| ("name", name)));
        torrent(&info)
    };
    let dir = tempfile::tempdir().unwrap();
    for name in [Some(s("")), Some(s(".")), None, Some(i(1)), Some(l(&[]))] {
        let bytes = nameless(name);
        let t = Metainfo::parse(&bytes).unwrap();
        assert_eq!(t.name, t.info_hash.hex());
        assert_eq!(t.files[0].path, Path::new(&t.name).join("x"));
        for (file, expected) in [("Show.TORRENT", "Show"), ("show", "show"), (".ssh.torrent", "_ssh")] {
            std::fs::write(dir.path().join(file), &bytes).unwrap();
            let t = Metainfo::read(&dir.path().join(file)).unwrap();
            assert_eq!(
                (t.name.as_str(), t.files[0].path.as_path()),
                (expected, Path::new(expected).join("x").as_path())
            );
        }
    }
    let utf8 = torrent(&[
        ("length", i(3)),
        ("name", s("a")),
        ("name.utf-8", s("")),
        ("piece length", i(16)),
        ("pieces", s([0; 20])),
    ]);
    assert_eq!(Metainfo::parse(&utf8).unwrap().name, "a", "an empty name is none");
}

#[test]
fn where_there_are_files_a_length_does_not_matter() {
    for length in [30, 0, -1, 5_000] {
        let bytes = single_but("files", Some(l(&[file(&["x"], 30)])));
        let bytes = bytes.escape_ascii().to_string().replace("lengthi30e4:name", &format!("lengthi{length}e4:name"));
        let bytes = bytes.replace("\\x07", "\x07");
        let t = Metainfo::parse(bytes.as_bytes()).unwrap();
        assert_eq!((t.total(), t.files[0].path.as_path()), (30, Path::new("a.bin/x")), "{length}");
    }
    for files in [l(&[]), i(1), s("x"), d(&[])] {
        let t = Metainfo::parse(&single_but("files", Some(files))).unwrap();
        assert_eq!((t.total(), t.is_multi_file, t.files[0].path.as_path()), (30, false, Path::new("a.bin")));
    }
}

#[test]
fn padding_is_known_by_its_attribute_or_by_the_name_that_bitcomet_gives_it() {
    let attr = |entries: &[(&str, Vec<u8>)]| d(&[&[("attr", s("p")), ("length", i(6))], entries].concat());
    let last = "_____padding_file_1_if you see this file, please update to BitComet 0.85 or above____";
    let pads = [
        attr(&[("path", l(&[s(".pad"), s("6")]))]),
        attr(&[]),
        attr(&[("path", l(&[]))]),
        file(&["_____padding_file_0_x"], 6),
        file(&[last], 6),
        file(&["d", "_____padding_file_0_"], 6),
    ];
    for pad in pads {
        let t = Metainfo::parse(&multi(&[file(&["a"], 10), pad.clone(), file(&["b"], 1)], 17)).unwrap();
        let pads: Vec<_> = t.files.iter().map(|file| file.is_virtual).collect();
        assert_eq!(pads, [false, true, false], "{}", pad.escape_ascii());
    }
    assert_eq!(paths_of(&[file(&["padding_file_0"], 9)], 9), ["padding_file_0"]);
}

#[test]
fn links_lead_to_entries_of_the_torrent_whatever_length_they_claim() {
    let link = |target: &[&str], length: Option<i64>| {
        let target = l(&target.iter().map(s).collect::<Vec<_>>());
        let mut link = vec![("attr", s("l")), ("path", l(&[s("link")])), ("symlink path", target)];
        link.extend(length.map(|length| ("length", i(length))));
        Metainfo::parse(&multi(&[file(&["d", "a"], 9), d(&link)], 9)).unwrap().files[1].clone()
    };
    for length in [None, Some(0), Some(9), Some(i64::MAX), Some(-1)] {
        let made = link(&["d", "a"], length);
        assert_eq!(
            (made.special_entry(), made.length, made.is_virtual),
            (Some(&SpecialEntry::Link("t/d/a".into())), 0, true)
        );
    }
    assert_eq!(link(&["d"], None).special_entry(), Some(&SpecialEntry::Link("t/d".into())), "a folder");
    for nowhere in [&["d", "b"][..], &["x"], &[], &["da"]] {
        assert_eq!(link(nowhere, None).special_entry(), None, "{nowhere:?}");
    }
}

#[test]
fn bytes_after_the_dictionary_are_ignored() {
    let sound = single_but("", None);
    for junk in [&b"junk"[..], &[0; 96], b"\r\n", b"d4:infode", b"e", b"<!-- signed -->"] {
        let t = Metainfo::parse(&[&sound, junk].concat()).unwrap();
        assert_eq!((t.total(), t.name.as_str()), (30, "a.bin"));
    }
    assert!(Metainfo::parse(&[b"\0", &*sound].concat()).is_err(), "before it there is nothing");
}

#[test]
fn hidden_names_lose_their_dot_and_get_it_back_where_that_is_asked_for() {
    let hash = "0123456789abcdef0123456789ABCDEF01234567";
    let own = [format!(".{hash}.parts"), format!(".{hash}.btsync"), format!(".{hash}")];
    let hidden = [(".ssh", "_ssh"), (".bashrc", "_bashrc"), ("..a", "_.a"), ("....", "_...")];
    for (raw, safe) in hidden {
        let mut t = Metainfo::parse(&single_but("name", Some(s(raw)))).unwrap();
        assert_eq!((t.name.as_str(), t.files[0].path.as_path()), (safe, Path::new(safe)));
        assert_eq!(t.alternative_paths(&t.files[0]), [Path::new(raw)]);
        t.restore_hidden_name();
        assert_eq!((t.name.as_str(), t.files[0].path.as_path()), (raw, Path::new(raw)));
        assert!(t.alternative_paths(&t.files[0]).is_empty());
    }
    for raw in own {
        let mut t = Metainfo::parse(&single_but("name", Some(s(&raw)))).unwrap();
        t.restore_hidden_name();
        let safe = format!("_{}", &raw[1..]);
        assert_eq!((t.name.as_str(), t.files[0].path.as_path()), (safe.as_str(), Path::new(&safe)));
        assert!(t.alternative_paths(&t.files[0]).is_empty(), "it is never even read");
    }
    let files = [file(&["authorized_keys"], 8), file(&["d", ".x"], 8), file(&["a\\b"], 0)];
    let info = [("files", l(&files)), ("name", s(".ssh")), ("piece length", i(16)), ("pieces", s([1; 20]))];
    let mut t = Metainfo::parse(&torrent(&info)).unwrap();
    let paths = |t: &Metainfo| t.files.iter().map(|file| file.path.to_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(paths(&t), ["_ssh/authorized_keys", "_ssh/d/.x", "_ssh/a_b"]);
    assert_eq!(t.alternative_paths(&t.files[1]), [Path::new(".ssh/d/.x")]);
    assert_eq!(t.alternative_paths(&t.files[2]), [Path::new(".ssh/a\\b"), Path::new(".ssh/a_b")]);
    t.restore_hidden_name();
    assert_eq!(paths(&t), [".ssh/authorized_keys", ".ssh/d/.x", ".ssh/a_b"]);
    assert_eq!(t.alternative_paths(&t.files[2]), [Path::new(".ssh/a\\b")]);
}

#[test]
fn a_comment_in_utf8_comes_first() {
    let bytes = single_but("", None);
    let with = |keys: &[(&str, &[u8])]| {
        let mut entries: Vec<(&str, Vec<u8>)> = keys.iter().map(|(key, text)| (*key, s(text))).collect();
        entries.push(("info", bytes[7..bytes.len() - 1].to_vec()));
        Metainfo::parse(&d(&entries)).unwrap().comment
    };
    assert_eq!(with(&[("comment", b"\xd6\xd0"), ("comment.utf-8", "中".as_bytes())]).as_deref(), Some("中"));
    assert_eq!(with(&[("comment", b"a"), ("comment.utf-8", b"")]).as_deref(), Some("a"));
    assert_eq!(with(&[("comment.utf-8", b"a")]).as_deref(), Some("a"));
}
