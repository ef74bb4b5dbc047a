//! Stress tests of the piece manager. Each of several simulated peers acts through the public interface: it joins,
//! picks, accepts, writes, settles, lets requests expire, leaves and returns; one sends wrong blocks. These must never happen:
//! two readers write the same block at once, a piece becomes complete twice, a piece verifies but is missing, an unwanted piece
//! is accepted, or the download stalls. Every other round has a plan: a random half of the pieces, some of them early, in order
//! or not.
//!
//! One test uses threads. The other has no threads: a seeded scheduler decides after every call who makes the next one. Each call
//! takes the lock once and keeps no state outside it, so threads can interleave only in such orders; the test tries a sample of
//! them, and a failure names its seed. This is not a model check: it covers neither all orders nor the inside of a call.

use std::collections::HashSet;
use std::io::IoSlice;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::common::PATIENCE;
use btsync::pieces::{BlockDecisions, PieceManager};
use btsync::storage::{FileSpec, Layout, Storage};
use btsync::strategy::picker::{PickContext, Plan, Speed};
use btsync::strategy::pipeline::EndGameLimit;
use btsync::types::{BLOCK_SIZE, Bitfield, BlockInfo, PeerKey, PieceIndex};

const PIECES: u32 = 48;
const BLOCKS: u32 = 4;
const LENGTH: u32 = BLOCKS * BLOCK_SIZE;
/// The last piece has a single, short block.
const TOTAL: u64 = (PIECES as u64 - 1) * LENGTH as u64 + 777;
const PEERS: u32 = 8;
/// Calls after which a peer gives up: many times what the slowest ever needed.
const STEPS: usize = 3_000_000;

/// The state that all readers share.
struct SharedState {
    pieces: PieceManager,
    /// Blocks that a reader was allowed to write and has not reported yet.
    writing: Mutex<HashSet<BlockInfo>>,
    /// Complete pieces that wait for verification.
    complete: Mutex<HashSet<PieceIndex>>,
    /// How often each piece was found correct.
    verified_count: Vec<AtomicU32>,
    wanted: Bitfield,
    wrong: AtomicU64,
    keys: AtomicU32,
    _folder: tempfile::TempDir,
}

/// The byte that fills a correct piece.
fn filler(piece: PieceIndex) -> u8 {
    piece.0 as u8 | 1
}

/// Everything for an even seed, a part for an odd one.
fn plan(seed: u64) -> Plan {
    let mut plan = Plan::all(PIECES);
    if seed % 2 == 1 {
        let mut rng = fastrand::Rng::with_seed(seed);
        (0..PIECES).filter(|_| rng.bool()).for_each(|piece| _ = plan.wanted.clear(PieceIndex(piece)));
        plan.early = (0..4).map(|_| PieceIndex(rng.u32(..PIECES))).collect();
        plan.is_sequential = seed % 4 == 1;
    }
    plan
}

impl SharedState {
    fn new(seed: u64) -> SharedState {
        let plan = plan(seed);
        let wanted = plan.wanted.clone();
        let folder = tempfile::tempdir().expect("a folder");
        let file = FileSpec { path: "x".into(), length: TOTAL, is_pad: false };
        let layout = Layout::new(LENGTH, vec![file]).expect("a layout");
        let storage = Arc::new(Storage::new(folder.path().into(), layout, 4));
        storage.prepare().expect("a file");
        // Correct content is recognised by its filler byte, read back from disk, so hashes are not needed.
        let hashes = vec![[0; 20]; PIECES as usize];
        SharedState {
            pieces: PieceManager::with_plan(storage, hashes, Bitfield::new(PIECES), plan),
            writing: Mutex::default(),
            complete: Mutex::default(),
            verified_count: (0..PIECES).map(|_| AtomicU32::new(0)).collect(),
            wanted,
            wrong: AtomicU64::new(0),
            keys: AtomicU32::new(1),
            _folder: folder,
        }
    }

    /// Writes blocks that the reader was allowed to write; no other reader writes them meanwhile.
    fn write(&self, blocks: &[BlockInfo], wrong: bool) {
        for block in blocks {
            let bytes = vec![if wrong { 0 } else { filler(block.piece) }; block.length as usize];
            let storage = self.pieces.storage();
            let at = storage.layout().offset(block.piece, block.begin);
            storage.write_vectored_at(at, &[IoSlice::new(&bytes)]).expect("room");
        }
        for block in blocks {
            assert!(self.writing.lock().unwrap().remove(block));
        }
    }

    /// Reads a piece back. Returns whether it is correct, and substitutes for its blocks' hashes.
    fn read_back(&self, piece: PieceIndex) -> (bool, Vec<[u8; 20]>) {
        let storage = self.pieces.storage();
        let mut bytes = vec![0; storage.layout().piece_size(piece) as usize];
        storage.read_exact_at(storage.layout().offset(piece, 0), &mut bytes).expect("it was written");
        let right = bytes.iter().all(|&byte| byte == filler(piece));
        (right, bytes.chunks(BLOCK_SIZE as usize).map(|block| [block[0]; 20]).collect())
    }

    /// Reports the result of the verification.
    fn settle(&self, piece: PieceIndex, right: bool, sums: &[[u8; 20]]) {
        assert!(self.complete.lock().unwrap().remove(&piece));
        self.pieces.piece_hashed(piece, right);
        if right {
            assert!(self.pieces.has(piece));
            assert_eq!(
                self.verified_count[piece.as_usize()].fetch_add(1, Ordering::Relaxed),
                0,
                "{piece:?} was right twice"
            );
            self.pieces.find_corrupt_senders(piece, sums);
        } else {
            self.wrong.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Asserts that everything ended in a consistent state.
    fn is_sound(&self) {
        assert!(self.pieces.is_complete() && self.pieces.missing_wanted_bytes() == 0);
        assert_eq!(self.pieces.have(), self.wanted);
        let times = |piece: u32| self.verified_count[piece as usize].load(Ordering::Relaxed);
        assert!((0..PIECES).all(|piece| times(piece) == u32::from(self.wanted.has(PieceIndex(piece)))));
        assert!(self.writing.lock().unwrap().is_empty() && self.complete.lock().unwrap().is_empty());
        for piece in self.wanted.iter() {
            assert!(self.read_back(piece).0, "{piece:?} is wrong on disk");
        }
    }
}

/// What a reader does next.
enum Operation {
    Away,
    PickContext,
    Writing(Vec<BlockInfo>),
    Judging(Vec<PieceIndex>),
}

/// A simulated reader of one peer.
struct SimulatedReader<'a> {
    shared: &'a SharedState,
    rng: fastrand::Rng,
    lies: bool,
    key: PeerKey,
    asked: Vec<BlockInfo>,
    doing: Operation,
}

impl<'a> SimulatedReader<'a> {
    fn new(shared: &'a SharedState, seed: u64, lies: bool) -> SimulatedReader<'a> {
        let rng = fastrand::Rng::with_seed(seed);
        SimulatedReader { shared, rng, lies, key: PeerKey(0), asked: Vec::new(), doing: Operation::Away }
    }

    /// Makes one call of the piece manager, or several that other readers cannot affect.
    fn step(&mut self) {
        let pieces = &self.shared.pieces;
        self.doing = match std::mem::replace(&mut self.doing, Operation::PickContext) {
            Operation::Away => {
                self.key = PeerKey(self.shared.keys.fetch_add(1, Ordering::Relaxed));
                pieces.add_peer(self.key);
                assert!(pieces.set_bitfield(self.key, Bitfield::full(PIECES)));
                Operation::PickContext
            }
            Operation::PickContext => self.ask(),
            Operation::Writing(taken) => {
                let wrong = self.lies && self.rng.u8(..4) == 0;
                self.shared.write(&taken, wrong);
                let mut whole = Vec::new();
                pieces.written(self.key, taken.into_iter(), &mut whole);
                let waiting = &self.shared.complete;
                for p in &whole {
                    assert!(waiting.lock().unwrap().insert(*p), "{p:?} came out whole twice");
                }
                if whole.is_empty() { Operation::PickContext } else { Operation::Judging(whole) }
            }
            Operation::Judging(mut whole) => {
                if let Some(piece) = whole.pop() {
                    self.judge(piece);
                    Operation::Judging(whole)
                } else {
                    Operation::PickContext
                }
            }
        };
    }

    fn ask(&mut self) -> Operation {
        let pieces = &self.shared.pieces;
        match self.rng.u8(..24) {
            0 => pieces.expire(self.key, &self.asked.split_off(self.asked.len() / 2), self.rng.bool()),
            1 => pieces.release(self.key, &std::mem::take(&mut self.asked)),
            2 => {
                pieces.remove_peer(self.key);
                self.asked.clear();
                return Operation::Away;
            }
            3..12 => {
                let pace = EndGameLimit { outstanding: self.asked.len(), least: 16, is_proven: false };
                let (n, speed) = (self.rng.usize(1..9), if self.rng.bool() { Speed::Fast } else { Speed::Slow });
                let pick_context = PickContext::unproven(Duration::ZERO, speed);
                pieces.pick(self.key, n, pick_context, pace, 0.2, &mut self.asked);
            }
            _ => return self.receive(),
        }
        Operation::PickContext
    }

    /// Some of the requested blocks arrive, the last one first.
    fn receive(&mut self) -> Operation {
        let come = self.asked.split_off(self.asked.len() - self.rng.usize(..=self.asked.len()));
        let mut accepted = BlockDecisions::default();
        self.shared.pieces.accept(self.key, come.iter().copied(), &mut accepted);
        assert_eq!(accepted.take.len(), come.len());
        let taken = come.iter().zip(&accepted.take).filter(|(_, take)| **take).map(|(block, _)| *block);
        let taken: Vec<BlockInfo> = taken.collect();
        assert!(taken.iter().all(|block| self.shared.wanted.has(block.piece)), "a piece that is not wanted");
        let writing = &self.shared.writing;
        for b in &taken {
            assert!(writing.lock().unwrap().insert(*b), "{b:?} is written by two at once");
        }
        if taken.is_empty() { Operation::PickContext } else { Operation::Writing(taken) }
    }

    fn judge(&mut self, piece: PieceIndex) {
        let pieces = &self.shared.pieces;
        assert!(!pieces.has(piece), "{piece:?} was there before it was judged");
        let block_senders = pieces.block_senders(piece);
        let (right, sums) = self.shared.read_back(piece);
        if !right && !block_senders.is_empty() {
            pieces.record_failed_blocks(piece, &block_senders, &sums);
        }
        self.shared.settle(piece, right, &sums);
    }

    /// Whether nothing is left to do.
    fn is_done(&self) -> bool {
        matches!(self.doing, Operation::PickContext | Operation::Away) && self.shared.pieces.is_complete()
    }
}

#[test]
fn many_threads_get_every_piece_once_and_right() {
    let mut wrong = 0;
    for seed in 0..200 {
        // More rounds, if the peer that lies was too late for each of the first ones.
        if seed >= 6 && wrong > 0 {
            break;
        }
        let shared = SharedState::new(seed);
        std::thread::scope(|scope| {
            for peer in 0..PEERS {
                let mut reader = SimulatedReader::new(&shared, seed * 100 + u64::from(peer), peer == 0);
                scope.spawn(move || {
                    // Many calls are no reason to give up while a thread that has blocks does not run.
                    let (mut steps, start) = (0, Instant::now());
                    while !reader.is_done() {
                        reader.step();
                        steps += 1;
                        assert!(steps < STEPS || start.elapsed() < PATIENCE, "the download stands still");
                    }
                });
            }
        });
        shared.is_sound();
        wrong += shared.wrong.load(Ordering::Relaxed);
    }
    assert!(wrong > 0, "no wrong piece in any round: the test does not test what it says");
}

/// The number of orders to try; `STRESS_ORDERS=10000` tries more.
fn orders() -> u64 {
    std::env::var("STRESS_ORDERS").ok().and_then(|n| n.parse().ok()).unwrap_or(40)
}

#[test]
fn every_order_of_calls_gets_every_piece_once_and_right() {
    for seed in 0..orders() {
        // The picker takes its seed from this thread's generator.
        fastrand::seed(seed);
        let shared = SharedState::new(seed);
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut readers: Vec<_> = (0..PEERS).map(|n| SimulatedReader::new(&shared, rng.u64(..), n == 0)).collect();
        // Some readers are slow, like threads that wait for the disk; which ones changes.
        let mut slow = 0_u8;
        let done = (0..STEPS).any(|step| {
            if step % 50 == 0 {
                slow = rng.u8(..);
            }
            let at = rng.usize(..readers.len());
            if slow & (1 << at) == 0 || rng.u8(..16) == 0 {
                readers[at].step();
            }
            readers.iter().all(SimulatedReader::is_done)
        });
        assert!(done, "seed {seed}: the download stands still");
        shared.is_sound();
    }
}
