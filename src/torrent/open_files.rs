//! Opens a torrent's files before any of their data is downloaded: examines them, hashes what the resume data does not cover, decides
//! which of them are ours, and only then creates anything.

mod check;
mod damaged;
mod ownership;
mod recheck;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::client::Registration;
use crate::metainfo::{Metainfo, printable};
use crate::storage::{
    self, FileAction, Layout, PreparedFiles, Refusal, StopCheck as _, Storage, StorageError, StorageErrorKind, Survey,
};
use crate::strategy::picker::Plan;
use crate::torrent::events::EventSender;
use crate::torrent::inner::TorrentInner;
use crate::torrent::original_names;
use crate::torrent::resume_store::ResumeStore;
use crate::torrent::wanted_files::{FileCounts, WantedFiles, content_path};
use crate::torrent::{Event, Stage, TorrentConfig, TorrentError, downloaded_torrents, send_event};
use crate::types::{Bitfield, PieceIndex};
use crate::util::os_error::reason;

/// How many times files that another program keeps changing are examined.
const MAX_SURVEYS: u32 = 3;

/// A torrent's files, as they were found.
pub(crate) struct OpenedFiles {
    pub storage: Arc<Storage>,
    pub plan: Plan,
    pub have: Bitfield,
    pub resume_store: Option<ResumeStore>,
}

/// Examines the torrent's files, decides which of them btsync may write to, and creates what is missing. Nothing on disk
/// changes before all of that is decided, nor if everything is complete. `registration` ensures that no other torrent of this
/// process has the same files.
///
/// # Errors
/// If a file is in the way, if another process has the files, or if the disk fails.
pub(crate) fn open(
    inner: &Arc<TorrentInner>,
    config: &TorrentConfig,
    metainfo: &Metainfo,
    registration: Option<&mut Registration>,
    events: &EventSender,
) -> Result<OpenedFiles, TorrentError> {
    let WantedFiles { layout, wanted, plan, files: FileCounts { wanted: files, all: total_files }, bytes } =
        WantedFiles::new(metainfo, config)?;
    let suffix = config.files.incomplete_suffix.as_deref();
    let incomplete = suffix.map(|suffix| layout.clone().with_incomplete_suffix(suffix, |_, _, _| true));
    let registration = registration.map(|registration| {
        registration.register_files(&config.out_dir, config.files.max_open_files, &layout, incomplete.as_ref());
        registration.set_connection_count(inner.peers.kept_connections.close_all_but(registration.capacity()));
        &*registration
    });
    if files < total_files {
        send_event(events, Event::Selected { files, total_files, bytes });
    }
    let layout = original_names::find(inner, config, metainfo, layout, &wanted)?;
    let layout = with_incomplete_names(inner, config, layout, &wanted);
    if let Some(registration) = registration.filter(|_| suffix.is_some()) {
        registration.retain_incomplete_names(Some(&layout));
    }
    inner.set_stage(Stage::Checking);
    let storage = inner
        .with_descriptor_wait(Storage::new(config.out_dir.clone(), layout, config.files.max_open_files))
        .select(&wanted, &storage::part_name(&metainfo.info_hash))
        .with_allocation(config.files.allocation);
    let mut opener = FileOpener {
        registration,
        inner,
        config,
        metainfo,
        wanted: &plan.wanted,
        events,
        storage,
        may_overwrite: false,
        has_hashed: false,
    };
    let (have, resume_store) = opener.run()?;
    let storage = Arc::new(opener.storage);
    inner.facts.content_path.set(content_path(
        storage.layout(),
        &wanted,
        metainfo.is_multi_file,
        &config.files.renamed_files,
    ));
    inner.facts.wanted_bytes.set(wanted_sizes(metainfo, &plan.wanted, &have));
    Ok(OpenedFiles { storage, plan, have, resume_store })
}

/// The layout in which incomplete files have the names that the user wants for them. Files that exist under their own name keep
/// it. After a stop nothing is examined, as the result does not matter.
fn with_incomplete_names(inner: &TorrentInner, config: &TorrentConfig, layout: Layout, wanted: &[bool]) -> Layout {
    let Some(suffix) = &config.files.incomplete_suffix else { return layout };
    let is_stopped = || inner.run.is_stopped();
    let is_there = |path: &Path| !is_stopped() && fs::symlink_metadata(config.out_dir.join(path)).is_ok();
    let wants = |file: usize| wanted.get(file).is_some_and(|wanted| *wanted);
    layout.with_incomplete_suffix(suffix, |file, own, other| !is_there(own) && (wants(file) || is_there(other)))
}

/// Opens the files of one torrent.
struct FileOpener<'a> {
    /// The torrent's registration, which keeps torrents of this process from writing to the same files.
    registration: Option<&'a Registration>,
    inner: &'a TorrentInner,
    config: &'a TorrentConfig,
    metainfo: &'a Metainfo,
    wanted: &'a Bitfield,
    events: &'a EventSender,
    storage: Storage,
    /// Whether files that are in the way may be overwritten.
    may_overwrite: bool,
    /// Whether the last check had to hash anything, so that it took a while.
    has_hashed: bool,
}

impl FileOpener<'_> {
    /// The complete pieces and the resume store. Another process may complete the same download between the check and the lock,
    /// and any program may write to the files while they are hashed: then they are examined again.
    fn run(&mut self) -> Result<(Bitfield, Option<ResumeStore>), TorrentError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let mut survey = self.storage.survey(&*self.inner.run)?;
            if survey.wait_until_edits_show() {
                survey = self.storage.survey(&*self.inner.run)?;
            }
            if self.is_stopped() {
                return Ok((Bitfield::new(self.metainfo.piece_count()), None));
            }
            if !self.storage.is_locked() && self.storage.has_missing_files(&survey) {
                self.storage.probe_lock(&self.metainfo.info_hash)?;
            }
            self.storage.marker.content = self.storage.read_marker(&self.metainfo.info_hash)?;
            self.storage.adopt_moved_files(&self.metainfo.info_hash, &survey);
            if self.storage.ignore_files_as_before(&survey, &self.metainfo.pieces, &*self.inner.run) {
                survey = self.storage.survey(&*self.inner.run)?;
            }
            let (mut have, mut resume_store) = self.check_existing(&survey)?;
            if self.config.files.ends_after_check && !self.wanted.is_within(&have) {
                self.keep_result(resume_store, &have);
                return Ok((have, None));
            }
            // Files that another torrent has started to write since would be taken for the user's own.
            self.registration.map_or(Ok(()), |registration| registration.check_not_written(self.storage.layout()))?;
            let (mut actions, part_file_action) = self.decide(&survey, &have, resume_store.as_ref())?;
            let leaves_all = actions.iter().all(|action| *action == FileAction::Leave);
            if self.is_stopped() || (self.config.files.ends_after_check && !leaves_all) {
                return Ok((have, resume_store.filter(|_| !self.is_stopped())));
            }
            self.record_doubts(&actions, &survey, resume_store.as_ref());
            self.storage.adopt_moved_whole_files(&self.metainfo.info_hash, &actions, &survey, &have);
            self.keep_unfinished_names(&actions, &survey);
            self.identify(&actions, &survey, false);
            if !self.claim_files(!leaves_all)? {
                return Ok((have, None));
            }
            let renames = leaves_all && !self.storage.has_final_names();
            if !leaves_all {
                self.lock(&mut actions, &survey, &have)?;
            } else if renames && !self.storage.is_locked() {
                // Another process that downloads more of the torrent writes to files of these names.
                self.storage.lock(&self.metainfo.info_hash)?;
            }
            if (!leaves_all || renames || self.has_hashed) && !self.is_unchanged(&survey, attempt)? {
                continue;
            }
            if leaves_all {
                self.leave_all(&survey, &have, part_file_action)?;
            } else {
                self.report_replaced(&actions, &survey, &have, resume_store.as_ref());
                self.make((&actions, part_file_action), survey, &mut have, &mut resume_store)?;
            }
            return Ok((have, resume_store));
        }
    }

    /// All files are complete: nothing is written, but files may get their final names.
    fn leave_all(&mut self, survey: &Survey, have: &Bitfield, part_file: FileAction) -> Result<(), TorrentError> {
        self.storage.remember_verified(survey);
        let named = self.storage.apply_final_names();
        if part_file == FileAction::Continue {
            self.storage.remove_leftover_part_file(&self.metainfo.info_hash);
        }
        self.use_complete_files(survey, have);
        Ok(named?)
    }

    /// Complete files that btsync did not create, under the name of an unfinished file, keep that name; reports them.
    fn keep_unfinished_names(&mut self, actions: &[FileAction], survey: &Survey) {
        for path in self.storage.keep_unfinished_names(actions, survey) {
            let name = printable(&path.to_string_lossy());
            send_event(
                self.events,
                Event::Note {
                    what: format!("{name} is complete and was not created by btsync, so it keeps this name"),
                },
            );
        }
    }

    /// Tells the client how the existing files are identified, whatever their name, before or after missing ones are created.
    /// Leaves out files with several hard links, and files to be replaced by a copy: they may be another torrent's as well.
    fn identify(&self, actions: &[FileAction], survey: &Survey, is_made: bool) {
        let Some(registration) = self.registration else { return };
        let is_left = |action: FileAction| action == FileAction::Ignore || (action == FileAction::Copy && !is_made);
        let files = actions.iter().enumerate().filter(|(_, action)| !is_left(**action));
        let there = files.filter_map(|(file, _)| Some((file, survey.file(file).filter(|seen| seen.links == 1)?)));
        registration.add_identities(there.map(|(file, seen)| {
            let (it, name) = (seen.file_identity(), self.storage.layout().final_name(file));
            (file, it, name.filter(|_| !it.is_permanent()).map(Path::to_owned).unwrap_or_default())
        }));
    }

    /// Claims the files for writing or reading, against the client's other torrents. Returns false if the torrent has to stop
    /// before it may write.
    fn claim_files(&self, writes: bool) -> Result<bool, TorrentError> {
        match self.registration {
            Some(registration) if writes => {
                Ok(registration.claim_for_writing(self.storage.layout(), &*self.inner.run)?)
            }
            Some(registration) => Ok(registration.claim_for_reading(self.storage.layout()).map(|()| true)?),
            None => Ok(true),
        }
    }

    fn is_stopped(&self) -> bool {
        self.inner.run.is_stopped()
    }

    /// Everything wanted is complete: nothing is written, except what an earlier run could not put in order.
    fn use_complete_files(&mut self, survey: &Survey, have: &Bitfield) {
        self.storage.clear_marker(&self.metainfo.info_hash, have);
        for what in self.storage.describe_longer_files(|file| survey.file(file).map(|seen| seen.size)) {
            send_event(self.events, Event::Note { what });
        }
    }

    /// Takes the right to write to the files, unless this process has it. Files that another torrent's unfinished download
    /// created, and that the user gave to this one, are replaced by copies: that download continues with its own files, not
    /// with the copies.
    fn lock(&mut self, actions: &mut [FileAction], survey: &Survey, have: &Bitfield) -> Result<(), TorrentError> {
        self.storage.check_disk_space_for(have, self.wanted)?;
        if !self.storage.is_locked() {
            self.storage.lock(&self.metainfo.info_hash)?;
        }
        let taken =
            self.storage.check_other_downloads(&self.metainfo.info_hash, actions, survey, self.may_overwrite)?;
        for file in taken {
            if let Some(action) = actions.get_mut(file).filter(|action| **action == FileAction::Continue) {
                *action = FileAction::Copy;
            }
        }
        Ok(())
    }

    /// Whether the files are still as they were found. If they are not for the third time, another program is writing to one of
    /// them: btsync hashes them no more, and the download ends.
    fn is_unchanged(&self, survey: &Survey, attempt: u32) -> Result<bool, TorrentError> {
        match survey.differs(&self.storage.survey(&*self.inner.run)?) {
            None => Ok(true),
            Some(_) if attempt < MAX_SURVEYS || self.is_stopped() => Ok(false),
            Some(file) => Err(self.storage.in_the_way(file, Refusal::Changed).into()),
        }
    }

    /// Creates what is missing, and hashes what the part file contained of it.
    fn make(
        &mut self,
        (actions, part_file_action): (&[FileAction], FileAction),
        mut survey: Survey,
        have: &mut Bitfield,
        resume_store: &mut Option<ResumeStore>,
    ) -> Result<(), TorrentError> {
        let earlier = self.storage.read_marker(&self.metainfo.info_hash)?;
        let prepared = self.prepare((actions, part_file_action), &mut survey, have).inspect_err(|error| {
            // A full disk may have no room for the earlier marker, which then must stay as it is.
            let is_undone = match error.kind() {
                StorageErrorKind::Exists | StorageErrorKind::InUse => true,
                StorageErrorKind::DiskFull => earlier.is_none(),
                _ => false,
            };
            if is_undone {
                self.storage.roll_back(actions, &survey, earlier);
            }
        })?;
        let Some(PreparedFiles { repaired, restored_files, notes, .. }) = prepared else { return Ok(()) };
        for what in notes {
            send_event(self.events, Event::Note { what });
        }
        for what in repaired {
            send_event(self.events, Event::Repaired { what });
        }
        let apart =
            |action: FileAction| actions.iter().enumerate().filter(move |(_, it)| **it == action).map(|(file, _)| file);
        let (ignored, compared): (Vec<_>, Vec<_>) =
            (apart(FileAction::Ignore).collect(), apart(FileAction::Compare).collect());
        for piece in self.storage.verify_compared(&self.metainfo.pieces, &*self.inner.run)? {
            have.set(piece);
        }
        self.recheck(ignored.iter().chain(&compared).chain(&restored_files), &ignored, have)?;
        if resume_store.is_none() {
            // The folder did not exist before, so no resume data was read for it.
            *resume_store = self.resume_store();
            resume_store.iter_mut().for_each(ResumeStore::skip_trusted_pieces);
        }
        if let Some(resume_store) = resume_store {
            self.drop_useless_resumed_blocks(resume_store, actions, have);
            resume_store.set_owned_files(self.storage.writable_files(), &self.storage, have);
        }
        if self.wanted.is_within(have) && !self.is_stopped() {
            // Only files without content had to be created, or the part file contained all that was missing.
            let is_over = || self.is_stopped();
            self.storage.sync_remote()?;
            if !self.storage.check_files_until(&is_over)? {
                return Ok(());
            }
            self.storage.compare_undecided()?;
            if !self.storage.apply_final_names_until(&is_over)? || !self.storage.check_files_until(&is_over)? {
                return Ok(());
            }
            if let Some(resume_store) = resume_store {
                let partial = resume_store.resumed_blocks().to_vec();
                resume_store.drop_complete_files(&self.storage, (have.clone(), partial), Duration::ZERO);
            }
            match self.storage.finish(have) {
                // The next run removes the marker.
                Err(_) if self.is_stopped() => return Ok(()),
                finished => finished?,
            }
            if let Some(registration) = self.registration {
                registration.retain_incomplete_names(None);
            }
        }
        Ok(())
    }

    /// Creates what is missing and marks it as btsync's; `None` if the torrent has to stop first.
    fn prepare(
        &mut self,
        (actions, part_file_action): (&[FileAction], FileAction),
        survey: &mut Survey,
        have: &Bitfield,
    ) -> Result<Option<PreparedFiles>, StorageError> {
        let (hash, stop, overwrite) = (self.metainfo.info_hash, &*self.inner.run, self.may_overwrite);
        self.storage.check_not_off_limits(actions, overwrite, &self.config.records.private_folders)?;
        self.storage.create_part_file(part_file_action, survey)?;
        self.storage.create_files(actions, survey, stop)?;
        if self.is_stopped() {
            return Ok(None);
        }
        self.identify(actions, survey, true);
        self.note_files_without_mark(actions);
        self.storage.record_found_complete(have, survey);
        self.storage.record_ownership(&hash, actions, survey, overwrite)?;
        // Before the files are resized: the part file may be needed for these.
        self.storage.redirect_to_part_file(actions, survey, (have, self.wanted));
        self.storage.resize_files(actions, survey, stop).map(Some)
    }

    /// Records the torrent and magnet files that the download is about to create, if the file system cannot mark them.
    fn note_files_without_mark(&self, actions: &[FileAction]) {
        let Some(folder) = &self.config.records.downloaded_torrents_folder else { return };
        let without_download_mark = self.storage.without_download_mark(actions);
        if !without_download_mark.is_empty()
            && let Err(error) =
                downloaded_torrents::note(folder, self.metainfo.info_hash, &self.config.out_dir, without_download_mark)
        {
            log::warn!(
                "cannot record the torrent files of this download, so --watch may start them: {}",
                reason(&error)
            );
        }
    }
}

/// The bytes of the wanted pieces, and of those among them that are complete.
fn wanted_sizes(metainfo: &Metainfo, wanted: &Bitfield, have: &Bitfield) -> (u64, u64) {
    let size = |piece: PieceIndex| u64::from(metainfo.piece_size(piece));
    let there = |piece: &PieceIndex| have.has(*piece);
    (wanted.iter().map(size).sum(), wanted.iter().filter(there).map(size).sum())
}
