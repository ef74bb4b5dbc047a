//! Server-sent events: one publisher, many listeners. A listener that reads slowly loses events, and is told how many.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::http_server::source::{BodySource, Pulled, Waker};

/// The most events that wait for one listener.
const MAX_WAITING_EVENTS: usize = 1024;
/// The most bytes of events that wait for one listener. A longer event is lost. Listeners share the bytes of an event, so that all of
/// them together hold little more than the slowest.
pub(crate) const MAX_WAITING_BYTES: usize = 4 << 20;
/// The name of the event that says how many events a listener has lost.
pub const LOST_EVENT: &str = "lost";
/// A comment, which keeps a silent connection alive.
const HEARTBEAT: &[u8] = b":\n\n";

/// Sends events to all listeners. Clones send to the same listeners.
#[derive(Clone, Debug, Default)]
pub struct EventBroadcast {
    listeners: Arc<Mutex<Vec<Weak<Mutex<EventQueue>>>>>,
}

/// The events that wait for one listener.
#[derive(Debug, Default)]
struct EventQueue {
    waiting: VecDeque<Arc<[u8]>>,
    bytes: usize,
    /// The number of events lost since the listener was told.
    lost: u64,
    is_ended: bool,
    waker: Option<Waker>,
}

/// One listener's subscription: a body for [`Response::events`](crate::http_server::Response::events). Dropping it ends it.
#[derive(Debug)]
pub struct EventSubscription {
    queue: Arc<Mutex<EventQueue>>,
    /// The rest of an event that was longer than one pull.
    rest: Option<(Arc<[u8]>, usize)>,
}

impl EventBroadcast {
    /// A new listener, which gets all events from now on.
    pub fn subscribe(&self) -> EventSubscription {
        let queue = Arc::default();
        let mut listeners = self.listeners.lock();
        listeners.retain(|listener| listener.strong_count() > 0);
        listeners.push(Arc::downgrade(&queue));
        EventSubscription { queue, rest: None }
    }

    /// Sends an event to all listeners; never waits for them. `name` is the event's type, empty for none; line breaks in `data` are
    /// kept.
    pub fn publish(&self, name: &str, data: &str) {
        let mut listeners = self.listeners.lock();
        if listeners.is_empty() {
            return;
        }
        let event = encode(name, data);
        listeners.retain(|listener| {
            let queue = listener.upgrade();
            queue.inspect(|queue| queue.lock().push(&event)).is_some()
        });
    }

    /// Ends the streams of all listeners, after the events that wait.
    pub fn end(&self) {
        for queue in self.listeners.lock().drain(..).filter_map(|listener| listener.upgrade()) {
            let mut queue = queue.lock();
            queue.is_ended = true;
            queue.wake();
        }
    }

    /// The number of listeners.
    pub fn listeners(&self) -> usize {
        self.listeners.lock().iter().filter(|listener| listener.strong_count() > 0).count()
    }
}

impl EventQueue {
    /// Adds an event. If there is no room, the queue drops the oldest ones.
    fn push(&mut self, event: &Arc<[u8]>) {
        if event.len() > MAX_WAITING_BYTES {
            self.lost += 1;
        } else {
            while self.waiting.len() >= MAX_WAITING_EVENTS || self.bytes + event.len() > MAX_WAITING_BYTES {
                let Some(oldest) = self.waiting.pop_front() else { break };
                self.bytes -= oldest.len();
                self.lost += 1;
            }
            self.waiting.push_back(Arc::clone(event));
            self.bytes += event.len();
        }
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The next event. Those that were lost are older than all that wait.
    fn pop(&mut self) -> Option<Arc<[u8]>> {
        if self.lost > 0 {
            return Some(encode(LOST_EVENT, &std::mem::take(&mut self.lost).to_string()));
        }
        let event = self.waiting.pop_front()?;
        self.bytes -= event.len();
        Some(event)
    }
}

impl BodySource for EventSubscription {
    fn pull(&mut self, max: usize, out: &mut Vec<u8>, waker: &Waker) -> io::Result<Pulled> {
        let start = out.len();
        let mut queue = self.queue.lock();
        while let Some(room) = max.checked_sub(out.len() - start).filter(|room| *room > 0) {
            let Some((event, sent)) = self.rest.take().or_else(|| queue.pop().map(|event| (event, 0))) else { break };
            let part = event.get(sent..event.len().min(sent.saturating_add(room))).unwrap_or_default();
            out.extend_from_slice(part);
            let sent = sent + part.len();
            self.rest = (sent < event.len()).then_some((event, sent));
        }
        if out.len() > start {
            return Ok(Pulled::Data);
        }
        if queue.is_ended {
            return Ok(Pulled::End);
        }
        queue.waker = Some(waker.clone());
        Ok(Pulled::Pending)
    }

    fn may_block(&self) -> bool {
        false
    }

    fn heartbeat(&self) -> Option<&'static [u8]> {
        Some(HEARTBEAT)
    }
}

/// An event in the format of the HTML standard.
fn encode(name: &str, data: &str) -> Arc<[u8]> {
    let mut text = String::with_capacity(name.len() + data.len() + 32);
    if !name.is_empty() {
        text.push_str("event: ");
        text.extend(name.chars().filter(|c| !matches!(c, '\r' | '\n')));
        text.push('\n');
    }
    for line in data.replace("\r\n", "\n").split(['\r', '\n']) {
        text.push_str("data: ");
        text.push_str(line);
        text.push('\n');
    }
    text.push('\n');
    text.into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http_server::mailbox::{ConnectionMessage, Mailbox};

    /// All that a listener gets at once, and how the pull ends.
    fn pull(listener: &mut EventSubscription, max: usize, waker: &Waker) -> (String, Pulled) {
        let mut out = Vec::new();
        let pulled = listener.pull(max, &mut out, waker).unwrap();
        assert!(out.len() <= max && (out.is_empty() == (pulled != Pulled::Data)));
        (String::from_utf8(out).unwrap(), pulled)
    }

    fn waker() -> (Arc<Mailbox>, Waker) {
        let mailbox = Arc::new(Mailbox::new().unwrap());
        let waker = Waker::new(&mailbox, 7);
        (mailbox, waker)
    }

    #[test]
    fn each_listener_gets_each_event_from_its_start_on() {
        let (mailbox, waker) = waker();
        let broadcast = EventBroadcast::default();
        broadcast.publish("early", "lost to nobody");
        let (mut one, mut two) = (broadcast.subscribe(), broadcast.subscribe());
        assert_eq!((broadcast.listeners(), pull(&mut one, 100, &waker).1), (2, Pulled::Pending));
        broadcast.publish("na\nme", "a\nb\r\nc\rd");
        assert!(matches!(mailbox.take()[..], [ConnectionMessage::Woken(7)]));
        let event = "event: name\ndata: a\ndata: b\ndata: c\ndata: d\n\n";
        assert_eq!(pull(&mut one, 100, &waker), (event.into(), Pulled::Data));
        assert_eq!(pull(&mut two, 100, &waker), (event.into(), Pulled::Data));
        drop(one);
        broadcast.publish("", "long");
        broadcast.end();
        let mut parts = String::new();
        while let (part, Pulled::Data) = pull(&mut two, 3, &waker) {
            parts += &part;
        }
        assert_eq!((parts.as_str(), pull(&mut two, 3, &waker).1), ("data: long\n\n", Pulled::End));
        assert_eq!(broadcast.listeners(), 0);
    }

    #[test]
    fn a_slow_listener_loses_the_oldest_events_and_learns_how_many() {
        let (_mailbox, waker) = waker();
        let broadcast = EventBroadcast::default();
        let mut slow = broadcast.subscribe();
        (0..MAX_WAITING_EVENTS + 5).for_each(|n| broadcast.publish("", &n.to_string()));
        let (text, _) = pull(&mut slow, usize::MAX / 2, &waker);
        assert!(text.starts_with("event: lost\ndata: 5\n\ndata: 5\n\ndata: 6\n\n"), "{}", &text[..60]);
        let large = "x".repeat(MAX_WAITING_BYTES / 10);
        (0..1000).for_each(|_| broadcast.publish("", &large));
        assert!(slow.queue.lock().bytes <= MAX_WAITING_BYTES);
        broadcast.publish("", &large.repeat(11));
        let (text, _) = pull(&mut slow, usize::MAX / 2, &waker);
        assert!(text.starts_with("event: lost\ndata: 992\n\ndata: x"), "{}", &text[..60]);
        assert_eq!(pull(&mut slow, 10, &waker).1, Pulled::Pending);
    }
}
