//! The watch folder of a service: torrent and magnet files that appear in it are added. An added file gets the suffix `.added`, or
//! is deleted if the settings say so. A file that cannot be added stays, is reported, and is read again when it changes.
//!
//! Files that a download created are never added: the author of one torrent could start others.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, PipeReader, PipeWriter};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init};
use rustix::io::Errno;

use crate::client::Client;
use crate::metainfo::Magnet;
use crate::metainfo::torrent::TORRENT_FILE_MAX;
use crate::service::added_files::put_away;
use crate::service::model::{AddRequest, AddSource, Control};
use crate::util::atomic_file::{open_regular, read_at_most};
use crate::util::cold_sort;
use crate::util::os_error::reason;
use crate::util::paths::resolved;
use crate::util::printable_text::printable;

/// The largest magnet file in bytes.
const MAX_MAGNET_FILE: usize = 1 << 20;
/// The buffer for events of inotify.
const EVENT_BUFFER: usize = 8 << 10;
/// How often btsync looks for a folder that is gone, in seconds.
const RETRY_SECONDS: i64 = 10;

/// Watches a folder until dropped.
pub struct WatchedFolder {
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

/// The state of the thread.
struct FolderReader {
    folder: PathBuf,
    /// Records of the torrent files that downloads created, for file systems that cannot mark them.
    records: Vec<PathBuf>,
    /// The folders below which downloads are.
    download_folders: Vec<PathBuf>,
    control: Arc<dyn Control>,
    /// Readable once the other end is dropped: the thread then ends.
    stopped: PipeReader,
}

impl WatchedFolder {
    /// Adds the torrents in `folder`, and then those that appear. Downloads are below `download_folders`.
    ///
    /// # Errors
    /// If it is no folder, or cannot be watched.
    pub fn start(
        folder: &Path,
        records: Vec<PathBuf>,
        download_folders: Vec<PathBuf>,
        control: Arc<dyn Control>,
    ) -> io::Result<WatchedFolder> {
        let inotify = watch(folder)?;
        let (stopped, stop) = io::pipe()?;
        let reader = FolderReader { folder: folder.to_owned(), records, download_folders, control, stopped };
        let thread = thread::Builder::new().name("watch".to_owned()).spawn(move || reader.run(inotify))?;
        Ok(WatchedFolder { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for WatchedFolder {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn watch(folder: &Path) -> io::Result<OwnedFd> {
    let inotify = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    let what = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::CREATE;
    let ends = WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF | WatchFlags::ONLYDIR;
    add_watch(&inotify, folder, what | ends)?;
    Ok(inotify)
}

/// What the events of the folder ask for.
enum FolderChanges {
    /// Look at these files.
    Files(Vec<OsString>),
    /// Some events were lost: look at all files.
    All,
    /// The folder is gone.
    Gone,
}

impl FolderReader {
    fn run(self, first: OwnedFd) {
        let mut watched = Some(first);
        let mut was_reported = false;
        loop {
            // Watch first, then read the folder, so that no file is missed in between.
            match watched.take().map_or_else(|| watch(&self.folder), Ok) {
                Ok(inotify) => {
                    was_reported = false;
                    self.read_folder();
                    if !self.follow(&inotify) {
                        return;
                    }
                }
                Err(error) if !was_reported => {
                    was_reported = true;
                    log::error!("{}: cannot be watched: {}; trying again", self.shown(""), reason(&error));
                }
                Err(_) => {}
            }
            if self.should_stop(RETRY_SECONDS) {
                return;
            }
        }
    }

    /// Handles events until the folder is gone (`true`) or the service ends (`false`).
    fn follow(&self, inotify: &OwnedFd) -> bool {
        loop {
            let mut fds = [PollFd::new(inotify, PollFlags::IN), PollFd::new(&self.stopped, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(_) => return true,
            }
            let [_, stopped] = fds;
            if !stopped.revents().is_empty() {
                return false;
            }
            match self.changes(inotify) {
                FolderChanges::Files(names) => names.iter().for_each(|name| self.look_at(name)),
                FolderChanges::All => self.read_folder(),
                FolderChanges::Gone => return true,
            }
        }
    }

    fn changes(&self, inotify: &OwnedFd) -> FolderChanges {
        let mut room = [MaybeUninit::uninit(); EVENT_BUFFER];
        let mut events = Reader::new(inotify, &mut room);
        let mut names: Vec<OsString> = Vec::new();
        let mut lost_some = false;
        loop {
            let event = match events.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                Err(_) => return FolderChanges::Gone,
            };
            let what = event.events();
            let ends = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT | ReadFlags::IGNORED;
            if what.intersects(ends) {
                return FolderChanges::Gone;
            }
            lost_some |= what.contains(ReadFlags::QUEUE_OVERFLOW);
            let Some(name) = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes())) else { continue };
            // A created file is empty, and another event follows once it is written. A link is complete at once.
            let is_written = !what.contains(ReadFlags::CREATE) || is_link(&self.folder.join(name));
            if is_written && WatchedFileKind::of(name).is_some() && names.last().is_none_or(|last| last != name) {
                names.push(name.to_owned());
            }
        }
        if lost_some { FolderChanges::All } else { FolderChanges::Files(names) }
    }

    /// Whether the service ends, now or within some seconds.
    fn should_stop(&self, seconds: i64) -> bool {
        let mut fds = [PollFd::new(&self.stopped, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: seconds, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
    }

    /// Looks at all files, in the order of their names.
    fn read_folder(&self) {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut names: Vec<OsString> =
            entries.map(|entry| entry.file_name()).filter(|name| WatchedFileKind::of(name).is_some()).collect();
        cold_sort::sort(&mut names);
        for name in names {
            if self.should_stop(0) {
                return;
            }
            self.look_at(&name);
        }
    }

    /// Adds the torrents of a file, and then renames or deletes it.
    fn look_at(&self, name: &OsStr) {
        let path = self.folder.join(name);
        match self.add(name, &path) {
            Ok(Some(bytes)) => self.rename_or_delete(name, &path, &bytes),
            Ok(None) => {}
            Err(why) => log::error!("{}: not added: {}", self.shown(name), printable(&why)),
        }
    }

    /// Adds the torrents of a file. Returns its content; `None` if it is gone, is no regular file, or belongs to a download.
    fn add(&self, name: &OsStr, path: &Path) -> Result<Option<Vec<u8>>, String> {
        let Some(kind) = WatchedFileKind::of(name) else { return Ok(None) };
        let is_link_to_download = path.is_symlink()
            && self.download_folders.iter().any(|folder| resolved(path).starts_with(resolved(folder)));
        let file = match open_regular(path) {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(reason(&error)),
        };
        let is_recorded = |records: &PathBuf| Client::is_downloaded_file(path, &file, Some(records));
        if is_link_to_download || self.records.iter().any(is_recorded) {
            log::info!("{}: not added, because it belongs to a download", self.shown(name));
            return Ok(None);
        }
        let bytes = kind.read(file)?;
        for source in kind.sources(&bytes)? {
            let request = AddRequest { source, ..AddRequest::default() };
            let added = self.control.add(request).map_err(|error| error.to_string())?;
            let what = if added.is_duplicate { "is there already" } else { "added" };
            log::info!("{}: {}: {what}", self.shown(name), printable(&added.name));
        }
        Ok(Some(bytes))
    }

    fn rename_or_delete(&self, name: &OsStr, path: &Path, read: &[u8]) {
        match put_away(path, read, self.control.settings().deletes_watched) {
            // Somebody has taken it away.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => log::error!("{}: cannot be deleted or renamed: {}", self.shown(name), reason(&error)),
            Ok(()) => {}
        }
    }

    fn shown(&self, name: impl AsRef<Path>) -> String {
        printable(&self.folder.join(name).to_string_lossy())
    }
}

/// Whether it is a symbolic or hard link, which has its full content as soon as it appears.
fn is_link(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|there| there.is_symlink() || there.nlink() > 1)
}

/// What a file in the folder has, as its name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WatchedFileKind {
    /// A torrent.
    Torrent,
    /// Magnet links.
    Magnets,
}

impl WatchedFileKind {
    /// The kind of a file by its name; `None` for others. Hidden files are left alone: they may still be copied.
    fn of(name: &OsStr) -> Option<WatchedFileKind> {
        let extension = Path::new(name).extension().filter(|_| !name.as_bytes().starts_with(b"."))?;
        match extension.to_ascii_lowercase().as_bytes() {
            b"torrent" => Some(WatchedFileKind::Torrent),
            b"magnet" => Some(WatchedFileKind::Magnets),
            _ => None,
        }
    }

    /// The content of a file of this kind.
    fn read(self, file: File) -> Result<Vec<u8>, String> {
        let most = if self == WatchedFileKind::Torrent { TORRENT_FILE_MAX } else { MAX_MAGNET_FILE };
        read_at_most(file, most).map_err(|error| reason(&error))?.ok_or_else(|| "too large".to_owned())
    }

    /// What a file of this kind has: a torrent, or one magnet link a line.
    fn sources(self, bytes: &[u8]) -> Result<Vec<AddSource>, String> {
        if self == WatchedFileKind::Torrent {
            return Ok(vec![AddSource::Metainfo(bytes.to_owned())]);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| "not text".to_owned())?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let source = |line: &str| match Magnet::parse(line) {
            Ok(_) => Ok(AddSource::Name(line.to_owned())),
            Err(error) => Err(error.to_string()),
        };
        let sources: Vec<AddSource> = lines.map(source).collect::<Result<_, _>>()?;
        if sources.is_empty() { Err("it contains no magnet link".to_owned()) } else { Ok(sources) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(kind: WatchedFileKind, content: &[u8]) -> Result<usize, String> {
        let temp = tempfile::tempdir().expect("a folder");
        fs::write(temp.path().join("x"), content).expect("written");
        let bytes = kind.read(File::open(temp.path().join("x")).expect("the file"))?;
        kind.sources(&bytes).map(|sources| sources.len())
    }

    #[test]
    fn files_are_told_by_their_names() {
        let kind = |name: &str| WatchedFileKind::of(OsStr::new(name));
        assert_eq!(
            (kind("x.torrent"), kind("x.Torrent"), kind("x.magnet")),
            (Some(WatchedFileKind::Torrent), Some(WatchedFileKind::Torrent), Some(WatchedFileKind::Magnets))
        );
        for other in ["x", ".x.torrent", ".torrent", "x.torrent.added", "x.torrent.part", "torrent"] {
            assert_eq!(kind(other), None, "{other}");
        }
    }

    #[test]
    fn a_magnet_file_has_links_and_nothing_else() {
        let link = format!("magnet:?xt=urn:btih:{}", "a".repeat(40));
        assert_eq!(sources(WatchedFileKind::Magnets, format!("# two\n{link}\n\n {link}\n").as_bytes()), Ok(2));
        let long = vec![b'#'; MAX_MAGNET_FILE + 1];
        for bad in [&b""[..], b"\xff", &long, b"magnet:?xt=urn:btih:x", b"http://h/x.torrent", b"/etc/x.torrent"] {
            assert!(sources(WatchedFileKind::Magnets, bad).is_err(), "{bad:?}");
        }
    }
}
