//! The unbegun missing pieces, rarest first: one flat array sorted by availability, with the ends of its buckets. A HAVE swaps
//! one piece across one boundary. Seeds are counted separately, so that a further seed costs nothing.
//!
//! The array takes ten bytes per piece, whatever the number of peers.

use crate::types::{Bitfield, PieceIndex};

/// The place of a piece that is not in the array.
const NOWHERE: u32 = u32::MAX;
/// How many pieces of the array are examined before scanning the bitfield instead. Bounds the cost of a pick for a peer with few
/// pieces.
const PROBES: usize = 4096;
/// How many random places of a bucket are tried before it is searched linearly: pieces that one peer announced are adjacent in
/// it.
const TRIES: usize = 32;
/// How many common pieces a scan of the bitfield compares before it takes the best of them.
const COMPARED: usize = 1024;

/// Unbegun missing pieces, sorted by how many peers have them.
pub(crate) struct AvailabilityOrder {
    /// For every piece of the torrent, how many peers other than seeds have it.
    availability: Vec<u16>,
    /// The piece's index in `sorted`.
    index: Vec<u32>,
    /// The unbegun pieces, sorted by `availability`.
    sorted: Vec<u32>,
    /// `ends[a]`: the end in `sorted` of the pieces with availability `a`. Never empty.
    ends: Vec<u32>,
    unbegun: Bitfield,
    /// No byte of `unbegun` before this one contains a piece.
    low: usize,
    seeds: u32,
}

impl AvailabilityOrder {
    /// All pieces that `have` lacks, without any peer.
    pub(crate) fn new(have: &Bitfield) -> AvailabilityOrder {
        let mut order = AvailabilityOrder {
            availability: vec![0; have.len() as usize],
            index: vec![NOWHERE; have.len() as usize],
            sorted: Vec::with_capacity((have.len() - have.count()) as usize),
            ends: vec![0],
            unbegun: Bitfield::new(have.len()),
            low: 0,
            seeds: 0,
        };
        for piece in (0..have.len()).map(PieceIndex).filter(|&p| !have.has(p)) {
            order.insert(piece);
        }
        order
    }

    /// The unbegun pieces as a bitfield.
    pub(crate) fn unbegun(&self) -> &Bitfield {
        &self.unbegun
    }

    /// How many connected peers are seeds.
    pub(crate) fn seeds(&self) -> usize {
        self.seeds as usize
    }

    /// How many connected peers have the piece.
    pub(crate) fn holders(&self, piece: PieceIndex) -> u32 {
        self.seeds + self.availability.get(piece.as_usize()).map_or(0, |&a| u32::from(a))
    }

    /// Whether no connected peer has an unbegun piece.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.sorted.is_empty()
            || (self.seeds == 0 && self.ends.first().is_some_and(|&e| e as usize == self.sorted.len()))
    }

    /// Adds a peer with these pieces: as a seed, or piece by piece.
    pub(crate) fn join(&mut self, bits: &Bitfield, is_seed: bool) {
        if is_seed {
            self.seeds += 1;
        } else {
            bits.iter().for_each(|piece| self.more(piece));
        }
    }

    /// Removes a peer with these pieces that was counted as a seed, or piece by piece.
    pub(crate) fn leave(&mut self, bits: &Bitfield, is_seed: bool) {
        if is_seed {
            self.seeds -= 1;
        } else {
            bits.iter().for_each(|piece| self.fewer(piece));
        }
    }

    /// Converts a peer that was counted piece by piece into a seed.
    pub(crate) fn promote(&mut self) {
        // It has every piece, so only the first bucket disappears, and that one is empty.
        self.availability.iter_mut().for_each(|a| *a = a.saturating_sub(1));
        if self.ends.len() > 1 {
            self.ends.remove(0);
        }
        self.seeds += 1;
    }

    /// Counts a seed piece by piece again, because it is about to lose one.
    pub(crate) fn demote(&mut self) {
        self.seeds -= 1;
        // Every piece has one holder more, so all buckets move up by one, and the first is empty.
        self.availability.iter_mut().for_each(|a| *a += 1);
        self.ends.insert(0, 0);
    }

    /// Counts one more peer that has the piece.
    pub(crate) fn more(&mut self, piece: PieceIndex) {
        let a = usize::from(self.availability[piece.as_usize()]);
        if self.ends.len() <= a + 1 {
            self.ends.push(self.sorted.len() as u32);
        }
        self.availability[piece.as_usize()] += 1;
        if self.index[piece.as_usize()] != NOWHERE {
            self.ends[a] -= 1;
            self.swap(self.index[piece.as_usize()], self.ends[a]);
        }
    }

    /// Counts one peer fewer that has the piece.
    pub(crate) fn fewer(&mut self, piece: PieceIndex) {
        let Some(below) = usize::from(self.availability[piece.as_usize()]).checked_sub(1) else { return };
        self.availability[piece.as_usize()] -= 1;
        if self.index[piece.as_usize()] != NOWHERE {
            self.swap(self.index[piece.as_usize()], self.ends[below]);
            self.ends[below] += 1;
        }
    }

    fn swap(&mut self, here: u32, there: u32) {
        self.sorted.swap(here as usize, there as usize);
        self.index[self.sorted[here as usize] as usize] = here;
        self.index[self.sorted[there as usize] as usize] = there;
    }

    /// Adds a missing, unbegun piece. One step per bucket.
    pub(crate) fn insert(&mut self, piece: PieceIndex) {
        if !self.unbegun.set(piece) {
            return;
        }
        self.low = self.low.min(piece.as_usize() / 8);
        let a = usize::from(self.availability[piece.as_usize()]);
        let mut hole = self.sorted.len();
        self.sorted.push(piece.0);
        for bucket in (a + 1..self.ends.len()).rev() {
            let first = self.ends[bucket - 1] as usize;
            self.refill(first, &mut hole);
            self.ends[bucket] += 1;
        }
        self.ends[a] += 1;
        self.put(piece.0, hole);
    }

    /// Removes a piece that is begun. One step per bucket.
    pub(crate) fn remove(&mut self, piece: PieceIndex) {
        if !self.unbegun.clear(piece) {
            return;
        }
        let mut hole = self.index[piece.as_usize()] as usize;
        for bucket in usize::from(self.availability[piece.as_usize()])..self.ends.len() {
            self.ends[bucket] -= 1;
            let last = self.ends[bucket] as usize;
            self.refill(last, &mut hole);
        }
        self.sorted.pop();
        self.index[piece.as_usize()] = NOWHERE;
    }

    /// Moves the piece at `from` into the hole; `from` is then the hole. In an empty bucket they are the same.
    fn refill(&mut self, from: usize, hole: &mut usize) {
        if from != *hole {
            self.put(self.sorted[from], *hole);
            *hole = from;
        }
    }

    fn put(&mut self, piece: u32, at: usize) {
        self.sorted[at] = piece;
        self.index[piece as usize] = at as u32;
    }

    /// The rarest unbegun piece in `bits`, with ties broken at random; with `takes_any`, a random one. `bits` may lack some pieces of
    /// the peer; `is_seed` says whether the peer has all.
    pub(crate) fn choose(
        &self,
        bits: &Bitfield,
        is_seed: bool,
        takes_any: bool,
        rng: &mut fastrand::Rng,
    ) -> Option<PieceIndex> {
        let mut probes = PROBES;
        if takes_any {
            let found = self.probe(0, self.sorted.len(), bits, &mut probes, rng);
            return found.or_else(|| self.scan(bits, rng));
        }
        // A piece that no peer except seeds has can only be chosen for a seed.
        let skip = usize::from(!is_seed);
        let mut start = if skip == 0 { 0 } else { self.ends.first().map_or(0, |&e| e as usize) };
        for &end in self.ends.iter().skip(skip) {
            let found = self.probe(start, end as usize, bits, &mut probes, rng);
            if found.is_some() {
                return found;
            }
            if probes == 0 {
                return self.scan(bits, rng);
            }
            start = end as usize;
        }
        None
    }

    /// The lowest unbegun piece in `bits`.
    pub(crate) fn first(&mut self, bits: &Bitfield) -> Option<PieceIndex> {
        let unbegun = self.unbegun.as_bytes();
        while unbegun.get(self.low) == Some(&0) {
            self.low += 1;
        }
        let mut both = unbegun.iter().zip(bits.as_bytes()).map(|(a, b)| a & b).enumerate().skip(self.low);
        let (at, byte) = both.find(|&(_, byte)| byte != 0)?;
        Some(PieceIndex(at as u32 * 8 + byte.leading_zeros()))
    }

    /// The piece after `last`, if it is unbegun and in `bits`.
    pub(crate) fn next_after(&self, last: Option<PieceIndex>, bits: &Bitfield) -> Option<PieceIndex> {
        let next = PieceIndex(last?.0.saturating_add(1));
        Some(next).filter(|&next| self.unbegun.has(next) && bits.has(next))
    }

    /// A better placed piece that is as rare as the chosen one: the one after `last`, or the start of the run of such pieces
    /// around the chosen one, within an extent of `extent` pieces. Adjacent pieces need fewer write calls, and cost file systems
    /// and spinning disks less.
    pub(crate) fn adjacent_to(
        &self,
        chosen: PieceIndex,
        last: Option<PieceIndex>,
        extent: u32,
        bits: &Bitfield,
    ) -> PieceIndex {
        let rarity = self.availability[chosen.as_usize()];
        let fits = |piece: PieceIndex| {
            self.unbegun.has(piece)
                && bits.has(piece)
                && self.availability.get(piece.as_usize()).is_some_and(|&a| a <= rarity)
        };
        let next = last.map(|last| PieceIndex(last.0.saturating_add(1))).filter(|next| next.0 % extent != 0);
        if let Some(next) = next.filter(|&next| fits(next)) {
            return next;
        }
        let first = chosen.0 - chosen.0 % extent;
        let run = (first..chosen.0).rev().map(PieceIndex).take_while(|&piece| fits(piece));
        run.last().unwrap_or(chosen)
    }

    /// A piece of `bits` in a part of the array: tries some random places first, then searches linearly from a random start.
    fn probe(
        &self,
        start: usize,
        end: usize,
        bits: &Bitfield,
        probes: &mut usize,
        rng: &mut fastrand::Rng,
    ) -> Option<PieceIndex> {
        let bucket = self.sorted.get(start..end).filter(|b| !b.is_empty())?;
        for _ in 0..TRIES.min(bucket.len()).min(*probes) {
            *probes -= 1;
            let piece = PieceIndex(bucket[rng.usize(..bucket.len())]);
            if bits.has(piece) {
                return Some(piece);
            }
        }
        let (before, after) = bucket.split_at(rng.usize(..bucket.len()));
        for &piece in after.iter().chain(before) {
            if *probes == 0 {
                return None;
            }
            *probes -= 1;
            if bits.has(PieceIndex(piece)) {
                return Some(PieceIndex(piece));
            }
        }
        None
    }

    /// The rarest of the first pieces of `bits` that a scan of the bitfield finds, starting at a random byte and wrapping around.
    fn scan(&self, bits: &Bitfield, rng: &mut fastrand::Rng) -> Option<PieceIndex> {
        let both = bits.as_bytes().iter().zip(self.unbegun.as_bytes()).map(|(a, b)| a & b).enumerate();
        let (bytes, mut best, mut compared) = (bits.as_bytes().len(), None, 0);
        let start = if bytes == 0 { 0 } else { rng.usize(..bytes) };
        for (at, byte) in both.clone().skip(start).chain(both.take(start)).filter(|&(_, byte)| byte != 0) {
            for bit in (0..8).filter(|bit| byte & (0x80 >> bit) != 0) {
                let piece = PieceIndex(at as u32 * 8 + bit);
                let rarity = self.availability[piece.as_usize()];
                if best.is_none_or(|(least, _)| rarity < least) {
                    best = Some((rarity, piece));
                }
                compared += 1;
            }
            if compared >= COMPARED {
                break;
            }
        }
        best.map(|(_, piece)| piece)
    }

    /// Asserts the invariants. `peers` are the pieces of each peer, and whether it counts as a seed.
    #[cfg(test)]
    pub(crate) fn check<'a>(&self, peers: &(impl Iterator<Item = (&'a Bitfield, bool)> + Clone)) {
        assert_eq!(self.seeds as usize, peers.clone().filter(|(_, is_seed)| *is_seed).count());
        for piece in (0..self.unbegun.len()).map(PieceIndex) {
            let holders = peers.clone().filter(|(bits, is_seed)| !is_seed && bits.has(piece)).count();
            assert_eq!(usize::from(self.availability[piece.as_usize()]), holders, "availability of {piece:?}");
            let place = self.index[piece.as_usize()];
            assert_eq!(self.unbegun.has(piece), place != NOWHERE);
            if place != NOWHERE {
                assert_eq!(self.sorted[place as usize], piece.0);
                let start = if holders == 0 { 0 } else { self.ends[holders - 1] };
                assert!((start..self.ends[holders]).contains(&place), "{piece:?} in its bucket");
            }
        }
        assert_eq!(self.sorted.len(), self.unbegun.count() as usize);
        assert!(self.unbegun.iter().all(|piece| piece.as_usize() / 8 >= self.low));
        assert_eq!(self.ends.last().copied(), Some(self.sorted.len() as u32));
    }
}
