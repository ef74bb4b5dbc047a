//! Many connections that try to prevent the download of the metadata, and one honest peer among them, with a simulated clock.

use super::*;
use crate::strategy::metadata_fetch::simulation::{hash, info};
use crate::wire::metadata::{PIECE, piece_size};

const TICK: Duration = Duration::from_millis(100);
/// How long the honest peer takes to answer.
const HONEST: Duration = Duration::from_millis(200);

/// What all attackers of a simulation do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attack {
    /// Claims the right size and does not answer.
    Silent,
    /// Claims the right size, sends one right piece that is not the last, and then does not answer.
    GivesOne,
    /// Claims a new small size every four seconds.
    RenewsSize,
    /// Claims another size and the right one again, every nine seconds.
    ChangesSizeAndBack,
    /// Claims sizes of one piece each and does not answer.
    AllSmall,
    /// Claims the right size, and reconnects twice a second.
    Reconnects,
    /// Claims a new size on a new connection, twice a second.
    ReconnectsWithNewSize,
    /// Claims the right size and immediately sends wrong bytes.
    Forges,
    /// Claims sizes of its own, each as large as a small one may be, and immediately sends wrong bytes for all but one piece.
    FillsSizes,
}

const ATTACKS: [Attack; 9] = [
    Attack::Silent,
    Attack::GivesOne,
    Attack::RenewsSize,
    Attack::ChangesSizeAndBack,
    Attack::AllSmall,
    Attack::Reconnects,
    Attack::ReconnectsWithNewSize,
    Attack::Forges,
    Attack::FillsSizes,
];

/// The attackers of a simulation and the sizes that they claim.
struct Attackers {
    attack: Attack,
    right: u32,
    keys: Vec<PeerKey>,
    next_key: u32,
    next_size: u32,
    /// Attackers that have sent their one piece.
    gave: HashSet<PeerKey>,
}

impl Attackers {
    fn size(&mut self, other: bool) -> u32 {
        self.next_size += 1;
        match self.attack {
            Attack::RenewsSize | Attack::ReconnectsWithNewSize | Attack::AllSmall => self.next_size,
            Attack::ChangesSizeAndBack if other => self.right + 1,
            Attack::FillsSizes => LARGE - self.next_size,
            _ => self.right,
        }
    }

    fn join(&mut self, fetch: &mut MetadataFetch, at: usize) {
        let size = self.size(false);
        self.keys[at] = PeerKey(self.next_key);
        self.next_key += 1;
        assert!(fetch.add_source(self.keys[at], size));
    }

    /// The attackers' own actions at this time.
    fn act(&mut self, fetch: &mut MetadataFetch, now: Duration) {
        let every = |ms: u128| now.as_millis().is_multiple_of(ms);
        for at in 0..self.keys.len() {
            match self.attack {
                Attack::RenewsSize if every(4000) => {
                    let size = self.size(false);
                    assert!(fetch.add_source(self.keys[at], size));
                }
                Attack::ChangesSizeAndBack if every(9000) => {
                    for other in [true, false] {
                        let size = self.size(other);
                        assert!(fetch.add_source(self.keys[at], size));
                    }
                }
                Attack::Reconnects | Attack::ReconnectsWithNewSize if every(500) => {
                    fetch.remove_source(self.keys[at]);
                    self.join(fetch, at);
                }
                _ => {}
            }
        }
    }

    /// An attacker's answer to a request.
    fn answer(
        &mut self,
        fetch: &mut MetadataFetch,
        key: PeerKey,
        piece: u32,
        whole: &[u8],
        now: Duration,
    ) -> FetchOutcome {
        let right = whole.chunks(PIECE as usize).nth(piece as usize).unwrap_or_default();
        let lie = |size: u32| vec![0xee; piece_size(size, piece).unwrap() as usize];
        match self.attack {
            Attack::GivesOne if piece + 1 < pieces(self.right) && self.gave.insert(key) => {
                fetch.data(key, piece, (self.right, right), now)
            }
            Attack::Forges => fetch.data(key, piece, (self.right, &lie(self.right)), now),
            Attack::FillsSizes => {
                let size = fetch.sources[&key].size;
                if piece + 1 == pieces(size) {
                    FetchOutcome::Nothing
                } else {
                    fetch.data(key, piece, (size, &lie(size)), now)
                }
            }
            _ => FetchOutcome::Nothing,
        }
    }
}

/// How long the download takes from the moment when the honest peer connects, ten seconds after the attackers.
fn takes(attack: Attack, attackers: usize, size: usize) -> Duration {
    let whole = info(size);
    let right = whole.len() as u32;
    let mut fetch = MetadataFetch::new(hash(&whole));
    let honest = PeerKey(u32::MAX);
    let keys = vec![PeerKey(0); attackers];
    let mut others = Attackers { attack, right, keys, next_key: 0, next_size: 4, gave: HashSet::new() };
    (0..attackers).for_each(|at| others.join(&mut fetch, at));
    let start = Duration::from_secs(10);
    let (mut now, mut owed) = (Duration::ZERO, Vec::new());
    loop {
        now += TICK;
        assert!(now < start + Duration::from_secs(300), "{attack:?} by {attackers}: {:?}", fetch.progress());
        if now == start {
            assert!(fetch.add_source(honest, right));
        }
        others.act(&mut fetch, now);
        let mut came = Vec::new();
        for (_, piece) in owed.extract_if(.., |(at, _)| *at <= now) {
            let bytes = whole.chunks(PIECE as usize).nth(piece as usize).unwrap();
            came.push(fetch.data(honest, piece, (right, bytes), now));
        }
        for (key, piece) in fetch.requests(now) {
            if key == honest {
                owed.push((now + HONEST, piece));
            } else {
                came.push(others.answer(&mut fetch, key, piece, &whole, now));
            }
        }
        assert!(fetch.held(1) <= MAX_HELD.0);
        for fetched in came {
            match fetched {
                FetchOutcome::Complete(info) => {
                    assert!(info == whole);
                    return now.saturating_sub(start);
                }
                FetchOutcome::CorruptSender(key) => {
                    assert_ne!(key, honest);
                    // The address is banned, and the attacker returns with another one.
                    let at = others.keys.iter().position(|&k| k == key).unwrap();
                    others.join(&mut fetch, at);
                }
                FetchOutcome::Nothing | FetchOutcome::MixedFailure => {}
            }
        }
    }
}

#[test]
fn nobody_keeps_the_metadata_of_an_honest_peer_out() {
    for attack in ATTACKS {
        for (attackers, size) in [(1, 41_000), (12, 41_000), (40, 500_000), (200, 17), (200, 41_000)] {
            let took = takes(attack, attackers, size);
            assert!(took <= Duration::from_secs(10), "{attack:?} by {attackers}, {size} bytes: {took:?}");
        }
    }
}

/// A new honest peer is asked at once, without waiting until the requests to earlier peers are late.
#[test]
fn a_new_peer_is_asked_at_once() {
    let mut fetch = MetadataFetch::new(hash(&info(100)));
    for key in (0..40).map(PeerKey) {
        assert!(fetch.add_source(key, 100));
        assert_eq!(fetch.requests(Duration::ZERO), [(key, 0)]);
    }
    // It is asked once: changing the size and back does not cause another request.
    assert!(fetch.add_source(PeerKey(7), 101) && fetch.add_source(PeerKey(7), 100));
    assert_eq!(fetch.requests(Duration::ZERO), []);
}
