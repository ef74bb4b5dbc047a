//! Small files that a run leaves for later runs, one for each torrent and download folder: their names, and a limit on their
//! number.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use sha1::{Digest as _, Sha1};

use crate::types::InfoHash;
use crate::util::atomic_file::{may_be_ours, private_folder, replace_private};
use crate::util::cold_sort;
use crate::util::hex::hex;

/// At most this many records are kept in a folder; the oldest are deleted.
const MAX_RECORDS: usize = 1000;

/// The path in `folder` of the record for a torrent whose files are in `out_dir`.
pub(crate) fn record_path(folder: &Path, info_hash: InfoHash, out_dir: &Path) -> PathBuf {
    let folder_hash = hex(&Sha1::digest(out_dir.as_os_str().as_bytes()));
    folder.join(format!("{info_hash}-{folder_hash}"))
}

/// Replaces the file's contents atomically, so that a reader finds either the old or the new bytes. A file whose contents
/// `is_ours` does not recognise is left alone.
///
/// # Errors
/// If the file cannot be written or its folder cannot be created; `AlreadyExists` if another program's file has this path.
pub(crate) fn replace(path: &Path, bytes: &[u8], is_ours: fn(&[u8]) -> bool) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    if !path.exists() {
        private_folder(folder)?;
        prune(folder, is_ours);
    }
    replace_private(path, bytes, is_ours)
}

/// Deletes old records to make room for another. Leaves alone everything else in the folder.
fn prune(folder: &Path, is_ours: fn(&[u8]) -> bool) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let age = |entry: fs::DirEntry| {
        let found = entry.metadata().ok().filter(|found| found.is_file() && is_record_name(&entry.file_name()))?;
        Some((found.modified().ok()?, entry.path()))
    };
    let mut records: Vec<_> = entries.flatten().filter_map(age).collect();
    cold_sort::sort(&mut records);
    let surplus = (records.len() + 1).saturating_sub(MAX_RECORDS);
    let is_one = |path: &PathBuf| is_half_written(path) || may_be_ours(path, is_ours).unwrap_or(false);
    let old = records.into_iter().map(|(_, path)| path).filter(is_one);
    old.take(surplus).for_each(|path| drop(fs::remove_file(path)));
}

/// Whether the file is what a killed process left while it wrote a record. Only the name tells, as the file may be empty.
fn is_half_written(path: &Path) -> bool {
    path.extension().is_some_and(|suffix| suffix == "new")
}

/// Whether a file has the name of a record: the info-hash and the hash of the download folder in hexadecimal. Also true for the
/// temporary file of a killed process, whose name has more after that.
fn is_record_name(name: &OsStr) -> bool {
    let is_hex = |part: &[u8]| part.len() == 40 && part.iter().all(u8::is_ascii_hexdigit);
    let Some((hash, [b'-', folder_hash @ ..])) = name.as_bytes().split_at_checked(40) else { return false };
    let Some((folder_hash, rest)) = folder_hash.split_at_checked(40) else { return false };
    is_hex(hash) && is_hex(folder_hash) && (rest.is_empty() || (rest.starts_with(b".") && rest.ends_with(b".new")))
}

#[cfg(test)]
mod tests {
    use std::fs::{File, FileTimes};
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn old_records_make_room_and_nothing_else_does() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = dir.path().join("records");
        fs::create_dir(&folder).expect("a folder");
        let old = |name: &str, days: u64| {
            let file = File::options().create(true).append(true).open(folder.join(name)).expect("a file");
            let then = SystemTime::now() - Duration::from_secs(days * 86_400);
            file.set_times(FileTimes::new().set_modified(then)).expect("times");
        };
        let name = |n: usize| format!("{n:040x}-{n:040x}");
        (0..MAX_RECORDS).for_each(|n| old(&name(n), if n == 7 { 9 } else { 1 }));
        let others =
            ["notes.txt".to_owned(), format!("{}.bak", name(1)), name(1).replace('-', "_"), name(1)[1..].to_owned()];
        for name in &others {
            old(name, 99);
        }
        old(&format!("{}.0123abcd.new", name(2)), 50);
        fs::write(folder.join(name(9)), "mine").expect("a file");
        old(&name(9), 200);
        let is_ours = |there: &[u8]| there == b"new";
        let path = record_path(&folder, InfoHash([3; 20]), Path::new("out"));
        replace(&path, b"new", is_ours).expect("room");
        assert_eq!(fs::read(&path).expect("it"), b"new");
        let is_there = |name: &str| folder.join(name).exists();
        assert!(others.iter().all(|name| is_there(name)), "other files stay");
        assert!(!is_there(&format!("{}.0123abcd.new", name(2))) && !is_there(&name(7)), "the oldest are gone");
        assert_eq!(fs::read_dir(&folder).expect("it").count(), MAX_RECORDS + others.len());
        replace(&path, b"newer", is_ours).expect("room");
        assert!(replace(&path, b"newest", is_ours).is_err(), "it holds something else by now");
        assert_eq!(fs::read_to_string(folder.join(name(9))).expect("it"), "mine");
        assert_eq!(fs::read_dir(&folder).expect("it").count(), MAX_RECORDS + others.len(), "it has its place already");
    }
}
