//! Saves the torrent file of a magnet link or a URL.

use std::fs;
use std::io;
use std::path::Path;

use crate::metainfo::Metainfo;
use crate::torrent::{AddOptions, Event, TorrentConfig};
use crate::util::atomic_file::{self, WriteMode};
use crate::util::os_error::reason;
use crate::util::paths::resolved;

impl Metainfo {
    /// Saves a torrent file, given as its `bytes`, at `path`: a file, or a folder in which the info-hash is its name. A file with
    /// other content is replaced only if `options` allow to overwrite, and no file that the download itself needs is taken. Returns
    /// [`Event::TorrentSaved`] or [`Event::TorrentNotSaved`], which a torrent of a magnet link sends itself.
    pub fn save(&self, path: &Path, bytes: &[u8], options: &AddOptions) -> Event {
        save_torrent_file(path, self, bytes, &options.config)
    }
}

/// Saves the torrent file at `path`, a file or a folder; returns the event that reports the result. A failure is no reason to
/// stop. A file with other contents is replaced only with `overwrite`.
pub fn save_torrent_file(path: &Path, metainfo: &Metainfo, bytes: &[u8], config: &TorrentConfig) -> Event {
    let file = if path.is_dir() { path.join(format!("{}.torrent", metainfo.info_hash)) } else { path.to_owned() };
    let failed =
        |reason: String, is_overwritable: bool| Event::TorrentNotSaved { path: file.clone(), reason, is_overwritable };
    if is_of_download(&file, metainfo, config) {
        return failed("the download itself uses this name".to_owned(), false);
    }
    match save(&file, metainfo, bytes, config.files.may_overwrite) {
        Ok(SaveResult::Written) => Event::TorrentSaved { path: file, is_new: true },
        Ok(SaveResult::Present) => Event::TorrentSaved { path: file, is_new: false },
        Ok(SaveResult::OtherFile) => failed("another file has this name".to_owned(), true),
        Err(error) => failed(reason(&error), false),
    }
}

enum SaveResult {
    Written,
    /// The file already contains the same torrent.
    Present,
    /// A file with other contents is there.
    OtherFile,
}

fn save(file: &Path, metainfo: &Metainfo, bytes: &[u8], may_overwrite: bool) -> io::Result<SaveResult> {
    match fs::metadata(file) {
        // A pipe, a device.
        Ok(found) if !found.is_file() => return atomic_file::write_into(file, bytes).map(|()| SaveResult::Written),
        Ok(_) if !may_overwrite => {
            let is_same = Metainfo::read(file).is_ok_and(|there| there.info_hash == metainfo.info_hash);
            return Ok(if is_same { SaveResult::Present } else { SaveResult::OtherFile });
        }
        _ => {}
    }
    // A symbolic link is the user's way of naming another file.
    let file = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    atomic_file::write(&file, bytes, if may_overwrite { WriteMode::Replace } else { WriteMode::CreateNew })?;
    Ok(SaveResult::Written)
}

/// Whether the path is a file of the download itself, or a folder for one.
fn is_of_download(file: &Path, metainfo: &Metainfo, config: &TorrentConfig) -> bool {
    let (file, root) = (resolved(file), resolved(&config.out_dir));
    let Ok(name) = file.strip_prefix(root) else { return false };
    let is_it =
        |path: &Path| path.starts_with(name) || is_unfinished(path, name, config.files.incomplete_suffix.as_deref());
    metainfo.files.iter().any(|entry| !entry.is_virtual && is_it(&entry.path))
        || config.files.renamed_files.iter().any(|(_, path)| is_it(path))
}

fn is_unfinished(path: &Path, name: &Path, suffix: Option<&str>) -> bool {
    suffix.is_some_and(|suffix| {
        let mut named = path.as_os_str().to_owned();
        named.push(suffix);
        named == name.as_os_str()
    })
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
        let keep = |overwrite| {
            let mut config = TorrentConfig::new(dir.path().to_owned());
            config.files.may_overwrite = overwrite;
            save_torrent_file(&file, &torrent, bytes, &config)
        };
        let saved = |is_new| Event::TorrentSaved { path: file.clone(), is_new };
        assert_eq!((keep(false), keep(false)), (saved(true), saved(false)));
        fs::write(&file, "mine").expect("room");
        assert!(matches!(keep(false), Event::TorrentNotSaved { is_overwritable: true, .. }), "{:?}", keep(false));
        assert_eq!(fs::read(&file).expect("it"), b"mine");
        assert_eq!(keep(true), saved(true));
        assert_eq!(fs::read(&file).expect("it"), bytes);
        assert_eq!(fs::read_dir(dir.path()).expect("it").count(), 1);
    }

    /// There was a pipe when the path was checked, and there is a file when it is opened.
    #[test]
    fn a_file_that_took_the_place_of_a_pipe_is_not_cut() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("x");
        fs::write(&file, "mine").expect("room");
        assert_eq!(atomic_file::write_into(&file, b"bytes").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&file).expect("it"), b"mine");
    }

    #[test]
    fn the_downloads_own_names_are_not_taken() {
        let bytes = b"d4:infod6:lengthi1e4:name1:x12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee";
        let torrent = Metainfo::parse(bytes).expect("a torrent");
        let dir = tempfile::tempdir().expect("a folder");
        let out = dir.path().join("out");
        fs::create_dir(&out).expect("a folder");
        std::os::unix::fs::symlink("out", dir.path().join("link")).expect("a link");
        let mut config = TorrentConfig::new(out);
        config.files.may_overwrite = true;
        (config.files.renamed_files, config.files.incomplete_suffix) =
            (vec![(0, "d/y".into())], Some(".part".to_owned()));
        for taken in ["out/x", "link/x", "out/d/y", "out/d", "out/x.part"] {
            let event = save_torrent_file(&dir.path().join(taken), &torrent, bytes, &config);
            let is_refused = matches!(&event, Event::TorrentNotSaved { reason, .. } if reason == "the download itself uses this name");
            assert!(is_refused && !dir.path().join(taken).exists(), "{event:?}");
        }
        for free in ["x", "out/x.torrent", "out/y"] {
            let event = save_torrent_file(&dir.path().join(free), &torrent, bytes, &config);
            assert!(matches!(event, Event::TorrentSaved { is_new: true, .. }), "{free}");
        }
    }
}
