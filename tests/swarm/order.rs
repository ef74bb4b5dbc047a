//! The order of pieces changes while a torrent runs: sequential, by the priorities of files, and for readers that wait for pieces.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use crate::common::payload::Payload;
use crate::common::seeder::{FakePeer, Gate, block, full_bitfield, serve};
use crate::common::wire::{Message, id};
use crate::common::{PATIENCE, TestDir, until};
use btsync::metainfo::Metainfo;
use btsync::net::bind::Bind;
use btsync::torrent::{AddOptions, Client, FilePriority, Outcome, Stage, StreamWaker, TorrentHandle};
use btsync::types::{PieceIndex, PieceState};

const PIECE: usize = 64 * 1024;
const BLOCKS: usize = 4;

/// A download from a seeder that serves as many pieces as the test allows.
struct GatedDownload {
    _temp: TestDir,
    _client: Arc<Client>,
    gate: Arc<Gate>,
    peer: FakePeer,
    torrent: TorrentHandle,
}

impl GatedDownload {
    /// Starts a download that knows no peer yet.
    fn new(host: u8, payload: &Payload, set: impl FnOnce(AddOptions) -> AddOptions) -> GatedDownload {
        let (temp, gate) = (TestDir::new(), Gate::new(0));
        let peer = FakePeer::honest(payload, &gate);
        let bind = Bind::Address([127, 0, 0, host].into());
        let client = Client::builder().listen_ports(0..=0).bind(bind).dht(None).lsd(false).build().expect("a client");
        let metainfo = Metainfo::parse(&payload.torrent("http://127.0.0.1:1/announce")).expect("a torrent");
        let options = set(AddOptions::new(temp.path("out")).exclude_trackers(vec!["*".into()]));
        let torrent = client.add(metainfo, options).expect("a thread");
        until("the files are checked", || torrent.snapshot().stage == Stage::Downloading);
        GatedDownload { _temp: temp, _client: client, gate, peer, torrent }
    }

    fn connect(&self) {
        self.torrent.add_peer(self.peer.addr);
    }

    /// The pieces that come next, while the peer serves `count` of them.
    fn next(&self, count: usize) -> Vec<u32> {
        let before = self.verified();
        self.gate.grant(count * BLOCKS);
        until("the pieces are verified", || self.verified().len() == before.len() + count);
        self.verified().into_iter().filter(|piece| !before.contains(piece)).collect()
    }

    fn verified(&self) -> Vec<u32> {
        let mut states = Vec::new();
        self.torrent.pieces(&mut states);
        (0..).zip(states).filter(|(_, state)| *state == PieceState::Verified).map(|(piece, _)| piece).collect()
    }

    fn finish(&self) {
        self.gate.open();
        assert_eq!(self.torrent.wait().expect("no error"), Outcome::Completed);
    }
}

fn range(pieces: Range<u32>) -> Vec<u32> {
    pieces.collect()
}

#[test]
fn files_of_high_priority_come_first_and_those_of_low_priority_last() {
    let files = [("a", 3 * PIECE), ("b", 2 * PIECE), ("c", 2 * PIECE), ("d", 3 * PIECE)];
    let payload = Payload::tree("tree", &files, PIECE);
    let priorities = vec![(0, FilePriority::Low), (3, FilePriority::High)];
    let download = GatedDownload::new(91, &payload, |options| options.priorities(priorities));
    let index = |name: &str| download.torrent.files().iter().find(|file| file.path.ends_with(name)).expect("it").index;
    download.torrent.set_priorities(vec![(index("a"), FilePriority::Low), (index("c"), FilePriority::High)]);
    download.connect();
    assert_eq!(download.next(2), range(5..7));
    assert_eq!(download.next(5), [range(3..5), range(7..10)].concat());
    download.finish();
}

#[test]
fn a_download_becomes_sequential_while_it_runs() {
    let payload = Payload::single("x", 300 * PIECE, PIECE);
    let download = GatedDownload::new(92, &payload, |options| options);
    download.torrent.set_sequential(true);
    download.connect();
    assert_eq!(download.next(3), range(0..3));
    download.torrent.set_sequential(false);
    download.finish();
}

#[test]
fn a_reader_gets_its_pieces_first_and_is_woken_when_they_are_verified() {
    let payload = Payload::single("x", 300 * PIECE, PIECE);
    let download = GatedDownload::new(93, &payload, |options| options.sequential(true));
    let stream = download.torrent.stream([127, 0, 0, 1].into()).expect("it is the first");
    let wakes = Arc::new(AtomicUsize::new(0));
    let counts = wakes.clone();
    let wake: StreamWaker = Arc::new(move || _ = counts.fetch_add(1, Ordering::SeqCst));
    assert_eq!(stream.poll(200..300, &wake).expect("a piece"), 0);
    download.connect();
    assert_eq!(download.next(2), range(200..202));
    until("the reader is woken", || wakes.load(Ordering::SeqCst) == 1);
    assert_eq!(stream.poll(200..300, &wake).expect("a piece"), 2);
    download.gate.open();
    assert!(download.torrent.wait_for_piece(PieceIndex(299), PATIENCE));
    assert_eq!(download.torrent.wait().expect("no error"), Outcome::Completed);
    assert!(stream.poll(0..300, &wake).is_err(), "it has ended");
    assert!(!download.torrent.wait_for_piece(PieceIndex(0), PATIENCE), "it has ended");
}

/// A peer that answers nothing until it is asked for a block of the piece that a reader waits for.
#[test]
fn requests_for_other_pieces_are_cancelled_for_a_stream_that_seeks_and_made_again() {
    const READS: u32 = 250;
    let payload = Payload::single("x", 300 * PIECE, PIECE);
    let download = GatedDownload::new(94, &payload, |options| options.sequential(true));
    let (tell, told) = mpsc::channel();
    let (for_peer, content) = (payload.clone(), payload.content());
    let peer = FakePeer::new(payload.info_hash(), move |mut wire| {
        wire.send(id::BITFIELD, &full_bitfield(for_peer.pieces()))?;
        wire.send(id::UNCHOKE, &[])?;
        let mut waiting = (0..8).map(|_| wire.next_request()).collect::<Result<Vec<_>, _>>()?;
        _ = tell.send(Vec::new());
        let mut cancelled = Vec::new();
        while !waiting.iter().any(|(piece, ..)| *piece == READS) {
            match wire.receive()? {
                Message::Request(piece, begin, length) => waiting.push((piece, begin, length)),
                Message::Cancel(piece, begin, length) => cancelled.push((piece, begin, length)),
                _ => {}
            }
        }
        waiting.retain(|block| !cancelled.contains(block));
        _ = tell.send(cancelled);
        for (piece, begin, length) in waiting {
            wire.send_block(piece, begin, block(&for_peer, &content, piece, begin, length))?;
        }
        let gate = Gate::new(0);
        gate.open();
        serve(&mut wire, &for_peer, &content, &gate)
    });
    download.torrent.add_peer(peer.addr);
    told.recv_timeout(PATIENCE).expect("requests");
    let stream = download.torrent.stream([127, 0, 0, 1].into()).expect("it is the first");
    let wake: StreamWaker = Arc::new(|| {});
    assert_eq!(stream.poll(READS..300, &wake).expect("a piece"), 0);
    let cancelled = told.recv_timeout(PATIENCE).expect("a request for the reader");
    // All but the first one, which the peer may be answering.
    assert_eq!(cancelled.len(), 7, "{cancelled:?}");
    assert_eq!(download.torrent.wait().expect("no error"), Outcome::Completed);
}
