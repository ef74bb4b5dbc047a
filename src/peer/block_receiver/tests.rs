//! The way of complete pieces to their hashes, without a socket.

use std::sync::Arc;

use crossbeam_channel::{Receiver, unbounded};
use sha1::{Digest, Sha1};
use tempfile::TempDir;

use super::*;
use crate::peer::piece_batch::MAX_WAIT;
use crate::peer::{ContextSettings, PeerEvent, TorrentMessage};
use crate::pieces::PieceManager;
use crate::storage::{FileSpec, Layout, Storage};
use crate::strategy::picker::{PickContext, Speed};
use crate::strategy::pipeline::EndGameLimit;
use crate::types::{BLOCK_SIZE, Bitfield, PeerId, PeerKey, PieceIndex};
use crate::wire::handshake::Handshake;

const PIECES: u32 = 5;
const BLOCKS: u32 = 4;
const PIECE: u32 = BLOCKS * BLOCK_SIZE;
const KEY: PeerKey = PeerKey(1);

struct Setup {
    _folder: TempDir,
    context: Arc<TorrentContext>,
    peer: Arc<Peer>,
    events: Receiver<TorrentMessage>,
    payload: Vec<u8>,
}

/// A torrent whose blocks have all been requested from one peer.
fn setup() -> Setup {
    let folder = tempfile::tempdir().expect("a folder");
    let file = FileSpec { path: "x".into(), length: u64::from(PIECES * PIECE), is_pad: false };
    let storage = Storage::new(folder.path().into(), Layout::new(PIECE, vec![file]).expect("a layout"), 4);
    storage.prepare().expect("a file");
    let payload: Vec<u8> = (0..PIECES * PIECE).map(|n| (n / 7 + n % 251) as u8).collect();
    let hashes = payload.chunks(PIECE as usize).map(|piece| Sha1::digest(piece).into()).collect();
    let pieces = PieceManager::new(Arc::new(storage), hashes, Bitfield::new(PIECES));
    let (sender, events) = unbounded();
    let context = TorrentContext::new(ContextSettings::unconnected(), pieces, sender);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let stream = Arc::new(std::net::TcpStream::connect(address).expect("a connection").into());
    let handshake = Handshake::ours(context.settings.info_hash, PeerId([1; 20]), false);
    let outbox = crate::peer::outbox::outbox().0;
    let peer = Peer::new(KEY, address, true, &handshake, context.now(), stream, outbox);
    context.pieces.add_peer(KEY);
    context.pieces.set_bitfield(KEY, Bitfield::full(PIECES));
    let mut requests = Vec::new();
    let pick_context = PickContext::unproven(context.now(), Speed::Fast);
    let all = (PIECES * BLOCKS) as usize;
    let depth = EndGameLimit { outstanding: 0, least: all, is_proven: false };
    context.pieces.pick(KEY, all, pick_context, depth, 1.0, &mut requests);
    assert_eq!(requests.len() as u32, PIECES * BLOCKS, "all blocks are requested");
    Setup { _folder: folder, context, peer: Arc::new(peer), events, payload }
}

impl Setup {
    fn piece(&self, piece: u32) -> Vec<u8> {
        self.payload[(piece * PIECE) as usize..][..PIECE as usize].to_vec()
    }

    fn verified(&self) -> Vec<u32> {
        (0..PIECES).filter(|&piece| self.context.pieces.has(PieceIndex(piece))).collect()
    }
}

/// Receives and stores a whole piece.
fn receive(receiver: &mut BlockReceiver<'_>, piece: u32, bytes: &[u8]) {
    receive_blocks(receiver, piece, 0..BLOCKS, bytes);
}

/// Receives and stores some blocks of a piece.
fn receive_blocks(receiver: &mut BlockReceiver<'_>, piece: u32, blocks: Range<u32>, bytes: &[u8]) {
    let count = blocks.len();
    for block in blocks {
        let begin = block * BLOCK_SIZE;
        let request = BlockInfo { piece: PieceIndex(piece), begin, length: BLOCK_SIZE };
        receiver.note(request, begin as usize..(begin + BLOCK_SIZE) as usize);
    }
    receiver.sink.accept();
    assert_eq!(receiver.sink.decisions.take, vec![true; count]);
    receiver.sink.store(bytes).expect("a disk");
}

#[test]
fn pieces_of_a_fast_peer_are_hashed_together_and_a_wrong_one_is_found() {
    let setup = setup();
    let mut receiver = BlockReceiver::new(&setup.context, &setup.peer);
    receiver.sink.batch_size = Some(4);
    for piece in [2, 0, 3] {
        let mut bytes = setup.piece(piece);
        bytes[5] ^= u8::from(piece == 0);
        receive(&mut receiver, piece, &bytes);
    }
    assert!(receiver.has_unhashed() && setup.verified().is_empty());
    // They wait while requests are outstanding, but not for long, whatever the peer sends.
    let now = setup.context.now();
    assert!(receiver.is_batch_due(now), "nothing is outstanding");
    let request = BlockInfo { piece: PieceIndex(4), begin: 0, length: BLOCK_SIZE };
    setup.peer.requesting.pipeline.lock().enqueue(now, &[request]);
    assert!(!receiver.is_batch_due(Duration::ZERO) && receiver.is_batch_due(now + MAX_WAIT));
    receiver.hash_batch().expect("a disk");
    assert!(!receiver.has_unhashed());
    assert_eq!(setup.verified(), [2, 3]);
    let failed = setup.events.try_iter().find_map(|event| match event {
        TorrentMessage::Peer(PeerEvent::PieceFailed { piece, .. }) => Some(piece),
        _ => None,
    });
    assert_eq!(failed, Some(PieceIndex(0)));
}

#[test]
fn pieces_of_a_slow_peer_are_hashed_as_they_arrive() {
    let setup = setup();
    let mut receiver = BlockReceiver::new(&setup.context, &setup.peer);
    receive(&mut receiver, 1, &setup.piece(1));
    assert_eq!(setup.verified(), [1]);
    // A piece whose hash runs already does not wait when the peer becomes fast.
    receive_blocks(&mut receiver, 4, 0..1, &setup.piece(4));
    receiver.sink.batch_size = Some(4);
    receive_blocks(&mut receiver, 4, 1..BLOCKS, &setup.piece(4));
    assert!(!receiver.has_unhashed());
    assert_eq!(setup.verified(), [1, 4]);
}

/// A process that is killed later must not leave a whole piece that does not verify: the next run would take it for the user's.
#[test]
fn a_wrong_piece_is_erased_before_it_can_be_requested_again() {
    let setup = setup();
    let mut receiver = BlockReceiver::new(&setup.context, &setup.peer);
    let mut bytes = setup.piece(1);
    bytes[5] ^= 1;
    for piece in [0, 2] {
        receive(&mut receiver, piece, &setup.piece(piece));
    }
    receive(&mut receiver, 1, &bytes);
    let mut all = vec![1; 3 * PIECE as usize];
    setup.context.pieces.storage().read_exact_at(0, &mut all).expect("a file");
    assert_eq!(all, [setup.piece(0), vec![0; PIECE as usize], setup.piece(2)].concat());
    assert_eq!(setup.verified(), [0, 2]);
}
