//! Peers that support the extension protocol (BEP 10) with metadata (BEP 9) and peer exchange (BEP 11). They behave honestly
//! unless the test overrides a step, and record what they receive.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use super::payload::Payload;
use super::seeder::{FakePeer, block, full_bitfield};
use super::wire::{Message, Wire, extended_handshake, id};

/// The size of a metadata piece in bytes.
pub const PIECE: usize = 16 * 1024;
/// The extended message ids that a talker announces for metadata and peer exchange.
const METADATA: u8 = 3;
const PEX: u8 = 7;
/// The id of PORT (BEP 5).
const PORT: u8 = 9;

/// An event that a talker reacts to, unless the test does.
#[derive(Clone, Copy, Debug)]
pub enum Turn {
    /// Both handshakes are complete.
    Begin,
    /// btsync requested this metadata piece.
    Metadata(u32),
    /// btsync requested this block.
    Block(u32, u32, u32),
}

/// What btsync sent on all connections of a talker.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// For each connection with both handshakes complete: whether btsync offered peer exchange.
    pub offers_pex: Vec<bool>,
    /// For each connection: whether btsync's handshake set the DHT bit.
    pub dht_bits: Vec<bool>,
    /// The addresses that btsync connected from.
    pub callers: Vec<SocketAddr>,
    /// Number of peer exchange messages.
    pub pex: usize,
    /// Number of PORT messages.
    pub ports: usize,
    /// Number of metadata requests.
    pub asked: usize,
    /// Number of HAVE messages.
    pub haves: usize,
}

/// A connection to btsync, with the ids that btsync announced for metadata and peer exchange messages.
pub struct Talk {
    /// The connection.
    pub wire: Wire,
    metadata: u8,
    pex: u8,
}

impl Talk {
    /// Sends a metadata piece; `total` is the metadata size that the message claims.
    pub fn metadata(&mut self, piece: u32, total: usize, bytes: &[u8]) -> io::Result<()> {
        let head = format!("d8:msg_typei1e5:piecei{piece}e10:total_sizei{total}ee");
        self.wire.send(id::EXTENDED, &[&[self.metadata], head.as_bytes(), bytes].concat())
    }

    /// Rejects a request for a metadata piece.
    pub fn reject(&mut self, piece: u32) -> io::Result<()> {
        let text = format!("d8:msg_typei2e5:piecei{piece}ee");
        self.wire.send(id::EXTENDED, &[&[self.metadata], text.as_bytes()].concat())
    }

    /// Sends a peer exchange message that adds peers with IPv4 addresses.
    pub fn pex(&mut self, peers: &[SocketAddr]) -> io::Result<()> {
        let mut compact = Vec::new();
        for peer in peers {
            if let SocketAddr::V4(peer) = peer {
                compact.extend(peer.ip().octets());
                compact.extend(peer.port().to_be_bytes());
            }
        }
        let flags = vec![0; peers.len()];
        let dict = super::bencode::dict([
            ("added", super::bencode::bytes(&compact)),
            ("added.f", super::bencode::bytes(&flags)),
        ]);
        self.raw_pex(&dict)
    }

    /// Sends a peer exchange message with an arbitrary payload.
    pub fn raw_pex(&mut self, payload: &[u8]) -> io::Result<()> {
        self.wire.send(id::EXTENDED, &[&[self.pex], payload].concat())
    }
}

/// A peer that listens on loopback.
pub struct Talker {
    /// The listening peer.
    pub peer: FakePeer,
    /// What it received.
    pub heard: Arc<Mutex<Heard>>,
}

impl Talker {
    /// A talker that claims `claims` as its metadata size. `behave` handles a turn and returns true, or returns false to get the
    /// honest reaction.
    pub fn new(
        payload: &Payload,
        claims: i64,
        behave: impl Fn(&mut Talk, Turn) -> io::Result<bool> + Send + Sync + 'static,
    ) -> Talker {
        let heard = Arc::new(Mutex::new(Heard::default()));
        let (info, content) = (payload.info(), payload.content());
        let (log, payload, info_hash) = (heard.clone(), payload.clone(), payload.info_hash());
        let peer = FakePeer::raw(move |wire| {
            let talk = greet(wire, false, info_hash, claims, &log)?;
            converse(talk, &payload, (&info, &content), &log, &behave)
        });
        Talker { peer, heard }
    }

    /// Connects to btsync as an honest peer that does not listen; returns when btsync closes the connection.
    pub fn call(addr: SocketAddr, payload: &Payload) -> io::Error {
        let (log, wire) = (Mutex::new(Heard::default()), Wire::call(addr));
        let (info, content) = (payload.info(), payload.content());
        let talk = greet(wire, true, payload.info_hash(), size_of(payload), &log);
        let ended = talk.and_then(|talk| converse(talk, payload, (&info, &content), &log, &|_, _| Ok(false)));
        ended.expect_err("it ends with its connection")
    }

    /// An honest talker that sends nothing before `ready` returns true.
    pub fn honest(payload: &Payload, ready: impl Fn() -> bool + Send + Sync + 'static) -> Talker {
        Talker::new(payload, size_of(payload), move |_, turn| {
            if matches!(turn, Turn::Begin | Turn::Block(..)) {
                super::until("the honest peer may speak", &ready);
            }
            Ok(false)
        })
    }

    /// The address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.peer.addr
    }

    /// What it has received so far.
    pub fn heard(&self) -> Heard {
        self.heard.lock().clone()
    }
}

/// The metadata size that an honest peer claims.
pub fn size_of(payload: &Payload) -> i64 {
    i64::try_from(payload.info().len()).expect("a small payload")
}

/// Runs a talker on one connection. `behave` handles a turn and returns true, or returns false to get the honest reaction.
fn converse(
    mut talk: Talk,
    payload: &Payload,
    (info, content): (&[u8], &[u8]),
    log: &Mutex<Heard>,
    behave: &impl Fn(&mut Talk, Turn) -> io::Result<bool>,
) -> io::Result<()> {
    if !behave(&mut talk, Turn::Begin)? {
        talk.wire.send(id::BITFIELD, &full_bitfield(payload.pieces()))?;
        talk.wire.send(id::UNCHOKE, &[])?;
    }
    loop {
        let Some(turn) = next(&mut talk, log)? else { continue };
        if behave(&mut talk, turn)? {
            continue;
        }
        match turn {
            Turn::Metadata(piece) => {
                let bytes = info.chunks(PIECE).nth(piece as usize).expect("a piece of the metadata");
                talk.metadata(piece, info.len(), bytes)?;
            }
            Turn::Block(piece, begin, length) => {
                talk.wire.send_block(piece, begin, block(payload, content, piece, begin, length))?;
            }
            Turn::Begin => {}
        }
    }
}

/// Exchanges both handshakes; `first` is true if the talker opened the connection.
fn greet(mut wire: Wire, first: bool, info_hash: [u8; 20], claims: i64, heard: &Mutex<Heard>) -> io::Result<Talk> {
    let mut ours = extended_handshake(info_hash);
    ours[27] |= 1; // DHT support
    if first {
        wire.send_raw(&ours)?;
    }
    let theirs = wire.read_handshake()?;
    if !first {
        wire.send_raw(&ours)?;
    }
    let size = if claims == 0 { String::new() } else { format!("13:metadata_sizei{claims}e") };
    let said = format!("d1:md11:ut_metadatai{METADATA}e6:ut_pexi{PEX}ee{size}1:v6:talkere");
    wire.send(id::EXTENDED, &[&[0], said.as_bytes()].concat())?;
    let hello = loop {
        match wire.receive()? {
            Message::Other(id::EXTENDED, hello) if hello.first() == Some(&0) => break hello,
            Message::Other(PORT, _) => heard.lock().ports += 1,
            _ => {}
        }
    };
    let hello = String::from_utf8_lossy(&hello).into_owned();
    let number = |key: &str| hello.split_once(key)?.1.split_once('e')?.0.parse::<u8>().ok();
    let pex = number("6:ut_pexi");
    let mut heard = heard.lock();
    heard.offers_pex.push(pex.is_some());
    heard.dht_bits.push(theirs[27] & 1 != 0);
    heard.callers.extend(wire.peer());
    Ok(Talk { wire, metadata: number("11:ut_metadatai").unwrap_or(0), pex: pex.unwrap_or(1) })
}

/// Reads a message. Returns the turn that it starts, or `None` if it needs no reaction.
fn next(talk: &mut Talk, heard: &Mutex<Heard>) -> io::Result<Option<Turn>> {
    Ok(match talk.wire.receive()? {
        Message::Request(piece, begin, length) => Some(Turn::Block(piece, begin, length)),
        Message::Other(PORT, _) => {
            heard.lock().ports += 1;
            None
        }
        Message::Have(_) => {
            heard.lock().haves += 1;
            None
        }
        Message::Other(id::EXTENDED, said) => match said.split_first() {
            Some((&METADATA, text)) => {
                let text = String::from_utf8_lossy(text).into_owned();
                let piece = text.split_once("5:piecei").and_then(|(_, rest)| rest.split_once('e')?.0.parse().ok());
                heard.lock().asked += 1;
                piece.filter(|_| text.contains("8:msg_typei0e")).map(Turn::Metadata)
            }
            Some((&PEX, _)) => {
                heard.lock().pex += 1;
                None
            }
            _ => None,
        },
        _ => None,
    })
}
