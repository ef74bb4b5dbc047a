//! Input that is not a torrent, or a damaged one.

use super::*;
use crate::bencode::{scan, validate};

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Metainfo::parse(&bytes);
        let _ = validate::check(&bytes);
        let _ = validate::prefix(&bytes);
    }

    #[test]
    fn bencode_like_bytes_do_not_either(
        text in "(d|l|e|i|-|[0-9]:?|4:info|6:pieces|20:|0:|5:files|4:path|6:length){0,60}",
        buffer in 1usize..20,
    ) {
        let _ = Metainfo::parse(text.as_bytes());
        // The scanner's result does not depend on the buffer size.
        let walk = |source: &mut dyn std::io::BufRead| {
            let mut scanner = scan::Scanner::new(source, validate::MESSAGE_DEPTH);
            let done = scanner.value().and_then(|value| scanner.skip(value)).and_then(|()| scanner.end());
            done.map(|()| scanner.position()).map_err(|error| format!("{error:?}"))
        };
        let whole = walk(&mut text.as_bytes());
        prop_assert_eq!(walk(&mut std::io::BufReader::with_capacity(buffer, text.as_bytes())), whole.clone());
        prop_assert_eq!(whole.is_ok(), validate::check(text.as_bytes()).is_ok());
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
        if let Ok(t) = Metainfo::parse(&bytes) {
            let sizes: u64 = (0..t.piece_count()).map(|p| u64::from(t.piece_size(PieceIndex(p)))).sum();
            prop_assert_eq!(sizes, t.total());
            prop_assert_eq!(t.info_hash.0, <[u8; 20]>::from(Sha1::digest(&t.info)));
            let stored: Vec<_> = t.files.iter().filter(|file| !file.is_virtual).map(|file| &file.path).collect();
            for (at, path) in stored.iter().enumerate() {
                let others = stored.iter().enumerate().filter(|(other, _)| *other != at);
                prop_assert!(others.clone().all(|(_, other)| !other.starts_with(path)), "{}", path.display());
            }
            for file in &t.files {
                prop_assert!(file.path.components().all(|c| matches!(c, std::path::Component::Normal(_))));
            }
        }
    }
}
