//! A magnet link among peers that lie about its metadata, send malformed messages, reject, stay silent, or flood us with peers.
//! The download completes from the honest peer, and the attackers are banned. In this process, because the events name the banned
//! peers.
//!
//! The download keeps the connections of the metadata phase. What peers said about pieces before the piece count was known is
//! checked and used once it is known.
//!
//! The honest peer sends nothing until the hostile one is done, so a test cannot pass by being fast.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::common::TestDir;
use crate::common::bencode::{bytes, dict};
use crate::common::extended_peer::{ExtendedEvent, ExtendedPeer, ExtendedWire, PIECE};
use crate::common::payload::Payload;
use crate::common::seeder::full_bitfield;
use crate::common::wire::id;
use btsync::metainfo::Magnet;
use btsync::torrent::{Event, Outcome, Torrent, TorrentConfig, TorrentError};

/// Its metadata has two pieces, the second one short.
fn payload() -> Payload {
    Payload::single("linked.bin", 1000 * 4096 - 99, 4096)
}

/// Counts what a hostile peer has done.
type ActionCount = Arc<AtomicUsize>;

fn done(actions: &ActionCount, times: usize) -> impl Fn() -> bool + Send + Sync + 'static {
    let actions = actions.clone();
    move || actions.load(Ordering::Relaxed) >= times
}

fn config(temp: &TestDir, peers: Vec<SocketAddr>) -> TorrentConfig {
    let mut config = TorrentConfig::new(temp.folder("out"));
    (config.client.dht, config.client.uses_lsd) = (None, false);
    config.client.listen_ports = 0..=0;
    config.search.peers = peers;
    config
}

/// Downloads by magnet link from these peers. Returns the peers banned for wrong metadata.
fn fetch(payload: &Payload, peers: &[&ExtendedPeer]) -> BTreeSet<SocketAddr> {
    let temp = TestDir::new();
    let config = config(&temp, peers.iter().map(|peer| peer.addr()).collect());
    let torrent = Torrent::new(Magnet::parse(&payload.magnet("")).expect("a link"), config);
    let events = torrent.events();
    assert_eq!(torrent.run().expect("no error"), Outcome::Completed);
    payload.assert_at(&temp.path("out"));
    events.try_iter().filter_map(|e| if let Event::MetadataRefused { addr } = e { Some(addr) } else { None }).collect()
}

/// The metadata size, as peers claim it.
fn claimed() -> i64 {
    i64::try_from(size()).expect("a small payload")
}

/// Downloads from an honest peer and one that claims `claims` as its metadata size and answers requests with `answers`. The
/// honest peer sends nothing before `times` answers.
fn fetch_beside_attacker(
    claims: i64,
    times: usize,
    answers: impl Fn(&mut ExtendedWire, u32) -> std::io::Result<()> + Send + Sync + 'static,
) -> (BTreeSet<SocketAddr>, SocketAddr) {
    let (payload, actions) = (payload(), ActionCount::default());
    let counts = actions.clone();
    let attacker = ExtendedPeer::new(&payload, claims, move |connection, event| {
        let ExtendedEvent::Metadata(piece) = event else { return Ok(true) };
        let result = answers(connection, piece);
        counts.fetch_add(1, Ordering::Relaxed);
        result.map(|()| true)
    });
    let honest = ExtendedPeer::honest(&payload, done(&actions, times));
    (fetch(&payload, &[&attacker, &honest]), attacker.addr())
}

/// The metadata size; computed once, because it takes hashing.
fn size() -> usize {
    static SIZE: OnceLock<usize> = OnceLock::new();
    *SIZE.get_or_init(|| payload().info().len())
}

#[test]
fn a_size_that_is_a_little_too_large() {
    let (banned, attacker) = fetch_beside_attacker(claimed() + 1, 2, |connection, piece| {
        let rest = size() + 1 - piece as usize * PIECE;
        connection.metadata(piece, size() + 1, &vec![7; rest.min(PIECE)])
    });
    assert_eq!(banned, BTreeSet::from([attacker]));
}

#[test]
fn a_size_of_one_piece() {
    let (banned, attacker) = fetch_beside_attacker(1, 1, |connection, piece| connection.metadata(piece, 1, b"d"));
    assert_eq!(banned, BTreeSet::from([attacker]));
}

#[test]
fn the_right_size_and_wrong_bytes() {
    let (banned, attacker) = fetch_beside_attacker(claimed(), 2, |connection, piece| {
        let rest = size() - piece as usize * PIECE;
        connection.metadata(piece, size(), &vec![0; rest.min(PIECE)])
    });
    assert_eq!(banned, BTreeSet::from([attacker]));
}

#[test]
fn another_total_with_the_piece_than_before() {
    let (banned, attacker) = fetch_beside_attacker(claimed(), 1, |connection, piece| {
        connection.metadata(piece, size() + PIECE, &[0; PIECE])
    });
    assert_eq!(banned, BTreeSet::from([attacker]));
}

#[test]
fn a_piece_of_the_wrong_length() {
    fetch_beside_attacker(claimed(), 1, |connection, piece| {
        connection.metadata(piece, size(), &[0; 100])?;
        connection.wire.wait_for_close()
    });
}

#[test]
fn a_piece_that_does_not_exist() {
    fetch_beside_attacker(claimed(), 1, |connection, _| {
        connection.metadata(77, size(), &[0; PIECE])?;
        connection.wire.wait_for_close()
    });
}

#[test]
fn a_peer_that_rejects_everything() {
    let (banned, _) = fetch_beside_attacker(claimed(), 1, ExtendedWire::reject);
    assert_eq!(banned, BTreeSet::new());
}

#[test]
fn a_peer_that_never_answers() {
    let (banned, _) = fetch_beside_attacker(claimed(), 2, |_, _| Ok(()));
    assert_eq!(banned, BTreeSet::new());
}

/// Both peers contributed to wrong metadata. The honest one must not be banned.
#[test]
fn wrong_bytes_among_right_ones() {
    let payload = payload();
    let attacker = ExtendedPeer::new(&payload, claimed(), |connection, event| {
        let ExtendedEvent::Metadata(piece) = event else { return Ok(true) };
        let rest = size() - piece as usize * PIECE;
        connection.metadata(piece, size(), &vec![0; rest.min(PIECE)]).map(|()| true)
    });
    let honest = ExtendedPeer::honest(&payload, || true);
    let banned = fetch(&payload, &[&attacker, &honest]);
    assert!(!banned.contains(&honest.addr()), "the honest peer was banned");
}

#[test]
fn sizes_that_cannot_be_are_not_asked_for() {
    let payload = payload();
    for claims in [30 * 1024 * 1024 + 1, i64::from(u32::MAX), 1 << 40, i64::MAX, -1] {
        let met = ActionCount::default();
        let counts = met.clone();
        let attacker = ExtendedPeer::new(&payload, claims, move |_, event| {
            counts.fetch_add(usize::from(matches!(event, ExtendedEvent::Begin)), Ordering::Relaxed);
            Ok(true)
        });
        let honest = ExtendedPeer::honest(&payload, done(&met, 1));
        fetch(&payload, &[&attacker, &honest]);
        assert_eq!(attacker.received().asked, 0, "metadata of {claims} bytes was asked for");
    }
}

/// The largest accepted size allocates no memory before data arrives.
#[test]
fn the_largest_size_with_nothing_behind_it() {
    let (banned, _) = fetch_beside_attacker(30 * 1024 * 1024, 3, |_, _| Ok(()));
    assert_eq!(banned, BTreeSet::new());
}

/// Downloads from an honest peer and one that does `worst` at once. The honest peer sends nothing before that is done.
fn fetch_beside_flooder(worst: impl Fn(&mut ExtendedWire) -> std::io::Result<()> + Send + Sync + 'static) {
    let (payload, actions) = (payload(), ActionCount::default());
    let counts = actions.clone();
    let hostile = ExtendedPeer::new(&payload, claimed(), move |connection, event| {
        if matches!(event, ExtendedEvent::Begin) {
            let result = worst(connection);
            counts.fetch_add(1, Ordering::Relaxed);
            result?;
        }
        Ok(true)
    });
    let honest = ExtendedPeer::honest(&payload, done(&actions, 1));
    fetch(&payload, &[&hostile, &honest]);
}

#[test]
fn a_flood_of_metadata_that_nobody_asked_for() {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    fetch_beside_flooder(move |connection| {
        // btsync stops reading at some point, and then sending fails.
        while connection.metadata(0, size(), &[0; PIECE]).is_ok() {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    });
    // Each counts as many short messages. The socket buffers hold more than btsync reads.
    let sent = sent.load(Ordering::Relaxed);
    assert!((1..5000).contains(&sent), "{sent} were taken");
}

#[test]
fn a_flood_of_peers() {
    let decoy = ExtendedPeer::new(&payload(), 0, |_, _| Ok(true));
    let named = decoy.addr();
    fetch_beside_flooder(move |connection| {
        let others: Vec<SocketAddr> = (1..50).map(|n| SocketAddr::from(([127, 0, 0, 1], n))).collect();
        let peers = [&[named], others.as_slice()].concat();
        while connection.pex(&peers).is_ok() {}
        Ok(())
    });
    assert!(decoy.received().dialed_from.len() <= 2, "dialed again and again: {:?}", decoy.received());
}

#[test]
fn peer_exchange_that_makes_no_sense() {
    fetch_beside_flooder(|connection| {
        connection.raw_pex(b"d5:added6:")?;
        connection.wire.wait_for_close()
    });
}

/// The hash is correct, but the metadata is not a torrent.
#[test]
fn metadata_that_is_no_torrent() {
    let temp = TestDir::new();
    let info = dict([("name", bytes(b"nothing else"))]);
    let payload = Payload::with_invalid_info(&info);
    let peer = ExtendedPeer::honest(&payload, || true);
    let torrent = Torrent::new(Magnet::parse(&payload.magnet("")).expect("a link"), config(&temp, vec![peer.addr()]));
    assert!(torrent.run().is_err_and(|error| matches!(*error, TorrentError::Metadata(_))));
}

/// A peer that starts with `begin` and is honest from then on.
fn peer_starting_with(
    begin: impl Fn(&mut ExtendedWire) -> std::io::Result<()> + Send + Sync + 'static,
) -> ExtendedPeer {
    ExtendedPeer::new(&payload(), claimed(), move |connection, event| {
        let begins = matches!(event, ExtendedEvent::Begin);
        if begins {
            begin(connection)?;
        }
        Ok(begins)
    })
}

#[test]
fn messages_about_pieces_before_the_metadata_count_in_the_download() {
    type Begin = fn(&mut ExtendedWire) -> std::io::Result<()>;
    let ways: [(&str, Begin); 4] = [
        ("a bitfield", |connection| connection.wire.send(id::BITFIELD, &full_bitfield(1000))),
        ("have all", |connection| connection.wire.send(id::HAVE_ALL, &[])),
        ("HAVEs", |connection| {
            (0..1000_u32).try_for_each(|piece| connection.wire.send(id::HAVE, &piece.to_be_bytes()))
        }),
        ("a bitfield and a HAVE", |connection| {
            let mut bits = full_bitfield(1000);
            bits[7] = 0xfe;
            connection.wire.send(id::BITFIELD, &bits)?;
            connection.wire.send(id::HAVE, &63_u32.to_be_bytes())
        }),
    ];
    for (what, begin) in ways {
        let peer = peer_starting_with(move |connection| {
            connection.wire.send(id::UNCHOKE, &[])?;
            connection.wire.send(id::CHOKE, &[])?;
            begin(connection)?;
            connection.wire.send(id::UNCHOKE, &[])
        });
        assert_eq!(fetch(&payload(), &[&peer]), BTreeSet::new());
        assert_eq!(peer.received().dialed_from.len(), 1, "connections, after {what}");
    }
}

/// In the metadata phase btsync told its peers that it has nothing, because it did not know yet.
#[test]
fn peers_of_the_metadata_phase_learn_which_pieces_are_on_disk() {
    let (temp, payload) = (TestDir::new(), payload());
    let peer = ExtendedPeer::honest(&payload, || true);
    let config = config(&temp, vec![peer.addr()]);
    let part = &payload.content()[..600 * 4096];
    std::fs::write(temp.path("out").join(&payload.name), part).expect("a part of the payload");
    let torrent = Torrent::new(Magnet::parse(&payload.magnet("")).expect("a link"), config);
    assert_eq!(torrent.run().expect("no error"), Outcome::Completed);
    payload.assert_at(&temp.path("out"));
    let received = peer.received();
    assert!(received.dialed_from.len() == 1 && received.haves >= 600, "{received:?}");
}

#[test]
fn a_seed_that_cannot_be_dialled_is_fetched_from_on_its_one_connection() {
    let (temp, payload) = (TestDir::new(), payload());
    let torrent = Torrent::new(Magnet::parse(&payload.magnet("")).expect("a link"), config(&temp, Vec::new()));
    let events = torrent.events();
    let running = std::thread::spawn(move || torrent.run().expect("no error"));
    let listening = |event| if let Event::Listening { port } = event { Some(port) } else { None };
    let port = events.iter().find_map(listening).expect("it listens");
    // Returns once the download is complete and btsync disconnects.
    ExtendedPeer::connect(([127, 0, 0, 1], port).into(), &payload);
    assert_eq!(running.join().expect("no panic"), Outcome::Completed);
    payload.assert_at(&temp.path("out"));
    let connected = events.try_iter().filter(|event| matches!(event, Event::PeerConnected { .. }));
    assert_eq!(connected.count(), 1);
}

#[test]
fn a_bitfield_that_does_not_fit_is_found_out_with_the_metadata() {
    // One piece too many, eight too few, none.
    for bits in [full_bitfield(1001), full_bitfield(992), Vec::new()] {
        let (payload, closed) = (payload(), ActionCount::default());
        let counts = closed.clone();
        let misfit = ExtendedPeer::new(&payload, claimed(), move |connection, event| {
            match event {
                ExtendedEvent::Begin => connection.wire.send(id::BITFIELD, &bits)?,
                ExtendedEvent::Metadata(1) => {
                    let rest = info_of_the_payload()[PIECE..].to_vec();
                    connection.metadata(1, size(), &rest)?;
                    connection.wire.wait_for_close()?;
                    counts.fetch_add(1, Ordering::Relaxed);
                }
                _ => return Ok(false),
            }
            Ok(true)
        });
        // Sends nothing before the other peer is disconnected.
        let honest = ExtendedPeer::honest(&payload, done(&closed, 1));
        assert_eq!(fetch(&payload, &[&misfit, &honest]), BTreeSet::new());
    }
}

fn info_of_the_payload() -> &'static [u8] {
    static INFO: OnceLock<Vec<u8>> = OnceLock::new();
    INFO.get_or_init(|| payload().info())
}
