//! What serde makes of a torrent file, before anything is believed. Every field takes any type and keeps what it understands:
//! a key of the wrong type counts as missing, a key we do not know (even one that is not UTF-8) does not matter. Lists are
//! cut at a bound or end at their first bad entry, so that memory stays in proportion to the file.
//! Comes after [`crate::metainfo::raw::outline`], which bounds the depth.

use std::marker::PhantomData;
use std::path::PathBuf;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_bytes::ByteBuf;

use crate::metainfo::paths::{self, PathError};
use crate::metainfo::torrent::TorrentError;

/// Trackers or web seeds that are kept, at most.
const URLS_MAX: usize = 1000;

/// A value built from whatever bencode type comes; what is not overridden is read over.
pub(super) trait Loose: Default {
    fn int(&mut self, _value: i64) {}
    fn bytes(&mut self, _value: &[u8]) {}
    fn seq<'de, A: SeqAccess<'de>>(&mut self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
    fn map<'de, A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<ByteBuf>()? {
            self.entry(&key, &mut map)?;
        }
        Ok(())
    }
    /// One entry of a dictionary; must take its value.
    fn entry<'de, A: MapAccess<'de>>(&mut self, _key: &[u8], map: &mut A) -> Result<(), A::Error> {
        map.next_value::<IgnoredAny>().map(|_| ())
    }
}

/// Lets serde build a [`Loose`].
pub(super) struct As<T>(pub T);

struct LooseVisitor<T>(PhantomData<T>);

impl<'de, T: Loose> Deserialize<'de> for As<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<As<T>, D::Error> {
        deserializer.deserialize_any(LooseVisitor(PhantomData)).map(As)
    }
}

impl<'de, T: Loose> Visitor<'de> for LooseVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("bencode")
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
        let mut it = T::default();
        it.int(value);
        Ok(it)
    }

    fn visit_bytes<E: Error>(self, value: &[u8]) -> Result<T, E> {
        let mut it = T::default();
        it.bytes(value);
        Ok(it)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<T, A::Error> {
        let mut it = T::default();
        it.seq(seq)?;
        Ok(it)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        let mut it = T::default();
        it.map(map)?;
        Ok(it)
    }
}

impl Loose for Option<i64> {
    fn int(&mut self, value: i64) {
        *self = Some(value);
    }
}

impl Loose for Option<Vec<u8>> {
    fn bytes(&mut self, value: &[u8]) {
        *self = Some(value.to_vec());
    }
}

/// Takes the value of the entry at hand.
fn value<'de, T: Loose, A: MapAccess<'de>>(map: &mut A) -> Result<T, A::Error> {
    map.next_value::<As<T>>().map(|As(it)| it)
}

/// A list of URLs, or a single one; what is no URL we could use is left out.
#[derive(Default)]
pub(super) struct Urls(pub Vec<String>);

impl Loose for Urls {
    fn bytes(&mut self, value: &[u8]) {
        let text = std::str::from_utf8(value).unwrap_or_default().trim();
        if !text.is_empty() && paths::printable(text) == text && self.0.len() < URLS_MAX {
            self.0.push(text.to_owned());
        }
    }

    fn seq<'de, A: SeqAccess<'de>>(&mut self, mut seq: A) -> Result<(), A::Error> {
        while let Some(As(entry)) = seq.next_element::<As<Option<Vec<u8>>>>()? {
            self.bytes(&entry.unwrap_or_default());
        }
        Ok(())
    }
}

/// The tiers of an `announce-list` (BEP 12).
#[derive(Default)]
pub(super) struct Tiers(pub Vec<Vec<String>>);

impl Loose for Tiers {
    fn seq<'de, A: SeqAccess<'de>>(&mut self, mut seq: A) -> Result<(), A::Error> {
        let mut left = URLS_MAX;
        while let Some(As(Urls(mut tier))) = seq.next_element::<As<Urls>>()? {
            tier.truncate(left);
            left -= tier.len();
            if !tier.is_empty() {
                self.0.push(tier);
            }
        }
        Ok(())
    }
}

/// The components of a path, each checked as it comes.
#[derive(Default)]
struct Parts(Option<Result<PathBuf, PathError>>);

impl Loose for Parts {
    fn seq<'de, A: SeqAccess<'de>>(&mut self, mut seq: A) -> Result<(), A::Error> {
        let mut path = PathBuf::new();
        let mut bad = None;
        let mut depth = 0;
        while let Some(As(part)) = seq.next_element::<As<Option<Vec<u8>>>>()? {
            depth += 1;
            if bad.is_some() {
                continue;
            }
            match paths::safe_component(&part.unwrap_or_default()) {
                Ok(_) if depth > paths::DEPTH_MAX => bad = Some(PathError::TooDeep),
                Ok(name) => path.push(name),
                Err(error) => bad = Some(error),
            }
        }
        if depth == 0 {
            bad = Some(PathError::Empty);
        }
        self.0 = Some(bad.map_or(Ok(path), Err));
        Ok(())
    }
}

/// A file of a multi-file torrent, its path without the torrent's name.
pub(super) struct File {
    pub path: PathBuf,
    pub length: u64,
    pub pad: bool,
}

#[derive(Default)]
struct RawFile {
    length: Option<i64>,
    path: Parts,
    path_utf8: Parts,
    attr: Option<Vec<u8>>,
}

impl Loose for RawFile {
    fn entry<'de, A: MapAccess<'de>>(&mut self, key: &[u8], map: &mut A) -> Result<(), A::Error> {
        match key {
            b"length" => self.length = value(map)?,
            b"path" => self.path = value(map)?,
            b"path.utf-8" => self.path_utf8 = value(map)?,
            b"attr" => self.attr = value(map)?,
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

impl RawFile {
    /// `None` for a symbolic link (BEP 47), which we do not make: it could lead anywhere.
    fn finish(self) -> Result<Option<File>, TorrentError> {
        let has = |letter: u8| self.attr.as_ref().is_some_and(|attr| attr.contains(&letter));
        let path = self.path_utf8.0.or(self.path.0).ok_or(TorrentError::Missing("path"))??;
        let length = match (self.length, has(b'l')) {
            (None | Some(0), true) => return Ok(None),
            (Some(_), true) => return Err(TorrentError::Symlink(path.display().to_string())),
            (None, false) => return Err(TorrentError::Missing("length")),
            (Some(length), false) => u64::try_from(length).map_err(|_| TorrentError::NegativeLength)?,
        };
        Ok(Some(File { path, length, pad: has(b'p') }))
    }
}

/// The value of `files`; the first bad entry takes the place of all.
#[derive(Default)]
pub(super) struct Files(pub Option<Result<Vec<File>, TorrentError>>);

impl Loose for Files {
    fn seq<'de, A: SeqAccess<'de>>(&mut self, mut seq: A) -> Result<(), A::Error> {
        let mut files = Vec::new();
        let mut links = 0;
        while let Some(As(raw)) = seq.next_element::<As<RawFile>>()? {
            match raw.finish() {
                Ok(Some(file)) => files.push(file),
                Ok(None) => links += 1,
                Err(error) => {
                    while seq.next_element::<IgnoredAny>()?.is_some() {}
                    self.0 = Some(Err(error));
                    return Ok(());
                }
            }
        }
        if links > 0 {
            log::warn!("symbolic links in the torrent are left out: {links}");
        }
        self.0 = Some(Ok(files));
        Ok(())
    }
}

/// The `info` dictionary.
#[derive(Default)]
pub(super) struct RawInfo {
    pub name: Option<Vec<u8>>,
    pub name_utf8: Option<Vec<u8>>,
    pub piece_length: Option<i64>,
    pub pieces: Option<Vec<u8>>,
    pub length: Option<i64>,
    pub files: Files,
    pub has_files: bool,
    pub private: Option<i64>,
    pub meta_version: Option<i64>,
}

impl Loose for RawInfo {
    fn entry<'de, A: MapAccess<'de>>(&mut self, key: &[u8], map: &mut A) -> Result<(), A::Error> {
        match key {
            b"name" => self.name = value(map)?,
            b"name.utf-8" => self.name_utf8 = value(map)?,
            b"piece length" => self.piece_length = value(map)?,
            b"pieces" => self.pieces = value(map)?,
            b"length" => self.length = value(map)?,
            b"files" => (self.has_files, self.files) = (true, value(map)?),
            b"private" => self.private = value(map)?,
            b"meta version" => self.meta_version = value(map)?,
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

/// The outermost dictionary, but for `info`.
#[derive(Default)]
pub(super) struct RawTop {
    pub announce: Urls,
    pub announce_list: Tiers,
    pub comment: Option<Vec<u8>>,
    pub created_by: Option<Vec<u8>>,
    pub creation_date: Option<i64>,
    pub url_list: Urls,
}

impl Loose for RawTop {
    fn entry<'de, A: MapAccess<'de>>(&mut self, key: &[u8], map: &mut A) -> Result<(), A::Error> {
        match key {
            b"announce" => self.announce = value(map)?,
            b"announce-list" => self.announce_list = value(map)?,
            b"comment" => self.comment = value(map)?,
            b"created by" => self.created_by = value(map)?,
            b"creation date" => self.creation_date = value(map)?,
            b"url-list" => self.url_list = value(map)?,
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

/// Decodes bytes that have passed the checks of [`crate::metainfo::raw`].
pub(super) fn decode<T: Loose>(bytes: &[u8]) -> Result<T, TorrentError> {
    let As(it) =
        serde_bencode::from_bytes(bytes).map_err(|e| TorrentError::Decode(paths::printable(&e.to_string())))?;
    Ok(it)
}
