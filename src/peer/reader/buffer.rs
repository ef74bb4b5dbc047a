//! The reader's buffer: which buffer to receive into, and how many bytes at once.

use crate::peer::SLAB;
use crate::peer::reader::Reader;
use crate::types::BLOCK_SIZE;
use crate::util::slab::PooledSlab;
use crate::wire::message;

/// Buffer size of a connection that receives no blocks.
pub(super) const SMALL: usize = 4096;
/// Writes should end at a multiple of this many bytes.
const ALIGNED: u32 = 256 * 1024;
/// If less room than this is left after the unread bytes, they are moved to the front of the buffer.
const ROOM: usize = 64 * 1024;

/// A small buffer while few messages arrive, a slab while blocks arrive.
pub(super) enum ReceiveBuffer {
    Small(Vec<u8>),
    Slab(PooledSlab),
}

impl ReceiveBuffer {
    pub fn bytes(&self) -> &[u8] {
        match self {
            ReceiveBuffer::Small(bytes) => bytes,
            ReceiveBuffer::Slab(slab) => slab,
        }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            ReceiveBuffer::Small(bytes) => bytes,
            ReceiveBuffer::Slab(slab) => slab,
        }
    }
}

impl Reader<'_> {
    /// How many bytes to receive at most: so many that the last block ends at an aligned offset of the torrent. Then no bytes
    /// are left over that have to be moved, and a write touches the fewest pages of the cache.
    pub(super) fn receive_limit(&self) -> usize {
        let room = self.buffer.bytes().len() - self.unread.end;
        let Some(offset) = self.block_receiver.next_offset().filter(|o| o.is_multiple_of(u64::from(BLOCK_SIZE))) else {
            return room;
        };
        let blocks = (ALIGNED - (offset % u64::from(ALIGNED)) as u32) / BLOCK_SIZE;
        if blocks < ALIGNED / BLOCK_SIZE / 2 {
            return room; // not worth a short read: some other message shifted the blocks
        }
        let frames = (blocks * (BLOCK_SIZE + message::PIECE_HEADER_LENGTH as u32)) as usize;
        room.min(frames.saturating_sub(self.unread.len()).max(1))
    }

    /// Chooses the buffer for the current traffic, and makes sure that the current frame fits into it.
    pub(super) fn make_room(&mut self) {
        if self.unread.is_empty() {
            self.unread = 0..0;
        }
        let flowing = self.peer.can_request();
        let frame_length = message::frame_length(&self.buffer.bytes()[self.unread.clone()]).max(self.unread.len() + 1);
        match &self.buffer {
            ReceiveBuffer::Small(_) if flowing && frame_length <= SLAB => {
                let slab = self.context.slabs.take();
                self.move_to(ReceiveBuffer::Slab(slab));
            }
            ReceiveBuffer::Slab(_) if !flowing && self.unread.is_empty() => {
                self.buffer = ReceiveBuffer::Small(vec![0; SMALL]);
            }
            // The long message that the buffer had grown for is done.
            ReceiveBuffer::Small(bytes) if bytes.len() > SMALL && frame_length <= SMALL => {
                self.move_to(ReceiveBuffer::Small(vec![0; SMALL]));
            }
            _ => {}
        }
        let size = self.buffer.bytes().len();
        if frame_length > size {
            // For bitfields of large torrents and extension messages; `message::parse` has limited the frame's length. The
            // buffer grows with the bytes received, not with the length that the peer claims.
            let grown = (2 * size).min(message::MAX_FRAME + 4).max(self.unread.len() + SMALL);
            self.move_to(ReceiveBuffer::Small(vec![0; grown]));
        } else if self.unread.start > 0
            && (size - self.unread.end < ROOM.min(size / 2) || self.unread.start + frame_length > size)
        {
            let unread = self.unread.clone();
            self.unread = 0..unread.len();
            self.buffer.bytes_mut().copy_within(unread, 0);
        }
    }

    fn move_to(&mut self, mut buffer: ReceiveBuffer) {
        let unread = &self.buffer.bytes()[self.unread.clone()];
        buffer.bytes_mut()[..unread.len()].copy_from_slice(unread);
        self.unread = 0..unread.len();
        self.buffer = buffer;
    }
}
