//! Readers of a torrent that is still downloading: the pieces that they need next come first, and they are woken when these are
//! verified.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use parking_lot::Mutex;

use crate::net::networks::heaviest_users;
use crate::peer::{TorrentContext, refill_for_seek};
use crate::strategy::picker::MAX_URGENT;
use crate::torrent::inner::TorrentInner;
use crate::types::PieceIndex;
use crate::util::atomics::Amount;

/// The most readers of a torrent.
const MAX_STREAMS: usize = 32;
/// How many bytes ahead of a reader come first, in at least so many pieces.
const AHEAD: u64 = 32 << 20;
const MIN_PIECES_AHEAD: usize = 4;

/// Wakes a reader. It is called on a thread of the torrent, so it must not wait for anything.
pub type StreamWaker = Arc<dyn Fn() + Send + Sync>;

/// The readers of a torrent.
#[derive(Default)]
pub(crate) struct StreamRegistry {
    state: Mutex<StreamTable>,
    /// How many readers wait for a piece.
    waiting: Amount,
}

#[derive(Default)]
struct StreamTable {
    streams: BTreeMap<u64, StreamEntry>,
    next_id: u64,
    has_ended: bool,
}

#[derive(Default)]
struct StreamEntry {
    /// The address of the HTTP client; `None` for a reader of the program itself.
    client: Option<IpAddr>,
    /// What the reader needs next.
    pieces: Range<u32>,
    /// The piece that it waits for, and how to wake it.
    waits: Option<(PieceIndex, StreamWaker)>,
    /// Whether it reached these pieces by a seek, and has not waited since.
    has_seeked: bool,
}

impl StreamTable {
    /// The reader that ends if there are too many.
    fn to_replace(&self) -> Option<u64> {
        let of_clients = self.streams.iter().filter(|(_, entry)| entry.client.is_some());
        heaviest_users(of_clients, |(_, entry)| entry.client, |_| 1).into_iter().map(|(id, _)| *id).min()
    }
}

impl StreamEntry {
    /// Sets the pieces that the reader needs next. `verified_run` says how many pieces of a range are verified, from the first on.
    /// Returns whether they are others than before.
    fn move_to(&mut self, pieces: &Range<u32>, verified_run: impl Fn(Range<u32>) -> u32) -> bool {
        let before = std::mem::replace(&mut self.pieces, pieces.clone());
        // Whoever reads on has read all pieces between.
        let reads_on = || {
            let between = before.start..pieces.start;
            !before.is_empty()
                && before.start <= pieces.start
                && verified_run(between.clone()) as usize == between.len()
        };
        self.has_seeked |= !reads_on();
        before != *pieces
    }
}

impl StreamRegistry {
    /// Registers a reader. If there are too many, the oldest one of the host that has the most ends, so that one client does not
    /// keep the others out. Readers of the program itself stay. `None` if all are such readers.
    fn open(&self, client: Option<IpAddr>) -> Option<u64> {
        let mut state = self.state.lock();
        let replaced = if state.streams.len() >= MAX_STREAMS { Some(state.to_replace()?) } else { None };
        let replaced = replaced.and_then(|id| state.streams.remove(&id)).and_then(|entry| entry.waits);
        self.waiting.sub(usize::from(replaced.is_some()));
        let id = state.next_id;
        state.next_id += 1;
        state.streams.insert(id, StreamEntry { client, ..StreamEntry::default() });
        drop(state);
        // The reader that is replaced polls again, learns that it has ended, and is dropped.
        if let Some((_, wake)) = replaced {
            wake();
        }
        Some(id)
    }

    fn close(&self, id: u64, context: Option<&TorrentContext>) {
        let mut state = self.state.lock();
        state.streams.remove(&id);
        self.update(&state, context);
    }

    /// The pieces that a reader has and waits for; see [`PieceStream::poll`].
    fn poll(
        &self,
        id: u64,
        context: Option<&TorrentContext>,
        pieces: Range<u32>,
        wake: &StreamWaker,
    ) -> io::Result<u32> {
        let mut state = self.state.lock();
        if state.has_ended {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the torrent does not run"));
        }
        let Some(entry) = state.streams.get_mut(&id) else {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "another reader has taken its place"));
        };
        let has_moved =
            entry.move_to(&pieces, |between| context.map_or(0, |context| context.pieces.verified_run(between)));
        let was_waiting = entry.waits.replace((PieceIndex(pieces.start), wake.clone())).is_some();
        if !was_waiting {
            self.waiting.add(1);
        }
        // Looked at after it has been entered as waiting: a piece that is verified later wakes it.
        let verified = match context {
            Some(context) if pieces.start >= context.pieces.piece_count() => Err(io::ErrorKind::InvalidInput.into()),
            Some(context) => Ok(context.pieces.verified_run(pieces)),
            None => Ok(0),
        };
        if !matches!(verified, Ok(0)) {
            entry.waits = None;
            self.waiting.sub(1);
        }
        let is_seek = matches!(verified, Ok(0)) && context.is_some() && std::mem::take(&mut entry.has_seeked);
        if has_moved {
            self.update(&state, context);
        }
        drop(state);
        if let Some(context) = context.filter(|_| is_seek) {
            context.pieces.note_seek();
            refill_for_seek(context);
        }
        verified
    }

    /// Passes the pieces that all readers need to the picker, and counts those that wait.
    fn update(&self, state: &StreamTable, context: Option<&TorrentContext>) {
        self.waiting.set(state.streams.values().filter(|entry| entry.waits.is_some()).count());
        let Some(context) = context else { return };
        let length = u64::from(context.pieces.storage().layout().piece_length());
        let ahead = usize::try_from(AHEAD / length.max(1)).unwrap_or(usize::MAX).clamp(MIN_PIECES_AHEAD, MAX_URGENT);
        let windows = state.streams.values().filter(|entry| !entry.pieces.is_empty());
        let windows: Vec<_> =
            windows.map(|entry| context.pieces.missing_wanted_in(entry.pieces.clone(), ahead)).collect();
        context.pieces.set_urgent(interleaved(&windows));
    }

    /// A piece is verified: wakes the readers that wait for it.
    pub fn piece_verified(&self, piece: PieceIndex) {
        if self.waiting.get() > 0 {
            self.wake(|entry| entry.waits.as_ref().is_some_and(|(waits_for, _)| *waits_for == piece), false);
        }
    }

    /// The files have been opened, perhaps again: wakes all readers that wait.
    pub fn refresh(&self, context: &TorrentContext) {
        self.update(&self.state.lock(), Some(context));
        self.wake(|_| true, false);
    }

    /// The torrent has ended.
    pub fn end(&self) {
        self.wake(|_| true, true);
    }

    fn wake(&self, which: impl Fn(&StreamEntry) -> bool, has_ended: bool) {
        let mut state = self.state.lock();
        state.has_ended |= has_ended;
        let woken = state.streams.values_mut().filter(|entry| which(entry)).filter_map(|entry| entry.waits.take());
        let wakers: Vec<StreamWaker> = woken.map(|(_, wake)| wake).collect();
        self.waiting.set(state.streams.values().filter(|entry| entry.waits.is_some()).count());
        drop(state);
        for wake in wakers {
            wake();
        }
    }
}

/// The first pieces of all lists, then the second ones, and so on.
fn interleaved(lists: &[Vec<PieceIndex>]) -> Vec<PieceIndex> {
    let longest = lists.iter().map(Vec::len).max().unwrap_or_default();
    (0..longest)
        .flat_map(|at| lists.iter().filter_map(move |list| list.get(at).copied()))
        .take(4 * MAX_URGENT)
        .collect()
}

/// A reader of a torrent that is still downloading, such as a media player: the pieces that it needs next come before all others,
/// until it is dropped.
pub struct PieceStream {
    inner: Arc<TorrentInner>,
    id: u64,
}

impl PieceStream {
    /// A reader for this HTTP client, or with `None` for the program itself; see [`StreamRegistry::open`].
    pub(crate) fn open(inner: &Arc<TorrentInner>, client: Option<IpAddr>) -> Option<PieceStream> {
        let id = inner.streams.open(client)?;
        Some(PieceStream { inner: inner.clone(), id })
    }

    /// The reader needs these pieces next. Returns how many of them are verified, from the first on without a gap. If that is
    /// none, `wake` is called as soon as another call may return more, or the torrent has ended.
    ///
    /// # Errors
    /// `NotConnected` if the torrent has ended, `ConnectionAborted` if another reader has taken this one's place, `InvalidInput` if
    /// there is no such piece.
    pub fn poll(&self, pieces: Range<u32>, wake: &StreamWaker) -> io::Result<u32> {
        let context = self.inner.context().filter(|context| !context.settings.is_fetching_metadata);
        self.poll_in(context.as_deref(), pieces, wake)
    }

    /// Like [`PieceStream::poll`], with the context that the caller has.
    pub(crate) fn poll_in(
        &self,
        context: Option<&TorrentContext>,
        pieces: Range<u32>,
        wake: &StreamWaker,
    ) -> io::Result<u32> {
        self.inner.streams.poll(self.id, context, pieces, wake)
    }

    /// Waits until the piece is verified. Returns false if the time is up, the torrent has ended, or there is no such piece.
    pub(crate) fn wait(&self, piece: u32, timeout: Duration) -> bool {
        const A_YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
        let deadline = Instant::now() + timeout.min(A_YEAR);
        let (wake_sender, woken) = bounded(1);
        let wake: StreamWaker = Arc::new(move || _ = wake_sender.try_send(()));
        loop {
            match self.poll(piece..piece.saturating_add(1), &wake) {
                Ok(0) if woken.recv_deadline(deadline).is_ok() => {}
                Ok(verified) => return verified > 0,
                Err(_) => return false,
            }
        }
    }
}

impl Drop for PieceStream {
    fn drop(&mut self) {
        let context = self.inner.context().filter(|context| !context.settings.is_fetching_metadata);
        self.inner.streams.close(self.id, context.as_deref());
    }
}

#[cfg(test)]
mod tests;
