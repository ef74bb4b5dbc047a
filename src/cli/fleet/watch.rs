//! `--watch`: the torrents that appear in a folder. inotify says when a file has been written or moved there, so that nothing ticks;
//! a file is taken once it makes sense, and looked at again when it changes. Nothing is done to the files.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, PipeReader, PipeWriter};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init};
use rustix::io::Errno;

use super::list;
use crate::cli::exit::{Exit, Failure};
use crate::cli::info::torrent_failure;
use crate::metainfo::{Magnet, Torrent, printable};
use crate::session::Source;

/// The largest .magnet file that is read, in bytes.
const MAGNETS_MAX: u64 = 1 << 20;
/// Room for some events with their names, in bytes.
const EVENTS: usize = 8 << 10;

/// What happened in the folder.
pub(super) enum Sight {
    /// A file that holds these, or why it holds none.
    File(PathBuf, Result<Vec<Source>, Failure>),
    /// The folder is gone, or cannot be watched any more: the reason.
    Gone(String),
}

/// Watches a folder for as long as it lives.
pub(super) struct Watch {
    alive: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Tells of all that is in `folder`, and then of what comes, on a thread of its own.
    ///
    /// # Errors
    /// Where it is no folder, or the system cannot watch it.
    pub fn start(folder: &Path, tell: impl Fn(Sight) + Send + 'static) -> Result<Watch, Failure> {
        let shown = printable(&folder.to_string_lossy());
        let failed = |e: io::Error| Failure::new(Exit::OpenExisting, format!("{shown}: cannot be watched: {e}"));
        let what = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::CREATE;
        let ends = WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF | WatchFlags::ONLYDIR;
        let inotify = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
        // First the watch, then the look at what is there: nothing falls between the two.
        add_watch(&inotify, folder, what | ends).map_err(|e| failed(e.into()))?;
        let (asleep, alive) = io::pipe().map_err(failed)?;
        let watcher = Watcher { folder: folder.to_owned(), inotify, asleep, tell };
        let thread = thread::Builder::new().name("watch".to_owned()).spawn(move || watcher.run()).map_err(failed)?;
        Ok(Watch { alive: Some(alive), thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.alive = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Watcher<F: Fn(Sight)> {
    folder: PathBuf,
    inotify: OwnedFd,
    /// Its other end is dropped when it is time to go.
    asleep: PipeReader,
    tell: F,
}

impl<F: Fn(Sight)> Watcher<F> {
    fn run(self) {
        self.look_at_all();
        loop {
            let mut fds = [PollFd::new(&self.inotify, PollFlags::IN), PollFd::new(&self.asleep, PollFlags::IN)];
            match poll(&mut fds, None) {
                Err(Errno::INTR) => continue,
                Err(error) => return (self.tell)(Sight::Gone(error.to_string())),
                Ok(_) => {}
            }
            let [_, asleep] = fds;
            if !asleep.revents().is_empty() {
                return;
            }
            if let Err(why) = self.hear() {
                return (self.tell)(Sight::Gone(why));
            }
        }
    }

    /// Everything that is there, in the order of the names.
    fn look_at_all(&self) {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
        names.sort();
        for name in &names {
            self.look(name);
        }
    }

    /// What the system has to tell; an error is the end of watching.
    fn hear(&self) -> Result<(), String> {
        let mut room = [MaybeUninit::uninit(); EVENTS];
        let mut events = Reader::new(&self.inotify, &mut room);
        loop {
            let event = match events.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.to_string()),
            };
            let what = event.events();
            if what.intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT | ReadFlags::IGNORED)
            {
                return Err("the folder is gone".to_owned());
            }
            if what.contains(ReadFlags::QUEUE_OVERFLOW) {
                // Some were not told of.
                self.look_at_all();
                continue;
            }
            let Some(name) = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes())) else { continue };
            // What was just made is empty, and told of once more when it is written; a link is there at once.
            if !what.contains(ReadFlags::CREATE) || is_link(&self.folder.join(name)) {
                self.look(name);
            }
        }
    }

    fn look(&self, name: &OsStr) {
        let path = self.folder.join(name);
        let Some(kind) = kind(name) else { return };
        // Neither a pipe nor a folder; what is gone again is none of ours.
        if path.metadata().is_ok_and(|there| there.is_file()) {
            let found = match kind {
                Kind::Torrent => torrent(&path),
                Kind::Magnets => magnets(&path),
            };
            (self.tell)(Sight::File(path, found));
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Torrent,
    Magnets,
}

/// What a file is by its name; hidden ones are still being copied, or not meant for us.
fn kind(name: &OsStr) -> Option<Kind> {
    let suffix = Path::new(name).extension().filter(|_| !name.as_bytes().starts_with(b"."))?;
    match suffix.to_ascii_lowercase().as_bytes() {
        b"torrent" => Some(Kind::Torrent),
        b"magnet" => Some(Kind::Magnets),
        _ => None,
    }
}

/// Whether it has all its bytes from the beginning.
fn is_link(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|there| there.is_symlink() || there.nlink() > 1)
}

fn torrent(path: &Path) -> Result<Vec<Source>, Failure> {
    let torrent = Torrent::read(path).map_err(|error| torrent_failure(path, error))?;
    Ok(vec![torrent.into()])
}

/// A text file of magnet links, one a line.
fn magnets(path: &Path) -> Result<Vec<Source>, Failure> {
    let shown = printable(&path.to_string_lossy());
    let failed = |why: &str| Failure::new(Exit::BadMagnet, printable(&format!("{shown}: {why}")));
    let text = list::text(path, MAGNETS_MAX, failed)?;
    let names = list::parse(&text).map_err(|(_, why)| failed(&why))?;
    if names.is_empty() {
        return Err(failed("there is no magnet link in it"));
    }
    let parse = |name: &String| Ok(Magnet::parse(name).map_err(|error| failed(&error.to_string()))?.into());
    names.iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_by_their_names() {
        let kind = |name: &str| kind(OsStr::new(name));
        assert_eq!((kind("x.torrent"), kind("X.Torrent")), (Some(Kind::Torrent), Some(Kind::Torrent)));
        assert_eq!(kind("x.magnet"), Some(Kind::Magnets));
        for other in ["x", "x.torrent.part", ".x.torrent", ".torrent", "x.torrent~", "torrent"] {
            assert_eq!(kind(other), None, "{other}");
        }
    }

    #[test]
    fn a_magnet_file_holds_links_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.magnet");
        let read = |text: &[u8]| {
            fs::write(&path, text).unwrap();
            magnets(&path).map(|sources| sources.len()).map_err(|failure| failure.code)
        };
        let link = format!("magnet:?xt=urn:btih:{}", "a".repeat(40));
        assert_eq!(read(format!("# two\n{link}\n\n{link}\n").as_bytes()), Ok(2));
        let endless = vec![b'#'; MAGNETS_MAX as usize + 1];
        for bad in [&b""[..], b"\xff", &endless, b"magnet:?xt=urn:btih:x", b"x.torrent", b"http://h/x"] {
            assert_eq!(read(bad), Err(Exit::BadMagnet), "{bad:?}");
        }
    }

    #[test]
    fn a_folder_that_goes_away_is_told_of() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("in");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("x.torrent"), "no").unwrap();
        let (tell, told) = crossbeam_channel::unbounded();
        let watch = Watch::start(&folder, move |sight| drop(tell.send(sight))).unwrap();
        let next = || told.recv_timeout(std::time::Duration::from_secs(60)).unwrap();
        assert!(matches!(next(), Sight::File(path, Err(_)) if path.ends_with("x.torrent")));
        fs::remove_dir_all(&folder).unwrap();
        assert!(matches!(next(), Sight::Gone(_)));
        drop(watch);
        assert!(Watch::start(&folder, |_| {}).is_err());
    }
}
