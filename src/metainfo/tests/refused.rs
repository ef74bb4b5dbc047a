//! Invalid torrents, and the error for each.

use super::*;

fn is_path(error: &MetainfoError, expected: &PathError) -> bool {
    matches!(error, MetainfoError::Path(error) if error.downcast_ref() == Some(expected))
}

#[test]
fn refuses_unsound_single_files() {
    type Case = (&'static str, Option<Vec<u8>>, fn(&MetainfoError) -> bool);
    use MetainfoError as E;
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
        ("name", Some(s("..")), |e| is_path(e, &PathError::DotComponent(".."))),
        ("length", None, |e| matches!(e, E::NoLength)),
        ("length", Some(s("30")), |e| matches!(e, E::Mistyped { key: "length", .. })),
        ("name", Some(s([b'x'; 20_000])), |e| is_path(e, &PathError::TooLong)),
        ("length", Some(i(-1)), |e| matches!(e, E::NegativeLength)),
        ("length", Some(i(0)), |e| matches!(e, E::PieceCount { found: 2, expected: 0 })),
        ("length", Some(i(i64::MAX)), |e| matches!(e, E::PieceCount { .. })),
    ];
    assert!(Metainfo::parse(&single_but("", None)).is_ok());
    for (key, value, expected) in table {
        let shown = value.as_deref().map(|v| v.escape_ascii().to_string());
        let error = error(&single_but(key, value));
        assert!(expected(&error) && !error.is_not_bencode(), "{key} = {shown:?}: {error:?}");
    }
}

#[test]
fn refuses_unsound_files() {
    type Case = (Vec<Vec<u8>>, fn(&MetainfoError) -> bool);
    use MetainfoError as E;
    let deep: Vec<&str> = vec!["a"; paths::DEPTH_MAX + 1];
    let name = "a".repeat(199);
    let long: Vec<&str> = vec![&name; 20];
    assert!(Metainfo::parse(&multi(&[file(&long[1..], 1), file(&["a"], 0), file(&["a!", "a"], 0)], 1)).is_ok());
    let path_only = d(&[("path", l(&[s("a")]))]);
    let part_is_int = d(&[("length", i(1)), ("path", l(&[i(1)]))]);
    let path_is_string = d(&[("length", i(1)), ("path", s("a"))]);
    let bad_utf8_path = d(&[("length", i(1)), ("path", l(&[s("a")])), ("path.utf-8", l(&[s("..")]))]);
    let table: Vec<Case> = vec![
        (vec![], |e| matches!(e, E::NoFiles)),
        (vec![i(1)], |e| matches!(e, E::Mistyped { key: "files", .. })),
        (vec![path_only], |e| matches!(e, E::Missing("length"))),
        (vec![d(&[("length", i(1))])], |e| matches!(e, E::Missing("path"))),
        (vec![path_is_string], |e| matches!(e, E::Mistyped { key: "path", .. })),
        (vec![part_is_int], |e| is_path(e, &PathError::NotText)),
        (vec![file(&["..", "a"], 1)], |e| is_path(e, &PathError::DotComponent(".."))),
        (vec![bad_utf8_path], |e| is_path(e, &PathError::DotComponent(".."))),
        (vec![file(&deep, 1)], |e| is_path(e, &PathError::TooDeep)),
        (vec![file(&["a"], -1), file(&["b"], 2)], |e| matches!(e, E::NegativeLength)),
        (vec![file(&["a"], i64::MAX), file(&["b"], 1)], |e| matches!(e, E::TooBig)),
        (vec![file(&["a"], i64::MAX), file(&["b"], i64::MAX), file(&["c"], 3)], |e| matches!(e, E::TooBig)),
        (vec![file(&long, 1)], |e| is_path(e, &PathError::TooLong)),
        (vec![link(&["..", "etc"])], |e| matches!(e, E::LinkLeaves(_))),
        (vec![link(&["/etc"])], |e| matches!(e, E::LinkLeaves(_))),
    ];
    for (files, expected) in table {
        let error = error(&multi(&files, 1));
        assert!(expected(&error) && !error.is_not_bencode(), "{}: {error:?}", files.concat().escape_ascii());
    }
}

#[test]
fn refuses_files_that_are_not_torrents() {
    for bad in ["", "hello", "<html>", "d4:infod", "d4:infode4:infodee", " \n<!DOCTYPE html>"] {
        assert!(error(bad.as_bytes()).is_not_bencode(), "{bad}");
    }
    assert!(
        matches!(error(b""), MetainfoError::Empty) && matches!(error(b"\xef\xbb\xbf<?xml"), MetainfoError::WebPage)
    );
    for bad in ["i1e", "le", "de", "dex", "d4:infoi1ee", "d4:infolee", "ld4:infodeee"] {
        assert!(matches!(error(bad.as_bytes()), MetainfoError::NotADict), "{bad}");
    }
    let bombs = [vec![b'l'; 1 << 20], b"d1:a".repeat(1 << 18), [&b"d4:info"[..], &vec![b'l'; 1 << 20]].concat()];
    for bomb in bombs {
        let MetainfoError::Syntax(error) = error(&bomb) else { panic!("it is bencode") };
        assert!(matches!(error.downcast_ref(), Some(BencodeError::TooDeep(_))), "{error}");
    }
    assert!(matches!(error(&vec![b' '; torrent::TORRENT_FILE_MAX + 1]), MetainfoError::TooLarge));
    let missing = Metainfo::read(Path::new("no/such.torrent")).unwrap_err();
    assert!(missing.to_string().contains("no/such.torrent") && matches!(missing, MetainfoError::Io { .. }));
}
