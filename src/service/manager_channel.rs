//! The channel to the manager: requests that wait for their answers, and the request to end, which waits behind nothing.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select};

use crate::service::messages::{Answer, ControlRequest, ManagerMessage};
use crate::service::model::ControlError;
use crate::util::atomics::Flag;

/// How long a request may wait for the manager.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// See the module's documentation. Clones lead to the same manager.
#[derive(Clone)]
pub struct ManagerSender {
    sender: Sender<ManagerMessage>,
    /// Disconnected once the manager answers no further request.
    ended: Receiver<Infallible>,
    is_ending: Arc<Flag>,
}

/// The manager's end of its channel.
pub struct ManagerReceiver {
    /// The messages.
    pub messages: Receiver<ManagerMessage>,
    /// Dropped once the manager answers no further request.
    pub alive: Option<Sender<Infallible>>,
    /// Set by [`ManagerSender::shut_down`].
    pub is_ending: Arc<Flag>,
}

/// A channel in which this many messages can wait.
pub fn manager_channel(capacity: usize) -> (ManagerSender, ManagerReceiver) {
    let (sender, messages) = bounded(capacity);
    let (alive, ended) = bounded(0);
    let is_ending = Arc::new(Flag::default());
    let to_manager = ManagerSender { sender, ended, is_ending: is_ending.clone() };
    (to_manager, ManagerReceiver { messages, alive: Some(alive), is_ending })
}

impl ManagerSender {
    /// Has a request carried out, and waits for the answer.
    ///
    /// # Errors
    /// Those of the request; or the manager has ended, or does not answer in time.
    pub fn request(&self, request: ControlRequest) -> Result<Answer, ControlError> {
        let (reply, answer) = bounded(1);
        self.send(ManagerMessage::Request(request, reply), REQUEST_TIMEOUT)?;
        select! {
            recv(answer) -> answer => answer.map_err(|_| ended_error())?,
            // The answer may have come at the same time.
            recv(self.ended) -> _ => answer.try_recv().map_err(|_| ended_error())?,
            default(REQUEST_TIMEOUT) => Err(busy_error()),
        }
    }

    /// Sends a message, once there is room.
    ///
    /// # Errors
    /// If there is no room in time, or the manager has ended.
    pub fn send(&self, message: ManagerMessage, timeout: Duration) -> Result<(), ControlError> {
        select! {
            send(self.sender, message) -> sent => sent.map_err(|_| ended_error()),
            recv(self.ended) -> _ => Err(ended_error()),
            default(timeout) => Err(busy_error()),
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
    pub fn ended(&self) -> &Receiver<Infallible> {
        &self.ended
    }
}

fn busy_error() -> ControlError {
    ControlError::System("the service is busy".to_owned())
}

fn ended_error() -> ControlError {
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
        let (sender, mut manager) = manager_channel(1);
        let asked = thread::spawn({
            let sender = sender.clone();
            move || sender.request(stop())
        });
        while manager.messages.is_empty() {
            thread::yield_now();
        }
        let late = thread::spawn({
            let sender = sender.clone();
            move || sender.request(stop())
        });
        // The message stays in the channel, and a second one has no room.
        manager.alive = None;
        for request in [asked, late] {
            let failed = request.join().expect("no panic");
            assert_eq!(failed.expect_err("no answer"), ended_error());
        }
    }

    #[test]
    fn an_answer_counts_also_if_the_manager_ends_at_once() {
        for _ in 0..50 {
            let (sender, mut manager) = manager_channel(1);
            let asked = thread::spawn(move || sender.request(stop()));
            let Ok(ManagerMessage::Request(_, reply)) = manager.messages.recv() else { panic!("no request") };
            reply.send(Ok(Answer::Done)).expect("sent");
            manager.alive = None;
            assert!(asked.join().expect("no panic").is_ok());
        }
    }

    #[test]
    fn the_request_to_end_waits_behind_nothing() {
        let (sender, manager) = manager_channel(1);
        assert!(sender.try_send(ManagerMessage::ShutDown) && !sender.try_send(ManagerMessage::ShutDown), "it is full");
        sender.shut_down();
        assert!(manager.is_ending.is_set());
    }
}
