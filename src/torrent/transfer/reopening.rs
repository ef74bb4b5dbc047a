//! The end of a transfer that continues with other files: everything that concerns files ends as at a stop, while trackers, the
//! search for peers and the known addresses stay.

use crossbeam_channel::Receiver;

use crate::peer::TorrentMessage;
use crate::storage::StorageError;
use crate::torrent::peer_manager::{LoopEvent, PeerManager};
use crate::torrent::resume_store::skip_after_stop;
use crate::torrent::transfer::Transfer;
use crate::torrent::{Outcome, Stage};

/// How a transfer ended.
pub enum TransferEnd<'a> {
    /// The torrent has ended.
    Ended(Outcome),
    /// The program wants the files to be opened again; nothing writes to them, and the resume data is written.
    Reopen(Box<PeerManager<'a>>),
}

impl<'a> Transfer<'_, 'a> {
    /// Whether the transfer has to end because the program wants the files to be opened again. A stop comes first.
    pub(super) fn must_reopen(&self) -> bool {
        self.peer_manager.inner.reopening.is_requested()
    }

    /// Closes the connections, joins their threads and writes the resume data, as at a stop.
    pub(super) fn suspend(mut self, messages: &Receiver<TorrentMessage>) -> Result<TransferEnd<'a>, StorageError> {
        self.peer_manager.inner.set_stage(Stage::Checking);
        self.web_seeds.stop(self.context);
        self.peer_manager.close_for_reopening(self.context);
        std::mem::take(&mut self.web_seeds).join();
        // What the connections reported last, such as wrong data; and announces that have ended meanwhile.
        let waiting: Vec<TorrentMessage> = messages.try_iter().collect();
        for message in waiting {
            self.take(LoopEvent::Message(message));
        }
        let pieces = &self.context.pieces;
        if pieces.is_complete() && self.failure.is_none() {
            self.complete(); // the last block may have arrived just now
        }
        if !pieces.is_complete() {
            pieces.storage().record_complete_files(&pieces.to_resume().0);
        }
        if let Some(mut resume_store) = self.resume_store {
            resume_store.set_uploaded(self.context.payload.uploaded.get());
            let is_late = skip_after_stop(&*self.context.settings.run);
            resume_store.finish(pieces.storage(), pieces.to_resume(), is_late);
        }
        match self.failure {
            Some(error) => {
                self.peer_manager.shut_down(self.context, messages, || {});
                Err(error)
            }
            None => Ok(TransferEnd::Reopen(Box::new(self.peer_manager))),
        }
    }
}
