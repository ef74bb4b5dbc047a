//! A torrent's files before any peer is contacted: looked at, hashed as far as the resume data does not vouch for them; then it is
//! decided which of them are ours, and only then is anything made.

mod again;
mod whose;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::client::Seat;
use crate::metainfo::{FileEntry, Makes, Torrent, printable};
use crate::storage::{
    self, Extras, FileSpec, Layout, LayoutError, Prepared, Refusal, Step, Storage, StorageError, StorageErrorKind,
    Survey,
};
use crate::strategy::picker::Plan;
use crate::torrent::events::Teller;
use crate::torrent::handle::Inner;
use crate::torrent::original_names;
use crate::torrent::resume_store::Keeper;
use crate::torrent::wanted::{Choice, place};
use crate::torrent::{Config, Event, SessionError, Stage, brought, tell};
use crate::types::{Bitfield, PieceIndex};
use crate::util::os_error::reason;

/// How often files are looked at that another program changes meanwhile.
const LOOKS: u32 = 3;

/// A torrent's files, as they were found.
pub(crate) struct Opened {
    pub storage: Arc<Storage>,
    pub plan: Plan,
    pub have: Bitfield,
    pub keeper: Option<Keeper>,
}

/// Looks at the torrent's files, decides which of them btsync may write to, and makes what is missing. Nothing on disk changes
/// before all of that is decided, nor where everything is there already. `seat` sees to it that no other torrent of this process has
/// the same files.
///
/// # Errors
/// Where a file is in the way, another process has the files, or the disk refuses.
pub(crate) fn open(
    inner: &Arc<Inner>,
    config: &Config,
    torrent: &Torrent,
    seat: Option<&mut Seat>,
    events: &Teller,
) -> Result<Opened, SessionError> {
    let Choice { layout, wanted, plan, files: (files, of), bytes } = Choice::new(torrent, config)?;
    let seat = seat.map(|seat| {
        seat.claim(&config.out_dir, config.max_open_files, &layout);
        seat.count(inner.spare.keep(seat.room()));
        &*seat
    });
    if files < of {
        tell(events, Event::Selected { files, of, bytes });
    }
    let layout = original_names::find(inner, config, torrent, layout, &wanted)?;
    let layout = unfinished(inner, config, layout, &wanted);
    inner.enter(Stage::Checking);
    let storage = patient(inner, Storage::new(config.out_dir.clone(), layout, config.max_open_files))
        .select(&wanted, &storage::part_name(&torrent.info_hash))
        .allocate(config.allocation);
    let mut opening =
        Opening { seat, inner, config, torrent, wanted: &plan.wanted, events, disk: storage, hashed: false };
    let (have, keeper) = opening.run()?;
    let storage = Arc::new(opening.disk);
    let _ = inner.place.set(place(storage.layout(), &wanted, torrent.multi_file, &config.places));
    let _ = inner.wanted.set(sizes(torrent, &plan.wanted, &have));
    Ok(Opened { storage, plan, have, keeper })
}

/// The same storage, which waits for descriptors as long as the session goes on, and goes through very many files no longer.
pub(crate) fn patient(inner: &Arc<Inner>, storage: Storage) -> Storage {
    let waits = Arc::downgrade(inner);
    storage.wait_for_descriptors(move || waits.upgrade().is_some_and(|inner| inner.wait_for_descriptor()));
    let asks = Arc::downgrade(inner);
    storage.halt_with(move || asks.upgrade().is_none_or(|inner| inner.stop.load(Ordering::Relaxed)));
    storage
}

/// The layout with files that are not complete under the names that the user wants for these. What has its own name is left there.
/// After a stop nothing is looked at, as nothing comes of it.
fn unfinished(inner: &Inner, config: &Config, layout: Layout, wanted: &[bool]) -> Layout {
    let Some(suffix) = &config.incomplete_suffix else { return layout };
    let is_stopped = || inner.stop.load(Ordering::Relaxed);
    let is_there = |path: &Path| !is_stopped() && fs::symlink_metadata(config.out_dir.join(path)).is_ok();
    let wants = |file: usize| wanted.get(file).is_some_and(|wanted| *wanted);
    layout.with_unfinished(suffix, |file, own, other| !is_there(own) && (wants(file) || is_there(other)))
}

/// How the torrent's bytes lie in files, and what is made beside these.
pub(crate) fn layout(torrent: &Torrent) -> Result<Layout, LayoutError> {
    let spec = |f: &FileEntry| FileSpec { path: f.path.clone(), length: f.length, pad: f.pad };
    let layout = Layout::new(torrent.piece_length, torrent.files.iter().map(spec).collect())?;
    let mut extras = Extras::default();
    for file in &torrent.files {
        match file.makes() {
            Some(Makes::Link(target)) => extras.links.push((file.path.clone(), target.clone())),
            Some(Makes::Folder) => extras.folders.push(file.path.clone()),
            None => {}
        }
    }
    let executable = torrent.files.iter().enumerate().filter(|(_, file)| file.executable).map(|(number, _)| number);
    Ok(layout.with_extras(extras).with_executable(executable.collect()))
}

/// What the start of one torrent has to do with its files.
struct Opening<'a> {
    /// Its place among the sessions that must not write to the same files.
    seat: Option<&'a Seat>,
    inner: &'a Inner,
    config: &'a Config,
    torrent: &'a Torrent,
    wanted: &'a Bitfield,
    events: &'a Teller,
    disk: Storage,
    /// Whether any of what was found at the last look had to be hashed, so that it took a while.
    hashed: bool,
}

impl Opening<'_> {
    /// The pieces that are there, and the keeper of the resume data. Somebody else may complete the same download between the look
    /// at its files and the lock on them, and any program may write to them while they are hashed: then they are looked at again.
    fn run(&mut self) -> Result<(Bitfield, Option<Keeper>), SessionError> {
        let mut look = 0;
        loop {
            look += 1;
            let survey = self.disk.survey(&self.inner.stop)?;
            if self.is_stopped() {
                return Ok((Bitfield::new(self.torrent.piece_count()), None));
            }
            if !self.disk.is_locked() && self.disk.lacks(&survey) {
                self.disk.probe_lock(&self.torrent.info_hash)?;
            }
            self.disk.marker = self.disk.read_marker(&self.torrent.info_hash);
            let (mut have, mut keeper) = self.check(&survey)?;
            // What another torrent has begun to write since would be taken for the user's own.
            self.seat.map_or(Ok(()), |seat| seat.is_free(self.disk.layout()))?;
            let (mut steps, parts) = self.decide(&survey, &have, keeper.as_ref())?;
            if self.is_stopped() {
                return Ok((have, None));
            }
            self.keep_names(&steps, &survey);
            let leaves_all = steps.iter().all(|step| *step == Step::Leave);
            self.identify(&steps, &survey, false);
            if !self.claim(!leaves_all)? {
                return Ok((have, None));
            }
            let renames = leaves_all && !self.disk.has_final_names();
            if !leaves_all {
                self.lock(&mut steps, &survey, &have)?;
            } else if renames && !self.disk.is_locked() {
                // Somebody who downloads more of the torrent writes to files of these names.
                self.disk.lock(&self.torrent.info_hash)?;
            }
            if (!leaves_all || renames || self.hashed) && !self.is_fresh(&survey, look)? {
                continue;
            }
            if leaves_all {
                let named = self.disk.take_final_names();
                self.is_complete(&survey, &have);
                named?;
            } else {
                self.tell_replaced(&steps, &survey, &have, keeper.as_ref());
                self.make((&steps, parts), survey, &mut have, &mut keeper)?;
            }
            return Ok((have, keeper));
        }
    }

    /// Leaves the names of unfinished files to complete ones that are not btsync's own, and says so.
    fn keep_names(&mut self, steps: &[Step], survey: &Survey) {
        for path in self.disk.keep_names(steps, survey) {
            let name = printable(&path.to_string_lossy());
            tell(
                self.events,
                Event::Note { what: format!("{name} is complete and not made by btsync: it keeps this name") },
            );
        }
    }

    /// Tells the host which files those are that are there, by whatever name they were found, before or after what is missing was made.
    /// What has other names, or is to give its own to a copy, may be another torrent's as well.
    fn identify(&self, steps: &[Step], survey: &Survey, is_made: bool) {
        let Some(seat) = self.seat else { return };
        let is_left = |step: Step| step == Step::Ignore || (step == Step::Copy && !is_made);
        let files = steps.iter().enumerate().filter(|(_, step)| !is_left(**step));
        let there = files.filter_map(|(file, _)| Some((file, survey.file(file).filter(|seen| seen.links == 1)?)));
        seat.identify(there.map(|(file, seen)| (file, seen.as_trait())));
    }

    /// Tells the host's other torrents what becomes of the files; false where the session is to stop before it may write to them.
    fn claim(&self, writes: bool) -> Result<bool, SessionError> {
        match self.seat {
            Some(seat) if writes => Ok(seat.may_write(self.disk.layout(), &self.inner.stop)?),
            Some(seat) => Ok(seat.reads(self.disk.layout()).map(|()| true)?),
            None => Ok(true),
        }
    }

    fn is_stopped(&self) -> bool {
        self.inner.stop.load(Ordering::Acquire)
    }

    /// Hashes what is there: the pieces that are right. What the resume data vouches for is not hashed; without it there is more to
    /// do, and that is all.
    fn check(&mut self, survey: &Survey) -> Result<(Bitfield, Option<Keeper>), SessionError> {
        let (config, disk, torrent) = (self.config, &self.disk, self.torrent);
        let mut known = Bitfield::new(torrent.piece_count());
        self.hashed = false;
        if self.is_stopped() {
            return Ok((known, None));
        }
        let mut keeper = self.keeper();
        match &mut keeper {
            Some(keeper) if config.verify || survey.bytes == 0 => keeper.distrust(),
            Some(keeper) => known = keeper.recall(disk),
            None => {}
        }
        if survey.bytes == 0 && torrent.total() > 0 {
            return Ok((known, keeper));
        }
        let size = |pieces: &Bitfield| pieces.iter().map(|piece| u64::from(torrent.piece_size(piece))).sum::<u64>();
        if !known.is_full() {
            self.hashed = true;
            tell(self.events, Event::CheckStarted { bytes: torrent.total() - size(&known) });
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            known = storage::check_rest(disk, &torrent.pieces, &known, cores, &self.inner.check, &self.inner.stop)?;
            if let Some(keeper) = &mut keeper {
                keeper.checked(disk, &self.inner.stop);
            }
        }
        let (total, have) = sizes(torrent, self.wanted, &known);
        tell(self.events, Event::Checked { have, total });
        Ok((known, keeper))
    }

    fn keeper(&self) -> Option<Keeper> {
        let records = self.config.resume.as_ref()?;
        Keeper::new(records, self.torrent.info_hash, &self.config.out_dir, &self.disk, &self.inner.stop)
    }

    /// All that is wanted is there: nothing is written, but what an earlier run could not put in order any more.
    fn is_complete(&mut self, survey: &Survey, have: &Bitfield) {
        self.disk.clear_marker(&self.torrent.info_hash, have);
        for (file, spec) in self.disk.layout().files().iter().enumerate() {
            if let Some(seen) = survey.file(file).filter(|seen| self.disk.wants(file) && seen.size > spec.length) {
                let (surplus, name) = (seen.size - spec.length, printable(&spec.path.to_string_lossy()));
                let bytes = if surplus == 1 { "byte" } else { "bytes" };
                let what = format!("{name} is {surplus} {bytes} longer than the torrent says; it is used as it is");
                tell(self.events, Event::Note { what });
            }
        }
    }

    /// Takes the right to write to the files, unless this process has it already. Files that another torrent's unfinished download has
    /// made, and that the user gave to this one, are replaced by copies: that download goes on with what it has made, and with no copy.
    fn lock(&mut self, steps: &mut [Step], survey: &Survey, have: &Bitfield) -> Result<(), SessionError> {
        self.disk.check_room_for(have, self.wanted)?;
        if !self.disk.is_locked() {
            self.disk.lock(&self.torrent.info_hash)?;
        }
        let taken = self.disk.heed_others(&self.torrent.info_hash, steps, survey, self.config.overwrite)?;
        for file in taken {
            if let Some(step) = steps.get_mut(file).filter(|step| **step == Step::Continue) {
                *step = Step::Copy;
            }
        }
        Ok(())
    }

    /// Whether the files are still as they were found. Where they are not for the third time, another program writes to one: they
    /// are hashed no more, and the download ends.
    fn is_fresh(&self, survey: &Survey, look: u32) -> Result<bool, SessionError> {
        match survey.differs(&self.disk.survey(&self.inner.stop)?) {
            None => Ok(true),
            Some(_) if look < LOOKS || self.is_stopped() => Ok(false),
            Some(file) => Err(self.disk.in_the_way(file, Refusal::Changed).into()),
        }
    }

    /// Makes what is missing, and hashes what the part file had for it.
    fn make(
        &mut self,
        (steps, parts): (&[Step], Step),
        mut survey: Survey,
        have: &mut Bitfield,
        keeper: &mut Option<Keeper>,
    ) -> Result<(), SessionError> {
        let earlier = self.disk.marker.clone();
        let prepared = self.prepare((steps, parts), &mut survey, have).inspect_err(|error| {
            if matches!(error.kind(), StorageErrorKind::Exists | StorageErrorKind::InUse) {
                self.disk.withdraw(steps, &survey, earlier);
            }
        })?;
        let Some(Prepared { repaired, taken_back, .. }) = prepared else { return Ok(()) };
        for what in repaired {
            tell(self.events, Event::Repaired { what });
        }
        let apart = |step: Step| steps.iter().enumerate().filter(move |(_, it)| **it == step).map(|(file, _)| file);
        let (ignored, compared): (Vec<_>, Vec<_>) = (apart(Step::Ignore).collect(), apart(Step::Compare).collect());
        self.check_again(ignored.iter().chain(&compared).chain(&taken_back), &ignored, have)?;
        if keeper.is_none() {
            // The folder was not there before, and so nothing was known of it.
            *keeper = self.keeper();
            keeper.iter_mut().for_each(Keeper::distrust);
        }
        if let Some(keeper) = keeper {
            self.check_recalled(keeper, steps, have);
            keeper.own(self.disk.owned(), &self.disk, have);
        }
        if self.wanted.is_within(have) && !self.is_stopped() {
            // There were only names to make, or the part file had all that was missing.
            let is_over = || self.is_stopped();
            if !self.disk.confirm_unless(&is_over)? {
                return Ok(());
            }
            self.disk.compare()?;
            if !self.disk.take_final_names_unless(&is_over)? || !self.disk.confirm_unless(&is_over)? {
                return Ok(());
            }
            if let Some(keeper) = keeper {
                let partial = keeper.recalled().to_vec();
                keeper.disown(&self.disk, (have.clone(), partial), Duration::ZERO);
            }
            self.disk.finish(have);
        }
        Ok(())
    }

    /// Makes what is missing and marks it as btsync's; `None` where the session is to stop first.
    fn prepare(
        &mut self,
        (steps, parts): (&[Step], Step),
        survey: &mut Survey,
        have: &Bitfield,
    ) -> Result<Option<Prepared>, StorageError> {
        let (hash, stop, given) = (self.torrent.info_hash, &self.inner.stop, self.config.overwrite);
        self.disk.make_parts(parts, survey)?;
        self.disk.make(steps, survey, stop)?;
        if self.is_stopped() {
            return Ok(None);
        }
        self.identify(steps, survey, true);
        self.note_unmarked(steps);
        self.disk.mark(&hash, steps, survey, given)?;
        // Before the part file is looked at: it may be needed for these.
        self.disk.set_apart(steps, survey, have);
        self.disk.settle(steps, survey, stop).map(Some)
    }

    /// Remembers the torrents and links that the download is about to bring, where the files themselves cannot say so.
    fn note_unmarked(&self, steps: &[Step]) {
        let Some(folder) = &self.config.brought else { return };
        let unmarked = self.disk.unmarked(steps);
        if !unmarked.is_empty()
            && let Err(error) = brought::note(folder, self.torrent.info_hash, &self.config.out_dir, unmarked)
        {
            log::warn!("a watched folder may take files of this download for torrents to begin: {}", reason(&error));
        }
    }
}

/// The bytes of the pieces that are wanted, and of those of them that are there.
fn sizes(torrent: &Torrent, wanted: &Bitfield, have: &Bitfield) -> (u64, u64) {
    let size = |piece: PieceIndex| u64::from(torrent.piece_size(piece));
    let there = |piece: &PieceIndex| have.has(*piece);
    (wanted.iter().map(size).sum(), wanted.iter().filter(there).map(size).sum())
}
