//! A torrent on the page of a run.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::metainfo::Metainfo;
use crate::service::details;
use crate::service::metainfo_summary::real_files;
use crate::service::metainfo_summary::summarize;
use crate::service::model::{
    Activity, MetainfoSummary, PeerCounts, Problem, ProblemKind, TorrentId, TorrentSettings, TorrentSummary,
    TorrentTimes, TransferStats, UnixTime,
};
use crate::service::record::{FileChoices, TorrentRecord};
use crate::torrent::{FileView, Outcome, Stage, TorrentHandle};
use crate::util::printable_text::printable;

/// A torrent of the run.
pub struct RunTorrent {
    /// Its number.
    pub id: TorrentId,
    /// Its handle.
    pub handle: TorrentHandle,
    /// The folder of its files.
    pub folder: PathBuf,
    /// When it was added.
    pub added: UnixTime,
    /// Its settings.
    pub settings: TorrentSettings,
    /// The summary of its metainfo, once they are known.
    pub summary: OnceLock<MetainfoSummary>,
}

impl RunTorrent {
    fn metainfo(&self) -> Option<&MetainfoSummary> {
        let metainfo = self.handle.metainfo()?;
        Some(self.summary.get_or_init(|| summarize(metainfo)))
    }

    /// A record for those who read records; nothing saves it.
    pub fn record(&self) -> TorrentRecord {
        let (name, folder) = (printable(self.handle.name()), self.folder.clone());
        let mut record = TorrentRecord::new(self.id, self.handle.info_hash(), name, folder, self.added);
        record.metainfo = self.metainfo().cloned();
        record.settings = self.settings.clone();
        record.progress.is_complete = self.handle.was_complete();
        if let Some(metainfo) = self.handle.metainfo() {
            record.files = choices(metainfo, &self.handle.files());
        }
        record
    }

    /// Its summary.
    pub fn summary(&self) -> TorrentSummary {
        let (now, ended) = (self.handle.snapshot(), self.handle.try_wait());
        let fraction = |(done, all): (u64, u64)| if all == 0 { 0.0 } else { done as f64 / all as f64 };
        let activity = match now.stage {
            _ if ended.is_some() || self.handle.is_paused() => Activity::Stopped,
            Stage::Checking => Activity::Checking,
            Stage::Seeding => Activity::Seeding,
            Stage::Stopping => Activity::Stopped,
            _ => Activity::Downloading,
        };
        let problem = ended
            .as_ref()
            .and_then(|ended| ended.as_ref().err())
            .map(|error| Problem { kind: ProblemKind::Local, message: printable(&error.to_string()) });
        let transfer = TransferStats {
            total: self.handle.metainfo().map_or(now.total, crate::metainfo::Metainfo::total),
            wanted: now.total,
            missing: now.total.saturating_sub(now.have),
            verified: now.have,
            unverified: now.unverified,
            downloaded: now.downloaded,
            uploaded: now.uploaded,
            wasted: now.wasted,
            down_rate: now.down_rate,
            up_rate: now.up_rate,
            available: 0,
        };
        TorrentSummary {
            id: self.id,
            info_hash: self.handle.info_hash(),
            name: printable(self.handle.name()),
            activity,
            problem,
            settings: self.settings.clone(),
            folder: self.folder.clone(),
            queue_position: usize::try_from(self.id.0.saturating_sub(1)).unwrap_or(0),
            times: TorrentTimes { added: self.added, started: self.added, ..TorrentTimes::default() },
            transfer,
            metainfo: self.metainfo().cloned(),
            metadata_progress: if self.handle.metainfo().is_some() {
                1.0
            } else {
                fraction((now.metadata.0 as u64, now.metadata.1 as u64))
            },
            check_progress: if now.stage == Stage::Checking { fraction(now.checked) } else { 0.0 },
            is_finished: matches!(ended, Some(Ok(Outcome::Completed))),
            is_stalled: false,
            is_moving: false,
            peers: if ended.is_some() { PeerCounts::default() } else { details::peer_counts(&self.handle) },
            magnet: format!("magnet:?xt=urn:btih:{}", self.handle.info_hash()),
            torrent_file: PathBuf::new(),
        }
    }
}

/// What the options of the run choose: `wanted` are the wanted files, or none before the files are checked.
fn choices(metainfo: &Metainfo, wanted: &[FileView]) -> FileChoices {
    let mut choices = FileChoices::default();
    if wanted.is_empty() {
        return choices;
    }
    for index in real_files(metainfo) {
        let path = usize::try_from(index).ok().and_then(|at| metainfo.files.get(at)).map(|file| &file.path);
        match wanted.iter().find(|view| view.index == index) {
            Some(view) if path.is_some_and(|path| path != Path::new(&view.path)) => {
                choices.renamed.push((index, PathBuf::from(&view.path)));
            }
            Some(_) => {}
            None => choices.unwanted.push(index),
        }
    }
    choices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_were_not_selected_are_not_wanted() {
        let file = |name: &str| format!("d6:lengthi9e4:pathl{}:{name}ee", name.len());
        let files = ["a", "b", "c"].map(file).concat();
        let text = format!("d4:infod5:filesl{files}e4:name1:n12:piece lengthi16384e6:pieces20:{}ee", "x".repeat(20));
        let metainfo = Metainfo::parse(text.as_bytes()).expect("a torrent");
        let view = |index, path: &str| FileView { index, path: path.into(), stored_as: None, length: 9, pieces: 0..1 };
        assert_eq!(choices(&metainfo, &[]), FileChoices::default(), "not known yet");
        let chosen = choices(&metainfo, &[view(1, "n/b"), view(2, "n/z")]);
        assert_eq!((chosen.unwanted, chosen.renamed), (vec![0], vec![(2, "n/z".into())]));
    }
}
