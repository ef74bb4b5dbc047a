//! Payloads: files of pseudo-random bytes that are the same in every run, and the torrents that describe them.

use std::path::{Path, PathBuf};

use sha1::{Digest, Sha1};

use super::bencode::{bytes, dict, int, list};

/// The content of a torrent.
#[derive(Clone)]
pub struct Payload {
    /// The torrent's name: that of the file or of the folder.
    pub name: String,
    /// Piece length in bytes.
    pub piece_length: usize,
    /// Whether the torrent is private (BEP 27).
    pub private: bool,
    /// Replaces the correct info value.
    invalid_info: Option<Vec<u8>>,
    /// Each file's path below the folder (empty for a single file) and its bytes.
    files: Vec<(Vec<String>, Vec<u8>)>,
}

impl Payload {
    /// A single file of `size` bytes.
    pub fn single(name: &str, size: usize, piece_length: usize) -> Payload {
        Payload {
            name: name.into(),
            piece_length,
            private: false,
            invalid_info: None,
            files: vec![(Vec::new(), noise(name, size))],
        }
    }

    /// A single file with these bytes.
    pub fn of(name: &str, content: &[u8], piece_length: usize) -> Payload {
        let files = vec![(Vec::new(), content.to_vec())];
        Payload { files, ..Payload::single(name, 0, piece_length) }
    }

    /// A folder of files, each given by path and size.
    pub fn tree(name: &str, files: &[(&str, usize)], piece_length: usize) -> Payload {
        let file = |&(path, size): &(&str, usize)| (path.split('/').map(String::from).collect(), noise(path, size));
        Payload {
            name: name.into(),
            piece_length,
            private: false,
            invalid_info: None,
            files: files.iter().map(file).collect(),
        }
    }

    /// Replaces the content of the first file.
    #[must_use]
    pub fn with_first(mut self, content: &[u8]) -> Payload {
        self.files[0].1 = content.to_vec();
        self
    }

    /// About 3 MiB of difficult cases: pieces that span files, files of zero bytes, of one byte and of exactly one piece, names
    /// in several alphabets, deep folders, a short last piece.
    pub fn edge_cases() -> Payload {
        let files = [
            ("a/first.bin", 700_001),
            ("a/b/c/d/one byte", 1),
            ("empty", 0),
            ("tiny/1", 5_000),
            ("tiny/2", 3_333),
            ("tiny/3", 16_384),
            ("Ünïcödé/日本語 файл 🦀.dat", 1_234_567),
            ("exactly-a-piece", 65_536),
            ("z/empty too", 0),
            ("z/last", 1_000_003),
        ];
        Payload::tree("awkward tree ß", &files, 65_536)
    }

    /// A swarm whose info value is `info`, which need not be valid.
    pub fn with_invalid_info(info: &[u8]) -> Payload {
        Payload { invalid_info: Some(info.to_vec()), ..Payload::single("bogus", 1, 1) }
    }

    /// All files concatenated, as pieces are cut from them.
    pub fn content(&self) -> Vec<u8> {
        self.files.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect()
    }

    /// The number of pieces.
    pub fn pieces(&self) -> usize {
        self.content().len().div_ceil(self.piece_length)
    }

    /// The exact bytes of the info value.
    pub fn info(&self) -> Vec<u8> {
        if let Some(invalid_info) = &self.invalid_info {
            return invalid_info.clone();
        }
        let hashes: Vec<u8> = self.content().chunks(self.piece_length).flat_map(|p| Sha1::digest(p).to_vec()).collect();
        let (length, files) = match self.files.as_slice() {
            [(path, content)] if path.is_empty() => (Some(int(content.len() as u64)), None),
            files => {
                let path = |p: &[String]| list(p.iter().map(|c| bytes(c.as_bytes())));
                let file = |(p, b): &(Vec<String>, Vec<u8>)| dict([("length", int(b.len() as u64)), ("path", path(p))]);
                (None, Some(list(files.iter().map(file))))
            }
        };
        let entries = [
            ("files", files),
            ("length", length),
            ("name", Some(bytes(self.name.as_bytes()))),
            ("piece length", Some(int(self.piece_length as u64))),
            ("pieces", Some(bytes(&hashes))),
            ("private", self.private.then(|| int(1))),
        ];
        dict(entries.into_iter().filter_map(|(key, value)| Some((key, value?))))
    }

    /// The info-hash.
    pub fn info_hash(&self) -> [u8; 20] {
        let mut hash = [0; 20];
        hash.copy_from_slice(&Sha1::digest(self.info()));
        hash
    }

    /// The info-hash in hexadecimal.
    pub fn hex(&self) -> String {
        self.info_hash().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
    }

    /// A magnet link with these parameters after the hash, such as `&x.pe=10.88.0.2:6881`.
    pub fn magnet(&self, more: &str) -> String {
        format!("magnet:?xt=urn:btih:{}{more}", self.hex())
    }

    /// The bytes of a .torrent file.
    pub fn torrent(&self, announce: &str) -> Vec<u8> {
        dict([("announce", bytes(announce.as_bytes())), ("info", self.info())])
    }

    /// Writes all files below `dir`, as a client would.
    pub fn write_files(&self, dir: &Path) {
        for (path, content) in self.paths_with_content(dir) {
            std::fs::create_dir_all(path.parent().expect("a file has a folder")).expect("folders of the payload");
            std::fs::write(path, content).expect("a file of the payload");
        }
    }

    /// Each file's path below `dir`, with the bytes it should have.
    pub fn paths_with_content(&self, dir: &Path) -> Vec<(PathBuf, &[u8])> {
        let place = |path: &[String]| path.iter().fold(dir.join(&self.name), |at, part| at.join(part));
        self.files.iter().map(|(path, content)| (place(path), content.as_slice())).collect()
    }

    /// The first difference between the payload and the files below `dir`; `None` when every byte matches.
    pub fn difference(&self, dir: &Path) -> Option<String> {
        self.paths_with_content(dir).into_iter().find_map(|(path, right)| match std::fs::read(&path) {
            Err(error) => Some(format!("{}: {error}", path.display())),
            Ok(found) if found.len() != right.len() => {
                Some(format!("{}: {} bytes instead of {}", path.display(), found.len(), right.len()))
            }
            Ok(found) => {
                let at = found.iter().zip(right).position(|(a, b)| a != b)?;
                Some(format!("{}: differs at byte {at}", path.display()))
            }
        })
    }

    /// Like [`Payload::difference`], but empty files may be missing: transmission 3.00 does not create them.
    pub fn difference_in_content(&self, dir: &Path) -> Option<String> {
        let mut with_content = self.clone();
        with_content.files.retain(|(_, bytes)| !bytes.is_empty());
        with_content.difference(dir)
    }

    /// Panics unless the files below `dir` match the payload and no other file is there.
    pub fn assert_at(&self, dir: &Path) {
        assert_eq!(self.difference(dir), None);
        let mut expected: Vec<PathBuf> = self.paths_with_content(dir).into_iter().map(|(path, _)| path).collect();
        let mut found = files_below(dir);
        expected.sort();
        found.sort();
        assert_eq!(found, expected, "files that do not belong there");
    }

    /// How many pieces of a single file are correct on disk.
    pub fn right_pieces(&self, dir: &Path) -> usize {
        let content = self.content();
        let read = |(path, content): (PathBuf, &[u8])| {
            let mut found = std::fs::read(path).unwrap_or_default();
            found.resize(content.len(), 0);
            found
        };
        let found: Vec<u8> = self.paths_with_content(dir).into_iter().flat_map(read).collect();
        content.chunks(self.piece_length).zip(found.chunks(self.piece_length)).filter(|(a, b)| a == b).count()
    }
}

/// Every file below a folder.
fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).expect("a folder to list").map(|e| e.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// Pseudo-random bytes, derived from the name alone.
fn noise(name: &str, size: usize) -> Vec<u8> {
    let seed = name.bytes().fold(7, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; size];
    random.fill(&mut bytes);
    bytes
}
