//! The state folder of a service: each torrent's .torrent and record, the settings, the sums. Every file is replaced atomically,
//! so a crash at any moment leaves the old content or the new one. That includes a power failure: each file is synced before it
//! replaces the old one, and before a change is confirmed to the user, the folders are. One service at a time locks the folder.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::thread;

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::service::model::{BandwidthGroup, SessionSums, TorrentId};
use crate::service::record::TorrentRecord;
use crate::service::settings::SessionSettings;
use crate::types::InfoHash;
use crate::util::atomic_file;
use crate::util::atomics::Flag;
use crate::util::cold_sort;
use crate::util::os_error::reason;

/// The file that a running service keeps locked.
const LOCK: &str = "lock";
/// The folder of torrents and their records.
const TORRENTS: &str = "torrents";
/// The folder of resume data.
const RESUME: &str = "resume";
/// The folder of records of torrent files that downloads created.
const DOWNLOADED_TORRENTS: &str = "downloaded-torrents";
const SETTINGS: &str = "settings.json";
const SESSION: &str = "session.json";
/// The most threads that wait for the disk at once.
const MAX_SYNCING: usize = 8;
/// No file of the state folder but a .torrent is larger.
const MAX_FILE: u64 = 16 << 20;

/// Why the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another service uses it.
    #[error("{}: another service uses this state folder", .0.display())]
    InUse(PathBuf),
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
    /// Whether files were replaced since the folders were synced.
    is_unsynced: Flag,
    /// Holds the lock.
    _lock: File,
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> StateError {
    move |source| StateError::Io { path: path.to_owned(), source }
}

impl StateFolder {
    /// Creates the folder if it is missing, and locks it.
    ///
    /// # Errors
    /// If another service has locked it, or it cannot be created.
    pub fn open(folder: &Path) -> Result<StateFolder, StateError> {
        for folder in [folder.to_owned(), folder.join(TORRENTS), folder.join(RESUME)] {
            atomic_file::private_folder(&folder).map_err(io_error(&folder))?;
        }
        let path = folder.join(LOCK);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let lock = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR);
        let lock = File::from(lock.map_err(|error| io_error(&path)(error.into()))?);
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(StateFolder { folder: folder.to_owned(), is_unsynced: Flag::default(), _lock: lock }),
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
        self.is_unsynced.set(true);
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
        if self.is_unsynced.swap(false) {
            for folder in [&self.folder.join(TORRENTS), &self.folder] {
                atomic_file::sync_folder(folder)
                    .inspect_err(|_| self.is_unsynced.set(true))
                    .map_err(io_error(folder))?;
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
        self.is_unsynced.set(true);
        atomic_file::replace_durably(&path, bytes).map_err(io_error(&path))
    }

    /// Saves the settings.
    ///
    /// # Errors
    /// If they cannot be written; the old ones then stay.
    pub fn save_settings(&self, settings: &SessionSettings) -> Result<(), StateError> {
        self.is_unsynced.set(true);
        save_json(&self.folder.join(SETTINGS), settings)
    }

    /// Saves sums and groups.
    ///
    /// # Errors
    /// If they cannot be written; the old ones then stay.
    pub fn save_session(&self, session: &SessionRecord) -> Result<(), StateError> {
        self.is_unsynced.set(true);
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
    if bytes.len() as u64 > MAX_FILE {
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
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(io_error(path))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(StateError::Damaged { path: path.to_owned(), why: format!("larger than {MAX_FILE} bytes") });
    }
    let value = serde_json::from_slice(&bytes);
    value.map(Some).map_err(|error| StateError::Damaged { path: path.to_owned(), why: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::model::UnixTime;

    fn record(id: u32) -> TorrentRecord {
        let hash = InfoHash([u8::try_from(id).expect("a small number"); 20]);
        TorrentRecord::new(TorrentId(id), hash, format!("torrent {id}"), "/downloads".into(), UnixTime(1))
    }

    #[test]
    fn all_that_is_saved_is_there_after_a_restart() {
        let temp = tempfile::tempdir().expect("a folder");
        let path = temp.path().join("state");
        let state = StateFolder::open(&path).expect("a state folder");
        assert!(state.load().expect("an empty state").settings.is_none());
        let settings = SessionSettings { download_folder: "/elsewhere".into(), ..SessionSettings::default() };
        state.save_settings(&settings).expect("saved");
        for id in [2, 1, 9] {
            state.save_record(&record(id)).expect("saved");
            state.save_torrent(record(id).info_hash, b"de").expect("saved");
        }
        state.remove(TorrentId(1), record(1).info_hash).expect("removed");
        drop(state);
        let state = StateFolder::open(&path).expect("a state folder");
        let saved = state.load().expect("the state");
        assert_eq!(saved.settings, Some(settings));
        assert_eq!(saved.records, [record(2), record(9)]);
        assert_eq!(saved.session.next_id, 10);
        assert!(!state.torrent_file(record(1).info_hash).exists() && state.torrent_file(record(2).info_hash).exists());
    }

    #[test]
    fn all_that_is_confirmed_was_synced() {
        use crate::util::atomic_file::synced::count;
        let temp = tempfile::tempdir().expect("a folder");
        let state = StateFolder::open(temp.path()).expect("a state folder");
        let records: Vec<TorrentRecord> = (1..=20).map(record).collect();
        assert!(state.save_records(&records).iter().all(Result::is_ok));
        state.save_torrent(records[0].info_hash, b"de").expect("saved");
        state.save_settings(&SessionSettings::default()).expect("saved");
        state.save_session(&SessionRecord::default()).expect("saved");
        for record in &records {
            assert_eq!(count(&state.record_file(record.info_hash)), 1);
        }
        for file in [state.torrent_file(records[0].info_hash), temp.path().join(SETTINGS), temp.path().join(SESSION)] {
            assert_eq!(count(&file), 1, "{}", file.display());
        }
        for _ in 0..2 {
            state.sync().expect("synced");
            assert_eq!((count(temp.path()), count(&temp.path().join(TORRENTS))), (1, 1), "only after a change");
        }
        assert_eq!(state.load().expect("the state").records, records);
    }

    #[test]
    fn a_second_service_is_kept_out() {
        let temp = tempfile::tempdir().expect("a folder");
        let first = StateFolder::open(temp.path()).expect("a state folder");
        assert!(matches!(StateFolder::open(temp.path()), Err(StateError::InUse(_))));
        drop(first);
        assert!(StateFolder::open(temp.path()).is_ok());
    }

    #[test]
    fn a_damaged_record_costs_its_torrent_only_and_damaged_settings_are_an_error() {
        let temp = tempfile::tempdir().expect("a folder");
        let state = StateFolder::open(temp.path()).expect("a state folder");
        state.save_record(&record(3)).expect("saved");
        fs::write(state.record_file(record(4).info_hash), b"{\"id\":4").expect("written");
        fs::write(state.record_file(record(5).info_hash), serde_json::to_vec(&record(6)).expect("JSON"))
            .expect("written");
        let mut same_number = record(7);
        same_number.id = TorrentId(3);
        state.save_record(&same_number).expect("saved");
        let saved = state.load().expect("the state");
        assert_eq!((saved.records.len(), saved.records[0].id), (1, TorrentId(3)));
        assert_eq!(saved.left_out.len(), 3, "{:?}", saved.left_out);
        fs::write(temp.path().join(SETTINGS), b"{").expect("written");
        assert!(matches!(state.load(), Err(StateError::Damaged { .. })));
    }

    #[test]
    fn nothing_is_saved_that_could_not_be_read_again() {
        let temp = tempfile::tempdir().expect("a folder");
        let state = StateFolder::open(temp.path()).expect("a state folder");
        state.save_record(&record(3)).expect("saved");
        let mut large = record(3);
        large.name = "x".repeat(usize::try_from(MAX_FILE).expect("a length"));
        assert!(matches!(state.save_record(&large), Err(StateError::TooLarge(_))));
        assert_eq!(state.load().expect("the state").records, [record(3)], "the old one stays");
        let file = File::create(state.record_file(record(4).info_hash)).expect("a file");
        file.set_len(MAX_FILE + 1).expect("a length");
        assert_eq!(state.load().expect("the state").left_out.len(), 1);
    }

    #[test]
    fn only_the_user_can_read_the_state() {
        use std::os::unix::fs::PermissionsExt as _;
        let temp = tempfile::tempdir().expect("a folder");
        let path = temp.path().join("state");
        let state = StateFolder::open(&path).expect("a state folder");
        state.save_record(&record(3)).expect("saved");
        let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&state.record_file(record(3).info_hash))), (0o700, 0o600));
    }
}
