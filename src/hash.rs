//! SHA-1 of several streams at once on one core; SHA-256 of blocks, and their trees ([`merkle`]).
//!
//! One stream leaves most of a processor idle, because each step waits for the one before it. [`update_all`] therefore takes the
//! new data of several streams and hashes up to 16 of them in parallel. The streams may differ in length, and begin and end at
//! different times. For a single stream it uses the `sha1` crate's compression function.

mod kernels;
pub mod merkle;
mod piece_lanes;
mod piece_threads;
mod schedule;
mod sha256;

use crate::types::Sha1Hash;

pub use kernels::{Kernel, Kernels, MAX_WIDTH};
pub use piece_lanes::{FinishedPiece, LANE_BYTES, PieceBytes, PieceDigest, PieceLanes};
pub use piece_threads::{NextPiece, PieceWork, hash_pieces};
pub use schedule::compress_lanes;
pub use sha256::{digest_blocks, sha256};

/// The length of the blocks that SHA-1 works on, in bytes.
pub const SHA1_BLOCK: usize = 64;

/// The five words of SHA-1's state.
type State = [u32; 5];

/// The eight words of SHA-256's state.
type Sha256State = [u32; 8];

const INITIAL_STATE: State = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];

/// The SHA-1 of a stream, up to where it has been hashed.
#[derive(Clone, Debug)]
pub struct Sha1Stream {
    state: State,
    /// The bytes after the last whole block: the first `length % 64`.
    tail: [u8; SHA1_BLOCK],
    /// How many bytes have been appended.
    length: u64,
}

impl Default for Sha1Stream {
    fn default() -> Self {
        Sha1Stream { state: INITIAL_STATE, tail: [0; SHA1_BLOCK], length: 0 }
    }
}

impl Sha1Stream {
    /// An empty stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends `data`. To append to several streams, [`update_all`] is faster.
    pub fn update(&mut self, data: &[u8]) {
        let blocks = self.take_blocks(data);
        compress_one(&mut self.state, blocks);
    }

    /// The hash of the whole stream.
    pub fn finish(mut self) -> Sha1Hash {
        let bits = self.length.wrapping_mul(8);
        let used = self.tail_length();
        // A one bit, zeros, and the length in bits, which fill up one block or two.
        let mut padding = [0; 2 * SHA1_BLOCK];
        padding[0] = 0x80;
        let count = if used < SHA1_BLOCK - 8 { SHA1_BLOCK - used } else { 2 * SHA1_BLOCK - used };
        padding[count - 8..count].copy_from_slice(&bits.to_be_bytes());
        self.update(&padding[..count]);
        let mut digest = Sha1Hash::default();
        for (bytes, word) in digest.as_chunks_mut::<4>().0.iter_mut().zip(self.state) {
            *bytes = word.to_be_bytes();
        }
        digest
    }

    fn tail_length(&self) -> usize {
        (self.length % SHA1_BLOCK as u64) as usize
    }

    /// Counts `data`, hashes the block that it completes, and keeps the bytes after its last whole block. Returns the whole blocks
    /// between, which the caller must hash.
    fn take_blocks<'a>(&mut self, data: &'a [u8]) -> &'a [[u8; SHA1_BLOCK]] {
        let used = self.tail_length();
        self.length += data.len() as u64;
        let mut rest = data;
        if used > 0 {
            let (head, after) = data.split_at(data.len().min(SHA1_BLOCK - used));
            self.tail[used..used + head.len()].copy_from_slice(head);
            if used + head.len() < SHA1_BLOCK {
                return &[];
            }
            compress_one(&mut self.state, &[self.tail]);
            rest = after;
        }
        let (blocks, tail) = rest.as_chunks::<SHA1_BLOCK>();
        self.tail[..tail.len()].copy_from_slice(tail);
        blocks
    }
}

/// A stream and the data to append to it.
#[derive(Debug)]
pub struct StreamUpdate<'a> {
    /// The stream.
    pub stream: &'a mut Sha1Stream,
    /// The bytes that follow.
    pub data: &'a [u8],
}

/// Appends data to several streams, as many at once as this processor hashes best.
pub fn update_all(updates: &mut [StreamUpdate<'_>]) {
    let mut lanes: Vec<Lane<'_>> = Vec::with_capacity(updates.len());
    for update in updates {
        let blocks = update.stream.take_blocks(update.data);
        if !blocks.is_empty() {
            lanes.push(Lane { state: &mut update.stream.state, blocks });
        }
    }
    compress_lanes(Kernels::chosen(), &mut lanes);
}

/// The hash of each of several byte strings.
pub fn digest_all(messages: &[&[u8]]) -> Vec<Sha1Hash> {
    let mut streams = vec![Sha1Stream::new(); messages.len()];
    let mut updates: Vec<_> =
        streams.iter_mut().zip(messages).map(|(stream, data)| StreamUpdate { stream, data }).collect();
    update_all(&mut updates);
    streams.into_iter().map(Sha1Stream::finish).collect()
}

/// The state of a stream, and the blocks to hash into it.
#[derive(Debug)]
pub struct Lane<'a> {
    state: &'a mut State,
    blocks: &'a [[u8; SHA1_BLOCK]],
}

impl<'a> Lane<'a> {
    /// A lane that starts from `state`.
    pub fn new(state: &'a mut [u32; 5], blocks: &'a [[u8; SHA1_BLOCK]]) -> Self {
        Lane { state, blocks }
    }
}

fn compress_one(state: &mut State, blocks: &[[u8; SHA1_BLOCK]]) {
    sha1::block_api::compress(state, blocks);
}

#[cfg(test)]
mod tests;
