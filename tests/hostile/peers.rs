//! btsync among peers that lie, flood, stall and send malformed messages: it completes from the honest peers with the right
//! bytes, and does not spend memory on the others (SECURITY: what must hold against strangers).
//!
//! The honest seeder is held back until the hostile peer is done, so a test cannot pass by being fast.

use std::io;
use std::net::SocketAddr;

use crate::common::hostile_peer::{HostilePeerTest, RequestFields, seeding, thirty_pieces, unchoked, wait_for_request};
use crate::common::payload::Payload;
use crate::common::seeder::{FakePeer, Gate, block, serve};
use crate::common::tracker::Tracker;
use crate::common::wire::{Message, Wire, frame, handshake, id};
use crate::common::{TestDir, free_port, until};

/// btsync must disconnect a peer that completes the handshake and sends these bytes.
fn assert_disconnected_after(bytes: Vec<u8>) {
    let hostile = FakePeer::new(thirty_pieces().info_hash(), move |mut wire| {
        wire.send_raw(&bytes)?;
        wire.wait_for_close()
    });
    HostilePeerTest::new(hostile).survives();
}

/// btsync requests a block from the peer, the peer does `misbehave` with the request, and btsync must disconnect it.
fn assert_disconnected_on_request(misbehave: fn(&mut Wire, RequestFields) -> io::Result<()>) {
    let hostile = FakePeer::new(thirty_pieces().info_hash(), move |mut wire| {
        let request = wait_for_request(&mut wire)?;
        misbehave(&mut wire, request)?;
        wire.wait_for_close()
    });
    HostilePeerTest::new(hostile).survives();
}

/// Three numbers as encoded in a message.
fn words(words: [u32; 3]) -> Vec<u8> {
    words.map(u32::to_be_bytes).concat()
}

/// A whole download from one peer that does `first` with its first request and serves from then on.
fn completes_despite(first: impl Fn(&mut Wire, RequestFields, &[u8]) -> io::Result<()> + Send + Sync + 'static) {
    let (temp, payload) = (TestDir::new(), thirty_pieces());
    let (content, theirs, open) = (payload.content(), payload.clone(), Gate::new(usize::MAX));
    let peer = FakePeer::new(payload.info_hash(), move |mut wire| {
        let (piece, begin, length) = wait_for_request(&mut wire)?;
        first(&mut wire, (piece, begin, length), block(&theirs, &content, piece, begin, length))?;
        serve(&mut wire, &theirs, &content, &open)
    });
    fetches_from(&temp, &payload, &peer);
}

/// btsync must complete from this peer alone.
fn fetches_from(temp: &TestDir, payload: &Payload, peer: &FakePeer) {
    let tracker = Tracker::start(&[peer.addr]);
    let torrent = temp.torrent(payload, &tracker.url("127.0.0.1"));
    let out = temp.folder("out");
    temp.btsync("btsync", &torrent, &out, free_port(), &[]).expect_exit(0);
    payload.assert_at(&out);
}

#[test]
fn a_frame_of_four_gigabytes() {
    assert_disconnected_after(vec![0xff; 4]);
}

#[test]
fn a_frame_of_four_gigabytes_that_claims_to_be_a_piece() {
    assert_disconnected_on_request(|wire, _| {
        wire.send_raw(&[0xff, 0xff, 0xff, 0xff, id::PIECE, 0, 0, 0, 0, 0, 0, 0, 0])
    });
}

#[test]
fn a_bitfield_that_is_too_short() {
    assert_disconnected_after(frame(id::BITFIELD, &[0xff; 3]));
}

#[test]
fn a_bitfield_that_is_too_long() {
    assert_disconnected_after(frame(id::BITFIELD, &[0xff, 0xff, 0xff, 0xfc, 0]));
}

/// btsync checks the length in the header, without waiting for the payload.
#[test]
fn a_bitfield_of_another_length_is_refused_before_it_has_come() {
    assert_disconnected_after(vec![0, 0, 64, 1, id::BITFIELD]);
}

#[test]
fn a_bitfield_with_spare_bits() {
    assert_disconnected_after(frame(id::BITFIELD, &[0xff, 0xff, 0xff, 0xfd]));
}

#[test]
fn a_bitfield_that_takes_pieces_back() {
    assert_disconnected_after(
        [frame(id::BITFIELD, &[0xff, 0xff, 0xff, 0xfc]), frame(id::BITFIELD, &[0xff, 0xff, 0, 0])].concat(),
    );
}

#[test]
fn a_late_bitfield_that_forgets_a_have() {
    assert_disconnected_after([frame(id::HAVE, &[0; 4]), frame(id::BITFIELD, &[0x7f, 0xff, 0xff, 0xfc])].concat());
}

/// aria2 sends a second bitfield in place of many HAVEs. btsync treats it as those.
#[test]
fn a_late_bitfield_counts_as_haves() {
    let (temp, payload) = (TestDir::new(), thirty_pieces());
    let (content, theirs, open) = (payload.content(), payload.clone(), Gate::new(usize::MAX));
    let peer = FakePeer::new(payload.info_hash(), move |mut wire| {
        wire.send(id::HAVE, &3u32.to_be_bytes())?;
        wire.send(id::UNCHOKE, &[])?;
        let (piece, begin, length) = wire.next_request()?;
        wire.send_block(piece, begin, block(&theirs, &content, piece, begin, length))?;
        wire.send(id::BITFIELD, &[0xff, 0xff, 0xff, 0xfc])?;
        serve(&mut wire, &theirs, &content, &open)
    });
    fetches_from(&temp, &payload, &peer);
}

#[test]
fn have_of_a_piece_that_does_not_exist() {
    assert_disconnected_after(frame(id::HAVE, &30u32.to_be_bytes()));
}

#[test]
fn have_of_the_last_piece_a_number_can_name() {
    assert_disconnected_after(frame(id::HAVE, &u32::MAX.to_be_bytes()));
}

#[test]
fn a_have_of_the_wrong_length() {
    assert_disconnected_after(frame(id::HAVE, &[0; 3]));
}

#[test]
fn a_request_for_a_piece_that_does_not_exist() {
    assert_disconnected_after(frame(id::REQUEST, &words([30, 0, 16 * 1024])));
}

#[test]
fn a_request_past_the_end_of_a_piece() {
    assert_disconnected_after(frame(id::REQUEST, &words([0, 32 * 1024, 16 * 1024])));
}

#[test]
fn a_request_whose_end_overflows() {
    assert_disconnected_after(frame(id::REQUEST, &words([0, u32::MAX - 5, 16 * 1024])));
}

#[test]
fn a_request_past_the_end_of_the_last_piece() {
    assert_disconnected_after(frame(id::REQUEST, &words([29, 16 * 1024, 16 * 1024])));
}

#[test]
fn a_block_of_a_piece_that_does_not_exist() {
    assert_disconnected_on_request(|wire, (_, _, length)| wire.send_block(30, 0, &vec![0; length as usize]));
}

#[test]
fn a_block_at_an_offset_that_does_not_exist() {
    assert_disconnected_on_request(|wire, (piece, _, length)| {
        wire.send_block(piece, 1 << 31, &vec![0; length as usize])
    });
}

#[test]
fn a_block_that_was_not_asked_for_is_dropped() {
    // Offsets between the blocks, which btsync never requests. If accepted, the data would corrupt two blocks.
    completes_despite(|wire, (piece, begin, length), block| {
        wire.send_block(piece, 1, &vec![0xbb; length as usize])?;
        wire.send_block(piece, begin + 100, &[0xbb; 16])?;
        wire.send_block(piece, begin, block)
    });
}

/// btsync cannot have requested a piece that the peer never offered.
#[test]
fn a_block_of_a_piece_not_offered_is_dropped() {
    let (temp, payload) = (TestDir::new(), thirty_pieces());
    let (content, theirs, open) = (payload.content(), payload.clone(), Gate::new(usize::MAX));
    let peer = FakePeer::new(payload.info_hash(), move |mut wire| {
        wire.send(id::HAVE, &0u32.to_be_bytes())?;
        wire.send(id::UNCHOKE, &[])?;
        let (piece, begin, length) = wire.next_request()?;
        wire.send_block(20, 0, &[0xaa; 16 * 1024])?;
        wire.send_block(piece, begin, block(&theirs, &content, piece, begin, length))?;
        for piece in 1..30u32 {
            wire.send(id::HAVE, &piece.to_be_bytes())?;
        }
        serve(&mut wire, &theirs, &content, &open)
    });
    fetches_from(&temp, &payload, &peer);
}

#[test]
fn a_block_that_comes_twice_is_dropped() {
    completes_despite(|wire, (piece, begin, length), block| {
        wire.send_block(piece, begin, block)?;
        wire.send_block(piece, begin, &vec![0xcc; length as usize])
    });
}

/// Too short, too long, empty: the correct bytes come from the honest peer.
#[test]
fn blocks_of_the_wrong_length() {
    let lengths: [fn(u32) -> u32; 3] = [|asked| asked - 1, |asked| asked + 1, |_| 0];
    for wrong in lengths {
        let hostile = FakePeer::new(thirty_pieces().info_hash(), move |mut wire| {
            let (piece, begin, length) = wait_for_request(&mut wire)?;
            wire.send_block(piece, begin, &vec![0; wrong(length) as usize])
            // Then the peer disconnects; btsync requests its blocks from others.
        });
        HostilePeerTest::new(hostile).survives();
    }
}

/// Every block is wrong in one bit. The file is correct in the end, and btsync disconnects the attacker.
#[test]
fn corrupt_blocks() {
    let theirs = thirty_pieces();
    let content = theirs.content();
    let hostile = FakePeer::new(theirs.info_hash(), move |mut wire| {
        let mut request = wait_for_request(&mut wire)?;
        loop {
            let (piece, begin, length) = request;
            let mut wrong = block(&theirs, &content, piece, begin, length).to_vec();
            wrong[0] ^= 1;
            // The error means that btsync disconnected, as it should.
            if wire.send_block(piece, begin, &wrong).is_err() {
                return Ok(());
            }
            match wire.next_request() {
                Ok(next) => request = next,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                Err(_) => return Ok(()),
            }
        }
    });
    HostilePeerTest::new(hostile).survives();
}

#[test]
fn a_handshake_for_another_torrent() {
    let hostile = FakePeer::raw(|mut wire| {
        wire.read_handshake()?;
        wire.send_raw(&handshake([7; 20]))?;
        wire.wait_for_close()
    });
    HostilePeerTest::new(hostile).survives();
}

#[test]
fn a_handshake_of_another_protocol() {
    let hostile = FakePeer::raw(|mut wire| {
        wire.read_handshake()?;
        wire.send_raw(b"\x13BitTorrent protocoX and then some bytes so that it is as long as a handshake is.....")?;
        wire.wait_for_close()
    });
    HostilePeerTest::new(hostile).survives();
}

#[test]
fn a_web_server_instead_of_a_peer() {
    let hostile = FakePeer::raw(|mut wire| {
        wire.send_raw(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
        wire.wait_for_close()
    });
    HostilePeerTest::new(hostile).survives();
}

#[test]
fn a_peer_that_disconnects_at_once() {
    let hostile = FakePeer::raw(|_| Ok(()));
    HostilePeerTest::new(hostile).survives();
}

/// Silent incoming connections, and one for another torrent, cost nothing but their place.
#[test]
fn silent_connections_and_wrong_ones() {
    let mut test = HostilePeerTest::new(FakePeer::raw(|_| Ok(())));
    let silent: Vec<Wire> = (0..20).map(|_| Wire::connect(test.address())).collect();
    let mut wrong = Wire::connect(test.address());
    wrong.send_raw(&handshake([9; 20])).expect("a handshake for another torrent");
    wrong.wait_for_close().expect("a wrong info-hash ends the connection");
    test.completes();
    drop(silent);
}

/// btsync disconnects an incoming connection that sends nothing.
#[test]
fn a_silent_connection_is_closed() {
    let (temp, payload) = (TestDir::new(), thirty_pieces());
    let (_seeder, addr, _tracker) = seeding(&temp, &payload);
    Wire::connect(addr).wait_for_close().expect("a deadline for the handshake");
}

/// A bitfield with gaps, and a HAVE for each missing piece.
#[test]
fn a_lazy_bitfield_works() {
    let (temp, payload) = (TestDir::new(), thirty_pieces());
    let (content, theirs, open) = (payload.content(), payload.clone(), Gate::new(usize::MAX));
    let peer = FakePeer::new(payload.info_hash(), move |mut wire| {
        wire.send(id::BITFIELD, &[0xff, 0xff, 0, 0])?;
        for piece in 16..30u32 {
            wire.send(id::HAVE, &piece.to_be_bytes())?;
        }
        wire.send(id::UNCHOKE, &[])?;
        serve(&mut wire, &theirs, &content, &open)
    });
    fetches_from(&temp, &payload, &peer);
}

/// btsync ignores unknown messages, which BEP 3 leaves room for.
#[test]
fn unknown_messages_are_passed_over() {
    completes_despite(|wire, (piece, begin, _), block| {
        wire.send(99, b"whatever")?;
        wire.send_raw(&[0; 4])?;
        wire.send_block(piece, begin, block)
    });
}

/// A choke cancels all requests; btsync repeats them after the unchoke.
#[test]
fn a_choke_midway() {
    completes_despite(|wire, (piece, begin, _), block| {
        wire.send_block(piece, begin, block)?;
        wire.send(id::CHOKE, &[])?;
        wire.drain()?;
        wire.send(id::UNCHOKE, &[])
    });
}

/// The tracker returns our own address among others. btsync closes the connection to itself and continues.
#[test]
fn a_connection_to_ourselves() {
    let (temp, payload, port) = (TestDir::new(), thirty_pieces(), free_port());
    let gate = Gate::new(usize::MAX);
    let honest = FakePeer::honest(&payload, &gate);
    let ourselves = SocketAddr::from(([127, 0, 0, 1], port));
    let tracker = Tracker::start(&[ourselves, honest.addr]);
    let torrent = temp.torrent(&payload, &tracker.url("127.0.0.1"));
    let out = temp.folder("out");
    let mut btsync = temp.btsync("btsync", &torrent, &out, port, &["--seed"]);
    until("it has everything", || payload.difference(&out).is_none());
    // Once more, now that it has data to offer to itself.
    until("it has announced twice", || tracker.announces().len() >= 2);
    btsync.terminate(0);
}

/// Ten thousand requests from a peer that does not read ask for 160 MiB, which btsync does not hold in memory.
#[test]
fn a_flood_of_requests() {
    let (temp, payload) = (TestDir::new(), Payload::single("big.bin", 8 * 1024 * 1024, 256 * 1024));
    let (seeder, addr, _tracker) = seeding(&temp, &payload);
    let mut flood = unchoked(addr, &payload);
    for number in 0..10_000u32 {
        let (piece, begin) = (number % 32, number / 32 % 16 * 16 * 1024);
        if flood.request(piece, begin, 16 * 1024).is_err() {
            break; // btsync disconnected, which is correct too.
        }
    }
    // Meanwhile btsync serves a whole torrent to another peer.
    let mut fair = unchoked(addr, &payload);
    let content = payload.content();
    for number in 0..512u32 {
        let (piece, begin) = (number / 16, number % 16 * 16 * 1024);
        fair.request(piece, begin, 16 * 1024).expect("a request");
        let right = block(&payload, &content, piece, begin, 16 * 1024).to_vec();
        fair.receive_until(&Message::Piece(piece, begin, right)).expect("the block that was asked for");
    }
    let peak = seeder.peak_memory();
    assert!(peak < 64 * 1024, "btsync took {peak} KiB");
}

/// btsync refuses a request for more than 128 KiB.
#[test]
fn an_oversize_request() {
    let (temp, payload) = (TestDir::new(), Payload::single("big.bin", 8 * 1024 * 1024, 512 * 1024));
    let (_seeder, addr, _tracker) = seeding(&temp, &payload);
    let mut wire = unchoked(addr, &payload);
    wire.request(0, 0, 128 * 1024 + 1).expect("a request");
    wire.wait_for_close().expect("an oversize request ends the connection");
}

/// btsync does not answer requests from a choked peer.
#[test]
fn a_request_of_a_choked_peer() {
    let (temp, payload) = (TestDir::new(), thirty_pieces());
    let (_seeder, addr, _tracker) = seeding(&temp, &payload);
    let mut wire = Wire::connect_and_handshake(addr, payload.info_hash()).expect("a handshake");
    wire.request(0, 0, 16 * 1024).expect("a request");
    wire.send(id::INTERESTED, &[]).expect("interest");
    // Before the unchoke any message may come except a block.
    loop {
        match wire.receive().expect("a message or the unchoke") {
            Message::Unchoke => break,
            Message::Piece(..) => panic!("a choked peer was served"),
            _ => {}
        }
    }
}
