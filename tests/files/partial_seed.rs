//! Connections of peers that want only a part of a torrent (BEP 21), without a torrent loop: what a plan downloads, what a
//! partial seed sends and serves, and which side disconnects when nothing is left to want.

use std::io::IoSlice;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::PATIENCE;
use crate::common::payload::Payload;
use crate::common::wire::{Message, Wire, extended_handshake, id};
use btsync::discovery::tracker::announce::AnnounceEvent;
use btsync::metainfo::Metainfo;
use btsync::net::route::Route;
use btsync::peer::{
    Connection, ContextSettings, DialPlan, DialTransports, DisconnectReason, PeerEvent, TorrentContext, TorrentMessage,
};
use btsync::pieces::PieceManager;
use btsync::storage::{FileSpec, Layout, Storage};
use btsync::strategy::Plan;
use btsync::types::{Bitfield, BlockInfo, DialMode, Dscp, Encryption, PeerId, PeerKey, PieceIndex, Transport};
use btsync::utp::UtpDial;
use crossbeam_channel::{Receiver, select, unbounded};

const KEY: PeerKey = PeerKey(0);
const PIECES: u32 = 30;
const LENGTH: u32 = 32 * 1024;

/// Thirty pieces of two blocks; the last piece is short.
fn payload() -> Payload {
    Payload::single("parts", (PIECES * LENGTH) as usize - 20_000, LENGTH as usize)
}

fn bits(wanted: impl Fn(u32) -> bool) -> Bitfield {
    let mut bits = Bitfield::new(PIECES);
    for piece in (0..PIECES).filter(|piece| wanted(*piece)) {
        bits.set(PieceIndex(piece));
    }
    bits
}

/// One side of a connection, with the pieces it has and the pieces it wants.
struct Side {
    shared: Arc<TorrentContext>,
    events: Receiver<TorrentMessage>,
    connection: Option<Connection>,
    _folder: tempfile::TempDir,
}

impl Side {
    fn new(have: Bitfield, plan: Plan) -> Side {
        let payload = payload();
        let (folder, content) = (tempfile::tempdir().expect("a folder"), payload.content());
        let torrent = Metainfo::parse(&payload.torrent("http://127.0.0.1:1/announce")).expect("a torrent");
        let file = FileSpec { path: "parts".into(), length: content.len() as u64, is_pad: false };
        let layout = Layout::new(LENGTH, vec![file]).expect("a layout");
        let storage = Arc::new(Storage::new(folder.path().into(), layout, 4));
        storage.prepare().expect("a file");
        for piece in have.iter() {
            let bytes = content.chunks(LENGTH as usize).nth(piece.as_usize()).expect("a piece");
            storage.write_vectored_at(storage.layout().offset(piece, 0), &[IoSlice::new(bytes)]).expect("room");
        }
        let terms = ContextSettings {
            info_hash: torrent.info_hash,
            peer_id: PeerId::generate(),
            client_name: ContextSettings::CLIENT_NAME.to_owned(),
            encryption: Encryption::Off,
            uses_pex: false,
            is_fetching_metadata: false,
            dscp: Dscp::NONE,
            route: Route::default(),
            started: Instant::now(),
            throttle: Arc::default(),
            run: Arc::default(),
        };
        let (tell, events) = unbounded();
        let pieces = PieceManager::with_plan(storage, torrent.pieces, have, plan);
        Side { shared: TorrentContext::new(terms, pieces, tell), events, connection: None, _folder: folder }
    }

    /// A side that has these pieces and wants no others.
    fn done(have: Bitfield) -> Side {
        Side::new(have.clone(), Plan { wanted: have, ..Plan::all(PIECES) })
    }

    fn accept(&mut self, listener: &TcpListener) {
        let (stream, from) = listener.accept().expect("a connection");
        self.connection = Some(Connection::accept(&self.shared, KEY, stream.into(), from, None).expect("a thread"));
    }

    fn connect(&mut self, addr: SocketAddr) {
        let transports = DialTransports { uses_tcp: true, utp: None };
        let (mode, timeout, first) = (DialMode::Plain, Duration::from_secs(10), Transport::Tcp);
        let plan = DialPlan { mode, timeout, transports, first, utp_dial: UtpDial::Direct };
        self.connection = Some(Connection::dial(&self.shared, KEY, addr, plan).expect("a thread"));
    }

    /// Reacts to a message as a torrent would. Returns the reason if the connection has ended.
    fn handle(&self, report: TorrentMessage) -> Option<DisconnectReason> {
        let TorrentMessage::Peer(event) = report else { return None };
        match event {
            PeerEvent::Disconnected { why, .. } => return Some(why),
            PeerEvent::InterestChanged { key } => {
                if let Some(peer) = self.shared.roster.get(key) {
                    peer.set_choke(!peer.choking.peer_interested.is_set());
                }
            }
            PeerEvent::Complete => {
                self.shared.roster.all().into_iter().for_each(|peer| peer.send_upload_only(&self.shared));
            }
            PeerEvent::PieceFailed { piece, .. } => panic!("{piece:?} is wrong"),
            PeerEvent::Storage(error) => panic!("{error}"),
            _ => {}
        }
        None
    }

    /// Handles messages until the connection ends.
    fn ends(&mut self) -> DisconnectReason {
        let deadline = Instant::now() + PATIENCE;
        let why = loop {
            let report = self.events.recv_deadline(deadline).expect("an end of the connection");
            if let Some(why) = self.handle(report) {
                break why;
            }
        };
        self.connection.take().expect("a connection").join();
        why
    }
}

/// Connects the two sides and lets them run until both connections have ended; returns the reason on each side.
fn run_until_disconnected(one: &mut Side, other: &mut Side) -> [DisconnectReason; 2] {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    one.connect(listener.local_addr().expect("an address"));
    other.accept(&listener);
    let deadline = crossbeam_channel::at(Instant::now() + PATIENCE);
    let mut whys = [None, None];
    while whys.iter().any(Option::is_none) {
        select! {
            recv(one.events) -> report => whys[0] = whys[0].take().or(one.handle(report.expect("a report"))),
            recv(other.events) -> report => whys[1] = whys[1].take().or(other.handle(report.expect("a report"))),
            recv(deadline) -> _ => panic!("they stay together: {whys:?}"),
        }
    }
    for side in [one, other] {
        side.connection.take().expect("a connection").join();
    }
    whys.map(|why| why.expect("both are gone"))
}

/// Connects to `side`. Returns the connection, the first message (the bitfield or its equivalent), and the extension handshake.
fn connect_raw(side: &mut Side) -> (Wire, Message, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut wire = Wire::connect(listener.local_addr().expect("an address"));
    side.accept(&listener);
    wire.send_raw(&extended_handshake(payload().info_hash())).expect("a handshake");
    wire.read_handshake().expect("a handshake");
    let has = wire.receive().expect("a bitfield");
    let Message::Other(id::EXTENDED, said) = wire.receive().expect("the extension handshake") else {
        panic!("something else came first")
    };
    (wire, has, String::from_utf8_lossy(&said).into_owned())
}

fn say(wire: &mut Wire, upload_only: u8) {
    let said = format!("d1:mde11:upload_onlyi{upload_only}ee");
    wire.send(id::EXTENDED, &[&[0], said.as_bytes()].concat()).expect("a word");
}

#[test]
fn a_partial_seed_gets_exactly_the_wanted_pieces_and_then_disconnects() {
    for is_sequential in [false, true] {
        let wanted = bits(|piece| piece % 3 == 1 || piece == PIECES - 1);
        let early = vec![PieceIndex(PIECES - 1), PieceIndex(2)];
        let plan = Plan { wanted: wanted.clone(), early, is_sequential };
        let mut leecher = Side::new(Bitfield::new(PIECES), plan);
        let mut seed = Side::new(Bitfield::full(PIECES), Plan::all(PIECES));
        let pieces = &leecher.shared.pieces;
        assert_eq!((pieces.is_complete(), leecher.shared.announce_event(None)), (false, None));
        let (left, missing) = (pieces.missing_wanted_bytes(), pieces.missing_bytes());
        // The seed learns that the leecher wants nothing more, and has no use for it.
        let whys = run_until_disconnected(&mut leecher, &mut seed);
        assert_eq!(whys[1], DisconnectReason::Redundant, "{whys:?}");
        let pieces = &leecher.shared.pieces;
        assert_eq!(pieces.have(), wanted);
        assert!(pieces.is_complete() && pieces.is_partial_seed() && pieces.missing_wanted_bytes() == 0);
        assert_eq!(pieces.missing_bytes(), missing - left);
        let came = leecher.shared.payload.downloaded.get();
        assert_eq!(came - pieces.wasted(), left, "no block of anything else");
        assert_eq!(leecher.shared.bytes_left(), missing - left, "a tracker hears of the whole torrent");
        assert_eq!(leecher.shared.announce_event(None), Some(AnnounceEvent::Paused));
        assert_eq!(leecher.shared.announce_event(Some(AnnounceEvent::Stopped)), Some(AnnounceEvent::Stopped));
    }
}

#[test]
fn two_partial_seeds_disconnect() {
    let (mut one, mut other) = (Side::done(bits(|piece| piece < 9)), Side::done(bits(|piece| piece > 20)));
    let whys = run_until_disconnected(&mut one, &mut other);
    assert!(whys.contains(&DisconnectReason::Redundant), "{whys:?}");
    let moved = [&one, &other].map(|side| side.shared.payload.uploaded.get());
    assert_eq!(moved, [0, 0]);
}

#[test]
fn a_partial_seed_and_a_seed_disconnect() {
    let (mut part, mut seed) = (Side::done(bits(|piece| piece < 9)), Side::done(Bitfield::full(PIECES)));
    let whys = run_until_disconnected(&mut part, &mut seed);
    assert!(whys.contains(&DisconnectReason::Redundant), "{whys:?}");
    assert_eq!(seed.shared.announce_event(None), None, "a seed is not paused");
}

#[test]
fn a_partial_seed_says_so_serves_its_pieces_and_leaves_peers_that_want_nothing() {
    let have = bits(|piece| piece != 3);
    let mut part = Side::done(have.clone());
    let (mut wire, has, said) = connect_raw(&mut part);
    assert_eq!(has, Message::Bitfield(have.as_bytes().to_vec()), "no HAVE ALL");
    assert!(said.contains("11:upload_onlyi1e"), "{said}");
    // The partial seed does not want the only piece that the peer has, so it sends the requested block but never shows interest.
    wire.send(id::BITFIELD, bits(|piece| piece == 3).as_bytes()).expect("a bitfield");
    wire.send(id::UNCHOKE, &[]).expect("a word");
    say(&mut wire, 0);
    wire.send(id::INTERESTED, &[]).expect("a word");
    let key = loop {
        let report = part.events.recv_timeout(PATIENCE).expect("our interest");
        if let TorrentMessage::Peer(PeerEvent::InterestChanged { key }) = report {
            part.handle(report);
            break key;
        }
    };
    let mut unchoked = false;
    while !unchoked {
        match wire.receive().expect("an unchoke") {
            Message::Unchoke => unchoked = true,
            Message::Interested => panic!("a partial seed is interested"),
            _ => {}
        }
    }
    wire.request(5, 16_384, 16_384).expect("a request");
    loop {
        match wire.receive().expect("a block") {
            Message::Piece(5, 16_384, block) => {
                let start = (5 * LENGTH + 16_384) as usize;
                assert_eq!(block, payload().content()[start..start + 16_384]);
                break;
            }
            Message::Interested | Message::Request(..) => panic!("a partial seed wants something"),
            _ => {}
        }
    }
    assert!(!part.shared.pieces.is_interested_in(key));
    say(&mut wire, 1);
    assert_eq!(part.ends(), DisconnectReason::Redundant);
    wire.wait_for_close().expect("the end");
}

#[test]
fn verified_pieces_are_served_even_if_unwanted() {
    let plan = Plan { wanted: bits(|piece| piece > 25), ..Plan::all(PIECES) };
    let side = Side::new(bits(|piece| piece < 4), plan);
    let asked = |piece| BlockInfo { piece: PieceIndex(piece), begin: 0, length: 16_384 };
    let (mut kept, mut refused) = (vec![asked(0), asked(3), asked(4), asked(26)], Vec::new());
    side.shared.pieces.retain_servable(&mut kept, &mut refused);
    assert_eq!((kept, refused), (vec![asked(0), asked(3)], vec![asked(4), asked(26)]));
}

/// An incomplete leecher stays connected to a peer that wants nothing, because that peer may have pieces for it.
#[test]
fn an_incomplete_leecher_stays_connected_to_a_partial_seed() {
    let plan = Plan { wanted: bits(|piece| piece < 10), ..Plan::all(PIECES) };
    let mut leecher = Side::new(bits(|piece| piece == 0), plan);
    let (mut wire, _, said) = connect_raw(&mut leecher);
    assert!(said.contains("11:upload_onlyi0e"), "{said}");
    say(&mut wire, 1);
    wire.send(id::BITFIELD, bits(|piece| piece > 8).as_bytes()).expect("a bitfield");
    wire.send(id::UNCHOKE, &[]).expect("a word");
    let mut asked = Vec::new();
    while asked.len() < 2 {
        if let Ok((piece, begin, length)) = wire.next_request() {
            asked.push((piece, begin, length));
        }
    }
    assert_eq!(asked, [(9, 0, 16_384), (9, 16_384, 16_384)], "the only one that it has and we want");
    drop(wire);
    leecher.ends();
}
