//! The queue in front of a peer's writer, bounded in bytes.
//!
//! Pushing never blocks, because the thread that pushes may hold a lock or be another peer's reader. Instead, a peer that lets
//! the queue fill up, because it does not read while it makes us answer, is disconnected.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, unbounded};

use crate::types::{BlockInfo, PieceIndex};
use crate::util::atomics::{Amount, Flag};

/// Bytes that can wait for one writer. An honest peer has at most 2000 requests, 2000 rejects and 2000 metadata requests waiting,
/// each in a message of its own: less than this.
const MAX_BYTES: usize = 384 * 1024;

/// A command to a connection's writer.
#[derive(Debug)]
pub enum WriterCommand {
    /// There are requests to write; see `RequestPipeline::take_unwritten`.
    SendRequests,
    /// Cancel one of our requests.
    Cancel(BlockInfo),
    /// Serve these blocks.
    Serve(Vec<BlockInfo>),
    /// The peer has cancelled its requests for these blocks.
    Withdraw(Vec<BlockInfo>),
    /// Send a choke, and drop the peer's requests; or send an unchoke.
    SetChoke { is_choked: bool },
    /// Tell the peer whether we are interested.
    SetInterest { is_interested: bool },
    /// Tell a fast peer that these requests will not be answered; counted in `ServeCounters::pending_rejects`.
    Reject(Vec<BlockInfo>),
    /// Tell the peer that it may request these pieces although it is choked.
    AllowedFast(Vec<PieceIndex>),
    /// Send a message of the extension protocol with this id and payload.
    Extended(u8, Vec<u8>),
    /// The peer requests this piece of our metadata; counted in `ServeCounters::pending_metadata`.
    Metadata(u32),
    /// There are HAVEs to send, soon but not at once.
    Haves,
    /// Write everything that waits, then end without closing the connection.
    Detach,
    /// End the connection.
    End,
}

impl WriterCommand {
    /// The bytes that the command takes in the queue.
    fn cost(&self) -> usize {
        let payload = match self {
            WriterCommand::Serve(blocks) | WriterCommand::Withdraw(blocks) | WriterCommand::Reject(blocks) => {
                size_of_val(blocks.as_slice())
            }
            WriterCommand::AllowedFast(pieces) => size_of_val(pieces.as_slice()),
            WriterCommand::Extended(_, payload) => payload.len(),
            _ => 0,
        };
        size_of::<WriterCommand>() + payload
    }
}

/// The sending end.
#[derive(Debug)]
pub struct Outbox {
    sender: Sender<WriterCommand>,
    waiting: Arc<Amount>,
    overrun: Flag,
}

/// The writer's end.
#[derive(Debug)]
pub struct Inbox {
    receiver: Receiver<WriterCommand>,
    waiting: Arc<Amount>,
}

/// Creates both ends of a queue for one writer.
pub fn outbox() -> (Outbox, Inbox) {
    // Bounded: `Outbox::push` counts the bytes in it.
    let (sender, receiver) = unbounded();
    let waiting = Arc::new(Amount::default());
    (Outbox { sender, waiting: waiting.clone(), overrun: Flag::default() }, Inbox { receiver, waiting })
}

impl Outbox {
    /// Queues a command for the writer, which may have ended. Returns false if the queue is full: the command is lost, and the
    /// caller has to end the connection.
    pub fn push(&self, command: WriterCommand) -> bool {
        let cost = command.cost();
        let before = self.waiting.add(cost);
        if before + cost > MAX_BYTES && !matches!(command, WriterCommand::End | WriterCommand::Detach) {
            self.waiting.sub(cost);
            self.overrun.set(true);
            return false;
        }
        let _ = self.sender.send(command);
        true
    }

    /// Whether a command was lost because the queue was full.
    pub fn has_overrun(&self) -> bool {
        self.overrun.is_set()
    }
}

impl Inbox {
    /// The next command, if one waits.
    ///
    /// # Errors
    /// If none waits.
    pub fn try_recv(&self) -> Result<WriterCommand, TryRecvError> {
        self.receiver.try_recv().inspect(|command| self.taken(command))
    }

    /// Waits until `deadline` for the next command.
    ///
    /// # Errors
    /// If none arrived.
    pub fn recv_deadline(&self, deadline: Instant) -> Result<WriterCommand, RecvTimeoutError> {
        self.receiver.recv_deadline(deadline).inspect(|command| self.taken(command))
    }

    fn taken(&self, command: &WriterCommand) {
        self.waiting.sub(command.cost());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(outbox: &Outbox, message: impl Fn() -> WriterCommand) -> usize {
        (0..1_000_000).take_while(|_| outbox.push(message())).count()
    }

    #[test]
    fn the_queue_is_bounded_in_bytes_for_every_command() {
        let block = BlockInfo { piece: PieceIndex(0), begin: 0, length: 1 };
        let messages: [&dyn Fn() -> WriterCommand; 5] = [
            &|| WriterCommand::SetChoke { is_choked: true },
            &|| WriterCommand::Withdraw(vec![block; 10]),
            &|| WriterCommand::Reject(vec![block; 100]),
            &|| WriterCommand::Extended(1, vec![0; 1000]),
            &|| WriterCommand::AllowedFast(vec![PieceIndex(0); 10]),
        ];
        for message in messages {
            let (outbox, inbox) = outbox();
            let count = fill(&outbox, message);
            assert!(count > 0 && count * message().cost() <= MAX_BYTES && outbox.has_overrun());
            assert!(outbox.push(WriterCommand::Detach) && outbox.push(WriterCommand::End), "the end is always heard");
            assert_eq!(std::iter::from_fn(|| inbox.try_recv().ok()).count(), count + 2);
            assert_eq!(outbox.waiting.get(), 0);
        }
    }

    #[test]
    fn an_honest_peer_that_reads_nothing_for_a_while_has_room() {
        let block = BlockInfo { piece: PieceIndex(0), begin: 0, length: 1 };
        let (outbox, _inbox) = outbox();
        for _ in 0..crate::wire::extension::OUR_REQUEST_QUEUE {
            assert!(outbox.push(WriterCommand::Serve(vec![block])) && outbox.push(WriterCommand::Reject(vec![block])));
            assert!(outbox.push(WriterCommand::Metadata(0)));
        }
    }
}
