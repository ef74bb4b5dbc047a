//! The stream of events of a service: what happens to its torrents, for everybody who listens.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use parking_lot::Mutex;

use crate::service::model::TorrentId;
use crate::torrent::Event;

/// Events that may wait for a listener; it loses those beyond.
const MAX_WAITING: usize = 256;
/// The most listeners.
const MAX_LISTENERS: usize = 256;

/// An event of a torrent.
#[derive(Clone, Debug)]
pub struct FeedEvent {
    /// The torrent.
    pub torrent: TorrentId,
    /// The event.
    pub event: Event,
}

/// See the module's documentation.
#[derive(Default)]
pub struct Feed {
    listeners: Mutex<Vec<Sender<Arc<FeedEvent>>>>,
}

impl Feed {
    /// Passes an event to all listeners that have room for it.
    pub fn send_event(&self, torrent: TorrentId, event: &Event) {
        let mut listeners = self.listeners.lock();
        if listeners.is_empty() {
            return;
        }
        let event = Arc::new(FeedEvent { torrent, event: event.clone() });
        listeners.retain(|listener| !matches!(listener.try_send(event.clone()), Err(TrySendError::Disconnected(_))));
    }

    /// Listens from now on; `None` if there are too many listeners.
    pub fn listen(&self) -> Option<Receiver<Arc<FeedEvent>>> {
        let mut listeners = self.listeners.lock();
        if listeners.len() >= MAX_LISTENERS {
            return None;
        }
        let (sender, receiver) = bounded(MAX_WAITING);
        listeners.push(sender);
        Some(receiver)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_listener_loses_events_and_one_that_left_is_forgotten() {
        let feed = Feed::default();
        let slow = feed.listen().expect("room");
        drop(feed.listen());
        (0..MAX_WAITING + 5).for_each(|_| feed.send_event(TorrentId(1), &Event::Completed));
        assert_eq!((slow.len(), feed.listeners.lock().len()), (MAX_WAITING, 1));
        let kept: Vec<_> = (0..MAX_LISTENERS).map(|_| feed.listen()).collect();
        assert!(kept.last().is_some_and(Option::is_none));
    }
}
