//! Moves the marker of an unfinished download to where its files are now.

use std::io::Write as _;
use std::path::Path;

use rustix::fs::OFlags;

use crate::storage::data_files::FileJobError;
use crate::storage::data_files::folders::{failed, lookup, make_folders, parent, remove};
use crate::storage::data_files::moving::FileMover;
use crate::storage::error::Operation;
use crate::storage::lock::temporary_name;
use crate::storage::marker::{Marker, path_hash};

/// How a file was moved: its identities, and its change times, before and after.
pub(super) type FollowedMove = ((u64, u64), (i64, i64));

impl Marker {
    /// Follows a file to another path. `moved` is `None` if an earlier, killed job has moved it.
    pub(super) fn follow_move(&mut self, (from, to): (&Path, &Path), moved: Option<FollowedMove>) {
        let (old, new) = (path_hash(from), path_hash(to));
        let lists =
            [&mut self.created, &mut self.used_existing, &mut self.completed, &mut self.refused, &mut self.edited];
        for files in lists {
            if let Some(identity) = files.remove(&old) {
                let is_it = moved.filter(|((before, _), _)| *before == identity);
                files.insert(new, is_it.map_or(identity, |((_, after), _)| after));
            }
        }
        if let Some(at) = self.completed_at.remove(&old) {
            // Moving gives a file a later change time.
            let is_unchanged = moved.filter(|(_, (before, _))| *before <= at);
            self.completed_at.insert(new, is_unchanged.map_or(at, |(_, (_, after))| at.max(after)));
        }
        if let Some(at) = self.mtimes_at_stop.remove(&old) {
            self.mtimes_at_stop.insert(new, at);
        }
        self.user_files.iter_mut().filter(|path| *path == from).for_each(|path| to.clone_into(path));
    }
}

impl FileMover<'_> {
    /// Writes the marker anew at its new place, with the time that it had, and removes the old one.
    pub(super) fn move_marker(&self, follow: impl FnOnce(&mut Marker)) -> Result<(), FileJobError> {
        let (source, target) = (&self.source.root, &self.target.root);
        let (from, to) = self.marker_names();
        let new = temporary_name(&to);
        let write_failed = failed(target, &to, Operation::Write);
        if lookup(source, &from)?.is_none() {
            // A job that was killed below may have left it under its temporary name only.
            let is_left = lookup(target, &to)?.is_none() && lookup(target, &new)?.is_some_and(|found| found.is_file());
            return if is_left { target.rename(&new, &to).map_err(&write_failed) } else { Ok(()) };
        }
        let Some(mut marker) = self.source.read_marker(&self.info_hash)? else {
            log::warn!("{}: not a marker, so it stays", source.path().join(from).display());
            return Ok(());
        };
        follow(&mut marker);
        make_folders(target, parent(&to))?;
        remove(target, &new)?;
        let made = target.open_own(&new, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL);
        let mut file = made.map_err(|errno| write_failed(errno.into()))?;
        file.write_all(&marker.encode(&self.info_hash)).map_err(&write_failed)?;
        marker.restore_time(&file);
        file.sync_all().map_err(&write_failed)?;
        self.step()?;
        // First the old one: both paths may lead to the same file.
        if !(self.is_same_folder && from == to) {
            remove(source, &from)?;
        }
        self.step()?;
        target.rename(&new, &to).map_err(&write_failed)
    }
}
