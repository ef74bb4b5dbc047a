//! Records which torrent and magnet files downloads create, if the file system cannot mark them (`storage/download_mark.rs`).
//! Each such download has a file with their paths, written before its first byte, so that no later run takes one of them for the
//! user's own.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf, absolute};

use crate::storage::permanent_identity;
use crate::torrent::record_files::{record_path, replace};
use crate::types::InfoHash;
use crate::util::atomic_file;
use crate::util::paths::folded_without_end;

/// The start of such a file. Entries follow; each ends with a zero byte, which no path contains.
const HEAD: &[u8] = b"btsync brought 1\0";
/// At most this many bytes of it are read.
const LONGEST: u64 = 64 << 20;

/// By path without symbolic links: the identity that distinguishes the file from every other, if the file system provides one.
type Files = BTreeMap<PathBuf, Option<u64>>;

/// Adds files to the record of the download of this torrent to `out_dir`.
///
/// # Errors
/// If the record cannot be written.
pub(crate) fn note(
    folder: &Path,
    info_hash: InfoHash,
    out_dir: &Path,
    files: Vec<(PathBuf, Option<u64>)>,
) -> io::Result<()> {
    let out_dir = absolute(out_dir).unwrap_or_else(|_| out_dir.to_owned());
    let path = record_path(folder, info_hash, &out_dir);
    let mut all = read(&path).unwrap_or_default();
    let before = all.clone();
    all.extend(files);
    if all == before { Ok(()) } else { replace(&path, &encode(&all), |there| there.starts_with(HEAD)) }
}

/// Whether the file was created by any recorded download; `resolved` is its path without symbolic links.
pub fn is_from_download(folder: &Path, resolved: &Path, file: &File) -> bool {
    let identity = permanent_identity(file);
    let notes = fs::read_dir(folder).into_iter().flatten().flatten();
    notes.filter_map(|note| read(&note.path())).any(|files| contains(&files, resolved, identity))
}

/// Whether the file is one of `files`: by identity or, if either has none, by path, ignoring what file systems ignore.
fn contains(files: &Files, resolved: &Path, identity: Option<u64>) -> bool {
    let name = folded_without_end(resolved);
    let is_named = |path: &Path| path == resolved || folded_without_end(path) == name;
    match identity {
        Some(_) => files.iter().any(|(path, known)| *known == identity || (known.is_none() && is_named(path))),
        None => files.keys().any(|path| is_named(path)),
    }
}

fn read(path: &Path) -> Option<Files> {
    let mut bytes = Vec::new();
    atomic_file::open(path).ok()?.take(LONGEST).read_to_end(&mut bytes).ok()?;
    decode(&bytes)
}

fn encode(files: &Files) -> Vec<u8> {
    let mut bytes = HEAD.to_vec();
    for (path, identity) in files {
        let identity = identity.map_or_else(|| "-".to_owned(), |identity| format!("{identity:016x}"));
        bytes.extend_from_slice(identity.as_bytes());
        bytes.push(b' ');
        bytes.extend_from_slice(path.as_os_str().as_bytes());
        bytes.push(0);
    }
    bytes
}

/// Parses a record; skips malformed entries.
fn decode(bytes: &[u8]) -> Option<Files> {
    let entry = |entry: &[u8]| {
        let (identity, path) = entry.split_at_checked(entry.iter().position(|byte| *byte == b' ')?)?;
        let identity = match identity {
            b"-" => None,
            digits => Some(u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?),
        };
        let path = path.get(1..).filter(|path| !path.is_empty())?;
        Some((PathBuf::from(OsStr::from_bytes(path)), identity))
    };
    Some(bytes.strip_prefix(HEAD)?.split(|byte| *byte == 0).filter_map(entry).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noted_files_are_known_again() {
        let strange = PathBuf::from(OsStr::from_bytes(b"/x/ a\n\xff.torrent"));
        let files = Files::from([(strange.clone(), Some(7)), ("/x/b.magnet".into(), None)]);
        assert_eq!(decode(&encode(&files)), Some(files.clone()));
        assert_eq!(decode(b"mine"), None);
        assert_eq!(decode(&[HEAD, b"zz /x\0- \0nothing\0- /y\0"].concat()), Some(Files::from([("/y".into(), None)])));
        let is = |path: &str, identity| contains(&files, Path::new(path), identity);
        assert!(is("/elsewhere.torrent", Some(7)), "it was moved");
        assert!(!contains(&files, &strange, Some(8)), "another file has its name");
        assert!(contains(&files, &strange, None), "nobody can tell");
        assert!(is("/X/B.magnet", None), "the file system does not tell capital letters from small ones");
        assert!(is("/x/b.magnet.", None), "nor does it keep dots at the end");
        assert!(is("/x/b.magnet", None) && is("/x/b.magnet", Some(8)) && !is("/x/c.magnet", None));
    }

    #[test]
    fn notes_of_a_torrent_are_added_up_and_those_of_all_count() {
        let dir = tempfile::tempdir().expect("a folder");
        let notes = dir.path().join("notes");
        let path = dir.path().join("a.torrent");
        fs::write(&path, "x").expect("room");
        let is_known = || is_from_download(&notes, &path, &File::open(&path).expect("the file"));
        let add = |hash, name: &str| {
            note(&notes, InfoHash([hash; 20]), dir.path(), vec![(dir.path().join(name), None)]).expect("room");
        };
        assert!(!is_known());
        add(1, "b.torrent");
        assert!(!is_known());
        add(2, "a.torrent");
        add(2, "c.torrent");
        assert!(is_known());
        assert_eq!(fs::read_dir(&notes).expect("a folder").count(), 2);
    }
}
