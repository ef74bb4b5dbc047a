//! Corrupt blocks among correct ones: btsync completes, finds out which peer sent them, and bans only that peer (SECURITY: the
//! sender of a bad block is found and banned, its honest co-senders are not). In this process, because the events name the banned
//! peers.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use btsync::metainfo::Metainfo;
use btsync::torrent::{Event, Outcome, Snapshot, Torrent, TorrentConfig};

use crate::common::payload::Payload;
use crate::common::seeder::{FakePeer, Gate, block, full_bitfield};
use crate::common::wire::{Wire, id};
use crate::common::{TestDir, until};

/// One block in this many is corrupt.
const CORRUPT_EVERY: usize = 20;

/// The result of a download.
struct DownloadResult {
    outcome: Outcome,
    banned: BTreeSet<SocketAddr>,
    /// For each failed piece, how many peers had sent blocks of it.
    failures: Vec<usize>,
    figures: Snapshot,
}

/// Downloads from `peers` while `meanwhile` runs.
fn fetch(payload: &Payload, out: PathBuf, peers: Vec<SocketAddr>, meanwhile: impl FnOnce()) -> DownloadResult {
    let metainfo = Metainfo::parse(&payload.torrent("http://127.0.0.1:1/announce")).expect("a torrent");
    let mut config = TorrentConfig::new(out);
    (config.client.dht, config.client.uses_lsd) = (None, false);
    config.client.listen_ports = 0..=0;
    config.search.peers = peers;
    let torrent = Torrent::new(metainfo, config);
    let (handle, events) = (torrent.handle(), torrent.events());
    let running = thread::spawn(move || torrent.run().expect("no error"));
    meanwhile();
    let outcome = running.join().expect("no panic");
    let mut told =
        DownloadResult { outcome, banned: BTreeSet::new(), failures: Vec::new(), figures: handle.snapshot() };
    for event in events.try_iter() {
        match event {
            Event::PeerBanned { addr, .. } => {
                told.banned.insert(addr);
            }
            Event::PieceFailed { senders, .. } => told.failures.push(senders.len()),
            _ => {}
        }
    }
    told
}

/// A seeder whose first block and then one block in [`CORRUPT_EVERY`] is wrong in its last bit; counts the corrupt blocks.
fn poisoner(payload: &Payload, content: &Arc<Vec<u8>>, lies: &Arc<AtomicUsize>) -> FakePeer {
    let (theirs, content, lies) = (payload.clone(), content.clone(), lies.clone());
    FakePeer::new(payload.info_hash(), move |mut wire| {
        wire.send(id::BITFIELD, &full_bitfield(theirs.pieces()))?;
        wire.send(id::UNCHOKE, &[])?;
        for number in 0.. {
            let (piece, begin, length) = wire.next_request()?;
            let mut bytes = block(&theirs, &content, piece, begin, length).to_vec();
            if number % CORRUPT_EVERY == 0 {
                *bytes.last_mut().expect("a block has bytes") ^= 1;
            }
            wire.send_block(piece, begin, &bytes)?;
            if number % CORRUPT_EVERY == 0 {
                lies.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    })
}

/// Half of the peers corrupt a few blocks.
#[test]
fn poisoners_are_banned_and_nobody_else() {
    let (temp, payload) = (TestDir::new(), Payload::single("poisoned.bin", 16 << 20, 2 << 20));
    let content = Arc::new(payload.content());
    let lies: Vec<_> = (0..3).map(|_| Arc::new(AtomicUsize::new(0))).collect();
    let poisoners: Vec<_> = lies.iter().map(|lies| poisoner(&payload, &content, lies)).collect();
    // The honest peers serve some blocks at once, and the rest when every poisoner has sent a corrupt block.
    let gate = Gate::new(300);
    let honest: Vec<_> = (0..3).map(|_| FakePeer::honest(&payload, &gate)).collect();
    let peers = honest.iter().chain(&poisoners).map(|peer| peer.addr).collect();
    let out = temp.folder("out");
    let told = fetch(&payload, out.clone(), peers, || {
        until("every poisoner has lied", || lies.iter().all(|lies| lies.load(Ordering::Relaxed) > 0));
        gate.open();
    });
    assert_eq!(told.outcome, Outcome::Completed);
    payload.assert_at(&out);
    assert_eq!(told.banned, poisoners.iter().map(|peer| peer.addr).collect());
    assert!(told.figures.wasted < 3 * told.figures.total, "{} bytes wasted", told.figures.wasted);
}

/// One corrupt block in a piece that an honest peer completes. The attacker has disconnected long before the hash check fails.
#[test]
fn a_peer_that_sends_one_wrong_block_and_disconnects_is_banned() {
    let (temp, payload) = (TestDir::new(), Payload::single("spoilt.bin", (1 << 20) - 5, 1 << 20));
    let content = payload.content();
    let (theirs, gate) = (payload.clone(), Gate::new(0));
    let attacker = FakePeer::new(payload.info_hash(), move |mut wire: Wire| -> io::Result<()> {
        wire.send(id::BITFIELD, &full_bitfield(theirs.pieces()))?;
        wire.send(id::UNCHOKE, &[])?;
        let (piece, begin, length) = wire.next_request()?;
        let mut bytes = block(&theirs, &content, piece, begin, length).to_vec();
        bytes[0] ^= 1;
        wire.send_block(piece, begin, &bytes)?;
        wire.end()
    });
    let honest = FakePeer::honest(&payload, &gate);
    let out = temp.folder("out");
    let told = fetch(&payload, out.clone(), vec![attacker.addr, honest.addr], || {
        attacker.outcome().expect("the attacker's part");
        gate.open();
    });
    assert_eq!(told.outcome, Outcome::Completed);
    payload.assert_at(&out);
    assert_eq!(told.failures, [2], "the piece must have had two senders, once");
    assert_eq!(told.banned, BTreeSet::from([attacker.addr]));
}

/// Answers each request after `wait`. The first `lies` blocks are wrong.
fn slow_peer(payload: &Payload, content: &Arc<Vec<u8>>, wait: Duration, lies: usize) -> FakePeer {
    let (theirs, content) = (payload.clone(), content.clone());
    FakePeer::new(payload.info_hash(), move |mut wire| {
        wire.send(id::BITFIELD, &full_bitfield(theirs.pieces()))?;
        wire.send(id::UNCHOKE, &[])?;
        for number in 0.. {
            let (piece, begin, length) = wire.next_request()?;
            thread::sleep(wait);
            let mut bytes = block(&theirs, &content, piece, begin, length).to_vec();
            bytes[0] ^= u8::from(number < lies);
            wire.send_block(piece, begin, &bytes)?;
        }
        Ok(())
    })
}

/// Each honest peer needs more than 20 seconds for a piece, so that btsync has all of them share it, and the attacker too.
#[test]
fn a_slow_poisoner_among_slow_peers_spoils_one_piece_and_is_banned() {
    let (temp, payload) = (TestDir::new(), Payload::single("shared.bin", 8 << 20, 8 << 20));
    let content = Arc::new(payload.content());
    let honest: Vec<_> = (0..10).map(|_| slow_peer(&payload, &content, Duration::from_millis(42), 0)).collect();
    let attacker = slow_peer(&payload, &content, Duration::from_millis(60), 200);
    let peers = honest.iter().chain([&attacker]).map(|peer| peer.addr).collect();
    let out = temp.folder("out");
    let told = fetch(&payload, out.clone(), peers, || ());
    assert_eq!(told.outcome, Outcome::Completed);
    payload.assert_at(&out);
    // If btsync asks the attacker alone next, the piece fails again with one sender.
    assert_eq!(told.failures.iter().filter(|&&senders| senders > 1).count(), 1, "senders: {:?}", told.failures);
    assert_eq!(told.banned, BTreeSet::from([attacker.addr]));
}
