//! Creates and edits a torrent file's outermost dictionary.
//! The info dictionary is copied byte for byte, so that the info-hash, which identifies the swarm, does not change. So is the
//! value of every key that the caller did not ask to change.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::bencode::encode;
use crate::metainfo::{Metainfo, MetainfoError};

/// What to change in a torrent file; `None` leaves a field unchanged.
///
/// ```
/// # let bytes = b"d4:infod6:lengthi1e4:name1:x12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee";
/// let edit = btsync::TorrentEdit { comment: Some(Some("fresh".to_owned())), ..Default::default() };
/// let edited = btsync::Metainfo::from_bytes(&edit.apply(bytes)?)?;
/// assert_eq!(edited.comment.as_deref(), Some("fresh"));
/// # Ok::<(), btsync::MetainfoError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TorrentEdit {
    /// The trackers by tier (BEP 12); without any URL, all trackers are removed.
    pub tiers: Option<Vec<Vec<String>>>,
    /// The comment; `Some(None)` removes it.
    pub comment: Option<Option<String>>,
    /// Web seeds (BEP 19) in place of all that the torrent has, those of BEP 17 included; an empty list removes them.
    pub web_seeds: Option<Vec<String>>,
}

impl TorrentEdit {
    /// Edits a torrent file, given as its bytes without compression. Sorts the keys of the outermost dictionary, as bencode
    /// requires.
    ///
    /// # Errors
    /// If the bytes are not a valid torrent.
    pub fn apply(&self, bytes: &[u8]) -> Result<Vec<u8>, MetainfoError> {
        Metainfo::parse(bytes)?;
        let mut top = TopLevelEditor::of(bytes).ok_or(MetainfoError::NotADict)?;
        if let Some(tiers) = &self.tiers {
            top.trackers(tiers);
        }
        if let Some(comment) = &self.comment {
            top.comment(comment.as_deref());
        }
        if let Some(seeds) = &self.web_seeds {
            top.web_seeds(seeds);
            top.set(b"httpseeds", false, |_| ());
        }
        Ok(top.to_bytes())
    }

    /// How many bytes follow the torrent in these bytes, which [`TorrentEdit::apply`] drops. 0 for white space alone, and if the
    /// bytes are not bencode.
    pub fn count_trailing_bytes(bytes: &[u8]) -> usize {
        let rest = end_of(bytes, 0).and_then(|end| bytes.get(end..)).unwrap_or_default();
        if rest.trim_ascii().is_empty() { 0 } else { rest.len() }
    }
}

/// The outermost dictionary: keys, and values that are already bencoded.
#[derive(Default)]
pub(super) struct TopLevelEditor<'a>(BTreeMap<&'a [u8], Cow<'a, [u8]>>);

impl<'a> TopLevelEditor<'a> {
    /// The entries of a dictionary that the caller has validated as bencode.
    fn of(bytes: &'a [u8]) -> Option<TopLevelEditor<'a>> {
        let mut entries = BTreeMap::new();
        let mut at = 1;
        while bytes.get(at)? != &b'e' {
            let value = end_of(bytes, at)?;
            let key = bytes.get(at..value)?.splitn(2, |&b| b == b':').nth(1)?;
            at = end_of(bytes, value)?;
            entries.insert(key, Cow::Borrowed(bytes.get(value..at)?));
        }
        Some(TopLevelEditor(entries))
    }

    /// Sets the info dictionary.
    pub fn info(&mut self, info: &'a [u8]) {
        self.0.insert(b"info", Cow::Borrowed(info));
    }

    /// Sets `piece layers`, already bencoded (BEP 52).
    pub fn piece_layers(&mut self, layers: &'a [u8]) {
        self.0.insert(b"piece layers", Cow::Borrowed(layers));
    }

    /// Sets `announce`, and `announce-list` if there is more than one tracker (BEP 12).
    pub fn trackers(&mut self, tiers: &[Vec<String>]) {
        let tiers: Vec<&Vec<String>> = tiers.iter().filter(|tier| !tier.is_empty()).collect();
        let first = tiers.first().and_then(|tier| tier.first());
        self.set(b"announce", first.is_some(), |out| encode::bytes(out, first.map_or(b"", |url| url.as_bytes())));
        let several = tiers.iter().map(|tier| tier.len()).sum::<usize>() > 1;
        self.set(b"announce-list", several, |out| encode::list(out, &tiers, |out, tier| encode::strings(out, tier)));
    }

    /// Sets `comment`.
    pub fn comment(&mut self, text: Option<&str>) {
        self.text(b"comment", text);
    }

    /// Sets `created by`, and `creation date` in seconds since 1970.
    pub fn created(&mut self, by: Option<&str>, date: Option<i64>) {
        self.text(b"created by", by);
        self.set(b"creation date", date.is_some(), |out| encode::int(out, date.unwrap_or_default()));
    }

    /// Sets `nodes`: the hosts and ports of DHT bootstrap nodes (BEP 5).
    pub fn nodes(&mut self, nodes: &[(String, u16)]) {
        let node = |out: &mut Vec<u8>, (host, port): &(String, u16)| {
            out.push(b'l');
            encode::bytes(out, host.as_bytes());
            encode::int(out, port);
            out.push(b'e');
        };
        self.set(b"nodes", !nodes.is_empty(), |out| encode::list(out, nodes, node));
    }

    /// Sets `url-list` (BEP 19).
    pub fn web_seeds(&mut self, seeds: &[String]) {
        self.set(b"url-list", !seeds.is_empty(), |out| encode::strings(out, seeds));
    }

    /// Encodes the torrent file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![b'd'];
        for (key, value) in &self.0 {
            encode::bytes(&mut out, key);
            out.extend_from_slice(value);
        }
        out.push(b'e');
        out
    }

    fn text(&mut self, key: &'static [u8], text: Option<&str>) {
        self.set(key, text.is_some(), |out| encode::bytes(out, text.unwrap_or_default().as_bytes()));
    }

    /// Replaces the value of `key` with the bytes that `write` appends; only removes the key unless `is_wanted`.
    fn set(&mut self, key: &'static [u8], is_wanted: bool, write: impl FnOnce(&mut Vec<u8>)) {
        self.0.remove(key);
        if is_wanted {
            let mut value = Vec::new();
            write(&mut value);
            self.0.insert(key, Cow::Owned(value));
        }
    }
}

/// The offset at which the value that begins at `at` ends, in validated bencode; `None` if the bytes are malformed.
fn end_of(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0usize;
    loop {
        let rest = bytes.get(at..)?;
        let up_to = |end: u8| rest.iter().position(|&b| b == end);
        at += match rest.first()? {
            b'l' | b'd' => {
                depth += 1;
                1
            }
            b'e' => {
                depth = depth.checked_sub(1)?;
                1
            }
            b'i' => up_to(b'e')? + 1,
            _ => {
                let colon = up_to(b':')?;
                let length: usize = std::str::from_utf8(rest.get(..colon)?).ok()?.parse().ok()?;
                length.checked_add(colon + 1)?
            }
        };
        if depth == 0 {
            return (at <= bytes.len()).then_some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(bytes: &[u8], edit: &TorrentEdit) -> Result<Vec<u8>, MetainfoError> {
        edit.apply(bytes)
    }

    const INFO: &[u8] = b"d6:lengthi1e4:name1:x12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaa1:zi9ee";

    fn torrent(before: &[u8], after: &[u8]) -> Vec<u8> {
        [b"d", before, b"4:info", INFO, after, b"e"].concat()
    }

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn unedited_keys_stay_the_same() {
        let unknown = torrent(b"8:announce1:a7:comment1:c", b"5:nodesl2:ab3:cdee8:url-list1:w3:zzzd1:al1:bi-7eee");
        assert_eq!(edit(&unknown, &TorrentEdit::default()).unwrap(), unknown);
        // Editing drops a trailing newline and sorts the keys.
        let untidy = [&torrent(b"3:zzzle8:announce0:", b"1:ai0e")[..], b"\n"].concat();
        assert_eq!(edit(&untidy, &TorrentEdit::default()).unwrap(), torrent(b"1:ai0e8:announce0:", b"3:zzzle"));
    }

    #[test]
    fn bytes_after_the_torrent_are_counted() {
        for (rest, count) in [(&b""[..], 0), (b"\r\n", 0), (b"\nmy notes", 9), (b"\0", 1), (b"de", 2)] {
            let bytes = [&torrent(b"", b""), rest].concat();
            assert_eq!(TorrentEdit::count_trailing_bytes(&bytes), count, "{rest:?}");
        }
        assert_eq!(TorrentEdit::count_trailing_bytes(b"<html>"), 0);
    }

    #[test]
    fn trackers_comment_and_web_seeds_come_and_go() {
        let bare = torrent(b"", b"");
        let all = TorrentEdit {
            tiers: Some(vec![words("http://a http://b"), vec![], words("udp://c")]),
            comment: Some(Some("é".into())),
            web_seeds: Some(words("http://w")),
        };
        let full = edit(&bare, &all).unwrap();
        let read = Metainfo::parse(&full).unwrap();
        assert_eq!(read.tiers, [words("http://a http://b"), words("udp://c")]);
        assert_eq!((read.comment.as_deref(), read.web_seeds), (Some("é"), words("http://w")));
        assert_eq!((read.info_hash, &read.info[..]), (Metainfo::parse(&bare).unwrap().info_hash, INFO));

        let one = edit(&full, &TorrentEdit { tiers: Some(vec![words("http://z")]), ..TorrentEdit::default() }).unwrap();
        assert!(!one.windows(13).any(|w| w == b"announce-list"), "one tracker needs no list");
        assert_eq!(Metainfo::parse(&one).unwrap().comment.as_deref(), Some("é"));
        let none = TorrentEdit { tiers: Some(vec![]), comment: Some(None), web_seeds: Some(vec![]) };
        assert_eq!(edit(&one, &none).unwrap(), bare);
    }

    #[test]
    fn all_web_seeds_are_replaced_those_of_bep_17_too() {
        let old = torrent(b"9:httpseedsl8:http://se", b"8:url-listl8:http://oe");
        let seeds = |bytes: &[u8]| {
            let torrent = Metainfo::parse(bytes).unwrap();
            (torrent.web_seeds, torrent.http_seeds)
        };
        assert_eq!(seeds(&old), (words("http://o"), words("http://s")));
        let kept = TorrentEdit { comment: Some(None), ..TorrentEdit::default() };
        assert_eq!(edit(&old, &kept).unwrap(), old);
        let replaced = TorrentEdit { web_seeds: Some(words("http://w")), ..TorrentEdit::default() };
        assert_eq!(seeds(&edit(&old, &replaced).unwrap()), (words("http://w"), vec![]));
        let removed = TorrentEdit { web_seeds: Some(vec![]), ..TorrentEdit::default() };
        assert_eq!(edit(&old, &removed).unwrap(), torrent(b"", b""));
    }

    #[test]
    fn invalid_torrents_are_not_edited() {
        assert!(edit(b"<html>", &TorrentEdit::default()).is_err_and(|e| e.is_not_bencode()));
        assert!(edit(b"d8:announce1:ae", &TorrentEdit::default()).is_err());
        assert_eq!(end_of(b"5:ab", 0), None);
        assert_eq!(end_of(b"e", 0), None);
        assert_eq!(end_of(b"18446744073709551615:", 0), None);
        assert_eq!(end_of(b"d1:al1:eee", 0), Some(10));
    }
}
