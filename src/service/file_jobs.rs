//! Moves, renames and deletes the files of torrents that do not run, one job after the other on a thread of its own.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Sender, unbounded};

use crate::service::metainfo_summary::read_metainfo;
use crate::service::record::TorrentRecord;
use crate::storage::KeptFile;
use crate::torrent::idle_files::{FilesPlace, IdleTorrent};
use crate::util::atomics::Flag;

/// At most this many of the files that were not deleted are named.
const MAX_NAMED: usize = 5;

/// Whether a job is done, with files that were not deleted; otherwise why not, in one line.
pub type FileJobResult = Result<Option<String>, String>;

/// Work on the files of a torrent.
#[derive(Clone, Debug)]
pub struct FileJob {
    /// The torrent.
    pub record: TorrentRecord,
    /// The torrent's .torrent; `None` if its metadata is not known, so that it has no files.
    pub torrent_file: Option<PathBuf>,
    /// The folder of its resume data.
    pub resume_folder: PathBuf,
    /// The folder that records the torrent files of downloads which the file system cannot mark.
    pub downloaded_torrents_folder: PathBuf,
    /// Folders to which nothing may be moved.
    pub private_folders: Vec<PathBuf>,
    /// What to do with its files.
    pub operation: FileOperation,
}

/// What to do with the files of a torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileOperation {
    /// Move them to this folder and to these paths below it.
    Move(PathBuf, Vec<(u32, PathBuf)>),
    /// Delete what btsync keeps of the torrent, and if asked, the files that it created.
    Remove { deletes_data: bool },
}

type FileWork = Box<dyn FnOnce(&Flag) + Send>;

/// The thread of the jobs; started with the first one.
#[derive(Default)]
pub struct FileJobs {
    thread: Option<(Sender<FileWork>, JoinHandle<()>)>,
    is_ending: Arc<Flag>,
}

impl FileJobs {
    /// Starts a job once those before it are done; `done` gets the result, unless the service ends first.
    ///
    /// # Errors
    /// If the system has no thread for the jobs.
    pub fn start(&mut self, job: FileJob, done: impl FnOnce(FileJobResult) + Send + 'static) -> io::Result<()> {
        if self.thread.is_none() {
            // Unbounded, but a torrent has at most one job.
            let (sender, work) = unbounded::<FileWork>();
            let is_ending = self.is_ending.clone();
            let run = move || work.iter().for_each(|work| work(&is_ending));
            self.thread = Some((sender, thread::Builder::new().name("files".to_owned()).spawn(run)?));
        }
        if let Some((sender, _)) = &self.thread {
            let work = move |is_ending: &Flag| {
                let result = carry_out(&job, is_ending);
                // Otherwise the manager no longer receives the result, and the next start repeats the job.
                if !is_ending.is_set() {
                    done(result);
                }
            };
            let _ = sender.send(Box::new(work));
        }
        Ok(())
    }

    /// Interrupts the jobs that were started, and waits for their thread.
    pub fn stop(&mut self) {
        self.is_ending.set(true);
        if let Some((sender, thread)) = self.thread.take() {
            drop(sender);
            if thread.join().is_err() {
                log::error!("the thread of file jobs panicked");
            }
        }
    }
}

fn carry_out(job: &FileJob, stop: &Flag) -> FileJobResult {
    if stop.is_set() {
        return Err("the service ends".to_owned());
    }
    let Some(torrent_file) = &job.torrent_file else { return Ok(None) };
    let metainfo = read_metainfo(torrent_file).map_err(|error| format!("{}: {error}", torrent_file.display()))?;
    let was_complete = job.record.progress.is_complete && !job.record.needs_check;
    let torrent = IdleTorrent {
        private_folders: &job.private_folders,
        downloaded_torrents_folder: Some(&job.downloaded_torrents_folder),
        ..job.record.idle(&metainfo, &job.resume_folder)
    };
    let done = match &job.operation {
        FileOperation::Move(folder, renamed) => {
            torrent.move_to(FilesPlace { folder, renamed }, was_complete, stop).map(|()| None)
        }
        FileOperation::Remove { deletes_data: true } => torrent.delete(was_complete, stop).map(|kept| describe(&kept)),
        FileOperation::Remove { deletes_data: false } => torrent.forget().map(|()| None),
    };
    done.map_err(|error| error.to_string())
}

/// The files that were not deleted, in one line; `None` if there are none.
fn describe(kept: &[KeptFile]) -> Option<String> {
    let named: Vec<String> = kept.iter().take(MAX_NAMED).map(ToString::to_string).collect();
    let more = kept.len().saturating_sub(MAX_NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!kept.is_empty()).then(|| format!("{}{more}", named.join(", ")))
}
