//! The cost of picking as a torrent grows from 1,000 to 200,000 pieces and a swarm from 5 to 500 peers.
//!
//! Each case has its own swarm, which is set up outside the measured time. The cost per piece should hardly differ between cases.

use std::fmt;
use std::hint::black_box;
use std::time::Duration;

use btsync::strategy::picker::{PickContext, PiecePriorities, Speed};
use btsync::strategy::{BlockVerdict, Picker};
use btsync::types::{BLOCK_SIZE, Bitfield, BlockInfo, PeerKey, PieceIndex};
use divan::Bencher;
use divan::counter::ItemsCount;

/// Blocks per piece.
const BLOCKS: u32 = 16;
/// Pieces or HAVEs per sample.
const BATCH: usize = 256;
/// How each peer serves us.
const ASKING: PickContext = PickContext {
    now: Duration::ZERO,
    speed: Speed::Fast,
    answer_time: Some(Duration::from_millis(1)),
    per_block: Duration::ZERO,
};
/// A peer that joins and leaves.
const VISITOR: PeerKey = PeerKey(1 << 20);

/// Which pieces the peers have.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Peers {
    /// Every piece.
    Seeds,
    /// A random half of the pieces, different for each peer.
    Half,
    /// One piece in 64.
    Few,
}

/// The sizes of a torrent and its swarm.
#[derive(Clone, Copy)]
struct Case {
    pieces: u32,
    peers: u32,
    have: Peers,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {} pieces, {} peers", self.have, self.pieces, self.peers)
    }
}

impl Case {
    /// All sizes, for each of these kinds of peers.
    fn all(kinds: &[Peers]) -> Vec<Case> {
        let sizes = [(1_000, 5), (200_000, 5), (1_000, 500), (200_000, 500)];
        let case = |have| sizes.map(|(pieces, peers)| Case { pieces, peers, have });
        kinds.iter().copied().flat_map(case).collect()
    }

    fn bits(self, have: Peers, rng: &mut fastrand::Rng) -> Bitfield {
        let mut bytes = vec![0; self.pieces as usize / 8];
        match have {
            Peers::Seeds => bytes.fill(0xff),
            Peers::Half => rng.fill(&mut bytes),
            Peers::Few => bytes.fill_with(|| (0..6).fold(0xff, |byte, _| byte & rng.u8(..))),
        }
        Bitfield::from_wire(&bytes, self.pieces).expect("a number of pieces that fills its bytes")
    }

    /// A picker with some verified pieces, so that it is past the first pieces, which are picked at random.
    fn picker(self) -> Picker {
        let mut rng = fastrand::Rng::with_seed(u64::from(self.pieces + self.peers));
        let mut have = Bitfield::new(self.pieces);
        for piece in 0..self.pieces / 100 {
            have.set(PieceIndex(piece));
        }
        let piece_length = BLOCKS * BLOCK_SIZE;
        let mut picker = Picker::new(piece_length, u64::from(self.pieces) * u64::from(piece_length), have, 1);
        for key in (0..self.peers).map(PeerKey) {
            picker.add_peer(key);
            picker.set_bitfield(key, self.bits(self.have, &mut rng));
        }
        picker
    }
}

/// A download in progress: every peer was asked for one piece.
struct Flow {
    picker: Picker,
    asked: Vec<Vec<BlockInfo>>,
    cancels: Vec<(PeerKey, BlockInfo)>,
    next: usize,
}

impl Flow {
    fn new(case: Case) -> Flow {
        let mut picker = case.picker();
        let mut asked = vec![Vec::new(); case.peers as usize];
        for (key, asked) in (0..).map(PeerKey).zip(&mut asked) {
            picker.pick(key, BLOCKS as usize, ASKING, asked);
        }
        Flow { picker, asked, cancels: Vec::new(), next: 0 }
    }

    /// Delivers the next peer's piece and requests another one from it.
    fn piece(&mut self) {
        let Flow { picker, asked, cancels, next } = self;
        let key = PeerKey(*next as u32);
        let peers = asked.len();
        let blocks = &mut asked[*next];
        *next = (*next + 1) % peers;
        for block in blocks.iter() {
            assert_eq!(picker.accept(key, *block, cancels), BlockVerdict::Take);
        }
        for block in blocks.drain(..) {
            if let Some(piece) = picker.written(key, block) {
                black_box(picker.piece_hashed(piece, true));
            }
        }
        picker.pick(key, BLOCKS as usize, ASKING, blocks);
        assert_eq!(blocks.len(), BLOCKS as usize);
    }
}

/// A whole piece: pick, accept, written, verified.
#[divan::bench(args = Case::all(&[Peers::Seeds, Peers::Half]), sample_count = 10, sample_size = 1)]
fn piece(bencher: Bencher, case: &Case) {
    let case = *case;
    bencher.counter(ItemsCount::new(BATCH)).with_inputs(|| Flow::new(case)).bench_refs(|flow| {
        (0..BATCH).for_each(|_| flow.piece());
    });
}

/// Picking only: a peer begins a piece and releases it.
#[divan::bench(args = Case::all(&[Peers::Seeds, Peers::Half, Peers::Few]))]
fn pick(bencher: Bencher, case: &Case) {
    let mut picker = case.picker();
    let mut blocks = Vec::new();
    let mut key = 0;
    bencher.bench_local(|| {
        blocks.clear();
        picker.pick(PeerKey(key), 1, ASKING, &mut blocks);
        picker.release(PeerKey(key), black_box(&blocks));
        key = (key + 1) % case.peers;
    });
}

/// A peer announces a new piece.
#[divan::bench(args = Case::all(&[Peers::Half]), sample_count = 10, sample_size = 1)]
fn have(bencher: Bencher, case: &Case) {
    let case = *case;
    let inputs = || {
        let (picker, mut rng) = (case.picker(), fastrand::Rng::with_seed(2));
        let mut news = Vec::new();
        while news.len() < BATCH {
            let (key, piece) = (PeerKey(rng.u32(..case.peers)), PieceIndex(rng.u32(..case.pieces)));
            if picker.peer_bitfield(key).is_some_and(|bits| !bits.has(piece)) && !news.contains(&(key, piece)) {
                news.push((key, piece));
            }
        }
        (picker, news)
    };
    bencher.counter(ItemsCount::new(BATCH)).with_inputs(inputs).bench_refs(|(picker, news)| {
        for &(key, piece) in news.iter() {
            assert!(picker.peer_has(key, piece));
        }
    });
}

/// A peer joins, sends its bitfield, and leaves.
#[divan::bench(args = Case::all(&[Peers::Seeds, Peers::Half]), sample_count = 50)]
fn join_and_leave(bencher: Bencher, case: &Case) {
    let mut picker = case.picker();
    let bits = case.bits(case.have, &mut fastrand::Rng::with_seed(3));
    bencher.with_inputs(|| bits.clone()).bench_local_values(|bits| {
        picker.add_peer(VISITOR);
        picker.set_bitfield(VISITOR, bits);
        picker.remove_peer(VISITOR)
    });
}

/// In which order the program wants the pieces.
#[derive(Clone, Copy, Debug)]
enum Order {
    /// The rarest first.
    Usual,
    Sequential,
    /// A third of the pieces is of high priority, a third of low priority.
    Priorities,
    /// A reader waits for 64 pieces.
    Urgent,
}

/// A swarm of 50 peers, and the order of pieces.
#[derive(Clone, Copy)]
struct OrderedCase {
    case: Case,
    order: Order,
}

impl fmt::Display for OrderedCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {}", self.order, self.case)
    }
}

impl OrderedCase {
    fn all() -> Vec<OrderedCase> {
        let orders = [Order::Usual, Order::Sequential, Order::Priorities, Order::Urgent];
        let cases = [1_000, 20_000]
            .into_iter()
            .flat_map(|pieces| [Peers::Seeds, Peers::Half].map(|have| Case { pieces, peers: 50, have }));
        cases.flat_map(|case| orders.map(|order| OrderedCase { case, order })).collect()
    }

    fn picker(self) -> Picker {
        let mut picker = self.case.picker();
        let pieces = self.case.pieces;
        let every_third = |first: u32| {
            let mut bits = Bitfield::new(pieces);
            (first..pieces).step_by(3).for_each(|piece| _ = bits.set(PieceIndex(piece)));
            bits
        };
        match self.order {
            Order::Usual => {}
            Order::Sequential => picker.set_sequential(true),
            Order::Priorities => {
                picker.set_priorities(Some(PiecePriorities { high: every_third(0), low: every_third(1) }));
            }
            Order::Urgent => picker.set_urgent((pieces / 2..pieces / 2 + 64).map(PieceIndex)),
        }
        picker
    }
}

/// Like `pick`, with every order of pieces, and sixteen blocks at a time.
#[divan::bench(args = OrderedCase::all())]
fn pick_in_order(bencher: Bencher, case: &OrderedCase) {
    let (mut picker, mut blocks, mut key) = (case.picker(), Vec::new(), 0);
    let asking = PickContext { per_block: Duration::from_millis(10), ..ASKING };
    bencher.bench_local(|| {
        blocks.clear();
        picker.pick(PeerKey(key), BLOCKS as usize, asking, &mut blocks);
        picker.release(PeerKey(key), black_box(&blocks));
        key = (key + 1) % case.case.peers;
    });
}
