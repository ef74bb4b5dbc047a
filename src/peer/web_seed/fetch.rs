//! Requests: the ranges of a run of blocks, or a whole file from a server that ignores ranges.

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::discovery::tracker::http::{RangedResponse, TrackerError};
use crate::peer::TorrentContext;
use crate::peer::roster::refill_idle_peers;
use crate::peer::web_seed::assembly::RunAssembly;
use crate::peer::web_seed::body::BodyReceiver;
use crate::peer::web_seed::{FetchEnd, IDLE_SLEEP, WebSeedWorker};
use crate::storage::{Layout, Span};
use crate::strategy::web_seed::{
    BlockRun, BodyContent, WebSeedFault, WebSeedKind, judge, judge_script, request_size, runs,
};
use crate::types::{BlockInfo, PieceIndex};

/// The longest body of a 503 that is read for the number in it.
const MAX_NUMBER: u64 = 64;
/// Before so many bytes of a whole file that are of no use, the blocks after them are left to others.
const LONG_SKIP: u64 = 1 << 20;

/// One part of a run: the bytes of one file.
struct FilePart {
    file: usize,
    bytes: Range<u64>,
    /// The length of the file.
    length: u64,
    is_pad: bool,
}

impl WebSeedWorker {
    /// Requests and stores picked blocks. Those that do not arrive become free for others.
    pub(super) fn fetch(&mut self, picked: Vec<BlockInfo>) -> Result<(), FetchEnd> {
        let size = match self.settings.url.kind {
            WebSeedKind::Mirror => request_size(self.rate, self.answer_time.unwrap_or_default()),
            WebSeedKind::Script => 0, // a request is for one piece
        };
        let context = self.context().ok_or(FetchEnd::Stopped)?;
        let layout = context.pieces.storage().layout();
        let planned = runs(picked, size, |block| layout.offset(block.piece, block.begin));
        drop(context);
        if self.sends_whole_files
            && let Some(file) = planned.first().and_then(|run| self.file_around(run))
        {
            self.give_back(planned.iter().flat_map(|run| &run.blocks), false);
            return self.fetch_whole_file(file);
        }
        let mut waiting = planned.into_iter();
        while let Some(run) = waiting.next() {
            if self.context().is_some_and(|context| context.web_seeds.are_cancelled(self.key, &run.blocks)) {
                continue;
            }
            let mut rest = Vec::new();
            let result = self.fetch_run(&run, &mut rest);
            if result.is_err() || self.is_late {
                let later: Vec<BlockRun> = waiting.collect();
                let all = rest.iter().chain(later.iter().flat_map(|run| &run.blocks));
                self.give_back(all, self.is_late || matches!(result, Err(FetchEnd::Fault(..))));
                return result;
            }
        }
        Ok(())
    }

    /// The file that has all bytes of a run; `None` if there are several.
    fn file_around(&self, run: &BlockRun) -> Option<usize> {
        let context = self.context()?;
        let mut spans = context.pieces.storage().layout().spans(run.bytes.start, run.bytes.end - run.bytes.start);
        let span = spans.next()?;
        spans.next().is_none().then_some(span.file)
    }

    /// Returns blocks to the picker; `has_failed` if other sources should be asked for them first.
    fn give_back<'b>(&self, blocks: impl Iterator<Item = &'b BlockInfo>, has_failed: bool) {
        let blocks: Vec<BlockInfo> = blocks.copied().collect();
        let Some(context) = self.weak.upgrade() else { return };
        if has_failed {
            context.pieces.expire(self.key, &blocks, false);
        } else {
            context.pieces.release(self.key, &blocks);
        }
        refill_idle_peers(&context);
    }

    /// Requests the bytes of a run, and stores its blocks. On failure, `rest` receives the blocks that are not stored.
    fn fetch_run(&mut self, run: &BlockRun, rest: &mut Vec<BlockInfo>) -> Result<(), FetchEnd> {
        let context = self.context().ok_or(FetchEnd::Stopped)?;
        let mut slab = context.slabs.take();
        let mut assembly = RunAssembly::new(run.blocks.clone(), slab.len());
        let parts = match self.settings.url.kind {
            WebSeedKind::Mirror => parts(context.pieces.storage().layout(), &run.bytes),
            WebSeedKind::Script => Vec::new(),
        };
        drop(context);
        let result = match self.settings.url.kind {
            WebSeedKind::Mirror => parts.iter().try_for_each(|part| self.fetch_part(part, &mut assembly, &mut slab)),
            WebSeedKind::Script => self.fetch_from_script(run, &mut assembly, &mut slab),
        };
        rest.extend_from_slice(assembly.rest());
        result
    }

    /// Requests the bytes of one file. A server may send less than requested, and is then asked for the rest.
    fn fetch_part(&mut self, part: &FilePart, assembly: &mut RunAssembly, slab: &mut [u8]) -> Result<(), FetchEnd> {
        let mut bytes = part.bytes.clone();
        if part.is_pad {
            let context = self.context().ok_or(FetchEnd::Stopped)?;
            let length = bytes.end - bytes.start;
            return BodyReceiver::new(self, &context, Some(part.file)).zeros(length, assembly, slab);
        }
        let url = self.settings.url.of_file(&self.settings.files, part.file);
        while bytes.start < bytes.end {
            let mut response = self.send_request(&url, Some(&bytes), Some(part.file))?;
            let body_content = judge(&response.answer, &bytes, part.length)
                .map_err(|fault| FetchEnd::Fault(Some(part.file), fault))?;
            let is_whole_file = body_content == BodyContent::WholeFile;
            if is_whole_file && bytes != (0..part.length) && !self.sends_whole_files {
                return Err(FetchEnd::WholeFile);
            }
            let context = self.context().ok_or(FetchEnd::Stopped)?;
            let mut receiver = BodyReceiver::new(self, &context, Some(part.file));
            receiver.skip(&mut response, if is_whole_file { bytes.start } else { 0 }, slab, assembly)?;
            let got = receiver.receive(&mut response, bytes.end - bytes.start, assembly, slab)?;
            if got == 0 {
                return Err(FetchEnd::Fault(Some(part.file), too_short()));
            }
            bytes.start += got;
            if bytes.start >= bytes.end && !is_whole_file {
                receiver.finish(&mut response)?;
            }
        }
        Ok(())
    }

    /// Requests a run, which is within one piece, from a script.
    fn fetch_from_script(
        &mut self,
        run: &BlockRun,
        assembly: &mut RunAssembly,
        slab: &mut [u8],
    ) -> Result<(), FetchEnd> {
        let Some(first) = run.blocks.first() else { return Ok(()) };
        let length = run.bytes.end - run.bytes.start;
        let info_hash = self.context().ok_or(FetchEnd::Stopped)?.settings.info_hash;
        let url = self.settings.url.of_range(info_hash, first.piece, first.begin, length as u32);
        let mut response = self.send_request(&url, None, None)?;
        let number = if response.answer.status == 503 { response.start_of_body(MAX_NUMBER) } else { Vec::new() };
        judge_script(&response.answer, length, &number).map_err(|fault| FetchEnd::Fault(None, fault))?;
        let context = self.context().ok_or(FetchEnd::Stopped)?;
        let mut receiver = BodyReceiver::new(self, &context, None);
        if receiver.receive(&mut response, length, assembly, slab)? < length {
            return Err(FetchEnd::Fault(None, too_short()));
        }
        receiver.finish(&mut response)
    }

    /// Reads a file from its start, and stores those of its blocks that no other source was asked for.
    fn fetch_whole_file(&mut self, file: usize) -> Result<(), FetchEnd> {
        let url = self.settings.url.of_file(&self.settings.files, file);
        let context = self.context().ok_or(FetchEnd::Stopped)?;
        let seen = context.web_seeds.wakes();
        let layout = context.pieces.storage().layout();
        let start = layout.start_of(file);
        let length = layout.files().get(file).map_or(0, |spec| spec.length);
        let mut pieces = layout.pieces_of(file);
        let mut slab = context.slabs.take();
        drop(context);
        let mut response = self.send_request(&url, None, Some(file))?;
        judge(&response.answer, &(0..length), length).map_err(|fault| FetchEnd::Fault(Some(file), fault))?;
        let context = self.context().ok_or(FetchEnd::Stopped)?;
        let (mut position, mut has_claimed) = (0, false);
        while let Some(piece) = context.pieces.first_missing_wanted(pieces.clone()) {
            pieces.start = piece.0 + 1;
            let mut claimed = self.claim(&context, piece, &(start..start + length));
            has_claimed |= !claimed.is_empty();
            if let Some(far) = claimed.first().map(|run| run.bytes.start - start).filter(|at| at - position > LONG_SKIP)
            {
                // Other sources should not wait for blocks that are far away.
                self.give_back(claimed.iter().flat_map(|run| &run.blocks), false);
                self.deadline = Duration::MAX;
                let nothing = RunAssembly::new(Vec::new(), slab.len());
                BodyReceiver::new(self, &context, Some(file)).skip(
                    &mut response,
                    far - position,
                    &mut slab,
                    &nothing,
                )?;
                position = far;
                claimed = self.claim(&context, piece, &(start..start + length));
            }
            let mut waiting = claimed.into_iter();
            while let Some(run) = waiting.next() {
                let mut assembly = RunAssembly::new(run.blocks.clone(), slab.len());
                let mut receiver = BodyReceiver::new(self, &context, Some(file));
                let (from, left) = (run.bytes.start - start, run.bytes.end - run.bytes.start);
                let result = receiver
                    .skip(&mut response, from - position, &mut slab, &assembly)
                    .and_then(|()| receiver.receive(&mut response, left, &mut assembly, &mut slab))
                    .and_then(|got| if got < left { Err(FetchEnd::Fault(Some(file), too_short())) } else { Ok(()) });
                if let Err(end) = result {
                    let later: Vec<BlockRun> = waiting.collect();
                    let all = assembly.rest().iter().chain(later.iter().flat_map(|run| &run.blocks));
                    self.give_back(all, matches!(end, FetchEnd::Fault(..)));
                    return Err(end);
                }
                position = run.bytes.end - start;
            }
        }
        if !has_claimed {
            // Other sources were asked for everything: do not request the file in vain again at once.
            context.web_seeds.wait(seen, IDLE_SLEEP);
        }
        Ok(())
    }

    /// Takes the free blocks of a piece that are within `bytes` of the torrent.
    fn claim(&mut self, context: &TorrentContext, piece: PieceIndex, bytes: &Range<u64>) -> Vec<BlockRun> {
        let layout = context.pieces.storage().layout();
        let mut claimed = Vec::new();
        context.pieces.pick_within(self.key, usize::MAX, self.pick_context(context), &[piece], &mut claimed);
        self.begin_deadline(context);
        let is_within = |block: &BlockInfo| {
            let start = layout.offset(block.piece, block.begin);
            start >= bytes.start && start + u64::from(block.length) <= bytes.end
        };
        let (within, others): (Vec<_>, Vec<_>) = claimed.into_iter().partition(is_within);
        if !others.is_empty() {
            context.pieces.release(self.key, &others);
        }
        runs(within, u64::MAX, |block| layout.offset(block.piece, block.begin))
    }

    /// Sends a request and waits for the head of the response, without holding anything of the torrent.
    fn send_request(
        &mut self,
        url: &str,
        range: Option<&Range<u64>>,
        file: Option<usize>,
    ) -> Result<RangedResponse, FetchEnd> {
        let sent = Instant::now();
        self.shared.is_asking.set(true);
        let response = self.fetcher.get(url, range);
        self.shared.is_asking.set(false);
        if self.context().is_none() {
            return Err(FetchEnd::Stopped);
        }
        let response = response.map_err(|error| FetchEnd::Fault(file, fault_of(&error, url)))?;
        (self.answer_time, self.sent_at) = (Some(sent.elapsed()), Some(sent));
        Ok(response)
    }
}

/// The response ended before all bytes arrived.
pub(super) fn too_short() -> WebSeedFault {
    WebSeedFault::Unreachable("it closed the connection before the end of its answer".to_owned())
}

/// What a request without a response means.
pub(super) fn fault_of(error: &TrackerError, url: &str) -> WebSeedFault {
    let text = error.clone().without_secrets_of(url).to_string();
    match error {
        TrackerError::Scheme(_)
        | TrackerError::Url
        | TrackerError::Local
        | TrackerError::Proxy(_)
        | TrackerError::Redirect(_)
        | TrackerError::Tls(_)
        | TrackerError::TooLarge
        | TrackerError::Malformed(_)
        | TrackerError::Other(_) => WebSeedFault::Refused(text),
        _ => WebSeedFault::Unreachable(text),
    }
}

/// The parts of files that the bytes of a torrent are.
fn parts(layout: &Layout, bytes: &Range<u64>) -> Vec<FilePart> {
    let spans = layout.spans(bytes.start, bytes.end - bytes.start);
    let part = |span: Span| {
        let spec = layout.files().get(span.file)?;
        let bytes = span.offset..span.offset + span.len;
        Some(FilePart { file: span.file, bytes, length: spec.length, is_pad: spec.is_pad })
    };
    spans.filter_map(part).collect()
}
