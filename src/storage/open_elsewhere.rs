//! Finds the files that somebody else has open for writing: another process by a descriptor or a shared memory mapping, or the kernel
//! for a loop device. Whatever they write after btsync has replaced or removed such a file is lost.
//!
//! A lease (`F_SETLEASE`) would reveal all of them, but needs unsafe code. So btsync looks into `/proc` and `/sys`, which show the
//! processes that this one may examine.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags, makedev, statx};

use crate::storage::open::{Root, file_name};

/// A file's device and inode.
pub(super) type FileId = (u64, u64);

/// The files to look for, by number.
#[derive(Debug, Default)]
pub(super) struct SearchedFiles {
    numbers: HashMap<FileId, usize>,
    inodes: HashSet<u64>,
    names: HashSet<OsString>,
}

impl Root {
    /// Whether somebody else has a file open for writing, under whatever name. To remove or replace the file, first give it a name that
    /// no other program knows, and then look: another program may open it until then.
    pub fn is_open_elsewhere(&self, name: &Path, found: &Metadata) -> bool {
        let mut files = SearchedFiles::default();
        files.add(0, name, found);
        !files.open_elsewhere(self).is_empty()
    }
}

impl SearchedFiles {
    /// Adds a file. `name` helps to recognise it if a process does not reveal inode numbers.
    pub fn add(&mut self, number: usize, name: &Path, found: &Metadata) {
        self.numbers.insert(file_id(found), number);
        self.inodes.insert(found.ino());
        self.names.insert(file_name(name).to_owned());
    }

    /// The numbers of the files that somebody else has open for writing, in order.
    pub fn open_elsewhere(&self, root: &Root) -> Vec<usize> {
        if self.numbers.is_empty() {
            return Vec::new();
        }
        let list = |folder: &Path| root.with_retry(|| fs::read_dir(folder)).into_iter().flatten().flatten();
        let own = std::process::id().to_string();
        let is_process = |name: &OsStr| name.to_str().is_some_and(|name| name.parse::<u32>().is_ok() && name != own);
        let mut open = BTreeSet::new();
        for process in list(Path::new("/proc")).filter(|entry| is_process(&entry.file_name())).map(|entry| entry.path())
        {
            let descriptors =
                list(&process.join("fd")).filter_map(|entry| self.by_descriptor(root, &process, &entry.file_name()));
            open.extend(descriptors);
            if let Ok(maps) = root.with_retry(|| fs::read(process.join("maps"))) {
                open.extend(maps.split(|byte| *byte == b'\n').filter_map(|line| self.by_mapping(line)));
            }
        }
        let devices =
            list(Path::new("/sys/block")).filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"loop"));
        open.extend(devices.filter_map(|device| self.by_loop_device(root, &device.path())));
        open.into_iter().collect()
    }

    /// The file that a descriptor of a process is open for writing to.
    fn by_descriptor(&self, root: &Root, process: &Path, descriptor: &OsStr) -> Option<usize> {
        let link = process.join("fd").join(descriptor);
        // The link's permissions show how the file was opened.
        fs::symlink_metadata(&link).ok().filter(|link| link.mode() & 0o200 != 0)?;
        // Metadata of other files may take long, for example if their server does not answer.
        let shown = root.with_retry(|| fs::read_to_string(process.join("fdinfo").join(descriptor))).ok();
        let inode = shown.as_deref().and_then(shown_inode);
        let may_be_it = match inode {
            Some(inode) => self.inodes.contains(&inode),
            // Before Linux 5.19.
            None => fs::read_link(&link).is_ok_and(|target| target.is_absolute()),
        };
        let has_name = || fs::read_link(&link).is_ok_and(|target| self.has_name(&target));
        if may_be_it || has_name() { self.by_path(&link).ok().flatten() } else { None }
    }

    /// The file that a line of `/proc/PID/maps` names, if the mapping is shared and writable.
    fn by_mapping(&self, line: &[u8]) -> Option<usize> {
        let mut fields = line.splitn(6, |byte| *byte == b' ');
        let (_, rights, _) = (fields.next()?, fields.next()?, fields.next()?);
        if rights.get(1) != Some(&b'w') || rights.get(3) != Some(&b's') {
            return None;
        }
        let (device, inode) = (std::str::from_utf8(fields.next()?).ok()?, std::str::from_utf8(fields.next()?).ok()?);
        let inode: u64 = inode.parse().ok().filter(|inode| self.inodes.contains(inode))?;
        let (major, minor) = device.split_once(':')?;
        let device = makedev(u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?);
        let name = fields.next().map(|path| path.rsplit(|byte| *byte == b'/').next().unwrap_or(path).trim_ascii());
        // Some file systems (Btrfs, overlays) show another device here.
        let is_named = || name.is_some_and(|name| self.names.iter().any(|it| it.as_encoded_bytes() == name));
        let by_inode = || self.numbers.iter().find(|((_, number), _)| *number == inode).map(|(_, number)| *number);
        self.numbers.get(&(device, inode)).copied().or_else(|| by_inode().filter(|_| is_named()))
    }

    /// The file in which a loop device keeps its data.
    fn by_loop_device(&self, root: &Root, device: &Path) -> Option<usize> {
        let path = root.with_retry(|| fs::read(device.join("loop/backing_file"))).ok()?;
        let is_read_only = root.with_retry(|| fs::read(device.join("ro"))).is_ok_and(|flag| flag.trim_ascii() == b"1");
        let path = path.strip_suffix(b"\n").filter(|_| !is_read_only)?;
        self.by_path(Path::new(OsStr::from_bytes(path))).ok().flatten()
    }

    /// Looks up a file without waiting for a server.
    fn by_path(&self, path: &Path) -> io::Result<Option<usize>> {
        let found = statx(CWD, path, AtFlags::STATX_DONT_SYNC, StatxFlags::INO)?;
        Ok(self.numbers.get(&(makedev(found.stx_dev_major, found.stx_dev_minor), found.stx_ino)).copied())
    }

    fn has_name(&self, target: &Path) -> bool {
        target.file_name().is_some_and(|name| self.names.contains(name))
    }
}

/// The device and inode of a file.
pub(super) fn file_id(found: &Metadata) -> FileId {
    (found.dev(), found.ino())
}

/// The inode number in the text of `/proc/PID/fdinfo/NUMBER`.
fn shown_inode(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("ino:"))?.trim().parse().ok()
}

#[cfg(test)]
pub(super) mod tests;
