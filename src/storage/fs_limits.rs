//! Checks whether the download folder's file system can store the torrent's files at all: their sizes, and names that differ only
//! in case. Runs before anything is created.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

use crate::storage::error::StorageError;
use crate::storage::files::Storage;
use crate::storage::layout::{FileSpec, Layout};
use crate::storage::lock::try_lock;
use crate::types::Bitfield;

/// The `statfs` types of file systems that allow files of any practical size: ext2 to ext4, XFS, Btrfs, tmpfs, overlayfs, F2FS,
/// ZFS.
const LARGE: [u32; 7] = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, OVERLAY, 0xf2f5_2010, 0x2fc1_2fc1];

/// The `statfs` type of FUSE file systems. These may give a file another inode number after it was closed for a while.
pub(super) const FUSE: u32 = 0x6573_5546;
/// The `statfs` type of overlay file systems.
pub(super) const OVERLAY: u32 = 0x794c_7630;

/// The prefix of temporary files that probe the file system. No torrent's file has such a name.
const PROBE: &str = ".btsync-probe-";

impl Storage {
    /// Checks that the file system can store the files still to be written, given the pieces in `have`.
    ///
    /// # Errors
    /// [`StorageError::FileTooLarge`] and [`StorageError::SameName`].
    pub fn check_fs_limits(&self, have: &Bitfield) -> Result<(), StorageError> {
        let lacks = |file: usize| !self.layout.is_complete(file, have);
        let files = || self.layout.files().iter().enumerate().filter(|(file, spec)| !spec.is_pad && self.wants(*file));
        let largest = files().filter(|(file, _)| lacks(*file)).max_by_key(|(_, spec)| spec.length);
        if have.is_full() && have.len() > 0 {
            return Ok(());
        }
        let folder = nearest_existing(self.root.path());
        if let Some((_, spec)) = largest {
            self.check_size(spec, &folder)?;
        }
        match find_case_collision(&self.layout, |file| self.wants(file)) {
            Some((path, other)) if self.ignores_case(&folder) => {
                Err(StorageError::SameName { path: self.root.path().join(path), other: self.root.path().join(other) })
            }
            _ => Ok(()),
        }
    }

    fn check_size(&self, spec: &FileSpec, folder: &Path) -> Result<(), StorageError> {
        let too_large = || StorageError::FileTooLarge { path: self.root.path().join(&spec.path), length: spec.length };
        if getrlimit(Resource::Fsize).current.is_some_and(|most| spec.length > most) {
            return Err(too_large());
        }
        let opened = File::open(folder).ok();
        if opened.and_then(file_system_type).is_some_and(|kind| LARGE.contains(&kind)) {
            return Ok(());
        }
        let tried = self.with_probe(folder, |_, file| file.set_len(spec.length));
        if tried.is_err_and(|error| error.kind() == io::ErrorKind::FileTooLarge) { Err(too_large()) } else { Ok(()) }
    }

    /// Creates a probe file, passes it to `look` and removes it. If none can be created, the download will fail soon and report
    /// why itself.
    fn with_probe<T>(&self, folder: &Path, look: impl FnOnce(&str, &File) -> io::Result<T>) -> io::Result<T> {
        self.remove_probes(folder);
        let name = format!("{PROBE}{}-{:08x}", std::process::id(), crate::util::random::u32());
        let path = folder.join(&name);
        let file = self.with_retry(|| File::create_new(&path))?;
        // Shows processes that cannot see this one, such as in other containers, that the probe is in use.
        let _ = try_lock(&file);
        let seen = look(&name, &file);
        drop(file);
        match fs::remove_file(path) {
            // Another process on another machine took it for a leftover.
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => seen,
        }
    }

    /// Removes probes of killed processes: files with such a name, without other hard links, empty and not locked.
    fn remove_probes(&self, folder: &Path) {
        let Ok(entries) = self.with_retry(|| fs::read_dir(folder)) else { return };
        let is_left = |name: &OsStr| probe_pid(name).is_some_and(|process| !Path::new("/proc").join(process).exists());
        for entry in entries.flatten().filter(|entry| is_left(&entry.file_name())) {
            let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
            if is_file && self.with_retry(|| File::open(entry.path())).is_ok_and(|file| is_abandoned(&file)) {
                // A probe that cannot be removed does no harm.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Whether a name in another case leads to the same file.
    fn ignores_case(&self, folder: &Path) -> bool {
        let probed =
            self.with_probe(folder, |name, _| Ok(fs::symlink_metadata(folder.join(name.to_uppercase())).is_ok()));
        probed.unwrap_or(false)
    }
}

/// The `statfs` type of the file system that a file or folder is on, or `None` if it is unknown.
pub(super) fn file_system_type(file: impl AsFd) -> Option<u32> {
    // The field has another type on each architecture; the numbers have 32 bits.
    rustix::fs::fstatfs(file).ok().map(|found| found.f_type as u32)
}

/// The ID of the process that created a probe of this name.
fn probe_pid(name: &OsStr) -> Option<&str> {
    let (process, random) = name.to_str()?.strip_prefix(PROBE)?.split_once('-')?;
    let is_made = random.len() == 8 && random.bytes().all(|b| b.is_ascii_hexdigit());
    (is_made && !process.is_empty() && process.bytes().all(|b| b.is_ascii_digit())).then_some(process)
}

/// Whether nothing was ever written to the file, and no process, in whatever container, uses it.
fn is_abandoned(file: &File) -> bool {
    let is_empty = file.metadata().is_ok_and(|found| found.is_file() && found.blocks() == 0 && found.nlink() == 1);
    is_empty && !matches!(try_lock(file), Ok(false))
}

/// The folder itself, or the nearest existing one above it.
fn nearest_existing(folder: &Path) -> PathBuf {
    let named = |path: &Path| if path.as_os_str().is_empty() { PathBuf::from(".") } else { path.to_owned() };
    folder.ancestors().map(named).find(|path| path.is_dir()).unwrap_or_else(|| PathBuf::from("."))
}

/// 64-bit FNV-1a. Calls `each` with the hash of each folder above the path on the way.
fn hashed(path: &str, mut each: impl FnMut(u64)) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in path.bytes() {
        if byte == b'/' {
            each(hash);
        }
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}

/// Two wanted files that cannot both exist on a case-insensitive file system: they have the same path, or one is where the other
/// needs a folder.
fn find_case_collision(layout: &Layout, wants: impl Fn(usize) -> bool) -> Option<(&Path, &Path)> {
    let files = || layout.files().iter().enumerate().filter(|(file, spec)| !spec.is_pad && wants(*file));
    let folded = |spec: &FileSpec| spec.path.to_string_lossy().to_lowercase();
    let mut known: HashMap<u64, usize> = HashMap::new();
    let at = |file: usize| layout.files().get(file).map(|spec| spec.path.as_path());
    for (file, spec) in files() {
        if let Some(other) = known.insert(hashed(&folded(spec), |_| ()), file) {
            return Some((spec.path.as_path(), at(other)?));
        }
    }
    files().find_map(|(file, spec)| {
        let mut other = None;
        hashed(&folded(spec), |folder| other = other.or_else(|| known.get(&folder).copied().filter(|it| *it != file)));
        Some((spec.path.as_path(), at(other?)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(paths: &[&str]) -> Layout {
        let file = |path: &&str| FileSpec { path: PathBuf::from(path), length: 10, is_pad: false };
        Layout::new(16, paths.iter().map(file).collect()).unwrap()
    }

    #[test]
    fn names_that_differ_in_case_only_are_found() {
        let found = |paths: &[&str]| {
            let layout = layout(paths);
            find_case_collision(&layout, |_| true).map(|(path, other)| (path.to_owned(), other.to_owned()))
        };
        assert_eq!(found(&["t/a", "t/b", "T/c", "t/A.x"]), None);
        assert_eq!(found(&["t/a", "t/b", "t/A"]), Some(("t/A".into(), "t/a".into())));
        assert_eq!(found(&["t/Ä", "T/ä"]), Some(("T/ä".into(), "t/Ä".into())));
        assert_eq!(found(&["t/a/x", "t/A"]), Some(("t/a/x".into(), "t/A".into())), "a folder and a file");
        assert_eq!(find_case_collision(&layout(&["t/a", "t/A"]), |file| file == 0), None, "of what is wanted");
    }

    #[test]
    fn this_file_system_tells_cases_apart_and_keeps_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(nearest_existing(&dir.path().join("a/b")), dir.path());
        let storage = Storage::new(dir.path().join("new"), layout(&["t/a", "t/A"]), 4);
        assert!(!storage.ignores_case(dir.path()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(storage.check_fs_limits(&Bitfield::new(2)).is_ok());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn only_the_probe_files_of_killed_processes_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::new(dir.path().to_owned(), layout(&["a"]), 4);
        // No process ID is that large.
        let left = ".btsync-probe-4194999-0123abcd";
        let mine = [".btsync-probe-4194999-0123abc", ".btsync-probe-x-0123abcd", ".btsync-probe--0123abcd", "probe"];
        let running = format!(".btsync-probe-{}-0123abcd", std::process::id());
        for name in mine.into_iter().chain([left, running.as_str()]) {
            fs::write(dir.path().join(name), "").unwrap();
        }
        fs::create_dir(dir.path().join(".btsync-probe-4194999-ffffffff")).unwrap();
        // A file with the user's data, one with another hard link, and one that a process in another container holds.
        let kept =
            ["00000001", "00000002", "00000003"].map(|it| dir.path().join(format!(".btsync-probe-4194999-{it}")));
        fs::write(&kept[0], "mine").unwrap();
        fs::hard_link(dir.path().join("probe"), &kept[1]).unwrap();
        let held = File::create(&kept[2]).unwrap();
        assert_eq!(try_lock(&held), Ok(true));
        storage.with_probe(dir.path(), |_, _| Ok(())).unwrap();
        assert!(!dir.path().join(left).exists() && dir.path().join(running).exists());
        assert!(kept.iter().all(|path| path.exists()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), mine.len() + 2 + kept.len());
    }
}
