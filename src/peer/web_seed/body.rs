//! Bodies of responses: from the socket through the rate limits to the disk.

use std::time::{Duration, Instant};

use crate::discovery::tracker::http::RangedResponse;
use crate::peer::TorrentContext;
use crate::peer::block_sink::BlockSink;
use crate::peer::throttle::read_web_seed;
use crate::peer::web_seed::assembly::RunAssembly;
use crate::peer::web_seed::fetch::{fault_of, too_short};
use crate::peer::web_seed::{FetchEnd, WebSeedWorker};
use crate::strategy::web_seed::WebSeedFault;

/// Blocks of a slow server are stored at least so often.
const STORE_INTERVAL: Duration = Duration::from_millis(500);

/// Receives the bodies of responses for one file.
pub(super) struct BodyReceiver<'a> {
    work: &'a mut WebSeedWorker,
    context: &'a TorrentContext,
    sink: BlockSink<'a>,
    /// The file of the responses; `None` for a script, which has none.
    file: Option<usize>,
}

impl<'a> BodyReceiver<'a> {
    /// A receiver for the responses about a file.
    pub fn new(work: &'a mut WebSeedWorker, context: &'a TorrentContext, file: Option<usize>) -> BodyReceiver<'a> {
        let mut sink = BlockSink::new(context, work.key);
        sink.set_rate(work.rate);
        BodyReceiver { work, context, sink, file }
    }

    /// Appends zeros, which need no request.
    pub fn zeros(&mut self, length: u64, assembly: &mut RunAssembly, slab: &mut [u8]) -> Result<(), FetchEnd> {
        let mut left = length;
        while left > 0 {
            let room = assembly.room(left);
            let filled = room.len();
            slab.get_mut(room).unwrap_or_default().fill(0);
            assembly.fill(filled);
            left -= filled as u64;
            self.store(assembly, slab)?;
        }
        self.hash_waiting()
    }

    /// Reads and drops `n` bytes.
    pub fn skip(
        &mut self,
        response: &mut RangedResponse,
        n: u64,
        slab: &mut [u8],
        assembly: &RunAssembly,
    ) -> Result<(), FetchEnd> {
        // The start of the buffer may hold part of a block.
        let free = assembly.room(u64::MAX);
        let scratch = slab.get_mut(free).unwrap_or_default();
        let mut left = n;
        while left > 0 {
            let want = scratch.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let got = self.read(response, scratch.get_mut(..want).unwrap_or_default(), assembly)?;
            if got == 0 {
                return Err(FetchEnd::Fault(self.file, too_short()));
            }
            self.context.pieces.add_wasted(got as u64);
            left -= got as u64;
        }
        Ok(())
    }

    /// Receives at most `length` bytes of a body, and stores the blocks that become complete. Returns how many bytes arrived: less
    /// if the body ends before.
    pub fn receive(
        &mut self,
        response: &mut RangedResponse,
        length: u64,
        assembly: &mut RunAssembly,
        slab: &mut [u8],
    ) -> Result<u64, FetchEnd> {
        let (begun, mut stored_at) = (Instant::now(), Instant::now());
        let mut left = length;
        let mut result = Ok(());
        while left > 0 {
            let room = slab.get_mut(assembly.room(left)).unwrap_or_default();
            let got = match self.read(response, room, assembly) {
                Ok(0) => break,
                Ok(got) => got,
                Err(end) => {
                    result = Err(end);
                    break;
                }
            };
            assembly.fill(got);
            left -= got as u64;
            if assembly.is_full() || stored_at.elapsed() >= STORE_INTERVAL {
                self.store(assembly, slab)?;
                stored_at = Instant::now();
            }
        }
        self.store(assembly, slab)?; // also before an error
        self.hash_waiting()?;
        if result.is_ok() || self.work.is_late {
            let since = self.work.sent_at.take().unwrap_or(begun);
            self.measure(length - left, since.elapsed());
        }
        result.map(|()| length - left)
    }

    /// Reads to the end of a body, so that the connection can be used again.
    pub fn finish(&mut self, response: &mut RangedResponse) -> Result<(), FetchEnd> {
        match response.read(&mut [0]) {
            Ok(0) | Err(_) => Ok(()),
            Ok(_) => Err(FetchEnd::Fault(self.file, WebSeedFault::WrongRange)),
        }
    }

    /// Reads some bytes that the rate limits allow; 0 at the end of the body.
    fn read(
        &mut self,
        response: &mut RangedResponse,
        buffer: &mut [u8],
        assembly: &RunAssembly,
    ) -> Result<usize, FetchEnd> {
        let (context, work) = (self.context, &*self.work);
        let throttle = &context.settings.throttle;
        if work.must_end(context) {
            return Err(FetchEnd::Stopped);
        }
        let has_failed = work.shared.has_failed_pieces.is_set();
        if has_failed || context.is_paused() || context.web_seeds.are_cancelled(work.key, assembly.rest()) {
            return Err(FetchEnd::NotNeeded);
        }
        let is_over = || work.must_end(context) || context.is_paused();
        let result = read_web_seed(throttle, work.key, buffer, is_over, |part| response.read(part));
        let result = result.ok_or(FetchEnd::NotNeeded)?;
        if work.must_end(context) {
            return Err(FetchEnd::Stopped);
        }
        let got = result.map_err(|error| FetchEnd::Fault(self.file, fault_of(&error, "")))?;
        context.payload.downloaded.add(got as u64);
        if !self.work.may_continue(context, assembly.rest()) {
            return Err(FetchEnd::Fault(self.file, WebSeedFault::Stalled));
        }
        Ok(got)
    }

    /// Stores the complete blocks in the buffer.
    fn store(&mut self, assembly: &mut RunAssembly, slab: &mut [u8]) -> Result<(), FetchEnd> {
        for (block, place) in assembly.complete() {
            self.sink.note(block, place);
        }
        if self.sink.blocks.is_empty() {
            return Ok(());
        }
        self.sink.accept();
        self.context.settings.throttle.client.uplink.note_download();
        self.sink.store(slab).map_err(|_| FetchEnd::Stopped)?;
        assembly.remove_complete(slab);
        if self.sink.is_batch_due(self.context.now()) {
            self.hash_waiting()?;
        }
        Ok(())
    }

    /// Hashes the complete pieces that wait for others.
    fn hash_waiting(&mut self) -> Result<(), FetchEnd> {
        if self.sink.has_unhashed() { self.sink.hash_batch().map_err(|_| FetchEnd::Stopped) } else { Ok(()) }
    }

    /// Notes how fast a body arrived. If it was late, the earlier rate says nothing any more.
    fn measure(&mut self, bytes: u64, time: Duration) {
        if bytes == 0 && !self.work.is_late {
            return;
        }
        if !self.work.is_late {
            self.work.health.succeeded();
        }
        let rate = (bytes as f64 / time.as_secs_f64().max(1e-6)) as u64;
        let is_first = self.work.rate == 0 || self.work.is_late;
        self.work.rate = if is_first { rate } else { (self.work.rate / 2).saturating_add(rate / 2) }.max(1);
        self.context.web_seeds.set_rate(self.work.key, self.work.rate);
    }
}
