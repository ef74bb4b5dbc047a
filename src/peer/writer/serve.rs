//! Serves blocks: reads them from disk and writes them to the socket.

use std::io::{self, IoSlice};
use std::time::Instant;

use crate::mse::Rc4;
use crate::peer::socket_write::{CHUNK, PartialWrite, wait, write_all_or_time_out, write_some};
use crate::peer::writer::Writer;
use crate::peer::{PeerEvent, TorrentContext};
use crate::types::BlockInfo;
use crate::wire::message;

impl Writer<'_> {
    /// Reads a run of adjacent blocks and sends it after the waiting messages. Blocks that the socket does not take go back
    /// into the queue.
    pub(super) fn serve(&mut self, run: &[BlockInfo]) -> io::Result<()> {
        let (begun, waited) = (Instant::now(), self.send_gate.close());
        let cut = self.send(run)?;
        let mut sent = cut.blocks_sent;
        if cut.bytes_of_next > 0 {
            self.send_rest(run[sent], cut.bytes_of_next)?;
            sent += 1;
        }
        let (sent, unsent) = run.split_at(sent);
        if self.batch_size.wrote(sent.len(), waited + begun.elapsed()) {
            self.limit_unsent();
        }
        let bytes = total(sent);
        self.peer.serving.queued_requests.sub(sent.len() as u32);
        self.peer.rates.uploaded.add(bytes);
        self.context.payload.uploaded.add(bytes);
        self.peer.note_sent(self.context.now(), bytes);
        if let Some(super_seeding) = self.context.active_super_seed() {
            super_seeding.sent(self.context, self.peer.key, sent);
        }
        if !unsent.is_empty() {
            unsent.iter().rev().for_each(|block| self.queue.push_front(*block));
            self.allowance.refund(total(unsent));
            self.give_fast_grant_back();
            wait(self.stream)?; // the slab has been returned
        }
        Ok(())
    }

    /// Sends the waiting messages and as much of the run as the socket takes now. If that is not all, returns the slab.
    fn send(&mut self, run: &[BlockInfo]) -> io::Result<PartialWrite> {
        let bytes = total(run) as usize;
        let layout = self.context.pieces.storage().layout();
        let offset = layout.offset(run[0].piece, run[0].begin);
        let mut small = Vec::new();
        let data = if let Some(slab) = &mut self.slab {
            &mut slab[..bytes]
        } else {
            small.resize(bytes, 0);
            &mut small
        };
        read(self.context, offset, data)?;
        let mut heads: Vec<_> = run.iter().map(|b| message::piece_header(*b)).collect();
        let before = self.cipher.clone();
        if let Some(cipher) = &mut self.cipher {
            encrypt(cipher, &mut heads, data, run);
        }
        let mut slices = Vec::with_capacity(1 + 2 * run.len());
        slices.push(IoSlice::new(&self.messages));
        let mut rest = &*data;
        for (head, block) in heads.iter().zip(run) {
            let (block, after) = rest.split_at(block.length as usize);
            rest = after;
            slices.push(IoSlice::new(head));
            slices.push(IoSlice::new(block));
        }
        let whole: usize = slices.iter().map(|slice| slice.len()).sum();
        self.peer.rates.sent_to_kernel.add(bytes as u64);
        let written = write_some(self.stream, &mut slices)?;
        let cut = PartialWrite::after(written.saturating_sub(self.messages.len()), run);
        if written < whole {
            drop(small);
            self.slab = None;
            self.cipher = before.map(|cipher| cipher.after(written.saturating_sub(self.messages.len())));
            let left = run.len() - cut.blocks_sent - usize::from(cut.bytes_of_next > 0);
            self.peer.rates.sent_to_kernel.sub(total(&run[run.len() - left..]));
            write_all_or_time_out(self.stream, self.messages.get(written..).unwrap_or_default())?;
        }
        Ok(cut)
    }

    /// Sends a block and its header from byte `from` on: in small parts, each read from disk when the socket takes it.
    fn send_rest(&mut self, block: BlockInfo, mut from: usize) -> io::Result<()> {
        let head = message::piece_header(block);
        let start = self.context.pieces.storage().layout().offset(block.piece, block.begin);
        while from < head.len() + block.length as usize {
            wait(self.stream)?;
            let mut bytes = head.get(from..).unwrap_or_default().to_vec();
            let (known, at) = (bytes.len(), from.saturating_sub(head.len()));
            bytes.resize(known + (block.length as usize - at).min(CHUNK), 0);
            read(self.context, start + at as u64, &mut bytes[known..])?;
            let before = self.cipher.clone();
            if let Some(cipher) = &mut self.cipher {
                cipher.apply(&mut bytes);
            }
            let n = write_some(self.stream, &mut [IoSlice::new(&bytes)])?;
            if n < bytes.len() {
                self.cipher = before.map(|cipher| cipher.after(n));
            }
            from += n;
        }
        Ok(())
    }
}

/// Encrypts each header and its block.
fn encrypt(cipher: &mut Rc4, heads: &mut [impl AsMut<[u8]>], mut data: &mut [u8], run: &[BlockInfo]) {
    for (head, block) in heads.iter_mut().zip(run) {
        let (block, rest) = data.split_at_mut(block.length as usize);
        data = rest;
        cipher.apply(head.as_mut());
        cipher.apply(block);
    }
}

/// The total length of the blocks in bytes.
fn total(blocks: &[BlockInfo]) -> u64 {
    blocks.iter().map(|block| u64::from(block.length)).sum()
}

/// Reads verified blocks from disk. If that fails, main is told, as more than this connection has to end.
fn read(context: &TorrentContext, offset: u64, data: &mut [u8]) -> io::Result<()> {
    context.pieces.read_verified(offset, data).map_err(|error| {
        let message = error.to_string();
        context.send_to_main(PeerEvent::Storage(error));
        io::Error::other(message)
    })
}

#[cfg(test)]
mod tests;
