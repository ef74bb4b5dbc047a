//! Peers that speak the extension protocol (BEP 10) with metadata (BEP 9) and peer exchange (BEP 11): honest wherever a test does
//! not say otherwise, and they remember what they heard.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use super::payload::Payload;
use super::seeder::{FakePeer, block, full_bitfield};
use super::wire::{Message, Wire, extended_handshake, id};

/// The size of a piece of metadata.
pub const PIECE: usize = 16 * 1024;
/// The ids under which a talker wants metadata and peer exchange messages.
const METADATA: u8 = 3;
const PEX: u8 = 7;
/// PORT (BEP 5).
const PORT: u8 = 9;

/// What a talker does next, unless the test does it.
#[derive(Clone, Copy, Debug)]
pub enum Turn {
    /// Both handshakes are done.
    Begin,
    /// It is asked for this piece of metadata.
    Metadata(u32),
    /// It is asked for this block.
    Block(u32, u32, u32),
}

/// What was heard on all connections of a talker.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// Whether btsync offered peer exchange, for each connection on which both handshakes are done.
    pub offers_pex: Vec<bool>,
    /// Whether its handshake said that it is a node of the DHT.
    pub dht_bits: Vec<bool>,
    /// From where it called.
    pub callers: Vec<SocketAddr>,
    /// Messages of peer exchange.
    pub pex: usize,
    /// PORT messages.
    pub ports: usize,
    /// Requests for metadata.
    pub asked: usize,
    /// HAVEs.
    pub haves: usize,
}

/// A connection to btsync, and the id that btsync wants to see on metadata and peer exchange messages.
pub struct Talk {
    /// The connection.
    pub wire: Wire,
    metadata: u8,
    pex: u8,
}

impl Talk {
    /// Sends a piece of metadata with the total that it claims.
    pub fn metadata(&mut self, piece: u32, total: usize, bytes: &[u8]) -> io::Result<()> {
        let head = format!("d8:msg_typei1e5:piecei{piece}e10:total_sizei{total}ee");
        self.wire.send(id::EXTENDED, &[&[self.metadata], head.as_bytes(), bytes].concat())
    }

    /// Will not give a piece of metadata.
    pub fn reject(&mut self, piece: u32) -> io::Result<()> {
        let text = format!("d8:msg_typei2e5:piecei{piece}ee");
        self.wire.send(id::EXTENDED, &[&[self.metadata], text.as_bytes()].concat())
    }

    /// Tells of peers with IPv4 addresses.
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

    /// Sends a peer exchange message of whatever bytes.
    pub fn raw_pex(&mut self, payload: &[u8]) -> io::Result<()> {
        self.wire.send(id::EXTENDED, &[&[self.pex], payload].concat())
    }
}

/// A peer that listens on loopback.
pub struct Talker {
    /// Its socket.
    pub peer: FakePeer,
    /// What it heard.
    pub heard: Arc<Mutex<Heard>>,
}

impl Talker {
    /// One that claims a metadata size. `behave` does a turn itself and returns true, or false for what is honest.
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

    /// An honest one that listens nowhere and connects to btsync; returns when that ends the connection.
    pub fn call(addr: SocketAddr, payload: &Payload) -> io::Error {
        let (log, wire) = (Mutex::new(Heard::default()), Wire::call(addr));
        let (info, content) = (payload.info(), payload.content());
        let talk = greet(wire, true, payload.info_hash(), size_of(payload), &log);
        let ended = talk.and_then(|talk| converse(talk, payload, (&info, &content), &log, &|_, _| Ok(false)));
        ended.expect_err("it ends with its connection")
    }

    /// An honest one that says nothing at all before `ready`.
    pub fn honest(payload: &Payload, ready: impl Fn() -> bool + Send + Sync + 'static) -> Talker {
        Talker::new(payload, size_of(payload), move |_, turn| {
            if matches!(turn, Turn::Begin | Turn::Block(..)) {
                super::until("the honest peer may speak", &ready);
            }
            Ok(false)
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.peer.addr
    }

    /// What it has heard so far.
    pub fn heard(&self) -> Heard {
        self.heard.lock().clone()
    }
}

/// The size of the metadata, as an honest peer claims it.
pub fn size_of(payload: &Payload) -> i64 {
    i64::try_from(payload.info().len()).expect("a small payload")
}

/// What a talker does on a connection; `behave` does a turn itself and returns true, or false for what is honest.
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

/// Both handshakes; `first` where the talker called.
fn greet(mut wire: Wire, first: bool, info_hash: [u8; 20], claims: i64, heard: &Mutex<Heard>) -> io::Result<Talk> {
    let mut ours = extended_handshake(info_hash);
    ours[27] |= 1; // a node of the DHT
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

/// The next message that wants an answer; `None` for another.
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
