//! The state folder of a service: each torrent's .torrent and record, the settings, the sums. Every file is replaced atomically,
//! so a crash at any moment leaves the old content or the new one. That includes a power failure: each file is synced before it
//! replaces the old one, and before a change is confirmed to the user, the folders are. One service at a time locks the folder.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::fs::{FlockOperation, flock};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::service::model::{BandwidthGroup, SessionSums, TorrentId};
use crate::service::record::TorrentRecord;
use crate::service::settings::SessionSettings;
use crate::service::state_owner;
use crate::types::InfoHash;
use crate::util::atomic_file;
use crate::util::atomics::Flag;
use crate::util::cold_sort;
use crate::util::os_error::reason;
use crate::util::state_mark::{DOWNLOADED_TORRENTS, LOCK, RESUME, TORRENTS};

pub(super) const SETTINGS: &str = "settings.json";
pub(super) const SESSION: &str = "session.json";
/// The most threads that wait for the disk at once.
const MAX_SYNCING: usize = 8;
/// No file of the state folder but a .torrent is larger.
const MAX_FILE: usize = 16 << 20;

/// Why the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another service uses it.
    #[error("{}: another service uses this state folder", .0.display())]
    InUse(PathBuf),
    /// It is not empty, and btsync has not made it.
    #[error("{}: this folder is not empty, and btsync did not create it; name an empty or a new folder", .0.display())]
    NotOurs(PathBuf),
    /// A file cannot be read or written.
    #[error("{}: {}", path.display(), reason(source))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file would be so large that the next start would not read it.
    #[error("{}: it would be larger than {MAX_FILE} bytes", .0.display())]
    TooLarge(PathBuf),
    /// A file that is needed is damaged.
    #[error("{}: damaged: {why}; remove it to start with the defaults", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The reason.
        why: String,
    },
}

/// What concerns all torrents but is no setting.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionRecord {
    /// The number of the next torrent; numbers are never used twice.
    pub next_id: u32,
    /// Sums over all sessions before this one.
    pub sums: SessionSums,
    /// The bandwidth groups.
    pub groups: Vec<BandwidthGroup>,
}

/// The content of a state folder.
#[derive(Debug, Default)]
pub struct SavedState {
    /// The settings; `None` at the first start.
    pub settings: Option<SessionSettings>,
    /// Sums and groups.
    pub session: SessionRecord,
    /// The torrents, by number.
    pub records: Vec<TorrentRecord>,
    /// The torrents whose records cannot be read, as lines for the user.
    pub left_out: Vec<String>,
}

/// A locked state folder.
#[derive(Debug)]
pub struct StateFolder {
    folder: PathBuf,
    /// Whether the settings or the sums were replaced since the folder was synced.
    has_unsynced_files: Flag,
    /// Whether torrents or records were replaced since their folder was synced.
    has_unsynced_torrents: Flag,
    /// Holds the lock.
    _lock: File,
}

pub(super) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> StateError {
    move |source| StateError::Io { path: path.to_owned(), source }
}

impl StateFolder {
    /// Creates the folder if it is missing, and locks it.
    ///
    /// # Errors
    /// If another service has locked it, if it is a folder of the user's, or if it cannot be created.
    pub fn open(folder: &Path) -> Result<StateFolder, StateError> {
        let (lock, path) = (state_owner::claim(folder)?, folder.join(LOCK));
        for folder in [folder.join(TORRENTS), folder.join(RESUME)] {
            atomic_file::private_folder(&folder).map_err(io_error(&folder))?;
        }
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(StateFolder {
                folder: folder.to_owned(),
                // The folders below it may be new.
                has_unsynced_files: Flag::new(true),
                has_unsynced_torrents: Flag::default(),
                _lock: lock,
            }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StateError::InUse(folder.to_owned())),
            Err(error) => Err(io_error(&path)(error.into())),
        }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// See [`resume_folder`].
    pub fn resume_folder(&self, info_hash: InfoHash) -> PathBuf {
        resume_folder(&self.folder, info_hash)
    }

    /// The .torrent of a torrent.
    pub fn torrent_file(&self, info_hash: InfoHash) -> PathBuf {
        torrent_file(&self.folder, info_hash)
    }

    fn record_file(&self, info_hash: InfoHash) -> PathBuf {
        self.folder.join(TORRENTS).join(format!("{info_hash}.json"))
    }

    /// Reads everything. A torrent's record that is damaged is left alone and reported, as its torrent can be added again.
    ///
    /// # Errors
    /// If the settings are damaged, or a file cannot be read.
    pub fn load(&self) -> Result<SavedState, StateError> {
        let settings: Option<SessionSettings> = self.read_json(SETTINGS)?;
        let mut session: SessionRecord = self.read_json(SESSION)?.unwrap_or_default();
        let (mut records, mut left_out) = self.load_records()?;
        cold_sort::sort_by_key(&mut records, |record| record.id);
        records.dedup_by(|record, before| {
            let is_second = record.id == before.id;
            if is_second {
                let path = self.record_file(record.info_hash);
                left_out.push(format!("{}: another torrent has its number", path.display()));
            }
            is_second
        });
        for torrent in &left_out {
            log::error!("{torrent}; this torrent is left out");
        }
        let last = records.last().map_or(0, |record| record.id.0);
        session.next_id = session.next_id.max(last.saturating_add(1)).max(1);
        Ok(SavedState { settings, session, records, left_out })
    }

    fn load_records(&self) -> Result<(Vec<TorrentRecord>, Vec<String>), StateError> {
        let folder = self.folder.join(TORRENTS);
        let (mut records, mut left_out) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&folder).map_err(io_error(&folder))? {
            let path = entry.map_err(io_error(&folder))?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str()).and_then(InfoHash::from_hex);
            let Some(info_hash) = stem.filter(|_| path.extension().is_some_and(|extension| extension == "json")) else {
                continue;
            };
            match read_json::<TorrentRecord>(&path) {
                Ok(Some(mut record)) if record.info_hash == info_hash && record.is_plausible() => {
                    cold_sort::sort(&mut record.files.renamed);
                    cold_sort::sort(&mut record.renaming);
                    records.push(record);
                }
                Ok(None) => {}
                Ok(Some(_)) => left_out.push(format!("{}: damaged: it is of another torrent", path.display())),
                Err(StateError::Damaged { why, .. }) => left_out.push(format!("{}: damaged: {why}", path.display())),
                Err(error) => left_out.push(error.to_string()),
            }
        }
        Ok((records, left_out))
    }

    fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StateError> {
        read_json(&self.folder.join(name))
    }

    /// Saves a torrent's record.
    ///
    /// # Errors
    /// If it cannot be written; the old one then stays.
    pub fn save_record(&self, record: &TorrentRecord) -> Result<(), StateError> {
        self.has_unsynced_torrents.set(true);
        save_json(&self.record_file(record.info_hash), record)
    }

    /// Saves several records. Returns a result for each: several threads wait for the disk together, as each sync also has to wait for
    /// the journal of the file system.
    pub fn save_records(&self, records: &[TorrentRecord]) -> Vec<Result<(), StateError>> {
        let part = records.len().div_ceil(MAX_SYNCING).max(1);
        let save = |part: &[TorrentRecord]| part.iter().map(|it| self.save_record(it)).collect::<Vec<_>>();
        if part == 1 {
            return save(records);
        }
        thread::scope(|scope| {
            let save = &save;
            let threads: Vec<_> = records.chunks(part).map(|part| (scope.spawn(move || save(part)), part)).collect();
            // A thread that panicked has saved nothing, as far as its caller knows.
            threads.into_iter().flat_map(|(thread, part)| thread.join().unwrap_or_else(|_| save(part))).collect()
        })
    }

    /// Waits until all that was saved survives a power failure.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn sync(&self) -> Result<(), StateError> {
        let torrents = (self.folder.join(TORRENTS), &self.has_unsynced_torrents);
        for (folder, is_unsynced) in [torrents, (self.folder.clone(), &self.has_unsynced_files)] {
            if is_unsynced.swap(false) {
                atomic_file::sync_folder(&folder).inspect_err(|_| is_unsynced.set(true)).map_err(io_error(&folder))?;
            }
        }
        Ok(())
    }

    /// Saves a torrent's .torrent.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save_torrent(&self, info_hash: InfoHash, bytes: &[u8]) -> Result<(), StateError> {
        let path = self.torrent_file(info_hash);
        self.keep_unrecorded(&path, info_hash, bytes).map_err(io_error(&path))?;
        self.has_unsynced_torrents.set(true);
        atomic_file::replace_durably(&path, bytes).map_err(io_error(&path))
    }

    /// Renames another .torrent of this name without a record, which a crash or the user may have left.
    fn keep_unrecorded(&self, path: &Path, info_hash: InfoHash, bytes: &[u8]) -> io::Result<()> {
        if fs::symlink_metadata(path).is_err() || fs::symlink_metadata(self.record_file(info_hash)).is_ok() {
            return Ok(());
        }
        let is_same = atomic_file::may_be_ours(path, |found| found == bytes)?;
        let kept = path.with_extension("torrent.old");
        match fs::symlink_metadata(&kept) {
            _ if is_same => Ok(()),
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => fs::rename(path, kept),
        }
    }

    /// Saves the settings.
    ///
    /// # Errors
    /// If they cannot be written; the old ones then stay.
    pub fn save_settings(&self, settings: &SessionSettings) -> Result<(), StateError> {
        self.has_unsynced_files.set(true);
        save_json(&self.folder.join(SETTINGS), settings)
    }

    /// Saves sums and groups.
    ///
    /// # Errors
    /// If they cannot be written; the old ones then stay.
    pub fn save_session(&self, session: &SessionRecord) -> Result<(), StateError> {
        self.has_unsynced_files.set(true);
        save_json(&self.folder.join(SESSION), session)
    }

    /// Forgets a torrent: its record first, so that a crash in between leaves no torrent without metainfo.
    ///
    /// # Errors
    /// If the record cannot be removed.
    pub fn remove(&self, id: TorrentId, info_hash: InfoHash) -> Result<(), StateError> {
        let path = self.record_file(info_hash);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error(&path)(error)),
            _ => {}
        }
        let torrent = self.torrent_file(info_hash);
        match fs::remove_file(&torrent) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                log::warn!("torrent {}: {}: {}", id.0, torrent.display(), reason(&error));
            }
            _ => {}
        }
        Ok(())
    }
}

/// The folder of a torrent's resume data: one of 256, because a folder of resume data has a limit on its records.
pub fn resume_folder(folder: &Path, info_hash: InfoHash) -> PathBuf {
    let hex = info_hash.hex();
    folder.join(RESUME).join(hex.get(..2).unwrap_or("00"))
}

/// The .torrent of a torrent in a state folder.
pub fn torrent_file(folder: &Path, info_hash: InfoHash) -> PathBuf {
    folder.join(TORRENTS).join(format!("{info_hash}.torrent"))
}

/// The folder that records which torrent files downloads created, for file systems that cannot mark them.
pub fn downloaded_torrents(folder: &Path) -> PathBuf {
    folder.join(DOWNLOADED_TORRENTS)
}

/// Replaces a JSON file of a state folder.
///
/// # Errors
/// If it cannot be written, or is too large to be read again; the old one then stays.
pub fn save_json(path: &Path, value: &impl Serialize) -> Result<(), StateError> {
    let bytes = serde_json::to_vec(value).map_err(|error| io_error(path)(error.into()))?;
    if bytes.len() > MAX_FILE {
        return Err(StateError::TooLarge(path.to_owned()));
    }
    atomic_file::replace_durably(path, &bytes).map_err(io_error(path))
}

/// Reads a JSON file of a state folder; `None` if it does not exist.
///
/// # Errors
/// If it cannot be read or is damaged.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StateError> {
    let file = match atomic_file::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(path)(error)),
    };
    let damaged = |why: String| StateError::Damaged { path: path.to_owned(), why };
    let bytes = atomic_file::read_at_most(file, MAX_FILE).map_err(io_error(path))?;
    let bytes = bytes.ok_or_else(|| damaged(format!("larger than {MAX_FILE} bytes")))?;
    serde_json::from_slice(&bytes).map(Some).map_err(|error| damaged(error.to_string()))
}

#[cfg(test)]
mod tests;
