//! What the service keeps of one torrent, also while it does not run and over its own restarts.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::metainfo::Metainfo;
use crate::service::model::{MetainfoSummary, Problem, TorrentId, TorrentSettings, UnixTime};
use crate::storage::clock;
use crate::torrent::RepairScope;
use crate::torrent::idle_files::{FilesPlace, IdleTorrent};
use crate::types::InfoHash;

/// The suffix of files that are not complete.
pub const INCOMPLETE_SUFFIX: &str = ".part";

/// The distance of the numbers of two torrents in the queue, so that others fit between them.
pub const QUEUE_STEP: i64 = 1024;

/// The content of a torrent's file in the state folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TorrentRecord {
    /// Its number.
    pub id: TorrentId,
    /// Its info-hash.
    #[serde(with = "hex_hash")]
    pub info_hash: InfoHash,
    /// Its name as shown.
    pub name: String,
    /// The magnet link; only until the metadata is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// The folder of its files.
    pub folder: PathBuf,
    /// What the user wants it to do.
    #[serde(default, alias = "wish")]
    pub desired_state: DesiredState,
    /// Whether its files have to be hashed before anything else.
    #[serde(default)]
    pub needs_check: bool,
    /// Whether files that were complete and are not now may be completed again: the user has asked for a check.
    #[serde(default)]
    pub may_repair: bool,
    /// Where its files were before the user named another folder, until they have been hashed there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_place: Option<PreviousPlace>,
    /// The folder in which it may overwrite files that are in its way, until its files have been checked once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub may_overwrite_in: Option<PathBuf>,
    /// When that was permitted, in nanoseconds since 1970. Files that were changed later are not meant.
    #[serde(default)]
    pub overwrite_permitted_at: i64,
    /// A number that orders the queue; torrents with lower ones come first.
    #[serde(default)]
    pub queue_number: i64,
    /// The settings that the user may change at any time.
    #[serde(default)]
    pub settings: TorrentSettings,
    /// Choices about its files.
    #[serde(default)]
    pub files: FileChoices,
    /// Its trackers by tier, if the user has changed them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trackers: Option<Vec<Vec<String>>>,
    /// When things happened.
    #[serde(default)]
    pub times: RecordTimes,
    /// Sums over all runs.
    #[serde(default)]
    pub sums: RecordSums,
    /// How far it is.
    #[serde(default)]
    pub progress: RecordProgress,
    /// What lists show of the metainfo, so that it need not be read for them.
    #[serde(default, alias = "facts", skip_serializing_if = "Option::is_none")]
    pub metainfo: Option<MetainfoSummary>,
    /// Whether it stopped because its seeding goal was reached.
    #[serde(default)]
    pub is_finished: bool,
    /// Why it stopped by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
    /// The folder to which its files are moved once it is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_folder: Option<PathBuf>,
    /// The folder to which its files are being moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moving_to: Option<PathBuf>,
    /// Files that get another path as soon as it does not run: indexes in the metainfo, sorted, and paths below the
    /// folder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub renaming: Vec<(u32, PathBuf)>,
    /// The name that it gets with `renaming`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_name: Option<String>,
    /// Its removal, once the user has asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removal: Option<Removal>,
}

/// What the user wants a torrent to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DesiredState {
    /// Do nothing.
    #[default]
    #[serde(alias = "stop")]
    Stopped,
    /// Download and seed when the queue permits it.
    #[serde(alias = "start")]
    Queued,
    /// Download and seed whatever the queue says: a forced start.
    #[serde(alias = "start_now")]
    Forced,
}

/// Where a torrent's files were, according to the service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousPlace {
    /// Their folder.
    pub folder: PathBuf,
    /// Whether every wanted piece was verified there.
    pub was_complete: bool,
}

/// How to remove a torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// Whether those of its files that btsync created are deleted.
    pub deletes_data: bool,
}

/// The user's choices about a torrent's files. Numbers are indexes in the metainfo from 0, padding included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileChoices {
    /// The files that are not wanted, ascending.
    pub unwanted: Vec<u32>,
    /// The files that come first, ascending.
    pub high: Vec<u32>,
    /// The files that come last, ascending.
    pub low: Vec<u32>,
    /// Files with another path below the folder, sorted by their indexes.
    pub renamed: Vec<(u32, PathBuf)>,
}

/// When things happened to a torrent; 0 for never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecordTimes {
    /// When it was added.
    pub added: UnixTime,
    /// When its last wanted piece was verified.
    pub done: UnixTime,
    /// When payload last moved.
    pub active: UnixTime,
    /// When it was last started.
    pub started: UnixTime,
    /// When its settings were last changed.
    pub edited: UnixTime,
    /// Seconds spent downloading.
    pub downloading: u64,
    /// Seconds spent seeding.
    pub seeding: u64,
}

/// Sums over all runs of a torrent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecordSums {
    /// Payload bytes received.
    pub downloaded: u64,
    /// Payload bytes sent.
    pub uploaded: u64,
    /// Wasted payload bytes.
    pub wasted: u64,
}

/// How far a torrent is, as its last run knew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecordProgress {
    /// Bytes of all files.
    pub total: u64,
    /// Bytes of the wanted pieces.
    pub wanted: u64,
    /// Bytes of the wanted pieces that are verified.
    pub have: u64,
    /// Whether every wanted piece was verified once and nothing is known against it since.
    pub is_complete: bool,
}

impl TorrentRecord {
    /// A torrent that was just added and does nothing.
    pub fn new(id: TorrentId, info_hash: InfoHash, name: String, folder: PathBuf, added: UnixTime) -> TorrentRecord {
        TorrentRecord {
            id,
            info_hash,
            name,
            link: None,
            folder,
            desired_state: DesiredState::Stopped,
            needs_check: false,
            may_repair: false,
            previous_place: None,
            may_overwrite_in: None,
            overwrite_permitted_at: 0,
            queue_number: 0,
            settings: TorrentSettings::default(),
            files: FileChoices::default(),
            trackers: None,
            times: RecordTimes { added, ..RecordTimes::default() },
            sums: RecordSums::default(),
            progress: RecordProgress::default(),
            metainfo: None,
            is_finished: false,
            problem: None,
            final_folder: None,
            moving_to: None,
            renaming: Vec::new(),
            new_name: None,
            removal: None,
        }
    }

    /// The torrent as one that does not run, with its resume data in `resume_folder`.
    pub fn idle<'a>(&'a self, metainfo: &'a Metainfo, resume_folder: &'a Path) -> IdleTorrent<'a> {
        IdleTorrent {
            metainfo,
            place: FilesPlace { folder: &self.folder, renamed: &self.files.renamed },
            unwanted: &self.files.unwanted,
            suffix: INCOMPLETE_SUFFIX,
            resume_folder,
            private_folders: &[],
            downloaded_torrents_folder: None,
        }
    }

    /// The path that the user gave a file, if any: also one that it has yet to get.
    pub fn renamed(&self, index: u32) -> Option<&PathBuf> {
        let files = if self.renaming.is_empty() { &self.files.renamed } else { &self.renaming };
        let at = files.binary_search_by_key(&index, |(renamed, _)| *renamed).ok()?;
        files.get(at).map(|(_, path)| path)
    }

    /// To which existing files a run may write that starts now: it may start at any time, without the user's knowing.
    pub fn repair_scope(&self) -> RepairScope {
        let was_complete = self.previous_place.as_ref().is_some_and(|place| place.was_complete);
        match self {
            _ if self.may_repair => RepairScope::Any,
            _ if self.progress.is_complete || was_complete => RepairScope::Nothing,
            _ => RepairScope::Unfinished,
        }
    }

    /// Whether it may overwrite files that are in its way.
    pub fn may_overwrite(&self) -> bool {
        self.may_overwrite_in.as_ref() == Some(&self.folder)
    }

    /// Permits the torrent to overwrite the files that are in its folder now.
    pub fn permit_overwriting(&mut self) {
        (self.may_overwrite_in, self.overwrite_permitted_at) = (Some(self.folder.clone()), clock());
    }

    /// Ends the permission to overwrite if the torrent has other files than `before`: the user gave it for those.
    pub fn keep_permission(&mut self, before: &TorrentRecord) {
        let has_same_files = self.folder == before.folder
            && self.files.unwanted == before.files.unwanted
            && self.files.renamed == before.files.renamed;
        if !has_same_files {
            self.may_overwrite_in = None;
        }
    }

    /// Asks for a check of its files, after which those that were complete before may be repaired.
    pub fn verify(&mut self) {
        self.needs_check = self.metainfo.is_some();
        self.may_repair = self.needs_check;
    }

    /// Does without a check that it needs. What the check would have permitted is not permitted.
    pub fn cancel_check(&mut self) {
        self.may_repair &= !self.needs_check;
        self.needs_check = false;
    }

    /// A check has ended. `ends_after_check`: nothing else was to be done. Otherwise the run has begun with all permissions.
    pub fn end_check(&mut self, is_complete: bool, ends_after_check: bool) {
        let is_undecided = ends_after_check && !is_complete;
        self.previous_place.take_if(|_| !is_undecided || self.may_repair);
        self.may_repair &= is_undecided;
        self.needs_check = false;
    }

    /// Sets the folder in which its files are already, according to the user: a check has to find out. It does not permit repairs: the
    /// user may have edited files before he moved them.
    pub fn use_folder(&mut self, folder: &Path) {
        let before = std::mem::replace(&mut self.folder, folder.to_owned());
        if self.metainfo.is_some() {
            let was_complete = self.progress.is_complete;
            self.previous_place.get_or_insert(PreviousPlace { folder: before, was_complete });
        }
        self.may_repair = false;
        (self.final_folder, self.moving_to, self.may_overwrite_in) = (None, None, None);
        (self.progress.is_complete, self.progress.have) = (false, 0);
        self.needs_check = self.metainfo.is_some();
    }

    /// Whether the record can be one that the service wrote: its number is not 0 and its folder is absolute.
    pub fn is_plausible(&self) -> bool {
        self.id.0 > 0 && self.folder.is_absolute()
    }
}

/// An [`InfoHash`] as 40 hexadecimal digits.
mod hex_hash {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::types::InfoHash;

    pub fn serialize<S: Serializer>(hash: &InfoHash, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hash.hex())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<InfoHash, D::Error> {
        let text = String::deserialize(from)?;
        InfoHash::from_hex(&text).ok_or_else(|| D::Error::custom("no info-hash"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_its_file() {
        let mut record =
            TorrentRecord::new(TorrentId(7), InfoHash([0xa5; 20]), "name".into(), "/down".into(), UnixTime(1));
        record.desired_state = DesiredState::Forced;
        record.files.renamed.push((3, "other/name".into()));
        record.removal = Some(Removal { deletes_data: true });
        let text = serde_json::to_string(&record).expect("JSON");
        assert!(text.contains(&"a5".repeat(20)), "{text}");
        assert_eq!(serde_json::from_str::<TorrentRecord>(&text).expect("the record"), record);
    }

    #[test]
    fn a_record_of_an_earlier_version_may_lack_fields_and_have_earlier_names() {
        let text = format!(r#"{{"id":1,"info_hash":"{}","name":"x","folder":"/x","unknown":1}}"#, "00".repeat(20));
        let record: TorrentRecord = serde_json::from_str(&text).expect("a record");
        assert!(record.is_plausible() && record.desired_state == DesiredState::Stopped);
        let text = text.replace("\"unknown\":1", "\"wish\":\"start_now\"");
        let record: TorrentRecord = serde_json::from_str(&text).expect("a record");
        assert_eq!(record.desired_state, DesiredState::Forced);
    }
}
