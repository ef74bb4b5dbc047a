//! Builds malformed and unusual torrents.

/// Encodes a string.
pub fn string(text: impl AsRef<[u8]>) -> Vec<u8> {
    super::bencode::bytes(text.as_ref())
}

/// Encodes a list of values that are already bencoded.
pub fn list(items: &[&[u8]]) -> Vec<u8> {
    [b"l", &*items.concat(), b"e"].concat()
}

/// Encodes a dictionary of values that are already bencoded.
pub fn dictionary(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let body: Vec<u8> = entries.iter().flat_map(|(key, value)| [string(key), value.to_vec()].concat()).collect();
    [b"d", &*body, b"e"].concat()
}

/// Encodes a file's path.
pub fn path(parts: &[&str]) -> Vec<u8> {
    let parts: Vec<Vec<u8>> = parts.iter().map(string).collect();
    [b"l", &*parts.concat(), b"e"].concat()
}

/// An entry of `files`. Its length is already bencoded, so that a test can pass an invalid one.
pub fn file(parts: &[&str], length: &str) -> Vec<u8> {
    dictionary(&[("length", length.as_bytes()), ("path", &path(parts))])
}

/// A valid single-file torrent with one entry of `info` replaced or added, or removed for `None`.
pub fn torrent_with(key: &str, value: Option<&[u8]>) -> Vec<u8> {
    let pieces = string([b'\x07'; 40]);
    let name = string("a.bin");
    let sound: [(&str, &[u8]); 4] =
        [("length", b"i30e"), ("name", &name), ("piece length", b"i16e"), ("pieces", &pieces)];
    let mut info: Vec<_> = sound.into_iter().filter(|(k, _)| *k != key).collect();
    info.extend(value.map(|value| (key, value)));
    dictionary(&[("info", &dictionary(&info))])
}

/// A torrent of files that together need one piece.
pub fn with_files(files: &[Vec<u8>]) -> Vec<u8> {
    let (files, pieces) = ([b"l", &*files.concat(), b"e"].concat(), string([1; 20]));
    let info = dictionary(&[("files", &files), ("name", &string("t")), ("piece length", b"i16e"), ("pieces", &pieces)]);
    dictionary(&[("info", &info)])
}

/// The rest of a torrent of empty files, after its `files` list.
pub fn files_end(end: &str) -> Vec<u8> {
    format!("{end}4:name1:t12:piece lengthi16e6:pieces0:ee").into_bytes()
}
