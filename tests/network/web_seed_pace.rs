//! Web seeds that are slow, or become slow.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::TestDir;
use crate::common::payload::Payload;
use crate::common::seeder::{FakePeer, block, full_bitfield};
use crate::common::tracker::Tracker;
use crate::common::web_seed::{TRICKLE, TestWebSeed, WebSeedOptions, part};
use crate::common::wire::id;
use crate::web_seeds::start;

const PIECE: usize = 64 * 1024;

/// A seeder that sends ten blocks a second, and notes the pieces of the requests.
fn slow_peer(payload: &Payload, pieces: &Arc<Mutex<Vec<u32>>>) -> FakePeer {
    let (theirs, content, pieces) = (payload.clone(), payload.content(), pieces.clone());
    FakePeer::new(payload.info_hash(), move |mut wire| {
        wire.send(id::BITFIELD, &full_bitfield(theirs.pieces()))?;
        wire.send(id::UNCHOKE, &[])?;
        loop {
            let (piece, begin, length) = wire.next_request()?;
            std::thread::sleep(Duration::from_millis(100));
            pieces.lock().expect("no panic").push(piece);
            wire.send_block(piece, begin, block(&theirs, &content, piece, begin, length))?;
        }
    })
}

/// The web seed answers some requests and then sends a byte a second. The peer alone needs half a minute for the rest.
#[test]
fn blocks_of_a_web_seed_that_trickles_come_from_a_peer_before_others() {
    let payload = Payload::single("large", 80 * PIECE, PIECE);
    let seed = TestWebSeed::with(&payload, |request, file| {
        if request.number == 0 {
            return Some(part(file, &request.bytes));
        }
        let response = String::from_utf8_lossy(&part(file, &request.bytes)).into_owned();
        let head = response.split("\r\n\r\n").next().expect("a head");
        Some(format!("{head}\r\n{TRICKLE}\r\n").into_bytes())
    });
    let (temp, pieces) = (TestDir::new(), Arc::default());
    let peer = slow_peer(&payload, &pieces);
    let tracker = Tracker::start(&[peer.addr]);
    let args = ["--sequential", "-v"];
    let mut btsync = start(&temp, &payload, &seed.url(), &tracker.url("127.0.0.1"), &args);
    btsync.expect_exit(0);
    payload.assert_at(&temp.path("out"));
    assert!(btsync.log().contains("the server is much slower than before"), "{}", btsync.log());
    let pieces = pieces.lock().expect("no panic");
    let end = |piece: &u32| *piece == 79;
    let last = pieces.iter().position(end).expect("the last piece came from the peer");
    let late = pieces.iter().skip(last).filter(|piece| **piece < 8).count();
    assert_eq!(late, 0, "blocks from the start of the file came last: {pieces:?}");
}

/// The only source sends two kilobytes a second: much less than the picker expects of a server that it does not know.
#[test]
fn a_slow_web_seed_that_is_the_only_source_is_not_given_up() {
    let payload = Payload::single("small", 50_000, 16 * 1024);
    let options = WebSeedOptions { part: 1024, pause: Duration::from_millis(500), ..WebSeedOptions::default() };
    let seed = TestWebSeed::with_options(&payload, options);
    let temp = TestDir::new();
    let mut btsync = start(&temp, &payload, &seed.url(), "", &["-v"]);
    btsync.expect_exit(0);
    payload.assert_at(&temp.path("out"));
    assert!(
        seed.sent() < 50_000 + seed.requests() as u64 * 300,
        "{} bytes in {} requests",
        seed.sent(),
        seed.requests()
    );
}
