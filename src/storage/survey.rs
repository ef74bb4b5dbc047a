//! Examines the existing files at the torrent's paths before btsync creates anything. Only reads.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::storage::CHUNK;
use crate::storage::decision::DecisionInput;
use crate::storage::error::{Operation, StorageError};
use crate::storage::files::Storage;
use crate::storage::layout::FileSpec;
use crate::storage::snapshot::FileSnapshot;
use crate::storage::stop_check::StopCheck;
use crate::util::descriptors::is_shortage;

/// The unit of a file that a failing system writes entirely or not at all.
pub(super) const PAGE: u64 = 4096;
/// The link count recorded for a file outside the download folder that a symbolic link points to: it is read and never written.
pub(super) const OUTSIDE: u64 = u64::MAX;

/// The torrent's files as they were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// By file number; `None` for padding, missing files, and unwanted files that lie in the part file.
    pub files: Vec<Option<FileSnapshot>>,
    /// Bytes that may be right: of files, each counted up to its length in the torrent, and of the part file.
    pub bytes: u64,
    /// The part file; `None` if there is none.
    pub part_file: Option<FileSnapshot>,
}

impl Survey {
    /// The file as it was found.
    pub fn file(&self, number: usize) -> Option<&FileSnapshot> {
        self.files.get(number)?.as_ref()
    }

    /// Whether any of the torrent's files exists, or its part file.
    pub fn has_files(&self) -> bool {
        self.part_file.is_some() || self.files.iter().any(Option::is_some)
    }

    /// The first file that differs in a later survey; the part file's number is the number of files.
    pub fn differs(&self, later: &Survey) -> Option<usize> {
        let file = self.files.iter().zip(&later.files).position(|(before, now)| before != now);
        file.or_else(|| (self != later).then_some(self.files.len()))
    }
}

impl Storage {
    /// Examines the existing files at the torrent's paths. Skips the rest if `stop` becomes true.
    ///
    /// # Errors
    /// If something blocks a wanted file for good: a folder at its path, a link that leads out, or a file at a folder's path.
    /// Also if another program has created a file with our part file's name since [`Storage::select`].
    pub fn survey(&self, stop: &dyn StopCheck) -> Result<Survey, StorageError> {
        let mut survey = Survey::default();
        // Most files of a torrent are in few folders, none of which exists at the first start: do not search them for each file.
        let mut missing: Option<&Path> = None;
        for (number, spec) in self.layout.files().iter().enumerate() {
            let looks = !spec.is_pad && self.placement.has_own_file(number) && !stop.is_stopped();
            let seen = match spec.path.parent() {
                _ if !looks => None,
                Some(folder) if missing == Some(folder) => None,
                folder => {
                    let seen = self.snapshot_of(&spec.path, self.wants(number))?;
                    if let Some(folder) = folder.filter(|folder| seen.is_none() && !self.is_folder(folder)) {
                        missing = Some(folder);
                    }
                    seen
                }
            };
            survey.bytes += seen.map_or(0, |seen| seen.size.min(spec.length));
            survey.files.push(seen);
        }
        survey.part_file = self.find_part_file()?;
        let mut files = 0..self.layout.files().len();
        if let Some(FileSnapshot { size: bytes, .. }) = survey.part_file
            && files.any(|file| self.placement.uses_part_file(&self.layout, file))
        {
            self.placement.set_part_file_length(bytes);
            survey.bytes += bytes;
        }
        Ok(survey)
    }

    /// Allows reading files outside the download folder that the user's symbolic links point to; [`Storage::survey`] does that
    /// too. Skips the rest if `stop` becomes true.
    pub fn allow_links_outside(&self, stop: &dyn StopCheck) {
        let goes_on = |_: &&FileSpec| !stop.is_stopped();
        for spec in self.layout.files().iter().take_while(goes_on).filter(|spec| !spec.is_pad) {
            let inside = self.root.metadata_inside(&spec.path);
            if inside.is_err_and(|error| Errno::from_io_error(&error) == Some(Errno::LOOP)) {
                // If that fails, the read reports why.
                let _ = self.root.allow_outside(&spec.path);
            }
        }
    }

    fn is_folder(&self, name: &Path) -> bool {
        name.as_os_str().is_empty() || self.root.metadata(name).is_ok_and(|found| found.is_dir())
    }

    fn snapshot_of(&self, name: &Path, is_wanted: bool) -> Result<Option<FileSnapshot>, StorageError> {
        let path = || self.root.path().join(name);
        let inside = self.root.metadata_inside(name);
        if inside.as_ref().is_err_and(|error| Errno::from_io_error(error) == Some(Errno::LOOP))
            && let Ok(found) = self.root.allow_outside(name)
        {
            return Ok(Some(FileSnapshot { links: OUTSIDE, ..FileSnapshot::of(&found) }));
        }
        match inside {
            Ok(found) if found.is_file() => Ok(Some(FileSnapshot::of(&found))),
            Err(error) if is_shortage(&error) => Err(StorageError::io(Operation::Open, &path())(error)),
            _ if !is_wanted => Ok(None),
            Ok(_) => Err(StorageError::NotAFile { path: path() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::LOOP) => Err(StorageError::Escapes { path: path() }),
                Some(Errno::NOTDIR) => Err(StorageError::NotAFolder { path: self.blocking_parent(name) }),
                _ => Err(StorageError::io(Operation::Open, &path())(error)),
            },
        }
    }

    /// The file that blocks one of the folders above this name.
    fn blocking_parent(&self, name: &Path) -> PathBuf {
        let mut above: Vec<&Path> = name.ancestors().skip(1).filter(|name| !name.as_os_str().is_empty()).collect();
        above.reverse();
        let found = above.into_iter().find(|name| self.root.metadata(name).is_ok_and(|found| !found.is_dir()));
        self.root.path().join(found.unwrap_or(Path::new("")))
    }

    /// Whether any byte in this range of a file is not zero; see [`has_data`].
    pub(super) fn has_data_in(
        &self,
        number: usize,
        from: u64,
        upto: u64,
        input: &DecisionInput<'_>,
    ) -> Result<bool, StorageError> {
        if from >= upto {
            return Ok(false);
        }
        let file = self.handle(number, false)?;
        has_data(&file.file, from, upto, input.stop).map_err(|error| self.failed(Operation::Read, number, error))
    }
}

/// Whether any byte in this range of a file is not zero. Does not read holes. Returns `true` once `stop` is set.
pub(super) fn has_data(file: &File, from: u64, upto: u64, stop: &dyn StopCheck) -> io::Result<bool> {
    let mut at = from;
    let mut buf = Vec::new();
    while at < upto {
        at = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) => data.max(at),
            Err(Errno::NXIO) => return Ok(false),
            // A file system without support for holes: treat everything as data.
            Err(_) => at,
        };
        let room = usize::try_from(upto.saturating_sub(at)).map_or(CHUNK, |left| left.min(CHUNK));
        if room == 0 {
            return Ok(false); // a hole
        }
        buf.resize(room, 0);
        let count = match file.read_at(&mut buf, at) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if count == 0 {
            return Ok(false);
        }
        if stop.is_stopped() || buf.iter().take(count).any(|byte| *byte != 0) {
            return Ok(true);
        }
        at += count as u64;
    }
    Ok(false)
}
