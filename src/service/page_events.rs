//! The event stream of the page: all torrents at first, then whatever changes, once a second at most.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::{Map, Value};

use crate::http_server::{BodySource, EventBroadcast, EventSubscription, Pulled, Response, Waker};
use crate::service::model::{Control, TorrentId, UnixTime};
use crate::service::rpc::torrents_event::torrents_event;
use crate::torrent::Event;
use crate::types::InfoHash;

/// The name of the event.
const EVENT: &str = "torrents";
/// The name of the event with a line of `--json`.
const LOG_EVENT: &str = "log";

/// See the module's documentation.
#[derive(Default)]
pub struct PageEvents {
    broadcast: EventBroadcast,
    /// The time of each torrent's last change that an event has reported.
    last_sent: Mutex<BTreeMap<TorrentId, Instant>>,
}

impl PageEvents {
    /// A stream for one listener.
    pub fn stream(&self, control: &dyn Control) -> Response {
        // First the subscription: nothing that happens in between may be lost.
        let subscription = self.broadcast.subscribe();
        let list = torrents_event(control, None, &[], UnixTime::now());
        // As large as needed: it stays in memory until a slow client has read it.
        let start = [format!("event: {EVENT}\ndata: ").as_bytes(), &list, b"\n\n"].concat();
        Response::events(StreamWithStart { start, sent: 0, subscription })
    }

    /// Whether anybody listens.
    pub fn has_listeners(&self) -> bool {
        self.broadcast.listeners() > 0
    }

    /// Sends all listeners what has changed: torrents by the time of their last change, and whether the session has.
    pub fn publish_changes(&self, control: &dyn Control, changed: &[(TorrentId, Instant)], has_session_changed: bool) {
        let mut last_sent = self.last_sent.lock();
        let present: BTreeMap<TorrentId, Instant> = changed.iter().copied().collect();
        let removed: Vec<TorrentId> = last_sent.keys().filter(|id| !present.contains_key(id)).copied().collect();
        let ids: Vec<TorrentId> =
            changed.iter().filter(|(id, at)| last_sent.get(id) != Some(at)).map(|(id, _)| *id).collect();
        *last_sent = present;
        drop(last_sent);
        if ids.is_empty() && removed.is_empty() && !has_session_changed {
            return;
        }
        let data = torrents_event(control, Some(&ids), &removed, UnixTime::now());
        self.broadcast.publish(EVENT, &String::from_utf8_lossy(&data));
    }

    /// Sends all listeners an event of a torrent, as a line of `--json`.
    pub fn publish_log_line(&self, event: &Event, info_hash: InfoHash, name: &str, since_start: Duration) {
        if !self.has_listeners() {
            return;
        }
        let Some((kind, fields)) = event.json_value() else { return };
        let mut line = Map::new();
        line.insert("event".to_owned(), kind.into());
        line.insert("time".to_owned(), ((since_start.as_secs_f64() * 1000.0).round() / 1000.0).into());
        if let Value::Object(fields) = fields {
            line.extend(fields);
        }
        line.insert("info_hash".to_owned(), info_hash.hex().into());
        line.insert("name".to_owned(), name.into());
        self.broadcast.publish(LOG_EVENT, &Value::Object(line).to_string());
    }

    /// Ends all streams.
    pub fn end(&self) {
        self.broadcast.end();
    }
}

/// A stream that begins with an event of its own.
struct StreamWithStart {
    start: Vec<u8>,
    sent: usize,
    subscription: EventSubscription,
}

impl BodySource for StreamWithStart {
    fn pull(&mut self, max: usize, out: &mut Vec<u8>, waker: &Waker) -> io::Result<Pulled> {
        let rest = self.start.get(self.sent..).unwrap_or_default();
        if rest.is_empty() {
            return self.subscription.pull(max, out, waker);
        }
        let part = rest.get(..max.min(rest.len())).unwrap_or_default();
        out.extend_from_slice(part);
        self.sent += part.len();
        if self.sent >= self.start.len() {
            (self.start, self.sent) = (Vec::new(), 0);
        }
        Ok(Pulled::Data)
    }

    fn may_block(&self) -> bool {
        false
    }

    fn held_bytes(&self) -> usize {
        self.start.len()
    }

    fn heartbeat(&self) -> Option<&'static [u8]> {
        self.subscription.heartbeat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http_server::test_waker;

    #[test]
    fn the_list_at_the_start_counts_until_it_is_sent() {
        let subscription = EventBroadcast::default().subscribe();
        let mut stream = StreamWithStart { start: b"0123456789".to_vec(), sent: 0, subscription };
        let (mut out, waker) = (Vec::new(), test_waker());
        assert_eq!(stream.pull(6, &mut out, &waker).expect("pulled"), Pulled::Data);
        assert_eq!(stream.held_bytes(), 10);
        assert_eq!(stream.pull(6, &mut out, &waker).expect("pulled"), Pulled::Data);
        assert_eq!((out.as_slice(), stream.held_bytes()), (&b"0123456789"[..], 0));
        assert_eq!(stream.pull(6, &mut out, &waker).expect("pulled"), Pulled::Pending);
    }
}
