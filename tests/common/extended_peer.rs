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
/// The extended message ids that a peer announces for metadata and peer exchange.
const METADATA: u8 = 3;
const PEX: u8 = 7;
/// The id of PORT (BEP 5).
const PORT: u8 = 9;

/// An event that a peer reacts to, unless the test does.
#[derive(Clone, Copy, Debug)]
pub enum ExtendedEvent {
    /// Both handshakes are complete.
    Begin,
    /// btsync requested this metadata piece.
    Metadata(u32),
    /// btsync requested this block.
    Block(u32, u32, u32),
}

/// What btsync sent on all connections of a peer.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// For each connection with both handshakes complete: whether btsync offered peer exchange.
    pub offers_pex: Vec<bool>,
    /// For each connection: whether btsync's handshake set the DHT bit.
    pub dht_bits: Vec<bool>,
    /// The addresses that btsync connected from.
    pub dialed_from: Vec<SocketAddr>,
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
pub struct ExtendedWire {
    /// The connection.
    pub wire: Wire,
    metadata: u8,
    pex: u8,
}

impl ExtendedWire {
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
pub struct ExtendedPeer {
    /// The listening peer.
    pub peer: FakePeer,
    /// What it received.
    pub received: Arc<Mutex<Received>>,
}

impl ExtendedPeer {
    /// A peer that claims `claims` as its metadata size. `behave` handles an event and returns true, or returns false to get the
    /// honest reaction.
    pub fn new(
        payload: &Payload,
        claims: i64,
        behave: impl Fn(&mut ExtendedWire, ExtendedEvent) -> io::Result<bool> + Send + Sync + 'static,
    ) -> ExtendedPeer {
        let received = Arc::new(Mutex::new(Received::default()));
        let (info, content) = (payload.info(), payload.content());
        let (log, payload, info_hash) = (received.clone(), payload.clone(), payload.info_hash());
        let peer = FakePeer::raw(move |wire| {
            let connection = exchange_handshakes(wire, false, info_hash, claims, &log)?;
            run(connection, &payload, (&info, &content), &log, &behave)
        });
        ExtendedPeer { peer, received }
    }

    /// Connects to btsync as an honest peer that does not listen; returns when btsync closes the connection.
    pub fn connect(addr: SocketAddr, payload: &Payload) -> io::Error {
        let (log, wire) = (Mutex::new(Received::default()), Wire::connect(addr));
        let (info, content) = (payload.info(), payload.content());
        let connection = exchange_handshakes(wire, true, payload.info_hash(), size_of(payload), &log);
        let ended =
            connection.and_then(|connection| run(connection, payload, (&info, &content), &log, &|_, _| Ok(false)));
        ended.expect_err("it ends with its connection")
    }

    /// An honest peer that sends nothing before `ready` returns true.
    pub fn honest(payload: &Payload, ready: impl Fn() -> bool + Send + Sync + 'static) -> ExtendedPeer {
        ExtendedPeer::new(payload, size_of(payload), move |_, event| {
            if matches!(event, ExtendedEvent::Begin | ExtendedEvent::Block(..)) {
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
    pub fn received(&self) -> Received {
        self.received.lock().clone()
    }
}

/// The metadata size that an honest peer claims.
pub fn size_of(payload: &Payload) -> i64 {
    i64::try_from(payload.info().len()).expect("a small payload")
}

/// Runs a peer on one connection. `behave` handles an event and returns true, or returns false to get the honest reaction.
fn run(
    mut connection: ExtendedWire,
    payload: &Payload,
    (info, content): (&[u8], &[u8]),
    log: &Mutex<Received>,
    behave: &impl Fn(&mut ExtendedWire, ExtendedEvent) -> io::Result<bool>,
) -> io::Result<()> {
    if !behave(&mut connection, ExtendedEvent::Begin)? {
        connection.wire.send(id::BITFIELD, &full_bitfield(payload.pieces()))?;
        connection.wire.send(id::UNCHOKE, &[])?;
    }
    loop {
        let Some(event) = next(&mut connection, log)? else { continue };
        if behave(&mut connection, event)? {
            continue;
        }
        match event {
            ExtendedEvent::Metadata(piece) => {
                let bytes = info.chunks(PIECE).nth(piece as usize).expect("a piece of the metadata");
                connection.metadata(piece, info.len(), bytes)?;
            }
            ExtendedEvent::Block(piece, begin, length) => {
                connection.wire.send_block(piece, begin, block(payload, content, piece, begin, length))?;
            }
            ExtendedEvent::Begin => {}
        }
    }
}

/// Exchanges both handshakes; `first` is true if the peer opened the connection.
fn exchange_handshakes(
    mut wire: Wire,
    first: bool,
    info_hash: [u8; 20],
    claims: i64,
    received: &Mutex<Received>,
) -> io::Result<ExtendedWire> {
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
            Message::Other(PORT, _) => received.lock().ports += 1,
            _ => {}
        }
    };
    let hello = String::from_utf8_lossy(&hello).into_owned();
    let number = |key: &str| hello.split_once(key)?.1.split_once('e')?.0.parse::<u8>().ok();
    let pex = number("6:ut_pexi");
    let mut received = received.lock();
    received.offers_pex.push(pex.is_some());
    received.dht_bits.push(theirs[27] & 1 != 0);
    received.dialed_from.extend(wire.peer());
    Ok(ExtendedWire { wire, metadata: number("11:ut_metadatai").unwrap_or(0), pex: pex.unwrap_or(1) })
}

/// Reads a message. Returns the event that it is, or `None` if it needs no reaction.
fn next(connection: &mut ExtendedWire, received: &Mutex<Received>) -> io::Result<Option<ExtendedEvent>> {
    Ok(match connection.wire.receive()? {
        Message::Request(piece, begin, length) => Some(ExtendedEvent::Block(piece, begin, length)),
        Message::Other(PORT, _) => {
            received.lock().ports += 1;
            None
        }
        Message::Have(_) => {
            received.lock().haves += 1;
            None
        }
        Message::Other(id::EXTENDED, said) => match said.split_first() {
            Some((&METADATA, text)) => {
                let text = String::from_utf8_lossy(text).into_owned();
                let piece = text.split_once("5:piecei").and_then(|(_, rest)| rest.split_once('e')?.0.parse().ok());
                received.lock().asked += 1;
                piece.filter(|_| text.contains("8:msg_typei0e")).map(ExtendedEvent::Metadata)
            }
            Some((&PEX, _)) => {
                received.lock().pex += 1;
                None
            }
            _ => None,
        },
        _ => None,
    })
}
