//! Downloads the info dictionary from peers (BEP 9), and serves it. The time is a [`Duration`] since some start.
//!
//! Only the SHA-1 at the end shows whether the metadata is right, and only bytes show that a peer has any. So every peer is
//! tried: as soon as it claims a size, it is asked for a piece of metadata of that size, whatever other peers claim and however
//! many were asked for that piece. A claim alone takes nothing from other peers: an *assembly* starts with the first bytes of its
//! size. The memory of all assemblies is bounded; beyond the bound, one whose turn is over is dropped, otherwise the largest.
//!
//! Peers that claim the same size fill one assembly together. If it fails verification and all pieces came from one peer, that
//! peer lied. If they came from several peers, each of them fills an assembly of its own from then on, so that the next failure
//! has one author. So an honest peer succeeds alone and is never blamed.
//!
//! The caller reports events ([`MetadataFetch::add_source`], [`MetadataFetch::data`], …). After each event, and whenever
//! [`MetadataFetch::next_due`] has passed, it sends the requests that [`MetadataFetch::requests`] returns.

mod assembly;
#[cfg(test)]
mod attacks;
mod outstanding;
mod served;
#[cfg(test)]
mod simulation;
mod source;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use crate::types::{InfoHash, PeerKey};
use crate::wire::metadata::{MAX_SIZE, pieces};
use assembly::Assembly;
use outstanding::RequestsInFlight;
pub use served::MetadataQuota;
use source::{AssemblyHistory, MetadataRequest, MetadataSource};

/// The most outstanding requests per peer.
const MAX_OUTSTANDING: usize = 3;
/// A request is late after this time; an answer that arrives later still counts.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// After this many late requests in a row the peer is not asked for a while.
const MAX_LATE: u32 = 3;
/// The length of that pause. A peer that rejected a request may have the metadata by then.
const PAUSE: Duration = Duration::from_secs(30);
/// Most metadata is smaller than this, in bytes.
const LARGE: u32 = 2 << 20;
/// The most bytes in assemblies of sizes up to [`LARGE`], and above it. Separate bounds keep large false sizes from displacing a
/// small one.
const MAX_HELD: (usize, usize) = (12 << 20, 2 * MAX_SIZE as usize);
/// How long an assembly is safe from being dropped in favour of others; doubled with each further turn.
const TURN: Duration = Duration::from_secs(5);

/// More drops than this do not protect an assembly any further.
const MAX_DROPS: u32 = 4;

/// The result of a received metadata piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchOutcome {
    /// More pieces are needed, or the piece was of no use.
    Nothing,
    /// The info dictionary, verified against the info-hash.
    Complete(Vec<u8>),
    /// This peer lied. It is forgotten here, and should be disconnected and banned.
    CorruptSender(PeerKey),
    /// Pieces of several peers did not match the info-hash; each of these peers is now tried alone.
    MixedFailure,
}

/// One metadata download.
#[derive(Debug)]
pub struct MetadataFetch {
    info_hash: InfoHash,
    sources: BTreeMap<PeerKey, MetadataSource>,
    assemblies: Vec<Assembly>,
    /// How often assemblies of each size were dropped.
    history: HashMap<u32, AssemblyHistory>,
    is_done: bool,
}

impl MetadataFetch {
    /// A download of the info dictionary with this hash, without any peer yet.
    pub fn new(info_hash: InfoHash) -> MetadataFetch {
        let (sources, history) = (BTreeMap::new(), HashMap::new());
        MetadataFetch { info_hash, sources, assemblies: Vec::new(), history, is_done: false }
    }

    /// A peer supports `ut_metadata` and claims this size (`metadata_size` of its extension handshake). Returns false if the size
    /// is invalid: 0, or above [`MAX_SIZE`].
    pub fn add_source(&mut self, key: PeerKey, size: u32) -> bool {
        if size == 0 || size > MAX_SIZE {
            return false;
        }
        let known = self.sources.get(&key).is_some_and(|source| source.size == size);
        if known {
            return true;
        }
        let (in_flight, paused_until) = (Vec::new(), Duration::ZERO);
        let (is_isolated, was_asked, is_delivering) = (false, false, false);
        let mut source = MetadataSource {
            size,
            is_isolated,
            in_flight,
            late: 0,
            misses: 0,
            was_asked,
            is_delivering,
            paused_until,
            history: AssemblyHistory::default(),
        };
        if let Some(before) = self.sources.remove(&key) {
            // The true size never changes. A changed claim cancels the peer's requests, and must not put it first in the order
            // again.
            let asked = before.open().count();
            source = MetadataSource { size, in_flight: Vec::new(), ..before };
            source.missed(u32::try_from(asked).unwrap_or(u32::MAX).saturating_add(1));
            self.forget(key);
        }
        self.sources.insert(key, source);
        true
    }

    /// The peer has disconnected.
    pub fn remove_source(&mut self, key: PeerKey) {
        self.sources.remove(&key);
        self.forget(key);
    }

    /// Removes the state that only a removed peer needed.
    fn forget(&mut self, key: PeerKey) {
        self.assemblies.retain(|a| a.only_source != Some(key));
        let is_claimed = |size: u32| self.sources.values().any(|s| s.size == size);
        self.history.retain(|size, _| is_claimed(*size));
        // Another peer may still claim the size, but its assembly may be dropped at once if room is needed.
        let unclaimed = self.assemblies.iter_mut().filter(|a| a.only_source.is_none() && !is_claimed(a.size));
        unclaimed.for_each(|a| a.safe_until = Duration::ZERO);
    }

    /// The number of peers that can be asked.
    #[cfg(any(test, feature = "internals"))]
    pub fn sources(&self) -> usize {
        self.sources.len()
    }

    /// The pieces received and the pieces needed, in the fullest assembly.
    pub fn progress(&self) -> (usize, usize) {
        self.assemblies.iter().map(|a| (a.have(), a.count())).max().unwrap_or_default()
    }

    /// The requests to send now.
    pub fn requests(&mut self, now: Duration) -> Vec<(PeerKey, u32)> {
        if self.is_done {
            return Vec::new();
        }
        self.expire(now);
        let mut requests = Vec::new();
        let mut asked = self.asked();
        let mut keys: Vec<PeerKey> =
            self.sources.iter().filter(|(_, s)| s.accepts_request(now)).map(|(&key, _)| key).collect();
        keys.sort_unstable_by_key(|key| (self.sources.get(key).map(|s| (!s.is_delivering, s.misses)), *key));
        // One request per peer and round, so that several peers share the work.
        for _ in 0..MAX_OUTSTANDING {
            let before = requests.len();
            for &key in &keys {
                let Some(piece) = self.choose(key, &asked, now) else { continue };
                if let Some(source) = self.sources.get_mut(&key) {
                    source.in_flight.retain(|ask| ask.piece != piece);
                    source.in_flight.push(MetadataRequest { piece, at: now, is_late: false });
                    source.was_asked = true;
                    if !source.is_isolated {
                        asked.add(source.size, piece, source.is_delivering, now);
                    }
                    requests.push((key, piece));
                }
            }
            if requests.len() == before {
                break;
            }
        }
        requests
    }

    /// The outstanding requests to peers that share assemblies.
    fn asked(&self) -> RequestsInFlight {
        let mut asked = RequestsInFlight::default();
        for source in self.sources.values().filter(|s| !s.is_isolated) {
            source.open().for_each(|ask| asked.add(source.size, ask.piece, source.is_delivering, ask.at));
        }
        asked
    }

    /// When to call [`MetadataFetch::requests`] again if no event occurs.
    pub fn next_due(&self, now: Duration) -> Option<Duration> {
        if self.is_done {
            return None;
        }
        let open = || self.sources.values().flat_map(MetadataSource::open);
        let late = open().map(|ask| ask.at + REQUEST_TIMEOUT);
        let paused = self.sources.values().map(|s| s.paused_until).filter(|&until| until > now);
        let turns = self.assemblies.iter().map(|a| a.safe_until).filter(|&until| until > now);
        // With every second that passes, more peers may be asked for an outstanding piece.
        let somebody = self.sources.values().any(|s| s.accepts_request(now));
        let next = open().map(|ask| outstanding::next_step(ask.at, now)).filter(|_| somebody);
        late.chain(paused).chain(turns).chain(next).min()
    }

    /// Processes a received piece. `total_size` and the length of `bytes` have passed the checks of
    /// [`crate::wire::metadata::MetadataMessage::parse`].
    pub fn data(&mut self, key: PeerKey, piece: u32, (total_size, bytes): (u32, &[u8]), now: Duration) -> FetchOutcome {
        let Some(source) = self.sources.get_mut(&key) else { return FetchOutcome::Nothing };
        let Some(at) = source.in_flight.iter().position(|ask| ask.piece == piece) else { return FetchOutcome::Nothing };
        source.in_flight.swap_remove(at);
        (source.late, source.misses, source.is_delivering, source.paused_until) = (0, 0, true, Duration::ZERO);
        if total_size != source.size {
            self.remove_source(key);
            return FetchOutcome::CorruptSender(key);
        }
        let at = self.begin(key, now);
        let complete = |a: &mut Assembly| a.put(piece, key, bytes) && a.have() == a.count();
        if !self.assemblies.get_mut(at).is_some_and(complete) {
            self.make_room(total_size, now);
            return FetchOutcome::Nothing;
        }
        let whole = self.assemblies.remove(at);
        match whole.finish(&self.info_hash) {
            Ok(info) => {
                self.is_done = true;
                self.assemblies.clear();
                FetchOutcome::Complete(info)
            }
            Err(senders) => self.blame(&senders),
        }
    }

    /// The peer rejected a request: it does not have the piece, or limits requests.
    pub fn reject(&mut self, key: PeerKey, piece: u32, now: Duration) {
        if let Some(source) = self.sources.get_mut(&key)
            && let Some(at) = source.in_flight.iter().position(|ask| ask.piece == piece)
        {
            source.in_flight.swap_remove(at);
            source.missed(1);
            source.pause(now);
        }
    }

    /// Handles wrong metadata whose pieces came from `senders`.
    fn blame(&mut self, senders: &HashSet<PeerKey>) -> FetchOutcome {
        if let [corrupt_sender] = senders.iter().copied().collect::<Vec<_>>()[..] {
            self.remove_source(corrupt_sender);
            return FetchOutcome::CorruptSender(corrupt_sender);
        }
        for sender in senders {
            if let Some(source) = self.sources.get_mut(sender) {
                source.is_isolated = true;
                source.in_flight.clear();
            }
        }
        FetchOutcome::MixedFailure
    }

    /// Marks late requests, and pauses peers with too many of them.
    fn expire(&mut self, now: Duration) {
        for source in self.sources.values_mut() {
            let mut missed = 0;
            for ask in source.in_flight.iter_mut().filter(|ask| !ask.is_late && ask.at + REQUEST_TIMEOUT <= now) {
                ask.is_late = true;
                missed += 1;
            }
            source.late += missed;
            source.missed(missed);
            if source.late >= MAX_LATE {
                source.pause(now);
            }
        }
    }

    /// The index of the assembly that the peer fills; starts one if there is none.
    fn begin(&mut self, key: PeerKey, now: Duration) -> usize {
        if let Some(at) = self.assembly_of(key) {
            return at;
        }
        if let Some(source) = self.sources.get(&key) {
            let (size, only_source) = (source.size, source.is_isolated.then_some(key));
            let history =
                if source.is_isolated { source.history } else { self.history.get(&size).copied().unwrap_or_default() };
            self.assemblies.push(Assembly::new(size, only_source, now + turn(history.turns), history.drops));
        }
        self.assemblies.len().saturating_sub(1)
    }

    /// Drops assemblies until those of this size class are within their bound: first those whose turn is over, then the largest,
    /// because most metadata is small. Earlier drops make an assembly count as smaller, so that it eventually completes a turn.
    fn make_room(&mut self, size: u32, now: Duration) {
        while self.held(size) > max_held(size) {
            let alike = self.assemblies.iter().enumerate().filter(|(_, a)| is_large(a.size) == is_large(size));
            let over = alike.clone().filter(|(_, a)| a.safe_until <= now).min_by_key(|(_, a)| a.safe_until);
            let Some((at, _)) = over.or_else(|| alike.max_by_key(|(_, a)| a.held() >> a.drops.min(MAX_DROPS))) else {
                return;
            };
            let dropped = self.assemblies.remove(at);
            let history = match dropped.only_source {
                Some(key) => self.sources.get_mut(&key).map(|source| &mut source.history),
                None => Some(self.history.entry(dropped.size).or_default()),
            };
            match history {
                Some(history) if dropped.safe_until <= now => {
                    *history = AssemblyHistory { turns: history.turns + 1, drops: 0 }
                }
                Some(history) => history.drops += 1,
                None => {}
            }
        }
    }

    /// The bytes in all assemblies of this size class.
    fn held(&self, size: u32) -> usize {
        self.assemblies.iter().filter(|a| is_large(a.size) == is_large(size)).map(Assembly::held).sum()
    }

    /// Whether an assembly of this size may start: well below the bound, so that a new assembly is not dropped at once.
    fn has_room(&self, size: u32, now: Duration) -> bool {
        let mut alike = self.assemblies.iter().filter(|a| is_large(a.size) == is_large(size));
        self.held(size) <= max_held(size) / 2 || alike.any(|a| a.safe_until <= now)
    }

    /// The index of the assembly that the peer fills.
    fn assembly_of(&self, key: PeerKey) -> Option<usize> {
        let source = self.sources.get(&key)?;
        let only_source = source.is_isolated.then_some(key);
        self.assemblies.iter().position(|a| a.only_source == only_source && a.size == source.size)
    }

    /// The piece to request next from the peer.
    fn choose(&self, key: PeerKey, asked: &RequestsInFlight, now: Duration) -> Option<u32> {
        let source = self.sources.get(&key).filter(|s| s.accepts_request(now))?;
        let assembly = self.assembly_of(key).and_then(|at| self.assemblies.get(at));
        if assembly.is_none() && source.was_asked && !self.has_room(source.size, now) {
            return None;
        }
        let is_open = |piece: u32| source.open().any(|ask| ask.piece == piece);
        let is_missing = |piece: &u32| !assembly.is_some_and(|a| a.has(*piece)) && !is_open(*piece);
        let missing = (0..pieces(source.size)).filter(is_missing);
        if source.is_isolated {
            return missing.min();
        }
        asked.best(source.size, missing, source.is_delivering, source.was_asked, now)
    }
}

fn is_large(size: u32) -> bool {
    size > LARGE
}

fn max_held(size: u32) -> usize {
    if is_large(size) { MAX_HELD.1 } else { MAX_HELD.0 }
}

/// How long an assembly is safe from being dropped.
fn turn(turns: u32) -> Duration {
    TURN.saturating_mul(1 << turns.min(10))
}
