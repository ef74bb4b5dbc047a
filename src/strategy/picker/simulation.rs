//! The picker in a random swarm, compared with a model that tracks every block.

mod lost_piece;
mod order;
mod seeks;
mod steps;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::strategy::picker::tests::proven;
use crate::types::PartialPiece;
use steps::{ModelStep, PlanInput, plan_input, some, step};

#[derive(Default)]
struct ModelPeer {
    /// Whether it was last picked for as a stalled peer.
    stalled: bool,
    asked: Vec<BlockInfo>,
    lost: Vec<BlockInfo>,
}

/// The picker, and the model's own state.
struct Model {
    picker: Picker,
    remotes: BTreeMap<PeerKey, ModelPeer>,
    next_key: u32,
    writing: Vec<(PeerKey, BlockInfo)>,
    received: BTreeSet<BlockInfo>,
    verifying: Vec<PieceIndex>,
    /// The pieces that the plan wants, and those that were begun when the plan was set.
    wanted: Bitfield,
    early: Vec<PieceIndex>,
    sequential: bool,
    /// How many requests were duplicates.
    duplicates: usize,
}

const FULL: PeerKey = PeerKey(0);

impl Model {
    fn new(pieces: u32, blocks: u32, cut: u32, seed: u64, plan_input: &PlanInput) -> Model {
        let total = u64::from(pieces * blocks * BLOCK_SIZE) - u64::from(cut);
        let mut picker = Picker::new(blocks * BLOCK_SIZE, total, Bitfield::new(pieces), seed);
        picker.add_peer(FULL);
        picker.set_bitfield(FULL, Bitfield::full(pieces));
        let mut model = Model {
            picker,
            remotes: BTreeMap::from([(FULL, ModelPeer::default())]),
            next_key: 1,
            writing: Vec::new(),
            received: BTreeSet::new(),
            verifying: Vec::new(),
            wanted: Bitfield::full(pieces),
            early: Vec::new(),
            sequential: false,
            duplicates: 0,
        };
        model.plan(plan_input);
        model
    }

    /// Restores partial pieces: of every piece with a bit in `pieces`, the blocks with a bit in `blocks`.
    fn restore(&mut self, pieces: u64, blocks: u64) {
        let geometry = self.picker.geometry;
        for piece in some(pieces, geometry.pieces).iter() {
            let there = some(blocks.rotate_left(piece.0), geometry.blocks(piece));
            let mut partial = PartialPiece::new(piece, there.len());
            there.iter().for_each(|block| partial.set(block.0));
            self.picker.restore(&partial);
            if self.wanted.has(piece) && !there.is_full() {
                self.received.extend(there.iter().map(|block| geometry.block(piece, block.as_usize())));
            }
        }
    }

    fn plan(&mut self, plan_input: &PlanInput) {
        let plan = plan_input.plan(self.picker.geometry.pieces);
        self.wanted = plan.wanted.clone();
        self.picker.begun.keys().for_each(|&piece| _ = self.wanted.set(piece));
        let mut seen = BTreeSet::new();
        let early = plan.early.iter().copied().filter(|&piece| seen.insert(piece)); // repetitions are ignored
        (self.early, self.sequential) = (early.collect(), plan.is_sequential);
        self.picker.set_plan(plan);
    }

    fn key(&self, peer: u8) -> PeerKey {
        *self.remotes.keys().nth(usize::from(peer) % self.remotes.len()).expect("the full one stays")
    }

    fn requested_peers(&self, block: &BlockInfo) -> usize {
        self.remotes.values().filter(|remote| remote.asked.contains(block)).count()
    }

    fn is_there(&self, block: &BlockInfo) -> bool {
        self.received.contains(block)
            || self.picker.have.has(block.piece)
            || self.writing.iter().any(|(_, b)| b == block)
    }

    /// The number of blocks that could be requested from the peer without duplicates.
    fn free_of(&self, key: PeerKey) -> usize {
        let geometry = self.picker.geometry;
        let bits = self.picker.peer_bitfield(key).expect("a known peer");
        let open = bits.iter().filter(|&piece| {
            self.wanted.has(piece)
                && match self.picker.begun.get(&piece) {
                    Some(begun) => self.picker.may_join(piece, begun, key),
                    None => !self.picker.must_leave(piece, key),
                }
        });
        let blocks = open.flat_map(|p| (0..geometry.blocks(p)).map(move |at| geometry.block(p, at as usize)));
        blocks.filter(|block| !self.is_there(block) && self.requested_peers(block) == 0).count()
    }

    fn pick(&mut self, key: PeerKey, n: usize, speed: Speed) -> usize {
        let mut out = Vec::new();
        let (free, unbegun) = (self.free_of(key), self.picker.order.unbegun().clone());
        self.picker.pick(key, n, proven(speed), &mut out);
        self.notice_taken_over(key);
        self.remotes.get_mut(&key).expect("known").stalled = speed == Speed::Stalled;
        assert!(out.len() >= n.min(free), "{} of {n} although {free} are free", out.len());
        assert!(out.len() <= n);
        let mut twice = 0;
        for block in &out {
            assert!(
                self.picker.peer_bitfield(key).is_some_and(|bits| bits.has(block.piece)),
                "the peer lacks {block:?}"
            );
            assert!(!self.is_there(block), "{block:?} is there");
            assert!(self.wanted.has(block.piece), "{block:?} is not wanted");
            assert!(!self.remotes[&key].asked.contains(block), "{block:?} is asked of this peer");
            let requested_peers = self.requested_peers(block);
            assert!(requested_peers < 3, "{block:?} has requests to too many peers");
            let is_urgent = self.picker.sequence.urgent.contains(&block.piece);
            twice += usize::from(requested_peers > 0 && !is_urgent);
            let stalled = |remote: &ModelPeer| remote.stalled || !remote.asked.contains(block);
            let stalled = self.remotes.values().all(stalled);
            assert!(
                requested_peers == 0 || stalled || is_urgent || self.picker.order.is_exhausted(),
                "asked twice outside the end-game"
            );
            assert!(requested_peers == 0 || speed != Speed::Stalled, "a stalled peer is asked for what others are");
            self.remotes.get_mut(&key).expect("known").asked.push(*block);
        }
        self.keeps_the_order(key, &unbegun, speed);
        if twice > 0 {
            assert_eq!(self.free_of(key), 0, "asked twice while something is free");
            assert!(twice <= 16);
        }
        self.duplicates += twice;
        out.len()
    }

    /// Forgets the blocks and requests of others in pieces that the peer took over.
    fn notice_taken_over(&mut self, key: PeerKey) {
        let (begun, geometry) = (&self.picker.begun, self.picker.geometry);
        let state = |block: &BlockInfo| begun.get(&block.piece)?.get(geometry.block_index(block)?);
        let pieces: BTreeSet<PieceIndex> = begun.keys().copied().collect();
        self.received
            .retain(|block| !pieces.contains(&block.piece) || matches!(state(block), Some(BlockState::Received(_))));
        for (&other, remote) in self.remotes.iter_mut().filter(|(other, _)| **other != key) {
            let is_asked = |block: &mut BlockInfo| matches!(state(block), Some(BlockState::Requested { requested_peers, .. }) if requested_peers.contains(other));
            let lost: Vec<BlockInfo> = remote.asked.extract_if(.., |block| !is_asked(block)).collect();
            remote.lost.retain(|block| !lost.contains(block));
            remote.lost.extend(lost);
        }
    }

    fn arrive(&mut self, key: PeerKey, block: BlockInfo, asked: bool) -> bool {
        // Any arrival uses up the picker's memory of a block that it took back.
        self.remotes.get_mut(&key).expect("known").lost.retain(|b| *b != block);
        let there = self.is_there(&block);
        let mut cancels = Vec::new();
        let begun = self.picker.begun.get(&block.piece);
        let is_shut_out =
            !asked && begun.is_some_and(|b| b.only_peer != Some(key) && self.picker.is_exclusive(block.piece, b));
        let accept = self.picker.accept(key, block, &mut cancels);
        let expected = match there {
            true => BlockVerdict::Duplicate,
            // A late block that is no longer wanted.
            false if !self.wanted.has(block.piece) => BlockVerdict::Unrequested,
            // A late block of a piece that another peer fills alone.
            false if is_shut_out => BlockVerdict::Duplicate,
            false => BlockVerdict::Take,
        };
        assert_eq!(accept, expected, "asked: {asked}");
        if accept != BlockVerdict::Take {
            assert!(cancels.is_empty());
            return false;
        }
        let others: BTreeSet<PeerKey> =
            self.remotes.iter().filter(|(k, r)| **k != key && r.asked.contains(&block)).map(|(k, _)| *k).collect();
        assert_eq!(cancels.iter().map(|c| c.0).collect::<BTreeSet<_>>(), others);
        assert_eq!(cancels.len(), others.len());
        self.remotes.values_mut().for_each(|remote| remote.asked.retain(|b| *b != block));
        self.writing.push((key, block));
        true
    }

    fn written(&mut self, which: usize) {
        let (key, block) = self.writing.remove(which);
        self.received.insert(block);
        let count = self.received.iter().filter(|b| b.piece == block.piece).count();
        let unverified = self.picker.written(key, block);
        assert_eq!(
            unverified.is_some(),
            count == self.picker.geometry.blocks(block.piece) as usize,
            "all blocks or not"
        );
        self.verifying.extend(unverified);
    }

    fn verify(&mut self, ok: bool) {
        let Some(piece) = self.verifying.pop() else { return };
        let verdict = self.picker.piece_hashed(piece, ok);
        assert!(!verdict.senders.is_empty());
        assert_eq!(self.picker.have.has(piece), ok);
        if !ok {
            self.received.retain(|b| b.piece != piece);
        }
    }

    fn step(&mut self, step: &ModelStep) {
        match *step {
            ModelStep::Pick { peer, n, speed } => {
                let speed = [Speed::Fast, Speed::Slow, Speed::Stalled][usize::from(speed)];
                self.pick(self.key(peer), usize::from(n), speed);
            }
            ModelStep::Arrive { peer, which, written } => {
                let key = self.key(peer);
                let asked = &mut self.remotes.get_mut(&key).expect("known").asked;
                if !asked.is_empty() {
                    let block = asked.remove(usize::from(which) % asked.len());
                    if self.arrive(key, block, true) && written {
                        self.written(self.writing.len() - 1);
                    }
                }
            }
            ModelStep::Late { peer, which } => {
                let key = self.key(peer);
                let lost = &mut self.remotes.get_mut(&key).expect("known").lost;
                if !lost.is_empty() {
                    let block = lost.remove(usize::from(which) % lost.len());
                    self.remotes.get_mut(&key).expect("known").asked.retain(|b| *b != block);
                    self.arrive(key, block, false);
                }
            }
            ModelStep::Written { which } => {
                if !self.writing.is_empty() {
                    self.written(usize::from(which) % self.writing.len());
                }
            }
            ModelStep::Verify { ok } => self.verify(ok),
            ModelStep::Choke { peer } => self.take_back(self.key(peer), 0, false),
            ModelStep::Expire { peer, from } => self.take_back(self.key(peer), usize::from(from), true),
            ModelStep::Seek(ref pieces) => self.seek(pieces),
            ModelStep::Leave { peer } => self.leave(self.key(peer)),
            ModelStep::Join { bits } => self.join(bits),
            ModelStep::Have { peer, piece } => {
                let piece = PieceIndex(u32::from(piece) % self.picker.geometry.pieces);
                self.picker.peer_has(self.key(peer), piece);
            }
            ModelStep::Lose { peer, piece } => self.lose(self.key(peer), piece),
            ModelStep::Plan(ref plan_input) => self.plan(plan_input),
            ModelStep::Sequential(is_sequential) => {
                self.sequential = is_sequential;
                self.picker.set_sequential(is_sequential);
            }
            ModelStep::Priorities(masks) => {
                let pieces = self.picker.geometry.pieces;
                let priorities =
                    masks.map(|(high, low)| PiecePriorities { high: some(high, pieces), low: some(low, pieces) });
                self.picker.set_priorities(priorities);
            }
            ModelStep::Urgent(ref pieces) => {
                self.picker.set_urgent(pieces.iter().map(|&piece| PieceIndex(u32::from(piece))));
            }
        }
    }

    fn leave(&mut self, key: PeerKey) {
        if key != FULL {
            self.picker.remove_peer(key);
            self.remotes.remove(&key);
            self.writing.retain(|(by, _)| *by != key);
        }
    }

    fn join(&mut self, bits: u64) {
        let key = PeerKey(self.next_key);
        self.next_key += 1;
        self.picker.add_peer(key);
        self.remotes.insert(key, ModelPeer::default());
        self.picker.set_bitfield(key, some(bits, self.picker.geometry.pieces));
    }

    /// Chokes us, or lets requests expire, from the given request on.
    fn take_back(&mut self, key: PeerKey, from: usize, expired: bool) {
        let remote = self.remotes.get_mut(&key).expect("known");
        let from = from % (remote.asked.len() + 1);
        let gone = remote.asked.split_off(from);
        // A request that was lost twice is remembered once.
        remote.lost.retain(|b| !gone.contains(b));
        remote.lost.extend(&gone);
        if expired {
            self.picker.expire(key, &gone)
        } else {
            self.picker.release(key, &gone)
        };
    }

    /// Every peer except the full one falls silent. The full one answers, and all writes and hashes complete.
    fn finish(&mut self) {
        for round in 0.. {
            assert!(round < 5000, "does not come to an end");
            while !self.writing.is_empty() {
                self.written(0);
            }
            while !self.verifying.is_empty() {
                self.verify(true);
            }
            self.picker.check_invariants();
            if self.picker.is_complete() {
                break;
            }
            self.pick(FULL, 7, if round % 2 == 0 { Speed::Fast } else { Speed::Slow });
            let asked = std::mem::take(&mut self.remotes.get_mut(&FULL).expect("known").asked);
            let arrived = asked.len();
            for block in asked {
                self.arrive(FULL, block, true);
            }
            if arrived == 0 {
                // The remaining blocks have three silent peers each; their requests expire.
                for key in self.remotes.keys().copied().filter(|&key| key != FULL).collect::<Vec<_>>() {
                    self.take_back(key, 0, true);
                    self.picker.mark_stalled(key);
                }
            }
        }
        assert_eq!((self.picker.missing_wanted_bytes(), self.picker.begun.len()), (0, 0));
        assert!(self.wanted.is_within(self.picker.have()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_twice_nothing_forgotten(
        pieces in 1..24u32, blocks in 1..7u32, cut in 0..BLOCK_SIZE, seed: u64, plan_input in plan_input(), restored: (u64, u64),
        steps in prop::collection::vec(step(), 0..300),
    ) {
        let mut model = Model::new(pieces, blocks, cut, seed, &plan_input);
        model.restore(restored.0, restored.1);
        model.picker.check_invariants();
        for step in &steps {
            model.step(step);
            model.picker.check_invariants();
        }
        model.finish();
    }

    #[test]
    fn answering_peers_finish_with_few_duplicates(
        pieces in 1..40u32, blocks in 1..20u32, seed: u64, plan_input in plan_input(), depth in 1..30usize,
        speeds in prop::collection::vec(1..9usize, 1..12),
    ) {
        let mut model = Model::new(pieces, blocks, 0, seed, &plan_input);
        for _ in &speeds {
            model.join(u64::MAX);
        }
        let total = (pieces * blocks) as usize;
        for round in 0.. {
            prop_assert!(round <= 20 * total + 20, "does not come to an end");
            if model.picker.is_complete() {
                break;
            }
            for (at, &speed) in speeds.iter().enumerate() {
                let key = PeerKey(at as u32 + 1);
                let room = depth.saturating_sub(model.remotes[&key].asked.len());
                model.pick(key, room, if speed > 4 { Speed::Fast } else { Speed::Slow });
                for _ in 0..speed {
                    if !model.remotes[&key].asked.is_empty() {
                        model.step(&ModelStep::Arrive { peer: at as u8 + 1, which: 0, written: true });
                        model.verify(true);
                    }
                }
            }
        }
        prop_assert_eq!(model.picker.have(), &some(plan_input.wanted, pieces), "exactly what is wanted");
        // Only blocks in flight when the last free block was requested can be duplicated, with three peers per block.
        prop_assert!(model.duplicates <= 2 * depth * speeds.len(), "{} of {total}", model.duplicates);
    }
}
