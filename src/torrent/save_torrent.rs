//! Saves the torrent file of a magnet link or a URL.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use crate::metainfo::{Metainfo, printable};
use crate::util::atomic_file::{self, WriteMode};
use crate::util::os_error::reason;

impl Metainfo {
    /// Saves a torrent file, given as its `bytes`, at `path`: a file, or a folder in which the info-hash is its name. A file with
    /// other content is replaced only with `overwrite`. Returns what was done, or why it was not, for the user to read.
    pub fn save(&self, path: &Path, bytes: &[u8], overwrite: bool) -> String {
        save_torrent_file(path, self, bytes, overwrite)
    }
}

/// Saves the torrent file at `path`, a file or a folder; returns the result as a printable line. A failure is no reason to
/// stop. A file with other contents is replaced only with `overwrite`.
pub fn save_torrent_file(path: &Path, torrent: &Metainfo, bytes: &[u8], overwrite: bool) -> String {
    let file = if path.is_dir() { path.join(format!("{}.torrent", torrent.info_hash)) } else { path.to_owned() };
    let shown = printable(&file.to_string_lossy());
    match save(&file, torrent, bytes, overwrite) {
        Ok(true) => format!("saved as {shown}"),
        Ok(false) => format!("{shown} has this torrent already"),
        Err(error) => format!("cannot be saved as {shown}: {}", reason(&error)),
    }
}

/// Whether it was written; false if the file already contains the same torrent.
fn save(file: &Path, torrent: &Metainfo, bytes: &[u8], overwrite: bool) -> io::Result<bool> {
    match fs::metadata(file) {
        Ok(found) if !found.is_file() => return write_into(file, bytes), // a pipe, a device
        Ok(_) if !overwrite => {
            if Metainfo::read(file).is_ok_and(|there| there.info_hash == torrent.info_hash) {
                return Ok(false);
            }
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "another file is there; --overwrite replaces it"));
        }
        _ => {}
    }
    // A symbolic link is the user's way of naming another file.
    let file = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    atomic_file::write(&file, bytes, if overwrite { WriteMode::Replace } else { WriteMode::CreateNew })?;
    Ok(true)
}

/// Writes to something other than a regular file. Does not truncate: a file may have taken its place a moment ago.
fn write_into(place: &Path, bytes: &[u8]) -> io::Result<bool> {
    let mut opened = fs::OpenOptions::new().write(true).open(place)?;
    if opened.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "another program has just made it"));
    }
    opened.write_all(bytes).map(|()| true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_is_replaced_only_by_leave_of_the_user() {
        let bytes = b"d4:infod6:lengthi1e4:name1:x12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee";
        let torrent = Metainfo::parse(bytes).expect("a torrent");
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("x.torrent");
        let keep = |overwrite| save_torrent_file(&file, &torrent, bytes, overwrite);
        assert!(keep(false).starts_with("saved as "));
        assert!(keep(false).ends_with(" has this torrent already"));
        fs::write(&file, "mine").expect("room");
        assert!(keep(false).contains("another file is there; --overwrite"), "{}", keep(false));
        assert_eq!(fs::read(&file).expect("it"), b"mine");
        assert!(keep(true).starts_with("saved as "));
        assert_eq!(fs::read(&file).expect("it"), bytes);
        assert_eq!(fs::read_dir(dir.path()).expect("it").count(), 1);
    }

    /// There was a pipe when the path was checked, and there is a file when it is opened.
    #[test]
    fn a_file_that_took_the_place_of_a_pipe_is_not_cut() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("x");
        fs::write(&file, "mine").expect("room");
        assert_eq!(write_into(&file, b"bytes").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&file).expect("it"), b"mine");
        assert!(write_into(Path::new("/dev/null"), b"bytes").expect("a device"));
    }
}
