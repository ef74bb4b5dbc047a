//! Swarms of honest peers and attackers with a simulated clock. Whatever the attackers do, the metadata arrives as long as one peer is
//! honest, and no honest peer is ever blamed.

use std::collections::BTreeSet;
use std::net::IpAddr;

use proptest::prelude::*;
use sha1::{Digest, Sha1};

use super::*;
use crate::strategy::HostQuota;
use crate::wire::metadata::{MetadataMessage, PIECE, piece_size};

/// How a simulated peer behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SourceKind {
    Honest,
    /// Honest, but slower than the request timeout.
    Slow,
    /// Right size, wrong bytes.
    Forger,
    /// Right size, one wrong piece.
    Spoiler,
    /// A wrong size, and bytes to fill it.
    Inventor,
    /// A size of its own, as large as possible, delivered as slowly as possible.
    Dawdler,
    /// Claims the right size, but another one in its answers.
    Turncoat,
    Silent,
    Rejecting,
}

const KINDS: [SourceKind; 9] = [
    SourceKind::Honest,
    SourceKind::Slow,
    SourceKind::Forger,
    SourceKind::Spoiler,
    SourceKind::Inventor,
    SourceKind::Dawdler,
    SourceKind::Turncoat,
    SourceKind::Silent,
    SourceKind::Rejecting,
];

pub(crate) fn info(size: usize) -> Vec<u8> {
    (0..size).map(|n| (n * 7 + n / 251) as u8).collect()
}

pub(crate) fn hash(info: &[u8]) -> InfoHash {
    InfoHash(Sha1::digest(info).into())
}

/// The outcome, and when the simulation ended.
struct MetadataSimulation {
    info: Option<Vec<u8>>,
    over: Duration,
    attackers: BTreeSet<PeerKey>,
    /// The number of requests sent.
    asked: usize,
}

/// Simulates a download from peers of these kinds. Answers take a random time of up to a second, those of slow peers much longer.
fn run(info: &[u8], kinds: &[SourceKind], seed: u64) -> MetadataSimulation {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut fetch = MetadataFetch::new(hash(info));
    let right = info.len() as u32;
    for (n, kind) in kinds.iter().enumerate() {
        let size = match kind {
            SourceKind::Inventor => right + 1 + (n % 2) as u32,
            SourceKind::Dawdler => MAX_SIZE - n as u32,
            _ => right,
        };
        assert!(fetch.add_source(PeerKey(n as u32), size));
    }
    let mut story = MetadataSimulation { info: None, over: Duration::ZERO, attackers: BTreeSet::new(), asked: 0 };
    // Answers in flight, by arrival time.
    let mut flying: BTreeMap<(Duration, u64), (PeerKey, u32)> = BTreeMap::new();
    let mut now = Duration::ZERO;
    for n in 0.. {
        for (key, piece) in fetch.requests(now) {
            story.asked += 1;
            let within = Duration::from_millis(rng.u64(1..1000));
            let delay = match kinds[key.0 as usize] {
                SourceKind::Silent => continue,
                SourceKind::Slow => Duration::from_secs(11) + within,
                SourceKind::Dawdler => Duration::from_secs(9),
                _ => within,
            };
            flying.insert((now + delay, n * 10_000 + story.asked as u64), (key, piece));
        }
        let arrival = flying.first_key_value().map(|((at, _), _)| *at);
        let Some(next) = fetch.next_due(now).into_iter().chain(arrival).min() else { break };
        now = next.max(now);
        if now > Duration::from_secs(24 * 3600) {
            break;
        }
        let rest = flying.split_off(&(now + Duration::from_nanos(1), 0));
        for (key, piece) in std::mem::replace(&mut flying, rest).into_values() {
            if story.attackers.contains(&key) {
                continue;
            }
            match answer(&mut fetch, kinds[key.0 as usize], key, piece, info, now) {
                FetchOutcome::Complete(info) => {
                    story.info = Some(info);
                    story.over = now;
                    assert!(fetch.requests(now).is_empty() && fetch.next_due(now).is_none());
                    return story;
                }
                FetchOutcome::CorruptSender(key) => assert!(story.attackers.insert(key), "blamed twice"),
                FetchOutcome::Nothing | FetchOutcome::MixedFailure => {}
            }
        }
    }
    story.over = now;
    story
}

/// Delivers one answer.
fn answer(
    fetch: &mut MetadataFetch,
    kind: SourceKind,
    key: PeerKey,
    piece: u32,
    info: &[u8],
    now: Duration,
) -> FetchOutcome {
    let right = info.len() as u32;
    let bytes = info.chunks(PIECE as usize).nth(piece as usize).unwrap_or_default();
    let lie = |size: u32| vec![0xee; piece_size(size, piece).unwrap() as usize];
    match kind {
        SourceKind::Honest | SourceKind::Slow => fetch.data(key, piece, (right, bytes), now),
        SourceKind::Spoiler if piece > 0 => fetch.data(key, piece, (right, bytes), now),
        SourceKind::Forger | SourceKind::Spoiler => fetch.data(key, piece, (right, &lie(right)), now),
        SourceKind::Inventor => fetch.data(key, piece, (right + 1 + key.0 % 2, &lie(right + 1 + key.0 % 2)), now),
        SourceKind::Dawdler => fetch.data(key, piece, (MAX_SIZE - key.0, &lie(MAX_SIZE - key.0)), now),
        SourceKind::Turncoat => fetch.data(key, piece, (right + 5, bytes), now),
        SourceKind::Rejecting => {
            fetch.reject(key, piece, now);
            FetchOutcome::Nothing
        }
        SourceKind::Silent => unreachable!(),
    }
}

#[test]
fn honest_peers_share_the_work_and_nothing_is_asked_twice() {
    let info = info(PIECE as usize * 40 + 17);
    let story = run(&info, &[SourceKind::Honest; 4], 1);
    assert!(story.info.as_deref() == Some(&info[..]));
    assert!(story.attackers.is_empty() && story.over < Duration::from_secs(10), "{:?}", story.over);
    // Only towards the end are some pieces requested twice.
    assert!(story.asked <= 41 + 2 * MAX_OUTSTANDING * 4, "{}", story.asked);
}

/// False sizes, each claimed by two peers and filled slowly, leave room for the size of the one honest peer.
#[test]
fn many_false_sizes_do_not_keep_the_metadata_out() {
    let info = info(PIECE as usize * 4 + 17);
    let right = info.len() as u32;
    for (least, most) in [(MAX_SIZE - 100, Duration::from_secs(1)), (right + 1, Duration::from_secs(1))] {
        let mut fetch = MetadataFetch::new(hash(&info));
        let size_of = |n: u32| least + n / 2;
        for n in 0..150 {
            assert!(fetch.add_source(PeerKey(n), size_of(n)));
        }
        let honest = PeerKey(150);
        assert!(fetch.add_source(honest, right));
        let (mut now, mut owed) = (Duration::ZERO, Vec::new());
        let whole = loop {
            assert!(now <= most, "nothing after {now:?}");
            let mut came = None;
            for (key, piece) in fetch.requests(now) {
                let bytes = info.chunks(PIECE as usize).nth(piece as usize).unwrap_or_default();
                if key != honest {
                    owed.push((now + Duration::from_secs(4), key, piece));
                } else if let FetchOutcome::Complete(info) = fetch.data(key, piece, (right, bytes), now) {
                    came = Some(info);
                }
            }
            for (_, key, piece) in owed.extract_if(.., |(at, ..)| *at <= now) {
                let size = size_of(key.0);
                let lie = vec![0xee; piece_size(size, piece).unwrap() as usize];
                let _ = fetch.data(key, piece, (size, &lie), now);
            }
            if let Some(whole) = came {
                break whole;
            }
            let held = fetch.assemblies.iter().map(Assembly::held).sum::<usize>();
            assert!(held <= MAX_HELD.0 + MAX_HELD.1, "{held}");
            now += Duration::from_millis(250);
        };
        assert!(whole == info);
    }
}

#[test]
fn a_single_small_piece() {
    for size in [1, PIECE as usize - 1, PIECE as usize, PIECE as usize + 1] {
        let info = info(size);
        assert!(run(&info, &[SourceKind::Honest], 1).info == Some(info));
    }
}

#[test]
fn one_honest_peer_among_attackers_of_every_kind_is_enough() {
    let info = info(PIECE as usize * 5 + 1);
    for attacker in KINDS {
        let mut kinds = [attacker; 20];
        kinds[13] = SourceKind::Honest;
        let story = run(&info, &kinds, 3);
        assert!(story.info.as_deref() == Some(&info[..]), "{attacker:?}");
        assert!(!story.attackers.contains(&PeerKey(13)));
        assert!(story.over < Duration::from_secs(3600), "{attacker:?}: {:?}", story.over);
    }
}

#[test]
fn a_lone_attacker_is_named() {
    let info = info(PIECE as usize * 3);
    for attacker in [SourceKind::Forger, SourceKind::Spoiler, SourceKind::Inventor, SourceKind::Turncoat] {
        let story = run(&info, &[attacker], 1);
        assert_eq!((story.info, story.attackers), (None, BTreeSet::from([PeerKey(0)])), "{attacker:?}");
    }
    for harmless in [SourceKind::Silent, SourceKind::Rejecting] {
        let story = run(&info, &[harmless], 1);
        assert!(story.attackers.is_empty());
        // A pause after each attempt prevents a flood of requests.
        assert!(story.asked < 24 * 3600 / 10 * MAX_OUTSTANDING, "{harmless:?}: {}", story.asked);
    }
}

#[test]
fn unrequested_metadata_is_ignored() {
    let info = info(100);
    let mut fetch = MetadataFetch::new(hash(&info));
    let (one, other) = (PeerKey(1), PeerKey(2));
    assert_eq!(fetch.data(one, 0, (100, &info), Duration::ZERO), FetchOutcome::Nothing);
    assert!(fetch.add_source(one, 100) && fetch.add_source(other, 101));
    assert_eq!(fetch.data(one, 0, (100, &info), Duration::ZERO), FetchOutcome::Nothing);
    assert_eq!(fetch.requests(Duration::ZERO), [(one, 0), (other, 0)]);
    assert_eq!(fetch.requests(Duration::ZERO), []);
    assert_eq!(fetch.data(one, 1, (100, &info), Duration::ZERO), FetchOutcome::Nothing);
    assert_eq!(fetch.data(PeerKey(3), 0, (100, &info), Duration::ZERO), FetchOutcome::Nothing);
    assert_eq!(fetch.data(one, 0, (100, &info), Duration::ZERO), FetchOutcome::Complete(info));
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    let mut fetch = MetadataFetch::new(InfoHash([0; 20]));
    assert!(!fetch.add_source(PeerKey(1), 0) && !fetch.add_source(PeerKey(1), MAX_SIZE + 1));
    assert_eq!(fetch.sources(), 0);
    assert!(fetch.add_source(PeerKey(1), MAX_SIZE));
    assert_eq!((fetch.requests(Duration::ZERO).len(), fetch.progress()), (MAX_OUTSTANDING, (0, 0)));
}

#[test]
fn a_peer_that_leaves_is_replaced() {
    let info = info(PIECE as usize * 2);
    let mut fetch = MetadataFetch::new(hash(&info));
    assert!(fetch.add_source(PeerKey(1), info.len() as u32));
    assert_eq!(fetch.requests(Duration::ZERO).len(), 2);
    fetch.remove_source(PeerKey(1));
    assert!(fetch.requests(Duration::ZERO).is_empty());
    assert!(fetch.add_source(PeerKey(2), info.len() as u32));
    assert_eq!(fetch.requests(Duration::ZERO), [(PeerKey(2), 0), (PeerKey(2), 1)]);
}

#[test]
fn served_metadata_is_bounded() {
    let info = info(PIECE as usize + 1);
    let mut served = MetadataQuota::default();
    let any_number = |_| true;
    assert_eq!(served.answer(None, 0, any_number), MetadataMessage::Reject { piece: 0 });
    assert_eq!(served.answer(Some(&info), 2, any_number), MetadataMessage::Reject { piece: 2 });
    let last = MetadataMessage::Data { piece: 1, total_size: info.len() as u32, bytes: &info[PIECE as usize..] };
    for _ in 0..6 {
        assert_eq!(served.answer(Some(&info), 1, any_number), last);
    }
    assert_eq!(served.answer(Some(&info), 1, any_number), MetadataMessage::Reject { piece: 1 });
}

/// However often a host connects, it gets the metadata a few times.
#[test]
fn a_new_connection_brings_no_further_copies() {
    let (info, ip) = (info(2 * PIECE as usize), IpAddr::from([192, 0, 2, 1]));
    let mut quota = HostQuota::default();
    let mut pieces = 0;
    for second in 0..100 {
        let mut served = MetadataQuota::default();
        for _ in 0..10 {
            let may_host = |most| quota.take(Duration::from_secs(second), ip, most);
            let answer = served.answer(Some(&info), 0, may_host);
            pieces += usize::from(matches!(answer, MetadataMessage::Data { .. }));
        }
    }
    assert_eq!(pieces, 32 * 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_swarm_with_an_honest_peer_succeeds(
        kinds in proptest::collection::vec(0..KINDS.len(), 0..15),
        at: prop::sample::Index,
        size in 1usize..100_000,
        seed: u64,
    ) {
        let mut kinds: Vec<SourceKind> = kinds.into_iter().map(|k| KINDS[k]).collect();
        kinds.insert(at.index(kinds.len() + 1), SourceKind::Honest);
        let info = info(size);
        let story = run(&info, &kinds, seed);
        prop_assert!(story.info.as_deref() == Some(&info[..]));
        prop_assert!(story.over < Duration::from_secs(2 * 3600), "{:?}", story.over);
        for attacker in story.attackers {
            prop_assert!(!matches!(kinds[attacker.0 as usize], SourceKind::Honest | SourceKind::Slow | SourceKind::Silent | SourceKind::Rejecting));
        }
    }
}
