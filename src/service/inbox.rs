//! The way to the manager: requests that wait for their answers, and the request to end, which waits behind nothing.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select};

use crate::service::messages::{Answer, ControlRequest, ManagerMessage};
use crate::service::model::ControlError;
use crate::util::atomics::Flag;

/// How long a request may wait for the manager.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Nothing is sent on such a channel: its end is the news.
pub enum NoNews {}

/// See the module's documentation. Clones lead to the same manager.
#[derive(Clone)]
pub struct ManagerInbox {
    sender: Sender<ManagerMessage>,
    /// Disconnected once the manager answers no further request.
    ended: Receiver<NoNews>,
    is_ending: Arc<Flag>,
}

/// The manager's end of its inbox.
pub struct InboxReceiver {
    /// The messages.
    pub messages: Receiver<ManagerMessage>,
    /// Dropped once the manager answers no further request.
    pub alive: Option<Sender<NoNews>>,
    /// Set by [`ManagerInbox::shut_down`].
    pub is_ending: Arc<Flag>,
}

/// An inbox in which this many messages can wait.
pub fn inbox(capacity: usize) -> (ManagerInbox, InboxReceiver) {
    let (sender, messages) = bounded(capacity);
    let (alive, ended) = bounded(0);
    let is_ending = Arc::new(Flag::default());
    let inbox = ManagerInbox { sender, ended, is_ending: is_ending.clone() };
    (inbox, InboxReceiver { messages, alive: Some(alive), is_ending })
}

impl ManagerInbox {
    /// Has a request carried out, and waits for the answer.
    ///
    /// # Errors
    /// Those of the request; or the manager has ended, or does not answer in time.
    pub fn request(&self, request: ControlRequest) -> Result<Answer, ControlError> {
        let (reply, answer) = bounded(1);
        self.send(ManagerMessage::Request(request, reply), REQUEST_TIMEOUT)?;
        select! {
            recv(answer) -> answer => answer.map_err(|_| has_ended())?,
            // The answer may have come at the same time.
            recv(self.ended) -> _ => answer.try_recv().map_err(|_| has_ended())?,
            default(REQUEST_TIMEOUT) => Err(is_busy()),
        }
    }

    /// Sends a message, once there is room.
    ///
    /// # Errors
    /// If there is no room in time, or the manager has ended.
    pub fn send(&self, message: ManagerMessage, timeout: Duration) -> Result<(), ControlError> {
        select! {
            send(self.sender, message) -> sent => sent.map_err(|_| has_ended()),
            recv(self.ended) -> _ => Err(has_ended()),
            default(timeout) => Err(is_busy()),
        }
    }

    /// Sends a message if there is room. Returns whether there was.
    pub fn try_send(&self, message: ManagerMessage) -> bool {
        self.sender.try_send(message).is_ok()
    }

    /// Tells the manager to end, before it takes the next message.
    pub fn shut_down(&self) {
        self.is_ending.set(true);
        // Without room, it is awake.
        self.try_send(ManagerMessage::ShutDown);
    }

    /// Disconnected once the manager answers no further request.
    pub fn ended(&self) -> &Receiver<NoNews> {
        &self.ended
    }
}

fn is_busy() -> ControlError {
    ControlError::System("the service is busy".to_owned())
}

fn has_ended() -> ControlError {
    ControlError::System("the service ends".to_owned())
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn stop() -> ControlRequest {
        ControlRequest::Stop(Vec::new())
    }

    #[test]
    fn a_request_that_nobody_answers_any_more_ends_with_the_manager() {
        let (inbox, mut manager) = inbox(1);
        let asked = thread::spawn({
            let inbox = inbox.clone();
            move || inbox.request(stop())
        });
        while manager.messages.is_empty() {
            thread::yield_now();
        }
        let late = thread::spawn({
            let inbox = inbox.clone();
            move || inbox.request(stop())
        });
        // The message stays in the inbox, and a second one has no room.
        manager.alive = None;
        for request in [asked, late] {
            let failed = request.join().expect("no panic");
            assert_eq!(failed.expect_err("no answer"), has_ended());
        }
    }

    #[test]
    fn an_answer_counts_also_if_the_manager_ends_at_once() {
        for _ in 0..50 {
            let (inbox, mut manager) = inbox(1);
            let asked = thread::spawn(move || inbox.request(stop()));
            let Ok(ManagerMessage::Request(_, reply)) = manager.messages.recv() else { panic!("no request") };
            reply.send(Ok(Answer::Done)).expect("sent");
            manager.alive = None;
            assert!(asked.join().expect("no panic").is_ok());
        }
    }

    #[test]
    fn the_request_to_end_waits_behind_nothing() {
        let (inbox, manager) = inbox(1);
        assert!(inbox.try_send(ManagerMessage::ShutDown) && !inbox.try_send(ManagerMessage::ShutDown), "it is full");
        inbox.shut_down();
        assert!(manager.is_ending.is_set());
    }
}
