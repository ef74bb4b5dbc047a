//! Fetching the info dictionary from peers (BEP 9), and serving it. Pure: time comes in as a [`Duration`] since some start.
//!
//! Nothing but the SHA-1 at the end says whether it is right, so the peers vote with the size they claim: those of one size fill
//! one *assembly* together, and two sizes are tried at once. Where an assembly turns out wrong with pieces of one peer, that peer
//! lied. With pieces of several, each of them fills an assembly of its own from then on, so that the next failure has one author:
//! an honest peer gets through alone, and is never blamed.
//!
//! The caller tells what happens ([`MetadataFetch::offer`], [`MetadataFetch::data`], …), and after that, and whenever
//! [`MetadataFetch::next_due`] has come, sends what [`MetadataFetch::requests`] gives.

mod assembly;
#[cfg(test)]
mod simulation;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use crate::types::{InfoHash, PeerKey};
use crate::wire::metadata::{MAX_SIZE, MetadataMessage, PIECE, pieces};
use assembly::Assembly;

/// Requests under way with one peer.
const DEPTH: usize = 3;
/// A request is late after so long; what comes later still counts.
const LATE: Duration = Duration::from_secs(10);
/// A peer with so many late requests in a row is left alone for a while.
const MAX_LATE: u32 = 3;
/// For so long; a peer that rejects may have the metadata by then.
const PAUSE: Duration = Duration::from_secs(30);
/// Sizes that are tried at once, up to [`LARGE`] and above it: large false sizes do not keep out a small one, and memory stays bounded.
const MAX_SHARED: (usize, usize) = (6, 2);
/// Most metadata is smaller than this, in bytes.
const LARGE: u32 = 2 << 20;
/// Peers that fill an assembly alone at once.
const MAX_ALONE: usize = 2;
/// An assembly has so long while others wait for its place; doubled with each further turn. Short, as most metadata comes in a moment
/// and false sizes that come in drops must not take long to be passed over.
const TURN: Duration = Duration::from_secs(5);
/// Peers that are asked for one piece at once, when there are none left that nobody was asked for.
const MAX_ASKED: usize = 2;

/// What a piece of metadata led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// More is needed; or the piece was of no use.
    Nothing,
    /// The info dictionary, with the right hash.
    Whole(Vec<u8>),
    /// This peer lied: it is forgotten here, and should be hung up on and banned.
    Liar(PeerKey),
    /// Several peers' pieces gave something wrong; each of them is tried alone now.
    Doubtful,
}

/// A fetch under way.
#[derive(Debug)]
pub struct MetadataFetch {
    info_hash: InfoHash,
    sources: BTreeMap<PeerKey, Source>,
    assemblies: Vec<Assembly>,
    /// How many turns each size has had in vain.
    turns: HashMap<u32, u32>,
    done: bool,
}

/// A peer that says it has the metadata.
#[derive(Debug)]
struct Source {
    size: u32,
    /// It had part in something wrong and is tried alone.
    alone: bool,
    asks: Vec<Ask>,
    /// Requests in a row that became late; none after a pause.
    late: u32,
    /// Requests that came to nothing since the last that came to something. The fewer, the sooner it is asked again: were all
    /// alike, the silent could keep every piece to themselves for ever.
    misses: u32,
    paused_until: Duration,
    /// Turns alone that came to nothing.
    turns: u32,
}

#[derive(Debug)]
struct Ask {
    piece: u32,
    until: Duration,
    late: bool,
}

impl Source {
    fn is_paused(&self, now: Duration) -> bool {
        now < self.paused_until
    }

    fn pause(&mut self, now: Duration) {
        self.paused_until = now + PAUSE;
        self.late = 0;
    }

    fn open(&self) -> impl Iterator<Item = &Ask> {
        self.asks.iter().filter(|ask| !ask.late)
    }
}

impl MetadataFetch {
    /// A fetch of the info dictionary with this hash, with nobody to ask yet.
    pub fn new(info_hash: InfoHash) -> MetadataFetch {
        let (sources, turns) = (BTreeMap::new(), HashMap::new());
        MetadataFetch { info_hash, sources, assemblies: Vec::new(), turns, done: false }
    }

    /// A peer speaks `ut_metadata` and claims this size (`metadata_size` of its extension handshake). False where the size cannot
    /// be: 0, or over [`MAX_SIZE`].
    pub fn offer(&mut self, key: PeerKey, size: u32) -> bool {
        if size == 0 || size > MAX_SIZE {
            return false;
        }
        let known = self.sources.get(&key).is_some_and(|source| source.size == size);
        if !known {
            self.gone(key);
            let (asks, paused_until) = (Vec::new(), Duration::ZERO);
            let source = Source { size, alone: false, asks, late: 0, misses: 0, paused_until, turns: 0 };
            self.sources.insert(key, source);
        }
        true
    }

    /// A peer's connection is over.
    pub fn gone(&mut self, key: PeerKey) {
        self.sources.remove(&key);
        self.assemblies.retain(|a| a.alone != Some(key));
        self.turns.retain(|size, _| self.sources.values().any(|s| s.size == *size));
    }

    /// How many peers can be asked, in whatever way.
    pub fn sources(&self) -> usize {
        self.sources.len()
    }

    /// How many pieces of how many are there, in the fullest assembly.
    pub fn progress(&self) -> (usize, usize) {
        self.assemblies.iter().map(|a| (a.have(), a.count())).max().unwrap_or_default()
    }

    /// The requests to send now.
    pub fn requests(&mut self, now: Duration) -> Vec<(PeerKey, u32)> {
        if self.done {
            return Vec::new();
        }
        self.expire(now);
        self.arrange(now);
        let mut requests = Vec::new();
        let mut keys: Vec<PeerKey> = self.sources.keys().copied().collect();
        keys.sort_by_key(|key| self.sources.get(key).map(|s| s.misses));
        // One a peer and round, so that several share the work.
        for _ in 0..DEPTH {
            let before = requests.len();
            for &key in &keys {
                let Some(piece) = self.choose(key, now) else { continue };
                if let Some(source) = self.sources.get_mut(&key) {
                    source.asks.retain(|ask| ask.piece != piece);
                    source.asks.push(Ask { piece, until: now + LATE, late: false });
                    requests.push((key, piece));
                }
            }
            if requests.len() == before {
                break;
            }
        }
        requests
    }

    /// When [`MetadataFetch::requests`] should be called again though nothing has happened.
    pub fn next_due(&self, now: Duration) -> Option<Duration> {
        let late = self.sources.values().flat_map(|s| s.open().map(|ask| ask.until));
        let paused = self.sources.values().map(|s| s.paused_until).filter(|&until| until > now);
        let turns = self.assemblies.iter().map(|a| a.until).filter(|&until| until > now);
        if self.done { None } else { late.chain(paused).chain(turns).min() }
    }

    /// A piece came. `total_size` and the length of `bytes` are what [`MetadataMessage::parse`] let pass.
    pub fn data(&mut self, key: PeerKey, piece: u32, total_size: u32, bytes: &[u8]) -> Fetched {
        let Some(source) = self.sources.get_mut(&key) else { return Fetched::Nothing };
        let Some(at) = source.asks.iter().position(|ask| ask.piece == piece) else { return Fetched::Nothing };
        source.asks.swap_remove(at);
        (source.late, source.misses, source.paused_until) = (0, 0, Duration::ZERO);
        if total_size != source.size {
            self.gone(key);
            return Fetched::Liar(key);
        }
        let Some(at) = self.assembly_of(key) else { return Fetched::Nothing };
        let complete = |a: &mut Assembly| a.put(piece, key, bytes) && a.have() == a.count();
        if !self.assemblies.get_mut(at).is_some_and(complete) {
            return Fetched::Nothing;
        }
        let whole = self.assemblies.remove(at);
        match whole.finish(&self.info_hash) {
            Ok(info) => {
                self.done = true;
                self.assemblies.clear();
                Fetched::Whole(info)
            }
            Err(senders) => self.blame(&senders),
        }
    }

    /// A peer will not give a piece: it does not have it, or finds that we ask too much.
    pub fn reject(&mut self, key: PeerKey, piece: u32, now: Duration) {
        if let Some(source) = self.sources.get_mut(&key)
            && let Some(at) = source.asks.iter().position(|ask| ask.piece == piece)
        {
            source.asks.swap_remove(at);
            source.misses = source.misses.saturating_add(1);
            source.pause(now);
        }
    }

    /// What `senders` gave was wrong as a whole.
    fn blame(&mut self, senders: &HashSet<PeerKey>) -> Fetched {
        if let [liar] = senders.iter().copied().collect::<Vec<_>>()[..] {
            self.gone(liar);
            return Fetched::Liar(liar);
        }
        for sender in senders {
            if let Some(source) = self.sources.get_mut(sender) {
                source.alone = true;
                source.asks.clear();
            }
        }
        Fetched::Doubtful
    }

    /// Finds late requests, and the peers that have too many.
    fn expire(&mut self, now: Duration) {
        for source in self.sources.values_mut() {
            for ask in source.asks.iter_mut().filter(|ask| !ask.late && ask.until <= now) {
                ask.late = true;
                source.late += 1;
                source.misses = source.misses.saturating_add(1);
            }
            if source.late >= MAX_LATE {
                source.pause(now);
            }
        }
    }

    /// Gives the assemblies' places: to sizes that somebody can be asked for, and to peers that are tried alone.
    fn arrange(&mut self, now: Duration) {
        let mut waiting_sizes: BTreeMap<u32, usize> = BTreeMap::new();
        for source in self.sources.values().filter(|s| !s.alone && !s.is_paused(now)) {
            *waiting_sizes.entry(source.size).or_default() += 1;
        }
        let votes = waiting_sizes.clone();
        waiting_sizes.retain(|size, _| !self.assemblies.iter().any(|a| a.alone.is_none() && a.size == *size));
        let active = |key: &PeerKey| self.sources.get(key).is_some_and(|s| s.alone && !s.is_paused(now));
        let has_place = |key: &PeerKey| self.assemblies.iter().any(|a| a.alone == Some(*key));
        let mut waiting: Vec<PeerKey> = self.sources.keys().copied().filter(|k| active(k) && !has_place(k)).collect();

        // Those whose turn is over make room, and so do sizes that nobody can be asked for: where somebody waits.
        let able: HashSet<PeerKey> = self.sources.keys().copied().filter(active).collect();
        let (sizes_wait, peers_wait) = (!waiting_sizes.is_empty(), !waiting.is_empty());
        for over in self.assemblies.extract_if(.., |a| match a.alone {
            None => sizes_wait && (a.until <= now || !votes.contains_key(&a.size)),
            Some(key) => peers_wait && (a.until <= now || !able.contains(&key)),
        }) {
            match over.alone.and_then(|key| self.sources.get_mut(&key)) {
                Some(source) => {
                    source.turns += 1;
                    source.asks.clear();
                }
                None => *self.turns.entry(over.size).or_default() += 1,
            }
        }

        let turns_of = |size: &u32| self.turns.get(size).copied().unwrap_or(0);
        let mut sizes: Vec<(u32, usize)> = waiting_sizes.into_iter().collect();
        sizes.sort_by_key(|(size, votes)| (turns_of(size), std::cmp::Reverse(*votes)));
        let shared = self.assemblies.iter().filter(|a| a.alone.is_none());
        let (small, large): (Vec<u32>, Vec<u32>) = shared.map(|a| a.size).partition(|size| *size <= LARGE);
        let mut free = (MAX_SHARED.0.saturating_sub(small.len()), MAX_SHARED.1.saturating_sub(large.len()));
        let has_place = |size: &u32| {
            let free = if *size <= LARGE { &mut free.0 } else { &mut free.1 };
            free.checked_sub(1).map(|left| *free = left).is_some()
        };
        let sizes: Vec<u32> = sizes.into_iter().map(|(size, _)| size).filter(has_place).collect();
        for size in sizes {
            let until = now + turn(turns_of(&size));
            // What is asked of them belongs to an assembly that is gone.
            self.sources.values_mut().filter(|s| !s.alone && s.size == size).for_each(|s| s.asks.clear());
            self.assemblies.push(Assembly::new(size, None, until));
        }
        let alone = self.assemblies.iter().filter(|a| a.alone.is_some()).count();
        waiting.sort_by_key(|key| self.sources.get(key).map(|s| s.turns));
        for key in waiting.into_iter().take(MAX_ALONE.saturating_sub(alone)) {
            if let Some(source) = self.sources.get(&key) {
                self.assemblies.push(Assembly::new(source.size, Some(key), now + turn(source.turns)));
            }
        }
    }

    /// The place of the assembly that a peer works for.
    fn assembly_of(&self, key: PeerKey) -> Option<usize> {
        let source = self.sources.get(&key)?;
        let alone = source.alone.then_some(key);
        self.assemblies.iter().position(|a| a.alone == alone && a.size == source.size)
    }

    /// What to ask a peer for next.
    fn choose(&self, key: PeerKey, now: Duration) -> Option<u32> {
        let source = self.sources.get(&key).filter(|s| !s.is_paused(now) && s.open().count() < DEPTH)?;
        let assembly = self.assemblies.get(self.assembly_of(key)?)?;
        let mut asked: HashMap<u32, usize> = HashMap::new();
        for other in self.sources.values().filter(|s| !s.alone && !source.alone && s.size == source.size) {
            other.open().for_each(|ask| *asked.entry(ask.piece).or_default() += 1);
        }
        let of_ours = |piece: &u32| source.asks.iter().any(|ask| ask.piece == *piece && !ask.late);
        let mut missing = assembly.missing().filter(|piece| !of_ours(piece));
        let by = |piece: &u32| asked.get(piece).copied().unwrap_or(0);
        let mut duplicate: Option<u32> = None;
        let fresh = missing.find(|piece| {
            if by(piece) < MAX_ASKED && duplicate.is_none() {
                duplicate = Some(*piece);
            }
            by(piece) == 0
        });
        fresh.or(duplicate)
    }
}

/// How long an assembly keeps its place while others wait.
fn turn(turns: u32) -> Duration {
    TURN.saturating_mul(1 << turns.min(10))
}

/// What one peer was given of our metadata: a few times all of it, and no more (BEP 9 allows it).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetadataServed(u32);

/// How often one peer may have the whole metadata.
const MAX_COPIES: u32 = 3;

impl MetadataServed {
    /// The answer to a peer's request; `info` is the whole info dictionary, `None` as long as it is not known.
    pub fn answer<'a>(&mut self, info: Option<&'a [u8]>, piece: u32) -> MetadataMessage<'a> {
        let data = info.and_then(|info| {
            let total_size = u32::try_from(info.len()).ok().filter(|&size| size <= MAX_SIZE)?;
            let bytes = info.chunks(PIECE as usize).nth(piece as usize)?;
            (self.0 < MAX_COPIES * pieces(total_size)).then_some((total_size, bytes))
        });
        let Some((total_size, bytes)) = data else { return MetadataMessage::Reject { piece } };
        self.0 += 1;
        MetadataMessage::Data { piece, total_size, bytes }
    }
}
