//! Other names for files and folders of a torrent.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use crate::metainfo::{Metainfo, safe_component};
use crate::service::metainfo_summary::real_files;
use crate::service::model::ControlError;
use crate::service::record::{INCOMPLETE_SUFFIX, TorrentRecord};

/// Files with other paths, sorted by their indexes, and the torrent's name if that changes.
type Renaming = (Vec<(u32, PathBuf)>, Option<String>);

/// The paths of a torrent's files after the file or folder at `path` got the name `name`.
///
/// # Errors
/// If there is no such path, the name is no plain name, or another file of the torrent or on disk has the new path.
pub fn renamed(record: &TorrentRecord, metainfo: &Metainfo, path: &str, name: &str) -> Result<Renaming, ControlError> {
    let invalid = |why: &str| Err(ControlError::Invalid(why.to_owned()));
    let mut parts = Path::new(name).components();
    let is_plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
    if !is_plain || name.starts_with('.') || name.contains('/') || !is_safe_name(name) {
        return invalid(
            "the new name must be a plain file name of at most 255 bytes that does not start with a dot, without \
             control characters, invisible characters, backslashes, and spaces at its ends",
        );
    }
    let current: Vec<(u32, PathBuf)> = real_files(metainfo)
        .into_iter()
        .filter_map(|index| {
            let own = record.renamed(index).cloned();
            let path = own.or_else(|| metainfo.files.get(usize::try_from(index).ok()?).map(|file| file.path.clone()));
            Some((index, path?))
        })
        .collect();
    let old = Path::new(path);
    let new = old.with_file_name(name);
    let mut files: BTreeMap<u32, PathBuf> = record.files.renamed.iter().cloned().collect();
    let mut moved = Vec::new();
    for (index, file) in &current {
        if let Ok(below) = file.strip_prefix(old) {
            let to = if below.as_os_str().is_empty() { new.clone() } else { new.join(below) };
            files.insert(*index, to.clone());
            moved.push((file, to));
        } else if file.starts_with(&new) {
            return invalid("another file of the torrent has that path");
        }
    }
    // An empty path would be the folder of all files, which has no name in the torrent.
    if moved.is_empty() || path.is_empty() {
        return invalid("the torrent has no such file or folder");
    }
    if lookup(&record.folder, &new).is_some() || lookup(&record.folder, &with_suffix(&new)).is_some() {
        for (from, to) in &moved {
            check_free(&record.folder, from, to)?;
        }
    }
    let is_whole = old.components().count() == 1 && moved.len() == current.len();
    Ok((files.into_iter().collect(), is_whole.then(|| name.to_owned())))
}

/// Whether a name can be used as it is, and has no spaces at its ends, where nobody sees them.
fn is_safe_name(name: &str) -> bool {
    name.trim() == name && safe_component(name.as_bytes()).is_ok_and(|safe| safe == name)
}

/// Checks that nothing on disk has the new path of a file, unless it is the file itself.
fn check_free(folder: &Path, from: &Path, to: &Path) -> Result<(), ControlError> {
    let own: Vec<(u64, u64)> =
        [from.to_owned(), with_suffix(from)].iter().filter_map(|path| lookup(folder, path)).map(|it| id(&it)).collect();
    for path in [to.to_owned(), with_suffix(to)] {
        if lookup(folder, &path).is_some_and(|found| !own.contains(&id(&found))) {
            let path = folder.join(path);
            return Err(ControlError::Invalid(format!("{} exists already", path.display())));
        }
    }
    Ok(())
}

fn lookup(folder: &Path, path: &Path) -> Option<Metadata> {
    fs::symlink_metadata(folder.join(path)).ok()
}

fn id(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

/// The name that a file has until it is complete.
fn with_suffix(path: &Path) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(INCOMPLETE_SUFFIX);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::details::files;
    use crate::service::model::{Priority, TorrentId, UnixTime};

    fn torrent(folder: &Path) -> (TorrentRecord, Metainfo) {
        let bytes = b"d4:infod5:filesld6:lengthi20000e4:pathl1:aeed6:lengthi5e4:pathl1:d1:beee4:name1:n12:piece lengthi16384e6:pieces40:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaee";
        let metainfo = Metainfo::parse(bytes).expect("a torrent");
        let record = TorrentRecord::new(TorrentId(1), metainfo.info_hash, "n".into(), folder.into(), UnixTime(0));
        (record, metainfo)
    }

    #[test]
    fn a_file_or_a_folder_can_be_renamed() {
        let (mut record, metainfo) = torrent(Path::new("/nowhere"));
        let (files, name) = renamed(&record, &metainfo, "n/d", "e").expect("renamed");
        assert_eq!((files.as_slice(), name), (&[(1, PathBuf::from("n/e/b"))][..], None));
        record.files.renamed = files;
        let (files, name) = renamed(&record, &metainfo, "n", "m").expect("renamed");
        assert_eq!((&files[1].1, name.as_deref()), (&PathBuf::from("m/e/b"), Some("m")));
        assert_eq!(renamed(&record, &metainfo, "n/e/b", "b").expect("the same name").0[0].1, PathBuf::from("n/e/b"));
        for (path, name) in [("", "y"), ("n/x", "y"), ("n/d", "y"), ("n/a", "e")] {
            assert!(renamed(&record, &metainfo, path, name).is_err(), "{path} {name}");
        }
    }

    #[test]
    fn names_that_deceive_or_harm_are_refused() {
        let (record, metainfo) = torrent(Path::new("/nowhere"));
        let long = "x".repeat(256);
        let names = [
            "",
            ".",
            "..",
            ".y",
            "../y",
            "x/y",
            "y/",
            "/y",
            " ",
            "y ",
            " y",
            "\u{a0}",
            "a\\b",
            "x\x1b[31m",
            "x\ny",
            "x\x7f",
            "x\0",
            "\u{202e}txt.exe",
            "\u{200b}",
            &long,
        ];
        for name in names {
            assert!(renamed(&record, &metainfo, "n/a", name).is_err(), "{name:?}");
        }
        for name in ["y", "a b", "été", "%2e%2e", "x".repeat(255).as_str()] {
            assert!(renamed(&record, &metainfo, "n/a", name).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn a_folder_of_very_many_files_is_renamed_in_a_moment() {
        const FILES: u32 = 50_000;
        let names: Vec<String> = (0..FILES).map(|n| format!("d6:lengthi0e4:pathl6:{n:06}ee")).collect();
        let (names, piece) = (names.concat(), "a".repeat(20));
        let text = format!(
            "d4:infod5:filesl{names}d6:lengthi5e4:pathl1:zeee4:name1:n12:piece lengthi16384e6:pieces20:{piece}ee"
        );
        let metainfo = Metainfo::parse(text.as_bytes()).expect("a torrent");
        let folder = PathBuf::from("/nowhere");
        let mut record = TorrentRecord::new(TorrentId(1), metainfo.info_hash, "n".into(), folder, UnixTime(0));
        let (paths, name) = renamed(&record, &metainfo, "n", "m").expect("renamed");
        assert_eq!((paths.len(), name.as_deref()), (50_001, Some("m")));
        record.files.renamed = paths;
        record.files.low = (0..FILES).collect();
        let shown = files(&record, &metainfo, None, None);
        assert_eq!((shown[7].path.as_str(), shown[7].priority), ("m/000007", Priority::Low));
        assert_eq!(shown[50_000].priority, Priority::Normal);
        let (paths, _) = renamed(&record, &metainfo, "m/000001", "x").expect("renamed");
        assert_eq!(paths[1].1, PathBuf::from("m/x"));
    }

    #[test]
    fn what_exists_on_disk_keeps_its_name() {
        let temp = tempfile::tempdir().expect("a folder");
        let (record, metainfo) = torrent(temp.path());
        for folder in ["n", "m"] {
            fs::create_dir(temp.path().join(folder)).expect("a folder");
        }
        for name in ["n/a", "n/mine", "n/other.part", "m/a"] {
            fs::write(temp.path().join(name), "mine").expect("a file");
        }
        for (path, name) in [("n/a", "mine"), ("n/a", "other"), ("n", "m")] {
            let refused = renamed(&record, &metainfo, path, name).expect_err("refused");
            assert!(refused.to_string().contains("exists already"), "{path} {name}: {refused}");
        }
        fs::remove_file(temp.path().join("m/a")).expect("removed");
        assert!(renamed(&record, &metainfo, "n", "m").is_ok(), "a folder with other files");
        fs::hard_link(temp.path().join("n/a"), temp.path().join("n/A")).expect("a link");
        assert!(renamed(&record, &metainfo, "n/a", "A").is_ok(), "a file system that ignores case shows it so");
    }
}
