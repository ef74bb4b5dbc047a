//! Peers that lose pieces which they had (`lt_donthave`, BEP 54).

use std::collections::BTreeSet;
use std::io;

use crate::common::hostile_peer::{HostilePeerTest, thirty_pieces};
use crate::common::seeder::{FakePeer, block};
use crate::common::wire::{Message, Wire, extended_handshake, frame, id};

const PIECES: usize = 30;

/// A peer with both extensions that reads btsync's extension handshake first.
fn peer(behave: impl Fn(Wire) -> io::Result<()> + Send + Sync + 'static) -> FakePeer {
    let info_hash = thirty_pieces().info_hash();
    FakePeer::raw(move |mut wire| {
        wire.read_handshake()?;
        wire.send_raw(&extended_handshake(info_hash))?;
        loop {
            match wire.receive()? {
                Message::Other(id::EXTENDED, said) if said.first() == Some(&0) => {
                    let offers = said.windows(15).any(|key| key == b"11:lt_donthavei");
                    return if offers { behave(wire) } else { Err(io::Error::other("lt_donthave is not offered")) };
                }
                _ => {}
            }
        }
    })
}

/// The message for a lost piece, under btsync's id.
fn dont_have(piece: u32) -> Vec<u8> {
    frame(id::EXTENDED, &[&[4], &piece.to_be_bytes()[..]].concat())
}

/// The peer serves every piece but the one that it loses. btsync then wants nothing more of it, and gets the rest elsewhere.
#[test]
fn a_lost_piece_is_not_requested_again() {
    let (payload, content) = (thirty_pieces(), thirty_pieces().content());
    let hostile = peer(move |mut wire| {
        wire.send(id::HAVE_ALL, &[])?;
        wire.send(id::UNCHOKE, &[])?;
        let (lost, begin, length) = wire.next_request()?;
        wire.send_raw(&dont_have(lost))?;
        wire.send_raw(&dont_have(lost))?;
        let reject = |begin: u32, length: u32| [lost, begin, length].map(u32::to_be_bytes).concat();
        wire.send(id::REJECT, &reject(begin, length))?;
        let (mut rejected, mut served) = (BTreeSet::from([begin]), BTreeSet::new());
        loop {
            match wire.receive()? {
                Message::Request(piece, begin, length) if piece == lost => {
                    wire.send(id::REJECT, &reject(begin, length))?;
                    if !rejected.insert(begin) {
                        return Err(io::Error::other("a block of the lost piece was requested again"));
                    }
                }
                Message::Request(piece, begin, length) => {
                    served.insert((piece, begin));
                    wire.send_block(piece, begin, block(&payload, &content, piece, begin, length))?;
                }
                Message::NotInterested if served.len() == 2 * (PIECES - 1) => return Ok(()),
                Message::NotInterested => return Err(io::Error::other("there was more to get")),
                _ => {}
            }
        }
    });
    HostilePeerTest::new(hostile).survives();
}

#[test]
fn malformed_and_repeated_losses_end_the_connection() {
    let short = frame(id::EXTENDED, &[4, 0, 0, 1]);
    let flood: Vec<u8> =
        (0..600).flat_map(|_| [dont_have(3), frame(id::HAVE, &3_u32.to_be_bytes())].concat()).collect();
    for bytes in [short, dont_have(30), dont_have(u32::MAX), [frame(id::HAVE_ALL, &[]), flood].concat()] {
        let hostile = peer(move |mut wire| {
            let _ = wire.send_raw(&bytes); // btsync may disconnect before all of it is sent
            wire.wait_for_close()
        });
        HostilePeerTest::new(hostile).survives();
    }
}
