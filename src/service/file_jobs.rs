//! Moves, renames and deletes the files of torrents that do not run, one job after the other on a thread of its own.

use std::path::PathBuf;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Sender, unbounded};

use crate::types::InfoHash;

/// Whether a job is done; otherwise why not, in one line.
pub type JobResult = Result<(), String>;

/// What to do with the files of a torrent.
#[derive(Clone, Debug)]
pub struct FileJob {
    /// The torrent's .torrent; `None` if its metadata is not known, so that it has no files.
    pub torrent_file: Option<PathBuf>,
    /// Its info-hash.
    pub info_hash: InfoHash,
    /// The folder of its resume data.
    pub resume_folder: PathBuf,
    /// Folders to which nothing may be moved.
    pub private_folders: Vec<PathBuf>,
    /// The folder of its files.
    pub folder: PathBuf,
    /// Files with other paths than in the torrent.
    pub renamed: Vec<(u32, PathBuf)>,
    /// Files that get another path.
    pub renaming: Vec<(u32, PathBuf)>,
    /// Whether the torrent is removed, and whether with the files that btsync created.
    pub deletes: Option<bool>,
    /// The folder to which its files move.
    pub moves_to: Option<PathBuf>,
}

type Work = Box<dyn FnOnce() + Send>;

/// The thread of the jobs; started with the first one.
#[derive(Default)]
pub struct FileJobs {
    thread: Option<(Sender<Work>, JoinHandle<()>)>,
}

impl FileJobs {
    /// Starts a job once those before it are done; `done` gets the result.
    pub fn start(&mut self, job: FileJob, done: impl FnOnce(JobResult) + Send + 'static) {
        if self.thread.is_none() {
            // Unbounded, but a torrent has at most one job.
            let (sender, work) = unbounded::<Work>();
            let run = move || work.iter().for_each(|work| work());
            match thread::Builder::new().name("files".to_owned()).spawn(run) {
                Ok(thread) => self.thread = Some((sender, thread)),
                Err(error) => return done(Err(format!("no thread for it: {error}"))),
            }
        }
        if let Some((sender, _)) = &self.thread {
            let _ = sender.send(Box::new(move || done(carry_out(&job))));
        }
    }

    /// Waits for the jobs that were started.
    pub fn stop(&mut self) {
        if let Some((sender, thread)) = self.thread.take() {
            drop(sender);
            if thread.join().is_err() {
                log::error!("the thread of file jobs panicked");
            }
        }
    }
}

fn carry_out(job: &FileJob) -> JobResult {
    if job.torrent_file.is_none() || job.deletes == Some(false) {
        return Ok(());
    }
    Err("not built yet".to_owned())
}
