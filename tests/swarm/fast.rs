//! The fast extension (BEP 6) and the extension handshake (BEP 10), as a peer sees them: what btsync sends as a seeder and as a
//! leecher, and how it treats peers that abuse the extensions.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;

use crate::common::hostile_peer::{HostilePeerTest, seeding, thirty_pieces};
use crate::common::payload::Payload;
use crate::common::seeder::{FakePeer, Gate, block, serve};
use crate::common::tracker::Tracker;
use crate::common::wire::{Message, Wire, extended_handshake, frame, id};
use crate::common::{TestDir, free_port};

const BLOCK_SIZE: u32 = 16 * 1024;

/// Three numbers as encoded in a message.
fn words(words: [u32; 3]) -> Vec<u8> {
    words.map(u32::to_be_bytes).concat()
}

fn reject(piece: u32, begin: u32, length: u32) -> Message {
    Message::Other(id::REJECT, words([piece, begin, length]))
}

/// A peer that supports both extensions; it expects btsync to offer both.
fn fast_peer(behave: impl Fn(Wire) -> io::Result<()> + Send + Sync + 'static) -> FakePeer {
    let info_hash = thirty_pieces().info_hash();
    FakePeer::raw(move |mut wire| {
        let theirs = wire.read_handshake()?;
        if theirs[20..28] != [0, 0, 0, 0, 0, 0x10, 0, 4] {
            return Err(io::Error::other("btsync does not offer both extensions"));
        }
        wire.send_raw(&extended_handshake(info_hash))?;
        behave(wire)
    })
}

/// Connects to btsync with both extensions.
fn connect_extended(addr: SocketAddr, payload: &Payload) -> Wire {
    let mut wire = Wire::connect(addr);
    wire.send_raw(&extended_handshake(payload.info_hash())).expect("a handshake");
    wire.read_handshake().expect("btsync's handshake");
    wire
}

/// btsync must disconnect a fast peer that sends these bytes.
fn assert_disconnected_after(bytes: Vec<u8>) {
    let hostile = fast_peer(move |mut wire| {
        let _ = wire.send_raw(&bytes); // btsync may disconnect before all of it is sent
        wire.wait_for_close()
    });
    HostilePeerTest::new(hostile).survives();
}

/// btsync must complete from this peer alone.
fn fetches_from(peer: &FakePeer) {
    let (temp, payload) = (TestDir::new(), thirty_pieces());
    let tracker = Tracker::start(&[peer.addr]);
    let torrent = temp.torrent(&payload, &tracker.url("127.0.0.1"));
    let out = temp.folder("out");
    temp.btsync("btsync", &torrent, &out, free_port(), &[]).expect_exit(0);
    payload.assert_at(&out);
}

#[test]
fn fast_messages_that_were_not_agreed_on() {
    let messages: [(u8, Vec<u8>); 5] = [
        (id::SUGGEST, vec![0; 4]),
        (id::HAVE_ALL, vec![]),
        (id::HAVE_NONE, vec![]),
        (id::REJECT, words([0, 0, BLOCK_SIZE])),
        (id::ALLOWED_FAST, vec![0; 4]),
    ];
    for (id, body) in messages {
        let hostile = FakePeer::new(thirty_pieces().info_hash(), move |mut wire| {
            wire.send(id, &body)?;
            wire.wait_for_close()
        });
        HostilePeerTest::new(hostile).survives();
    }
}

#[test]
fn a_late_have_all_or_have_none() {
    assert_disconnected_after([frame(id::HAVE, &[0; 4]), frame(id::HAVE_ALL, &[])].concat());
    assert_disconnected_after([frame(id::HAVE_NONE, &[]), frame(id::HAVE_ALL, &[])].concat());
}

#[test]
fn a_reject_of_an_unrequested_block() {
    assert_disconnected_after(frame(id::REJECT, &words([0, 0, BLOCK_SIZE])));
}

#[test]
fn pieces_that_do_not_exist_allowed_or_suggested() {
    assert_disconnected_after(frame(id::ALLOWED_FAST, &30u32.to_be_bytes()));
    assert_disconnected_after(frame(id::SUGGEST, &u32::MAX.to_be_bytes()));
}

#[test]
fn a_flood_of_allowed_pieces_and_of_suggestions() {
    assert_disconnected_after(frame(id::ALLOWED_FAST, &[0; 4]).repeat(12_000));
    assert_disconnected_after(frame(id::SUGGEST, &[0; 4]).repeat(12_000));
}

/// Each rejected request costs an answer, so a flood of them ends the connection.
#[test]
fn a_flood_of_requests_while_choked() {
    assert_disconnected_after(frame(id::REQUEST, &words([0, 0, BLOCK_SIZE])).repeat(12_000));
}

/// A peer that reads nothing can queue so many requests; btsync rejects each further one.
#[test]
fn requests_beyond_the_queue_are_rejected() {
    const QUEUE: usize = 2000;
    let (temp, payload) = (TestDir::new(), Payload::single("big.bin", 8 * 1024 * 1024, 256 * 1024));
    let (_seeder, addr, _tracker) = seeding(&temp, &payload);
    let mut wire = connect_extended(addr, &payload);
    wire.send(id::BITFIELD, &[0xff, 0xf0, 0, 0]).expect("a bitfield");
    wire.send(id::INTERESTED, &[]).expect("interest");
    wire.receive_until(&Message::Unchoke).expect("to be unchoked");
    let asked = 3 * QUEUE;
    for number in 0..asked as u32 {
        wire.request(number / 16 % 32, number % 16 * BLOCK_SIZE, BLOCK_SIZE).expect("a request");
    }
    let (mut blocks, mut rejects) = (0, 0);
    while blocks + rejects < asked {
        match wire.receive().expect("an answer to every request") {
            Message::Piece(..) => blocks += 1,
            Message::Other(id::REJECT, _) => rejects += 1,
            _ => {}
        }
    }
    // Meanwhile btsync served some into the socket buffers.
    assert!(blocks >= QUEUE && rejects > 0, "{blocks} blocks, {rejects} rejects");
}

/// The peer unchokes and rejects every request. btsync must not ask it again for ever.
#[test]
fn a_flood_of_rejects() {
    let hostile = fast_peer(|mut wire| {
        wire.send(id::HAVE_ALL, &[])?;
        wire.send(id::UNCHOKE, &[])?;
        loop {
            let (piece, begin, length) = match wire.next_request() {
                Ok(request) => request,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                Err(_) => return Ok(()), // disconnected
            };
            if wire.send(id::REJECT, &words([piece, begin, length])).is_err() {
                return Ok(());
            }
        }
    });
    HostilePeerTest::new(hostile).survives();
}

/// A seeder sends `HAVE_ALL`, allows a choked new peer ten pieces (allowed fast), and rejects requests for other pieces.
#[test]
fn a_choked_newcomer_gets_its_allowed_pieces_and_rejects_for_others() {
    let (temp, payload) = (TestDir::new(), thirty_pieces());
    let (_seeder, addr, _tracker) = seeding(&temp, &payload);
    let content = payload.content();
    let mut wire = connect_extended(addr, &payload);
    wire.send(id::HAVE_NONE, &[]).expect("a word");
    assert_eq!(wire.receive().expect("HAVE ALL"), Message::Other(id::HAVE_ALL, vec![]));
    let mut allowed = BTreeSet::new();
    while allowed.len() < 10 {
        if let Message::Other(id::ALLOWED_FAST, piece) = wire.receive().expect("the allowed pieces") {
            assert!(allowed.insert(u32::from_be_bytes(piece.try_into().expect("four bytes"))), "allowed twice");
        }
    }
    for piece in 0..30 {
        wire.request(piece, 0, BLOCK_SIZE).expect("a request");
    }
    let mut answered = BTreeSet::new();
    while answered.len() < 30 {
        match wire.receive().expect("an answer") {
            Message::Piece(piece, 0, bytes) => {
                assert!(allowed.contains(&piece), "a choked peer got piece {piece}");
                assert!(bytes == block(&payload, &content, piece, 0, BLOCK_SIZE), "wrong bytes");
                assert!(answered.insert(piece), "answered twice");
            }
            Message::Other(id::REJECT, what) => {
                let piece = u32::from_be_bytes([what[0], what[1], what[2], what[3]]);
                assert_eq!(what, words([piece, 0, BLOCK_SIZE]));
                assert!(!allowed.contains(&piece), "an allowed piece was rejected");
                assert!(answered.insert(piece), "answered twice");
            }
            other => panic!("{other:?} instead of an answer"),
        }
    }
    // The allowance is bounded: btsync rejects endless requests for allowed pieces in the end.
    let gift = *allowed.first().expect("ten pieces");
    for _ in 0..50 {
        wire.request(gift, 0, BLOCK_SIZE).expect("a request");
    }
    wire.receive_until(&reject(gift, 0, BLOCK_SIZE)).expect("the end of the gift");
}

/// The allowance belongs to the peer's address: neither another connection nor a later one renews it.
#[test]
fn a_new_connection_brings_no_new_allowance() {
    let (temp, payload) = (TestDir::new(), thirty_pieces());
    let (_seeder, addr, _tracker) = seeding(&temp, &payload);
    let allowed = |wire: &mut Wire| loop {
        if let Message::Other(id::ALLOWED_FAST, piece) = wire.receive().expect("the allowed pieces") {
            return u32::from_be_bytes(piece.try_into().expect("four bytes"));
        }
    };
    let connect = || {
        let mut wire = connect_extended(addr, &payload);
        wire.send(id::HAVE_NONE, &[]).expect("a word");
        wire
    };
    let [mut first, mut second] = [connect(), connect()];
    let gift = [allowed(&mut first), allowed(&mut second)];
    assert_eq!(gift[0], gift[1], "the set of an address is always the same");
    let (mut blocks, mut rejects) = (0, 0);
    for wire in [&mut first, &mut second] {
        for _ in 0..50 {
            wire.request(gift[0], 0, BLOCK_SIZE).expect("a request");
        }
        let answered = blocks + rejects;
        while blocks + rejects < answered + 50 {
            match wire.receive().expect("an answer") {
                Message::Piece(..) => blocks += 1,
                Message::Other(id::REJECT, _) => rejects += 1,
                _ => {}
            }
        }
    }
    assert_eq!(blocks, 2 * 10 * payload.piece_length / BLOCK_SIZE as usize, "each block of ten pieces twice, in all");
    let mut third = connect();
    third.request(gift[0], 0, BLOCK_SIZE).expect("a request");
    loop {
        match third.receive().expect("an answer") {
            Message::Other(id::REJECT, _) => break,
            Message::Other(id::ALLOWED_FAST, _) | Message::Piece(..) => panic!("the allowance is used up"),
            _ => {}
        }
    }
}

/// Every request gets exactly one answer, whether it is served, cancelled or rejected by a choke.
#[test]
fn every_request_is_answered_once() {
    let (temp, payload) = (TestDir::new(), Payload::single("big.bin", 8 * 1024 * 1024, 256 * 1024));
    let (_seeder, addr, _tracker) = seeding(&temp, &payload);
    let mut wire = connect_extended(addr, &payload);
    // A peer with twelve pieces gets no allowed fast pieces.
    wire.send(id::BITFIELD, &[0xff, 0xf0, 0, 0]).expect("a bitfield");
    wire.send(id::INTERESTED, &[]).expect("interest");
    wire.receive_until(&Message::Unchoke).expect("to be unchoked");
    // More than the socket buffers hold, and the peer reads nothing meanwhile.
    let mut open: BTreeMap<(u32, u32), i32> = BTreeMap::new();
    for number in 0..1900u32 {
        let (piece, begin) = (number / 16 % 32, number % 16 * BLOCK_SIZE);
        wire.request(piece, begin, BLOCK_SIZE).expect("a request");
        *open.entry((piece, begin)).or_default() += 1;
    }
    for number in 0..16u32 {
        wire.send(id::CANCEL, &words([31, number * BLOCK_SIZE, BLOCK_SIZE])).expect("a cancel");
    }
    wire.send(id::NOT_INTERESTED, &[]).expect("no interest");
    let (mut choked, mut left, mut rejects) = (false, 1900, 0);
    while left > 0 || !choked {
        let (piece, begin) = match wire.receive().expect("an answer to every request") {
            Message::Choke => {
                choked = true;
                continue;
            }
            Message::Piece(piece, begin, _) => {
                assert!(!choked, "a block after the choke");
                (piece, begin)
            }
            Message::Other(id::REJECT, what) => {
                rejects += 1;
                let word = |at| u32::from_be_bytes([what[at], what[at + 1], what[at + 2], what[at + 3]]);
                (word(0), word(4))
            }
            _ => continue,
        };
        let waiting = open.get_mut(&(piece, begin)).expect("an answer to what was asked");
        *waiting -= 1;
        assert!(*waiting >= 0, "piece {piece} at {begin} was answered twice");
        left -= 1;
    }
    assert!(rejects > 0, "neither the cancels nor the choke were answered by a reject");
    wire.request(20, 0, BLOCK_SIZE).expect("a request");
    wire.receive_until(&reject(20, 0, BLOCK_SIZE)).expect("a reject, as we are choked");
}

/// While choked, btsync requests only the pieces that the peer allowed.
#[test]
fn allowed_pieces_are_fetched_while_choked() {
    let payload = thirty_pieces();
    let (content, open) = (payload.content(), Gate::new(usize::MAX));
    let peer = fast_peer(move |mut wire| {
        wire.send(id::HAVE_ALL, &[])?;
        for piece in [3u32, 5, 3] {
            wire.send(id::ALLOWED_FAST, &piece.to_be_bytes())?;
        }
        wire.send(id::SUGGEST, &7u32.to_be_bytes())?;
        for _ in 0..4 {
            let (piece, begin, length) = wire.next_request()?;
            if piece != 3 && piece != 5 {
                return Err(io::Error::other("asked for a piece that is not allowed"));
            }
            wire.send_block(piece, begin, block(&payload, &content, piece, begin, length))?;
        }
        wire.send(id::UNCHOKE, &[])?;
        serve(&mut wire, &payload, &content, &open)
    });
    fetches_from(&peer);
}

/// btsync requests a rejected block again, whether it was choked or not, and completes.
#[test]
fn rejected_blocks_are_requested_again() {
    let payload = thirty_pieces();
    let (content, open) = (payload.content(), Gate::new(usize::MAX));
    let peer = fast_peer(move |mut wire| {
        wire.send(id::HAVE_ALL, &[])?;
        wire.send(id::ALLOWED_FAST, &4u32.to_be_bytes())?;
        for _ in 0..2 {
            let (piece, begin, length) = wire.next_request()?;
            wire.send(id::REJECT, &words([piece, begin, length]))?;
        }
        wire.send(id::UNCHOKE, &[])?;
        for _ in 0..10 {
            let (piece, begin, length) = wire.next_request()?;
            wire.send(id::REJECT, &words([piece, begin, length]))?;
        }
        serve(&mut wire, &payload, &content, &open)
    });
    fetches_from(&peer);
}

/// A choke from a fast peer does not cancel requests: btsync requests nothing twice after the unchoke.
#[test]
fn a_choke_takes_no_request_with_it() {
    let payload = thirty_pieces();
    let content = payload.content();
    let peer = fast_peer(move |mut wire| {
        wire.send(id::HAVE_ALL, &[])?;
        wire.send(id::UNCHOKE, &[])?;
        let mut request = wire.next_request()?;
        wire.send(id::CHOKE, &[])?;
        wire.send(id::UNCHOKE, &[])?;
        let mut asked = BTreeSet::new();
        loop {
            let (piece, begin, length) = request;
            if !asked.insert(request) {
                return Err(io::Error::other("asked twice"));
            }
            wire.send_block(piece, begin, block(&payload, &content, piece, begin, length))?;
            request = wire.next_request()?;
        }
    });
    fetches_from(&peer);
}

/// The extension handshake describes the torrent and the client. btsync repeats it with `upload_only` once the download is
/// complete (BEP 21).
#[test]
fn a_leecher_that_completes_says_that_it_wants_nothing_more() {
    let (temp, payload, port) = (TestDir::new(), thirty_pieces(), free_port());
    let gate = Gate::new(0);
    let honest = FakePeer::honest(&payload, &gate);
    let tracker = Tracker::start(&[honest.addr]);
    let torrent = temp.torrent(&payload, &tracker.url("127.0.0.1"));
    let mut btsync = temp.btsync("btsync", &torrent, &temp.folder("out"), port, &["--seed"]);
    let mut wire = connect_extended(SocketAddr::from(([127, 0, 0, 1], port)), &payload);
    wire.send(id::HAVE_NONE, &[]).expect("a word");
    let size = format!("13:metadata_sizei{}e", payload.info().len());
    for upload_only in [b"11:upload_onlyi0e", b"11:upload_onlyi1e"] {
        let said = loop {
            match wire.receive().expect("an extension handshake") {
                Message::Other(id::EXTENDED, said) => break said,
                Message::Other(id::HAVE_ALL, _) | Message::Bitfield(_) => panic!("it has something already"),
                _ => {}
            }
        };
        for part in [upload_only.as_slice(), size.as_bytes(), b"4:reqqi2000e", b"6:yourip4:\x7f\0\0\x01"] {
            assert!(said.windows(part.len()).any(|w| w == part), "{} is not there", part.escape_ascii());
        }
        gate.open();
    }
    btsync.terminate(0);
}

/// btsync also sends libtorrent's `upload_only` message to peers that support it, and understands it.
#[test]
fn upload_only_is_sent_and_understood_as_a_message() {
    let (temp, payload, port) = (TestDir::new(), thirty_pieces(), free_port());
    let gate = Gate::new(0);
    let honest = FakePeer::honest(&payload, &gate);
    let tracker = Tracker::start(&[honest.addr]);
    let torrent = temp.torrent(&payload, &tracker.url("127.0.0.1"));
    let mut btsync = temp.btsync("btsync", &torrent, &temp.folder("out"), port, &["--seed"]);
    let mut wire = connect_extended(SocketAddr::from(([127, 0, 0, 1], port)), &payload);
    wire.send(id::HAVE_NONE, &[]).expect("a word");
    wire.send(id::EXTENDED, b"\0d1:md11:upload_onlyi77eee").expect("an extension handshake");
    let ours = loop {
        if let Message::Other(id::EXTENDED, said) = wire.receive().expect("an extension handshake") {
            assert_eq!(said[0], 0);
            let said = String::from_utf8_lossy(&said).into_owned();
            let id =
                said.split_once("11:upload_onlyi").and_then(|(_, rest)| rest.split_once('e')?.0.parse::<u8>().ok());
            break id.expect("an id for upload_only");
        }
    };
    gate.open();
    loop {
        if let Message::Other(id::EXTENDED, said) = wire.receive().expect("a message") {
            break assert_eq!(said, [77, 1]);
        }
    }
    // Neither side wants anything now, so btsync disconnects.
    wire.send(id::EXTENDED, &[ours, 1]).expect("a word");
    wire.wait_for_close().expect("the end");
    btsync.terminate(0);
}

/// A tracker that tests whether we are reachable sends a handshake up to the info-hash, and waits for ours before it sends its
/// peer id.
#[test]
fn a_handshake_is_answered_before_its_peer_id_has_come() {
    let (temp, payload, port) = (TestDir::new(), thirty_pieces(), free_port());
    let tracker = Tracker::start(&[]);
    let torrent = temp.torrent(&payload, &tracker.url("127.0.0.1"));
    let mut btsync = temp.btsync("btsync", &torrent, &temp.folder_with("source", &payload), port, &["--seed"]);
    let mut wire = Wire::connect(SocketAddr::from(([127, 0, 0, 1], port)));
    let ours = extended_handshake(payload.info_hash());
    let (head, peer_id) = ours.split_at(48);
    wire.send_raw(head).expect("a handshake");
    let theirs = wire.read_handshake().expect("a handshake");
    assert_eq!(theirs[28..48], payload.info_hash());
    wire.send_raw(peer_id).expect("a handshake");
    wire.receive_until(&Message::Other(id::HAVE_ALL, Vec::new())).expect("a connection that goes on");
    btsync.terminate(0);
}
