//! `--watch`: starts the torrents that appear in a folder. inotify reports files that were written or moved there, so there
//! is no polling. An invalid file is read again when it changes. The files are never modified.
//!
//! Torrent and magnet files that a download created are never started, even if downloads go to the watched folder. Such
//! files are marked (`storage/download_mark.rs`). On a file system without marks, they are recognized from the torrents seen in
//! the folder and those that run.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, PipeReader, PipeWriter};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init};
use rustix::io::Errno;

use crate::cli::batch::targets;
use crate::cli::exit::{Exit, Failure};
use crate::cli::settings::state_folder;
use crate::cli::source::torrent_failure;
use crate::util::atomic_file::open_regular;
use crate::util::cold_sort;
use crate::util::descriptors::with_retry;
use crate::util::paths::{folded, folded_without_end, is_watched_name, resolved};
use crate::util::printable_text::printable;
use crate::util::state_mark::{BTSYNC, DOWNLOADED_TORRENTS, SERVE};
use btsync::{Client, Source};
use btsync::{Magnet, Metainfo, MetainfoError};

/// The maximum size of a .magnet file in bytes.
const MAX_MAGNET_FILE: u64 = 1 << 20;
/// The size in bytes of the buffer for inotify events with their names.
const EVENT_BUFFER_SIZE: usize = 8 << 10;

/// An event in the watched folder.
pub(crate) enum WatchEvent {
    /// A file, with its contents or the reason why they are invalid.
    File(PathBuf, Result<WatchedSources, Failure>),
    /// Watching has ended, for example because the folder is gone; with the reason.
    Ended(String),
}

/// The contents of a file: magnet links, or a single `None` for a torrent file. Thousands of torrents may wait, so a
/// torrent file is not kept in memory but read again when it starts.
pub(crate) type WatchedSources = Vec<Option<Box<Magnet>>>;

/// Watches a folder until dropped.
pub(crate) struct FolderWatch {
    stop_pipe_writer: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl FolderWatch {
    /// Starts a thread that reports every torrent and magnet file in `folder`, and then those that appear. Downloads go to
    /// `download_folder`; `records` is the folder that records the files that downloads have created. If the process is out of
    /// descriptors, waits as long as `should_wait` returns true.
    ///
    /// # Errors
    /// It is not a folder, or the system cannot watch it.
    pub fn start(
        folder: &Path,
        (download_folder, records): (&Path, Option<PathBuf>),
        mut should_wait: impl FnMut() -> bool,
        on_event: impl Fn(WatchEvent) + Send + 'static,
    ) -> Result<FolderWatch, Failure> {
        let shown = printable(&folder.to_string_lossy());
        let failed = |e: io::Error| Failure::new(Exit::OpenExisting, format!("{shown}: cannot be watched: {e}"));
        let what = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::CREATE;
        let ends = WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF | WatchFlags::ONLYDIR;
        let begin = || Ok(init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?);
        let inotify = with_retry(begin, &mut should_wait).map_err(failed)?;
        // Watch first, then scan, so that no file is missed in between.
        add_watch(&inotify, folder, what | ends).map_err(|e| failed(e.into()))?;
        let (stop_pipe, stop_pipe_writer) = with_retry(io::pipe, &mut should_wait).map_err(failed)?;
        let (resolved_folder, download_folder) = (resolved(folder), resolved(download_folder));
        let (folder, own_file_names) = (folder.to_owned(), HashSet::new());
        let watcher =
            Watcher { folder, resolved_folder, download_folder, records, own_file_names, inotify, stop_pipe, on_event };
        let thread = thread::Builder::new().name("watch".to_owned()).spawn(move || watcher.run()).map_err(failed)?;
        Ok(FolderWatch { stop_pipe_writer: Some(stop_pipe_writer), thread: Some(thread) })
    }
}

impl Drop for FolderWatch {
    fn drop(&mut self) {
        self.stop_pipe_writer = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Watcher<F: Fn(WatchEvent)> {
    /// The path as the user gave it.
    folder: PathBuf,
    /// The watched folder and the download folder, with symbolic links resolved.
    resolved_folder: PathBuf,
    download_folder: PathBuf,
    /// The folder that records the files that downloads have created.
    records: Option<PathBuf>,
    /// Names of files that torrents in the folder would create in the folder itself; in lower case, as the file system may
    /// ignore case.
    own_file_names: HashSet<String>,
    inotify: OwnedFd,
    /// Readable when the other end is dropped: the thread then ends.
    stop_pipe: PipeReader,
    on_event: F,
}

impl<F: Fn(WatchEvent)> Watcher<F> {
    fn run(mut self) {
        self.scan_folder();
        loop {
            let mut fds = [PollFd::new(&self.inotify, PollFlags::IN), PollFd::new(&self.stop_pipe, PollFlags::IN)];
            match poll(&mut fds, None) {
                Err(Errno::INTR) => continue,
                Err(error) => return (self.on_event)(WatchEvent::Ended(error.to_string())),
                Ok(_) => {}
            }
            let [_, stop_pipe] = fds;
            if !stop_pipe.revents().is_empty() {
                return;
            }
            if let Err(why) = self.read_events() {
                return (self.on_event)(WatchEvent::Ended(why));
            }
        }
    }

    /// Reports all files in the folder, in the order of their names. Reads all of them before reporting any, as files of a
    /// torrent may sort before the torrent itself.
    fn scan_folder(&mut self) {
        let read = with_retry(|| fs::read_dir(&self.folder), || !self.should_stop());
        let entries = read.into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
        cold_sort::sort(&mut names);
        let found: Vec<_> = names.into_iter().filter_map(|name| Some((self.read(&name)?, name))).collect();
        for (found, name) in found {
            self.report_file(&name, found);
        }
    }

    /// Handles pending inotify events. An error ends watching.
    fn read_events(&mut self) -> Result<(), String> {
        let mut room = [MaybeUninit::uninit(); EVENT_BUFFER_SIZE];
        // The names borrow from the reader's buffer, so copy them first.
        let mut names = Vec::new();
        let mut events = Reader::new(&self.inotify, &mut room);
        let mut lost_some = false;
        loop {
            let event = match events.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.to_string()),
            };
            let what = event.events();
            if what.intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT | ReadFlags::IGNORED)
            {
                return Err("the folder was deleted or moved".to_owned());
            }
            if what.contains(ReadFlags::QUEUE_OVERFLOW) {
                lost_some = true;
                continue;
            }
            let Some(name) = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes())) else { continue };
            // A created file is empty, and another event follows when it has been written. A link is complete at once.
            if watched_kind(name).is_some() && (!what.contains(ReadFlags::CREATE) || is_link(&self.folder.join(name))) {
                names.push(name.to_owned());
            }
        }
        if lost_some {
            self.scan_folder();
        } else {
            for name in &names {
                self.scan_file(name);
            }
        }
        Ok(())
    }

    /// Whether the thread must end.
    fn should_stop(&self) -> bool {
        let mut fds = [PollFd::new(&self.stop_pipe, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
    }

    fn scan_file(&mut self, name: &OsStr) {
        if let Some(found) = self.read(name) {
            self.report_file(name, found);
        }
    }

    /// Reads a file; `None` if it is gone, is not a regular file, or belongs to a download.
    fn read(&mut self, name: &OsStr) -> Option<Result<WatchedSources, Failure>> {
        let kind = watched_kind(name)?;
        let path = self.folder.join(name);
        // A torrent of an earlier run may have created it.
        if is_link_into(&path, &self.download_folder) {
            log::info!(
                "{}: not started, because it is a link into the download folder",
                printable(&path.to_string_lossy())
            );
            return None;
        }
        let file = match open_with_retry(&path, || !self.should_stop()) {
            Ok(Some(file)) if is_known_output(self.records.as_deref(), &path, &file) => {
                log::info!("{}: not started, because it belongs to a download", printable(&path.to_string_lossy()));
                return None;
            }
            Ok(Some(file)) => Ok(file),
            Ok(None) => return None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => Err(error),
        };
        Some(match kind {
            WatchedKind::TorrentFile => torrent(file, &path).map(|torrent| {
                self.record_own_files(&torrent);
                vec![None]
            }),
            WatchedKind::Magnets => magnets(file, &path),
        })
    }

    /// Records the torrent's files that would be written to the watched folder itself and that the watcher would otherwise
    /// start.
    fn record_own_files(&mut self, metainfo: &Metainfo) {
        let watched = metainfo.files.iter().map(|file| file.path.as_path()).filter(|path| is_watched_name(path));
        let resolved_folder = folded(&self.resolved_folder);
        let there = watched
            .map(|path| self.download_folder.join(path))
            .filter(|path| path.parent().map(folded) == Some(resolved_folder.clone()));
        self.own_file_names.extend(there.filter_map(|path| Some(folded_without_end(Path::new(path.file_name()?)))));
    }

    fn report_file(&self, name: &OsStr, found: Result<WatchedSources, Failure>) {
        if self.own_file_names.contains(&folded_without_end(Path::new(name))) {
            log::info!(
                "{}: not started, because it is a file of a torrent in the same folder",
                printable(&name.to_string_lossy())
            );
        } else {
            (self.on_event)(WatchEvent::File(self.folder.join(name), found));
        }
    }
}

/// The same as [`open_regular`], but waits for a descriptor as long as `should_wait` returns true.
fn open_with_retry(path: &Path, should_wait: impl FnMut() -> bool) -> io::Result<Option<File>> {
    with_retry(|| open_regular(path), should_wait)
}

/// Whether a download is known to have created the file: the file system marks it, or the records in `records` contain it.
/// Records of the user's service count, too.
pub(crate) fn is_known_output(records: Option<&Path>, path: &Path, file: &File) -> bool {
    let of_service = state_folder().map(|folder| folder.join(BTSYNC).join(SERVE).join(DOWNLOADED_TORRENTS));
    [records, of_service.as_deref()].into_iter().any(|records| Client::is_downloaded_file(path, file, records))
}

/// Reads a torrent file in the watched folder again, when it starts. An earlier download may have replaced it by a file of
/// its own; `is_from_download` says so.
///
/// # Errors
/// The file is gone, is no longer a valid torrent, or belongs to a download.
pub(crate) fn reload(
    path: &Path,
    is_from_download: impl FnOnce(&File) -> bool,
    should_wait: impl FnMut() -> bool,
) -> Result<Source, Failure> {
    let file = open_with_retry(path, should_wait).and_then(|file| match file {
        Some(file) if is_from_download(&file) => Err(io::Error::other("it now belongs to a download")),
        Some(file) => Ok(file),
        None => Err(io::Error::other("it is no longer a regular file")),
    });
    Ok(torrent(file, path)?.into())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WatchedKind {
    TorrentFile,
    Magnets,
}

/// The kind of a file by its name; `None` for others. Hidden files are ignored: they may still be being copied.
fn watched_kind(name: &OsStr) -> Option<WatchedKind> {
    let suffix = Path::new(name).extension().filter(|_| !name.as_bytes().starts_with(b"."))?;
    match suffix.to_ascii_lowercase().as_bytes() {
        b"torrent" => Some(WatchedKind::TorrentFile),
        b"magnet" => Some(WatchedKind::Magnets),
        _ => None,
    }
}

/// Whether `path` is a symbolic link to something in `folder`, whose own links are resolved.
fn is_link_into(path: &Path, folder: &Path) -> bool {
    path.is_symlink() && resolved(path).starts_with(folder)
}

/// Whether it is a symbolic or hard link, which has its full contents as soon as it appears.
fn is_link(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|there| there.is_symlink() || there.nlink() > 1)
}

fn torrent(file: io::Result<File>, path: &Path) -> Result<Metainfo, Failure> {
    let file = file.map_err(|source| MetainfoError::Io { path: path.to_owned(), source });
    file.and_then(|file| Metainfo::read_from(file, path)).map_err(|error| torrent_failure(path, error))
}

/// Parses a text file with one magnet link per line.
fn magnets(file: io::Result<File>, path: &Path) -> Result<WatchedSources, Failure> {
    let shown = printable(&path.to_string_lossy());
    let failed = |why: &str| Failure::new(Exit::BadMagnet, printable(&format!("{shown}: {why}")));
    let text = targets::read_text_from(file, path, MAX_MAGNET_FILE, failed)?;
    let names = targets::parse(&text).map_err(|(_, why)| failed(&why))?;
    if names.is_empty() {
        return Err(failed("it contains no magnet link"));
    }
    let parse = |name: &String| Ok(Some(Box::new(Magnet::parse(name).map_err(|error| failed(&error.to_string()))?)));
    names.iter().map(parse).collect()
}

#[cfg(test)]
mod tests;
