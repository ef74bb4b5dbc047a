//! The writer: takes commands from its channel, combines messages into as few writes as possible, and serves blocks from disk.
//!
//! Adjacent blocks are read with one aligned read and sent with their headers in one `writev`, as many as the socket takes at
//! once ([`WriteBatchSize`]). Other messages leave between two such writes. HAVEs leave with the next write, or shortly after
//! the first of them at the latest; [`SendSchedule`] decides when.
//!
//! A writer whose socket takes nothing holds no large buffer (`peer::socket_write`): blocks that have not left go back into the
//! queue, and the rest of a block that has partly left is read again, in small parts, when the socket takes more.

mod queue;
mod serve;

use std::collections::VecDeque;
use std::io;
use std::time::Instant;

use crossbeam_channel::RecvTimeoutError;
use socket2::SockRef;

use crate::mse::Rc4;
use crate::peer::TorrentContext;
use crate::peer::outbox::{Inbox, WriterCommand};
use crate::peer::send_gate::SendGate;
use crate::peer::socket_write::write_all_or_time_out;
use crate::peer::state::Peer;
use crate::peer::throttle::UploadAllowance;
use crate::strategy::metadata_fetch::MetadataQuota;
use crate::strategy::send_schedule::SendSchedule;
use crate::strategy::write_batch::WriteBatchSize;
use crate::types::BlockInfo;
use crate::udp::PeerStream;
use crate::util::slab::PooledSlab;
use crate::wire::message;

/// Messages are collected up to this many bytes; the rest stays in the outbox, which is bounded.
const MAX_MESSAGES_BYTES: usize = 64 * 1024;

/// How a writer ended if there was no error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriterExit {
    /// The connection ended.
    Closed,
    /// The connection stays open; everything that was queued has been written.
    Detached,
}

/// The sending side of one connection.
pub struct Writer<'a> {
    context: &'a TorrentContext,
    peer: &'a Peer,
    stream: &'a PeerStream,
    /// Messages without blocks, ready to be sent.
    messages: Vec<u8>,
    /// Blocks that the peer waits for, oldest first.
    queue: VecDeque<BlockInfo>,
    /// Whether the peer is choked, as far as it has been told.
    is_choking: bool,
    /// The number of rejects in `messages`.
    rejects: u32,
    /// When HAVEs and keep-alives must be sent.
    schedule: SendSchedule,
    /// The metadata pieces that the peer was sent.
    served: MetadataQuota,
    /// How many blocks to write at once, by how fast the socket takes them.
    batch_size: WriteBatchSize,
    /// The room that the connection has for the next blocks.
    send_gate: SendGate,
    /// What the rate limiter allows for blocks.
    allowance: UploadAllowance,
    /// Held while there is something to serve.
    slab: Option<PooledSlab>,
    /// Encrypts the bytes, on an encrypted connection: in place and in the order in which they leave.
    cipher: Option<Rc4>,
    /// Whether the writer has to end without closing the connection.
    is_detaching: bool,
}

impl<'a> Writer<'a> {
    /// A writer that has sent nothing after the handshake.
    pub fn new(context: &'a TorrentContext, peer: &'a Peer, stream: &'a PeerStream, cipher: Option<Rc4>) -> Writer<'a> {
        Writer {
            context,
            peer,
            stream,
            messages: Vec::new(),
            queue: VecDeque::new(),
            is_choking: true,
            rejects: 0,
            schedule: SendSchedule::new(Instant::now(), context.pieces.piece_count()),
            served: MetadataQuota::default(),
            batch_size: WriteBatchSize::default(),
            send_gate: SendGate::new(stream),
            allowance: UploadAllowance::default(),
            slab: None,
            cipher,
            is_detaching: false,
        }
    }

    /// Works until the connection or only its threads end. Sends `first_messages` first.
    ///
    /// # Errors
    /// If the socket does not take what is written.
    pub fn run(&mut self, inbox: &Inbox, first_messages: Vec<u8>) -> io::Result<WriterExit> {
        self.messages = first_messages;
        self.limit_unsent();
        loop {
            if self.is_idle() {
                if self.queue.is_empty() {
                    self.slab = None;
                    self.allowance.give_back(&self.context.settings.throttle, self.peer.key);
                }
                if !self.wait(inbox) {
                    return self.end();
                }
            }
            while self.messages.len() < MAX_MESSAGES_BYTES
                && let Ok(command) = inbox.try_recv()
            {
                if !self.take(command) {
                    return self.end();
                }
            }
            if self.may_serve() && !self.send_gate.is_ready() {
                self.send_messages()?;
                self.send_gate.wait_for_room(self.context, self.peer, self.stream, &mut self.slab)?;
                continue; // messages queued meanwhile leave before the next block
            }
            self.write()?;
        }
    }

    fn end(&mut self) -> io::Result<WriterExit> {
        if !self.is_detaching {
            return Ok(WriterExit::Closed);
        }
        self.write()?;
        Ok(WriterExit::Detached)
    }

    /// The cipher for the bytes that are written next, on an encrypted connection.
    pub fn into_cipher(self) -> Option<Rc4> {
        self.cipher
    }

    /// Whether there is nothing to write now.
    fn is_idle(&self) -> bool {
        self.messages.is_empty() && !self.may_serve()
    }

    /// Whether the rate limit and the send window allow a block now.
    fn may_serve(&self) -> bool {
        !self.queue.is_empty() && self.pending_deadline().is_none()
    }

    /// Until when no block may be sent; `None` if one may be sent now.
    fn pending_deadline(&self) -> Option<Instant> {
        self.allowance.pending_deadline(Instant::now).max(self.send_gate.pending_deadline(Instant::now))
    }

    /// Sleeps until there is something to write; false if the writer has to end.
    fn wait(&mut self, inbox: &Inbox) -> bool {
        while self.is_idle() {
            let scheduled = self.schedule.next_due();
            // Not `pending_deadline`: if its time has just passed it gives none, and the next message may be a minute away.
            let blocks = self.allowance.deadline().max(self.send_gate.deadline()).filter(|_| !self.queue.is_empty());
            let deadline = blocks.map_or(scheduled, |at| at.min(scheduled));
            match inbox.recv_deadline(deadline) {
                Ok(command) => {
                    if !self.take(command) {
                        return false;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => {
                    let now = Instant::now();
                    if self.schedule.is_batch_due(now) {
                        self.gather_haves();
                    }
                    if self.messages.is_empty() && self.schedule.is_keep_alive_due(now) {
                        message::write_keep_alive(&mut self.messages);
                    }
                }
            }
        }
        true
    }

    /// Prepares what the command asks for; false if the writer has to end.
    fn take(&mut self, command: WriterCommand) -> bool {
        match command {
            WriterCommand::SendRequests => self.write_requests(),
            WriterCommand::Cancel(block) => message::write_cancel(&mut self.messages, block),
            WriterCommand::Serve(batch) => {
                self.queue.extend(batch);
                if self.is_choking {
                    self.drop_queue(); // requested before the peer received the choke
                }
            }
            WriterCommand::Withdraw(batch) => self.withdraw(batch),
            WriterCommand::SetChoke { is_choked } => {
                self.is_choking = is_choked;
                message::write_choke(&mut self.messages, is_choked);
                if is_choked {
                    self.drop_queue();
                }
            }
            WriterCommand::Reject(batch) => {
                self.rejects += batch.len() as u32;
                for block in batch {
                    message::write_reject(&mut self.messages, block);
                }
            }
            WriterCommand::AllowedFast(pieces) => {
                for piece in pieces {
                    message::write_allowed_fast(&mut self.messages, piece);
                }
            }
            WriterCommand::Extended(id, payload) => {
                // libtorrent disconnects on `upload_only` unless it has been told of a piece that it lacks.
                self.gather_haves();
                message::write_extended(&mut self.messages, id, &payload);
            }
            WriterCommand::Metadata(piece) => self.write_metadata(piece),
            WriterCommand::SetInterest { is_interested } => {
                message::write_interested(&mut self.messages, is_interested);
            }
            WriterCommand::Haves => {
                self.schedule.queue_have(Instant::now(), self.context.pieces.peer_is_seed(self.peer.key));
            }
            WriterCommand::Detach => {
                self.is_detaching = true;
                return false;
            }
            WriterCommand::End => return false,
        }
        true
    }

    /// Writes the requests that the pipeline wants to make and to cancel now.
    fn write_requests(&mut self) {
        let (mut cancels, mut batch) = (Vec::new(), Vec::new());
        self.peer.take_requests(self.context.now(), &mut cancels, &mut batch);
        for block in cancels {
            message::write_cancel(&mut self.messages, block);
        }
        if !batch.is_empty() {
            self.context.settings.throttle.client.uplink.note_download();
        }
        for block in batch {
            message::write_request(&mut self.messages, block);
        }
    }

    /// Answers a request for a metadata piece.
    fn write_metadata(&mut self, piece: u32) {
        self.peer.serving.pending_metadata.sub(1);
        let id = self.peer.extensions.metadata_id.get();
        let info = self.context.info.get().map(AsRef::as_ref);
        if id != 0 {
            let (now, ip) = (self.context.now(), self.peer.addr.ip());
            let may_host = |most| self.context.metadata_quota.lock().take(now, ip, most);
            message::write_extended(&mut self.messages, id, &self.served.answer(info, piece, may_host).encode());
        }
    }

    /// Adds the waiting HAVEs to the messages that leave next.
    fn gather_haves(&mut self) {
        if self.schedule.take_batch(Instant::now()) {
            for piece in self.peer.take_haves() {
                message::write_have(&mut self.messages, piece);
            }
        }
    }

    /// Writes all messages, and one batch of blocks if the limit allows it.
    fn write(&mut self) -> io::Result<()> {
        let run = self.next_run();
        if run.is_empty() {
            self.send_gate.close(); // check again before the next block
            return self.send_messages();
        }
        self.gather_haves();
        self.encrypt_messages();
        self.serve(&run)?;
        self.messages_sent();
        Ok(())
    }

    /// Writes the waiting messages, without blocks.
    fn send_messages(&mut self) -> io::Result<()> {
        if self.messages.is_empty() {
            return Ok(());
        }
        self.gather_haves();
        self.encrypt_messages();
        write_all_or_time_out(self.stream, &self.messages)?;
        self.messages_sent();
        Ok(())
    }

    fn encrypt_messages(&mut self) {
        if let Some(cipher) = &mut self.cipher {
            cipher.apply(&mut self.messages);
        }
    }

    fn messages_sent(&mut self) {
        self.messages.clear();
        if self.rejects > 0 {
            self.peer.serving.pending_rejects.sub(std::mem::take(&mut self.rejects));
        }
        self.schedule.wrote(Instant::now());
    }

    /// Limits the unsent bytes that the kernel queues, because later messages wait behind them.
    fn limit_unsent(&self) {
        // Without this option, the kernel queues as many bytes as its buffer holds.
        let _ = SockRef::from(self.stream).set_tcp_notsent_lowat(self.batch_size.unsent());
    }
}
