//! Whole torrent files: what is refused and why, and what is read from them.

use std::path::Path;

use proptest::prelude::*;
use sha1::{Digest, Sha1};

use super::*;
use crate::types::PieceIndex;

/// A string in bencode.
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

/// The info of a sound single-file torrent of two pieces, with one entry replaced, added, or (`None`) left out.
fn single_but(key: &str, value: Option<Vec<u8>>) -> Vec<u8> {
    let info = [("length", i(30)), ("name", s("a.bin")), ("piece length", i(16)), ("pieces", s([7; 40]))];
    let mut info: Vec<_> = info.into_iter().filter(|(k, _)| *k != key).collect();
    info.extend(value.map(|v| (key, v)));
    torrent(&info)
}

/// A multi-file torrent whose pieces are of 16 bytes.
fn multi(files: &[Vec<u8>], total: u64) -> Vec<u8> {
    let pieces = vec![1; total.div_ceil(16) as usize * 20];
    torrent(&[("files", l(files)), ("name", s("t")), ("piece length", i(16)), ("pieces", s(pieces))])
}

fn error(bytes: &[u8]) -> TorrentError {
    Torrent::parse(bytes).expect_err(&bytes.escape_ascii().to_string())
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
    let t = Torrent::parse(&bytes).unwrap();
    assert_eq!((t.name.as_str(), t.total(), t.piece_count(), t.multi_file, t.private), ("a.bin", 30, 2, false, false));
    assert_eq!(t.files, [FileEntry { path: "a.bin".into(), length: 30, pad: false }]);
    assert_eq!([0, 1, 2, u32::MAX].map(|p| t.piece_size(PieceIndex(p))), [16, 14, 0, 0]);
    assert_eq!(t.pieces, [[7; 20]; 2]);
    assert_eq!(t.tiers, [["http://a/announce"]]);
    assert_eq!(t.web_seeds, ["http://seed/"]);
    assert_eq!((t.comment.as_deref(), t.created_by.as_deref(), t.creation_date), (Some("hello"), Some("me"), Some(12)));
}

#[test]
fn the_info_hash_is_that_of_the_bytes_as_they_stand() {
    // Keys out of order, a key that is not UTF-8, and one we do not know: re-encoding would change each of them.
    let info = [&b"d12:piece lengthi16e6:pieces20:"[..], &[9; 20], b"2:\xff\xfei1e4:name1:x1:zle6:lengthi3ee"].concat();
    let bytes = [&b"d4:info"[..], &info, b"8:announce9:udp://t:1e\n"].concat();
    let t = Torrent::parse(&bytes).unwrap();
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
    let t = Torrent::parse(&multi(&files, 32)).unwrap();
    let seen: Vec<_> = t.files.iter().map(|f| (f.path.to_str().unwrap(), f.length, f.pad)).collect();
    let expected = [
        ("t/a", 10, false),
        ("t/.pad/6", 6, true),
        ("t/d/empty", 0, false),
        ("t/d/run", 10, false),
        ("t/.pad/6", 6, true),
    ];
    assert_eq!(seen, expected);
    assert!(t.multi_file);
    let empty = multi(&[file(&["x"], 0), file(&["y"], 0)], 0);
    assert_eq!(Torrent::parse(&empty).map(|t| (t.total(), t.piece_count())).unwrap(), (0, 0));
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
    let t = Torrent::parse(&torrent(&info)).unwrap();
    assert_eq!((t.name.as_str(), t.files[0].path.as_path()), ("è", Path::new("è/é")));
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
        ("info", info.to_vec()),
        ("nodes", d(&[("a", l(&[i(1)]))])),
        ("url-list", l(&[s("http://w"), l(&[]), s(""), s("http://w")])),
    ]);
    let t = Torrent::parse(&bytes).unwrap();
    assert_eq!(t.tiers, [vec!["http://a", "http://b"], vec!["udp://c"]]);
    assert_eq!((t.comment, t.creation_date, t.private), (None, None, false));
    assert_eq!(t.web_seeds, ["http://w"]);
    assert!(Torrent::parse(&single_but("private", Some(i(1)))).unwrap().private);
    let useless = d(&[("announce", s("http://a")), ("announce-list", l(&[l(&[s("")])])), ("info", info.to_vec())]);
    assert_eq!(Torrent::parse(&useless).unwrap().tiers, [["http://a"]]);
}

#[test]
fn refuses_unsound_single_files() {
    type Case = (&'static str, Option<Vec<u8>>, fn(&TorrentError) -> bool);
    use TorrentError as E;
    let table: Vec<Case> = vec![
        ("pieces", None, |e| matches!(e, E::Missing("pieces"))),
        ("pieces", Some(i(1)), |e| matches!(e, E::Mistyped { key: "pieces", .. })),
        ("pieces", Some(s([0; 39])), |e| matches!(e, E::PiecesLength(39))),
        ("pieces", Some(s([0; 20])), |e| matches!(e, E::PieceCount { found: 1, expected: 2 })),
        ("pieces", Some(s([0; 60])), |e| matches!(e, E::PieceCount { found: 3, expected: 2 })),
        ("piece length", None, |e| matches!(e, E::Missing("piece length"))),
        ("piece length", Some(s("16")), |e| matches!(e, E::Mistyped { key: "piece length", .. })),
        ("piece length", Some(i(0)), |e| matches!(e, E::PieceLength(0))),
        ("piece length", Some(i(-16)), |e| matches!(e, E::PieceLength(-16))),
        ("piece length", Some(i((512 << 20) + 1)), |e| matches!(e, E::PieceLength(_))),
        ("piece length", Some(i((1 << 32) + 16)), |e| matches!(e, E::PieceLength(_))),
        ("name", None, |e| matches!(e, E::Missing("name"))),
        ("name", Some(s("")), |e| matches!(e, E::Path(PathError::Empty))),
        ("name", Some(s("..")), |e| matches!(e, E::Path(PathError::Climbs("..")))),
        ("name", Some(s("/etc/passwd")), |e| matches!(e, E::Path(PathError::Separator(_)))),
        ("length", None, |e| matches!(e, E::NoLength)),
        ("length", Some(s("30")), |e| matches!(e, E::Mistyped { key: "length", .. })),
        ("files", Some(i(1)), |e| matches!(e, E::LengthAndFiles)),
        ("name", Some(l(&[])), |e| matches!(e, E::Mistyped { key: "name", .. })),
        ("name", Some(s([b'x'; 20_000])), |e| matches!(e, E::Path(PathError::TooLong))),
        ("length", Some(i(-1)), |e| matches!(e, E::NegativeLength)),
        ("length", Some(i(0)), |e| matches!(e, E::PieceCount { found: 2, expected: 0 })),
        ("length", Some(i(i64::MAX)), |e| matches!(e, E::PieceCount { .. })),
        ("files", Some(l(&[file(&["a"], 30)])), |e| matches!(e, E::LengthAndFiles)),
    ];
    assert!(Torrent::parse(&single_but("", None)).is_ok());
    for (key, value, expected) in table {
        let shown = value.as_deref().map(|v| v.escape_ascii().to_string());
        let error = error(&single_but(key, value));
        assert!(expected(&error) && !error.is_bencode(), "{key} = {shown:?}: {error:?}");
    }
}

#[test]
fn refuses_unsound_files() {
    type Case = (Vec<Vec<u8>>, fn(&TorrentError) -> bool);
    use TorrentError as E;
    let deep: Vec<&str> = vec!["a"; paths::DEPTH_MAX + 1];
    let name = "a".repeat(199);
    let long: Vec<&str> = vec![&name; 20];
    assert!(Torrent::parse(&multi(&[file(&long[1..], 1), file(&["a"], 0), file(&["a!", "a"], 0)], 1)).is_ok());
    let path_only = d(&[("path", l(&[s("a")]))]);
    let part_is_int = d(&[("length", i(1)), ("path", l(&[i(1)]))]);
    let path_is_string = d(&[("length", i(1)), ("path", s("a"))]);
    let bad_utf8_path = d(&[("length", i(1)), ("path", l(&[s("a")])), ("path.utf-8", l(&[s("..")]))]);
    let fat_link = d(&[("attr", s("l")), ("length", i(1)), ("path", l(&[s("a")]))]);
    let table: Vec<Case> = vec![
        (vec![], |e| matches!(e, E::NoFiles)),
        (vec![i(1)], |e| matches!(e, E::Mistyped { key: "files", .. })),
        (vec![path_only], |e| matches!(e, E::Missing("length"))),
        (vec![d(&[("length", i(1))])], |e| matches!(e, E::Missing("path"))),
        (vec![path_is_string], |e| matches!(e, E::Mistyped { key: "path", .. })),
        (vec![part_is_int], |e| matches!(e, E::Path(PathError::NotText))),
        (vec![file(&[], 1)], |e| matches!(e, E::Path(PathError::Empty))),
        (vec![file(&["a", ""], 1)], |e| matches!(e, E::Path(PathError::Empty))),
        (vec![file(&["..", "a"], 1)], |e| matches!(e, E::Path(PathError::Climbs("..")))),
        (vec![file(&["a", "."], 1)], |e| matches!(e, E::Path(PathError::Climbs(".")))),
        (vec![file(&["a/../b"], 1)], |e| matches!(e, E::Path(PathError::Separator(_)))),
        (vec![file(&["a\\b"], 1)], |e| matches!(e, E::Path(PathError::Separator(_)))),
        (vec![file(&["a\0"], 1)], |e| matches!(e, E::Path(PathError::Separator(_)))),
        (vec![bad_utf8_path], |e| matches!(e, E::Path(PathError::Climbs("..")))),
        (vec![file(&deep, 1)], |e| matches!(e, E::Path(PathError::TooDeep))),
        (vec![file(&["a"], -1), file(&["b"], 2)], |e| matches!(e, E::NegativeLength)),
        (vec![file(&["a"], i64::MAX), file(&["b"], 1)], |e| matches!(e, E::TooBig)),
        (vec![file(&["a"], i64::MAX), file(&["b"], i64::MAX), file(&["c"], 3)], |e| matches!(e, E::TooBig)),
        (vec![file(&["a"], 1), file(&["a"], 0)], |e| matches!(e, E::Path(PathError::Collision(_)))),
        (vec![file(&["a", "b"], 1), file(&["a"], 0)], |e| matches!(e, E::Path(PathError::Collision(p)) if p == "a")),
        (vec![file(&["a"], 1), file(&["a", "b"], 0)], |e| matches!(e, E::Path(PathError::Collision(p)) if p == "a")),
        (
            vec![file(&["a", "x", "y"], 1), file(&["a!"], 0), file(&["a.b"], 0), file(&["a", "x"], 0)],
            |e| matches!(e, E::Path(PathError::Collision(p)) if p == "a/x"),
        ),
        (vec![file(&long, 1)], |e| matches!(e, E::Path(PathError::TooLong))),
        (vec![fat_link], |e| matches!(e, E::Symlink(_))),
        (vec![link(&["..", "etc"])], |e| matches!(e, E::LinkLeaves(_))),
        (vec![link(&["/etc"])], |e| matches!(e, E::LinkLeaves(_))),
    ];
    for (files, expected) in table {
        let error = error(&multi(&files, 1));
        assert!(expected(&error) && !error.is_bencode(), "{}: {error:?}", files.concat().escape_ascii());
    }
}

#[test]
fn refuses_what_is_no_torrent_at_all() {
    for bad in ["", "hello", "<html>", "d4:infod", "d4:infode4:infodee", "dex"] {
        assert!(error(bad.as_bytes()).is_bencode(), "{bad}");
    }
    for bad in ["i1e", "le", "de", "d4:infoi1ee", "d4:infolee", "ld4:infodeee"] {
        assert!(matches!(error(bad.as_bytes()), TorrentError::NotADict), "{bad}");
    }
    let v2 = torrent(&[("file tree", d(&[])), ("meta version", i(2)), ("name", s("a")), ("piece length", i(16384))]);
    assert!(matches!(error(&v2), TorrentError::V2Only));
    let bombs = [vec![b'l'; 1 << 20], b"d1:a".repeat(1 << 18), [&b"d4:info"[..], &vec![b'l'; 1 << 20]].concat()];
    for bomb in bombs {
        assert!(matches!(error(&bomb), TorrentError::Syntax(RawError::TooDeep(_))));
    }
    assert!(matches!(error(&vec![b' '; torrent::FILE_MAX + 1]), TorrentError::TooLarge));
    let missing = Torrent::read(Path::new("no/such.torrent")).unwrap_err();
    assert!(missing.to_string().contains("no/such.torrent") && matches!(missing, TorrentError::Io { .. }));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Torrent::parse(&bytes);
        let _ = raw::check(&bytes);
        let _ = raw::prefix(&bytes);
    }

    #[test]
    fn bencode_like_bytes_do_not_either(
        text in "(d|l|e|i|-|[0-9]:?|4:info|6:pieces|20:|0:|5:files|4:path|6:length){0,60}",
        buffer in 1usize..20,
    ) {
        let _ = Torrent::parse(text.as_bytes());
        // In small portions or in one: the same.
        let walk = |source: &mut dyn std::io::BufRead| {
            let mut scanner = scan::Scanner::new(source, raw::MESSAGE_DEPTH);
            let done = scanner.value().and_then(|value| scanner.pass(value)).and_then(|()| scanner.end());
            done.map(|()| scanner.at()).map_err(|error| format!("{error:?}"))
        };
        let whole = walk(&mut text.as_bytes());
        prop_assert_eq!(walk(&mut std::io::BufReader::with_capacity(buffer, text.as_bytes())), whole.clone());
        prop_assert_eq!(whole.is_ok(), raw::check(text.as_bytes()).is_ok());
    }

    #[test]
    fn a_damaged_torrent_is_refused_or_sound(
        at in any::<prop::sample::Index>(),
        with in proptest::collection::vec(prop_oneof![any::<u8>(), proptest::sample::select(b"0123456789deil:-./".to_vec())], 0..4),
        drop in 0usize..4,
        many in any::<bool>(),
    ) {
        let files = [file(&["a"], 10), file(&["b", "c"], 20), file(&["b", "d"], 0)];
        let mut bytes = if many { multi(&files, 30) } else { single_but("private", Some(i(1))) };
        let at = at.index(bytes.len());
        let end = (at + drop).min(bytes.len());
        bytes.splice(at..end, with);
        if let Ok(t) = Torrent::parse(&bytes) {
            let sizes: u64 = (0..t.piece_count()).map(|p| u64::from(t.piece_size(PieceIndex(p)))).sum();
            prop_assert_eq!(sizes, t.total());
            prop_assert_eq!(t.info_hash.0, <[u8; 20]>::from(Sha1::digest(&t.info)));
            for file in &t.files {
                prop_assert!(file.path.components().all(|c| matches!(c, std::path::Component::Normal(_))));
            }
        }
    }
}
