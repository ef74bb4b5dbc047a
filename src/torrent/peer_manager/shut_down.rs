//! The end of a torrent: its trackers are told, and all connections and threads end.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Receiver;

use crate::peer::{DisconnectReason, PeerEvent, TorrentContext, TorrentMessage, TrackerEvent};
use crate::torrent::final_announce;
use crate::torrent::peer_manager::PeerManager;

impl PeerManager<'_> {
    /// Stops discovery, tells trackers, closes all connections and joins every thread except those that wait for a silent
    /// tracker. Runs `meanwhile` once the connections are closed.
    pub fn shut_down(
        mut self,
        context: &Arc<TorrentContext>,
        messages: &Receiver<TorrentMessage>,
        meanwhile: impl FnOnce(),
    ) {
        self.take_back();
        // The peers first: nothing more is received or sent while the trackers are told.
        context.end_connections();
        self.registration.close();
        self.connections.values().for_each(|entry| entry.connection.close());
        let deadline = Instant::now() + final_announce::FINAL_ANNOUNCE_TIMEOUT;
        let is_quiet = self.inner.is_quiet.is_set();
        if !is_quiet {
            self.drain_announces(context, messages);
        }
        let announce_stopped = (!is_quiet).then(|| self.announcer.announce_stopped(context, deadline));
        self.publish_no_announces();
        self.inner.peers.sources.lock().clear();
        self.report_disconnected(self.connections.values(), &DisconnectReason::ClosedByUs.to_string());
        final_announce::close_connections(self.connections.into_values().map(|entry| entry.connection).collect());
        meanwhile();
        self.discovery.stop(&self.registration);
        drop((self.registration, self.active_in_group));
        if let Some(announces) = announce_stopped {
            announces.wait();
        }
    }

    /// Only a tracker that has answered `started` is sent `stopped`, so a tracker with a pending request gets a moment to
    /// answer. A tracker that is owed a `completed` gets it first.
    fn drain_announces(&mut self, context: &Arc<TorrentContext>, messages: &Receiver<TorrentMessage>) {
        let deadline = Instant::now() + final_announce::FINAL_ANNOUNCE_TIMEOUT / 3;
        while Instant::now() < deadline {
            if self.announcer.has_unsent_completed() {
                self.announcer.start_due(context, context.now(), false, false);
            }
            if !self.announcer.is_busy() {
                return;
            }
            match messages.recv_deadline(deadline) {
                Ok(TorrentMessage::Tracker(TrackerEvent::Announced { url, result })) => {
                    self.handle_announce_result(context.now(), &url, *result);
                }
                Ok(TorrentMessage::Peer(PeerEvent::Disconnected { key, addr, why })) => {
                    self.connection_ended(context, key, addr, &why);
                }
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }
}
