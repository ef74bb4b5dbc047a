//! The blocks that a connection receives: counts them, measures the peer, requests more, and passes the blocks on to a
//! [`BlockSink`], which writes and hashes them. On the reader's thread.

use std::ops::Range;
use std::time::Duration;

use crate::peer::TorrentContext;
use crate::peer::block_sink::BlockSink;
use crate::peer::connection::DisconnectReason;
use crate::peer::state::Peer;
use crate::types::BlockInfo;
use crate::wire::message::PIECE_HEADER_LENGTH;

/// The message id of PIECE, which carries a block.
const PIECE_ID: u8 = 7;

/// The block path of one connection.
pub struct BlockReceiver<'a> {
    context: &'a TorrentContext,
    peer: &'a Peer,
    /// The block noted last.
    last: Option<BlockInfo>,
    /// What becomes of the blocks.
    sink: BlockSink<'a>,
    /// Bytes of all blocks received.
    received: u64,
}

/// The result of one `take`.
pub enum BlocksOutcome {
    /// There were no blocks.
    Nothing,
    /// How many blocks had been requested, at least one.
    Useful(u32),
    /// No block had been requested: how many blocks there were, and how many of their bytes exceed everything ever requested
    /// from the peer.
    Useless(u32, u64),
}

impl<'a> BlockReceiver<'a> {
    /// A receiver that has received nothing yet.
    pub fn new(context: &'a TorrentContext, peer: &'a Peer) -> BlockReceiver<'a> {
        let sink = BlockSink::new(context, peer.key);
        BlockReceiver { context, peer, last: None, sink, received: 0 }
    }

    /// Notes a block whose bytes are at `range` of the buffer that `take` will get.
    pub fn note(&mut self, block: BlockInfo, range: Range<usize>) {
        self.last = Some(block);
        self.sink.note(block, range);
    }

    /// The offset in the torrent at which the next block starts if it follows the last one; `None` before the first block.
    pub fn next_offset(&self) -> Option<u64> {
        let layout = self.context.pieces.storage().layout();
        self.last.map(|last| layout.offset(last.piece, last.begin) + u64::from(last.length))
    }

    /// Writes and hashes the noted blocks.
    ///
    /// # Errors
    /// If the disk fails; main has then been told.
    pub fn take(&mut self, bytes: &[u8]) -> Result<BlocksOutcome, DisconnectReason> {
        if self.sink.blocks.is_empty() {
            return Ok(BlocksOutcome::Nothing);
        }
        self.sink.accept();
        let unrequested_bytes = self.unrequested_bytes();
        let useful = self.count();
        self.peer.refill(self.context); // before the disk, so that the peer need not wait for it
        let taken = if useful > 0 {
            BlocksOutcome::Useful(useful)
        } else {
            BlocksOutcome::Useless(self.sink.blocks.len() as u32, unrequested_bytes)
        };
        self.sink.store(bytes)?;
        Ok(taken)
    }

    /// Whether complete pieces should wait no longer for others. They do not if nothing is outstanding, as after a choke.
    pub fn is_batch_due(&self, now: Duration) -> bool {
        let is_last = || self.peer.requesting.pipeline.lock().is_empty();
        self.sink.is_batch_due(now) || (self.sink.has_unhashed() && is_last())
    }

    /// Whether complete pieces wait to be hashed.
    pub fn has_unhashed(&self) -> bool {
        self.sink.has_unhashed()
    }

    /// Reads the waiting pieces back, hashes them together and settles them.
    ///
    /// # Errors
    /// If the disk fails; main has then been told.
    pub fn hash_batch(&mut self) -> Result<(), DisconnectReason> {
        self.sink.hash_batch()
    }

    /// The bytes of these blocks that exceed everything ever requested from the peer. A block that came late, or was cancelled
    /// while it was on its way, had been requested.
    fn unrequested_bytes(&mut self) -> u64 {
        let bytes = self.sink.blocks.iter().map(|(block, _)| u64::from(block.length)).sum();
        self.received += bytes;
        self.received.saturating_sub(self.peer.rates.bytes_requested.get()).min(bytes)
    }

    /// Counts the received blocks. Returns how many of them had been requested: only those extend the requests' deadline.
    fn count(&mut self) -> u32 {
        let now = self.context.now();
        let (mut blocks, mut bytes, mut all) = (0, 0, 0);
        {
            let mut requests = self.peer.requesting.pipeline.lock();
            let deadline = requests.next_deadline();
            for ((block, _), take) in self.sink.blocks.iter().zip(&self.sink.decisions.take) {
                let asked = requests.take(now, block).is_some();
                all += u64::from(block.length);
                if asked || *take {
                    blocks += 1;
                    bytes += u64::from(block.length);
                }
            }
            requests.received(now, blocks, bytes);
            let rate = requests.round_rate().unwrap_or_default() as u64;
            self.peer.rates.download_rate.set(rate);
            self.sink.set_rate(rate);
            if requests.next_deadline() < deadline {
                self.peer.requesting.deadline_moved.notify_all(); // earlier than the deadline thread expects
            }
        }
        self.context.payload.downloaded.add(all);
        if blocks > 0 {
            self.context.settings.throttle.client.uplink.note_download();
            self.peer.rates.downloaded.add(bytes);
            self.peer.note_received(now, bytes);
        }
        blocks as u32
    }

    /// Only the start of a frame has arrived. If it is a block, its bytes so far show that the peer is not silent.
    pub fn note_partial_block(&self, frame: &[u8]) {
        if frame.len() <= PIECE_HEADER_LENGTH || frame[4] != PIECE_ID {
            return;
        }
        let mut requests = self.peer.requesting.pipeline.lock();
        let deadline = requests.next_deadline();
        requests.note_partial_block(self.context.now(), (frame.len() - PIECE_HEADER_LENGTH) as u64);
        if requests.next_deadline() < deadline {
            self.peer.requesting.deadline_moved.notify_all();
        }
    }
}

#[cfg(test)]
mod tests;
